"""Runs that are extended, refused or unfinished, and the modes of the files that they leave."""

import errno
import fcntl
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch

import s2s
from s2s.cli.main import main
from s2s.errors import BadInput
from s2s.model.directory import ModelDirectory
from s2s.runs import claimed_folder
from s2s.training.failures import FullMemory

Captured = pytest.CaptureFixture[str]
SMALL = {"train.epochs": 2, "model.hidden_size": 16, "model.embedding_size": 16,
         "train.batch_size": 32, "decode.max_length": 12, "train.checkpoint_steps": 3}  # fmt: skip


def train(corpus: s2s.Corpus, out: Path, **settings: object) -> list[int]:
    """Train for some epochs, and return those that the metrics tell of."""
    changed = {name.replace("__", "."): value for name, value in settings.items()}
    done = s2s.train(corpus, out, "demo", {**SMALL, **changed}, threads=1, quiet=True)
    return [epoch.epoch for epoch in done.metrics.epochs]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return ModelDirectory.load(path).model.named_weights()


def test_a_finished_run_continues_with_more_epochs(corpus: s2s.Corpus, tmp_path: Path) -> None:
    assert train(corpus, tmp_path / "two") == [1, 2]
    assert train(corpus, tmp_path / "two", train__epochs=4) == [1, 2, 3, 4]
    assert train(corpus, tmp_path / "four", train__epochs=4) == [1, 2, 3, 4]
    expected = weights(tmp_path / "four")
    for name, weight in weights(tmp_path / "two").items():
        assert torch.equal(weight, expected[name]), name

    with pytest.raises(BadInput, match=r"exists already; .* greater --train.epochs trains it fur"):
        train(corpus, tmp_path / "two", train__epochs=4)
    with pytest.raises(BadInput, match=r"train.epochs was 4, and is 3 now"):
        train(corpus, tmp_path / "two", train__epochs=3)
    with pytest.raises(BadInput, match=r"train.seed was 0, and is 7 now"):
        train(corpus, tmp_path / "two", train__epochs=5, train__seed=7)
    # What continues a finished run may be interrupted: it is resumed, although `two` is there.
    with (
        pytest.raises(RuntimeError, match="killed"),
        claimed_folder(tmp_path / "two", "model.safetensors", extended(tmp_path / "two.run", 6),
                       restart=False, extensible="config.train.epochs",
                       extends="a greater --train.epochs trains it further"),
    ):  # fmt: skip
        raise RuntimeError("killed")
    assert train(corpus, tmp_path / "two", train__epochs=6) == [1, 2, 3, 4, 5, 6]
    shutil.rmtree(tmp_path / "two.run" / "checkpoints")
    with pytest.raises(BadInput, match=r"has no checkpoint left to train .*two further"):
        train(corpus, tmp_path / "two", train__epochs=7)


def extended(folder: Path, epochs: int) -> dict[str, object]:
    """The description of the run in a folder, with another number of epochs."""
    description = json.loads((folder / "run.json").read_bytes())
    description["config"]["train"]["epochs"] = epochs
    return dict(description)


def test_a_run_in_use_is_left_alone(tmp_path: Path) -> None:
    first = {"config": {"train": {"epochs": 3}}}
    with claimed_folder(tmp_path / "out", "marker", first, restart=False) as folder:
        (folder / "metrics.jsonl").write_text("{}")
        before = {file.name: file.read_bytes() for file in folder.iterdir()}
        for restart, description in ((True, first), (False, extended(folder, 9))):
            with (
                pytest.raises(BadInput, match="is in use: another command is working there"),
                claimed_folder(tmp_path / "out", "marker", description, restart=restart,
                               extensible="config.train.epochs",
                       extends="a greater --train.epochs trains it further"),
            ):  # fmt: skip
                pass
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    with claimed_folder(tmp_path / "out", "marker", first, restart=True) as folder:
        assert not (folder / "metrics.jsonl").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_named_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed_folder(tmp_path / "out", "marker", {}, restart=False) as folder:
        assert (folder / "run.json").is_file()
    said = capsys.readouterr().err
    assert said.count("has no locks") == 1
    assert os.strerror(number) in said


def test_a_lock_that_fails_otherwise_is_no_run_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(BadInput, match=r"out\.run cannot be locked: Input/output error"),
        claimed_folder(tmp_path / "out", "marker", {}, restart=False),
    ):
        pass


