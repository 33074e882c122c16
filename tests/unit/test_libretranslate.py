"""LibreTranslate's interface as its clients know it: codes, blanks, detection, methods, bodies."""

import gzip
import json
import re
import threading
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.serving.engine.models import Models
from s2s.serving.http.gate import Limits
from s2s.serving.http.page import inline_hashes
from s2s.serving.http.suggestions import Suggestion, Suggestions
from tests.support.serving import client_of, copied, keys_of, models_of

SENTENCE = "I see trees."
FRENCH = "Bonjour tout le monde, comment allez-vous ?"
GERMAN = "Das ist ein Satz in der deutschen Sprache, den hier jeder verstehen kann."
BODY = {"q": SENTENCE, "source": "en", "target": "fr"}
LIMITS = Limits(sentences=20, characters=2_000)
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def both_ways(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """Models from English to French, back, and from English to German."""
    folder = tmp_path_factory.mktemp("others")
    with models_of(
        model_dir,
        copied(model_dir, folder / "fr-en", "fr", "en"),
        copied(model_dir, folder / "en-de", "en", "de"),
    ) as models:
        yield models


@pytest.fixture(scope="module")
def client(both_ways: Models) -> Iterator[httpx.Client]:
    with client_of(both_ways, limits=LIMITS) as client:
        yield client


@pytest.fixture
def expected(translator: Translator) -> str:
    return translator.translate([SENTENCE])[0]


def ask(client: httpx.Client, q: Any = SENTENCE, **others: Any) -> httpx.Response:
    return client.post("/translate", json={**BODY, "q": q, **others})


def answer(client: httpx.Client, q: Any = SENTENCE, **others: Any) -> dict[str, Any]:
    response = ask(client, q, **others)
    assert response.status_code == 200, response.text
    given: dict[str, Any] = response.json()
    return given


def fault(response: httpx.Response) -> str:
    """The message of an error, which is all that its body has."""
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


# ---- languages -----------------------------------------------------------------------------------


def test_every_language_is_listed_with_its_targets_and_itself(client: httpx.Client) -> None:
    assert client.get("/languages").json() == [
        {"code": "de", "name": "German", "targets": ["de"]},
        {"code": "en", "name": "English", "targets": ["de", "en", "fr"]},
        {"code": "fr", "name": "French", "targets": ["en", "fr"]},
    ]


@pytest.mark.parametrize(
    "pair", ["EN:fr", "en-US:fr", "en_GB:fr", "en:FR", "en:fr-CA", "Auto:fr", "AUTO:fr_FR"]
)
def test_codes_come_in_any_spelling(pair: str, client: httpx.Client, expected: str) -> None:
    source, target = pair.split(":")
    given = answer(client, source=source, target=target)
    assert given["translatedText"] == expected
    detailed = client.post(
        "/v1/translate", json={"q": SENTENCE, "source": source, "target": target}
    ).json()
    assert (detailed["model"]["source"], detailed["model"]["target"]) == ("en", "fr")
    streamed = client.post(
        "/v1/translate/stream", json={"q": SENTENCE, "source": source, "target": target}
    )
    assert expected in json.loads(streamed.text.rpartition("data: ")[2])["translatedText"]


def test_a_served_code_wins_over_its_base_and_a_served_pair_over_both(
    model_dir: Path, tmp_path: Path
) -> None:
    folders = [
        copied(model_dir, tmp_path / "en-pt", "en", "pt"),
        copied(model_dir, tmp_path / "en-pb", "en", "pt-BR"),
        copied(model_dir, tmp_path / "us-fr", "en-US", "fr"),
    ]
    with models_of(*folders) as models, client_of(models) as client:
        for source, target, name in (
            ("en", "pt", "en-pt"),
            ("en", "pt-PT", "en-pt"),
            ("en", "pb", "en-pb"),
            ("en", "pt_br", "en-pb"),
            ("en-us", "fr", "us-fr"),
            ("en-us", "pt", "en-pt"),  # en-US is served, but not from it to pt
            ("en-GB", "pt", "en-pt"),
            ("auto", "PB", "en-pb"),
        ):
            response = ask(client, source=source, target=target)
            assert response.headers["x-s2s-model"].startswith(f"{name}@"), (source, target)


@pytest.mark.parametrize("text", [SENTENCE, "<p>I see <b>trees</b>.</p>", "", ["a", "b"]])
@pytest.mark.parametrize("pair", ["en:en", "EN:en-US", "de:de"])
def test_into_its_own_language_a_text_stays(text: Any, pair: str, client: httpx.Client) -> None:
    source, target = pair.split(":")
    for format_ in ("text", "html"):
        given = answer(client, text, source=source, target=target, format=format_)
        assert given == {"translatedText": text}
    given = answer(client, text, source=source, target=target, alternatives=2)
    assert given["alternatives"] == ([[], []] if isinstance(text, list) else [])


def test_auto_sees_that_a_text_is_in_the_target_already(client: httpx.Client) -> None:
    given = answer(client, FRENCH, source="auto")
    assert given["translatedText"] == FRENCH
    assert given["detectedLanguage"]["language"] == "fr"
    assert 90 < given["detectedLanguage"]["confidence"] <= 100
    html = f'<p class="the same words in English">{FRENCH}</p>'
    assert answer(client, html, source="auto", format="html")["translatedText"] == html


def test_auto_looks_at_each_text_of_a_list(client: httpx.Client, expected: str) -> None:
    given = answer(client, [FRENCH, SENTENCE, "", FRENCH], source="auto", alternatives=1)
    assert given["translatedText"] == [FRENCH, expected, "", FRENCH]
    assert [each["language"] for each in given["detectedLanguage"][:2]] == ["fr", "en"]
    assert [len(each) for each in given["alternatives"]] == [0, 1, 0, 0]


def test_auto_refuses_what_is_surely_in_a_language_without_a_model(client: httpx.Client) -> None:
    response = ask(client, GERMAN, source="auto", target="fr")
    assert response.status_code == 400
    assert "seems to be de" in fault(response)
    assert answer(client, GERMAN, source="auto", target="de")["translatedText"] == GERMAN


@pytest.mark.parametrize("text", ["OK", "12:30", "🙂", "Hello", "Oui"])
def test_the_confidence_in_a_guess_is_that_of_a_guess(text: str, client: httpx.Client) -> None:
    confidence = answer(client, text, source="auto")["detectedLanguage"]["confidence"]
    assert 0 < confidence < 80


def test_several_texts_are_detected_together(client: httpx.Client) -> None:
    shares = client.post("/detect", json={"q": ["Oui", FRENCH, ""]}).json()
    assert [sorted(each) for each in shares] == [["confidence", "language"]] * 3
    assert shares[0]["language"] == "fr"
    assert {each["language"] for each in shares} == {"de", "en", "fr"}
    assert sum(each["confidence"] for each in shares) == pytest.approx(100, abs=0.2)
    assert client.post("/detect", data={"q": ["Oui", FRENCH]}).json()[0]["language"] == "fr"
    assert client.post("/detect", json={"q": " "}).json()[0]["confidence"] == 33.3


# ---- blanks and fields left out ------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "\u00a0\u2003", [""], ["", "\n"], "<p> </p>", ["<br>", "&nbsp;"]]
)
@pytest.mark.parametrize("source", ["en", "auto"])
def test_blanks_come_back_as_they_are(text: Any, source: str, client: httpx.Client) -> None:
    assert answer(client, text, source=source, format="html")["translatedText"] == text
    if "<" not in str(text):
        assert answer(client, text, source=source)["translatedText"] == text
        detailed = client.post("/v1/translate", json={**BODY, "q": text})
        texts = [text] if isinstance(text, str) else text
        assert [each["text"] for each in detailed.json()["translations"]] == texts
    if isinstance(text, str):
        streamed = client.post("/v1/translate/stream", json={**BODY, "q": " \n"}).text
        assert json.loads(streamed.rpartition("data: ")[2])["translatedText"] == " \n"


