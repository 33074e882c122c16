"""Ports of this host."""

from s2s.distributed import ports

_given: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on, and that was not given before.

    The system may offer a port that was let go a moment ago again: Ray refuses to start with one
    port for two of its parts.
    """
    while (port := ports.free_port()) in _given:
        pass
    _given.add(port)
    return port
