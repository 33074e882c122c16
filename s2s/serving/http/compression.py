"""Compressed bodies of requests, expanded within the limit of a body."""

import zlib
from collections.abc import Awaitable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s2s.serving.http.guard import TooLarge

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_WITHOUT_HEADER = -zlib.MAX_WBITS  # what some clients send as `deflate`
_CODINGS = {b"gzip": _GZIP_OR_ZLIB, b"x-gzip": _GZIP_OR_ZLIB, b"deflate": _GZIP_OR_ZLIB}


class Expansion:
    """ASGI middleware that expands compressed bodies.

    Args:
        max_body: the greatest number of bytes of an expanded body.
    """

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app, self._max_body = app, max_body

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"content-encoding":
                    receive = self._expanded(receive, value.strip().lower())
        return self._app(scope, receive, send)

    def _expanded(self, receive: Receive, coding: bytes) -> Receive:
        """Return what receives an expanded body, in one piece.

        It waits for the body where the endpoint would, under the endpoint's time limit.
        """
        ended = False

        async def receive_expanded() -> Message:
            nonlocal ended
            if ended:
                return await receive()
            body = bytearray()
            while not ended:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                body += message.get("body", b"")
                ended = not message.get("more_body", False)
            return {"type": "http.request", "body": expand(bytes(body), coding, self._max_body)}

        return receive_expanded


def expand(body: bytes, coding: bytes, limit: int) -> bytes:
    """Return a body without its content coding.

    Raises:
        HTTPException: 415, the coding is not supported; 400, the body is not coded so.
        TooLarge: the expanded body is larger than the limit.
    """
    if coding in (b"", b"identity") or not body:
        return body
    if coding not in _CODINGS:
        supported = {"Accept-Encoding": "gzip, deflate"}
        raise HTTPException(415, "content-encoding: use gzip, deflate or none", supported)
    window = _CODINGS[coding]
    if coding == b"deflate" and (body[0] & 0x0F != 8 or int.from_bytes(body[:2]) % 31):
        window = _WITHOUT_HEADER
    decompressor = zlib.decompressobj(window)
    try:
        expanded = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise HTTPException(400, f"body: not valid {coding.decode()}") from None
    if len(expanded) > limit:
        raise TooLarge(f"the body is larger than {limit:,} bytes when it is expanded")
    if not decompressor.eof or decompressor.unused_data:
        raise HTTPException(400, f"body: not one whole piece of {coding.decode()}")
    return expanded