def test_blanks_among_texts_come_back_as_they_are(client: httpx.Client, expected: str) -> None:
    given = answer(client, [" ", SENTENCE, "\t\n"])
    assert given["translatedText"] == [" ", expected, "\t\n"]


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_empty_fields_are_absent(
    nothing: str | None, client: httpx.Client, expected: str
) -> None:
    absent = dict.fromkeys(["format", "alternatives", "api_key"], nothing)
    assert answer(client, **absent) == {"translatedText": expected}
    assert client.post("/detect", json={"q": "a", "api_key": nothing}).status_code == 200
    fields = ["source", "target", "beam", "n_best", "temperature", "api_key"]
    body = {"q": SENTENCE, **dict.fromkeys(fields, nothing), "target": "fr"}
    response = client.post("/v1/translate", json=body)
    assert response.json()["translations"][0]["text"] == expected
    for field in ("source", "target"):
        assert fault(ask(client, **{field: nothing})) == f"{field}: Field required"


def test_empty_fields_of_a_form_are_absent(client: httpx.Client, expected: str) -> None:
    form = {**BODY, "format": "", "alternatives": "", "api_key": ""}
    assert client.post("/translate", data=form).json() == {"translatedText": expected}
    parts = [(name, (None, value)) for name, value in form.items()]
    assert client.post("/translate", files=parts).json() == {"translatedText": expected}


