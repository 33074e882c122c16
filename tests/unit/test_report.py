"""The report is one page with all its sections, needs no other file, and shows what is true."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from s2s.cli.main import main
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.evaluation.evaluate import evaluate
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics, Score, ValidScores
from s2s.reports.attention_map import STRONG
from s2s.reports.model_report import MAPS, WORST, report
from s2s.reports.samples import SAMPLES
from tests.support.browser import BROWSER, require_readable
from tests.support.corpora import Prepare, train_model
from tests.support.html import read, section, titles

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'and' <img src=x onerror=alert(2)>"
ALWAYS = ["Scores", "Training", "Attention", "Data", "Settings", "Run and versions"]
ALL = [
    "Scores", "Training", "Lengths", "Breakdowns", "Attention", "Samples", "Worst sentences",
    "Data", "Settings", "Run and versions",
]  # fmt: skip


@pytest.fixture(scope="module")
def attentive(corpus: Corpus, tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a model with attention."""
    model = tiny.model.model_copy(update={"attention": "general"})
    path = tmp_path_factory.mktemp("models") / "attentive"
    train_model(corpus, tiny.model_copy(update={"model": model}), path)
    return path


@pytest.fixture(scope="module")
def page(attentive: Path, corpus: Corpus) -> str:
    return report_of(attentive, corpus=corpus, split="test")


def report_of(path: Path, **options: Any) -> str:
    """Return the report of a model directory."""
    return report(ModelDirectory.load(path), RunMetrics.load(path), name=path.name, **options)


# ---- the page as a file -------------------------------------------------------------------------


