"""The engine and the HTTP service around it, where things go wrong or at the same time."""

import asyncio
import html
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from s2s.config import Config, DecodeConfig, ModelConfig, TextConfig
from s2s.decoding.translation import SentenceTranslations, Translation, joined
from s2s.decoding.translator import Translator
from s2s.errors import Failed
from s2s.model.directory import ModelDirectory
from s2s.serving.engine.client import Overloaded
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.models import Models
from s2s.serving.http.app import create_app
from s2s.serving.http.gate import Limits
from s2s.serving.http.markup import Markup
from s2s.serving.http.responses import alignments
from s2s.text.vocabulary import UNK, Vocabulary
from tests.support.corpora import Pairs
from tests.support.serving import (
    WAIT,
    client_of,
    engine_of,
    in_threads,
    serving,
    until,
    waiting,
    within,
)


def slowed(translator: Translator, seconds: float) -> Translator:
    """The translator, its model slow at every step."""
    step = translator.model.step

    def slow(*arguments: Any) -> Any:
        time.sleep(seconds)
        return step(*arguments)

    translator.model.step = slow  # type: ignore[method-assign]
    return translator


def failing(translator: Translator, fails: Callable[[int], bool]) -> Translator:
    """The translator, its model failing at some steps."""
    step, steps = translator.model.step, iter(range(10**9))

    def breaking(*arguments: Any) -> Any:
        if fails(next(steps)):
            raise RuntimeError("out of memory")
        return step(*arguments)

    translator.model.step = breaking  # type: ignore[method-assign]
    return translator


def counted(meters: Meters, name: str) -> int:
    return meters.collect()[0][name, ()]


@pytest.fixture
def sentences(pairs: Pairs) -> list[str]:
    return [source for source, _ in pairs]


@pytest.fixture(scope="module")
def client(models: Models) -> Iterator[httpx.Client]:
    with client_of(models) as client:
        yield client


BODY = {"q": "I see trees.", "source": "en", "target": "fr"}

# ---- callers that leave --------------------------------------------------------------------------


def test_callers_that_leave_free_their_slots(translator: Translator, sentences: list[str]) -> None:
    wanted = translator.translate(sentences[:5])
    meters = Meters()
    engine = engine_of(slowed(translator, 0.02), slots=4, meters=meters)

    async def leave() -> list[str]:
        leaving = [asyncio.create_task(engine.translate(sentences[:40])) for _ in range(5)]
        await asyncio.sleep(0.1)
        for task in leaving:
            task.cancel()
        return await engine.translate(sentences[:5])

    assert within(leave()) == wanted
    counts, _ = meters.collect()
    # Some were told before their callers left; of all others not one was translated in vain.
    assert counts["dropped", ()] + counts["sentences", ()] == 5 * 40 + 5
    assert counts["dropped", ()] > 100
    assert engine.waiting == 0
    engine.close()


def test_callers_that_leave_before_anything_was_done_are_dropped(
    translator: Translator, sentences: list[str]
) -> None:
    engine = engine_of(slowed(translator, 0.05), slots=2)

    async def leave() -> None:
        first = asyncio.create_task(engine.translate(sentences[:2]))
        await asyncio.sleep(0.05)
        for _ in range(50):
            task = asyncio.create_task(engine.translate(sentences[:10]))
            await asyncio.sleep(0)
            task.cancel()
        await first

    within(leave())
    until(lambda: engine.waiting == 0)
    engine.close()


def test_hypotheses_that_nobody_waits_for_are_not_made(
    translator: Translator, sentences: list[str]
) -> None:
    meters = Meters()
    engine = engine_of(slowed(translator, 0.02), meters=meters)
    beam = engine.config.decode.changed(beam=2)

    async def leave() -> None:
        first = asyncio.create_task(engine.translate_detailed(sentences[:1], beam))
        await asyncio.sleep(0.02)
        other = engine.config.decode.changed(beam=3)
        leaving = [
            asyncio.create_task(engine.translate_detailed(sentences[:8], other)) for _ in range(5)
        ]
        await asyncio.sleep(0.02)
        for task in leaving:
            task.cancel()
        await first

    within(leave())
    until(lambda: engine.waiting == 0)
    assert counted(meters, "sentences") == 1
    engine.close()


