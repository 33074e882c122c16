"""What every request passes through: limits, headers, an id, and a count."""

import logging
import os
import re
import traceback
from collections.abc import Callable

from starlette.requests import ClientDisconnect
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
_NAMES = frozenset(name for name, _ in _HEADERS)
_LOGGER = logging.getLogger("s2s.serving")


class TooLarge(Exception):
    """A body larger than a service reads."""


class Guard:
    """ASGI middleware that bounds bodies, adds headers to answers, and counts them.

    Args:
        max_body: the greatest number of bytes of a body.
        label: returns the value of `x-s2s-model` for answers that have none.
        paths: those that are counted by name; all others are counted together.
        request_ids: answer with `x-request-id`.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_body: int,
        meters: Meters,
        label: Callable[[], str],
        paths: frozenset[str],
        request_ids: bool = True,
    ) -> None:
        self._app, self._max_body, self._meters = app, max_body, meters
        self._label, self._paths, self._request_ids = label, paths, request_ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        read = int(length) if length.isdigit() and int(length) > self._max_body else 0
        started = False

        async def receive_bounded() -> Message:
            nonlocal read
            message: Message = {}
            if read <= self._max_body:  # else the body is not waited for
                message = await receive()
                read += len(message.get("body", b""))
            if read > self._max_body:
                raise TooLarge(f"the body is larger than {self._max_body:,} bytes")
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *self._missing(message, headers)]
                path = scope["path"] if scope["path"] in self._paths else "other"
                self._meters.count_request(path, message["status"])
            await send(message)

        try:
            await self._app(scope, receive_bounded, send_with_headers)
        except ClientDisconnect:
            pass  # nobody waits for an answer
        except Exception as error:
            # Without its message, which may quote a text.
            places = "".join(traceback.format_tb(error.__traceback__))
            _LOGGER.error("%s while answering:\n%s", type(error).__name__, places)
            if not started:
                response = JSONResponse({"error": "internal server error"}, 500)
                await response(scope, receive, send_with_headers)

    def _missing(
        self, message: Message, request_headers: dict[bytes, bytes]
    ) -> list[tuple[bytes, bytes]]:
        """Return the headers that an answer lacks."""
        present = {name for name, _ in message["headers"]}
        if present.isdisjoint(_NAMES):
            headers = list(_HEADERS)
        else:
            headers = [header for header in _HEADERS if header[0] not in present]
        if _LABEL not in present:
            headers.append((_LABEL, self._label().encode("latin-1")))
        if self._request_ids:
            headers.append((b"x-request-id", _request_id(request_headers)))
        return headers


def _request_id(headers: dict[bytes, bytes]) -> bytes:
    """Return the id that a request came with, if it is a plain one, or else a new one."""
    own = headers.get(b"x-request-id", b"")
    return own if _ID.fullmatch(own) else os.urandom(16).hex().encode()
