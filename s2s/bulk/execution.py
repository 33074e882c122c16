"""Execution: which blocks are to be translated, and what runs them."""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Protocol

from s2s.bulk.blocks import ReadOptions
from s2s.bulk.formats import read_blocks
from s2s.bulk.inputs import InputFile
from s2s.bulk.parts import BlockKey, Translated
from s2s.bulk.translation import BlockTranslator


@dataclass(frozen=True)
class PendingBlock:
    """A block that is to be translated."""

    key: BlockKey
    first: int  # number of its first row
    size: int  # bytes in its file
    texts: list[str | None]


@dataclass(frozen=True)
class Work:
    """The blocks of a translation that are not done yet."""

    files: Sequence[InputFile]
    options: ReadOptions
    done: Set[BlockKey]

    def pending(self, numbers: Sequence[int]) -> Iterator[PendingBlock]:
        """Yield the blocks of some files that are to be translated, as they are read.

        Args:
            numbers: of the files, from 0.
        """
        options = replace(self.options, texts_only=True)
        for number in numbers:
            file = self.files[number]
            for place, block in enumerate(read_blocks(file.location, file.format, options)):
                key = BlockKey(number, place)
                if block.texts and key not in self.done:
                    yield PendingBlock(key, block.first, block.size, block.texts)


class Executor(Protocol):
    """Translates blocks, and yields each as soon as it is done, in any order.

    `in_process` makes one; `s2s.distributed.bulk.actors` makes another, of Ray actors.
    """

    def __call__(
        self, work: Work, on_rows: Callable[[int], None], /
    ) -> Iterator[tuple[BlockKey, Translated]]:
        """Translate blocks.

        Args:
            work: the blocks.
            on_rows: called with the number of further rows when they are translated.
        """


def in_process(translator: BlockTranslator) -> Executor:
    """Return what translates blocks in this process, one after the other."""

    def execute(
        work: Work, on_rows: Callable[[int], None]
    ) -> Iterator[tuple[BlockKey, Translated]]:
        for block in work.pending(range(len(work.files))):
            yield (
                block.key,
                translator.translate(block.texts, block.first, block.size, on_rows),
            )

    return execute