def test_a_stream_that_is_left_frees_its_slots(models_of: Any) -> None:
    models = models_of(lambda translator: slowed(translator, 0.05))
    body = {"q": "I see trees.\n" * 40}
    with client_of(models) as client:
        with client.stream("POST", "/v1/translate/stream", json=body) as response:
            next(response.iter_lines())
        until(lambda: waiting(models) == 0)
    assert counted(models.meters, "dropped") > 0


# ---- ways beside ---------------------------------------------------------------------------------


def each(found: list[list[SentenceTranslations]]) -> list[list[Translation]]:
    """The translations of each sentence of all texts."""
    return [best for pieces in found for _, best in pieces]


def told(found: list[list[Translation]]) -> list[list[tuple[str, float]]]:
    """What does not depend on who shared a batch, up to rounding."""
    return [[(one.text, round(one.score, 3)) for one in best] for best in found]


def test_beams_beside_greedy_requests_give_what_the_translator_gives(
    translator: Translator, sentences: list[str]
) -> None:
    engine = engine_of(translator, slots=8)
    ways: list[dict[str, Any]] = [
        {"beam": 4, "n_best": 3},
        {"beam": 2, "length_penalty": 0.5},
        {"unknown": "copy"},
        {"unknown": "avoid", "beam": 3},
    ]
    texts = sentences[::16]

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(
            *(
                engine.translate_detailed(texts, engine.config.decode.changed(**way))
                for way in ways
                for _ in range(2)
            ),
            *(engine.translate(sentences) for _ in range(3)),
        )

    *beside, one, two, three = within(all_at_once())
    assert one == two == three == translator.translate(sentences)
    for number, way in enumerate(ways):
        wanted = told(translator.with_settings(**way).hypotheses(texts))
        assert told(each(beside[2 * number])) == told(each(beside[2 * number + 1])) == wanted
    assert any(len(best) == 3 for best in each(beside[0]))
    engine.close()


def test_a_seed_draws_the_same_whoever_asks_at_the_same_time(
    translator: Translator, sentences: list[str]
) -> None:
    engine = engine_of(translator)
    way = {"temperature": 5.0, "seed": 7}
    texts = sentences[:40:5]
    wanted = [translator.with_settings(**way).hypotheses([text])[0][0].text for text in texts]

    async def all_at_once() -> list[list[list[SentenceTranslations]]]:
        settings = engine.config.decode.changed(**way)
        return await asyncio.gather(
            *(engine.translate_detailed([text], settings) for text in texts)
        )

    assert [each(found)[0][0].text for found in within(all_at_once())] == wanted
    engine.close()


@pytest.mark.parametrize(
    "way", [{"beam": 5}, {"beam": 3, "unknown": "copy"}, {"precision": "bf16"}]
)
def test_the_models_own_settings_hold(
    way: dict[str, Any], models_of: Any, model_dir: Path, sentences: list[str]
) -> None:
    models = models_of(lambda translator: translator.with_settings(**way))
    wanted = Translator.load(model_dir).with_settings(**way).translate(sentences)
    with client_of(models) as client:
        answer = client.post("/translate", json={**BODY, "q": sentences}).json()
        assert answer["translatedText"] == wanted
        detailed = client.post("/v1/translate", json={"q": sentences[:3]}).json()
        assert [each["text"] for each in detailed["translations"]] == wanted[:3]
        [model] = client.get("/v1/models").json()["models"]
        assert way.items() <= model["decode"].items()


def test_very_long_sentences_go_beside_and_come_back_in_their_places(
    translator: Translator, sentences: list[str]
) -> None:
    short = translator.with_settings(max_source=3)
    # It has no space to be cut at.
    long = "I-see-trees-and-we-want-bread-and-they-see-Paris-and-you-want-school-and-so-on"
    assert len(short.split([long])[0][0].ids) > 4 * 3
    texts = ["I see!", long, f"I see trees.\n{long}\n\nwe see!", f"{long} ?", "they want bread."]
    meters = Meters()
    engine = engine_of(short, slots=2, meters=meters)

    async def several() -> list[list[str]]:
        return await asyncio.gather(*(engine.translate(texts) for _ in range(4)))

    assert within(several()) == [short.translate(texts)] * 4
    counts, _ = meters.collect()
    assert counts["taken_slots", ()] > 0
    assert engine.waiting == 0
    engine.close()


