"""Time that a request of `/translate` takes on the event loop of a service, by layer.

`python -m benchmarks.request` sends one sentence a request over 64 connections to apps in this
process, which take turns. They run under uvicorn's HTTP protocol and uvloop, as in a service, but
connections are in memory, and the engine gives the texts back: what is measured is the CPU time of
the event loop's thread, and neither sockets nor a model. The apps are

- `bare`: an ASGI app that answers with the body of the request;
- `echo`: the FastAPI app that `benchmarks.serve` calls so, without Ray Serve;
- `endpoint`: our endpoint alone, as `Shortcut` calls it;
- the app of `s2s serve`, from the endpoint outwards: each row has one layer more than the row
  before;
- `router`: the whole app without `Shortcut`, so that requests pass FastAPI's router.

Other work on the machine lengthens the times; so they are the lowest tenth of many short turns.
"""

import argparse
import asyncio
import gc
import itertools
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from benchmarks.servers import echo_app
from s2s.config import Config
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.messages import PROTOCOL, Close, Ready, Translate, Translated
from s2s.serving.engine.models import Models
from s2s.serving.engine.process import EngineProcess
from s2s.serving.http.app import App, create_app
from s2s.serving.http.shortcut import Shortcut

_CONNECTIONS = 64
_TURN = 256  # requests
_SENTENCES = ["A man in an orange hat starring at something.", "Two dogs play in the snow."]


def main() -> None:
    """Measure all apps and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.request",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--turns", type=int, default=100, help="turns of each app")
    arguments = parser.parse_args()
    with _models() as models:
        apps: dict[str, ASGIApp] = {"bare": _bare, "echo": echo_app(), **_layers(models)}
        times: dict[str, list[float]] = {name: [] for name in apps}
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)  # as a service does
        uvloop.run(_measure(apps, times, arguments.turns))
    from benchmarks.train import cpu_name  # torch, which a service does not load

    print(f"{cpu_name()}; {' '.join(sys.argv[1:])}")
    print("| app | microseconds a request | more than the row before | of `echo` |")
    print("| --- | --- | --- | --- |")
    lowest = {name: statistics.quantiles(each, n=10)[0] for name, each in times.items()}
    before = 0.0
    for name, each in lowest.items():
        print(f"| {name} | {each:.1f} | {each - before:+.1f} | {each / lowest['echo']:.2f} |")
        before = each


def _layers(models: Models) -> dict[str, ASGIApp]:
    """Return the apps with more and more layers of the service, and the one by the router."""
    whole = create_app(models)
    layers: dict[str, ASGIApp] = {}
    for number in range(len(whole.front) - 1, -1, -1):
        name = whole.front[number].cls.__name__
        layers["endpoint" if name == Shortcut.__name__ else f"+ {name}"] = _with(models, number)
    router = create_app(models)
    router.front = [each for each in router.front if each.cls is not Shortcut]
    return {**layers, "router": router}


def _with(models: Models, first: int) -> App:
    app = create_app(models)
    app.front = app.front[first:]
    return app


async def _bare(_: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# ---- clients ------------------------------------------------------------------------------------


async def _measure(
    apps: Mapping[str, ASGIApp], times: Mapping[str, list[float]], turns: int
) -> None:
    """Append the microseconds of a request in each turn to the times of its app."""
    for turn in range(-2, turns):  # the first two warm up
        for name in apps if turn % 2 else reversed(apps):
            begin = time.thread_time()
            await _turn(apps[name])
            if turn >= 0:
                times[name].append((time.thread_time() - begin) / _TURN * 1e6)


async def _turn(app: ASGIApp) -> None:
    """Have all connections send requests to an app until it has answered as many as a turn has."""
    config = uvicorn.Config(app, access_log=False, proxy_headers=False, lifespan="off")
    config.load()
    requests = itertools.islice(itertools.cycle(map(_request, _SENTENCES)), _TURN)
    protocol: Any = config.http_protocol_class
    clients = [_Client(protocol(config, ServerState(), {})) for _ in range(_CONNECTIONS)]
    await asyncio.gather(*(client.send_all(requests) for client in clients))


def _request(sentence: str) -> bytes:
    body = json.dumps({"q": sentence, "source": "en", "target": "fr"}).encode()
    head = "POST /translate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Client(asyncio.Transport):
    """A client in memory, and the transport that its server writes to."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self._server, self._written = server, b""
        self._answered = asyncio.Event()
        server.connection_made(self)

    async def send_all(self, requests: Iterator[bytes]) -> None:
        """Send one request after another."""
        for request in requests:
            self._written = b""
            self._answered.clear()
            self._server.data_received(request)
            await self._answered.wait()
            if not self._written.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"a request failed: {self._written!r}")
        self._server.connection_lost(None)

    def write(self, data: Any) -> None:
        """Receive a part of an answer; the servers here write the body in one piece."""
        self._written += data
        if not data.endswith(b"\r\n\r\n"):
            self._answered.set()

    def is_closing(self) -> bool:
        """Return whether the connection ends."""
        return False

    def close(self) -> None:
        """End the connection."""


# ---- an engine that gives the texts back --------------------------------------------------------


@contextmanager
def _models() -> Iterator[Models]:
    """Serve one model, from English to French, that gives the texts back."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=_answer, args=(Connection(theirs),), daemon=True)
    thread.start()
    models = Models(lambda _: EngineProcess("echo", ours, thread.is_alive, thread.join))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "model.safetensors", "source.json", "target.json"):
            (Path(folder) / name).touch()
        models.serve([folder])
        yield models
        models.close()


def _answer(connection: Connection) -> None:
    """Answer as an engine does, with the requests that have come together in one message."""
    config = Config.model_validate({"source_language": "en", "target_language": "fr"})
    connection.send(Ready(PROTOCOL, config.model_dump_json()))
    closed = False
    while not closed and (messages := connection.receive(wait=True)) is not None:
        asked = [message for message in messages if isinstance(message, Translate)]
        closed = any(isinstance(message, Close) for message in messages)
        if asked:
            connection.send(Translated({each.request: each.texts for each in asked}, {}, {}))
    connection.close()


if __name__ == "__main__":
    main()
