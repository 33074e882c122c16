"""The summary of a directory shows what is in it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.corpus import Corpus
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics, Score
from tests.support.corpora import Prepare


def test_a_corpus_is_printed_on_the_terminal(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(corpus.path)]) == 0
    printed = capsys.readouterr().out
    for split, rows in corpus.manifest.rows.items():
        assert f"Samples of {split}" in printed
        assert re.search(rf"│ {split} +│ +{rows} │", printed)
    assert "█" in printed


def test_a_corpus_is_printed_as_json(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(corpus.path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    rows = {row["part, or rule"]: row["rows"] for row in content["Rows"]}
    assert rows == {**corpus.manifest.rows, **corpus.manifest.drops, "read": corpus.manifest.read}
    lengths = content["Lengths of the source"]["train"]
    assert sum(lengths.values()) == corpus.manifest.rows["train"]


def test_a_page_has_plots_and_needs_no_other_file(corpus: Corpus, tmp_path: Path) -> None:
    assert main(["inspect", str(corpus.path), "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<svg") == 2
    assert "src=" not in page
    assert "l&#x27;école" in page


def test_a_model_is_printed_with_its_curves(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(model_dir)]) == 0
    printed = capsys.readouterr().out
    parameters = sum(w.numel() for w in ModelDirectory.load(model_dir).model.parameters())
    assert re.search(rf"│ parameters +│ {parameters:,} +│", printed)
    metrics = RunMetrics.load(model_dir)
    assert len(metrics.epochs) == 25
    for epoch in metrics.epochs:
        losses = rf"{epoch.train_loss:.4f} +│ {epoch.valid_loss:.4f}"
        assert re.search(rf"│ {epoch.epoch} +│ {losses} +│", printed)
    assert main(["inspect", str(model_dir), "--html", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text("utf-8").count("<svg") == 2


def test_another_directory_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
    assert "neither a corpus directory" in capsys.readouterr().err


def test_brackets_in_sentences_are_text(
    prepared: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = prepared([(f"[music] tone {n} [/b]", f"son {n}") for n in range(60)])
    assert main(["inspect", str(corpus.path)]) == 0
    assert "[music] tone" in capsys.readouterr().out


def test_a_model_of_a_finished_run_is_printed_with_its_scores(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = Path(shutil.copytree(model_dir, tmp_path / "finished"))
    scores = (Score("BLEU", "as read", 61.234, "nrefs:1"),)
    metrics = RunMetrics.load(model_dir).model_copy(update={"scores": scores})
    (finished / "metrics.json").write_text(metrics.to_json())
    assert main(["inspect", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["Scores on valid"] == [
        {"score": "BLEU", "value": "61.23", "references": "as read", "signature": "nrefs:1"}
    ]


@pytest.mark.parametrize("text", ["[]", '{"epochs": [{"epoch": 1}]}', '{"epochs": 3}', "{"])
@pytest.mark.parametrize("verb", ["inspect", "report"])
def test_metrics_of_no_training_run_are_bad_input(
    verb: str, text: str, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_dir, broken)
    (broken / "metrics.json").write_text(text)
    assert main([verb, str(broken)]) == 2
    assert "metrics.json describes no training run" in capsys.readouterr().err
