"""Ports and addresses of Ray and HAProxy."""

import os
import socket

# Ray's setting for its own ports: a host that is no part of a larger cluster listens on loopback.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


# The address that HAProxy listens on, where it isn't Serve's.
HAPROXY_HOST = "S2S_HAPROXY_HOST"


def free_port() -> int:
    """Return a port of this host that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ray_is_on_loopback() -> bool:
    """Return whether the Ray of this process's environment listens on loopback alone."""
    return all(os.environ.get(name) == value for name, value in LOOPBACK.items())
