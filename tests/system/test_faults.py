"""Training that loses workers, its driver or a node, and goes on to the very same weights."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file

from s2s.corpus import Corpus
from s2s.model.directory import read_config
from tests.support.cluster import BIN, Cluster, start_head
from tests.support.ports import free_port
from tests.support.serving import until
from tests.support.training import Weights, together
from tests.system.conftest import HurtRun, reached, steps_of


def run_checkpoints(out: Path) -> Path:
    return out.with_name(f"{out.name}.run") / "checkpoints"


def losses(model: Path) -> list[tuple[float, float]]:
    told = json.loads((model / "metrics.json").read_text())["epochs"]
    return [(epoch["train_loss"], epoch["valid_loss"]) for epoch in told]


def weights_of(model: Path) -> Weights:
    return load_file(model / "model.safetensors")


def same_weights(one: Weights, other: Weights) -> bool:
    """Return whether all weights are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_killed_worker_and_ctrl_c_leave_the_weights_as_they_are(
    hurt_run: HurtRun, small_corpus: Path, tmp_path: Path
) -> None:
    stopped = hurt_run.stopped
    assert stopped.code == 3, stopped.out
    assert "a worker has failed" in stopped.out
    assert stopped.out.count("resuming from the checkpoint of step") == 1
    assert "which is saved" in stopped.out
    assert "again to resume" in stopped.out
    assert hurt_run.finished.out.count("resuming from the checkpoint of step") == 1

    weights, metrics = together(
        2, Corpus.open(small_corpus), read_config(hurt_run.model), tmp_path / "unharmed"
    )
    epochs = [(epoch.train_loss, epoch.valid_loss) for epoch in metrics.epochs]
    assert losses(hurt_run.model) == epochs
    last = max(hurt_run.checkpoints.glob("step-*"))
    assert same_weights(load_file(last / "model.safetensors"), weights)
    # One curve, although steps were done twice: what was logged of lost work is gone.
    lines = hurt_run.model.with_name("model.run").joinpath("metrics.jsonl").read_text().splitlines()
    steps = [told["step"] for line in lines if "train/loss" in (told := json.loads(line))]
    assert steps == sorted(set(steps))


def test_a_run_is_not_resumed_with_other_settings(hurt_run: HurtRun) -> None:
    assert hurt_run.refused.code == 2
    assert "--restart" in hurt_run.refused.err


@pytest.mark.slow
def test_a_killed_driver_leaves_the_weights_as_they_are(
    cluster: Cluster, run: tuple[object, ...], hurt_run: HurtRun, tmp_path: Path
) -> None:
    out = tmp_path / "orphan"
    command = (*run, "--workers", 2, "--out", out)
    process = cluster.start(*command)
    until(reached(run_checkpoints(out), 90), every=0.1)
    process.kill()
    process.communicate(timeout=30)
    done = cluster.s2s(*command)
    assert done.code == 0, done.err
    assert "resuming from the checkpoint of step" in done.out
    assert losses(out) == losses(hurt_run.model)
    assert same_weights(weights_of(out), weights_of(hurt_run.model))


# ---- nodes --------------------------------------------------------------------------------------


