"""Server processes that benchmarks start, wait for and end."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import httpx

START_TIMEOUT = 120.0  # seconds
# Seconds until HAProxy routes to the replicas; until then Ray's slow fallback proxy does.
ROUTING_DELAY = 10.0


@dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own, which may not answer yet."""

    name: str
    process: subprocess.Popen[bytes]
    log: TextIO

    def wait_for_answer(self, request: httpx.Request) -> None:
        """Wait until the server answers a request with a status of success.

        Raises:
            SystemExit: the process has ended, or the server does not answer in time.
        """
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with httpx.Client(timeout=5, trust_env=False) as client:
                    client.send(request).raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.3)
        self.log.seek(0)
        raise SystemExit(f"{self.name} did not start:\n{self.log.read()[-2000:]}")


@contextmanager
def started(
    name: str,
    arguments: list[str],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[ServerProcess]:
    """Start a server in a process of its own, and end it with the block.

    Args:
        name: name of the server in errors.
        arguments: arguments of `python`.
        environment: environment of the process; by default that of this process.
        folder: working directory of the process; by default that of this process.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to this process, which ends the others
        )
        try:
            yield ServerProcess(name, process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def health_check(port: int) -> httpx.Request:
    """Return a request that asks a server of this host for its health."""
    return httpx.Request("GET", f"http://127.0.0.1:{port}/health")
