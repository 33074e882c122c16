"""`s2s translate`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from s2s.cli.output import opened, tell_faults, tell_incomplete
from s2s.cli.verb import DecodingOptions, Verb, decoding_options
from s2s.console import RowsBar, counting, printable
from s2s.errors import BadInput
from s2s.locations import Location
from s2s.overrides import COMMAND_OVERRIDES

if TYPE_CHECKING:
    from s2s.bulk.blocks import Block, ReadOptions
    from s2s.bulk.execution import Executor
    from s2s.bulk.inputs import Inputs
    from s2s.bulk.run import FileReport
    from s2s.bulk.translation import Form
    from s2s.config import DecodeConfig
    from s2s.decoding.translator import Translator


@dataclass(frozen=True)
class Translate(Verb):
    """Translate a text, standard input, or files of any size: a line in, a line out.

    Each sentence of a line is translated separately. What has no word to translate, such as a
    number or a URL, stays as it is.

    With several translations of each line (--n-best), each is a line of its own: number of the line
    read, score and translation, separated by tabs. Of several sentences, the best translations are
    joined, then the second best, and so on; the score is the sum of theirs.

    Files with an --output can be stopped at any time, and continue when the same command is run
    again. JSON Lines, Parquet and saved datasets get a column with the translations, and TMX files
    get target segments.
    """

    model: Annotated[Location, tyro.conf.Positional]
    """Model directory, at a path or URI."""

    decoding: Annotated[DecodingOptions, *decoding_options(COMMAND_OVERRIDES)]

    sentence: Annotated[str | None, tyro.conf.Positional] = None
    """A single sentence to translate."""

    input: tuple[str, ...] = ()
    """Files, folders, patterns or URIs to translate: text with a sentence on each line, JSON Lines,
    Parquet, TMX, or a directory saved by datasets; text also as .gz, .bz2 or .zst. Standard input
    if neither this nor a sentence is given."""

    output: str | None = None
    """File to write, or folder for several files, which get the names of the inputs; a path or URI.
    Standard output by default."""

    checkpoint: str | None = None
    """Translate with a checkpoint of the run that makes MODEL, before the run has finished: `best`,
    `newest` or a step."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to translate: `auto` uses a GPU if there is one. Ray workers get one each."""

    json: bool = False
    """Write a JSON object for each line: its translation, and the translations of each of its
    sentences with scores, words and attention."""

    column: str | None = None
    """Column or field to translate, with dots for nested ones (translation.en). By default the one
    called by the source language's code, or source, src, text or sentence."""

    output_column: str = "translation"
    """Column or field for the translations."""

    workers: int | None = None
    """Ray actors that translate. Without it, and without a cluster at RAY_ADDRESS, this process
    translates alone."""

    cpus: int | None = None
    """Threads to compute with: of each Ray worker, which gets as many CPUs (1 by default), or of
    this process (all of its CPUs by default)."""

    gpu_share: float = 1.0
    """Share of a GPU for each Ray worker, such as 0.5 for two workers on each GPU."""

    restart: bool = False
    """Start over: discard what an earlier run of the same --output has translated."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the workers."""

    def run(self) -> None:
        """Write the translations."""
        self._check()
        # A pipe or a device takes what comes at once.
        path = None if self.output is None else Path(self.output)
        if self.input and path and (path.is_file() or path.is_dir() or not path.exists()):
            self._translate_files(self.input, str(self.output))
        elif self.workers is not None:
            raise BadInput("--workers: name files with --input, and where to write with --output")
        else:
            self._stream()

    def _check(self) -> None:
        if self.sentence is not None and self.input:
            raise BadInput("give a sentence or --input, not both")
        if self.workers is not None and self.workers < 1:
            raise BadInput(f"--workers {self.workers}: at least 1 is needed")
        if self.cpus is not None and self.cpus < 1:
            raise BadInput(f"--cpus {self.cpus}: at least 1 is needed")

    # ---- files to files ----

    def _translate_files(self, names: tuple[str, ...], output: str) -> None:
        """Translate files in this process or on Ray; the translation can be continued."""
        from s2s.bulk.inputs import find_inputs, refuse_nested
        from s2s.bulk.run import BulkTranslation
        from s2s.interruption import interruptible
        from s2s.training.run_checkpoint import model_path

        inputs = find_inputs(names)
        refuse_nested(names, inputs, output)
        on_ray = self.workers is not None or bool(os.environ.get("RAY_ADDRESS"))
        with interruptible(), RowsBar() as bar, model_path(self.model, self.checkpoint) as path:
            translator = self._translator(path, "cpu" if on_ray else self.device)
            form = self._form(translator, inputs)
            translation = BulkTranslation(
                inputs,
                output,
                self._options(translator),
                {
                    "model": _hash(path, translator.config.decode),
                    "decode": translator.config.decode.model_dump(mode="json"),
                    "form": form,
                },
                self.restart,
            )
            reports = translation.carry_out(
                self._actors(path, form, bar.log) if on_ray else _this_process(translator, form),
                bar,
            )
        self._tell(reports, translator)

    def _actors(
        self, model: Path, form: "Form", log: Callable[[str], None]
    ) -> "AbstractContextManager[Executor]":
        from s2s.distributed.bulk import actors
        from s2s.distributed.cluster import WorkerResources

        workers = WorkerResources(
            self.workers or 1,
            cpus=self.cpus or 1,
            gpu_share=self.gpu_share,
            wait=self.wait,
            independent=True,
        )
        return actors(model, self.decoding.settings(), form, workers, self.device, log)

    # ---- one after the other ----

    def _stream(self) -> None:
        """Translate a sentence, standard input or files, and write each line at once."""
        from s2s.bulk.inputs import find_inputs
        from s2s.bulk.run import FileReport, stream
        from s2s.bulk.translation import BlockTranslator
        from s2s.training.run_checkpoint import model_path

        inputs = find_inputs(self.input) if self.input else None
        interactive = not self.input and self.sentence is None and sys.stdin.isatty()
        if interactive:
            print("type sentences, one a line; Ctrl-D ends", file=sys.stderr)
        with model_path(self.model, self.checkpoint) as model:
            translator = self._translator(model, self.device)
        form, options = self._form(translator, inputs), self._options(translator)
        path = None if self.output is None else Path(self.output)
        reports = []
        with opened(path) as output, counting("translated") as count:
            # Files and pipes get every character as it is.
            shown = printable if output.isatty() else str

            def write(text: str) -> None:
                output.write(text)
                output.flush()

            translate = BlockTranslator(translator, form, shown)
            for label, blocks in self._blocks(inputs, options, interactive):
                reports.append(FileReport(label))
                stream(blocks, translate, write, reports[-1], count)
        self._tell(reports, translator)

    def _blocks(
        self, inputs: "Inputs | None", options: "ReadOptions", interactive: bool
    ) -> "Iterator[tuple[str, Iterator[Block[str]]]]":
        """Yield the name and the blocks of each input."""
        from dataclasses import replace

        from s2s.bulk.blocks import require_some
        from s2s.bulk.formats import read_blocks
        from s2s.bulk.lines import text_blocks
        from s2s.text.lines import raw_lines

        if inputs is not None:
            for file in inputs.files:
                if not file.is_text:
                    raise BadInput(f"{file.location}: --output is needed, as this is no text")
                yield file.location, read_blocks(file.location, file.format, options)
            return
        if self.sentence is not None:
            yield (
                "the sentence",
                text_blocks([self.sentence.encode("utf-8", "replace")], options, ""),
            )
            return
        # A person at a terminal gets each translation at once.
        options = replace(options, rows=1) if interactive else options
        name = "standard input"
        blocks = text_blocks(raw_lines(sys.stdin.buffer), options, name)
        yield name, blocks if interactive else require_some(blocks, name)

    # ---- for both ----

    def _translator(self, path: Path, device: str) -> "Translator":
        from s2s.decoding.translator import Translator
        from s2s.devices import find_device

        if self.cpus is not None:
            import torch

            torch.set_num_threads(self.cpus)
        translator = Translator.load(path, find_device(device))
        return translator.with_settings(**self.decoding.settings())

    def _form(self, translator: "Translator", inputs: "Inputs | None") -> "Form":
        """Return what is written of each row.

        Raises:
            BadInput: it is more than a translation, and a column has no place for that.
        """
        is_text = inputs is None or all(file.format == "text" for file in inputs.files)
        ranked = translator.config.decode.n_best > 1
        if is_text:
            return "json" if self.json else "ranked" if ranked else "plain"
        if self.json or "n_best" in self.decoding.settings():
            raise BadInput(
                "--json and --n-best: only for files of text with a sentence on each line"
            )
        return "plain"

    def _options(self, translator: "Translator") -> "ReadOptions":
        from s2s.bulk.blocks import ReadOptions

        config = translator.config
        languages = (config.source_language, config.target_language)
        return ReadOptions(languages, self.column, self.output_column)

    def _tell(self, reports: "list[FileReport]", translator: "Translator") -> None:
        """Say which lines have no translation, or one that is not whole."""
        for report in reports:
            label = report.label if len(reports) > 1 else ""
            tell_faults(report.label, report.faults)
            tell_incomplete(report.incomplete, translator.config.decode.max_length, label)


@contextmanager
def _this_process(translator: "Translator", form: "Form") -> "Iterator[Executor]":
    """Give what translates in this process."""
    from s2s.bulk.execution import in_process
    from s2s.bulk.translation import BlockTranslator

    yield in_process(BlockTranslator(translator, form))


def _hash(model: Path, settings: "DecodeConfig") -> str:
    """Return a hash of the files that the translations of a model depend on, with some settings."""
    from hashlib import sha256 as new

    from s2s.decoding.shortlist import SHORTLIST
    from s2s.files import sha256

    names = ["config.json", "model.safetensors", "source.json", "target.json"]
    if settings.shortlist is not None:
        names.append(SHORTLIST)
    return new("".join(sha256(model / name) for name in names).encode()).hexdigest()
