"""One real Ray cluster for all system tests, and what they train on it once."""

import os
import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from s2s.training.checkpoints import MANIFEST
from tests.support.cluster import Cluster, Done, s2s, start_head
from tests.support.hosts import HostCluster, hosts, ray_on, reason_for_none
from tests.support.serving import until

# Settings of the runs that are compared to each other, whatever happens to them.
RUN = (
    "--train.epochs", 5, "--train.batch-size", 8, "--train.checkpoint-steps", 15,
    "--train.keep-last", 3, "--train.log-steps", 10,
    "--train.average", "last", "--train.average-epochs", 2,
    "--model.hidden-size", 24, "--model.embedding-size", 16,
)  # fmt: skip


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """A real cluster of two CPUs, with its dashboard, that this process is connected to."""
    with tempfile.TemporaryDirectory(prefix="s2s-ray-", ignore_cleanup_errors=True) as folder:
        cluster, head = start_head(Path(folder), 2)
        try:
            with cluster.connected():
                yield cluster
        finally:
            head.stop()


@pytest.fixture
def three_hosts(tmp_path: Path) -> Iterator[HostCluster]:
    """A Ray cluster on three hosts: a head without CPUs, and two with one each.

    They share the folder `tmp_path / "shared"`.
    """
    if reason := reason_for_none():
        pytest.skip(reason)
    shared = tmp_path / "shared"
    shared.mkdir()
    with hosts(3, tmp_path / "hosts", [shared]) as three, ray_on(three) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus directory of a thousand short made-up sentences."""
    folder = tmp_path_factory.mktemp("small")
    words = ["red", "blue", "old", "new", "big", "small", "dog", "cat", "tree", "house"]
    pairs = [f"The {a} {b} {c}.\tLe {c} {b} {a}.\n" for a in words for b in words for c in words]
    source = folder / "pairs.txt"
    source.write_text("".join(pairs), encoding="utf-8")
    # The losses that tests expect are those of lossless sources.
    same = ("--text.source-normaliser", "same")
    done = s2s(
        "prepare",
        "demo",
        "--languages",
        "en-fr",
        "--source",
        source,
        "--out",
        folder / "corpus",
        *same,
    )
    assert done.code == 0, done.err
    return folder / "corpus"


@pytest.fixture(scope="package")
def run(small_corpus: Path) -> tuple[object, ...]:
    """The command of the runs that are compared to each other, but for --workers and --out."""
    return ("train", "demo", "--corpus", small_corpus, *RUN)


def steps_of(checkpoints: Path) -> list[int]:
    """Return the steps after which a run's checkpoints, as far as they are kept, were written."""
    manifests = checkpoints.glob(f"step-*/{MANIFEST}")
    return [int(manifest.parent.name.removeprefix("step-")) for manifest in manifests]


def reached(checkpoints: Path, steps: int) -> Callable[[], bool]:
    """Return what tells whether a run has written a checkpoint of so many steps."""
    return lambda: any(each >= steps for each in steps_of(checkpoints))


@dataclass(frozen=True)
class HurtRun:
    """A run of two workers that lost one, was stopped later, and then went on to its end."""

    model: Path
    checkpoints: Path
    stopped: Done  # the command that lost a worker, and then was sent SIGINT
    refused: Done  # the same with another learning rate
    finished: Done
    prometheus: str  # metrics as Ray exported them at the end: it forgets those of ended processes


@pytest.fixture(scope="package")
def hurt_run(
    cluster: Cluster, run: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> HurtRun:
    """The one run that tests of training look at: what they expect holds whatever happened to it.

    It loses a worker in its first epoch, and is stopped in its first or second.
    """
    folder = tmp_path_factory.mktemp("train")
    model, checkpoints = folder / "model", folder / "checkpoints"
    command = (
        *run, "--workers", 2, "--out", model, "--profile", "--checkpoints", f"file://{checkpoints}",
    )  # fmt: skip
    chance = random.Random(15)
    process = cluster.start(*command)
    until(reached(checkpoints, chance.randint(30, 60)), every=0.1, seconds=180)
    os.kill(chance.choice(cluster.processes("RayTrainWorker")), signal.SIGKILL)
    until(reached(checkpoints, chance.randint(90, 160)), every=0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert not model.exists()
    refused = cluster.s2s(*command, "--train.learning-rate", "0.1")
    # It is watched in another way from here on.
    finished = cluster.s2s(
        *command, "--bleu-every", 5, "--print-samples",
        "--track", "tensorboard", "tests.support.trackers:Lines",
    )  # fmt: skip
    assert finished.code == 0, finished.err
    return HurtRun(
        model,
        checkpoints,
        Done(process.returncode, output, ""),
        refused,
        finished,
        httpx.get(cluster.metrics, timeout=10).text,
    )


@pytest.fixture(scope="package")
def two_workers(hurt_run: HurtRun) -> Path:
    """The model directory of the run."""
    return hurt_run.model
