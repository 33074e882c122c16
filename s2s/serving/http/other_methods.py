"""HEAD, OPTIONS and methods that are not allowed, on every path."""

from collections import defaultdict

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


def add_other_methods(app: FastAPI) -> None:
    """Have the paths of an app answer the methods that their routes leave out.

    HEAD is answered as GET without the body; where that would translate, with `Allow` only.
    """
    methods: dict[str, set[str]] = defaultdict(set)
    for route in [route for route in app.routes if isinstance(route, Route)]:
        methods[route.path] |= route.methods or set()
    for route in [route for route in app.routes if isinstance(route, APIRoute)]:
        if methods[route.path] == {"GET"}:
            app.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
    for path, allowed in methods.items():
        answer = _OtherMethods(", ".join(sorted(allowed | {"HEAD", "OPTIONS"})))
        # An ASGI app, which is no function, gets every method that no route before it takes.
        app.router.routes.append(Route(path, answer, include_in_schema=False))


class _OtherMethods:
    """ASGI app that tells which methods a path allows."""

    def __init__(self, allowed: str) -> None:
        self._headers = {"Allow": allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["method"] not in ("HEAD", "OPTIONS"):
            raise HTTPException(405, headers=self._headers)
        await Response(headers=self._headers)(scope, receive, send)
