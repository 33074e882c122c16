"""Recognition of files by name and first bytes: the format, and what is wrong with the text."""

import codecs
from pathlib import Path

from s2s.errors import BadInput
from s2s.preparation.archives import (
    ARCHIVE_SUFFIXES,
    COMPRESSED_SUFFIXES,
    open_plain,
    refuse_unreadable,
)
from s2s.preparation.readers import FORMATS
from s2s.text.encodings import (
    SAMPLE_BYTES,
    legacy_encoding,
    mistaken_encoding,
    wide_encoding,
)


def detect_format(name: str, head: bytes) -> str:
    """Return the format of a file: by its first bytes where they are clear, else by its name.

    Args:
        head: its first bytes, decompressed.
    """
    if (encoding := wide_encoding(head)) is not None:
        head = codecs.decode(head, encoding, "replace").encode("utf-8", "replace")
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    matching = [known for known, each in FORMATS.items() if each.matches and each.matches(head)]
    for known in matching:
        if FORMATS[known].overrides_suffix:
            return known
    named = format_of_name(name) or "tsv"
    return matching[0] if matching and named == "tsv" else named


def format_of_name(name: str) -> str | None:
    """Return the format that the suffix of a file names, or None."""
    suffix = Path(_without_compression(name)).suffix.lower()
    return next((known for known, each in FORMATS.items() if suffix in each.suffixes), None)


def is_archive_name(name: str) -> bool:
    """Return whether a file is an archive by its suffix."""
    return _without_compression(name).lower().endswith(ARCHIVE_SUFFIXES)


def _without_compression(name: str) -> str:
    lower = name.lower()
    suffix = next((each for each in COMPRESSED_SUFFIXES if lower.endswith(each)), "")
    return name[: len(name) - len(suffix)]


def known_suffixes() -> str:
    """Return the suffixes of formats, archives and compressed files, for a message."""
    known = [suffix for each in FORMATS.values() for suffix in each.suffixes]
    return " ".join([*known, *ARCHIVE_SUFFIXES, *COMPRESSED_SUFFIXES])


def plain_head(path: Path) -> bytes:
    """Return the first bytes of a file, decompressed.

    Raises:
        BadInput: it cannot be decompressed, or is of a kind that holds no rows.
    """
    try:
        with open_plain(path) as file:
            head: bytes = file.read(SAMPLE_BYTES)
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    refuse_unreadable(path, head)
    return head


def refuse_carriage_returns(path: Path, format_name: str, head: bytes) -> None:
    """Refuse a file of lines in which nothing ends a line but carriage returns.

    Args:
        format_name: its format, a key of `FORMATS`.
        head: its first bytes, decompressed.

    Raises:
        BadInput: it is such a file.
    """
    if format_name not in ("tsv", "csv", "moses") or b"\r" not in head.rstrip() or b"\n" in head:
        return
    with open_plain(path) as file:
        is_one_line = not any(b"\n" in block for block in iter(lambda: file.read(1 << 20), b""))
    if is_one_line:
        raise BadInput(
            f"{path}: its lines end in carriage returns alone, as on old Macs; convert them with: "
            "tr '\\r' '\\n' < FILE > NEW"
        )


def encoding_hint(label: str, format_name: str, head: bytes, languages: tuple[str, str]) -> str:
    """Return what is wrong with the encoding of a file of lines, or an empty string.

    Args:
        label: its name in the message.
        format_name: its format, a key of `FORMATS`.
        head: its first bytes, decompressed.
        languages: of the pairs; they decide which old encodings are thought of.
    """
    if format_name not in ("tsv", "csv", "moses", "jsonl") or wide_encoding(head) is not None:
        return ""
    if legacy := legacy_encoding(head, languages):
        return (
            f"{label} is not UTF-8 but probably {legacy}; convert it with: "
            f"iconv -f {legacy} -t UTF-8 FILE > NEW"
        )
    if mistaken := mistaken_encoding(head):
        return (
            f"{label} is UTF-8 that was read as {mistaken} and encoded again; mend it with: "
            f"iconv -f UTF-8 -t {mistaken} FILE > NEW"
        )
    return ""
