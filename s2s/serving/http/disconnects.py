"""Clients that go before they are answered."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s2s.serving.http.shared_timer import SharedTimer

SECONDS = 0.1  # until a request's client is watched: most requests are answered by then
_GONE = 499  # the usual status in logs; nobody receives it


class Disconnects:
    """ASGI middleware that cancels a request whose client has gone.

    To wait for a client to go takes a task, so that only requests that take long get one. A server
    leaves this to the app: uvicorn never cancels a request, and Serve does not either where
    `s2s.distributed.ray_internals.leave_disconnects_to_app` has told it so.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._timer = SharedTimer[_Watch](SECONDS, _Watch.begin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watch = _Watch(receive)
        self._timer.add(watch)
        try:
            await self._app(scope, watch.receive, send)
        except asyncio.CancelledError:
            if not watch.gone or watch.request.uncancel():
                raise  # it was cancelled by another, too
            await send({"type": "http.response.start", "status": _GONE, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._timer.discard(watch)
            watch.end()


class _Watch:
    """Waits for the client of a request to go, once the body of the request has come.

    It is made in the task of the request.

    Args:
        receive: receives the request.
    """

    __slots__ = ("_body_ended", "_due", "_receive", "_task", "gone", "request")

    def __init__(self, receive: Receive) -> None:
        self._receive, self._body_ended, self._due = receive, False, False
        self._task: asyncio.Task[None] | None = None
        self.request: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]
        self.gone = False

    async def receive(self) -> Message:
        """Receive the request; who receives more than its body watches the client from then on."""
        if self._body_ended:
            self._due = False
            self.end()
        message = await self._receive()
        if not self._body_ended and not message.get("more_body", False):
            self._body_ended = True
            self._begin_if_due()
        return message

    def begin(self) -> None:
        """Begin to wait once the body of the request has come."""
        self._due = True
        self._begin_if_due()

    def end(self) -> None:
        """Wait no longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _begin_if_due(self) -> None:
        if self._due and self._body_ended:
            self._task = self.request.get_loop().create_task(self._wait())

    async def _wait(self) -> None:
        if (await self._receive())["type"] == "http.disconnect":
            self.gone = True
            self.request.cancel()