def test_texts_of_several_lines_keep_their_spacing(
    translator: Translator, client: httpx.Client
) -> None:
    text = "I see trees.\n\n  you want bread?\t\r\nwe see Paris!\n - they want school."
    answer = client.post("/translate", json={**BODY, "q": text}).json()["translatedText"]
    assert answer == translator.translate([text])[0]
    assert re.findall(r"[\r\n]+", answer) == ["\n\n", "\r\n", "\n"]
    lines = re.split(r"[\r\n]+", answer)
    assert lines[1].startswith("  ")
    assert lines[1].endswith("\t")


def test_what_was_taken_before_closing_is_finished_in_every_way(
    translator: Translator, sentences: list[str]
) -> None:
    short = translator.with_settings(max_source=7)
    long = "I-see-trees-and-we-want-bread-and-they-see-Paris-and-you-want-school-and-so-on"
    assert len(short.split([long])[0][0].ids) > 4 * 7
    engine = engine_of(short, slots=3)
    beam = engine.config.decode.changed(beam=3)

    async def streamed() -> Any:
        return [what async for what in engine.stream([sentences[0]])][-1]

    async def close_meanwhile() -> list[Any]:
        work = [
            asyncio.create_task(each)
            for each in (
                engine.translate(sentences),
                engine.translate([long, sentences[0]]),
                engine.translate([f"{long} " * 20]),  # is not even split by then
                engine.translate_detailed(sentences[:9], beam),
                streamed(),
            )
        ]
        await asyncio.sleep(0)
        await asyncio.to_thread(engine.close)
        with pytest.raises(Overloaded):
            await engine.translate(["late"])
        return await asyncio.gather(*work)

    plain, long_one, very_long, beams, stream = within(close_meanwhile())
    assert very_long == short.translate([f"{long} " * 20])
    assert plain == short.translate(sentences)
    assert long_one == short.translate([long, sentences[0]])
    assert told(each(beams)) == told(short.with_settings(beam=3).hypotheses(sentences[:9]))
    assert stream == plain[:1]
    assert not engine.alive


# ---- models that fail ----------------------------------------------------------------------------


def test_a_model_that_fails_once_fails_who_was_in_it_and_lives_on(
    translator: Translator, sentences: list[str]
) -> None:
    wanted = translator.translate(sentences)
    engine = engine_of(failing(translator, lambda step: step == 2), slots=4)

    async def work() -> list[Any]:
        asked = [engine.translate(sentences[n : n + 2]) for n in range(0, 20, 2)]
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = within(work())
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(failed) == 4  # in four slots, a sentence of each
    assert all(type(error) is Failed and "RuntimeError" in str(error) for error in failed)
    for number, answer in enumerate(answers):
        if isinstance(answer, list):
            assert answer == wanted[2 * number : 2 * number + 2]
    assert within(engine.translate(sentences)) == wanted
    assert engine.alive
    assert engine.waiting == 0
    engine.close()


def test_a_model_that_fails_beside_fails_that_request_and_lives_on(
    translator: Translator, sentences: list[str]
) -> None:
    wanted = told(translator.with_settings(beam=3).hypotheses(sentences[:2]))
    engine = engine_of(failing(translator, lambda step: step == 0))
    beam = engine.config.decode.changed(beam=3)
    with pytest.raises(Failed, match="RuntimeError"):
        within(engine.translate_detailed(sentences[:2], beam))
    assert told(each(within(engine.translate_detailed(sentences[:2], beam)))) == wanted
    assert engine.alive
    engine.close()


def test_a_sentence_that_cannot_be_read_is_refused_alone(
    translator: Translator, sentences: list[str]
) -> None:
    wanted = translator.translate(sentences[:9])
    [[piece]] = translator.split(["we see Paris!"])
    bad, encode = torch.tensor(piece.ids), translator.model.encode

    def picky(source: torch.Tensor, lengths: torch.Tensor) -> Any:
        size = min(len(bad), source.shape[1])
        if (source[:, :size] == bad[:size]).all(dim=1).any() and source.shape[1] >= len(bad):
            raise RuntimeError("never")
        return encode(source, lengths)

    translator.model.encode = picky  # type: ignore[method-assign]
    engine = engine_of(translator)

    async def work() -> list[Any]:
        asked = [engine.translate(["we see Paris!"]), *map(engine.translate, zip(sentences[:9]))]
        return await asyncio.gather(*asked, return_exceptions=True)

    refused, *others = within(work())
    assert isinstance(refused, Failed)
    assert others == [[text] for text in wanted]
    engine.close()


