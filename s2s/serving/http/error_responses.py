"""Errors as responses: a status, and `{"error": "…"}`."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from s2s.errors import Failed
from s2s.serving.http.guard import TooLarge
from s2s.serving.http.schema import ErrorResponse

_DESCRIPTIONS = {
    400: "The request is malformed, or its languages are not served.",
    403: "The API key is missing or invalid.",
    408: "The request took too long.",
    413: "The request is too large.",
    415: "The body is compressed, but not with gzip or deflate.",
    429: "Too many requests are waiting, or the key's rate is exceeded: "
    "come again after `Retry-After` seconds.",
    500: "The model failed.",
    503: "The process of a model has ended, or none is loaded yet.",
}
# How OpenAPI describes them.
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in _DESCRIPTIONS.items()
}
# Errors that are answered here; all others are the guard's.
HANDLED = (HTTPException, TooLarge, Failed)


def error_response(error: Exception) -> Response:
    """Return the response to one of the errors that are `HANDLED`."""
    match error:
        case HTTPException():
            return _response(error.status_code, str(error.detail), error.headers)
        case TooLarge():
            return _response(413, str(error), {"Connection": "close"})
        case _:
            return _response(500, str(error))


def add_error_handlers(app: FastAPI) -> None:
    """Have an app answer the errors that are `HANDLED`."""

    async def handle(_: Request, error: Exception) -> Response:
        return error_response(error)

    for kind in HANDLED:
        app.add_exception_handler(kind, handle)


def _response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, dict(headers or {}))
