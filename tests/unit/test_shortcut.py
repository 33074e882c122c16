"""The path around FastAPI's router, beside the router itself: no answer tells which it came by."""

import asyncio
import gzip
import json
import random
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from s2s.serving.engine.models import Models
from s2s.serving.http.app import App, create_app
from s2s.serving.http.gate import Limits
from s2s.serving.http.responses import json_response
from s2s.serving.http.schema import PlainTranslateRequest, TranslateRequest
from s2s.serving.http.shortcut import Shortcut
from tests.support.bodies import TEXTS, as_json, bytes_changed, cut_off
from tests.support.serving import keys_of

BODY = {"q": "I see trees.", "source": "en", "target": "fr"}
ZIP = {"content-encoding": "gzip", "content-type": "application/json"}
JSON_16 = "Application/JSON; charset=utf-16"  # which JSON does not have: it says so itself
FORM_DATA = "multipart/form-data"
PARTS = {"content-type": f"{FORM_DATA}; boundary=x"}
# In a field that is ignored otherwise.
INVALID_EXTRA = b'{"q": "x", "source": "en", "target": "fr", "extra": "\xff"}'
LIMITS = Limits(sentences=3, characters=100)


def without_shortcut(app: App) -> App:
    before = len(app.front)
    app.front = [each for each in app.front if each.cls is not Shortcut]
    assert len(app.front) == before - 1
    return app


def ask(app: App, *requests: dict[str, Any]) -> list[tuple[int, bytes, list[tuple[str, str]]]]:
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
        ({"method": "POST", "json": {**BODY, "q": ""}}, 200),
        ({"method": "POST", "json": {**BODY, "q": []}}, 400),
        ({"method": "POST", "json": {**BODY, "q": ["I see trees.", ""]}}, 200),
        ({"method": "POST", "json": {**BODY, "q": None}}, 400),
        ({"method": "POST", "json": {**BODY, "q": 3}}, 400),
        ({"method": "POST", "json": {**BODY, "alternatives": "1"}}, 200),
        ({"method": "POST", "json": {**BODY, "alternatives": 1.0}}, 200),
        ({"method": "POST", "json": {**BODY, "alternatives": 11}}, 400),
        ({"method": "POST", "json": {**BODY, "format": None, "api_key": ""}}, 200),
        ({"method": "POST", "json": {**BODY, "format": "pdf"}}, 400),
        ({"method": "POST", "json": {**BODY, "source": ""}}, 400),
        ({"method": "POST", "json": {**BODY, "target": "f" * 36}}, 400),
        ({"method": "POST", "json": {**BODY, "extra": {"a": [1]}}}, 200),
        ({"method": "POST", "json": [BODY]}, 400),
        ({"method": "POST", "content": json.dumps(BODY).encode("utf-16")}, 200),
        ({"method": "POST", "content": b"\xef\xbb\xbf" + json.dumps(BODY).encode()}, 200),
        ({"method": "POST", "content": json.dumps(BODY).encode() + b"}"}, 400),
        ({"method": "POST", "content": json.dumps({**BODY, "q": "\ud800"}).encode()}, 400),
        ({"method": "POST", "content": b'{"q": "\xff", "source": "en", "target": "fr"}'}, 400),
        ({"method": "POST", "content": INVALID_EXTRA}, 400),
        ({"method": "POST", "content": b"--x\r\na/b: c\r\n\r\n--x--", "headers": PARTS}, 400),
        ({"method": "POST", "content": b"--x", "headers": PARTS}, 400),
        ({"method": "POST", "content": b"", "headers": {"content-type": FORM_DATA}}, 400),
        ({"method": "POST", "content": b"", "headers": PARTS}, 400),
        ({"method": "POST", "content": b""}, 400),
        ({"method": "POST", "content": b" \n"}, 400),
        ({"method": "POST", "content": b"", "params": BODY}, 200),
        ({"method": "POST", "json": BODY, "params": {"q": "not this"}}, 200),
        ({"method": "POST", "json": BODY, "headers": {"content-type": "text/plain"}}, 200),
        ({"method": "POST", "json": BODY, "headers": {"content-type": JSON_16}}, 200),
        (
            {"method": "POST", "content": gzip.compress(json.dumps(BODY).encode()), "headers": ZIP},
            200,
        ),
        ({"method": "POST", "json": BODY, "headers": {"content-encoding": "gzip"}}, 400),
        ({"method": "POST", "json": BODY, "headers": {"content-encoding": "br"}}, 415),
        ({"method": "POST", "url": "/translate/no", "json": BODY}, 404),
    ],
)
def test_both_ways_answer_the_same(request_: dict[str, Any], status: int, models: Models) -> None:
    app = create_app(models, LIMITS)
    [answer] = ask(app, request_)
    assert answer[0] == status, answer
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


def test_what_is_read_quickly_is_what_pydantic_reads() -> None:
    """No body is taken that pydantic refuses, and none becomes another request."""
    decoder = msgspec.json.Decoder(PlainTranslateRequest)
    chance, quickly, refused = random.Random(5), 0, 0
    for _ in range(4_000):
        body, _ = chance.choice([as_json] * 6 + [cut_off, bytes_changed])(chance)
        try:
            read = decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            refused += 1
            continue
        quickly += 1
        assert msgspec.structs.asdict(read) == parsed(body), body
    assert min(quickly, refused) > 1_000  # else little was tried


def parsed(body: bytes) -> dict[str, Any]:
    return TranslateRequest.model_validate_json(body).model_dump()


@pytest.mark.parametrize(
    "body",
    [
        b'{"q": "x", "q": ["y"], "source": "en", "target": "fr"}',
        b' {"\\u0071": "\\ud83d\\ude42", "source": "en", "target": "fr", "alternatives": -0}\n',
        '{"q": [], "source": "ééééééééééééééééééééééééééééééééééé", "target": "f"}'.encode(),
        b'{"q": "\\u0000\x7f", "source": "en", "target": "fr", "api_key": null}',
    ],
)
def test_odd_bodies_are_read_alike(body: bytes) -> None:
    read = msgspec.json.Decoder(PlainTranslateRequest).decode(body)
    assert msgspec.structs.asdict(read) == parsed(body)


def test_answers_are_spelt_as_python_spells_them() -> None:
    for text in [*TEXTS, *map(chr, range(0x300))]:
        content = {"translatedText": [text], "alternatives": [[]], "confidence": 92.0}
        spelt = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        assert json_response(content).body == spelt.encode()
