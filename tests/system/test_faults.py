"""Training that loses workers, its driver or a node, and goes on to the very same weights."""

import json
import os
import random
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from s2s.training.checkpoints import Checkpoints
from tests.support.cluster import BIN, Cluster, start_head
from tests.support.ports import free_port
from tests.support.serving import until


def reached(out: Path, steps: int) -> Callable[[], bool]:
    """Whether a run has written a checkpoint of so many steps."""
    kept = Checkpoints(out.with_name(f"{out.name}.run") / "checkpoints")
    return lambda: any(checkpoint.steps >= steps for checkpoint in kept.all())


def losses(model: Path) -> list[tuple[float, float]]:
    told = json.loads((model / "metrics.json").read_text())["epochs"]
    return [(epoch["train_loss"], epoch["valid_loss"]) for epoch in told]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two model directories have weights that are equal to the bit."""
    first, second = (load_file(model / "model.safetensors") for model in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_worker_a_killed_driver_and_ctrl_c_leave_the_weights_as_they_are(
    cluster: Cluster, run: tuple[object, ...], two_workers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hurt"
    command = (*run, "--workers", 2, "--out", out)

    chance = random.Random(15)
    process = cluster.start(*command)
    until(reached(out, chance.randint(30, 60)), every=0.1)
    os.kill(chance.choice(cluster.processes("RayTrainWorker")), signal.SIGKILL)
    until(reached(out, chance.randint(90, 120)), every=0.1)
    process.kill()
    told, _ = process.communicate(timeout=30)
    assert "a worker has failed" in told
    assert told.count("resuming from the checkpoint of step") == 1

    process = cluster.start(*command)
    until(reached(out, chance.randint(135, 165)), every=0.1)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 3, told
    assert "resuming from the checkpoint of step" in told
    assert "which is saved" in told
    assert "again to resume" in told
    assert not out.exists()

    changed = cluster.s2s(*command, "--train.learning-rate", "0.1")
    assert changed.code == 2  # the run folder belongs to other settings
    assert "--restart" in changed.err

    done = cluster.s2s(*command)
    assert done.code == 0, done.err
    assert losses(out) == losses(two_workers)
    assert same_weights(out, two_workers)
    # One curve, although steps were done twice: what was told of lost work is gone.
    lines = (tmp_path / "hurt.run/metrics.jsonl").read_text().splitlines()
    steps = [told["step"] for line in lines if "train/loss" in (told := json.loads(line))]
    assert steps == sorted(set(steps))


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
        "RAY_health_check_failure_threshold": "2",
        "RAY_health_check_initial_delay_ms": "500",
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
            until(lambda: bool(alive(cluster) - before))
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
    """The ids of the nodes of a cluster."""
    from ray._raylet import GcsClient

    told = GcsClient(address=cluster.address).get_all_node_info(timeout=10)
    return {name.hex() for name, node in told.items() if node.state == 0}


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
    until(reached(out, 300), every=0.1)
    first.kill()
    add()
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "resuming from the checkpoint of step" in told
    assert losses(out) == losses(whole)
    assert same_weights(out, whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
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

    heard("epoch 2/")
    second = add()
    heard("continuing with 2 workers")
    heard("resuming from the checkpoint of step")
    heard("2 workers with 1 thread each")
    heard("epoch ")
    heard("epoch ")
    second.kill()
    heard("a worker has failed")
    heard("resuming from the checkpoint of step")
    heard("1 worker with 1 thread on")
    rest, _ = process.communicate(timeout=300)
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
    until(reached(out, 200), every=0.1)
    subprocess.run(
        [BIN / "ray", "drain-node", "--address", cluster.address, "--node-id", node.id,
         "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
         "--deadline-remaining-seconds", "8"],
        env=cluster.env, check=True, capture_output=True,
    )  # fmt: skip
    add()
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "a node is about to go: saving" in told
    [line] = [line for line in told.splitlines() if "resuming from the checkpoint" in line]
    step = int(line.split("step ")[1].split(" ")[0].replace(",", ""))
    lines = map(json.loads, (tmp_path / "model.run/metrics.jsonl").read_text().splitlines())
    ends = {line["step"] for line in lines if "valid/loss" in line}
    assert len(ends) == 40
    assert step not in ends  # not the end of an epoch, so it was the one that was asked for
