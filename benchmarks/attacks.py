"""An ordinary client of `s2s serve` while others attack it.

`python -m benchmarks.attacks --model MODEL --sentences FILE` starts `s2s serve`, and measures the
latency of a client that translates a sentence on a new connection every `--interval` seconds:
first quietly, then during each attack, one at a time:

- `stalled bodies`: 200 connections that send 20 kB of a body of 100 kB;
- `half requests`: 5,000 connections that send half of a request's headers;
- `silent`: 5,000 connections that send nothing;
- `endless bodies`: 200 connections that send a body in chunks which never ends;
- `many headers`: 200 connections that send headers without an end;
- `half-closed`: 200 connections that close their side after a request's headers;
- `slow readers`: 200 connections that ask for 2,000 characters with all details, and take 100
  bytes of the answer a second;
- `beams`: 50 connections that ask for 1,000 characters with beam 16, again and again.

An attacker whose connection is closed opens another one. The latency of a request counts from the
time at which it was due, and one without an answer of status 200 within `--timeout` seconds has
failed. The column `of quiet` has p99 as a multiple of the quiet one; `recovery` the seconds from
the end of an attack until a request takes no longer than the quiet p99; `attackers got` what the
attackers were answered, by status, and how many connections were closed without an answer. The
attackers run in a process of their own, on the same machine.
"""

import argparse
import asyncio
import http.client
import json
import multiprocessing
import random
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.decode import read_lines
from benchmarks.server_process import ROUTING_DELAY, health_check, started
from benchmarks.train import cpu_name
from s2s.distributed.ports import free_port
from s2s.model.directory import ModelDirectory

RECOVERY_TIMEOUT = 120.0  # seconds
BEGINNING = 2.0  # seconds of an attack before the client is measured
LONGEST_TEXT = 10_000  # characters
CONSOLE = Console(width=170)


@dataclass(frozen=True)
class Target:
    """The server as attackers know it."""

    port: int
    languages: tuple[str, str]
    text: str  # the longest that the server takes


