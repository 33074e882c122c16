"""The HTTP interface: LibreTranslate's, so that its clients work, and one of our own beyond it."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from s2s import __version__
from s2s.serving.engine.models import Models
from s2s.serving.http.access_log import AccessLog, AccessLogging
from s2s.serving.http.api_keys import Keys
from s2s.serving.http.compression import Expansion
from s2s.serving.http.disconnects import Disconnects
from s2s.serving.http.error_responses import add_error_handlers
from s2s.serving.http.gate import Gate, Limits
from s2s.serving.http.guard import Guard
from s2s.serving.http.other_methods import add_other_methods
from s2s.serving.http.page import page
from s2s.serving.http.reference import reference
from s2s.serving.http.responses import INCOMPLETE
from s2s.serving.http.routes.information import InformationRoutes
from s2s.serving.http.routes.libretranslate import TRANSLATE, LibreTranslateRoutes
from s2s.serving.http.routes.metrics import MetricsRoute
from s2s.serving.http.routes.v1 import V1Routes
from s2s.serving.http.service import Service
from s2s.serving.http.shortcut import Shortcut
from s2s.serving.http.suggestions import Suggestions
from s2s.serving.http.trailing_slash import TrailingSlash


class App(FastAPI):
    """FastAPI app behind middleware of our own, which answers `/translate` itself.

    FastAPI's own middleware, router and exception handlers cost as much as all the rest of a short
    request (`benchmarks/request.py`); they answer what this middleware passes on.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.front: list[Middleware] = []  # the outermost first; read with the first request
        self._built: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if self._built is None:
            self._built = super().__call__
            for cls, args, kwargs in reversed(self.front):
                self._built = cls(self._built, *args, **kwargs)
        await self._built(scope, receive, send)


def create_app(
    models: Models,
    limits: Limits | None = None,
    keys: Keys | None = None,
    cors: tuple[str, ...] = (),
    request_ids: bool = True,
    suggestions: Suggestions | None = None,
    metrics: Callable[[], str] | None = None,
    open_metrics: bool = False,
    access_log: AccessLog | None = None,
) -> App:
    """Return the HTTP app over some models.

    Args:
        limits: the usual ones if None.
        keys: who may translate; None lets everybody.
        cors: origins whose pages may ask, `*` for any.
        request_ids: answer with `x-request-id`; Ray Serve does so itself.
        suggestions: where better translations are stored; None refuses them.
        metrics: returns the metrics as Prometheus reads them; None has no `/metrics`.
        open_metrics: answer `/metrics` without a key, where there are no keys.
        access_log: where requests are logged, if they are.
    """
    app = App(
        title="s2s",
        version=__version__,
        description="Translates with LSTM encoder–decoders. `/translate`, `/detect`, `/suggest`, "
        "`/languages`, `/health` and `/frontend/settings` are LibreTranslate's; `/v1` gives more "
        "detail.",
        docs_url=None,  # it would need scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lose the body, or go where `Host` says
    )
    service, gate = Service(models), Gate(limits or Limits(), keys)
    libretranslate = LibreTranslateRoutes(service, gate, suggestions)
    information = InformationRoutes(service, gate, suggestions is not None)
    app.add_route("/", page, methods=["GET"], include_in_schema=False)
    app.add_route("/docs", reference, methods=["GET"], include_in_schema=False)
    for routes in (libretranslate, V1Routes(service, gate), information):
        routes.add_to(app)
    if metrics:
        MetricsRoute(gate, metrics, open_metrics).add_to(app)
    add_other_methods(app)
    add_error_handlers(app)

    # Serve looks for a request's route among them, in this order.
    app.router.routes.sort(key=lambda route: getattr(route, "path", None) != TRANSLATE)
    paths = frozenset(route.path for route in app.routes if isinstance(route, Route))
    app.front = [Middleware(Disconnects), Middleware(TrailingSlash)]
    if access_log:
        app.front.append(Middleware(AccessLogging, log=access_log, paths=paths))
    app.front.append(
        Middleware(
            Guard,
            max_body=gate.limits.body,
            meters=models.meters,
            label=service.labels,
            paths=paths,
            request_ids=request_ids,
        )
    )
    if cors:
        app.front.append(
            Middleware(
                CORSMiddleware,
                allow_origins=cors,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["x-s2s-model", INCOMPLETE, "x-request-id", "retry-after"],
            )
        )
    app.front += [
        Middleware(Expansion, max_body=gate.limits.body),
        Middleware(Shortcut, path=TRANSLATE, endpoint=libretranslate.timed_translate),
    ]
    return app
