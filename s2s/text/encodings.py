"""Encodings of text files: how one other than UTF-8 is recognised by the first bytes of a file."""

import re

from s2s.text.languages import base_language

SAMPLE_BYTES = 1 << 16

_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip

# As which UTF-8 is read by mistake.
_MISTAKEN = ("windows-1252", "iso-8859-1")

# Encodings of 8 bits, or of one or two bytes a character, that files of a language may have.
_LEGACY = {
    "windows-1250": "bs cs hr hu pl ro sk sl sq",
    "windows-1251": "be bg kk ky mk mn ru sr tg tt uk",
    "windows-1253": "el", "windows-1254": "az tr", "windows-1255": "he yi",
    "windows-1256": "ar fa ur", "windows-1257": "et lt lv", "windows-1258": "vi",
    "tis-620": "th", "shift-jis": "ja", "gb18030": "zh", "euc-kr": "ko",
}  # fmt: skip

_CONTINUATION = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
DOUBLE_ENCODED = rf"[Â-ß]{_CONTINUATION}|[à-ï]{_CONTINUATION}{{2}}|[ð-ô]{_CONTINUATION}{{3}}"
"""Regular expression of what a text must hold if it `is_double_encoded`: a character's bytes."""


def wide_encoding(head: bytes) -> str | None:
    """Return the UTF-16 or UTF-32 that a file is in if it begins with `head`.

    Python and iconv know it by this name.

    Zeros tell it: in UTF-16, half of the bytes of a line end, a space or a Latin letter are 0.
    """
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if marked == "utf-32":
        return marked
    units = len(head) // 2
    even, odd = head[0 : 2 * units : 2].count(0), head[1 : 2 * units : 2].count(0)
    # Of Chinese, hardly more than the line ends have zeros, but then a mark is there, too.
    if max(even, odd) * (100 if marked else 10) < units or max(even, odd) <= 10 * min(even, odd):
        return None
    return marked or ("utf-16le" if odd > even else "utf-16be")


def legacy_encoding(head: bytes, languages: tuple[str, ...]) -> str:
    """Return the encoding that a file is probably in if it begins with `head` and is not UTF-8.

    Otherwise it is empty: also of a file with characters in UTF-8 and bytes that are none, which is
    UTF-8 with faults.
    """
    text = head.decode("utf-8", "replace")
    faults, characters = text[:-1].count("\ufffd"), len(re.findall(r"[^\x00-\x7f\ufffd]", text))
    if characters >= faults:
        return ""
    for language in languages:
        for name, spoken in _LEGACY.items():
            if base_language(language) in spoken.split() and _decodes(head, name):
                return name
    return "windows-1252" if _decodes(head, "windows-1252") else "iso-8859-1"


def probable_encoding(head: bytes, languages: tuple[str, ...]) -> str:
    """Return the encoding that text beginning with `head`, which is not UTF-8, is probably in.

    Empty if it is unclear.
    """
    return wide_encoding(head) or legacy_encoding(head, languages)


def is_double_encoded(text: str) -> bool:
    """Return whether a text is UTF-8 that was read as Windows-1252 or Latin-1: `Ã©` for `é`."""
    return not text.isascii() and any(_was_read_as(encoding, text) for encoding in _MISTAKEN)


def mistaken_encoding(head: bytes) -> str:
    """Return the encoding as which a file that begins with `head` was read before it became UTF-8.

    It is empty if most lines with letters beyond ASCII are what they should be.
    """
    lines = [line for line in head.decode("utf-8", "ignore").split("\n")[:-1] if not line.isascii()]
    if not lines or 2 * sum(map(is_double_encoded, lines)) < len(lines):
        return ""
    return max(_MISTAKEN, key=lambda name: sum(_was_read_as(name, line) for line in lines))


def _was_read_as(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding).decode("utf-8")
    except UnicodeError:
        return False
    return True


def _decodes(head: bytes, encoding: str) -> bool:
    text = head.decode(encoding, "replace")
    return "\ufffd" not in text[:-1]
