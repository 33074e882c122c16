"""Scripts that put no space between words."""

import re

SPACELESS_SCRIPTS = {
    "Bopo", "Hani", "Hans", "Hant", "Hira", "Jpan", "Kana", "Khmr", "Lana", "Laoo", "Mymr", "Talu",
    "Thai", "Tibt",
}  # fmt: skip
"""Their codes (ISO 15924)."""

SPACELESS_LETTERS = (
    "["
    "\u0e00-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u1980-\u19df\u1a20-\u1aaf"  # New Tai Lue, Tai Tham
    "\u3040-\u30ff\u31f0-\u31ff\uff65-\uff9f\U0001aff0-\U0001b16f"  # Hiragana, Katakana
    "\u3100-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u2e80-\u2eff\u31c0-\u31ef\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "]"
)
"""A regular expression for a letter of these scripts, by the blocks of Unicode that they have.

Python reads it, and JavaScript with the flag `u`.
"""

_SPACELESS_LETTER = re.compile(SPACELESS_LETTERS)


def has_spaceless_letters(text: str) -> bool:
    """Return whether a text has letters of a script that puts no space between words."""
    return _SPACELESS_LETTER.search(text) is not None