# ---- methods and paths ---------------------------------------------------------------------------

GETS = ["/", "/docs", "/openapi.json", "/health", "/languages", "/frontend/settings", "/v1/models"]
POSTS = ["/translate", "/detect", "/suggest", "/v1/translate", "/v1/translate/stream"]


def test_every_path_answers_head_and_options(client: httpx.Client) -> None:
    described = set(client.get("/openapi.json").json()["paths"])
    assert described <= {*GETS, *POSTS}, "a path that this test does not know"
    for path in (*GETS, *POSTS):
        options = client.options(path)
        assert (options.status_code, options.content) == (200, b"")
        allowed = set(options.headers["allow"].split(", "))
        assert {"HEAD", "OPTIONS", "GET" if path in GETS else "POST"} <= allowed
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        if path in GETS:
            got = client.get(path)
            assert head.headers["content-type"] == got.headers["content-type"]
            assert head.headers["content-length"] == got.headers["content-length"]
        refused = client.put(path)
        assert refused.status_code == 405
        assert fault(refused)
        assert set(refused.headers["allow"].split(", ")) == allowed
    for method in ("HEAD", "OPTIONS"):
        assert client.request(method, "/nowhere").status_code == 404


def test_a_page_of_an_allowed_origin_may_still_ask_first(both_ways: Models) -> None:
    with client_of(both_ways, cors=("https://example.org",)) as client:
        headers = {"origin": "https://example.org", "access-control-request-method": "POST"}
        response = client.options("/translate", headers=headers)
        assert response.headers["access-control-allow-origin"] == "https://example.org"
        assert "POST" in response.headers["access-control-allow-methods"]


def test_a_trailing_slash_is_answered_directly(
    client: httpx.Client, both_ways: Models, expected: str
) -> None:
    both_ways.meters.collect()
    headers = {"host": "evil.example"}
    response = client.post("/translate/", json=BODY, headers=headers)
    assert response.json() == {"translatedText": expected}
    assert "location" not in response.headers
    assert client.get("/languages/").json() == client.get("/languages").json()
    assert client.get("/docs/").status_code == 200
    assert client.get("//").status_code == 200
    missing = client.get("/nowhere/", headers=headers)
    assert (missing.status_code, "location" in missing.headers) == (404, False)


# ---- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", ""])
def test_json_comes_in_any_unicode(
    encoding: str, kind: str, client: httpx.Client, translator: Translator
) -> None:
    text = "I see trees, é 木 🙂."
    body = json.dumps({**BODY, "q": text}, ensure_ascii=False).encode(encoding)
    headers = {"content-type": kind} if kind else {}
    response = client.post("/translate", content=body, headers=headers)
    assert response.json() == {"translatedText": translator.translate([text])[0]}


