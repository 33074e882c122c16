"""Whatever comes over the wire: it is answered, never by a failure, and leaves nothing behind."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import httpx
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

# Pieces of texts: plain, of every direction and width, and what breaks those who take bytes.
TEXTS = [
    "I see trees.", "we want bread?", "\n", "\r\n", "\t", " ", "\0", "\x1b[31m", "\x7f", "\x85",
    "\u2028", "\ufeff", "\u200b", "\u202e", "مرحبا بالعالم", "שלום", "木の下", "é", "e\u0301" * 9,
    "🙂", "👨‍👩‍👧‍👦", "🏳️‍🌈", "\U0010ffff", "\ufffe", "<eos>", "<unk>", "<p>", "&amp;", "&#0;",
    "%00", "'; DROP TABLE", "${x}", "{{x}}", "../../etc/passwd", "a" * 300, "1e999", "NaN", "\\",
    '"', "ﷺ", "ß", "İ", "ǆ", "\ue000",
]  # fmt: skip
ODD = [
    "null", "true", "0", "-1", "1.5", "1e400", "NaN", "Infinity", "-Infinity", "[]", "{}", '""',
    "[[]]", "[null]", '[{"q": 1}]', '"\\ud800"', '"\\udfff\\ud800"', '["\\ud83d", "\\ude42"]',
    '"\\u0000"', "9" * 400, '"' + "x" * 3000 + '"', "18446744073709551616", "tru", "'q'",
]  # fmt: skip
KINDS = [
    "application/json", "application/json; charset=utf-16", "text/plain", "application/xml", "",
    "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=",
    "multipart/form-data; boundary=x", "multipart/form-data; boundary=" + "y" * 100, "*/*", ";;;",
    "application/json; charset=nosuch", "multipart/form-data; boundary=x; charset=nosuch",
    "APPLICATION/JSON", "application/x-www-form-urlencoded; charset=\xff",
]  # fmt: skip
FIELDS = ["q", "source", "target", "format", "alternatives", "api_key", "beam", "n_best", "seed",
          "temperature", "top_k", "top_p", "length_penalty", "unknown", "extra"]  # fmt: skip

Body = tuple[bytes, str]  # and its content type


def text(chance: random.Random) -> str:
    return "".join(chance.choices(TEXTS, k=chance.randrange(1, 6)))


def value(chance: random.Random, field: str) -> str:
    """A value of a field as JSON, most often a fitting one."""
    if chance.random() < 0.06:
        return chance.choice(ODD)
    fitting: dict[str, Callable[[], object]] = {
        "q": lambda: text(chance) if chance.random() < 0.7 else [text(chance) for _ in range(3)],
        "source": lambda: chance.choice(["en", "en", "auto", "auto", "x"]),
        "target": lambda: chance.choice(["fr"] * 9 + ["en"]),
        "format": lambda: chance.choice(["text", "html"]),
        "alternatives": lambda: chance.randrange(-1, 4),
        "unknown": lambda: chance.choice(["mark", "copy", "avoid", "no"]),
        "api_key": lambda: text(chance),
        "seed": lambda: chance.randrange(3),
        "extra": lambda: text(chance),
    }
    made = fitting.get(field, lambda: chance.choice([1, 2, 3, 0.5]))()
    return json.dumps(made, ensure_ascii=chance.random() < 0.5)


def as_json(chance: random.Random) -> Body:
    few = ["q", "source", "target"]
    fields = few + chance.choices(FIELDS, k=chance.choice([0, 0, 1, 3]))  # some of them twice
    if chance.random() < 0.1:
        fields.remove(chance.choice(few))
    body = ", ".join(f'"{field}": {value(chance, field)}' for field in fields)
    return f"{{{body}}}".encode("utf-8", "surrogatepass"), "application/json"


def cut_off(chance: random.Random) -> Body:
    body, kind = chance.choice([as_json, as_form, as_parts])(chance)
    return body[: chance.randrange(len(body))], kind


def bytes_changed(chance: random.Random) -> Body:
    body, kind = chance.choice([as_json, as_form, as_parts])(chance)
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 5)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed), kind


def of_another_kind(chance: random.Random) -> Body:
    return chance.choice([as_json, as_form, as_parts, noise])(chance)[0], chance.choice(KINDS)


def noise(chance: random.Random) -> Body:
    return chance.randbytes(chance.randrange(300)), chance.choice(KINDS)


def deep(chance: random.Random) -> Body:
    depth = chance.choice([100, 5_000, 60_000])
    opened, closed = chance.choice([("[", "]"), ('{"q":', "}"), ('{"a":[', "]}")])
    end = closed * depth if chance.random() < 0.5 else ""
    body = opened * depth + end
    return f'{{"q": {body}}}'[:140_000].encode(), "application/json"


def huge(chance: random.Random) -> Body:
    size = chance.choice([9_000, 30_000, 140_000, 200_000])
    piece = chance.choice(TEXTS)
    long = (piece * size)[:size]
    body = json.dumps({"q": long, "source": "en", "target": "fr"}, ensure_ascii=False)
    return body.encode("utf-8", "surrogatepass"), "application/json"


def as_form(chance: random.Random) -> Body:
    fields = ["q", "source", "target", *chance.choices(FIELDS, k=chance.randrange(3))]
    spelt = [
        f"{field}={httpx.QueryParams({'': value(chance, field).strip(chr(34))})}".replace("==", "=")
        for field in fields
    ]
    odd = chance.choice(["", "", "&", "&&", "&q", "=", "&%", "&q=%ED%A0%80", "&q=%FF%FE", "&q=%0"])
    return ("&".join(spelt) + odd).encode(), "application/x-www-form-urlencoded"


def as_parts(chance: random.Random) -> Body:
    fields = ["q", "source", "target", *chance.choices(FIELDS, k=chance.randrange(3))]
    parts = []
    for field in fields:
        file = '; filename="a.txt"' if chance.random() < 0.1 else ""
        kind = "\r\nContent-Type: text/plain; charset=utf-16" if chance.random() < 0.1 else ""
        content = value(chance, field).strip('"')
        head = f'Content-Disposition: form-data; name="{field}"{file}{kind}'
        parts.append(f"--x\r\n{head}\r\n\r\n{content}\r\n")
    body = "".join(parts) + chance.choice(["--x--\r\n", "--x--", "", "--y--", "--x\r\n\r\n"])
    return body.encode("utf-8", "surrogatepass"), "multipart/form-data; boundary=x"


MAKERS = [as_json] * 8 + [as_form, as_parts] * 3 + [cut_off, bytes_changed, of_another_kind] * 2
RARE = [noise, deep, huge]


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
