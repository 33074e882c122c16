"""One real Ray cluster for all system tests, and what they train on it once."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import Cluster, s2s, start_head

# Of the runs that are compared to each other, whatever happens to one of them.
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


@pytest.fixture(scope="package")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus directory of a thousand short made-up sentences."""
    folder = tmp_path_factory.mktemp("small")
    words = ["red", "blue", "old", "new", "big", "small", "dog", "cat", "tree", "house"]
    pairs = [f"The {a} {b} {c}.\tLe {c} {b} {a}.\n" for a in words for b in words for c in words]
    source = folder / "pairs.txt"
    source.write_text("".join(pairs), encoding="utf-8")
    done = s2s("prepare", "demo", "--source", source, "--out", folder / "corpus")
    assert done.code == 0, done.err
    return folder / "corpus"


@pytest.fixture(scope="package")
def run(small_corpus: Path) -> tuple[object, ...]:
    """The command of the runs that are compared to each other, but for --workers and --out."""
    return ("train", "demo", "--corpus", small_corpus, *RUN)


@pytest.fixture(scope="package")
def two_workers(
    cluster: Cluster, run: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The model directory of a run of two workers that nothing happened to.

    Beside it are what the command said, `said.txt`, its checkpoints, `kept`, and what Prometheus
    was told, `prometheus.txt`: Ray forgets the values of a process that has ended.
    """
    out = tmp_path_factory.mktemp("train") / "two"
    kept = f"file://{out.parent}/kept"
    done = cluster.s2s(*run, "--workers", 2, "--out", out, "--profile", "--checkpoints", kept)
    assert done.code == 0, done.err
    (out.parent / "said.txt").write_text(done.out)
    (out.parent / "prometheus.txt").write_text(httpx.get(cluster.metrics, timeout=10).text)
    return out
