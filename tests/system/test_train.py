"""Training on a real Ray cluster by the command that users run."""

import json
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file

from tests.system.conftest import Cluster

WORDS = ["red", "blue", "old", "new", "big", "small", "dog"]
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
    done = cluster.s2s(
        "train", "demo", "--corpus", small_corpus, "--out", out, *TINY,
        "--profile", "--train.log-steps", 5,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epoch 12/12" in done.stdout
    assert "\x1b[" not in done.stdout  # no terminal, so plain lines
    (out.parent / "said.txt").write_text(done.stdout)
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


def test_a_run_is_watched_in_files_and_by_prometheus(cluster: Cluster, one_worker: Path) -> None:
    run = one_worker.with_name("one.run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == list(range(5, 97, 5))  # 12 epochs of 8 batches
    assert len([line for line in lines if "valid/loss" in line]) == 12
    assert [file.name[:6] for file in (run / "tensorboard").iterdir()] == ["events"]
    told = httpx.get(cluster.metrics, timeout=10).text
    [loss] = [line for line in told.splitlines() if line.startswith("ray_s2s_train_loss{")]
    assert 'run="one.run"' in loss
    assert float(loss.split()[-1]) == pytest.approx(lines[-2]["train/loss"])
    for name in ("target_tokens_per_second", "step_seconds", "data_wait_share", "steps_total"):
        assert f"ray_s2s_train_{name}{{" in told


def test_a_profile_tells_where_a_step_goes(one_worker: Path) -> None:
    said = (one_worker.parent / "said.txt").read_text()
    for phase in ("forward", "backward", "exchange", "optimizer", "aten::"):
        assert phase in said
    trace = json.loads(one_worker.with_name("one.run").joinpath("profile/trace.json").read_text())
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert names.count("s2s forward") == 40


def test_a_model_is_tuned_further_on_another_corpus(
    cluster: Cluster, one_worker: Path, tmp_path: Path
) -> None:
    (tmp_path / "more.txt").write_text(
        "".join(f"The {a} {b} tree.\tLe tree {b} {a} {a}.\n" for a in WORDS for b in WORDS)
    )
    prepare = ("prepare", "demo", "--source", tmp_path / "more.txt", "--out", tmp_path / "corpus")
    done = cluster.s2s(*prepare)
    assert done.returncode == 0, done.stderr
    train = (
        "train", "demo", "--corpus", tmp_path / "corpus", "--out", tmp_path / "tuned",
        "--init-from", one_worker, "--train.average", "last", "--train.average-epochs", 2,
        "--train.epochs", 3, "--checkpoints", f"file://{tmp_path}/kept",
    )  # fmt: skip
    refused = cluster.s2s(*train)
    assert refused.returncode == 2
    assert f"--vocabularies {one_worker}" in refused.stderr

    done = cluster.s2s(*prepare, "--vocabularies", one_worker, "--restart")
    assert done.returncode == 0, done.stderr
    done = cluster.s2s(*train)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "tuned/metrics.json").read_text())
    assert told["weights"] == "the mean of epoch 2, 3"
    assert (tmp_path / "tuned/source.json").read_bytes() == (
        one_worker / "source.json"
    ).read_bytes()
    assert json.loads((tmp_path / "tuned/config.json").read_text())["model"]["hidden_size"] == 24
    kept = sorted((tmp_path / "kept").iterdir())
    weights = [load_file(folder / "model.safetensors") for folder in kept[-2:]]
    for name, weight in load_file(tmp_path / "tuned/model.safetensors").items():
        torch.testing.assert_close(weight, (weights[0][name] + weights[1][name]) / 2)


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
