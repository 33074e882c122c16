"""Requests for `benchmarks.serve`: a process that asks a server and times its answers.

`python -m benchmarks.load` reads a `Load` as JSON from standard input and prints what it measured.
Connections speak HTTP/1.1 and are kept; a request's bytes are made beforehand, and answers are
compared with what was expected once the clock has stopped, so that little but the sockets is at
work while it runs.

- `closed`: every connection sends the next request when its answer is there.
- `open`: requests come at random times (Poisson) whatever becomes of the earlier ones; one that
  finds no free connection opens another. A latency counts from the time at which the request was to
  be sent, so a server that is slow does not thin out the load that it is measured with.
- `overload`: `open`, and then one request after another until the server is itself again.
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

PATIENCE = 45.0  # seconds for answers that are still due; a server gives up after 30
PROBES = 20  # requests that tell how fast a calm server answers
CALM = 5.0  # times that, and a server that was overloaded is itself again
PAUSE = 0.05  # seconds between two probes


@dataclass(frozen=True)
class Load:
    """What to ask, and how."""

    port: int
    kind: str  # closed, open or overload
    texts: list[str]  # in the order in which they are asked
    answers: list[str]  # what is expected of each
    pair: list[str]  # source and target language
    each: int  # texts of a request; 0 for one that is not in a list
    connections: int  # of a closed loop, and of an open one at the start
    most: int  # connections of an open loop
    rate: float  # requests/s of an open loop
    warm_up: float  # seconds before those that count
    seconds: float  # that count
    seed: int


class Answer(NamedTuple):
    """How a request went."""

    number: int
    due: float  # when it was to be sent
    came: float
    status: int  # 0: the connection broke
    body: bytes

    @property
    def latency(self) -> float:
        """Seconds."""
        return self.came - self.due


class Requests:
    """The bytes of every request, and whether an answer is right."""

    def __init__(self, load: Load) -> None:
        texts, wanted, count = load.texts, load.answers, max(load.each, 1)
        places = [
            [(start + n) % len(texts) for n in range(count)]
            for start in range(0, len(texts), count)
        ]
        one = not load.each
        self._bytes = [_request(load, _q([texts[p] for p in some], one)) for some in places]
        self._wanted = [_q([wanted[p] for p in some], one) for some in places]
        self._next = 0

    def next(self) -> tuple[int, bytes]:
        """A request and its number; after the last one the first comes again."""
        number = self._next % len(self._bytes)
        self._next += 1
        return number, self._bytes[number]

    def right(self, answer: Answer) -> bool:
        """Whether it has the translations that were expected."""
        try:
            told = json.loads(answer.body)["translatedText"]
        except (ValueError, KeyError, TypeError):
            return False
        return bool(told == self._wanted[answer.number])


class Connection(asyncio.Protocol):
    """A connection that has one request on its way at most."""

    def __init__(self, told: Callable[["Connection", Answer], None]) -> None:
        self._told = told
        self._transport: Any = None
        self._got = b""
        self._refusal = b""  # the last one, as HAProxy sends them: all the same
        self._number, self._due, self._waits = 0, 0.0, False

    @property
    def open(self) -> bool:
        """Whether it can take a request."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: Any) -> None:
        """Called by asyncio."""
        self._transport = transport

    def ask(self, number: int, request: bytes, due: float) -> None:
        """Send a request."""
        self._number, self._due, self._waits = number, due, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._got = self._got + data if self._got else data
        if self._got == self._refusal:
            self._got = b""
            self._end(429, b"")
            return
        found = _answer(self._got)
        if found is None or not self._waits:
            return
        status, body, closes = found
        if status == 429 and not closes:
            self._refusal = self._got
        self._got = b""
        if closes:
            self._transport.close()
        self._end(status, body)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by asyncio."""
        self._transport = None
        if self._waits:
            self._end(0, repr(error).encode())

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()

    def _end(self, status: int, body: bytes) -> None:
        self._waits = False
        self._told(self, Answer(self._number, self._due, time.perf_counter(), status, body))


class Generator:
    """A load on a server, from its first request to its last answer."""

    def __init__(self, load: Load) -> None:
        self._load, self._requests = load, Requests(load)
        self._answers: list[Answer] = []
        self._end = 0.0
        self._running = 0  # requests without an answer
        self._idle: list[Connection] = []
        self._opened = 0
        self._waiting: deque[float] = deque()  # due, but without a connection
        self._done = asyncio.Event()

    async def closed(self) -> dict[str, Any]:
        """Ask in a closed loop."""
        begin = time.perf_counter() + self._load.warm_up
        self._end = begin + self._load.seconds

        def again(connection: Connection, answer: Answer) -> None:
            self._answers.append(answer)
            self._running -= 1
            if answer.came >= self._end:
                connection.close()
                if not self._running:
                    self._done.set()
            elif connection.open:
                self._send(connection, answer.came)
            else:
                tasks.add(asyncio.ensure_future(start()))

        async def start() -> None:
            self._running += 1
            connection = await self._connected(again)
            self._running -= 1
            self._send(connection, time.perf_counter())

        tasks = {asyncio.ensure_future(start()) for _ in range(self._load.connections)}
        await asyncio.gather(*tasks)
        work = time.process_time()
        missing = await self._drained()
        work = time.process_time() - work
        counted = [a for a in self._answers if begin <= a.came < self._end]
        told = self._summary(counted, self._load.seconds, missing)
        return {**told, "generator_cores": work / (self._load.warm_up + self._load.seconds)}

    async def open(self) -> dict[str, Any]:
        """Ask in an open loop."""
        load = self._load
        for _ in range(load.connections):
            self._opened += 1
            self._idle.append(await self._connected(self._free))
        chance = random.Random(load.seed)  # noqa: S311
        work, now = time.process_time(), time.perf_counter()
        begin = now + load.warm_up
        self._end = begin + load.seconds
        due = now + chance.expovariate(load.rate)
        while due < self._end:
            now = time.perf_counter()
            while due <= now and due < self._end:
                self._come(due)
                due += chance.expovariate(load.rate)
            await asyncio.sleep(max(due - now, 0.001))  # the loop's clock has milliseconds
        work = time.process_time() - work
        left = self._running + len(self._waiting)
        return {
            "begin": begin,
            "left_at_end": left,
            "connections": self._opened,
            "generator_cores": work / (load.warm_up + load.seconds),
        }

    async def open_summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Wait for the answers of an open loop, and tell of those that were due while it counts."""
        missing = await self._drained()
        counted = [a for a in self._answers if a.due >= told["begin"]]
        in_time = sum(
            a.status == 200 and told["begin"] <= a.came < self._end for a in self._answers
        )
        summary = self._summary(counted, self._load.seconds, missing)
        summary["requests_per_second"] = in_time / self._load.seconds
        summary["sentences_per_second"] = in_time * max(self._load.each, 1) / self._load.seconds
        return {**told, **summary, "offered_per_second": len(counted) / self._load.seconds}

    async def _drained(self) -> int:
        """Wait for what is on its way; how many answers did not come."""
        if self._running or self._waiting:
            try:
                await asyncio.wait_for(self._done.wait(), self._load.seconds + PATIENCE)
            except TimeoutError:
                return self._running + len(self._waiting)
        return 0

    async def _connected(self, told: Callable[[Connection, Answer], None]) -> Connection:
        loop = asyncio.get_running_loop()
        made = await loop.create_connection(lambda: Connection(told), "127.0.0.1", self._load.port)
        return made[1]

    def _send(self, connection: Connection, due: float) -> None:
        self._running += 1
        number, request = self._requests.next()
        connection.ask(number, request, due)

    def _come(self, due: float) -> None:
        """A request of an open loop is due."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._send(connection, due)
                return
            self._opened -= 1
        self._waiting.append(due)
        if self._opened < self._load.most:
            self._opened += 1
            asyncio.ensure_future(self._open_another())  # noqa: RUF006

    async def _open_another(self) -> None:
        try:
            connection = await self._connected(self._free)
        except OSError as error:
            self._opened -= 1
            if self._waiting:
                due, now = self._waiting.popleft(), time.perf_counter()
                self._answers.append(Answer(0, due, now, 0, repr(error).encode()))
            self._rest(None)
        else:
            self._rest(connection)

    def _free(self, connection: Connection, answer: Answer) -> None:
        self._answers.append(answer)
        self._running -= 1
        if connection.open:
            self._rest(connection)
            return
        self._opened -= 1
        if self._waiting and self._opened < self._load.most:
            self._opened += 1
            asyncio.ensure_future(self._open_another())  # noqa: RUF006
        self._rest(None)

    def _rest(self, connection: Connection | None) -> None:
        """A connection has nothing to do, if there is one: it takes who waits longest."""
        if connection is not None:
            if self._waiting:
                self._send(connection, self._waiting.popleft())
            else:
                self._idle.append(connection)
        if not (self._running or self._waiting) and time.perf_counter() >= self._end:
            self._done.set()

    def _summary(self, answers: list[Answer], seconds: float, missing: int) -> dict[str, Any]:
        statuses = Counter(str(answer.status) for answer in answers)
        good = [answer for answer in answers if answer.status == 200]
        wrong = [answer for answer in good if not self._requests.right(answer)]
        rate = len(good) / seconds
        return {
            "requests_per_second": rate,
            "sentences_per_second": rate * max(self._load.each, 1),
            "latency": _latencies(good),
            "statuses": dict(statuses),
            "errors": len(answers) - len(good) - statuses["429"],
            "missing": missing,
            "mismatches": len(wrong),
            "wrong": [answer.body.decode("utf-8", "replace")[:500] for answer in wrong[:3]],
            "refused_latency": _latencies([a for a in answers if a.status == 429]),
        }


async def _probe(load: Load, until: Callable[[Answer, int], bool]) -> list[Answer]:
    """Ask one request after another, over one connection, until an answer is the last one."""
    requests, answers = Requests(load), list[Answer]()
    loop, connection = asyncio.get_running_loop(), None
    while not answers or not until(answers[-1], len(answers)):
        await asyncio.sleep(PAUSE if answers else 0)
        came: asyncio.Future[Answer] = loop.create_future()
        if connection is None or not connection.open:
            connection = (
                await loop.create_connection(
                    lambda: Connection(lambda _, answer: None), "127.0.0.1", load.port
                )
            )[1]
        connection._told = lambda _, answer, came=came: came.set_result(answer)
        connection.ask(*requests.next(), time.perf_counter())
        answers.append(await came)
    if connection is not None:
        connection.close()
    return answers


async def _run(load: Load) -> dict[str, Any]:
    generator = Generator(load)
    gc.disable()  # answers are kept, and would be gone through again and again
    if load.kind == "closed":
        return await generator.closed()
    if load.kind == "open":
        return await generator.open_summary(await generator.open())
    calm = await _probe(load, lambda _, number: number >= PROBES)
    usual = sorted(answer.latency for answer in calm)[len(calm) // 2]
    told = await generator.open()
    over = time.perf_counter()
    probes = await _probe(
        load,
        lambda a, _: (a.status == 200 and a.latency <= CALM * usual) or a.came > over + PATIENCE,
    )
    last = probes[-1]
    recovered = last.status == 200 and last.latency <= CALM * usual
    summary = await generator.open_summary(told)
    recovery = last.came - over if recovered else None
    return {**summary, "calm_seconds": usual, "recovery_seconds": recovery}


def _q(texts: list[str], one: bool) -> str | list[str]:
    return texts[0] if one else texts


def _request(load: Load, q: str | list[str]) -> bytes:
    fields = {"q": q, "source": load.pair[0], "target": load.pair[1]}
    body = json.dumps(fields, ensure_ascii=False).encode()
    head = (
        f"POST /translate HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _answer(got: bytes) -> tuple[int, bytes, bool] | None:
    """Status, body and whether the connection ends, of an answer; None if it is not all there."""
    head, found, body = got.partition(b"\r\n\r\n")
    if not found:
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
            return status, _joined(body), closes
    if length is None:
        raise ValueError(f"an answer without a length: {head!r}")
    return (status, body, closes) if len(body) >= length else None


def _joined(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        body, chunks = body + chunks[:length], chunks[length + 2 :]
    return body


def _latencies(answers: list[Answer]) -> dict[str, float] | None:
    """Mean, percentiles and maximum in seconds, if there are any."""
    if not answers:
        return None
    times = sorted(answer.latency for answer in answers)
    told = {"mean": sum(times) / len(times), "max": times[-1]}
    for percent in (50, 95, 99):
        told[f"p{percent}"] = times[min(len(times) * percent // 100, len(times) - 1)]
    return told


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(Load(**json.load(sys.stdin))))))