def test_early_stopping_is_told(corpus: s2s.Corpus, tmp_path: Path, capsys: Captured) -> None:
    settings = {**SMALL, "train.epochs": 9, "train.patience": 1, "train.learning_rate": 1e-12}
    done = s2s.train(corpus, tmp_path / "m", "demo", settings, threads=1)
    said = capsys.readouterr().out
    assert len(done.metrics.epochs) == 2  # the second is no better
    assert "stopped early after epoch 2: no better valid loss in 1 epoch (--train.patience)" in said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"config": {"train": {"epochs": 2}}}, "train.epochs was 3, and is 2 now"),
        ({"config": {"train": {"epochs": 4, "seed": 1}}}, "train.seed was null, and is 1 now"),
        ({"corpus": "b"}, "it has another corpus"),
        ({"layout": 2}, "another version of s2s or of a library made it"),
        ({"source": {"columns": ["a", "b"]}}, 'columns was null, and is ["a", "b"] now'),
        ({f"x{number}": 1 for number in range(5)}, "x2 was null, and is 1 now; and 2 more"),
    ],
)
def test_a_refused_run_names_what_differs(
    change: dict[str, object], expected: str, tmp_path: Path
) -> None:
    first: dict[str, object] = {"corpus": "a", "config": {"train": {"epochs": 3}}, "source": {}}
    with claimed_folder(tmp_path / "out", "marker", first, restart=False):
        pass
    before = (tmp_path / "out.run" / "run.json").read_text()
    with (
        pytest.raises(BadInput, match="holds another run: ") as caught,
        claimed_folder(tmp_path / "out", "marker", {**first, **change}, restart=False,
                       extensible="config.train.epochs",
                       extends="a greater --train.epochs trains it further"),
    ):  # fmt: skip
        pass
    assert (tmp_path / "out.run" / "run.json").read_text() == before
    assert expected in str(caught.value)
    assert str(caught.value).endswith("--restart drops it, or name another --out")


def test_a_checkpoint_translates_and_is_scored_before_the_run_has_finished(
    corpus: s2s.Corpus, tmp_path: Path, capsys: Captured
) -> None:
    out, text = tmp_path / "model", corpus.split("test")["source"][0]
    train(corpus, out)
    finished = s2s.load(out).translate(text)
    for file in out.iterdir():
        file.unlink()
    out.rmdir()

    assert main(["translate", str(out), text]) == 2
    assert "the run that makes it has not finished" in capsys.readouterr().err
    assert main(["translate", str(out), text, "--checkpoint", "best"]) == 0
    assert capsys.readouterr().out == f"{finished}\n"
    assert s2s.load(out, checkpoint="newest").translate(text)
    evaluate = ["evaluate", str(out), "--corpus", str(corpus.path), "--checkpoint", "best"]
    assert main(evaluate) == 0
    assert "token accuracy" in capsys.readouterr().out
    assert main(["translate", str(out), text, "--checkpoint", "5"]) == 2
    assert "--checkpoint 5: name best, newest or a step of " in capsys.readouterr().err
    assert main(["translate", str(tmp_path / "no"), text, "--checkpoint", "best"]) == 2
    assert "there is no training run in " in capsys.readouterr().err


def test_files_have_the_modes_of_the_users_umask(pairs_file: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        settings = {"corpus.valid": 0.1, "corpus.test": 0.1}
        made = s2s.prepare(pairs_file, tmp_path / "c", "en-fr", "demo", settings, quiet=True)
        train(made, tmp_path / "m")
    finally:
        os.umask(before)
    for path in [*tmp_path.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o750 if path.is_dir() else 0o640), path


def test_weights_that_cannot_be_read_say_why(model_dir: Path, tmp_path: Path) -> None:
    for file in model_dir.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    loop = tmp_path / "model.safetensors"
    loop.symlink_to(loop)
    with pytest.raises(BadInput, match=r"model.safetensors cannot be loaded: Too many levels of"):
        s2s.load(tmp_path)


def test_memory_that_is_full_is_told_with_what_to_lower(
    corpus: s2s.Corpus, tmp_path: Path, capsys: Captured
) -> None:
    huge = ["--model.hidden-size", "3000000", "--train.epochs", "1"]
    out = ["--corpus", str(corpus.path), "--out", str(tmp_path / "m")]
    assert main(["train", "demo", *out, *huge]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "s2s: this machine ran out of memory before the first step; use a smaller "
        "--train.batch-size or --train.batch-tokens, a larger --train.accumulate, or a smaller "
        "--model.hidden-size"
    )


def test_a_worker_does_not_fail_twice_for_the_same_full_memory(tmp_path: Path) -> None:
    failed = FullMemory(tmp_path, 40).note(torch.device("cpu"), 52)
    assert "this machine ran out of memory after step 52; " in str(failed)
    again = FullMemory(tmp_path, 40).earlier()
    assert str(again) == str(failed)
    assert FullMemory(tmp_path, 50).earlier() is None  # there is a checkpoint since
    FullMemory.forget(tmp_path)
    assert FullMemory(tmp_path, 40).earlier() is None


def test_a_note_of_full_memory_is_whole_or_none(tmp_path: Path) -> None:
    file = tmp_path / "full-memory.json"
    for text in ('{"resumed_from": 40, "rea', "[]", '{"resumed_from": 40}', ""):
        file.write_text(text)
        assert FullMemory(tmp_path, 40).earlier() is None
    number = file.stat().st_ino
    with file.open() as before:  # a worker that reads while another one writes
        FullMemory(tmp_path, 40).note(torch.device("cpu"), 52)
        assert before.read() == ""
    assert file.stat().st_ino != number
    file.unlink()
    file.mkdir()
    assert FullMemory(tmp_path, 40).earlier() is None
