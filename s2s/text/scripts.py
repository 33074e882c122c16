"""Scripts that put no space between words."""

import unicodedata

SPACELESS_SCRIPTS = {
    "Bopo", "Hani", "Hans", "Hant", "Hira", "Jpan", "Kana", "Khmr", "Lana", "Laoo", "Mymr", "Talu",
    "Thai", "Tibt",
}  # fmt: skip
"""Their codes (ISO 15924)."""

_NAMES = (  # with which Unicode's names of their letters begin
    "BOPOMOFO", "CJK", "HIRAGANA", "KATAKANA", "KHMER", "LAO", "MYANMAR", "NEW TAI LUE", "TAI THAM",
    "THAI", "TIBETAN",
)  # fmt: skip


def has_spaceless_letters(text: str) -> bool:
    """Return whether a text has letters of a script that puts no space between words."""
    return any(unicodedata.name(letter, "").startswith(_NAMES) for letter in text)