def test_a_page_needs_nothing_and_runs_nothing(page: str) -> None:
    for element in read(page).find("*"):
        assert element.name not in {"script", "link", "img", "iframe", "object", "embed", "base"}
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "action"}
            assert "href" not in name or value.startswith("#"), (element.name, value)
            assert "url(" not in value.replace("url(#", ""), (element.name, value)
    [style] = read(page).find("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    [policy] = [m for m in read(page).find("meta") if "http-equiv" in m.attributes]
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_a_page_has_all_its_sections_and_links_to_them(page: str) -> None:
    assert titles(page) == ALL
    [links] = read(page).find("nav")
    anchors = {s.attributes["id"] for s in read(page).find("section")}
    assert {link.attributes["href"] for link in links.find("a")} == {f"#{to}" for to in anchors}
    assert read(page).find("h1")[0].text == "English to French (en-fr)"
    assert len(section(page, "Training").find("svg")) == 4
    assert len(section(page, "Lengths").find("svg")) == 2
    assert len(section(page, "Attention").find("table", "map")) == MAPS
    assert len(section(page, "Samples").find("article")) == SAMPLES
    assert len(section(page, "Worst sentences").find("article")) == WORST


def test_a_page_has_no_time_of_its_making(page: str, attentive: Path, corpus: Corpus) -> None:
    assert report_of(attentive, corpus=corpus, split="test") == page


def test_without_a_corpus_a_page_shows_what_metrics_say(attentive: Path) -> None:
    page = report_of(attentive)
    assert titles(page) == ALWAYS
    metrics = RunMetrics.load(attentive)
    assert metrics.best is not None
    cells = [cell.text for cell in section(page, "Scores").find("td")]
    assert cells[cells.index("loss") + 1] == f"{metrics.best.valid_loss:.3f}"
    assert "--sentence or --corpus" in section(page, "Attention").text
    rows = section(page, "Training").find("tr")[1:]
    assert len(rows) == len(metrics.epochs)
    assert [f"{metrics.best.epoch} (best)"] == [b.text for r in rows for b in r.find("b")]


# ---- content ------------------------------------------------------------------------------


def test_scores_are_those_of_evaluate(page: str, attentive: Path, corpus: Corpus) -> None:
    evaluation = evaluate(ModelDirectory.load(attentive), corpus, "test", samples=1000)
    cells = [cell.text for cell in section(page, "Scores").find("td")]
    for score in evaluation.scores:
        row = cells.index(score.name)
        assert cells[row : row + 4] == [
            score.name,
            f"{score.score:.2f}",
            f"{score.low:.1f}–{score.high:.1f}",
            score.references,
        ]
        assert score.signature in [code.text for code in section(page, "Scores").find("code")]
    for name, value in (
        ("loss", f"{evaluation.loss:.3f}"),
        ("perplexity", f"{evaluation.perplexity:,.2f}"),
        ("token accuracy", f"{evaluation.token_accuracy:.1%}"),
        ("padded accuracy", f"{evaluation.padded_accuracy:.1%}"),
    ):
        assert cells[cells.index(name) + 1] == value


def test_cells_of_a_map_are_the_weights_of_attention(attentive: Path) -> None:
    sentence = "they want the trees!"
    [[translation]] = Translator.load(attentive).hypotheses([sentence])
    assert translation.attention is not None
    [table] = section(report_of(attentive, sentences=[sentence]), "Attention").find("table", "map")
    head, *rows = table.find("tr")
    assert [h.text for h in head.find("th")] == [*translation.source_words, "prob."]
    assert [row.find("th")[0].text for row in rows] == translation.words
    shown = [[cell.attributes for cell in row.find("td") if "title" in cell.attributes]
             for row in rows]  # fmt: skip
    weights = [[float(c["style"].removeprefix("--weight: ")) for c in row] for row in shown]
    assert np.allclose(weights, translation.attention, atol=1e-4)
    assert np.allclose(np.sum(weights, axis=1), 1, atol=1e-3)
    first = f"{translation.words[0]} ← {translation.source_words[0]}: "
    assert shown[0][0]["title"] == first + f"{translation.attention[0][0]:.1%}"


def test_the_report_of_a_model_without_attention_says_so(model_dir: Path, corpus: Corpus) -> None:
    attention = section(report_of(model_dir, corpus=corpus), "Attention")
    assert "no attention" in attention.text
    assert not attention.find("table")


def test_sentences_of_the_user_are_translated_and_mapped(attentive: Path, corpus: Corpus) -> None:
    sentences = ["I see bread.", "you want trees?"]
    page = report_of(attentive, corpus=corpus, sentences=sentences)
    captions = [f.find("b")[0].text for f in section(page, "Attention").find("figure")]
    assert captions == sentences
    cards = section(page, "Samples").find("article")
    assert len(cards) == SAMPLES + len(sentences)
    for sentence, translation, card in zip(
        sentences, Translator.load(attentive).translate(sentences), cards, strict=False
    ):
        assert [line.text for line in card.find("dd")] == [sentence, translation]


def test_every_setting_is_in_the_page(page: str, attentive: Path) -> None:
    settings = section(page, "Settings")
    rows = [[cell.text for cell in row.find("td")] for row in settings.find("tr")]
    values = {row[0]: row[1] for row in rows if row}
    config = ModelDirectory.load(attentive).config
    for name in ("text", "corpus", "model", "train", "decode"):
        for key, value in getattr(config, name):
            assert key in values or {f"{key}.{inner}" for inner, _ in value} <= values.keys()
    assert values["source language"] == "en"
    assert values["attention"] == "general"
    assert values["clean.max_ratio"] == "4.0"
    assert values["bidirectional"] == "no"
    assert values["clip_norm"] == "none"


def test_the_report_of_a_finished_run_shows_its_scores(attentive: Path, tmp_path: Path) -> None:
    metrics = RunMetrics.load(attentive).model_copy(
        update={
            "weights": "the mean of epochs 3, 4",
            "valid": ValidScores(
                valid_loss=1.25, valid_token_accuracy=0.125, valid_padded_accuracy=0.75
            ),
            "decoding": "greedy",
            "scores": (Score("BLEU", "as read", 61.234, "nrefs:1"),),
            "total_seconds": 3456.7,
        }
    )
    page = report(ModelDirectory.load(attentive), metrics, name="finished")
    cells = [cell.text for cell in section(page, "Scores").find("td")]
    assert cells[:3] == ["BLEU", "61.23", "as read"]
    assert cells[cells.index("loss") + 1] == "1.250"
    assert "the mean of epochs 3, 4" in read(page).find("header")[0].text
    cells = [cell.text for cell in section(page, "Run and versions").find("td")]
    assert cells[cells.index("weights") + 1] == "the mean of epochs 3, 4"
    assert "3,457" in cells


def test_metrics_of_an_earlier_version_are_shown_without_what_they_lack(attentive: Path) -> None:
    metrics = RunMetrics(epochs=RunMetrics.load(attentive).epochs)
    page = report(ModelDirectory.load(attentive), metrics, name="old")
    assert titles(page) == [title for title in ALWAYS if title != "Data"]
    assert len(section(page, "Training").find("svg")) == 4
    assert not section(page, "Run and versions").find("table")  # no defaults that nobody measured


def test_plots_without_matplotlib_name_the_extra_that_has_it(
    attentive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    with missing("matplotlib"):
        assert main(["inspect", str(attentive), "--json"]) == 0  # it draws nothing
        capsys.readouterr()
        assert main(["report", str(attentive), "--out", str(out)]) == 2
    expected = "s2s: report needs matplotlib: pip install 's2s-nmt[report]'\n"
    assert capsys.readouterr().err == expected
    assert not out.exists()


@contextmanager
def missing(module: str) -> Iterator[None]:
    """Import as Python does where a module is not installed."""
    loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if belongs(name, module)}

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if belongs(name, module):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.meta_path.remove(Finder)  # type: ignore[arg-type]
        sys.modules.update(loaded)


def belongs(name: str, module: str) -> bool:
    return name.partition(".")[0] == module


def test_a_checkpoint_in_its_first_epoch_has_no_curves(model_dir: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(model_dir, tmp_path / "model"))
    metrics = json.loads((model / "metrics.json").read_text("utf-8"))
    (model / "metrics.json").write_text(json.dumps({**metrics, "epochs": [], "best": None}))
    assert "Training" not in titles(report_of(model))


# ---- hostile text -------------------------------------------------------------------------------


def test_sentences_are_text_and_never_markup(attentive: Path) -> None:
    page = report_of(attentive, sentences=[HOSTILE])
    assert not read(page).find("script")
    assert not read(page).find("img")
    assert section(page, "Attention").find("figure")[0].find("b")[0].text == HOSTILE
    assert section(page, "Samples").find("dd")[0].text == HOSTILE


def test_a_corpus_and_its_vocabulary_are_text_and_never_markup(
    prepared: Prepare, tiny: Config, tmp_path: Path
) -> None:
    mark = '<b onclick="alert(1)">'
    pairs = [(f"{mark} tone {n} </title>", f"{mark} son {n} </style>") for n in range(80)]
    corpus = prepared(pairs, clean={"markup": False})
    one = tiny.train.model_copy(update={"epochs": 1})
    train_model(corpus, tiny.model_copy(update={"train": one}), tmp_path / "<i>model")
    page = report_of(tmp_path / "<i>model", corpus=corpus)
    assert "onclick" not in {name for e in read(page).find("*") for name in e.attributes}
    assert not [e for e in read(page).find("i") if "model" in e.text]
    assert "<i>model" in read(page).find("header")[0].text
    assert mark in section(page, "Samples").text


# ---- the command --------------------------------------------------------------------------------


def test_the_command_writes_beside_the_model_directory(
    model_dir: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(model_dir, tmp_path / "model.v2"))
    before = sorted(model.iterdir())
    assert main(["report", str(model), "--corpus", str(corpus.path), "--sentence", "I see."]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "from English to French (en-fr)",
        f"page: {tmp_path / 'model.v2.html'}",
    ]
    assert "I see." in (tmp_path / "model.v2.html").read_text("utf-8")
    assert sorted(model.iterdir()) == before


def test_what_a_run_translated_and_scored_after_its_epochs_is_shown(
    model_dir: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(model_dir, tmp_path / "model"))
    assert main(["report", str(model)]) == 0
    plain = section((tmp_path / "model.html").read_text("utf-8"), "Training")
    metrics = json.loads((model / "metrics.json").read_text("utf-8"))
    first, second, *others = metrics["epochs"]
    scored = [first, {**second, "valid_bleu": 12.345}, *others]
    (model / "metrics.json").write_text(json.dumps({**metrics, "epochs": scored}))
    lines = [
        {"step": epoch["steps"], "source": HOSTILE, "reference": "Va !", "translation": word}
        for epoch, word in ((first, "Vas !"), (second, "Va"), ({"steps": 1}, "never"))
    ]
    (tmp_path / "model.run").mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "model.run" / "samples.jsonl").write_text(text)
    assert main(["report", str(model)]) == 0
    training = section((tmp_path / "model.html").read_text("utf-8"), "Training")
    assert len(training.find("figure")) == len(plain.find("figure")) + 1
    numbers, samples = training.find("details")
    assert "BLEU" in [heading.text for heading in numbers.find("th")]
    assert [cell.text for cell in numbers.find("tr")[2].find("td")][6] == "12.35"
    rows = [[cell.text for cell in row.find("td")] for row in samples.find("tr")[1:]]
    assert rows == [["1", "Vas !"], ["2", "Va"], ["reference", "Va !"]]
    assert samples.find("h3")[0].text == HOSTILE


