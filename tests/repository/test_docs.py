"""The docs describe what is there, and the site holds all of them."""

import doctest
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

import s2s
from s2s.cli.arguments import parse
from s2s.cli.main import run
from s2s.cli.train import Train
from s2s.cli.verbs import VERBS
from s2s.config import Config, Section
from s2s.corpus import Corpus
from s2s.corpus.directory import (
    CorpusWarning,
    Leak,
    LostLetters,
    Manifest,
    VocabularyCoverage,
)
from s2s.exporting.manifest import Checked, ExportManifest, GraphFile, SpecialIds
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import EpochRecord, RunMetrics, Score, TrainedOn, ValidScores
from s2s.presets import PRESETS
from s2s.serving.engine.models import Models
from s2s.serving.http.app import create_app
from s2s.training.checkpoints import CheckpointManifest, FileHash
from s2s.tuning.trials import Sweep, Trial
from tests.support.serving import in_threads
from website.command_line import reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REAL = Path(os.environ.get("S2S_DATA", "/nowhere")) / "fra-eng" / "fra-eng.zip"
needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="MkDocs is not installed (`make docs`)"
)


# ---- the site -----------------------------------------------------------------------------------


def places(navigation: Any) -> Iterator[str]:
    """Give the pages of a navigation, in order."""
    if isinstance(navigation, str):
        yield navigation
    else:
        entries = navigation.values() if isinstance(navigation, dict) else navigation
        for entry in entries:
            yield from places(entry)


def test_every_page_is_in_the_navigation() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    named = list(places(config["nav"]))
    assert "decisions/" in named  # the hooks put all of them there
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    missing = {page for page in pages - set(named) if not page.startswith("decisions/")}
    assert missing == set()
    assert len(named) == len(set(named))


def test_the_lock_of_the_docs_adds_to_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    lines = (ROOT / "requirements-docs.lock").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s@/]+", line) for line in lines)
    locked = {line.partition("==")[0].lower() for line in lock}
    assert locked.isdisjoint(line.partition("==")[0].lower() for line in lines)


