"""Addresses to listen on."""

import ipaddress
import os
import socket

from s2s.errors import BadInput

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


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this host alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url(host: str, port: int) -> str:
    """Return the URL at which this host reaches what listens on an address."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{_bracketed(reached)}:{port}"


def ray_is_on_loopback() -> bool:
    """Return whether the Ray of this process's environment listens on loopback alone."""
    return all(os.environ.get(name) == value for name, value in LOOPBACK.items())


def require_free(host: str, port: int) -> None:
    """Return if an address can be listened on.

    Raises:
        BadInput: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadInput(f"cannot listen on {_bracketed(host)}:{port}: {reason}") from None


def _bracketed(host: str) -> str:
    """Return an address as a URL has it."""
    return f"[{host}]" if ":" in host else host