@pytest.mark.parametrize("body", [b"\xff\xfe{", b"\xff\xfe\x00\xd8{\x00", b"\x00\x00\xfe\xff\xff"])
def test_broken_unicode_is_refused(body: bytes, client: httpx.Client) -> None:
    response = client.post("/translate", content=body, headers=JSON)
    assert response.status_code == 400
    assert fault(response)


def raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-15)


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
    ],
)
def test_compressed_bodies_are_taken(
    coding: str, compress: Any, client: httpx.Client, expected: str
) -> None:
    headers = {"content-encoding": coding}
    form = str(httpx.QueryParams(BODY)).encode()
    for body, kind in (
        (json.dumps(BODY).encode(), "application/json"),
        (form, "application/x-www-form-urlencoded"),
    ):
        content = compress(body)
        halves = (content[:9], content[9:])  # chunks, without a length
        for sent in (content, iter(halves)):
            response = client.post(
                "/translate", content=sent, headers={**headers, "content-type": kind}
            )
            assert response.json() == {"translatedText": expected}


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", b"{}", 415),
        ("zstd", b"{}", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), 415),
        ("gzip", b"{}", 400),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-1], 400),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more", 400),
        ("deflate", b"{}", 400),
        ("gzip", b"", 400),
        ("gzip", gzip.compress(b" " * (50 << 20)), 413),  # 50 kB
        ("deflate", zlib.compress(b" " * (LIMITS.body + 1)), 413),
    ],
)
def test_other_compressed_bodies_are_refused(
    coding: str, body: bytes, status: int, client: httpx.Client
) -> None:
    headers = {**JSON, "content-encoding": coding}
    for path in ("/translate", "/detect", "/v1/translate"):
        response = client.post(path, content=body, headers=headers)
        assert response.status_code == status
        assert fault(response)
        assert response.headers.get("accept-encoding", "gzip, deflate") == "gzip, deflate"


@pytest.mark.parametrize(
    ("body", "kind", "needed"),
    [
        (json.dumps(BODY), "application/x-www-form-urlencoded", "application/json"),
        ("q=I+see+trees.&source=en&target=fr", "", "application/x-www-form-urlencoded"),
        ("q=I+see+trees.", "application/json", "application/x-www-form-urlencoded"),
        ('--x\r\nContent-Disposition: form-data; name="q"\r\n\r\na\r\n--x--\r\n',
         "text/plain", "multipart/form-data"),
    ],
)  # fmt: skip
def test_a_body_of_another_kind_than_its_header_says_gets_a_hint(
    body: str, kind: str, needed: str, client: httpx.Client
) -> None:
    headers = {"content-type": kind} if kind else {}
    response = client.post("/translate", content=body, headers=headers)
    assert response.status_code == 400
    assert f"content-type: {needed}" in fault(response)
    assert "content-type" not in fault(client.post("/translate", json={"q": "a"}))


def test_json_needs_no_header(client: httpx.Client, expected: str) -> None:
    response = client.post("/translate", content=json.dumps(BODY))
    assert response.json() == {"translatedText": expected}


# ---- suggestions ---------------------------------------------------------------------------------

SUGGESTION = {"q": SENTENCE, "s": "Je vois\ndes arbres\u2028!", "source": "EN", "target": "fr_FR"}


def test_suggestions_are_refused_where_they_are_not_switched_on(client: httpx.Client) -> None:
    response = client.post("/suggest", json=SUGGESTION)
    assert response.status_code == 403
    assert "disabled" in fault(response)
    assert client.get("/frontend/settings").json()["suggestions"] is False


