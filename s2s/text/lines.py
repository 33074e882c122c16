"""Lines of a text file.

A line ends at a line feed, or at a carriage return with a line feed, and nowhere else: a carriage
return alone, a form feed or U+2028 is a part of its line. All commands read lines by this rule, so
lines of the same number in two files belong together whatever characters their sentences hold.
"""

from collections.abc import Iterator
from itertools import islice
from typing import IO

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, without their ends."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []


def raw_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file as soon as each is there, as they stand, without their ends.

    A byte order mark of UTF-8 at the beginning is left out.
    """
    mark = _BYTE_ORDER_MARK
    for line in file:
        rest, mark = line.removeprefix(mark), b""
        if rest:
            yield rest.removesuffix(b"\r\n" if rest.endswith(b"\r\n") else b"\n")


def read_lines(file: IO[bytes], count: int) -> Iterator[list[str]]:
    """Yield the lines of a UTF-8 file, without their ends, as lists of `count` lines at most.

    Bytes that are not UTF-8 become U+FFFD, and a byte order mark at the beginning is left out.
    """
    mark = _BYTE_ORDER_MARK
    while lines := list(islice(file, count)):
        lines[0], mark = lines[0].removeprefix(mark), b""
        yield split_lines(b"".join(lines).decode("utf-8", "replace"))