@dataclass
class Node:
    """A node that was added to a cluster."""

    process: subprocess.Popen[bytes]
    id: str

    def kill(self) -> None:
        """End the node and all that runs on it, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def growing() -> Iterator[tuple[Cluster, Callable[[], Node]]]:
    """A cluster whose head has no CPU, and how to add a node of one CPU."""
    quick = {
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "6",
        "RAY_health_check_initial_delay_ms": "500",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5",
    }
    nodes: list[Node] = []
    with tempfile.TemporaryDirectory(prefix="s2s-ray-", ignore_cleanup_errors=True) as folder:
        cluster, head = start_head(Path(folder), 0, **quick)
        until(lambda: len(alive(cluster)) == 1)

        def add() -> Node:
            before = alive(cluster)
            process = subprocess.Popen(
                [BIN / "ray", "start", "--block", f"--address={cluster.address}", "--num-cpus=1",
                 "--node-ip-address=127.0.0.1", "--disable-usage-stats",
                 "--object-store-memory=100000000",
                 f"--dashboard-agent-listen-port={free_port()}",
                 f"--dashboard-agent-grpc-port={free_port()}",
                 f"--metrics-export-port={free_port()}"],
                env=cluster.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            until(lambda: bool(alive(cluster) - before), seconds=240)
            [new] = alive(cluster) - before
            nodes.append(Node(process, new))
            return nodes[-1]

        try:
            yield cluster, add
        finally:
            for node in nodes:
                if node.process.poll() is None:
                    node.kill()
            head.stop()


def alive(cluster: Cluster) -> set[str]:
    """Return the ids of the nodes of a cluster that are alive."""
    # Ray's own `list_nodes` asks the cluster that this process is connected to, whatever address it
    # is given.
    answer = httpx.get(f"{cluster.dashboard}/api/v0/nodes", timeout=30).raise_for_status().json()
    nodes = answer["data"]["result"]["result"]
    return {node["node_id"] for node in nodes if node["state"] == "ALIVE"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_node_leaves_the_weights_as_they_are(
    growing: tuple[Cluster, Callable[[], Node]], run: tuple[object, ...], tmp_path: Path
) -> None:
    cluster, add = growing
    first, _ = add(), add()
    whole, out = tmp_path / "whole", tmp_path / "hurt"
    command = (*run, "--workers", 2, "--out")
    done = cluster.s2s(*command, whole)
    assert done.code == 0, done.err
    process = cluster.start(*command, out)
    until(reached(run_checkpoints(out), 300), every=0.1)
    first.kill()
    add()
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "resuming from the checkpoint of step" in told
    assert losses(out) == losses(whole)
    assert same_weights(weights_of(out), weights_of(whole))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_an_elastic_run_grows_and_shrinks_along_the_same_losses(
    growing: tuple[Cluster, Callable[[], Node]], run: tuple[object, ...], tmp_path: Path
) -> None:
    cluster, add = growing
    add()
    long = (*run, "--train.epochs", 150, "--train.learning-rate", "5e-4",
            "--train.precision", "fp32", "--out")  # fmt: skip
    whole, out = tmp_path / "whole", tmp_path / "elastic"
    done = cluster.s2s(*long, whole)
    assert done.code == 0, done.err
    process = cluster.start(*long, out, "--workers", "1:2", "--resize", 1)
    assert process.stdout is not None
    told: list[str] = []

    def heard(what: str) -> None:
        for line in process.stdout or ():
            told.append(line)
            if what in line:
                return
        raise AssertionError(f"never said {what!r}: {told}")

    heard(" 2/150")
    second = add()
    heard("continuing with 2 workers")
    heard("resuming from the checkpoint of step")
    heard("2 workers with 1 thread each")
    heard("/150")
    heard("/150")
    second.kill()
    heard("does not answer: restarting the workers from the last checkpoint")
    heard("resuming from the checkpoint of step")
    heard("1 worker with 1 thread on")
    rest, _ = process.communicate(timeout=900)
    assert process.returncode == 0, [*told, rest]
    for (train, valid), (other, other_valid) in zip(losses(out), losses(whole), strict=True):
        # Sums in another order, over 17,000 steps.
        assert train == pytest.approx(other, rel=1e-3, abs=2e-4)
        assert valid == pytest.approx(other_valid, rel=1e-3, abs=2e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_notice_of_preemption_is_answered_with_a_checkpoint(
    growing: tuple[Cluster, Callable[[], Node]], run: tuple[object, ...], tmp_path: Path
) -> None:
    cluster, add = growing
    node = add()
    out = tmp_path / "model"
    process = cluster.start(
        *run, "--out", out, "--train.epochs", 40, "--train.checkpoint-steps", 1_000_000
    )
    until(reached(run_checkpoints(out), 200), every=0.1)
    subprocess.run(
        [BIN / "ray", "drain-node", "--address", cluster.address, "--node-id", node.id,
         "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
         "--deadline-remaining-seconds", "8"],
        env=cluster.env, check=True, capture_output=True,
    )  # fmt: skip
    # A checkpoint that is not of the end of an epoch (906 sentences in eights) was asked for.
    until(lambda: any(steps % 114 for steps in steps_of(run_checkpoints(out))), every=0.05)
    add()
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "a node is about to go: saving" in told
    assert told.count("resuming from the checkpoint") == 1
    lines = map(json.loads, (tmp_path / "model.run/metrics.jsonl").read_text().splitlines())
    ends = {line["step"] for line in lines if "valid/loss" in line}
    assert len(ends) == 40