def test_suggestions_are_lines_of_json(both_ways: Models, tmp_path: Path) -> None:
    path = tmp_path / "suggestions.jsonl"
    keys, told = keys_of(tmp_path, ann=None)
    with client_of(both_ways, keys=keys, suggestions=Suggestions(path), limits=LIMITS) as client:
        assert client.get("/frontend/settings").json()["suggestions"] is True
        key = {"api_key": told["ann"]}
        sendings: list[dict[str, Any]] = [
            {"json": {**SUGGESTION, **key}},
            {"data": {**SUGGESTION, **key, "source": "auto"}},
            {"json": SUGGESTION, "headers": {"authorization": f"Bearer {told['ann']}"}},
        ]
        for sent in sendings:
            assert client.post("/suggest", **sent).json() == {"success": True}
        for wrong, status in (
            ({"api_key": "wrong"}, 403),
            ({**key, "s": " "}, 400),
            ({**key, "q": ""}, 400),
            ({**key, "s": None}, 400),
            ({**key, "target": "it"}, 400),
            ({**key, "s": "a" * 2_000}, 413),
        ):
            response = client.post("/suggest", json={**SUGGESTION, **wrong})
            assert response.status_code == status
            assert fault(response)
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    assert [line.pop("source") for line in lines] == ["en", "auto", "en"]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line.pop("time"))
        line["s"] = line["s"].replace("\r\n", "\n")
        assert line == {"q": SENTENCE, "s": SUGGESTION["s"], "target": "fr", "key": "ann"}


def test_suggestions_end_at_their_bound_and_never_mix(both_ways: Models, tmp_path: Path) -> None:
    path = tmp_path / "suggestions.jsonl"
    bound = 20_000
    with client_of(both_ways, suggestions=Suggestions(path, bound)) as client:
        statuses: list[int] = []

        def suggest(text: str) -> None:
            body = {**SUGGESTION, "s": text * 500}
            statuses.extend(client.post("/suggest", json=body).status_code for _ in range(15))

        threads = [threading.Thread(target=suggest, args=(text,)) for text in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200, 507}
        assert "full" in fault(client.post("/suggest", json={**SUGGESTION, "s": "a" * 500}))
    lines = [json.loads(line)["s"] for line in path.read_text("utf-8").splitlines()]
    assert len(lines) == statuses.count(200)
    assert all(line == line[0] * 500 for line in lines)
    assert path.stat().st_size <= bound


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        Suggestions(tmp_path / "nowhere" / "file")
    with pytest.raises(BadInput, match="directory"):
        Suggestions(tmp_path)
    suggestions = Suggestions(tmp_path / "file")
    suggestions.add(Suggestion("a", "b", "en", "fr", None))
    assert json.loads((tmp_path / "file").read_text("utf-8"))["key"] is None


# ---- the reference -------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Collects what a page links to and names, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_docs_show_the_whole_interface_and_need_nothing_from_elsewhere(
    client: httpx.Client,
) -> None:
    response = client.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert f"style-src {inline_hashes(response.text, 'style')};" in policy
    page = _Page()
    page.feed(response.text)
    assert not {"script", "iframe", "object", "form"} & set(page.tags)
    assert "style=" not in response.text  # the policy would not let it count
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link in ("data:,", "./", "openapi.json") or link[1:] in page.ids, link
    openapi = client.get("/openapi.json").json()
    for path, operations in openapi["paths"].items():
        assert path in page.text
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for name, field in content["schema"]["properties"].items():
                    assert name in page.text
                    assert field.get("description", "").replace("`", "") in page.text
    for name in openapi["components"]["schemas"]:
        assert name in page.ids


def test_an_example_of_the_docs_works(client: httpx.Client, translator: Translator) -> None:
    page = _Page()
    page.feed(client.get("/docs").text)
    examples = re.findall(r"curl ADDRESS(\S+) -H 'content-type: application/json' \\\s+-d '(.*)'\n",
                          page.text.replace("\n\n", "\n"))  # fmt: skip
    assert {path for path, _ in examples} == set(POSTS)
    for path, body in examples:
        response = client.post(path, content=body.replace(r"'\''", "'"), headers=JSON)
        assert response.status_code == (403 if path == "/suggest" else 200)
