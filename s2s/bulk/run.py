"""The translation of files: from inputs over parts to outputs."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from s2s.bulk.blocks import Block, ReadOptions, Tally
from s2s.bulk.execution import Executor, Work
from s2s.bulk.files import codec_of, opened_input, whole_output
from s2s.bulk.formats import FORMATS, read_blocks
from s2s.bulk.inputs import InputFile, Inputs
from s2s.bulk.parts import BlockKey, Parts, claimed_parts
from s2s.bulk.tables import described_with
from s2s.bulk.translation import BlockTranslator
from s2s.errors import Failed


@dataclass
class FileReport:
    """What became of the rows of a file."""

    label: str
    rows: int = 0
    faults: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Rows without a translation, by the reason."""

    incomplete: Tally = field(default_factory=Tally)
    """Rows whose translation was cut off."""

    def add(self, block: Block[Any], incomplete: Iterable[int]) -> None:
        """Count the rows of a block."""
        self.rows += len(block.texts)
        for fault in block.faults:
            self.faults[fault.reason].add(fault.row)
        for place in incomplete:
            self.incomplete.add(block.first + place)


class Progress(Protocol):
    """Shows how far a translation has come; `s2s.console.RowsBar` is one."""

    def log(self, text: str) -> None:
        """Show a line that stays."""

    def begin(self, rows: int, share: float) -> None:
        """Show that so many rows, and this share of the input, are done already."""

    def add_rows(self, rows: int) -> None:
        """Show that further rows are done."""

    def set_share(self, share: float) -> None:
        """Show what share of the input is done."""


@dataclass(frozen=True)
class BulkTranslation:
    """The translation of some files into others."""

    inputs: Inputs
    output: str
    """File or folder, at a path or URI."""

    options: ReadOptions
    description: Mapping[str, object]
    """All that the translations depend on besides the inputs and the options, for JSON."""

    restart: bool = False

    def carry_out(
        self, executor: AbstractContextManager[Executor], progress: Progress
    ) -> list[FileReport]:
        """Translate what is not done yet, write the outputs, and return a report of each file.

        Args:
            executor: entered only once it is clear that there is work for it.

        Raises:
            BadInput: an input cannot be read, the output cannot be written, or its run folder is in
                use or holds another run.
            Failed: the input changed meanwhile, or the executor fails.
        """
        outputs = self.inputs.outputs(self.output)
        place = next(iter(outputs.values())) if self.inputs.is_file else self.output
        with claimed_parts(place, self._description(), restart=self.restart) as parts:
            self._translate(parts, executor, progress)
            reports = [
                self._write(number, file, parts, outputs[file.name])
                for number, file in enumerate(self.inputs.files)
            ]
            for file in self.inputs.described:
                with opened_input(file.location) as (opened, _):
                    text = opened.read().decode("utf-8")
                name = file.name.rpartition("/")[2]
                with whole_output(outputs[file.name]) as out:
                    out.write(described_with(name, text, self.options.output_column).encode())
        return reports

    def _description(self) -> dict[str, object]:
        """Return all that the parts depend on."""
        # Not where they are: a folder may be mounted elsewhere when the translation continues.
        inputs = [(file.name, file.format, file.size, file.modified) for file in self.inputs.files]
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
        return {
            **self.description,
            "options": asdict(self.options),
            "inputs": {"files": len(inputs), "sha256": digest},
            "versions": {"pyarrow": pa.__version__},
        }

    def _translate(
        self, parts: Parts, executor: AbstractContextManager[Executor], progress: Progress
    ) -> None:
        """Translate the blocks that are not done yet, and write their parts."""
        found = parts.find()
        total = max(1, sum(file.size for file in self.inputs.files))
        size, rows = sum(each.size for each in found.values()), sum(e.rows for e in found.values())
        if found:
            progress.log(f"continuing after {rows:,} rows that are translated already")
        done: Set[BlockKey] = found.keys()
        work = Work(self.inputs.files, self.options, frozenset(done))
        if next(work.pending(range(len(work.files))), None) is None:
            return
        with executor as execute:
            progress.begin(rows, size / total)
            for key, translated in execute(work, progress.add_rows):
                parts.save(key, translated)
                size += translated.size
                progress.set_share(size / total)

    def _write(self, number: int, file: InputFile, parts: Parts, output: str) -> FileReport:
        """Write a file with its translations."""
        report = FileReport(file.location)
        with whole_output(output, codec_of(file.name) if file.is_text else None) as out:
            FORMATS[file.format].write(out, self._written(number, file, parts, report))
            if file.has_changed:
                raise Failed(
                    f"{file.location} has changed since the translation began; --restart "
                    "translates it again"
                )
        return report

    def _written(
        self, number: int, file: InputFile, parts: Parts, report: FileReport
    ) -> Iterator[Any]:
        """Yield the blocks of a file as they are written, and count their rows."""
        for place, block in enumerate(read_blocks(file.location, file.format, self.options)):
            if not block.texts:
                yield block.with_translations([])
                continue
            part = parts.load(BlockKey(number, place))
            if part is None or len(part.outputs) != len(block.texts):
                raise Failed(
                    f"{file.location} has changed, or its parts are damaged; run the same command "
                    "again"
                )
            report.add(block, part.incomplete)
            yield block.with_translations(part.outputs)


def stream(
    blocks: Iterable[Block[str]],
    translator: BlockTranslator,
    write: Callable[[str], object],
    report: FileReport,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> None:
    """Translate blocks of text one after the other, and write each as soon as it is translated.

    Args:
        report: to which the rows are added.
    """
    for block in blocks:
        translated = translator.translate(block.texts, block.first, block.size, on_rows)
        report.add(block, translated.incomplete)
        write(block.with_translations(translated.outputs))
