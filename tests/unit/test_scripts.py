"""Letters of scripts without spaces between words."""

import sys
import unicodedata

from s2s.text.scripts import has_spaceless_letters

# With which Unicode's names of their letters begin.
SPACELESS = (
    "BOPOMOFO", "CJK UNIFIED", "CJK COMPATIBILITY", "HALFWIDTH KATAKANA", "HENTAIGANA", "HIRAGANA",
    "KATAKANA", "KHMER", "LAO", "MYANMAR", "NEW TAI LUE", "TAI THAM", "THAI", "TIBETAN",
)  # fmt: skip


def test_letters_are_told_by_their_blocks_as_by_their_names() -> None:
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        # A mark alone is no letter: the sign of a voiced kana has a name of its own.
        if unicodedata.category(letter).startswith("L"):
            name = unicodedata.name(letter, "")
            assert has_spaceless_letters(letter) == name.startswith(SPACELESS), (hex(code), name)


def test_one_letter_is_enough() -> None:
    assert has_spaceless_letters("see東trees")
    assert not has_spaceless_letters("Être où, Ёлка 안녕 123 、。!")
    assert not has_spaceless_letters("")
