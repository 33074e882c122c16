"""Clients that go before they are answered, on a real server."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from s2s.serving.http.disconnects import SECONDS, Disconnects
from tests.support.serving import WAIT, serving_app

BODY = b"x" * 10


class Slow:
    """ASGI app that reads a body, answers after some seconds, and notes how it ended."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.began, self.ended = threading.Event(), threading.Event()
        self.how, self.at = "", 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"  # the server takes it that there is nothing to start
        try:
            while (await receive()).get("more_body", False):
                pass
            self.began.set()
            await asyncio.sleep(self._seconds)
            await PlainTextResponse("done")(scope, receive, send)
            self.how = "answered"
        except asyncio.CancelledError:
            self.how = "cancelled"
            raise
        finally:
            self.at = time.monotonic()
            self.ended.set()


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT) as connection:
        yield connection


def request(length: int = len(BODY)) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_request_is_cancelled_when_its_client_goes() -> None:
    app = Slow(WAIT)
    with serving_app(Disconnects(app)) as address:
        with connected(address) as connection:
            connection.sendall(request() + BODY)
            assert app.began.wait(WAIT)
        gone = time.monotonic()
        assert app.ended.wait(WAIT)
    assert app.how == "cancelled"
    assert app.at - gone < WAIT / 2


def test_a_client_that_goes_later_is_noticed_too() -> None:
    app = Slow(WAIT)
    with serving_app(Disconnects(app)) as address, connected(address) as connection:
        connection.sendall(request() + BODY[:5])
        time.sleep(3 * SECONDS)  # the watch is due before the body has come
        assert not app.began.is_set()
        connection.sendall(BODY[5:])
        assert app.began.wait(WAIT)
        time.sleep(3 * SECONDS)
        assert not app.ended.is_set()
        connection.close()
        assert app.ended.wait(WAIT)
    assert app.how == "cancelled"


@pytest.mark.parametrize("seconds", [0, 3 * SECONDS])
def test_a_client_that_stays_is_answered_again_and_again(seconds: float) -> None:
    app = Slow(seconds)
    with serving_app(Disconnects(app)) as address, connected(address) as connection:
        for _ in range(3):
            connection.sendall(request() + BODY)
            answer = b""
            while not answer.endswith(b"done"):
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
    assert app.how == "answered"


def test_a_stream_notices_itself_that_its_client_goes() -> None:
    closed = threading.Event()

    async def numbers() -> Any:
        try:
            for number in range(int(WAIT / SECONDS)):
                yield f"{number}\n"
                await asyncio.sleep(SECONDS)
        finally:
            closed.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await receive()
        await asyncio.sleep(2 * SECONDS)  # the client is watched by now
        await StreamingResponse(numbers())(scope, receive, send)

    with serving_app(Disconnects(app)) as address:
        with connected(address) as connection:
            connection.sendall(request() + BODY)
            while b"2\n" not in connection.recv(4096):
                pass
        assert closed.wait(WAIT)


def test_a_request_that_is_cancelled_otherwise_stays_cancelled() -> None:
    sent = []

    async def run() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": BODY}

        async def send(message: Any) -> None:
            sent.append(message)

        task = asyncio.create_task(Disconnects(Slow(WAIT))({"type": "http"}, receive, send))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert not sent