@dataclass(frozen=True)
class Measurement:
    """Latencies of an ordinary client, in seconds, and how many of its requests failed."""

    latencies: list[float]
    failed: int

    def percentile(self, percent: int) -> float:
        """Return a percentile of the latencies."""
        times = sorted(self.latencies)
        return times[min(len(times) * percent // 100, len(times) - 1)] if times else float("nan")


def main() -> None:
    """Measure all attacks and print a table."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the server, too
    sentences = [line for line in read_lines(arguments.sentences) if line.strip()]
    random.Random(0).shuffle(sentences)  # noqa: S311
    config = ModelDirectory.load(arguments.model).config
    languages = config.source_language, config.target_language
    text = " ".join(sentences)[:LONGEST_TEXT]
    with _served(arguments.model) as port:
        client = Client(port, languages, sentences, arguments.timeout)
        client.measure(arguments.seconds / 2, arguments.interval)  # warms up
        quiet = client.measure(arguments.seconds, arguments.interval)
        table = _table()
        _add(table, "none", quiet, quiet)
        for name in arguments.attacks:
            target = Target(port, languages, text)
            with _attacking(name, target) as got:
                time.sleep(BEGINNING)
                measured = client.measure(arguments.seconds, arguments.interval)
            recovery = client.recovery(quiet.percentile(99))
            _add(table, name, measured, quiet, recovery, got)
            CONSOLE.print(f"{name}: {measured.failed} failed", highlight=False)
            time.sleep(arguments.pause)
    CONSOLE.print(f"{cpu_name()}; {' '.join(sys.argv[1:])}")
    CONSOLE.print(table)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model directory")
    add("--sentences", type=Path, required=True, help="a sentence a line; may be .gz")
    add("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    add("--seconds", type=float, default=15, help="duration of a measurement")
    add("--interval", type=float, default=0.05, help="seconds between the client's requests")
    add("--timeout", type=float, default=30, help="seconds after which a request has failed")
    add("--pause", type=float, default=3, help="seconds between attacks")
    return parser.parse_args()


# ---- the server and its ordinary client ---------------------------------------------------------


@contextmanager
def _served(model: Path) -> Iterator[int]:
    """Start `s2s serve`, give its port, and end it with the block."""
    port = free_port()
    command = ["-m", "s2s.cli", "serve", str(model), "--port", str(port)]
    with started("s2s serve", command) as server:
        server.wait_for_answer(health_check(port))
        time.sleep(ROUTING_DELAY)
        yield port


class Client:
    """An ordinary client, which sends one sentence after the other."""

    def __init__(
        self, port: int, languages: tuple[str, str], sentences: list[str], timeout: float
    ) -> None:
        self._port, self._languages, self._timeout = port, languages, timeout
        self._sentences, self._sent = sentences, 0

    def measure(self, seconds: float, interval: float) -> Measurement:
        """Send requests for some seconds."""
        latencies: list[float] = []
        failed = 0
        due = time.perf_counter()
        end = due + seconds
        while due < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            if self._ask():
                latencies.append(time.perf_counter() - due)
            else:
                failed += 1
            due = max(due + interval, time.perf_counter())
        return Measurement(latencies, failed)

    def recovery(self, usual: float) -> float | None:
        """Return the seconds until a request takes no longer than usual; None if none does."""
        begun = time.perf_counter()
        while (sent := time.perf_counter()) < begun + RECOVERY_TIMEOUT:
            if self._ask() and time.perf_counter() - sent <= usual:
                return time.perf_counter() - begun
            time.sleep(0.02)
        return None

    def _ask(self) -> bool:
        """Return whether a sentence is translated in time."""
        q = self._sentences[self._sent % len(self._sentences)]
        self._sent += 1
        body = json.dumps({"q": q, "source": self._languages[0], "target": self._languages[1]})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout)
        try:
            headers = {"content-type": "application/json"}
            connection.request("POST", "/translate", body.encode(), headers)
            response = connection.getresponse()
            response.read()
            return response.status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


# ---- attackers ----------------------------------------------------------------------------------

Got = Counter[str]  # what attackers were answered
Attack = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter, Target], Coroutine[None, None, bytes]
]


@contextmanager
def _attacking(name: str, target: Target) -> Iterator[Got]:
    """Attack in another process during the block; what came of it is counted at its end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_attack, args=(name, target, theirs), daemon=True)
    process.start()
    theirs.close()
    ours.recv()  # it has begun
    got: Got = Counter()
    try:
        yield got
    finally:
        ours.send("end")
        with suppress(EOFError):
            got.update(ours.recv())
        process.join(30)
        process.kill()


def _attack(name: str, target: Target, told: Connection) -> None:
    """Run an attack until a message comes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_attack_until_told(name, target, told))


async def _attack_until_told(name: str, target: Target, told: Connection) -> None:
    attack, connections = ATTACKS[name]
    got: Got = Counter()
    tasks = [asyncio.create_task(_attacker(attack, target, got)) for _ in range(connections)]
    told.send("begun")
    await asyncio.to_thread(told.recv)
    for task in tasks:
        task.cancel()
    told.send(got)


async def _attacker(attack: Attack, target: Target, got: Got) -> None:
    """Attack on one connection after the other."""
    while True:
        answer = b""
        writer = None
        try:
            with socket.socket() as connecting:
                connecting.setblocking(False)
                connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(connecting, ("127.0.0.1", target.port))
                reader, writer = await asyncio.open_connection(
                    sock=connecting.dup(),
                    limit=100,  # buffers no more for a slow reader
                )
            answer = await attack(reader, writer, target)
            got[answer[9:12].decode("latin-1") or "closed"] += 1
        except OSError:
            got["closed"] += 1
        finally:
            if writer is not None:
                writer.close()
        await asyncio.sleep(0.1)


def _post(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode()


async def _stall_body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Target
) -> bytes:
    writer.write(_post("/translate", "Content-Length: 100000") + b'\r\n{"q":"' + b"a" * 20_000)
    return await reader.read(4096)


async def _send_half(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Target
) -> bytes:
    writer.write(_post("/translate") + b"X-A: ")
    return await reader.read(4096)


async def _send_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: Target) -> bytes:
    return await reader.read(4096)


async def _send_endlessly(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begin: bytes, part: bytes
) -> bytes:
    writer.write(begin)
    answer = asyncio.ensure_future(reader.read(4096))
    while not answer.done():
        writer.write(part)
        await writer.drain()
        await asyncio.wait([answer], timeout=0.1)
    return answer.result()


async def _send_chunks(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Target
) -> bytes:
    begin = _post("/translate", "Transfer-Encoding: chunked") + b"\r\n"
    return await _send_endlessly(reader, writer, begin, b"100\r\n" + b" " * 256 + b"\r\n")


async def _send_headers(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Target
) -> bytes:
    return await _send_endlessly(reader, writer, _post("/translate"), b"X-A: a\r\n" * 10)


async def _half_close(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Target
) -> bytes:
    writer.write(_post("/translate", "Content-Length: 90") + b'\r\n{"q"')
    writer.write_eof()
    return await reader.read(4096)


def _detailed(target: Target, characters: int, **settings: int) -> bytes:
    source, to = target.languages
    fields = {"q": target.text[:characters], "source": source, "target": to, **settings}
    body = json.dumps(fields).encode()
    return _post("/v1/translate", f"Content-Length: {len(body)}") + b"\r\n" + body


async def _read_slowly(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target
) -> bytes:
    writer.write(_detailed(target, 2000))
    begin = await reader.read(100)
    while not reader.at_eof() and begin[9:12] == b"200":
        await asyncio.sleep(1)
        await reader.read(100)
    return begin


async def _search_widely(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target
) -> bytes:
    writer.write(_detailed(target, 1000, beam=16))
    begin = await reader.read(4096)
    reading = len(begin)
    while reading < 1_000_000 and not reader.at_eof():  # enough of it
        try:
            reading += len(await asyncio.wait_for(reader.read(65536), 0.5))
        except TimeoutError:
            break
    return begin


ATTACKS: dict[str, tuple[Attack, int]] = {
    "stalled bodies": (_stall_body, 200),
    "half requests": (_send_half, 5000),
    "silent": (_send_nothing, 5000),
    "endless bodies": (_send_chunks, 200),
    "many headers": (_send_headers, 200),
    "half-closed": (_half_close, 200),
    "slow readers": (_read_slowly, 200),
    "beams": (_search_widely, 50),
}


# ---- the table ----------------------------------------------------------------------------------


def _table() -> Table:
    table = Table(title="an ordinary client of `s2s serve` during attacks")
    table.add_column("attack")
    for name in ("requests", "failed", "p50, ms", "p99, ms", "of quiet", "recovery, s"):
        table.add_column(name, justify="right")
    table.add_column("attackers got")
    return table


def _add(
    table: Table,
    name: str,
    measured: Measurement,
    quiet: Measurement,
    recovery: float | None = None,
    got: Got | None = None,
) -> None:
    p99 = measured.percentile(99)
    table.add_row(
        name,
        str(len(measured.latencies) + measured.failed),
        str(measured.failed),
        f"{1000 * measured.percentile(50):.1f}",
        f"{1000 * p99:.1f}",
        f"{p99 / quiet.percentile(99):.2f}",
        "–" if recovery is None else f"{recovery:.2f}",
        ", ".join(f"{status}: {count}" for status, count in sorted((got or {}).items())),
    )


if __name__ == "__main__":
    main()
