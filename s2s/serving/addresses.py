"""Addresses that a service listens on."""

import errno
import ipaddress
import os
import socket

from s2s.errors import BadInput

_NEAR = 20  # ports above a taken one that are tried


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


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address and does not listen yet.

    `::` is every address of this host, with IPv4 as well.

    Raises:
        BadInput: the address cannot be listened on.
    """
    try:
        return _bind(host, port)
    except (OSError, OverflowError) as error:
        reason = _reason(error, host, port)
        raise BadInput(f"cannot listen on {_bracketed(host)}:{port}: {reason}") from None


def require_free(host: str, port: int) -> None:
    """Return if an address can be listened on.

    Raises:
        BadInput: it cannot.
    """
    bound_socket(host, port).close()


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound


def _reason(error: OSError | OverflowError, host: str, port: int) -> str:
    """Return why an address cannot be bound, and which port is free if the port is the reason."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return f"port {port} is taken; --port {_free_port(host, port + 1)} is free"
    if number == errno.EACCES:
        return f"only root may listen on port {port}; --port {_free_port(host, 8000)} is free"
    if number == errno.EADDRNOTAVAIL:
        return "this machine does not have the address"
    return os.strerror(number) if number and number > 0 else str(error)


def _free_port(host: str, first: int) -> int:
    """Return the first free port of a few, or else any free one."""
    for port in [*range(first, min(first + _NEAR, 65_536)), 0]:
        try:
            with _bind(host, port) as bound:
                free: int = bound.getsockname()[1]
                return free
        except OSError:
            continue
    return 0


def _bracketed(host: str) -> str:
    """Return an address as a URL has it."""
    return f"[{host}]" if ":" in host else host
