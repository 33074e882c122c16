"""The HTTP interface over a real engine, model, server and socket; no Ray."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from s2s.config import Config, TextConfig
from s2s.decoding.translator import Translator
from s2s.model.directory import ModelDirectory
from s2s.serving.engine.client import Closed, EngineClient, Overloaded
from s2s.serving.engine.models import Models
from s2s.serving.http.gate import Limits
from s2s.text.vocabulary import Vocabulary
from tests.support.corpora import Pairs
from tests.support.serving import client_of, engine_of, models_of

PAIR = {"source": "en", "target": "fr"}


@pytest.fixture(scope="module")
def engine(models: Models) -> EngineClient:
    return models.all[0].engine


@pytest.fixture(scope="module")
def client(models: Models) -> Iterator[httpx.Client]:
    with client_of(models) as client:
        yield client


def ask(client: httpx.Client, q: Any, **others: Any) -> httpx.Response:
    return client.post("/translate", json={"q": q, **PAIR, **others})


def fault(response: httpx.Response) -> str:
    """The message of an error, which is all that its body has."""
    assert list(response.json()) == ["error"]
    message = response.json()["error"]
    assert isinstance(message, str)
    assert message
    return message


# ---- answers ------------------------------------------------------------------------------------


def test_a_sentence_gives_a_sentence(client: httpx.Client, translator: Translator) -> None:
    response = ask(client, "I see trees.")
    assert response.status_code == 200
    assert response.json() == {"translatedText": translator.translate(["I see trees."])[0]}


@pytest.mark.parametrize("count", [1, 3])
def test_a_list_gives_a_list(count: int, client: httpx.Client, translator: Translator) -> None:
    sentences = ["you want bread?", "", "we see Paris!"][-count:]
    response = ask(client, sentences)
    assert response.status_code == 200
    assert response.json() == {"translatedText": translator.translate(sentences)}


def test_auto_is_the_models_own_language(client: httpx.Client) -> None:
    automatic = ask(client, "I see trees.", source="auto")
    assert automatic.status_code == 200
    plain = ask(client, "I see trees.").json()
    assert automatic.json()["translatedText"] == plain["translatedText"]
    assert automatic.json()["detectedLanguage"]["language"] == "en"


def test_what_other_clients_send_beside_is_ignored(client: httpx.Client) -> None:
    response = ask(client, "I see trees.", format="text", alternatives=0, api_key="")
    assert response.status_code == 200


def test_languages_are_listed(client: httpx.Client) -> None:
    response = client.get("/languages")
    assert response.json() == [
        {"code": "en", "name": "English", "targets": ["en", "fr"]},
        {"code": "fr", "name": "French", "targets": ["fr"]},
    ]


def test_health_is_ok(client: httpx.Client) -> None:
    response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_openapi_describes_the_paths_and_their_errors(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/translate", "/languages", "/health"} <= set(paths)
    assert {"200", "400", "413", "429"} <= set(paths["/translate"]["post"]["responses"])


def test_many_callers_at_once_get_what_one_would(
    client: httpx.Client, translator: Translator, pairs: Pairs
) -> None:
    sentences = [source for source, _ in pairs[::3]][:50]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda sentence: ask(client, sentence), sentences))
    assert [a.status_code for a in answers] == [200] * len(sentences)
    assert [a.json()["translatedText"] for a in answers] == translator.translate(sentences)


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "q"),
        ({"q": "a", "source": "en"}, "target"),
        ({"q": "a", "target": "fr"}, "source"),
        ({"q": None, **PAIR}, "q"),
        ({"q": 3, **PAIR}, "q"),
        ({"q": {"text": "a"}, **PAIR}, "q"),
        ({"q": ["a", 3], **PAIR}, "q"),
        ({"q": [], **PAIR}, "no text"),
        ({"q": "a", "source": "de", "target": "fr"}, "de to fr"),
        ({"q": "a", "source": "de", "target": "de"}, "de to de"),
        ({"q": "a", "source": "fr", "target": "en"}, "en to fr is"),
        ({"q": "a", "source": "en", "target": "auto"}, "auto"),
        (["q"], "body"),
        ("q", "body"),
    ],
)
def test_a_request_of_another_form_is_refused(body: Any, said: str, client: httpx.Client) -> None:
    response = client.post("/translate", json=body)
    assert response.status_code == 400
    assert said in fault(response)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"q": "caf\xe9", "source": "en", "target": "fr"}',
        b'{"q": "\\ud800", "source": "en", "target": "fr"}',
        b'{"q": ["a", "\\udfff b"], "source": "en", "target": "fr"}',
        b"q=a&source=en&target=fr",
    ],
)
def test_a_body_that_is_no_proper_json_is_refused(body: bytes, client: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/translate", content=body, headers=headers)
    assert response.status_code == 400
    assert fault(response)


def test_too_many_texts_are_refused(client: httpx.Client) -> None:
    assert ask(client, ["a"] * Limits().texts).status_code == 200
    response = ask(client, ["a"] * (Limits().texts + 1))
    assert response.status_code == 413
    assert str(Limits().texts) in fault(response)


def test_too_long_a_text_is_refused(client: httpx.Client) -> None:
    limit = Limits().characters
    assert ask(client, "a" * limit).status_code == 200
    for text in ("a" * (limit + 1), ["a" * (limit // 2 + 1)] * 2):
        response = ask(client, text)
        assert response.status_code == 413
        assert "10,000" in fault(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("POST", "/translate/no", 404), ("PUT", "/translate", 405)],
)
def test_a_wrong_path_or_method_is_refused_in_the_same_form(
    method: str, path: str, status: int, client: httpx.Client
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert fault(response)


def test_more_than_may_ever_wait_is_too_large(model_dir: Path) -> None:
    with models_of(model_dir, max_waiting=2) as models, client_of(models) as client:
        response = ask(client, ["I see trees."] * 3)
        assert response.status_code == 413
        assert fault(response)
        assert ask(client, ["I see trees."] * 2).status_code == 200


def test_health_tells_of_a_model_that_has_stopped(model_dir: Path) -> None:
    with models_of(model_dir) as models, client_of(models) as client:
        models.all[0].engine.close()
        answers = [client.get("/health"), ask(client, "I see trees.")]
        answers.append(client.post("/v1/translate", json={"q": "I see trees."}))
    for response in answers:
        assert response.status_code == 503
        assert fault(response)


# ---- the engine ---------------------------------------------------------------------------------


@pytest.mark.parametrize("max_batch", [1, 7, 64])
def test_the_size_of_a_batch_changes_nothing(
    max_batch: int, model_dir: Path, translator: Translator, pairs: Pairs
) -> None:
    engine = engine_of(translator, max_batch)
    sentences = [source for source, _ in pairs]
    assert asyncio.run(engine.translate(sentences)) == translator.translate(sentences)
    engine.close()


def test_nothing_to_translate_gives_nothing(engine: EngineClient) -> None:
    assert asyncio.run(engine.translate([])) == []


def test_a_caller_that_goes_away_disturbs_no_other(translator: Translator, pairs: Pairs) -> None:
    engine = engine_of(translator, slots=4)
    sentences = [source for source, _ in pairs]

    async def some_leave() -> list[str]:
        leaving = [asyncio.create_task(engine.translate(sentences)) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in leaving:
            task.cancel()
        return await asyncio.wait_for(engine.translate(sentences[:9]), 20)

    assert asyncio.run(some_leave()) == translator.translate(sentences[:9])
    engine.close()


def test_none_of_a_refused_request_is_taken(translator: Translator) -> None:
    engine = engine_of(translator, max_waiting=2)
    with pytest.raises(Overloaded):
        asyncio.run(engine.translate(["a", "b", "c"]))
    assert asyncio.run(engine.translate(["I see trees."])) == translator.translate(["I see trees."])
    engine.close()


def test_closing_ends_the_thread(translator: Translator) -> None:
    engine = engine_of(translator)
    assert engine.alive
    engine.close()
    assert not engine.alive


def test_what_was_taken_before_closing_is_translated(translator: Translator, pairs: Pairs) -> None:
    engine = engine_of(translator, slots=5)
    sentences = [source for source, _ in pairs]

    async def close_meanwhile() -> list[str]:
        work = asyncio.create_task(engine.translate(sentences))
        await asyncio.sleep(0)
        closing = asyncio.to_thread(engine.close)
        return (await asyncio.wait_for(asyncio.gather(work, closing), 20))[0]

    assert asyncio.run(close_meanwhile()) == translator.translate(sentences)


def test_a_closed_engine_does_not_keep_callers_waiting(translator: Translator) -> None:
    engine = engine_of(translator)
    engine.close()

    async def late() -> None:
        await asyncio.wait_for(engine.translate(["I see trees."]), 2)

    with pytest.raises(Closed):
        asyncio.run(late())


@pytest.mark.parametrize("normaliser", ["tutorial", "lossless"])
def test_no_sentence_of_one_caller_can_stop_the_engine(normaliser: Any, tiny: Config) -> None:
    text = TextConfig(normaliser=normaliser)
    words = Vocabulary.learn(["a b ."], text)
    torch.manual_seed(0)
    directory = ModelDirectory.new(tiny.model_copy(update={"text": text}), words, words)
    directory.model.eval()
    engine = engine_of(Translator(directory))
    odd = ["?", "...", "\0", "\ue000 \ue001", "\n", " ", "🙂" * 50, "<eos>", "\u0301", "é" * 200]

    async def work() -> AsyncIterator[list[str]]:
        for sentence in odd:
            yield await asyncio.wait_for(engine.translate([sentence]), 3)

    async def all_work() -> int:
        return len([answer async for answer in work()])

    assert asyncio.run(all_work()) == len(odd)
    assert engine.alive
    engine.close()