def test_a_stream_whose_words_cannot_be_written_fails_alone(
    translator: Translator, sentences: list[str]
) -> None:
    wanted, written = translator.translate(sentences[:30]), translator.detokenise

    def picky(sentence: str, *rest: Any) -> str:
        if sentence == "we see Paris!":
            raise IndexError("no such word")
        return written(sentence, *rest)

    translator.detokenise = picky  # type: ignore[method-assign]
    engine = engine_of(translator, slots=16)

    async def stream() -> None:
        async for _ in engine.stream(["we see Paris!"]):
            pass

    async def work() -> list[Any]:
        asked = [stream(), *(engine.translate([text]) for text in sentences[:30])]
        return await asyncio.gather(*asked, return_exceptions=True)

    refused, *others = within(work())
    assert isinstance(refused, Failed)
    assert others == [[text] for text in wanted]
    engine.close()


def test_a_model_that_fails_is_told_over_http(models_of: Any) -> None:
    models = models_of(lambda translator: failing(translator, lambda step: step in (0, 1, 2)))
    with client_of(models) as client:
        response = client.post("/translate", json=BODY)
        assert response.status_code == 500
        assert list(response.json()) == ["error"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert client.post("/v1/translate", json={"q": "I", "beam": 2}).status_code == 500
        assert client.post("/v1/translate/stream", json={"q": "I"}).status_code == 500
        assert client.post("/translate", json=BODY).status_code == 200
        assert client.get("/health").status_code == 200


# ---- what is not translated, and what is told ----------------------------------------------------


def attentive() -> Translator:
    """Return a translator whose untrained model has attention."""
    torch.manual_seed(1)
    words = Vocabulary.learn(["I see black trees . you want bread !"], TextConfig())
    config = Config(
        source_language="en",
        target_language="fr",
        model=ModelConfig(embedding_size=8, hidden_size=8, attention="dot"),
        decode=DecodeConfig(max_length=6),
    )
    directory = ModelDirectory.new(config, words, words)
    directory.model.eval()
    return Translator(directory)


def saying_unknown(translator: Translator) -> Translator:
    """The translator, its model saying `<unk>` alone."""
    directory = translator.directory
    with torch.no_grad():
        directory.model.decoder.output.bias[UNK] = 99
    return Translator(directory, translator.config.decode)


@pytest.mark.parametrize(
    "text", [".", "—", "12:30", "$5", "🙂", "https://a.example/I", "{I}", "%s", ":I:", "xyzzy"]
)
def test_a_text_without_a_word_stays_in_every_way(text: str, client: httpx.Client) -> None:
    answer = client.post("/translate", json={**BODY, "q": text, "alternatives": 2}).json()
    assert answer == {"translatedText": text, "alternatives": []}
    [detailed] = client.post("/v1/translate", json={"q": text}).json()["translations"]
    assert detailed == {"text": text, "sentences": []}
    *_, (_, done) = events(client.post("/v1/translate/stream", json={"q": text}))
    assert done["translatedText"] == text


def test_each_sentence_of_a_text_is_translated_in_every_way(
    client: httpx.Client, translator: Translator
) -> None:
    text = "I see trees. 12:30. you want bread!"
    one, two = translator.translate(["I see trees.", "you want bread!"])
    wanted = f"{one} 12:30. {two}"
    assert client.post("/translate", json={**BODY, "q": text}).json()["translatedText"] == wanted
    [detailed] = client.post("/v1/translate", json={"q": text}).json()["translations"]
    assert detailed["text"] == wanted
    assert [each["source"] for each in detailed["sentences"]] == ["I see trees.", "you want bread!"]
    *_, (_, done) = events(client.post("/v1/translate/stream", json={"q": text}))
    assert done["translatedText"] == wanted
    body = {"q": text, "split_sentences": False}
    [whole] = client.post("/v1/translate", json=body).json()["translations"]
    assert whole["text"] == translator.hypotheses([text])[0][0].text


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("attention", [True, False])
def test_nobody_who_asks_for_a_translation_alone_sees_unk(
    attention: bool, beam: int, models_of: Any
) -> None:
    def change(given: Translator) -> Translator:
        return saying_unknown(attentive() if attention else given).with_settings(beam=beam)

    models = models_of(change)
    with client_of(models) as client:
        body = {**BODY, "q": "I see Zoé.", "alternatives": 2}
        answer = client.post("/translate", json=body).json()
        assert not any("<unk>" in each for each in (answer["translatedText"], str(answer)))
        assert answer["translatedText"]
        [detailed] = client.post("/v1/translate", json={"q": "I see Zoé."}).json()["translations"]
        assert "<unk>" in detailed["text"]
        [sentence] = detailed["sentences"]
        assert any(word["unknown"] for word in sentence["hypotheses"][0]["words"])
        copied = client.post("/v1/translate", json={"q": "I see Zoé.", "unknown": "copy"}).json()
        assert copied["translations"][0]["text"] == answer["translatedText"]


@pytest.mark.parametrize("beam", [1, 2])
def test_translations_that_are_cut_are_told_over_http(beam: int, models_of: Any) -> None:
    models = models_of(lambda given: given.with_settings(max_length=2, beam=beam))
    with client_of(models) as client:
        texts = ["I see trees.", "12:30", "12:30. I see trees."]
        response = client.post("/translate", json={**BODY, "q": texts})
        assert response.headers["x-s2s-incomplete"] == "0,2"
        pages = ["<p>12:30</p>", "<hr><p>1</p><p>I see trees.</p>"]
        response = client.post("/translate", json={**BODY, "q": pages, "format": "html"})
        assert response.headers["x-s2s-incomplete"] == "1"
        assert "x-s2s-incomplete" not in client.post("/translate", json={**BODY, "q": "1"}).headers
        [detailed] = client.post("/v1/translate", json={"q": texts[0]}).json()["translations"]
        [sentence] = detailed["sentences"]
        assert [each["finish_reason"] for each in sentence["hypotheses"]] == ["length"]
        *_, (_, done) = events(client.post("/v1/translate/stream", json={"q": texts[0]}))
        assert done["incomplete"] is True


def test_whole_translations_are_not_told_of(client: httpx.Client) -> None:
    assert "x-s2s-incomplete" not in client.post("/translate", json=BODY).headers
    *_, (_, done) = events(client.post("/v1/translate/stream", json={"q": BODY["q"]}))
    assert done["incomplete"] is False


@pytest.mark.parametrize("beam", [1, 2])
@pytest.mark.parametrize("attention", [True, False])
def test_inline_tags_are_put_back_by_what_the_model_looked_at(
    attention: bool, beam: int, models_of: Any
) -> None:
    models = models_of(lambda given: (attentive() if attention else given).with_settings(beam=beam))
    page = "<p>I <b>see</b> trees. 12:30. <i>you</i> want <u>bread</u>!</p>"
    [model] = models.all
    with client_of(models) as client:
        answer = client.post("/translate", json={**BODY, "q": page, "format": "html"}).json()
        plain = {**BODY, "q": "I see trees. 12:30. you want bread!"}
        said = client.post("/translate", json=plain).json()["translatedText"]
    made = answer["translatedText"]
    assert re.findall("<.*?>", made) == re.findall("<.*?>", page)
    assert html.unescape(re.sub("<.*?>", "", made)) == said
    settings = model.engine.config.decode
    [text] = within(model.engine.translate_detailed([plain["q"]], settings))
    assert made == Markup(page).filled([joined(text)], [alignments(text)])


# ---- streams -------------------------------------------------------------------------------------


def events(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    found = re.findall(r"event: (\w+)\ndata: (.*)\n\n", response.text)
    assert "".join(f"event: {name}\ndata: {data}\n\n" for name, data in found) == response.text
    return [(name, json.loads(data)) for name, data in found]


def test_a_stream_grows_word_by_word_and_ends_with_the_translation(
    client: httpx.Client, translator: Translator
) -> None:
    for text in ("I don't see trees.", "it's said that you see Paris!"):
        [[best]] = translator.hypotheses([text])
        response = client.post("/v1/translate/stream", json={"q": text})
        assert response.headers["content-type"].startswith("text/event-stream")
        *grown, (last, done) = events(response)
        assert {name for name, _ in grown} == {"grown"}
        said = [data["translation"] for _, data in grown]
        assert len(said) == len(best.words)  # `<eos>` among them: it tells the whole
        assert all(after.startswith(before) for before, after in pairwise(said))
        assert len(set(said)) == len(best.words) - 1
        assert (last, done["translatedText"]) == ("done", translator.translate([text])[0])
        assert said[-1] == done["translatedText"]
        assert (
            response.headers["x-s2s-model"] == f"{done['model']['name']}@{done['model']['version']}"
        )


def test_a_stream_of_several_sentences_tells_which_has_grown(
    client: httpx.Client, translator: Translator
) -> None:
    text = "I see trees.\nyou want bread?\nwe see Paris!"
    *grown, (_, done) = events(client.post("/v1/translate/stream", json={"q": text}))
    assert done["translatedText"] == translator.translate([text])[0]
    last = {data["sentence"]: data["translation"] for _, data in grown}
    assert [last[n] for n in sorted(last)] == done["translatedText"].split("\n")


@pytest.mark.parametrize("text", ["I see trees.", "\n.\n", "é\n" * 30])
def test_a_stream_ends_whatever_the_text(
    text: str, client: httpx.Client, translator: Translator
) -> None:
    *_, (name, done) = events(client.post("/v1/translate/stream", json={"q": text}))
    assert (name, done["translatedText"]) == ("done", translator.translate([text])[0])


def test_a_stream_that_takes_too_long_ends_with_an_error(models_of: Any) -> None:
    models = models_of(lambda translator: slowed(translator, 0.12))
    with client_of(models, limits=Limits(seconds=0.3)) as client:
        response = client.post(
            "/v1/translate/stream", json={"q": "I don't see the trees of Paris."}
        )
        assert response.status_code == 200
        assert events(response)[-1][0] == "error"
        until(lambda: waiting(models) == 0)


def test_a_reader_who_is_slower_than_the_limit_does_not_hold_a_stream_for_ever(
    models: Models,
) -> None:
    app = create_app(models, Limits(seconds=0.3))
    body = json.dumps({"q": "I see trees.\n" * 20}).encode()
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": "POST", "path": "/v1/translate/stream", "raw_path": b"", "query_string": b"",
        "root_path": "", "scheme": "http", "headers": [], "client": None, "server": None,
    }  # fmt: skip
    sent: list[bytes] = []
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if given:
            return given.pop()
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if message.get("body"):
            sent.append(message["body"])
            await asyncio.sleep(0.5 if len(sent) == 1 else 0)

    async def run() -> None:
        await asyncio.wait_for(app(scope, receive, send), 10)

    asyncio.run(run())
    assert sent[-1].startswith((b"event: done", b"event: error"))


# ---- limits --------------------------------------------------------------------------------------


@pytest.fixture
def models_of(model_dir: Path) -> Iterator[Callable[..., Models]]:
    """Makes models of the model directory whose translator is changed."""
    made: list[Models] = []

    def make(change: Callable[[Translator], Translator], slots: int = 64, **options: Any) -> Models:
        start = in_threads(lambda path: change(Translator.load(path)), slots)
        made.append(Models(start, **options))
        made[-1].serve([model_dir])
        return made[-1]

    yield make
    for models in made:
        models.close()


def test_who_comes_when_too_much_waits_is_told_to_come_again(models_of: Any) -> None:
    models = models_of(lambda translator: slowed(translator, 0.05), slots=1, max_waiting=3)

    async def ask() -> list[httpx.Response]:
        with serving(models) as address:
            async with httpx.AsyncClient(base_url=address, timeout=WAIT, trust_env=False) as client:
                return await asyncio.gather(
                    *(client.post("/translate", json=BODY) for _ in range(20))
                )

    answers = asyncio.run(ask())
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert counted(models.meters, "refused") == len(refused)


def test_what_takes_too_long_is_ended_and_frees_its_slots(models_of: Any) -> None:
    models = models_of(lambda translator: slowed(translator, 0.1))
    with client_of(models, limits=Limits(seconds=0.2)) as client:
        for path, body in (
            ("/translate", BODY),
            ("/v1/translate", {"q": "I see trees.", "beam": 2}),
            ("/translate", {**BODY, "format": "html"}),
        ):
            response = client.post(path, json=body)
            assert response.status_code == 408
            assert "0.2 s" in response.json()["error"]
        until(lambda: waiting(models) == 0)
    assert counted(models.meters, "dropped") == 3


def test_a_text_of_many_lines_is_not_told_to_come_again_by_a_server_with_nothing_to_do(
    client: httpx.Client,
) -> None:
    body = {"q": "a\n" * 1_200, "beam": 1}
    assert client.post("/v1/translate", json=body).status_code == 200
    assert client.post("/translate", json={**BODY, "q": body["q"]}).status_code == 200


def raw(address: str, *pieces: bytes) -> bytes:
    """The beginning of what is answered to bytes, the connection not being closed by us."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return connection.recv(65536)


HEAD = b"POST /translate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def test_a_body_is_refused_by_its_length_before_it_comes(models: Models) -> None:
    with serving(models) as address:
        answer = raw(address, HEAD + b"Content-Length: 1000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded",
                                  "multipart/form-data; boundary=x"])  # fmt: skip
def test_a_body_that_does_not_tell_its_length_is_refused_when_it_is_too_large(
    kind: str, client: httpx.Client
) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="q"\r\n\r\n'
    body = (part if "boundary" in kind else b"q=") + b"a" * Limits().body
    chunks = [body[begin : begin + 10_000] for begin in range(0, len(body), 10_000)]
    head = b"POST /translate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Type: "
    # The body never ends, and is larger than it may be by as little as its beginning.
    pieces = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    answer = raw(str(client.base_url), head + kind.encode() + b"\r\n\r\n", *pieces)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"error":"the body is larger than' in answer
    assert client.post("/translate", json=BODY).status_code == 200


def test_the_largest_body_that_is_allowed_is_read(client: httpx.Client) -> None:
    text = ("\U0001f642" * 10_000).encode("utf-16-be").hex()
    spelt = "".join(f"\\u{text[n : n + 4]}" for n in range(0, len(text), 4))
    body = '{"source": "en", "target": "fr", "q": "' + spelt + '"}'
    assert len(body) > 120_000
    headers = {"content-type": "application/json"}
    assert client.post("/translate", content=body, headers=headers).status_code == 200


def test_a_body_that_never_comes_is_not_waited_for_for_ever(models: Models) -> None:
    part = HEAD + b'Content-Length: 100\r\n\r\n{"q": '
    with serving(models, limits=Limits(seconds=0.2)) as address:
        paths = httpx.get(f"{address}/openapi.json").json()["paths"]
        posted = [path for path, methods in paths.items() if "post" in methods]
        assert {"/translate", "/detect", "/v1/translate/stream"} < {*posted}
        for path in posted:
            answer = raw(address, part.replace(b"/translate", path.encode(), 1))
            assert answer.startswith(b"HTTP/1.1 408 "), path


# ---- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
def test_the_id_of_a_request_is_given_back(given: str, client: httpx.Client) -> None:
    for path in ("/health", "/nowhere"):
        response = client.get(path, headers={"x-request-id": given})
        assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "<b>", "é", "a,b", "a\tb"])
def test_an_odd_id_is_replaced(given: str, client: httpx.Client) -> None:
    headers = [(b"x-request-id", given.encode("latin-1"))]
    told = client.get("/health", headers=headers).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", told)


def test_every_request_has_an_id_of_its_own(client: httpx.Client) -> None:
    assert len({client.get("/health").headers["x-request-id"] for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", None, 200),
        ("GET", "/health", None, 200),
        ("GET", "/openapi.json", None, 200),
        ("POST", "/translate", b'{"q": "a", "source": "en", "target": "fr"}', 200),
        ("POST", "/v1/translate/stream", b'{"q": "a"}', 200),
        ("POST", "/translate", b"{", 400),
        ("GET", "/nowhere", None, 404),
        ("PUT", "/translate", b"", 405),
        ("OPTIONS", "/translate", None, 200),
        ("POST", "/translate", b" " * 200_000, 413),
    ],
)
def test_every_answer_has_the_headers_of_security(
    method: str, path: str, body: bytes | None, status: int, client: httpx.Client
) -> None:
    response = client.request(method, path, content=body)
    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert response.headers["cache-control"] in ("no-store", "no-cache")
    assert response.headers["x-request-id"]
    assert "access-control-allow-origin" not in response.headers


ORIGIN = "https://example.org"


def preflight(client: httpx.Client, origin: str) -> httpx.Response:
    """What a browser asks before it posts JSON."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,authorization",
    }
    return client.options("/translate", headers=headers)


