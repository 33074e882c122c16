"""Whatever comes over the wire: it is answered, never by a failure, and leaves nothing behind."""

import random
import re
from collections import Counter
from contextlib import suppress

import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from s2s.decoding.translator import Translator
from s2s.serving.engine.models import Models
from s2s.serving.http.app import create_app
from tests.support.bodies import MAKERS, RARE, as_form, noise
from tests.support.serving import client_of, waiting

USUAL = 1_500  # bodies of a usual run
ALL = 10_000  # and of a long one
SETTLED = 0.2  # of the bodies, after which caches are full and the allocator knows its sizes
# Bytes that the process may grow by after that: the cache of words fills for longer, every word
# here being a new one. 41 MB have come in all, so bodies that were kept would be seen.
GROWTH = 24 << 20
PATHS = [
    "/translate",
    "/translate",
    "/translate",
    "/detect",
    "/suggest",
    "/v1/translate",
    "/v1/translate/stream",
]


# ---- by the description of the interface ---------------------------------------------------------


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
]


def try_out(operation: APIOperation, mode: GenerationMode, examples: int) -> set[int]:
    """The statuses of an operation's answers, each as the description has it."""
    statuses = set()
    events = operation.path.endswith("/stream")  # which no schema describes
    checks = CHECKS if events else [*CHECKS, response_schema_conformance]

    @settings(
        max_examples=examples,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        response = case.call()
        statuses.add(response.status_code)
        case.validate_response(response, checks=checks)

    with suppress(Unsatisfiable):  # nothing is wrong where nothing is asked
        check()
    return statuses


def test_the_interface_is_what_it_says_and_never_fails(models: Models) -> None:
    app = create_app(models, metrics=lambda: "", open_metrics=True)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    tried: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:  # what the description allows, and what it does not
            examples = 8 if operation.method.lower() == "post" else 4
            statuses = try_out(operation, mode, examples)
            tried[operation.label] = tried.get(operation.label, set()) | statuses
    assert {"POST /translate", "GET /translate", "POST /v1/translate/stream"} <= set(tried)
    assert set().union(*tried.values()) >= {200, 400}


# ---- by chance -----------------------------------------------------------------------------------


def memory() -> int:
    """Bytes that this process, which the server runs in, and those of models have in memory."""
    own = psutil.Process()
    return sum(process.memory_info().rss for process in [own, *own.children()])


@pytest.mark.parametrize("bodies", [USUAL, pytest.param(ALL, marks=pytest.mark.slow)])
def test_any_body_is_answered_and_leaves_nothing_behind(
    bodies: int, models: Models, translator: Translator
) -> None:
    chance = random.Random(bodies)
    statuses: dict[int, int] = {}
    before = 0
    with client_of(models) as client:
        for number in range(bodies):
            if number == int(bodies * SETTLED):
                before = memory()
            if number % 100 == 0:
                models.meters.collect()  # as an exporter does
            maker = chance.choice(RARE if chance.random() < 0.05 else MAKERS)
            body, kind = maker(chance)
            path = chance.choice(PATHS)
            headers = [(b"content-type", kind.encode("latin-1"))] if kind else []
            response = client.post(path, content=body, headers=headers)
            status = response.status_code
            assert 200 <= status < 300 or 400 <= status < 500, (path, kind, body[:500])
            if status >= 400:
                assert list(response.json()) == ["error"]
            elif path == "/v1/translate/stream":
                assert "event: done" in response.text
                assert "event: error" not in response.text
            else:
                response.json()
            statuses[status] = statuses.get(status, 0) + 1
        grown = memory() - before
        assert grown < GROWTH, f"{grown / 2**20:.1f} MB more after {bodies} bodies"
        # The bodies were of both kinds, else little was tried.
        assert statuses[200] > bodies / 5, statuses
        assert statuses[400] > bodies / 5, statuses
        assert set(statuses) <= {200, 400, 403, 413}
        texts = ["I see trees.", "we want bread?"]
        answer = client.post("/translate", json={"q": texts, "source": "en", "target": "fr"})
        assert answer.json() == {"translatedText": translator.translate(texts)}
        assert waiting(models) == 0
        assert client.get("/health").json() == {"status": "ok"}


def test_any_query_is_answered(models: Models) -> None:
    chance = random.Random(3)
    statuses = Counter[int]()
    with client_of(models) as client:
        for _ in range(200):
            body, _ = chance.choice([as_form, noise])(chance)
            query = re.sub(rb"[^!-~]", b"%ff", body).replace(b"#", b"")
            path = chance.choice(["/translate", "/detect"])
            method = chance.choice(["GET", "POST"])
            response = client.request(method, f"{path}?{query.decode('ascii')}")
            statuses[response.status_code] += 1
            assert set(statuses) <= {200, 400}, query
    assert min(statuses[200], statuses[400]) > 10, statuses  # else little was tried
