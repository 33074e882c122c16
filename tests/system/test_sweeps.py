"""Sweeps on a real cluster that are hurt, interrupted, resumed and extended."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.state import list_actors, list_placement_groups

from tests.support.cluster import Cluster
from tests.support.serving import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPACE = (
    "--searcher", "random", "--scheduler", "none", "--train.epochs", 3,
    "--search", "model.hidden-size=16,24", "--search", "train.learning-rate=log:1e-3:1e-2",
)  # fmt: skip


def trials(folder: Path) -> list[dict[str, Any]]:
    """Return the records of the trials that have begun."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("trials/*/trial.json"))]


def epochs_of(folder: Path) -> int:
    """Return the epochs that all trials have trained together."""
    return sum(trial["epochs"] for trial in trials(folder))


def begun(folder: Path, epochs: int) -> Callable[[], bool]:
    """Return what tells whether the trials have trained so many epochs together."""
    return lambda: epochs_of(folder) >= epochs


def epochs_trained(folder: Path) -> list[int]:
    """Return the numbers of all epochs that the run in a folder has logged, in order."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text("utf-8").splitlines())
    return [int(line["train/epoch"]) for line in lines if "valid/loss" in line]


def test_a_sweep_that_is_killed_again_and_again_tries_what_an_undisturbed_one_does(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    def command(out: str) -> tuple[object, ...]:
        return ("tune", "demo", "--corpus", small_corpus, "--out", tmp_path / out, *SPACE,
                "--trials", 6)  # fmt: skip

    undisturbed = cluster.s2s(*command("whole"))
    assert undisturbed.code == 0, undisturbed.err
    hurt, chance = tmp_path / "hurt.run", random.Random(19)
    for kind in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        process = cluster.start(*command("hurt"))
        until(begun(hurt, epochs_of(hurt) + chance.randint(1, 4)), every=0.1)
        process.send_signal(kind)
        told, _ = process.communicate(timeout=60)
        assert process.returncode == (-kind if kind == signal.SIGKILL else 3), told
        assert kind == signal.SIGKILL or "run the same command again to resume" in told
        assert not (tmp_path / "hurt").exists()
    finished = cluster.s2s(*command("hurt"))
    assert finished.code == 0, finished.err

    whole, found = (
        json.loads((tmp_path / out / "sweep.json").read_text()) for out in ("whole", "hurt")
    )
    same = ("number", "settings", "status", "epochs", "curve", "score")
    assert [{key: each[key] for key in same} for each in found["trials"]] == [
        {key: each[key] for key in same} for each in whole["trials"]
    ]
    for trial in found["trials"]:
        # Logged by each session from where it resumed: no epoch is trained again after its end.
        assert epochs_trained(hurt / "trials" / f"{trial['number']:04}") == [1, 2, 3]
    weights = [
        (tmp_path / out / "best/model.safetensors").read_bytes() for out in ("whole", "hurt")
    ]
    assert weights[0] == weights[1]


def test_a_trial_survives_its_worker_and_another_one_explodes(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    process = cluster.start(
        "tune", "demo", "--corpus", small_corpus, "--out", tmp_path / "s", "--searcher", "grid",
        "--scheduler", "none", "--train.epochs", 4, "--hidden-sizes", 16,
        "--search", "train.learning-rate=0.002,1e6,0.004",
    )  # fmt: skip
    until(begun(tmp_path / "s.run", 1), every=0.05)
    os.kill(cluster.processes("ray::ResourceTrainable")[0], signal.SIGKILL)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "is started again" in told
    assert "Traceback" not in told
    first, second, third = json.loads((tmp_path / "s" / "sweep.json").read_text())["trials"]
    assert [first["status"], third["status"]] == ["finished", "finished"]
    assert (second["status"], second["score"]) == ("failed", None)
    assert "the loss exploded" in second["reason"]


def left_over() -> tuple[set[str], set[str]]:
    """Return the actors and placement groups that are alive."""
    actors = {actor.actor_id for actor in list_actors() if actor.state != "DEAD"}
    groups = {group.placement_group_id for group in list_placement_groups()
              if group.state != "REMOVED"}  # fmt: skip
    return actors, groups


@pytest.mark.parametrize("workers", [1, 2])
def test_sweeps_leave_nothing_behind_and_never_wait_for_each_other(
    cluster: Cluster, small_corpus: Path, tmp_path: Path, workers: int
) -> None:
    left, processes = list[tuple[set[str], set[str]]](), list[int]()
    for number in range(5 if workers == 1 else 2):
        # The first is the best: others are stopped, in the middle of an epoch of some seconds.
        done = cluster.s2s(
            "tune", "demo", "--corpus", small_corpus, "--out", tmp_path / f"s{number}",
            "--workers", workers, "--searcher", "grid", "--train.epochs", 3,
            "--hidden-sizes", 48, 8, 12, 16, "--embedding-sizes", 16,
            "--train.batch-size", 64 if workers == 1 else 2,
        )  # fmt: skip
        assert done.code == 0, done.err
        states = [each["status"] for each in trials(tmp_path / f"s{number}.run")]
        assert len(states) == 4
        assert set(states) == {"finished", "stopped"}
        if number:
            until(lambda: left_over() == left[0], every=1)
        else:
            time.sleep(20)  # Ray Train's first run starts an actor of Ray's that stays
        left.append(left_over())
        processes.append(len(cluster.processes("ray::")))
    assert processes[-1] <= processes[0] + 4  # idle workers stay for a while
    until(lambda: ray.available_resources().get("CPU", 0) == 2, every=1)


def test_workers_that_the_cluster_cannot_hold_are_refused_at_once(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    begin = time.monotonic()
    done = cluster.s2s("tune", "demo", "--corpus", small_corpus, "--out", tmp_path / "s",
                       "--workers", 3)  # fmt: skip
    assert done.code == 2
    assert "3 workers need 1 CPU more than the cluster has" in done.err
    assert time.monotonic() - begin < 60


def test_a_finished_sweep_is_extended_and_its_best_point_trained_again(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"

    def sweep(*more: object) -> dict[str, Any]:
        done = cluster.s2s("tune", "demo", "--corpus", small_corpus, "--out", out, *SPACE, *more)
        assert done.code == 0, done.err
        told: dict[str, Any] = json.loads((out / "sweep.json").read_text())
        return told

    first = sweep("--trials", 2)
    again = cluster.s2s(
        "tune", "demo", "--corpus", small_corpus, "--out", out, *SPACE, "--trials", 2
    )
    assert again.code == 2
    assert "more --trials, a greater --budget or other values of --search extend it" in again.err
    other = cluster.s2s(
        "tune", "demo", "--corpus", small_corpus, "--out", out, *SPACE, "--trials", 4,
        "--train.batch-size", 7,
    )  # fmt: skip
    assert other.code == 2
    assert "train.batch_size was 128, and is 7 now" in other.err
    extended = sweep("--trials", 4, "--retrain", 2, "--retrain-epochs", 4)
    assert [each["settings"] for each in extended["trials"][:2]] == [
        each["settings"] for each in first["trials"]
    ]
    assert extended["trials"][0]["train_seconds"] == first["trials"][0]["train_seconds"]
    assert len(extended["trials"]) == 4
    retrained = extended["retrained"]
    assert [each["seed"] for each in retrained["seeds"]] == [0, 1]
    assert (retrained["epochs"], len(retrained["curve"])) == (4, 4)
    assert retrained["settings"] == extended["trials"][extended["best"] - 1]["settings"]
    config = json.loads((out / "best" / "config.json").read_text())
    assert config["train"]["epochs"] == 4
    best = max(retrained["seeds"], key=lambda each: each["score"])
    assert config["train"]["seed"] == best["seed"]
    # The next epochs are trained, and no others.
    longer = sweep("--trials", 4, "--train.epochs", 5)
    assert {each["epochs"] for each in longer["trials"]} == {5}
    assert epochs_trained(tmp_path / "s.run/trials/0001") == [1, 2, 3, 4, 5]


def test_translations_are_compared_and_several_seeds_are_one_trial(
    cluster: Cluster, small_corpus: Path, tmp_path: Path
) -> None:
    done = cluster.s2s(
        "tune", "demo", "--corpus", small_corpus, "--out", tmp_path / "s", "--objective", "chrf",
        "--seeds", 2, "--trials", 2, "--train.epochs", 2, "--hidden-sizes", 16, 32,
        "--searcher", "optuna", "--cost", "parameters",
    )  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "s" / "sweep.json").read_text())
    scores = json.loads((tmp_path / "s" / "best" / "metrics.json").read_text())["scores"]
    finished = [each for each in told["trials"] if each["status"] == "finished"]
    assert finished
    for trial in finished:
        assert len(trial["seeds"]) == 2
        assert trial["spread"] is not None
        assert trial["best"]["valid_chrf"] == trial["seeds"][0]["score"]
    best = max(
        (seed["score"] for each in told["trials"] if each["number"] == told["best"]
         for seed in each["seeds"]),
    )  # fmt: skip
    [chrf] = [each["score"] for each in scores if each["name"] == "chrF2"]
    assert chrf == pytest.approx(best)
