"""Load generator of `benchmarks.serve`: a process that sends requests and times the responses.

`python -m benchmarks.load` reads a `Load` as JSON from standard input and prints its measurements
as JSON. Connections speak HTTP/1.1 and are reused. Requests are encoded beforehand, and responses
are compared with the expected ones once the clock has stopped, so that the measured time has little
work besides the sockets' own.

- `closed`: every connection sends its next request when the response has arrived.
- `open`: requests come at random times (a Poisson process) regardless of earlier ones; a request
  that finds no free connection opens another. Latencies count from the time at which the request
  was due, so that a slow server does not reduce the load that it is measured with.
- `overload`: `open`, and then one request after another until the server has recovered.
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import uvloop

DRAIN_TIMEOUT = 45.0  # seconds to wait for outstanding responses; a server gives up after 30
PROBES = 20  # requests that measure the latency of an idle server
RECOVERED = 5.0  # times that latency, at most: an overloaded server has recovered
PROBE_PAUSE = 0.05  # seconds between two probes


@dataclass(frozen=True)
class Load:
    """Requests to send, and the times at which to send them."""

    port: int
    kind: str  # closed, open or overload
    texts: list[str]  # in the order in which they are sent
    translations: list[str]  # the expected one of each text
    languages: list[str]  # source and target
    list_size: int  # texts in a request; 0 for one text that is not in a list
    connections: int  # of a closed loop; of an open loop, those at the start
    max_connections: int  # of an open loop
    rate: float  # requests/s of an open loop
    warm_up: float  # seconds before the measurement
    seconds: float  # of the measurement
    seed: int


class Response(NamedTuple):
    """Response to a request, and its times by the clock of `time.perf_counter`."""

    number: int  # of the request
    due: float  # when the request was to be sent
    received: float
    status: int  # 0: the connection broke
    body: bytes

    @property
    def latency(self) -> float:
        """Seconds from the time at which the request was due."""
        return self.received - self.due


class Requests:
    """Encoded requests, which come round again after the last, and the expected responses."""

    def __init__(self, load: Load) -> None:
        texts, translations, count = load.texts, load.translations, max(load.list_size, 1)
        groups = [
            [(start + n) % len(texts) for n in range(count)]
            for start in range(0, len(texts), count)
        ]
        single = not load.list_size
        self._bytes = [_request(load, _q([texts[i] for i in group], single)) for group in groups]
        self._expected = [_q([translations[i] for i in group], single) for group in groups]
        self._next = 0

    def next(self) -> tuple[int, bytes]:
        """Return the next request and its number."""
        number = self._next % len(self._bytes)
        self._next += 1
        return number, self._bytes[number]

    def matches(self, response: Response) -> bool:
        """Return whether a response has the expected translations."""
        try:
            translated = json.loads(response.body)["translatedText"]
        except (ValueError, KeyError, TypeError):
            return False
        return bool(translated == self._expected[response.number])


class Connection(asyncio.Protocol):
    """HTTP connection with at most one request in flight.

    Args:
        on_response: called with each response, also if the connection broke.
    """

    def __init__(self, on_response: Callable[["Connection", Response], None]) -> None:
        self.on_response = on_response
        self._transport: Any = None
        self._received = b""
        # The bytes of the last 429: HAProxy's are all the same, and need not be parsed again.
        self._refusal = b""
        self._number, self._due, self._in_flight = 0, 0.0, False

    @property
    def open(self) -> bool:
        """Whether the connection can take a request."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: Any) -> None:
        """Store the transport; asyncio calls this."""
        self._transport = transport

    def send(self, number: int, request: bytes, due: float) -> None:
        """Send a request."""
        self._number, self._due, self._in_flight = number, due, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes received so far; asyncio calls this."""
        self._received = self._received + data if self._received else data
        if self._received == self._refusal:
            self._received = b""
            self._finish(429, b"")
            return
        parsed = _parse_response(self._received)
        if parsed is None or not self._in_flight:
            return
        status, body, closes = parsed
        if status == 429 and not closes:
            self._refusal = self._received
        self._received = b""
        if closes:
            self._transport.close()
        self._finish(status, body)

    def connection_lost(self, error: Exception | None) -> None:
        """End the request in flight, if any, with status 0; asyncio calls this."""
        self._transport = None
        if self._in_flight:
            self._finish(0, repr(error).encode())

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _finish(self, status: int, body: bytes) -> None:
        self._in_flight = False
        response = Response(self._number, self._due, time.perf_counter(), status, body)
        self.on_response(self, response)


class Generator:
    """Sender of a load, from its first request to the last response."""

    def __init__(self, load: Load) -> None:
        self._load, self._requests = load, Requests(load)
        self._responses: list[Response] = []
        self._end = 0.0  # of the measurement
        self._in_flight = 0  # requests without a response
        self._idle: list[Connection] = []
        self._opened = 0  # connections
        self._waiting: deque[float] = deque()  # due times of requests without a connection
        self._done = asyncio.Event()

    async def closed(self) -> dict[str, Any]:
        """Run a closed loop; return its measurements."""
        begin = time.perf_counter() + self._load.warm_up
        self._end = begin + self._load.seconds

        def send_next(connection: Connection, response: Response) -> None:
            self._responses.append(response)
            self._in_flight -= 1
            if response.received >= self._end:
                connection.close()
                if not self._in_flight:
                    self._done.set()
            elif connection.open:
                self._send(connection, response.received)
            else:
                tasks.add(asyncio.ensure_future(start()))

        async def start() -> None:
            self._in_flight += 1
            connection = await self._connect(send_next)
            self._in_flight -= 1
            self._send(connection, time.perf_counter())

        tasks = {asyncio.ensure_future(start()) for _ in range(self._load.connections)}
        await asyncio.gather(*tasks)
        cpu = time.process_time()
        missing = await self._drain()
        cpu = time.process_time() - cpu
        counted = [r for r in self._responses if begin <= r.received < self._end]
        summary = self._summary(counted, self._load.seconds, missing)
        return {**summary, "generator_cores": cpu / (self._load.warm_up + self._load.seconds)}

    async def open(self) -> dict[str, Any]:
        """Run an open loop to the last due request; return the state that it ends in.

        `open_summary` waits for the outstanding responses.
        """
        load = self._load
        for _ in range(load.connections):
            self._opened += 1
            self._idle.append(await self._connect(self._release))
        rng = random.Random(load.seed)  # noqa: S311
        cpu, now = time.process_time(), time.perf_counter()
        begin = now + load.warm_up
        self._end = begin + load.seconds
        due = now + rng.expovariate(load.rate)
        while due < self._end:
            now = time.perf_counter()
            while due <= now and due < self._end:
                self._start(due)
                due += rng.expovariate(load.rate)
            await asyncio.sleep(max(due - now, 0.001))  # the event loop's clock counts milliseconds
        cpu = time.process_time() - cpu
        left = self._in_flight + len(self._waiting)
        return {
            "begin": begin,
            "left_at_end": left,
            "connections": self._opened,
            "generator_cores": cpu / (load.warm_up + load.seconds),
        }

    async def open_summary(self, state: dict[str, Any]) -> dict[str, Any]:
        """Wait for the outstanding responses of an open loop; return its measurements.

        Latencies are of the requests that were due during the measurement, rates of the responses
        that were received during it.

        Args:
            state: what `open` returned.
        """
        missing = await self._drain()
        begin = state["begin"]
        counted = [r for r in self._responses if r.due >= begin]
        in_time = sum(r.status == 200 and begin <= r.received < self._end for r in self._responses)
        summary = self._summary(counted, self._load.seconds, missing)
        summary["requests_per_second"] = in_time / self._load.seconds
        summary["sentences_per_second"] = (
            in_time * max(self._load.list_size, 1) / self._load.seconds
        )
        return {**state, **summary, "offered_per_second": len(counted) / self._load.seconds}

    async def _drain(self) -> int:
        """Wait for outstanding responses; return the number of those that did not arrive."""
        if self._in_flight or self._waiting:
            try:
                await asyncio.wait_for(self._done.wait(), self._load.seconds + DRAIN_TIMEOUT)
            except TimeoutError:
                return self._in_flight + len(self._waiting)
        return 0

    async def _connect(self, on_response: Callable[[Connection, Response], None]) -> Connection:
        return await _connect(self._load.port, on_response)

    def _send(self, connection: Connection, due: float) -> None:
        self._in_flight += 1
        number, request = self._requests.next()
        connection.send(number, request, due)

    def _start(self, due: float) -> None:
        """Send a request of an open loop that is due, or queue it for a connection."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._send(connection, due)
                return
            self._opened -= 1
        self._waiting.append(due)
        if self._opened < self._load.max_connections:
            self._opened += 1
            asyncio.ensure_future(self._open_another())  # noqa: RUF006

    async def _open_another(self) -> None:
        try:
            connection = await self._connect(self._release)
        except OSError as error:
            self._opened -= 1
            if self._waiting:
                due, now = self._waiting.popleft(), time.perf_counter()
                self._responses.append(Response(0, due, now, 0, repr(error).encode()))
            self._reuse(None)
        else:
            self._reuse(connection)

    def _release(self, connection: Connection, response: Response) -> None:
        """Store a response of an open loop, and reuse or replace its connection."""
        self._responses.append(response)
        self._in_flight -= 1
        if connection.open:
            self._reuse(connection)
            return
        self._opened -= 1
        if self._waiting and self._opened < self._load.max_connections:
            self._opened += 1
            asyncio.ensure_future(self._open_another())  # noqa: RUF006
        self._reuse(None)

    def _reuse(self, connection: Connection | None) -> None:
        """Send the longest-waiting request over a free connection, if there is one."""
        if connection is not None:
            if self._waiting:
                self._send(connection, self._waiting.popleft())
            else:
                self._idle.append(connection)
        if not (self._in_flight or self._waiting) and time.perf_counter() >= self._end:
            self._done.set()

    def _summary(self, responses: list[Response], seconds: float, missing: int) -> dict[str, Any]:
        statuses = Counter(str(response.status) for response in responses)
        good = [response for response in responses if response.status == 200]
        wrong = [response for response in good if not self._requests.matches(response)]
        rate = len(good) / seconds
        return {
            "requests_per_second": rate,
            "sentences_per_second": rate * max(self._load.list_size, 1),
            "latency": _latencies(good),
            "statuses": dict(statuses),
            "errors": len(responses) - len(good) - statuses["429"],
            "missing": missing,
            "mismatches": len(wrong),
            "wrong": [r.body.decode("utf-8", "replace")[:500] for r in wrong[:3]],
            "refused_latency": _latencies([r for r in responses if r.status == 429]),
        }


