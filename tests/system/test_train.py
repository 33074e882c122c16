"""Training on a real Ray cluster by the command that users run."""

import json
import signal
from pathlib import Path

import pytest

from tests.system.conftest import Cluster

TINY = ("--train.epochs", "12", "--model.hidden-size", "24", "--model.embedding-size", "16")
RECORD = {
    "epoch",
    "train_loss",
    "valid_loss",
    "valid_token_accuracy",
    "valid_padded_accuracy",
    "pairs_per_second",
    "target_tokens_per_second",
    "seconds",
}


def losses(model: Path) -> list[float]:
    metrics = json.loads((model / "metrics.json").read_text())
    return [epoch[loss] for epoch in metrics["epochs"] for loss in ("train_loss", "valid_loss")]


@pytest.fixture(scope="module")
def one_worker(
    cluster: Cluster, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("train") / "one"
    done = cluster.s2s("train", "demo", "--corpus", small_corpus, "--out", out, *TINY)
    assert done.returncode == 0, done.stderr
    assert "epoch 12/12" in done.stdout
    assert "\x1b[" not in done.stdout  # no terminal, so plain lines
    return out


def test_a_trained_model_directory_is_complete(one_worker: Path) -> None:
    assert {file.name for file in one_worker.iterdir()} == {
        "config.json",
        "model.safetensors",
        "source.json",
        "target.json",
        "metrics.json",
        "README.md",
    }
    metrics = json.loads((one_worker / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == list(range(1, 13))
    assert set(metrics["epochs"][0]) >= RECORD
    assert metrics["best"] in metrics["epochs"]
    assert metrics["best"]["valid_loss"] == min(e["valid_loss"] for e in metrics["epochs"])
    assert metrics["workers"] == 1
    assert metrics["total_seconds"] > 0
    assert {"s2s", "torch", "ray"} <= set(metrics["versions"])


def test_two_workers_follow_the_losses_of_one(
    cluster: Cluster, small_corpus: Path, one_worker: Path, tmp_path: Path
) -> None:
    out = tmp_path / "two"
    done = cluster.s2s(
        "train", "demo", "--corpus", small_corpus, "--out", out, "--workers", 2, *TINY
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "metrics.json").read_text())["workers"] == 2
    assert losses(out) == pytest.approx(losses(one_worker), rel=1e-3)


def test_a_finished_model_is_not_overwritten_unasked(
    cluster: Cluster, small_corpus: Path, one_worker: Path
) -> None:
    before = (one_worker / "model.safetensors").read_bytes()
    done = cluster.s2s("train", "demo", "--corpus", small_corpus, "--out", one_worker, *TINY)
    assert done.returncode == 2
    assert "--restart" in done.stderr
    assert (one_worker / "model.safetensors").read_bytes() == before


def test_an_interrupted_run_goes_on_to_the_same_losses(
    cluster: Cluster, small_corpus: Path, one_worker: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    command = ("train", "demo", "--corpus", small_corpus, "--out", out, *TINY)
    process = cluster.start(*command)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    code = process.wait(60)
    assert code == 3, rest
    assert "goes on" in rest
    assert not out.exists()

    changed = cluster.s2s(*command, "--train.learning-rate", "0.1")
    assert changed.returncode == 2  # the run folder belongs to other settings
    assert "--restart" in changed.stderr

    done = cluster.s2s(*command)
    assert done.returncode == 0, done.stderr
    assert losses(out) == losses(one_worker)


def test_more_workers_than_a_fixed_cluster_holds_are_refused_at_once(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    done = cluster.s2s(
        "train", "demo", "--corpus", small_corpus, "--out", tmp_path / "m", "--workers", 64
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "64 workers need 62 CPUs more" in done.stderr


def test_a_loss_that_is_no_number_ends_the_run_with_advice(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    done = cluster.s2s(
        "train", "demo", "--corpus", small_corpus, "--out", tmp_path / "m", *TINY,
        "--train.learning-rate", "1e38",
    )  # fmt: skip
    assert done.returncode == 1
    assert "--train.learning-rate" in done.stderr
    assert not (tmp_path / "m").exists()