def test_other_origins_may_not_ask_unless_they_are_named(client: httpx.Client) -> None:
    response = client.post("/translate", json=BODY, headers={"origin": ORIGIN})
    assert "access-control-allow-origin" not in response.headers
    assert "access-control-allow-origin" not in preflight(client, ORIGIN).headers


@pytest.mark.parametrize("allowed", [ORIGIN, "*"])
def test_an_origin_that_is_named_may_post_json(allowed: str, models: Models) -> None:
    with client_of(models, cors=(allowed,)) as client:
        before = preflight(client, ORIGIN)
        assert before.status_code == 200
        assert before.headers["access-control-allow-origin"] == allowed
        assert "POST" in before.headers["access-control-allow-methods"]
        assert "content-type" in before.headers["access-control-allow-headers"].lower()
        assert "authorization" in before.headers["access-control-allow-headers"].lower()
        for body in (BODY, {}):  # what was wrong must be readable, too
            response = client.post("/translate", json=body, headers={"origin": ORIGIN})
            assert response.headers["access-control-allow-origin"] == allowed
            assert "access-control-allow-credentials" not in response.headers


def test_an_origin_that_is_not_named_may_not(models: Models) -> None:
    with client_of(models, cors=(ORIGIN,)) as client:
        for origin in ("https://example.com", "null", "https://example.org.evil.com"):
            assert preflight(client, origin).status_code == 400
            response = client.post("/translate", json=BODY, headers={"origin": origin})
            assert "access-control-allow-origin" not in response.headers


