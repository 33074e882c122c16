"""The HTML page that `s2s inspect` writes of a directory."""

from pathlib import Path

from s2s.corpus import Corpus
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.reports.corpus_page import corpus_page
from s2s.reports.model_report import report
from s2s.reports.summary import kind_of
from s2s.reports.sweep_report import report_of_directory
from s2s.runs import run_folder
from s2s.training.trackers.json_lines import read_samples


def inspect_as_html(path: Path) -> str:
    """Return the page of a corpus directory, or the report of a model or sweep directory.

    Raises:
        BadInput: `path` is none of them, or broken, or matplotlib is not installed.
    """
    name, kind = path.resolve().name, kind_of(path)
    if kind == "sweep":
        return report_of_directory(path)
    if kind == "corpus":
        return corpus_page(Corpus.open(path), name)
    samples = read_samples(run_folder(path.resolve()))
    return report(
        ModelDirectory.load(path), RunMetrics.load(path), name=name, epoch_samples=samples
    )