def test_sentences_may_be_given_several_times(model_dir: Path, tmp_path: Path) -> None:
    flags = ["--sentence", "I see bread.", "--sentence", "you want trees.", "--out"]
    assert main(["report", str(model_dir), *flags, str(tmp_path / "page.html")]) == 0
    cards = section((tmp_path / "page.html").read_text("utf-8"), "Samples").find("article")
    assert [c.find("dd")[0].text for c in cards] == ["I see bread.", "you want trees."]


@pytest.mark.parametrize("given", ["nothing", "corpus", "metrics", "other corpus"])
def test_bad_directories_give_one_line_and_leave_no_page(
    given: str, model_dir: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copytree(model_dir, tmp_path / "broken"))
    (broken / "metrics.json").write_text("{")
    arguments = {
        "nothing": [str(tmp_path / "absent")],
        "corpus": [str(corpus.path)],
        "metrics": [str(broken)],
        "other corpus": [str(model_dir), "--corpus", str(model_dir)],
    }[given]
    out = tmp_path / "page.html"
    out.write_text("an older page")
    assert main(["report", *arguments, "--out", str(out)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("s2s: ")
    assert out.read_text() == "an older page"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "page.html"]


# ---- in a browser -------------------------------------------------------------------------------


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_a_browser_shows_the_page(page: str, scheme: str, width: int, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page, "utf-8")
    picture = tmp_path / "page.png"
    browser = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
            "--enable-logging=stderr", f"--screenshot={picture}", f"--window-size={width},2400",
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert not [line for line in browser.stderr.splitlines() if "CONSOLE" in line]
    shown = imread(picture)[..., :3]  # (height, width, 3), 0 to 1
    assert shown.shape[1] == width
    ground = np.median(shown, axis=(0, 1))
    assert (ground > 0.9).all() if scheme == "light" else (ground < 0.2).all()
    inked = np.abs(shown - ground).max(axis=2) > 0.3
    assert 0.01 < inked.mean() < 0.5
    for third in np.array_split(inked, 3):  # text and plots all the way down
        assert third.any(axis=1).mean() > 0.2
    coloured = np.ptp(shown, axis=2) > 0.3  # the lines of the plots
    assert coloured.mean() > 0.001
    assert not inked[:, -3:].any()  # nothing runs out of a narrow window


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
def test_anybody_can_read_the_page(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page, "utf-8")
    require_readable(tmp_path / "page.html")


def test_numbers_of_a_map_have_contrast_at_every_weight(page: str) -> None:
    [style] = read(page).find("style")
    schemes = re.findall(r":root \{(.*?)\}", style.text, re.DOTALL)
    for colours in schemes:
        found = dict(re.findall(r"--(page|heat|on-shade|on-heat): ([^;]+);", colours))
        ground, heat = _channels(found["page"]), list(map(int, found["heat"].split()))
        for percent in range(101):
            weight = percent / 100
            shade = [g + (h - g) * weight for g, h in zip(ground, heat, strict=True)]
            cell = "#" + "".join(f"{round(channel):02x}" for channel in shade)
            text = found["on-heat" if weight > STRONG else "on-shade"]
            assert contrast(text, cell) >= 4.5, (percent, colours)


def _channels(colour: str) -> list[int]:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    return [int(digits[n : n + 2], 16) for n in (0, 2, 4)]


def test_colours_of_text_have_contrast_in_both_schemes(page: str) -> None:
    [style] = read(page).find("style")
    schemes = [dict(re.findall(r"(--[a-z]+(?:-\d)?): (#[0-9a-f]+)", block))
               for block in re.findall(r":root \{(.*?)\}", style.text, re.DOTALL)]  # fmt: skip
    assert len(schemes) == 2
    for colours in schemes:
        for name in ("--ink", "--muted", "--accent", "--series-0", "--series-1"):
            for ground in ("--page", "--panel"):
                least = 4.5 if "series" not in name else 3.0
                assert contrast(colours[name], colours[ground]) >= least, (name, ground)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2 defines it, 1 to 21."""
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [channel / 255 for channel in _channels(colour)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