class Loaded(HTMLParser):
    """The addresses that a page loads something from by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = {"script": "src", "link": "href", "img": "src", "iframe": "src"}.get(tag)
        self.addresses += [value or "" for key, value in attrs if key == name]


@pytest.mark.slow
@needs_mkdocs
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert built.stderr.strip() == ""
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text("utf-8"))
        outside = [one for one in loaded.addresses if re.match(r"(https?:)?//", one)]
        assert outside == [], page.name


# ---- the reference ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command_line() -> str:
    return reference()


@pytest.mark.parametrize("verb", VERBS)
def test_the_reference_has_every_verb_with_its_options(
    verb: str, command_line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    section = re.search(rf"^## s2s {verb}$.*?(?=^## |\Z)", command_line, re.MULTILINE | re.DOTALL)
    assert section
    preset = ["base"] if "PRESET" in section[0] else []
    with pytest.raises(SystemExit):
        run(verb, [*preset, "--help"])
    help_text = capsys.readouterr().out
    shown = set(re.findall(r"^\W{1,3}(?<= )(--[a-z][\w.-]*)", help_text, re.MULTILINE))
    assert shown
    assert [option for option in shown if not re.search(rf"`{option}[ `]", section[0])] == []


def names(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Give the dotted names of all settings."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from names(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_reference_has_every_setting_with_the_defaults_of_the_presets(
    command_line: str,
) -> None:
    settings = [name for name in names(Config) if "." in name]
    assert "corpus.clean.markup" in settings
    options = [f"--{name.replace('_', '-')}" for name in settings]
    assert [one for one in options if not re.search(rf"^`{one}[ `]", command_line, re.M)] == []
    rate = re.search(r"^`--train.learning-rate FLOAT`\n(.*)$", command_line, re.MULTILINE)
    assert rate
    assert rate[1].endswith("`0.001` (`seed`); `0.002` (`demo`, `base`, `multi30k`).")
    assert PRESETS["base"]().train.learning_rate == 0.002


@pytest.mark.parametrize(
    "kind",
    [
        Manifest, VocabularyCoverage, LostLetters, Leak, CorpusWarning, RunMetrics, EpochRecord,
        Score, TrainedOn, ValidScores, CheckpointManifest, FileHash, Sweep, Trial,
        ExportManifest, GraphFile, SpecialIds, Checked,
    ],
)  # fmt: skip
def test_the_page_on_files_has_every_field(kind: type) -> None:
    page = (DOCS / "reference" / "formats.md").read_text("utf-8")
    if issubclass(kind, BaseModel):
        fields_of_kind = list(kind.model_fields)
    else:
        assert is_dataclass(kind)
        fields_of_kind = [field.name for field in fields(kind)]
    assert [name for name in fields_of_kind if f"`{name}`" not in page] == []


def test_the_page_on_files_has_every_file(corpus: Corpus, tiny: Config, tmp_path: Path) -> None:
    page = (DOCS / "reference" / "formats.md").read_text("utf-8")
    ModelDirectory.new(tiny, corpus.source, corpus.target).save(tmp_path, RunMetrics())
    for folder in (corpus.path, tmp_path):
        for path in folder.rglob("*"):
            name = re.sub(r"^data-\d+-of-\d+", "data-00000-of-00001", path.name)
            assert re.search(rf"[`/]{re.escape(name)}[`/]", page), path


def test_the_page_on_http_has_every_path() -> None:
    page = (DOCS / "reference" / "http.md").read_text("utf-8")
    app = create_app(Models(in_threads()))
    described = app.openapi()["paths"]
    assert "/translate" in described
    served = {getattr(route, "path", "") for route in app.routes} - {""}
    assert [path for path in {*served, *described} if f" {path}`" not in page] == []
    for path, methods in described.items():
        [row] = re.findall(rf"^\| (.* {re.escape(path)}`) \|", page, re.MULTILINE)
        assert set(re.findall(r"`([A-Z]+)", row)) == {method.upper() for method in methods}, path


def test_the_page_on_the_environment_has_every_variable_of_s2s() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "s2s").rglob("*.py"))
    page = (DOCS / "reference" / "environment.md").read_text("utf-8")
    variables = set(re.findall(r"\bS2S_[A-Z_]+\b", code))
    assert "S2S_CACHE" in variables
    assert [name for name in variables if f"`{name}`" not in page] == []
    documented = set(re.findall(r"`(S2S_[A-Z_]+)`", page)) - {"S2S_DATA"}  # of tests
    assert documented <= variables


def test_the_file_of_options_sets_what_the_page_says(tmp_path: Path) -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "mine.toml"
    file.write_text(example, "utf-8")
    verb = parse("train", Train, ["--config", str(file), "--train.epochs", "30"])
    assert isinstance(verb, Train)
    assert (verb.preset, str(verb.corpus)) == ("base", "corpora/mine")
    assert (verb.train.epochs, verb.train.learning_rate) == (30, 1e-3)
    assert (verb.model.hidden_size, verb.model.attention) == (256, "general")


def test_the_script_for_slurm_starts_a_training() -> None:
    page = (DOCS / "operations.md").read_text("utf-8")
    [script] = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    [command] = re.findall(r"^ +s2s train (.*)$", script, re.MULTILINE)
    verb = parse("train", Train, command.split())
    assert isinstance(verb, Train)
    [nodes, cpus] = re.findall(r"--(?:nodes|cpus-per-task)=(\d+)", script.split("first=")[0])
    assert (verb.workers, verb.cpus) == (nodes, int(cpus))


# ---- the tutorial -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_file(), reason="S2S_DATA has no fra-eng/fra-eng.zip")
def test_the_tutorial_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = s2s.prepare(REAL, "corpora/seed", "en-fr", "seed", quiet=True)
    # What the page shows holds for every model: one with fresh weights repeats itself, though.
    config = PRESETS["seed"]()
    decode = config.decode.changed(stop_on_repetition=False)
    config = config.model_copy(update={"decode": decode})
    Path("models/seed").mkdir(parents=True)
    ModelDirectory.new(config, corpus.source, corpus.target).save(Path("models/seed"), RunMetrics())
    page = (DOCS / "tutorial.md").read_text("utf-8").replace("```", "")
    session = doctest.DocTestParser().get_doctest(page, {}, "tutorial.md", None, 0)
    assert len(session.examples) > 30
    said: list[str] = []
    gradients = torch.is_grad_enabled()
    try:
        results = doctest.DocTestRunner().run(session, out=said.append)
    finally:
        torch.set_grad_enabled(gradients)
    assert results.failed == 0, "".join(said)
