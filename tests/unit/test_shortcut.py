"""The path around FastAPI's router, beside the router itself: no answer tells which it came by."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from s2s.serving.engine.models import Models
from s2s.serving.http.app import create_app
from s2s.serving.http.gate import Limits
from s2s.serving.http.shortcut import Shortcut
from tests.support.serving import keys_of

BODY = {"q": "I see trees.", "source": "en", "target": "fr"}
LIMITS = Limits(sentences=3, characters=100)


def without_shortcut(app: FastAPI) -> FastAPI:
    before = len(app.user_middleware)
    app.user_middleware = [each for each in app.user_middleware if each.cls is not Shortcut]
    assert len(app.user_middleware) == before - 1
    return app


def ask(app: FastAPI, *requests: dict[str, Any]) -> list[tuple[int, bytes, list[tuple[str, str]]]]:
    """The status, body and headers of each answer."""

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(**{"url": "/translate", **each}) for each in requests]

    return [
        (
            answer.status_code,
            answer.content,
            [h for h in answer.headers.items() if "-id" not in h[0]],
        )
        for answer in asyncio.run(run())
    ]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "POST", "json": BODY}, 200),
        ({"method": "POST", "json": {**BODY, "q": ["I see trees.", "you want bread?"]}}, 200),
        ({"method": "POST", "json": {**BODY, "source": "auto", "alternatives": 2}}, 200),
        ({"method": "POST", "json": {**BODY, "q": "<p>I see trees.</p>", "format": "html"}}, 200),
        ({"method": "POST", "data": BODY}, 200),
        ({"method": "GET", "params": BODY}, 200),
        ({"method": "GET"}, 400),
        ({"method": "POST", "content": b"{"}, 400),
        ({"method": "POST", "json": {**BODY, "target": "de"}}, 400),
        ({"method": "POST", "json": {**BODY, "q": ["a"] * 4}}, 413),
        ({"method": "POST", "content": b" " * 100_000}, 413),
        ({"method": "PUT", "json": BODY}, 405),
        ({"method": "HEAD"}, 200),
        ({"method": "OPTIONS"}, 200),
        ({"method": "POST", "url": "/translate/", "json": BODY}, 200),
        ({"method": "POST", "json": {**BODY, "source": "EN"}}, 200),
        ({"method": "POST", "json": {**BODY, "q": " "}}, 200),
        ({"method": "POST", "json": BODY, "headers": {"content-encoding": "gzip"}}, 400),
        ({"method": "POST", "json": BODY, "headers": {"content-encoding": "br"}}, 415),
        ({"method": "POST", "url": "/translate/no", "json": BODY}, 404),
    ],
)
def test_both_ways_answer_the_same(request_: dict[str, Any], status: int, models: Models) -> None:
    app = create_app(models, LIMITS)
    [answer] = ask(app, request_)
    assert answer[0] == status
    assert ask(without_shortcut(app), request_) == [answer]


def test_both_ways_refuse_the_same_keys(models: Models, tmp_path: Path) -> None:
    requests = [
        {"method": "POST", "json": {**BODY, **field}}
        for field in ({}, {"api_key": "wrong"}, {"api_key": "right"}, {"api_key": "right"})
    ]
    answers = []
    for change in (lambda app: app, without_shortcut):
        keys, secrets = keys_of(tmp_path, ann=1)
        for request in requests:
            if "api_key" in request["json"] and request["json"]["api_key"] != "wrong":
                request["json"]["api_key"] = secrets["ann"]
        answers.append(ask(change(create_app(models, LIMITS, keys)), *requests))
    assert [status for status, *_ in answers[0]] == [403, 403, 200, 429]
    assert answers[0] == answers[1]


def test_both_ways_time_out(models: Models) -> None:
    app = create_app(models, Limits(seconds=1e-6))
    answers = [ask(each, {"method": "POST", "json": BODY}) for each in (app, without_shortcut(app))]
    assert answers[0][0][0] == 408
    assert answers[0] == answers[1]
