"""Clients that were written for LibreTranslate, as they are, on a running server."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import httpx
import pytest
from deep_translator import LibreTranslator
from deep_translator.exceptions import AuthorizationException, ServerException
from libretranslatepy import LibreTranslateAPI

from s2s.decoding.translator import Translator
from s2s.serving.engine.models import Models
from tests.support.libretranslate import (
    Discourse,
    Mastodon,
    RefusedError,
    RocketChat,
    Weblate,
    tags,
)
from tests.support.serving import client_of, copied, keys_of, models_of, serving

SENTENCE = "I see trees."


@pytest.fixture(scope="module")
def address(models: Models) -> Iterator[str]:
    """A server that lets everybody in."""
    with serving(models) as address:
        yield address


@pytest.fixture(scope="module")
def locked(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server that asks for a key, and a key."""
    keys, told = keys_of(tmp_path_factory.mktemp("keys"), ann=None)
    with serving(models, keys=keys) as address:
        yield address, told["ann"]


@pytest.fixture
def expected(translator: Translator) -> str:
    return translator.translate([SENTENCE])[0]


# ---- libretranslatepy: forms ---------------------------------------------------------------------


def test_libretranslatepy_translates(address: str, expected: str) -> None:
    assert LibreTranslateAPI(address).translate(SENTENCE, "en", "fr") == expected


def test_libretranslatepy_translates_marks_of_forms_and_letters_of_any_language(
    address: str, translator: Translator
) -> None:
    for text in (
        "I see trees & bread + 100 %?",
        "é ß 木 🙂 مرحبا",
        "I see bread.\nyou want trees!",
    ):
        given = LibreTranslateAPI(address).translate(text, "en", "fr")
        assert given == translator.translate([text])[0]


def test_libretranslatepy_detects(address: str) -> None:
    found, other = LibreTranslateAPI(address).detect("This is the English that everybody speaks.")
    assert (found["language"], other["language"]) == ("en", "fr")
    assert 90 < found["confidence"] <= 100


def test_libretranslatepy_lists_languages(address: str) -> None:
    assert LibreTranslateAPI(address).languages() == [
        {"code": "en", "name": "English", "targets": ["en", "fr"]},
        {"code": "fr", "name": "French", "targets": ["fr"]},
    ]


def test_libretranslatepy_lets_the_language_be_detected(address: str, expected: str) -> None:
    assert LibreTranslateAPI(address).translate(SENTENCE, "auto", "fr") == expected


def test_libretranslatepy_with_a_key_that_nobody_asked_for_translates(
    address: str, expected: str
) -> None:
    assert LibreTranslateAPI(address, "anything").translate(SENTENCE, "en", "fr") == expected


def test_libretranslatepy_translates_and_detects_with_its_key(
    locked: tuple[str, str], expected: str
) -> None:
    client = LibreTranslateAPI(*locked)
    assert client.translate(SENTENCE, "en", "fr") == expected
    assert client.detect(SENTENCE)[0]["language"] == "en"
    assert client.languages()[0]["code"] == "en"


@pytest.mark.parametrize("key", [None, "wrong"])
def test_libretranslatepy_is_refused_without_the_key(
    key: str | None, locked: tuple[str, str]
) -> None:
    client = LibreTranslateAPI(locked[0], key)
    for ask in (lambda: client.translate(SENTENCE, "en", "fr"), lambda: client.detect(SENTENCE)):
        with pytest.raises(HTTPError) as refused:
            ask()
        assert refused.value.code == 403
        assert list(json.loads(refused.value.read())) == ["error"]
    assert client.languages()  # what is served is no secret, as with LibreTranslate


# ---- deep_translator: the query, and a key always ------------------------------------------------


def deep(address: str, key: str = "x", target: str = "fr", source: str = "en") -> LibreTranslator:
    return LibreTranslator(source, target, key, custom_url=f"{address}/")


def test_deep_translator_translates(address: str, expected: str) -> None:
    assert deep(address).translate(SENTENCE) == expected


