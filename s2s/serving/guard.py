"""What every request passes through: limits, headers, an id, and a count."""

import re
import uuid
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s2s.serving.meters import Meters

_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class TooLarge(Exception):
    """A body is larger than it may be."""


class Guard:
    """ASGI middleware: bodies are bounded, answers have their headers and are counted.

    Args:
        max_body: bytes.
        label: what answers are labelled with as `x-s2s-model`, at the time.
        paths: those that are counted by name; all others are counted together.
        tell_id: answer with `x-request-id`.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_body: int,
        meters: Meters,
        label: Callable[[], str],
        paths: frozenset[str],
        tell_id: bool = True,
    ) -> None:
        self._app, self._max_body, self._meters = app, max_body, meters
        self._label, self._paths, self._tell_id = label, paths, tell_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"").decode(
            "latin-1"
        )
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        told = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        read = int(told) if told.isdigit() else 0
        read = 0 if read <= self._max_body else read

        async def receive_some() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._max_body:
                    raise TooLarge(f"the body is larger than {self._max_body:,} bytes")
            return message

        async def send_headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._tell_id:
                    headers["x-request-id"] = request_id
                headers.setdefault("x-s2s-model", self._label())
                path = scope["path"] if scope["path"] in self._paths else "other"
                self._meters.answered(path, message["status"])
            await send(message)

        await self._app(scope, receive_some, send_headed)
