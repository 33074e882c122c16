"""Training on a real Ray cluster by the command that users run."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from s2s.training.trackers.json_lines import read_samples
from tests.support.cluster import Cluster, s2s
from tests.support.monitoring import asked, exported
from tests.system.conftest import HurtRun

WORDS = ["red", "blue", "old", "new", "big", "small", "dog"]
EPOCHS = 5  # of the runs that are compared to each other
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


def test_a_trained_model_directory_is_complete(two_workers: Path) -> None:
    assert {file.name for file in two_workers.iterdir()} == {
        "config.json",
        "model.safetensors",
        "source.json",
        "target.json",
        "metrics.json",
        "README.md",
    }
    metrics = json.loads((two_workers / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == list(range(1, EPOCHS + 1))
    assert set(metrics["epochs"][0]) >= RECORD
    assert metrics["best"] in metrics["epochs"]
    assert metrics["best"]["valid_loss"] == min(e["valid_loss"] for e in metrics["epochs"])
    assert metrics["workers"] == 2
    assert metrics["total_seconds"] > 0
    assert {"s2s", "torch", "ray"} <= set(metrics["versions"])


def test_a_run_is_watched_in_files_and_by_prometheus(hurt_run: HurtRun) -> None:
    run = hurt_run.model.with_name("model.run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "train/loss" in line]
    ends = [line["step"] for line in lines if "valid/loss" in line]
    assert ends == [114 * epoch for epoch in range(1, EPOCHS + 1)]  # 906 sentences in eights
    assert steps == list(range(10, ends[-1] + 1, 10))
    assert {file.name[:6] for file in (run / "tensorboard").iterdir()} == {"events"}
    told = hurt_run.prometheus
    [loss] = [line for line in told.splitlines() if line.startswith("ray_s2s_train_loss{")]
    assert 'run="model.run"' in loss
    assert float(loss.split()[-1]) == pytest.approx(lines[-2]["train/loss"])
    # This run clips no gradients; the service has a test of its own.
    wanted = asked("ray_") - asked("ray_serve_") - asked("ray_s2s_serve_")
    assert wanted - exported(told) == {"ray_s2s_train_gradient_norm"}


def test_a_class_of_one_s_own_tracks_a_run_of_workers(hurt_run: HurtRun) -> None:
    run = hurt_run.model.with_name("model.run")
    begun, *told = (run / "lines.txt").read_text().splitlines()
    assert re.fullmatch(r"model 5 [1-9]\d*", begun)  # it was resumed with this tracker
    last = 114 * EPOCHS
    assert told[-3:-1] == [f"{last} valid/loss valid/bleu", f"{last} 4 {first_sample(run)}"]
    assert told[-1] == "True"
    epochs = json.loads((hurt_run.model / "metrics.json").read_text())["epochs"]
    assert [epoch["valid_bleu"] is None for epoch in epochs] == [True, True, True, True, False]
    assert f"  source       {first_sample(run)}\n" in hurt_run.finished.out
    assert f"BLEU {epochs[-1]['valid_bleu']:.2f}" in hurt_run.finished.out


def first_sample(run: Path) -> str:
    [(_, sample), *_] = read_samples(run)
    return sample.source


def test_a_profile_tells_where_a_step_goes(hurt_run: HurtRun) -> None:
    said = hurt_run.finished.out
    assert f" {EPOCHS}/{EPOCHS} " in said
    assert said.count(" pairs to train on: enough to try") == 2  # at the start and at the end
    assert "\x1b[" not in said  # no terminal, so plain lines
    for phase in ("forward", "backward", "exchange", "optimizer", "aten::"):
        assert phase in said
    trace = json.loads((hurt_run.model.with_name("model.run") / "profile/trace.json").read_text())
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert names.count("s2s forward") == 40


def test_the_weights_are_the_mean_of_the_last_checkpoints_at_a_place_of_their_own(
    hurt_run: HurtRun,
) -> None:
    told = json.loads((hurt_run.model / "metrics.json").read_text())
    assert told["weights"] == f"the mean of epochs {EPOCHS - 1}, {EPOCHS}"
    kept = [hurt_run.checkpoints / f"step-{114 * (EPOCHS - back):09}" for back in (1, 0)]
    weights = [load_file(folder / "model.safetensors") for folder in kept]
    for name, weight in load_file(hurt_run.model / "model.safetensors").items():
        assert not torch.equal(weights[0][name], weights[1][name])
        torch.testing.assert_close(weight, (weights[0][name] + weights[1][name]) / 2)


def test_a_finished_model_is_not_overwritten_unasked(
    cluster: Cluster, run: tuple[object, ...], two_workers: Path
) -> None:
    before = (two_workers / "model.safetensors").read_bytes()
    done = cluster.s2s(*run, "--out", two_workers)
    assert done.code == 2
    assert "--restart" in done.err
    assert (two_workers / "model.safetensors").read_bytes() == before


def test_more_workers_than_a_fixed_cluster_holds_are_refused_at_once(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    done = cluster.s2s(
        "train", "demo", "--corpus", small_corpus, "--out", tmp_path / "m", "--workers", 64
    )
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "64 workers need 62 CPUs more" in done.err


def test_a_model_is_tuned_further_on_another_corpus_until_its_loss_is_no_number(
    two_workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)  # in this process
    (tmp_path / "more.txt").write_text(
        "".join(f"The {a} {b} dog.\tLe dog {b} {a}.\n" for a in WORDS for b in WORDS)
    )
    prepare = (
        "prepare", "demo", "--languages", "en-fr", "--source", tmp_path / "more.txt",
        "--out", tmp_path / "corpus",
        "--text.source-normaliser", "same",
    )  # fmt: skip
    done = s2s(*prepare)
    assert done.code == 0, done.err
    train = (
        "train", "demo", "--corpus", tmp_path / "corpus", "--out", tmp_path / "tuned",
        "--init-from", two_workers, "--train.log-steps", 1, "--train.learning-rate", "1e38",
    )  # fmt: skip
    refused = s2s(*train)
    assert refused.code == 2
    assert f"--vocabularies {two_workers}" in refused.err

    done = s2s(*prepare, "--vocabularies", two_workers, "--restart")
    assert done.code == 0, done.err
    done = s2s(*train)
    assert done.code == 1
    assert "--train.learning-rate" in done.err
    assert not (tmp_path / "tuned").exists()
    lines = (tmp_path / "tuned.run/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["step"] == 1
    assert json.loads(lines[0])["train/loss"] < 0.5  # that of a new model is above 2
    run = json.loads((tmp_path / "tuned.run/run.json").read_text())
    assert run["config"]["model"]["hidden_size"] == 24
    for name in ("source.json", "target.json"):
        assert (tmp_path / "corpus" / name).read_bytes() == (two_workers / name).read_bytes()


@pytest.mark.slow
def test_workers_whose_memory_is_full_are_started_twice_at_most(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    done = cluster.s2s(
        "train", "demo", "--corpus", small_corpus, "--out", tmp_path / "m", "--workers", 2,
        "--model.hidden-size", 3_000_000,
    )  # fmt: skip
    assert done.code == 1
    assert "ran out of memory before the first step; use a smaller --train.batch-size" in done.err
    assert done.out.count("restarting the workers") == 1
