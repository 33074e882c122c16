"""The HTTP interface: LibreTranslate's, so that its clients work, and one of our own beyond it."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from s2s import __version__
from s2s.errors import Failed
from s2s.serving.engine.models import Models
from s2s.serving.http.api_keys import Keys
from s2s.serving.http.forms import FORMS, JSON, described
from s2s.serving.http.guard import Guard, TooLarge
from s2s.serving.http.schema import (
    DetailedRequest,
    DetailedResponse,
    DetectedLanguage,
    DetectRequest,
    ErrorResponse,
    StreamRequest,
    TranslateRequest,
    TranslateResponse,
)
from s2s.serving.http.service import Endpoint, Limits, Service

_ERRORS = {
    400: "The request is not of the form above, or asks for other languages.",
    403: "A key is needed, or the one that was given is wrong.",
    408: "It took too long.",
    413: "The request is too large.",
    429: "Too much is waiting, or the key's rate is exceeded: come again after `Retry-After`.",
    500: "The model failed.",
    503: "The model's process has ended.",
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorResponse, "description": why} for code, why in _ERRORS.items()
}
_PATHS = frozenset(
    {"/", "/translate", "/detect", "/languages", "/health", "/frontend/settings"}
    | {"/v1/translate", "/v1/translate/stream", "/v1/models", "/openapi.json"}
)


def create_app(
    models: Models,
    limits: Limits | None = None,
    keys: Keys | None = None,
    cors: tuple[str, ...] = (),
    tell_id: bool = True,
) -> FastAPI:
    """The HTTP app over some models.

    Args:
        limits: the usual ones if there are none.
        keys: who may translate; None lets everybody.
        cors: origins whose pages may ask, `*` for any.
        tell_id: answer with `x-request-id`; Ray Serve does so itself.
    """
    app = FastAPI(
        title="s2s",
        version=__version__,
        description="Translates with LSTM encoder–decoders. `/translate`, `/detect`, `/languages` "
        "and `/frontend/settings` are LibreTranslate's; `/v1` tells more.",
        docs_url=None,  # it would need scripts from elsewhere
        redoc_url=None,
    )
    limits = limits or Limits()
    service = Service(models, limits, keys)

    app.add_route("/", service.page, methods=["GET"], include_in_schema=False)
    translate = service.timed(service.translate)
    app.add_middleware(_Direct, path="/translate", answer=translate)
    for method in ("POST", "GET"):
        app.add_api_route(
            "/translate",
            translate,
            methods=[method],
            response_model=TranslateResponse,
            responses=_RESPONSES,
            openapi_extra=described(TranslateRequest, method, (JSON, *FORMS)),
            operation_id=f"translate_{method.lower()}",
        )
        app.add_api_route(
            "/detect",
            service.timed(service.detect),
            methods=[method],
            response_model=list[DetectedLanguage],
            responses=_RESPONSES,
            openapi_extra=described(DetectRequest, method, (JSON, *FORMS)),
            operation_id=f"detect_{method.lower()}",
        )
    app.add_api_route(
        "/v1/translate",
        service.timed(service.details),
        methods=["POST"],
        response_model=DetailedResponse,
        responses=_RESPONSES,
        openapi_extra=described(DetailedRequest, "POST"),
    )
    app.add_api_route(
        "/v1/translate/stream",
        service.timed(service.stream),
        methods=["POST"],
        response_class=StreamingResponse,
        responses={
            **_RESPONSES,
            200: {
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
                "description": "Server-sent events. `grown`: a sentence of the text has become "
                '`{"sentence": 0, "translation": "J\'ai"}`. `done`: '
                '`{"translatedText": "J\'ai froid.", "model": {…}}`. `error`: `{"error": "…"}`.',
            },
        },
        openapi_extra=described(StreamRequest, "POST"),
    )
    app.add_api_route("/v1/models", service.list_models, methods=["GET"])
    app.add_api_route("/languages", service.languages, methods=["GET"])
    app.add_api_route("/frontend/settings", service.settings, methods=["GET"])
    app.add_api_route(
        "/health", service.health, methods=["GET"], responses={503: {"model": ErrorResponse}}
    )
    app.add_exception_handler(RequestValidationError, _bad_form)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(TooLarge, _too_large)
    app.add_exception_handler(Failed, _failed)
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-s2s-model", "x-request-id", "retry-after"],
        )
    app.add_middleware(
        Guard,
        max_body=limits.body,
        meters=models.meters,
        label=service.label,
        paths=_PATHS,
        tell_id=tell_id,
    )
    return app


class _Direct:
    """ASGI middleware: what is asked most passes by the router, which would come to the same."""

    def __init__(self, app: ASGIApp, path: str, answer: Endpoint) -> None:
        self._app, self._path, self._answer = app, path, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope.get("path") != self._path or scope.get("method") not in ("GET", "POST"):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except StarletteHTTPException as error:
            response = await _refused(request, error)
        except TooLarge as error:
            response = await _too_large(request, error)
        except Failed as error:
            response = await _failed(request, error)
        await response(scope, receive, send)


async def _bad_form(_: Request, error: Exception) -> Response:
    return _error(400, str(error).splitlines()[0])


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)  # noqa: S101
    return _error(error.status_code, str(error.detail), error.headers)


async def _too_large(_: Request, error: Exception) -> Response:
    return _error(413, str(error), {"Connection": "close"})


async def _failed(_: Request, error: Exception) -> Response:
    return _error(500, str(error))


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, dict(headers or {}))
