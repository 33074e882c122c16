"""What a request weighs, how much of it is taken, and that none holds up the others."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from s2s.config import DecodeConfig
from s2s.decoding.translation import Translation
from s2s.decoding.translator import Translator
from s2s.serving.engine.client import EngineClient, Overloaded
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.models import Models
from s2s.serving.engine.turns import Turns
from s2s.serving.engine.weight import search_width, weight
from s2s.serving.http.gate import Limits
from tests.support.corpora import Pairs
from tests.support.serving import WAIT, client_of, engine_of, in_threads, until, within

BODY = {"source": "en", "target": "fr"}
HEAVY = {"q": "a\n" * 5000, "n_best": 16, "beam": 16}
ORDINARY = "you want bread?"


@pytest.fixture
def sentences(pairs: Pairs) -> list[str]:
    return [source for source, _ in pairs]


# ---- the weight ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "weighs"),
    [
        (["I am cold."], 1),
        (["I am cold."] * 256, 256),
        (["I am cold. I want to go home. Where are you?"], 3),
        (["one\ntwo\nthree", "four"], 4),
        (["a" * 199], 1),
        (["a" * 1000], 6),
        (["a\n" * 5000], 5050),
        ([], 0),
    ],
)
def test_sentences_and_characters_weigh(texts: list[str], weighs: int) -> None:
    assert weight(texts, "en") == weighs


@pytest.mark.parametrize(
    ("own", "given", "width"),
    [
        ({}, {}, 1),
        ({}, {"beam": 16}, 16),
        ({}, {"beam": 16, "n_best": 16}, 256),
        ({}, {"temperature": 1.0, "n_best": 8}, 8),
        ({"beam": 5}, {"beam": 5}, 1),
        ({"beam": 5}, {"beam": 1}, 1),
        ({"beam": 5}, {"beam": 16}, 4),
        ({"beam": 5}, {"beam": 5, "n_best": 3}, 3),
    ],
)
def test_a_search_is_as_wide_as_it_is_wider_than_the_models(
    own: dict[str, Any], given: dict[str, Any], width: int
) -> None:
    model = DecodeConfig.model_validate(own)
    assert search_width(model.changed(**given), model) == width


def test_what_waits_is_weighed(translator: Translator) -> None:
    engine = engine_of(translator, max_waiting=20)
    beam = engine.config.decode.changed(beam=4, n_best=2)

    async def refused(texts: list[str]) -> bool:
        try:
            await engine.translate_detailed(texts, beam)
        except Overloaded:
            return True
        return False

    assert [within(refused(["I see."] * n)) for n in (2, 3)] == [False, True]
    assert within(refused(["I see. I see. I see."]))
    until(lambda: engine.waiting == 0)
    engine.close()


def test_wide_requests_leave_room_for_usual_ones(model_dir: Path, sentences: list[str]) -> None:
    translator = Recorded.of(model_dir, beam=3)
    engine = engine_of(translator, max_waiting=20)
    wide = engine.config.decode.changed(beam=6)

    async def fill() -> list[str]:
        first = asyncio.create_task(engine.translate_detailed(sentences[:10], wide))
        await asyncio.to_thread(translator.began.wait, WAIT)
        with pytest.raises(Overloaded):
            await engine.translate_detailed(sentences[:1], wide)
        usual = asyncio.create_task(engine.translate(sentences[:20]))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await engine.translate(sentences[:1])
        translator.go.set()
        await first
        return await usual

    assert len(within(fill())) == 20
    assert engine.waiting == 0
    engine.close()


# ---- what is ever taken --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(models: Models) -> Iterator[httpx.Client]:
    with client_of(models) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (HEAVY, "2,000 sentences"),
        ({"q": "a. " * 2001}, "2,000 sentences"),
        ({"q": "a\n" * 1200, "n_best": 16, "beam": 16}, "310,272 sentences, and at most 4,096"),
        ({"q": "a " * 5000, "n_best": 6, "beam": 6}, "at most 50,000"),
        ({"q": "a\n" * 300, "beam": 16}, "4,848 sentences, and at most 4,096"),
        ({"q": ["a"] * 257}, "256 texts"),
    ],
)
def test_more_than_is_ever_done_is_refused_with_the_limit(
    body: dict[str, Any], said: str, client: httpx.Client
) -> None:
    response = client.post("/v1/translate", json={"source": "en", **body})
    assert response.status_code == 413
    assert said in response.json()["error"]


def test_the_limits_hold_on_every_path(client: httpx.Client) -> None:
    lines = {"source": "en", "q": "a\n" * 2001}
    markup = {**BODY, "q": "<p>a.</p>" * 150, "format": "html", "alternatives": 10}
    for path, body in (
        ("/translate", {**BODY, **lines}),
        ("/v1/translate/stream", lines),
        ("/translate", markup),
    ):
        response = client.post(path, json=body)
        assert response.status_code == 413, path
        assert list(response.json()) == ["error"]


def test_the_largest_requests_are_taken(client: httpx.Client) -> None:
    for body in ({"q": "a\n" * 1_950}, {"q": ["I see trees."] * 256}, {"q": "a " * 5_000}):
        assert client.post("/translate", json={**BODY, **body}).status_code == 200


# ---- turns ---------------------------------------------------------------------------------------


def test_owners_take_turns_whatever_they_have() -> None:
    turns: Turns[str, str] = Turns()
    turns.put("a", ["a1", "a2", "a3", "a4"])
    turns.put("b", ["b1"])
    turns.put("none", [])
    taken = [turns.take(), turns.take(), turns.take()]
    turns.put("c", ["c1", "c2"])
    taken += [turns.take() for _ in range(len(turns))]
    assert taken == ["a1", "b1", "a2", "a3", "c1", "a4", "c2"]
    with pytest.raises(IndexError):
        turns.take()


def test_an_owner_can_be_dropped_whole() -> None:
    turns: Turns[str, int] = Turns()
    turns.put("a", range(5))
    turns.put("b", range(2))
    turns.take()
    assert turns.next_owner() == "b"
    assert turns.drop() == 2
    assert (turns.next_owner(), len(turns)) == ("a", 4)


def test_one_sentence_does_not_wait_for_all_of_a_large_request(
    translator: Translator, sentences: list[str]
) -> None:
    engine = engine_of(translator, slots=1)

    async def both() -> bool:
        large = asyncio.create_task(engine.translate(sentences[:40]))
        await asyncio.sleep(0)
        assert await engine.translate([ORDINARY]) == translator.translate([ORDINARY])
        waits = not large.done()  # its answer would have come first
        assert await large == translator.translate(sentences[:40])
        return waits

    assert within(both())
    engine.close()


class Recorded(Translator):
    """A translator that keeps the batches it was given, and holds the first one until told."""

    batches: list[list[str]]
    began: threading.Event
    go: threading.Event

    @classmethod
    def of(cls, path: Path, **settings: Any) -> "Recorded":
        recorded = cls.load(path)
        recorded.batches, recorded.began, recorded.go = [], threading.Event(), threading.Event()
        return recorded.with_settings(**settings)

    def hypotheses(self, sentences: list[str]) -> list[list[Translation]]:
        self.batches.append(sentences)
        self.began.set()
        assert self.go.wait(WAIT)
        return super().hypotheses(sentences)


async def taken(engine: EngineClient) -> None:
    """Wait until the engine has taken all that it is sent now."""
    for _ in range(5):  # tasks that have just been made, and theirs
        await asyncio.sleep(0)
    before = engine.waiting
    task = asyncio.create_task(engine.translate_detailed(["a"], engine.config.decode))
    await asyncio.sleep(0)
    task.cancel()
    while engine.waiting > before:
        await asyncio.sleep(0.001)


def while_it_begins(
    translator: Recorded, engine: EngineClient, sentences: list[str], then: Callable[[], Any]
) -> tuple[Any, Any]:
    """What a wide search of sentences gives, and what was asked while its first batch lasted."""
    wide = engine.config.decode.changed(beam=6, n_best=2)

    async def both() -> tuple[Any, Any]:
        first = asyncio.create_task(engine.translate_detailed(sentences, wide))
        await asyncio.to_thread(translator.began.wait, WAIT)
        second = asyncio.create_task(then())
        await taken(engine)
        translator.go.set()
        return await asyncio.gather(first, second)

    return within(both())


def test_an_ordinary_request_comes_after_one_batch_of_a_wide_one(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Recorded.of(model_dir, beam=3)
    engine = engine_of(translator)
    detailed, ordinary = while_it_begins(
        translator, engine, sentences[:40], lambda: engine.translate([ORDINARY])
    )
    engine.close()
    own = Translator.load(model_dir).with_settings(beam=3)
    assert ordinary == own.translate([ORDINARY])
    # Twice as wide as the model's own, so half as many at a time; and the ordinary one is second.
    size = own.config.decode.batch_size // 2
    assert list(map(len, translator.batches)) == [size, 1, *[size] * (40 // size - 1)]
    assert translator.batches[1] == [ORDINARY]
    wanted = own.with_settings(beam=6, n_best=2).hypotheses(sentences[:40])
    [found] = [[hypotheses for [(_, hypotheses)] in detailed]]
    assert [[each.text for each in one] for one in found] == [
        [each.text for each in one] for one in wanted
    ]


def test_requests_of_the_same_settings_share_batches(model_dir: Path, sentences: list[str]) -> None:
    translator = Recorded.of(model_dir, beam=3)
    engine = engine_of(translator)
    size = translator.config.decode.batch_size

    def ask() -> Any:
        return asyncio.gather(*(engine.translate([each]) for each in sentences[:size]))

    async def asked() -> Any:
        return await ask()

    _, answers = while_it_begins(translator, engine, ["I see!"], asked)
    engine.close()
    assert list(map(len, translator.batches)) == [1, size]
    own = Translator.load(model_dir).with_settings(beam=3)
    assert [text for [text] in answers] == own.translate(sentences[:size])


def test_sentences_of_a_batch_come_from_each_request_in_turn(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Recorded.of(model_dir, beam=3)
    engine = engine_of(translator)

    async def several() -> list[list[str]]:
        held = asyncio.create_task(engine.translate([ORDINARY]))
        await asyncio.to_thread(translator.began.wait, WAIT)
        texts = [sentences[:20], sentences[20:21], sentences[21:41]]
        asked = [asyncio.create_task(engine.translate(each)) for each in texts]
        await taken(engine)
        translator.go.set()
        await held
        return await asyncio.gather(*asked)

    answers = within(several())
    engine.close()
    own = Translator.load(model_dir).with_settings(beam=3)
    assert [text for texts in answers for text in texts] == own.translate(sentences[:41])
    assert translator.batches[1] == [*sentences[:4], sentences[20], *sentences[21:24]]
    assert list(map(len, translator.batches)) == [1, 8, 8, 8, 8, 8, 1]


def test_a_usual_request_does_not_wait_for_many_wide_ones(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Recorded.of(model_dir, beam=3)
    engine = engine_of(translator)
    widest = [engine.config.decode.changed(beam=16, length_penalty=n / 10) for n in range(9)]

    async def many() -> list[str]:
        wide = [
            asyncio.create_task(engine.translate_detailed(sentences[:3], settings))
            for settings in widest
        ]
        await asyncio.to_thread(translator.began.wait, WAIT)
        usual = asyncio.create_task(engine.translate([ORDINARY]))
        await taken(engine)
        translator.go.set()
        await asyncio.gather(*wide)
        return await usual

    within(many())
    engine.close()
    assert len(translator.batches) == 3 * 9 + 1  # a beam of 16 instead of 3: one sentence of 8
    assert translator.batches.index([ORDINARY]) <= 2


def test_a_request_that_is_given_up_costs_no_further_batch(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Recorded.of(model_dir, beam=3)
    meters = Meters()
    engine = engine_of(translator, meters=meters)

    async def leave() -> list[str]:
        leaving = asyncio.create_task(engine.translate(sentences))
        await asyncio.to_thread(translator.began.wait, WAIT)
        leaving.cancel()
        while engine.waiting:
            await asyncio.sleep(0.001)
        translator.go.set()
        return await engine.translate([ORDINARY])

    within(leave())
    engine.close()
    size = translator.config.decode.batch_size
    assert list(map(len, translator.batches)) == [size, 1]
    assert meters.collect()[0]["dropped", ()] == len(sentences) - size


def test_a_heavy_request_over_http_does_not_hold_up_an_ordinary_one(model_dir: Path) -> None:
    translator = Recorded.of(model_dir, beam=3)
    models = Models(in_threads(lambda _: translator))
    models.serve([model_dir])
    heavy = {"source": "en", "q": "trees.\n" * 200, "n_best": 4, "beam": 6}

    async def both(address: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=address, timeout=WAIT, trust_env=False) as client:
            first = asyncio.create_task(client.post("/v1/translate", json=heavy))
            await asyncio.to_thread(translator.began.wait, WAIT)
            engine = models.all[0].engine
            heavy_weight = engine.waiting
            second = asyncio.create_task(client.post("/translate", json={**BODY, "q": ORDINARY}))
            while engine.waiting == heavy_weight:
                await asyncio.sleep(0.001)
            await taken(engine)
            translator.go.set()
            return await asyncio.gather(first, second)

    with client_of(models, limits=Limits(seconds=WAIT)) as client:
        answers = within(both(str(client.base_url)))
    models.close()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert translator.batches.index([ORDINARY]) == 1
    assert len(translator.batches) == 1 + 200 // 4