# ---- privacy and counts --------------------------------------------------------------------------


def test_no_text_of_a_request_reaches_a_log(
    models_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    models = models_of(lambda translator: failing(translator, lambda step: step == 0))
    ours = ["uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "s2s.serving", "asyncio"]
    with client_of(models) as client:
        for name in ours:
            logging.getLogger(name).setLevel(logging.DEBUG)
            logging.getLogger(name).addHandler(caplog.handler)
        word = "xyzzyword"
        statuses = [
            client.post(path, json={**body, "q": q, "api_key": word}).status_code
            for path, body in (("/translate", BODY), ("/v1/translate", {}), ("/detect", {}))
            for q in (f"I see {word}.", [f"{word} \ud800".encode("utf-8", "replace").decode()])
        ]
        statuses += [
            client.post("/translate", content=f'{{"{word}": "{word}').status_code,
            client.post("/translate", data={"q": word, **BODY, "source": word}).status_code,
            client.post("/v1/translate/stream", json={"q": f"{word} trees"}).status_code,
        ]
        assert {200, 400, 500} <= set(statuses)
        for name in ours:
            logging.getLogger(name).removeHandler(caplog.handler)
    assert caplog.records
    for record in caplog.records:
        assert word not in record.getMessage(), record.name
        assert word not in str(record.exc_info)
        assert word not in str(record.args)


def test_answers_are_counted_by_path_and_status(models_of: Any) -> None:
    models = models_of(lambda translator: translator)
    with client_of(models) as client:
        client.post("/translate", json=BODY)
        client.post("/translate", json={})
        for number in range(5):
            client.get(f"/nowhere/{number}")
    counts, observed = models.meters.collect()
    requests = {labels: count for (name, labels), count in counts.items() if name == "requests"}
    assert requests == {
        (("path", "/translate"), ("status", "200")): 1,
        (("path", "/translate"), ("status", "400")): 1,
        (("path", "other"), ("status", "404")): 5,  # not a label for each
    }
    assert sorted(name for name, _ in observed) == [
        "first_word_seconds", "queue_seconds", "request_seconds",
    ]  # fmt: skip
    assert all(0 <= seconds < WAIT for _, seconds in observed)


def test_what_nobody_collects_does_not_grow_without_end() -> None:
    meters = Meters()
    for _ in range(300):
        meters.observe([("request_seconds", 0.1)] * 1000)
    meters.count(steps=3)
    counts, observed = meters.collect()
    assert counts["steps", ()] == 3
    assert 1000 <= len(observed) <= 200_000