async def _connect(port: int, on_response: Callable[[Connection, Response], None]) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(on_response), "127.0.0.1", port)
    return connection


async def _probe(load: Load, until: Callable[[Response, int], bool]) -> list[Response]:
    """Send one request after another over one connection; return the responses.

    Args:
        until: given a response and the number of responses so far, whether it is the last one.
    """
    requests, responses = Requests(load), list[Response]()
    loop, connection = asyncio.get_running_loop(), None
    while not responses or not until(responses[-1], len(responses)):
        await asyncio.sleep(PROBE_PAUSE if responses else 0)
        arrived: asyncio.Future[Response] = loop.create_future()
        if connection is None or not connection.open:
            connection = await _connect(load.port, lambda _, response: None)
        connection.on_response = lambda _, response, arrived=arrived: arrived.set_result(response)
        connection.send(*requests.next(), time.perf_counter())
        responses.append(await arrived)
    if connection is not None:
        connection.close()
    return responses


async def _run(load: Load) -> dict[str, Any]:
    generator = Generator(load)
    gc.disable()  # the collector would traverse all stored responses again and again
    if load.kind == "closed":
        return await generator.closed()
    if load.kind == "open":
        return await generator.open_summary(await generator.open())
    idle = await _probe(load, lambda _, number: number >= PROBES)
    idle_latency = sorted(response.latency for response in idle)[len(idle) // 2]

    def has_recovered(response: Response) -> bool:
        return response.status == 200 and response.latency <= RECOVERED * idle_latency

    state = await generator.open()
    end = time.perf_counter()
    probes = await _probe(load, lambda r, _: has_recovered(r) or r.received > end + DRAIN_TIMEOUT)
    last = probes[-1]
    summary = await generator.open_summary(state)
    recovery = last.received - end if has_recovered(last) else None
    return {**summary, "calm_seconds": idle_latency, "recovery_seconds": recovery}


def _q(texts: list[str], single: bool) -> str | list[str]:
    """Return the field `q` of a request, or the `translatedText` of its response."""
    return texts[0] if single else texts


def _request(load: Load, q: str | list[str]) -> bytes:
    fields = {"q": q, "source": load.languages[0], "target": load.languages[1]}
    body = json.dumps(fields, ensure_ascii=False).encode()
    head = (
        f"POST /translate HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _parse_response(received: bytes) -> tuple[int, bytes, bool] | None:
    """Parse an HTTP response.

    Returns:
        Status, body and whether the server closes the connection; None for an incomplete response.
    """
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    lines = head.lower().split(b"\r\n")
    status, length, closes = int(lines[0][9:12]), None, False
    for line in lines[1:]:
        if line.startswith(b"content-length:"):
            length = int(line[15:])
        elif line.startswith(b"connection:"):
            closes = b"close" in line
        elif line.startswith(b"transfer-encoding:"):
            if not body.endswith(b"0\r\n\r\n"):
                return None
            return status, _join_chunks(body), closes
    if length is None:
        raise ValueError(f"a response without a length: {head!r}")
    return (status, body, closes) if len(body) >= length else None


def _join_chunks(chunks: bytes) -> bytes:
    """Decode a body of chunked transfer encoding."""
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        body, chunks = body + chunks[:length], chunks[length + 2 :]
    return body


def _latencies(responses: list[Response]) -> dict[str, float] | None:
    """Return mean, percentiles and maximum of latencies in seconds; None without responses."""
    if not responses:
        return None
    times = sorted(response.latency for response in responses)
    statistics = {"mean": sum(times) / len(times), "max": times[-1]}
    for percent in (50, 95, 99):
        statistics[f"p{percent}"] = times[min(len(times) * percent // 100, len(times) - 1)]
    return statistics


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(Load(**json.load(sys.stdin))))))
