"""What every request passes through: limits, headers, an id, and a count."""

import logging
import re
import traceback
import uuid
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s2s.serving.engine.meters import Meters

_ID = re.compile(rb"[\w.-]{1,64}")
_LABEL = b"x-s2s-model"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_LOGGER = logging.getLogger("s2s.serving")


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
        asked = dict(scope["headers"])
        told = asked.get(b"content-length", b"0")
        read = int(told) if told.isdigit() and int(told) > self._max_body else 0
        begun = False

        async def receive_some() -> Message:
            nonlocal read
            message: Message = {}
            if read <= self._max_body:  # else it is not waited for
                message = await receive()
                read += len(message.get("body", b""))
            if read > self._max_body:
                raise TooLarge(f"the body is larger than {self._max_body:,} bytes")
            return message

        async def send_headed(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                there = {name for name, _ in message["headers"]}
                headers = [header for header in _HEADERS if header[0] not in there]
                if _LABEL not in there:
                    headers.append((_LABEL, self._label().encode("latin-1")))
                if self._tell_id:
                    headers.append((b"x-request-id", _request_id(asked)))
                message["headers"] = [*message["headers"], *headers]
                path = scope["path"] if scope["path"] in self._paths else "other"
                self._meters.answered(path, message["status"])
            await send(message)

        try:
            await self._app(scope, receive_some, send_headed)
        except Exception as error:
            # Without its message, which may quote a text.
            places = "".join(traceback.format_tb(error.__traceback__))
            _LOGGER.error("%s while answering:\n%s", type(error).__name__, places)
            if not begun:
                await JSONResponse({"error": "an error of the service's own"}, 500)(
                    scope, receive, send_headed
                )


def _request_id(asked: dict[bytes, bytes]) -> bytes:
    """The id that a request came with, if it is a sane one, or else a new one."""
    given = asked.get(b"x-request-id", b"")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex.encode()
