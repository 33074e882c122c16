"""What is told of a directory is what is in it."""

import json
import shutil
from pathlib import Path

import pytest

from s2s.cli.main import main
from s2s.corpus import Corpus
from tests.conftest import Prepare


def test_a_corpus_is_told_on_the_terminal(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(corpus.path)]) == 0
    told = capsys.readouterr().out
    for part, rows in corpus.manifest.rows.items():
        assert f"Samples of {part}" in told
        assert str(rows) in told
    assert "█" in told


def test_a_corpus_is_told_as_json(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(corpus.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["part, or rule"]: row["rows"] for row in told["Rows"]}
    assert rows == {**corpus.manifest.rows, **corpus.manifest.drops, "read": corpus.manifest.read}
    lengths = told["Lengths of the source"]["train"]
    assert sum(lengths.values()) == corpus.manifest.rows["train"]


def test_a_page_has_plots_and_needs_no_other_file(corpus: Corpus, tmp_path: Path) -> None:
    assert main(["inspect", str(corpus.path), "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<svg") == 2
    assert "src=" not in page
    assert "l&#x27;école" in page


def test_a_model_is_told_with_its_curves(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(model_dir)]) == 0
    told = capsys.readouterr().out
    assert "parameters" in told
    assert "valid_loss" in told
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


@pytest.mark.parametrize("told", ["[]", '{"epochs": [{"epoch": 1}]}', '{"epochs": 3}', "{"])
@pytest.mark.parametrize("verb", ["inspect", "report"])
def test_metrics_of_no_training_run_are_bad_input(
    verb: str, told: str, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_dir, broken)
    (broken / "metrics.json").write_text(told)
    assert main([verb, str(broken)]) == 2
    assert "metrics.json tells no training run" in capsys.readouterr().err
