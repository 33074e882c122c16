"""`/metrics`, for Prometheus."""

import asyncio
from collections.abc import Callable

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse

from s2s.serving.http.error_responses import ERROR_RESPONSES
from s2s.serving.http.gate import Gate

PATH = "/metrics"
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsRoute:
    """The endpoint of the metrics. Its docstring is OpenAPI's description.

    Args:
        read: returns the metrics as Prometheus reads them.
        is_open: whether anybody may read them, where there are no keys.
    """

    def __init__(self, gate: Gate, read: Callable[[], str], is_open: bool) -> None:
        self._gate, self._read, self._open = gate, read, is_open

    def add_to(self, app: FastAPI) -> None:
        """Add the route to an app."""
        app.add_api_route(
            PATH,
            self.metrics,
            methods=["GET"],
            response_class=PlainTextResponse,
            responses={403: ERROR_RESPONSES[403]},
        )

    async def metrics(self, request: Request) -> PlainTextResponse:
        """Give the service's counters, as Prometheus reads them, to who has an API key."""
        if not self._gate.has_keys and not self._open:
            raise HTTPException(403, "metrics need an API key, and this service has no keys")
        if not self._gate.knows(request):
            raise HTTPException(403, "An API key is needed")
        return PlainTextResponse(await asyncio.to_thread(self._read), media_type=_CONTENT_TYPE)