def test_deep_translator_translates_several_texts(address: str, translator: Translator) -> None:
    texts = [SENTENCE, "you want bread?", "we see Paris & trees + 100 %!"]
    assert deep(address).translate_batch(texts) == translator.translate(texts)


def test_deep_translator_translates_with_its_key(locked: tuple[str, str], expected: str) -> None:
    assert deep(*locked).translate(SENTENCE) == expected


def test_deep_translator_with_a_wrong_key_is_not_authorized(locked: tuple[str, str]) -> None:
    with pytest.raises(AuthorizationException):
        deep(locked[0], "wrong").translate(SENTENCE)


def test_deep_translator_is_told_that_a_language_is_not_served(address: str) -> None:
    with pytest.raises(ServerException):
        deep(address, target="de").translate(SENTENCE)


# ---- Mastodon, Weblate, Discourse, Rocket.Chat ---------------------------------------------------

POST = (
    '<p>I see trees, <span class="h-card" translate="no"><a href="https://example.social/@ann" '
    'class="u-url mention">@<span>ann</span></a></span> and <b>bread</b>.<br>You want Paris?</p>\n'
    '<p>We see <a href="https://example.org/?a=1&amp;b=2" rel="nofollow">trees &amp; bread</a>!</p>'
)
MESSAGE = "I see trees and bread, and you want to see Paris with all of us."
FRENCH = "Je vois des arbres et du pain, et tu veux voir Paris avec nous tous."


