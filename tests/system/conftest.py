"""One real Ray cluster for all system tests, and the commands as a user runs them."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from s2s.distributed import ports

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on, and that was not given before.

    The system may offer a port that was let go a moment ago again: Ray refuses to start with one
    port for two of its parts.
    """
    while True:
        port = ports.free_port()
        if port not in _given:
            _given.add(port)
            return port


@dataclass
class Cluster:
    """A head node started with `ray start`, and how to reach it."""

    address: str
    dashboard: str
    env: dict[str, str] = field(repr=False)
    pid: int  # of the head's process
    metrics: str  # where it tells Prometheus

    def s2s(self, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run an `s2s` command on this cluster to its end."""
        return subprocess.run(
            [BIN / "s2s", *map(str, arguments)],
            env={**self.env, "RAY_ADDRESS": self.address},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start an `s2s` command on this cluster; its output is one stream."""
        return subprocess.Popen(
            [BIN / "s2s", *map(str, arguments)],
            env={**self.env, "RAY_ADDRESS": self.address, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, *entrypoint: object, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """Run a job on this cluster with `ray job submit`, the repository as its code."""
        return subprocess.run(
            [BIN / "ray", "job", "submit", "--address", self.dashboard, "--working-dir",
             str(REPOSITORY), "--", sys.executable, *map(str, entrypoint)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )  # fmt: skip


def start_head(
    folder: Path,
    cpus: int,
    *options: str,
    before: Callable[[str], None] = lambda gcs: None,
    **extra: str,
) -> tuple[Cluster, "Head"]:
    """Start a head node with ports and a folder of its own; `before` is told its address."""
    gcs, dashboard, metrics = free_port(), free_port(), free_port()
    env = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        **extra,
    }
    env.pop("RAY_ADDRESS", None)
    command = [
        BIN / "ray", "start", "--head", "--block", "--disable-usage-stats",
        "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--num-cpus={cpus}",
        f"--temp-dir={folder}", f"--ray-client-server-port={free_port()}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}",
        f"--dashboard-agent-grpc-port={free_port()}", f"--metrics-export-port={metrics}",
        *options,
    ]  # fmt: skip
    before(f"127.0.0.1:{gcs}")
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(
        command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    head = Head(process)
    cluster = Cluster(
        f"127.0.0.1:{gcs}",
        f"http://127.0.0.1:{dashboard}",
        env,
        process.pid,
        f"http://127.0.0.1:{metrics}/metrics",
    )
    for _ in range(120):
        try:
            httpx.get(f"{cluster.dashboard}/api/version", timeout=2).raise_for_status()
            return cluster, head
        except httpx.HTTPError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    head.stop()
    raise RuntimeError(f"the head did not start:\n{(folder / 'head.log').read_text()}")


@dataclass
class Head:
    """The process of a head node."""

    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End this head and all that it started, and no other Ray."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real cluster of two CPUs, with its dashboard."""
    with tempfile.TemporaryDirectory(prefix="s2s-ray-", ignore_cleanup_errors=True) as folder:
        cluster, head = start_head(Path(folder), 2)
        yield cluster
        head.stop()


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus directory of a few hundred short made-up sentences."""
    folder = tmp_path_factory.mktemp("small")
    words = ["red", "blue", "old", "new", "big", "small", "dog", "cat", "tree", "house"]
    pairs = [f"The {a} {b} {c}.\tLe {c} {b} {a}.\n" for a in words for b in words for c in words]
    source = folder / "pairs.txt"
    source.write_text("".join(pairs), encoding="utf-8")
    done = subprocess.run(
        [BIN / "s2s", "prepare", "demo", "--source", source, "--out", folder / "corpus"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "corpus"
