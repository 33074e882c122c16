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
from tests.support.browser import BROWSER, require_readable
from tests.support.corpora import Prepare
from tests.support.html import read, section, titles


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
    assert (tmp_path / "page.html").read_text("utf-8").count("<svg") == 4


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


# ---- HTML ---------------------------------------------------------------------------------------


def page_of(path: Path, folder: Path) -> str:
    """The page of a directory, which is then in `page.html` of a folder."""
    assert main(["inspect", str(path), "--html", str(folder / "page.html")]) == 0
    return (folder / "page.html").read_text("utf-8")


def cells(page: str, title: str) -> list[list[str]]:
    """The rows of the table under a title."""
    [block] = [
        block
        for block in read(page).find("div", "block")
        if [heading.text for heading in block.find("h3")] == [title]
    ]
    return [[cell.text for cell in row.find("td")] for row in block.find("tr")[1:]]


def test_the_page_of_a_corpus_has_its_numbers(corpus: Corpus, tmp_path: Path) -> None:
    manifest, page = corpus.manifest, page_of(corpus.path, tmp_path)
    root = read(page)
    assert root.find("h1")[0].text == "English to French (en-fr)"
    assert root.find("title")[0].text == f"English to French (en-fr) · corpus {corpus.path.name}"
    assert titles(page) == [
        "Warnings", "Rows", "Lengths", "Vocabularies", "Held-out splits", "Samples", "Settings",
        "Sources and versions",
    ]  # fmt: skip
    assert [link.attributes["href"] for link in root.find("nav")[0].find("a")] == [
        f"#{section.attributes['id']}" for section in root.find("section")
    ]
    tiles = {tile.find("dt")[0].text: tile.find("dd")[0].children[0]
             for tile in root.find("dl", "tiles")[0].find("div")}  # fmt: skip
    assert tiles["train pairs"] == f"{manifest.rows['train']:,}"
    assert tiles["source vocabulary"] == f"{manifest.vocabulary['source']:,}"
    assert [row[:2] for row in cells(page, "Splits")] == [
        [split, f"{rows:,}"] for split, rows in manifest.rows.items()
    ]
    lengths = cells(page, "Lengths in tokens")
    longest = max(manifest.lengths["train"]["target"])
    assert lengths[1][:2] == ["train", "target"]
    assert lengths[1][-1] == str(longest)
    assert [item.text for item in root.find("li")] == [
        f"{warning.kind.replace('_', ' ')} {warning.text}" for warning in manifest.warnings
    ]
    assert len(section(page, "Lengths").find("svg")) == 2
    assert "I don't" in section(page, "Samples").text
    for element in root.find("*"):
        assert element.name not in {"script", "link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "srcset"} & element.attributes.keys()


def test_the_page_of_a_corpus_names_the_rules_that_leave_out_rows(
    prepared: Prepare, tmp_path: Path
) -> None:
    pairs = [(f"tone {n}", f"son {n}") for n in range(60)]
    corpus = prepared([*pairs, *[("<b>loud</b>", "fort")] * 3, ("Rome", "Rome")])
    page = page_of(corpus.path, tmp_path)
    rows = cells(page, "Rows left out, by rule")
    assert [row[1:] for row in rows] == [["3", "4.69%"], ["1", "1.56%"]]
    assert rows[0][0].startswith("markup")
    assert "--corpus.clean.no-markup keeps such rows" in rows[0][0]
    assert "few pairs" in section(page, "Warnings").text


def test_text_of_a_corpus_is_never_markup(prepared: Prepare, tmp_path: Path) -> None:
    mark = '<b onclick="alert(1)">'
    corpus = prepared(
        [(f"{mark} tone {n} </title>", f"{mark} son {n} </style>") for n in range(80)],
        clean={"markup": False},
    )
    page = page_of(corpus.path, tmp_path)
    assert "onclick" not in {name for e in read(page).find("*") for name in e.attributes}
    assert mark in section(page, "Samples").text


def test_the_page_of_a_model_is_its_report(model_dir: Path, tmp_path: Path) -> None:
    assert main(["report", str(model_dir), "--out", str(tmp_path / "report.html")]) == 0
    assert page_of(model_dir, tmp_path) == (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
def test_anybody_can_read_the_page_of_a_corpus(corpus: Corpus, tmp_path: Path) -> None:
    page_of(corpus.path, tmp_path)
    require_readable(tmp_path / "page.html")
