"""The table of the formats, and how the format of a file is found by its name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from s2s.bulk.blocks import Block, ReadOptions, require_some
from s2s.bulk.files import CODECS, codec_of
from s2s.bulk.lines import read_jsonl, read_text, write_text
from s2s.bulk.tables import read_arrow, read_parquet, write_arrow, write_parquet
from s2s.bulk.tmx import read_tmx
from s2s.errors import BadInput


@dataclass(frozen=True)
class Format:
    """How files of a format are read and written."""

    suffixes: tuple[str, ...]
    """Suffixes of the names of files, before that of a compression."""

    read: Callable[[str, ReadOptions], Iterator[Block[Any]]]
    """Yields the blocks of the file at a path or URI."""

    write: Callable[[IO[bytes], Iterable[Any]], None]
    """Writes the blocks with their translations (`Block.with_translations`) to a file."""

    is_text: bool = True
    """Whether blocks are written as text, which may be compressed, or go to standard output."""


# To add a format: write a reader and a writer as those above, and add a line here, a row in
# docs/bulk.md and a file to `FILES` in tests/unit/test_bulk.py.
FORMATS = {
    "text": Format((), read_text, write_text),
    "jsonl": Format((".jsonl", ".ndjson", ".json"), read_jsonl, write_text),
    "tmx": Format((".tmx",), read_tmx, write_text),
    "parquet": Format((".parquet",), read_parquet, write_parquet, is_text=False),
    "arrow": Format((".arrow",), read_arrow, write_arrow, is_text=False),
}


def format_of(name: str) -> str:
    """Return the format of a file by its name; what has no known suffix is text.

    Raises:
        BadInput: the file is compressed, and its format is not compressed as a whole.
    """
    path = PurePosixPath(name.lower())
    plain = path.with_suffix("") if path.suffix in CODECS else path
    found = next((key for key, each in FORMATS.items() if plain.suffix in each.suffixes), "text")
    if codec_of(name) and not FORMATS[found].is_text:
        raise BadInput(f"{name}: decompress it first; {plain.suffix} is compressed in itself")
    return found


def read_blocks(location: str, name: str, options: ReadOptions) -> Iterator[Block[Any]]:
    """Yield the blocks of the file at a path or URI.

    Args:
        name: of the format.

    Raises:
        BadInput: the file cannot be read, or no row of its first block can be translated.
    """
    yield from require_some(FORMATS[name].read(location, options), location)
