"""`s2s report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from s2s.cli.output import opened
from s2s.cli.verb import Verb
from s2s.console import counting
from s2s.errors import BadInput
from s2s.locations import Location, is_uri, name_of


@dataclass(frozen=True)
class Report(Verb):
    """Write an HTML page about a model: what it is, how it learned and how good it is.

    Of a sweep, the page shows its trials, what they cost, and which settings made them good.
    """

    model: Annotated[Location, tyro.conf.Positional]
    """Model directory, at a path or URI, or sweep directory of `s2s tune`."""

    corpus: Location | None = None
    """Corpus directory, at a path or URI, to measure the model on; without it, the page shows what
    was measured in training."""

    split: Literal["valid", "test"] = "valid"
    """Split of the corpus."""

    sentence: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Sentence to translate and to show the attention of, instead of some of the corpus; may be
    repeated."""

    out: Path | None = None
    """HTML file to write; by default next to the model directory, with its name and `.html` (of a
    URI in the current directory), or `report.html` in the sweep directory."""

    def run(self) -> None:
        """Write the page."""
        from s2s.mirrors import local_copy
        from s2s.tuning.trials import SWEEP

        path = local_copy(self.model)
        if (path / SWEEP).is_file():
            self._report_sweep(path)
        else:
            self._report_model(path)

    def _report_sweep(self, path: Path) -> None:
        """Write the page of a sweep, whose directory is at a path.

        Raises:
            BadInput: an option is given that only a model has.
        """
        from s2s.reports.sweep_report import report_of_directory

        if refused := self.given & {"corpus", "split", "sentence"}:
            options = ", ".join(f"--{name}" for name in sorted(refused))
            raise BadInput(
                f"{self.model} is the directory of a sweep, whose page takes no {options}; "
                f"the best model's does: s2s report {path / 'best'}"
            )
        out = self.out or path / "report.html"
        with opened(out) as file:
            file.write(report_of_directory(path))
        print(f"page: {out}")

    def _report_model(self, path: Path) -> None:
        from s2s.corpus import Corpus
        from s2s.mirrors import local_copy
        from s2s.model.directory import ModelDirectory
        from s2s.model.metrics import RunMetrics
        from s2s.reports.model_report import report
        from s2s.runs import run_folder
        from s2s.text.language_pairs import describe_direction
        from s2s.training.trackers.json_lines import read_samples

        directory, name = ModelDirectory.load(path), name_of(self.model)
        config = directory.config
        print(f"from {describe_direction(config.source_language, config.target_language)}")
        folder = Path() if is_uri(self.model) else path.resolve().parent
        out = self.out or folder / f"{name}.html"
        with opened(out) as file, counting("translated") as count:
            page = report(
                directory,
                RunMetrics.load(path),
                name=name,
                corpus=None if self.corpus is None else Corpus.open(local_copy(self.corpus)),
                split=self.split,
                sentences=self.sentence,
                epoch_samples=read_samples(run_folder(self.model)),
                on_batch=count,
            )
            file.write(page)
        print(f"page: {out}")
