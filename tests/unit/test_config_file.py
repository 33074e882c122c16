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
    assert (verb.preset, verb.corpus, verb.workers) == ("base", "corpora/mine", "2:4")
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
    assert (verb.model, verb.decoding.settings()) == ("m", {"beam": 2, "unknown": "copy"})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "epochs = ", "is not TOML: "),
        ("a.yaml", "a: [", "is not YAML: "),
        ("a.yaml", "- 1", "names and values of options are needed"),
        ("a.yaml", "corpsu: x", "unknown option 'corpsu'; did you mean corpus?"),
        ("a.yaml", "train: {epohcs: 3}", "unknown setting train.epohcs; did you mean epochs?"),
        ("a.yaml", "train: 5", "train: settings are needed, not 5"),
        ("a.yaml", "train: 5\ntrain.epochs: 2", "train has a value and settings of its own"),
        ("a.yaml", "train.epochs: 2\ntrain: {epochs: 3}", "train.epochs is there twice"),
        ("a.yaml", "out: a\nout: b", "out is there twice"),
        ("a.TOML", "out = ", "is not TOML: "),
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


def test_values_are_read_as_on_the_command_line(tmp_path: Path) -> None:
    text = """preset: demo
corpus: null
out: 7
workers: 2:3
track: tensorboard
train.epochs: 2
train: {batch_size: 16, learning_rate: 1e-3}
"""
    verb = parse("train", Train, ["--config", str(written(text, tmp_path / "a.yaml")),
                                  "--corpus", "c"])  # fmt: skip
    assert isinstance(verb, Train)
    assert (verb.corpus, verb.out, verb.workers) == ("c", "7", "2:3")
    assert verb.track == ("tensorboard",)
    assert (verb.train.epochs, verb.train.batch_size, verb.train.learning_rate) == (2, 16, 1e-3)
    text = "source: a.tsv\ncolumns: [1, 2]\nlanguages: en-fr\n"
    data = parse("prepare", Prepare, ["demo", "--config", str(written(text, tmp_path / "b.yml"))])
    assert isinstance(data, Prepare)
    assert (data.source, data.columns) == (("a.tsv",), ("1", "2"))


@pytest.mark.parametrize(
    "arguments", [["--config", "a.toml", "--config", "b.toml"], ["--config="], ["--config"]]
)
def test_one_file_is_named(arguments: list[str]) -> None:
    with pytest.raises(BadInput, match="--config"):
        parse("train", Train, ["demo", *arguments])


def test_the_options_of_a_corpus_make_the_same_corpus_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    rows = "".join(f"我看见学校{chr(0x4E00 + n)}。\tI see school {n}.\n" for n in range(60))
    (tmp_path / "data" / "zh.tsv").write_text(rows, "utf-8")
    monkeypatch.chdir(tmp_path)
    flags = ["--languages", "zh-en", "--corpus.no-check-languages", "--corpus.valid", "0.1"]
    assert main(["prepare", "demo", "--source", "data/zh.tsv", *flags, "--out", "one"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = ["prepare", "--config", str(tmp_path / "one" / "config.yaml")]
    assert main([*again, "--out", "two"]) == 0
    one, two = (Corpus.open(path) for path in (tmp_path / "one", Path("two")))
    assert one.manifest.config.text.units != "word"
    assert two.manifest.config == one.manifest.config
    assert two.manifest.sha256 == one.manifest.sha256


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
