"""Blocks: the rows of a file that are read, translated, kept and written at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from s2s.errors import BadInput

ROWS = 2048
"""Most rows of a block: enough that sentences of one length fill a batch, and few enough that
workers end at about the same time, and that little is lost when one is killed."""

BYTES = 1 << 20
"""Size of the texts of a block at which it ends, however few rows it has."""

WrittenT = TypeVar("WrittenT")


@dataclass(frozen=True)
class ReadOptions:
    """What a reader has to know besides the file."""

    languages: tuple[str, str]
    """Codes of the source and target language."""

    column: str | None = None
    """Column or field to translate, with dots for nested ones; None for the usual one."""

    output_column: str = "translation"
    """Column or field for the translations."""

    rows: int = ROWS
    """Most rows of a block."""

    texts_only: bool = False
    """Whether blocks need no more than their texts, as they are not written."""


@dataclass(frozen=True)
class Fault:
    """A row that cannot be translated."""

    row: int
    """Number of the row in its file, from 1."""

    reason: str

    is_malformed: bool = False
    """Whether the row is not in the format of the file, and not only without a text."""


@dataclass(frozen=True)
class Block(ABC, Generic[WrittenT]):
    """Rows of a file, and how they are written with their translations."""

    first: int
    """Number of the first row, from 1."""

    texts: list[str | None]
    """What to translate of each row; None for a row with a fault."""

    faults: list[Fault] = field(default_factory=list, kw_only=True)

    size: int = field(default=0, kw_only=True)
    """Bytes that the block takes in its file, for the progress."""

    @abstractmethod
    def with_translations(self, outputs: Sequence[str | None]) -> WrittenT:
        """Return the rows as they are written, given the translation of each."""


@dataclass
class Tally:
    """A count of rows, with the numbers of the first of them."""

    SHOWN = 10

    count: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, row: int) -> None:
        """Count a row."""
        self.count += 1
        if self.count <= self.SHOWN:
            self.rows.append(row)

    @property
    def numbers(self) -> str:
        """The numbers of the first rows, as text."""
        return ", ".join(map(str, self.rows)) + (", …" if self.count > len(self.rows) else "")


def grouped(lines: Iterable[bytes], rows: int) -> Iterator[list[bytes]]:
    """Yield lines in groups of `rows`, or of fewer if they are long."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if len(held) == rows or size >= BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


def require_some(blocks: Iterator[Block[WrittenT]], label: str) -> Iterator[Block[WrittenT]]:
    """Yield blocks, unless the first shows that the file is another kind.

    Raises:
        BadInput: most rows of the first block are malformed, or none can be translated.
    """
    for block in blocks:
        malformed = [fault for fault in block.faults if fault.is_malformed]
        is_other = 2 * len(malformed) > len(block.texts)
        has_text = any(text is not None for text in block.texts)
        if block.first == 1 and block.faults and (is_other or not has_text):
            fault = malformed[0] if is_other else block.faults[0]
            raise BadInput(f"{label}: line {fault.row} {fault.reason}")
        yield block
        break
    yield from blocks


Tell = Callable[[], int]
"""Returns how many bytes of a file have been read."""
