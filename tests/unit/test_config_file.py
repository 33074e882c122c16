"""Files of options: read by every verb, written by every run, and read again."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from s2s.cli.arguments import parse
from s2s.cli.main import main
from s2s.cli.prepare import Prepare
from s2s.cli.train import Train
from s2s.cli.translate import Translate
from s2s.corpus import Corpus
from s2s.errors import BadInput
from s2s.provenance import git_state

Captured = pytest.CaptureFixture[str]

TOML = """
preset = "base"
corpus = "corpora/mine"
out = "models/mine"
workers = "2:4"
train.epochs = 3

[model]
hidden-size = 96
"""


def written(text: str, path: Path) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_a_toml_file_gives_options_that_the_command_line_overrides(tmp_path: Path) -> None:
    file = written(TOML, tmp_path / "run.toml")
    verb = parse("train", Train, ["--config", str(file), "--train.batch-size", "7"])
    assert isinstance(verb, Train)
    assert (verb.preset, verb.corpus, verb.workers) == ("base", Path("corpora/mine"), "2:4")
    assert (verb.train.epochs, verb.train.batch_size, verb.model.hidden_size) == (3, 7, 96)
    assert verb.model.bidirectional  # of the preset
    assert {"train.epochs", "model.hidden-size", "train.batch-size"} <= verb.given
    verb = parse("train", Train, ["demo", f"--config={file}", "--train.epochs", "9"])
    assert isinstance(verb, Train)
    assert (verb.preset, verb.train.epochs, verb.model.bidirectional) == ("demo", 9, False)


def test_a_yaml_file_gives_lists_nested_settings_and_decoding(tmp_path: Path) -> None:
    file = written("preset: base\nsource: [a.tsv, b.tsv]\ncolumns: [en, fr]\n"
                   "corpus: {clean: {markup: false}}\n", tmp_path / "data.yaml")  # fmt: skip
    verb = parse("prepare", Prepare, ["--config", str(file)])
    assert isinstance(verb, Prepare)
    assert (verb.source, verb.columns) == (("a.tsv", "b.tsv"), ("en", "fr"))
    assert (verb.corpus.clean.markup, verb.corpus.clean.script) == (False, True)
    file = written("model: m\nbeam: 7\nunknown: copy\n", tmp_path / "translate.yml")
    verb = parse("translate", Translate, ["--config", str(file), "--beam", "2"])
    assert isinstance(verb, Translate)
    assert (verb.model, verb.decoding.settings()) == (Path("m"), {"beam": 2, "unknown": "copy"})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "epochs = ", "is not TOML: "),
        ("a.yaml", "a: [", "is not YAML: "),
        ("a.yaml", "- 1", "names and values of options are needed"),
        ("a.yaml", "corpsu: x", "unknown option 'corpsu'; did you mean corpus?"),
        ("a.yaml", "train: {epohcs: 3}", "train.epohcs: "),
        ("a.yaml", "train: {epochs: many}", "train.epochs: "),
        ("a.yaml", "wait: soon", "wait: "),
        ("a.yaml", "preset: bsae", "unknown preset 'bsae'; did you mean base?"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    name: str, text: str, said: str, tmp_path: Path, capsys: Captured
) -> None:
    file = written(text, tmp_path / name)
    preset = [] if "preset" in text else ["demo"]
    assert main(["train", *preset, "--config", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match=r"--config /no/such.toml: No such file"):
        parse("train", Train, ["demo", "--config", "/no/such.toml"])


def test_a_run_keeps_its_options_and_provenance(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "model"
    small = ["--model.hidden-size", "16", "--train.epochs", "1", "--decode.max-length", "12"]
    assert main(["train", "demo", "--corpus", str(corpus.path), "--out", str(out), *small]) == 0
    kept = tmp_path / "model.run" / "config.yaml"
    content = yaml.safe_load(kept.read_text("utf-8"))
    assert content["preset"] == "demo"
    assert content["model"]["hidden_size"] == 16
    # The same file trains the same model elsewhere, or this one further.
    assert main(["train", "--config", str(kept), "--train.epochs", "2"]) == 0
    assert main(["train", "--config", str(kept), "--out", str(tmp_path / "other")]) == 0
    again = yaml.safe_load((tmp_path / "other.run" / "config.yaml").read_text("utf-8"))
    assert again == {**content, "out": str(tmp_path / "other"),
                     "train": {**content["train"], "epochs": 2}}  # fmt: skip
    lines = (tmp_path / "model.run" / "sessions.jsonl").read_text("utf-8").splitlines()
    sessions = [json.loads(line) for line in lines]
    assert len(sessions) == 2
    assert sessions[0]["corpus"] == {"path": str(corpus.path), "sha256": corpus.sha256}
    assert {"s2s", "torch", "python"} <= sessions[0]["versions"].keys()
    assert sessions[0]["command"]


def test_git_state_tells_the_commit_and_whether_files_changed(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    file = written("one", tmp_path / "file")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "file"], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    state = git_state(tmp_path)
    assert state is not None
    assert len(str(state["commit"])) == 40
    assert state["changed"] is False
    file.write_text("two")
    assert git_state(tmp_path) == {**state, "changed": True}
