"""Real Ray clusters, and the commands on them: in this process, in one of its own, as a job."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import httpx
import psutil

from s2s.cli.main import main
from s2s.distributed.cluster import cluster as connection
from tests.support.ports import free_port

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


def s2s(*arguments: object, **environment: str) -> Done:
    """Run an `s2s` command in this process to its end, with its output as if it went to a file."""
    out, err = StringIO(), StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
    finally:
        os.environ.clear()
        os.environ.update(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Done(code, out.getvalue(), err.getvalue())


@dataclass
class Cluster:
    """A head node started with `ray start`, and how to reach it."""

    address: str
    dashboard: str
    env: dict[str, str] = field(repr=False)
    pid: int  # of the head's process
    metrics: str  # where it tells Prometheus
    _connected: bool = field(default=False, init=False, repr=False)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Have this process connected to the cluster, for all commands that it runs meanwhile."""
        os.environ["RAY_ADDRESS"] = self.address
        try:
            with connection():
                self._connected = True
                yield
        finally:
            self._connected = False
            os.environ.pop("RAY_ADDRESS", None)

    def s2s(self, *arguments: object) -> Done:
        """Run an `s2s` command on this cluster to its end.

        It runs in this process if that is connected to the cluster, and else in one of its own.
        """
        if self._connected:
            return s2s(*arguments, RAY_ADDRESS=self.address)
        done = subprocess.run(
            [BIN / "s2s", *map(str, arguments)],
            env={**self.env, "RAY_ADDRESS": self.address},
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start an `s2s` command on this cluster in a process of its own, to send signals to.

        Its output is one stream.
        """
        return start(*arguments, env={**self.env, "RAY_ADDRESS": self.address})

    def submit(self, *entrypoint: object) -> subprocess.Popen[str]:
        """Start a job on this cluster with `ray job submit`, the repository as its code.

        Its output is one stream.
        """
        return subprocess.Popen(
            [BIN / "ray", "job", "submit", "--address", self.dashboard, "--working-dir",
             str(REPOSITORY), "--", sys.executable, *map(str, entrypoint)],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def start_submit(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Start `s2s submit` for this cluster; its output is one stream."""
        given = ("--address", self.dashboard, "--python", sys.executable)
        return start("submit", *given, *arguments, env={**self.env, **environment})

    def processes(self, name: str) -> list[int]:
        """The processes of this cluster that have a name in their command line."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if name in " ".join(process.cmdline()):
                    found.append(process.pid)
        return found


def start(*arguments: object, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start an `s2s` command in a process of its own; its output is one stream."""
    return subprocess.Popen(
        [BIN / "s2s", *map(str, arguments)],
        env={**env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@dataclass
class Head:
    """The process of a head node."""

    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End this head and all that it started, and no other Ray."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(1)  # it would wait for its workers for longer
        except subprocess.TimeoutExpired:
            self.process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def start_head(
    folder: Path,
    cpus: int,
    *options: str,
    before: Callable[[str], None] = lambda gcs: None,
    **extra: str,
) -> tuple[Cluster, Head]:
    """Start a head node with ports and a folder of its own; `before` is told its address."""
    gcs, dashboard, metrics = free_port(), free_port(), free_port()
    env = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        # Each command would start processes that most have no use for.
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
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
            answer = httpx.get(f"{cluster.dashboard}/api/version", timeout=2)
            if answer.status_code != 401:  # which asks for a token
                answer.raise_for_status()
            return cluster, head
        except httpx.HTTPError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    head.stop()
    raise RuntimeError(f"the head did not start:\n{(folder / 'head.log').read_text()}")
