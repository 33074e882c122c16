"""`s2s prepare`."""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from s2s.cli.config_file import config_text
from s2s.cli.environment import allow_downloads
from s2s.cli.output import print_dry_run
from s2s.config import CorpusConfig, DataConfig, TextConfig
from s2s.console import StageBars
from s2s.errors import BadInput
from s2s.locations import Location, absolute, is_uri
from s2s.provenance import Invocation

if TYPE_CHECKING:
    from s2s.preparation.execution import Executor
    from s2s.preparation.sources import Source
from s2s.cli.verb import Verb


@dataclass(frozen=True)
class Prepare(Verb):
    """Turn sentence pairs into a corpus directory."""

    source: tuple[str, ...]
    """Where the pairs are: files, directories or patterns (tab-separated, CSV, JSON, Parquet, Moses
    pairs, TMX, gettext, also compressed or in an archive; a directory saved by datasets), URIs that
    fsspec reads, hub:NAME:CONFIG, or `demo` for the embedded corpus. Files named valid, dev or test
    among others are used for these splits."""

    text: TextConfig
    corpus: CorpusConfig

    out: Location | None = None
    """Corpus directory to create, at a path or URI."""

    valid_source: tuple[str, ...] = ()
    """As --source, for the `valid` split: its rows are used as they are, and no rows of --source
    are held out for it."""

    test_source: tuple[str, ...] = ()
    """As --source, for the `test` split: its rows are used as they are, and no rows of --source
    are held out for it."""

    languages: str | None = None
    """Codes of the source and target language (BCP 47) with a hyphen between them, or a colon where
    a code has a hyphen itself: en-fr, en:pt-BR. Required, unless the source states them (`demo`, a
    TMX file, parallel files such as train.en and train.fr, hub:NAME:en-fr) or --vocabularies
    does."""

    columns: tuple[str, str] | None = None
    """Names or numbers (from 1) of the source and target columns, if they cannot be told from the
    file."""

    vocabularies: Location | None = None
    """Model directory, at a path or URI, whose vocabularies and text settings to use, so that its
    training can continue on this corpus (`s2s train --init-from`)."""

    dry_run: bool = False
    """Write nothing; show how many rows each rule would leave out, with ten examples. Scratch files
    are kept next to OUT, or in the system's temporary directory."""

    tasks: int | None = None
    """Ray tasks to run at once. None prepares up to 64 MB in this process, and more with a task on
    every CPU."""

    restart: bool = False
    """Start over: discard what an earlier run has done, and replace OUT if it exists."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the tasks."""

    # Bytes of source files from which starting Ray pays.
    LARGE: ClassVar[int] = 64_000_000

    def run(self) -> None:
        """Write the corpus directory, or show what would be left out."""
        if self.out is None and not self.dry_run:
            raise BadInput("--out must name the corpus directory to create (or use --dry-run)")
        self.carry_out()

    def carry_out(self, *, in_process: bool = False, quiet: bool = False) -> None:
        """Do what `run` does.

        Args:
            in_process: never use Ray.
            quiet: print nothing.
        """
        if not self.source:
            raise BadInput("--source: name at least one file, directory or pattern")
        named = (*self.source, *self.valid_source, *self.test_source)
        if any(name.startswith("hub:") for name in named):
            allow_downloads()
        import datasets

        from s2s.interruption import interruptible
        from s2s.mirrors import local_copy
        from s2s.preparation.pipeline import dry_run, prepare
        from s2s.text.language_pairs import describe_direction

        datasets.disable_progress_bars()
        languages = self._languages(named)
        (config, note), source = self._config(languages), self._sources(languages)
        with interruptible(), StageBars(quiet=quiet) as bars:
            bars.log(f"from {describe_direction(*languages)}")
            if note:
                bars.log(note)
            with self._executor(source, bars.log, in_process) as execute:
                if self.out is None or self.dry_run:
                    is_at_path = self.out is not None and not is_uri(self.out)
                    scratch = Path(absolute(self.out or "")).parent if is_at_path else None
                    planned = dry_run(source, config, bars, execute, scratch)
                    print_dry_run(planned)
                    if planned.refusal is not None:
                        raise BadInput(planned.refusal)
                    return
                manifest = prepare(
                    source,
                    config,
                    self.out,
                    bars,
                    execute,
                    vocabularies=None
                    if self.vocabularies is None
                    else local_copy(self.vocabularies).resolve(),
                    restart=self.restart,
                    invocation=Invocation(config_text(replace(self, text=config.text))),
                )
            for rule, rows in manifest.drops.items():
                bars.log(f"left out {rows:,} rows: {rule}")
            for warning in manifest.warnings:
                bars.log(f"warning: {warning.text}")
            bars.log(f"corpus directory: {self.out}")

    def _languages(self, sources: tuple[str, ...]) -> tuple[str, str]:
        """Return source and target language.

        Raises:
            BadInput: they are neither given nor stated by the sources, or no languages.
        """
        from s2s.mirrors import local_copy
        from s2s.model.directory import read_config
        from s2s.preparation.direction import stated_languages
        from s2s.text.language_pairs import language_pair

        if self.languages is not None:
            return language_pair(self.languages)
        if self.vocabularies is not None:
            model = read_config(local_copy(self.vocabularies))
            return language_pair(f"{model.source_language}:{model.target_language}")
        if (stated := stated_languages(sources)) is None:
            raise BadInput(
                "--languages is needed, as the source does not state its languages: the source "
                "language, then the target language, such as en-fr"
            )
        return stated

    def _config(self, languages: tuple[str, str]) -> tuple[DataConfig, str]:
        """Return the settings, and a word on what differs from the preset to suit the languages."""
        from s2s.text.languages import canonical_code
        from s2s.text.units import fit_units

        text, note = self.text, ""
        if self.vocabularies is not None:
            from s2s.mirrors import local_copy
            from s2s.model.directory import read_config

            model = read_config(local_copy(self.vocabularies))
            codes = (model.source_language, model.target_language)
            if tuple(map(canonical_code, codes)) != languages:
                raise BadInput(f"{self.vocabularies} is not a model for {'-'.join(languages)}")
            text = model.text
        else:
            is_chosen = "text.units" in self.given
            text, note = fit_units(text, languages, is_chosen=is_chosen)
        source, target = languages
        config = DataConfig(
            source_language=source, target_language=target, text=text, corpus=self.corpus
        )
        return config, note

    def _sources(self, languages: tuple[str, str]) -> "Source":
        from s2s.preparation.sources import Source

        source, target = languages
        return Source(
            source=self.source,
            valid=self.valid_source,
            test=self.test_source,
            source_language=source,
            target_language=target,
            columns=self.columns,
        )

    @contextmanager
    def _executor(
        self, source: "Source", log: Callable[[str], None], in_process: bool
    ) -> Iterator["Executor"]:
        """Give what runs the stages: this process, or Ray tasks."""
        from s2s.preparation import execution
        from s2s.preparation.discovery import local_files, source_bytes

        if self.tasks is not None and self.tasks < 1:
            raise BadInput(f"--tasks {self.tasks}: must be at least 1")
        alone = in_process or importlib.util.find_spec("ray") is None
        if self.tasks is None and (alone or source_bytes(source) <= self.LARGE):
            yield execution.in_process
            return
        from s2s.distributed.prepare import tasks
        from s2s.distributed.shared_storage import SharedPath
        from s2s.mirrors import work_folder

        if self.out is not None:
            name, folder = "folder of the corpus", work_folder(self.out).parent
        else:
            name = "folder of scratch files (--out names another one)"
            folder = Path(tempfile.gettempdir())
        shared = SharedPath(name, absolute(folder), is_folder=True)
        with tasks(self.tasks, self.wait, log, local_files(source), shared) as execute:
            yield execute