@pytest.fixture(scope="module")
def both_ways(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service from English to French and back that lets everybody in."""
    folder = tmp_path_factory.mktemp("back")
    back = copied(model_dir, folder / "fr-en", "fr", "en")
    with models_of(model_dir, back) as models, client_of(models) as client:
        yield client


@pytest.fixture
def to_french(address: str) -> Iterator[httpx.Client]:
    """A service from English to French that lets everybody in."""
    with httpx.Client(base_url=address, timeout=20, trust_env=False) as client:
        yield client


def test_each_finds_the_only_pair_that_is_served(
    to_french: httpx.Client, translator: Translator
) -> None:
    expected = translator.translate([SENTENCE])[0]
    assert Mastodon(to_french).languages() == {"en": ["fr"], "fr": [], None: ["fr"]}
    assert Mastodon(to_french).translate([SENTENCE], "en", "fr") == [(expected, "en")]
    assert Weblate(to_french).translate(SENTENCE, "en", "fr") == expected
    assert Discourse(to_french).translate(SENTENCE, "fr") == ("en", expected)
    assert RocketChat(to_french).languages() == ["en", "fr"]
    assert RocketChat(to_french).translate(SENTENCE, "fr") == expected


@pytest.mark.parametrize(("source", "target"), [("fr", "en"), ("de", "fr"), (None, "de")])
def test_mastodon_offers_no_other_pair(
    source: str | None, target: str, to_french: httpx.Client
) -> None:
    with pytest.raises(RefusedError, match="not translatable"):
        Mastodon(to_french).translate([SENTENCE], source, target)


def test_mastodon_gets_intact_html_back(both_ways: httpx.Client) -> None:
    texts = [POST, "", "<p></p>", "I see &lt;trees&gt;."]
    for source in ("en", None):
        translated = Mastodon(both_ways).translate(texts, source, "fr")
        assert [tags(text) for text, _ in translated] == [tags(text) for text in texts]
        assert translated[0][0] != POST
        assert (translated[0][1], translated[3][1]) == ("en", "en")
        assert [text for text, _ in translated[1:3]] == texts[1:3]


def test_mastodon_leaves_a_post_alone_that_is_in_the_readers_language(
    both_ways: httpx.Client,
) -> None:
    post = f'<p class="strong">{FRENCH} <a href="https://example.org/the/english/words">…</a></p>'
    assert Mastodon(both_ways).translate([post], None, "fr") == [(post, "fr")]


def test_mastodon_with_a_key(locked: tuple[str, str]) -> None:
    address, key = locked
    with httpx.Client(base_url=address, timeout=20, trust_env=False) as client:
        assert Mastodon(client, key).translate([POST], "en", "fr")
        with pytest.raises(RefusedError, match="quota exceeded"):
            Mastodon(client).translate([POST], "en", "fr")


def test_weblate_translates_between_the_languages_that_are_listed(
    both_ways: httpx.Client,
) -> None:
    assert Weblate(both_ways).translate(SENTENCE, "en", "fr")
    assert Weblate(both_ways).translate(FRENCH, "fr", "en")
    with pytest.raises(RefusedError, match="unsupported"):
        Weblate(both_ways).translate(SENTENCE, "en", "pt_BR")


@pytest.mark.parametrize(("text", "language"), [(f"<p>{MESSAGE}</p>", "en"), (POST, "en")])
def test_discourse_detects_and_gets_intact_html_back(
    text: str, language: str, both_ways: httpx.Client
) -> None:
    detected, translation = Discourse(both_ways).translate(text, "fr")
    assert detected == language
    assert tags(translation) == tags(text)
    assert translation != text


def test_discourse_with_a_post_in_the_readers_language(both_ways: httpx.Client) -> None:
    post = f"<p>{FRENCH}</p>"
    assert Discourse(both_ways).translate(post, "fr") == ("fr", post)


def test_rocket_chat_translates_only_what_is_in_another_language(both_ways: httpx.Client) -> None:
    chat = RocketChat(both_ways)
    assert chat.translate(MESSAGE, "fr") != MESSAGE
    assert chat.translate(FRENCH, "fr") == FRENCH
    assert chat.translate(FRENCH, "en") != FRENCH
    assert chat.translate(MESSAGE, "en") == MESSAGE


# ---- LibreTranslate's page: multipart forms ------------------------------------------------------


def multipart(address: str, path: str, **fields: str) -> httpx.Response:
    """What a page's `FormData` sends."""
    parts = [(name, (None, value)) for name, value in fields.items()]
    return httpx.post(f"{address}/{path}", files=parts, timeout=20, trust_env=False)


PAGE = {"q": SENTENCE, "source": "en", "target": "fr", "format": "text"}


def test_a_multipart_form_is_translated(address: str, expected: str) -> None:
    response = multipart(address, "translate", **PAGE, alternatives="3", api_key="")
    assert response.request.headers["content-type"].startswith("multipart/form-data")
    assert response.status_code == 200
    assert response.json()["translatedText"] == expected
    assert 1 <= len(response.json()["alternatives"]) <= 3
    assert expected not in response.json()["alternatives"]


def test_a_multipart_form_is_detected(address: str) -> None:
    assert multipart(address, "detect", q=SENTENCE).json()[0]["language"] == "en"


def test_a_file_in_the_place_of_a_text_is_refused(address: str) -> None:
    parts = [("q", ("q.txt", b"I see trees.")), ("source", (None, "en")), ("target", (None, "fr"))]
    response = httpx.post(f"{address}/translate", files=parts, timeout=20, trust_env=False)
    assert response.status_code == 400
    assert response.json()["error"].startswith("q: ")


def test_a_multipart_form_needs_the_key(locked: tuple[str, str], expected: str) -> None:
    address, key = locked
    assert multipart(address, "translate", **PAGE).status_code == 403
    assert multipart(address, "translate", **PAGE, api_key="wrong").status_code == 403
    assert multipart(address, "detect", q=SENTENCE).status_code == 403
    response = multipart(address, "translate", **PAGE, api_key=key)
    assert (response.status_code, response.json()) == (200, {"translatedText": expected})


@pytest.mark.parametrize("needed", [False, True])
def test_the_page_is_told_whether_a_key_is_needed(
    needed: bool, address: str, locked: tuple[str, str]
) -> None:
    where = locked[0] if needed else address
    settings = httpx.get(f"{where}/frontend/settings", timeout=20, trust_env=False).json()
    assert (settings["apiKeys"], settings["keyRequired"]) == (needed, needed)
    assert settings["charLimit"] == 10_000
    assert settings["language"]["target"] == {"code": "fr", "name": "French"}
