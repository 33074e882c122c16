"""What a request weighs, how much of it is taken, and that none holds up the others."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

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
    translator = Admitting.of(model_dir, beam=3)
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


class Admitting(Translator):
    """A translator that keeps the sentences that slots admit, and holds the first ones until told.

    While it does, the engine reads no messages.
    """

    admitted: list[list[str]]
    began: threading.Event
    go: threading.Event

    @classmethod
    def of(cls, path: Path, **settings: Any) -> "Admitting":
        made = cls.load(path)
        made.admitted, made.began, made.go = [], threading.Event(), threading.Event()
        encode = made.model.encode

        def recording(source: torch.Tensor, lengths: torch.Tensor) -> Any:
            rows = zip(source.tolist(), lengths.tolist(), strict=True)
            made.admitted.append([made.directory.source.decode(ids[:n]) for ids, n in rows])
            made.began.set()
            assert made.go.wait(WAIT)
            return encode(source, lengths)

        made.model.encode = recording  # type: ignore[method-assign, assignment]
        return made.with_settings(**settings)

    def known(self, texts: list[str]) -> list[str]:
        """The sentences as they are admitted."""
        return [self.directory.source.decode(s.ids) for [s] in self.split(texts)]


def while_admitting(
    translator: Admitting, engine: EngineClient, first: Awaitable[Any], then: Callable[[], Any]
) -> tuple[Any, Any]:
    """What is answered, to the second while the first sentences of the first were admitted."""

    async def both() -> tuple[Any, Any]:
        asked = asyncio.ensure_future(first)
        await asyncio.to_thread(translator.began.wait, WAIT)
        second = asyncio.create_task(then())
        for _ in range(5):  # tasks that have just been made, and theirs
            await asyncio.sleep(0)
        translator.go.set()
        return await asyncio.gather(asked, second)

    return within(both())


def test_an_ordinary_request_is_admitted_beside_a_wide_one(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Admitting.of(model_dir, beam=3)
    engine = engine_of(translator, slots=8)
    wide = engine.config.decode.changed(beam=6, n_best=2)
    detailed, ordinary = while_admitting(
        translator,
        engine,
        engine.translate_detailed(sentences[:40], wide),
        lambda: engine.translate([ORDINARY]),
    )
    engine.close()
    own = Translator.load(model_dir).with_settings(beam=3)
    assert ordinary == own.translate([ORDINARY])
    # Twice as wide as the model's own, so half as many; and the ordinary one is next.
    assert len(translator.admitted[0]) == 4
    assert translator.admitted[1][0] == translator.known([ORDINARY])[0]
    wanted = own.with_settings(beam=6, n_best=2).hypotheses(sentences[:40])
    assert [[each.text for each in best] for [(_, best)] in detailed] == [
        [each.text for each in best] for best in wanted
    ]


def test_requests_that_come_together_are_encoded_together(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Admitting.of(model_dir, beam=3)
    engine = engine_of(translator)

    async def ask() -> Any:
        return await asyncio.gather(*(engine.translate([each]) for each in sentences[:12]))

    _, answers = while_admitting(translator, engine, engine.translate(["I see!"]), ask)
    engine.close()
    assert list(map(len, translator.admitted)) == [1, 12]
    own = Translator.load(model_dir).with_settings(beam=3)
    assert [text for [text] in answers] == own.translate(sentences[:12])


def test_slots_are_given_to_each_request_in_turn(model_dir: Path, sentences: list[str]) -> None:
    translator = Admitting.of(model_dir, beam=3)
    engine = engine_of(translator, slots=8)

    async def several() -> list[list[str]]:
        texts = [sentences[:20], sentences[20:21], sentences[21:41]]
        return await asyncio.gather(*(engine.translate(each) for each in texts))

    _, answers = while_admitting(translator, engine, engine.translate([ORDINARY]), several)
    engine.close()
    own = Translator.load(model_dir).with_settings(beam=3)
    assert [text for texts in answers for text in texts] == own.translate(sentences[:41])
    turns = [sentences[n] for n in (0, 20, 21, 1, 22, 2, 23)]
    assert translator.admitted[1] == translator.known(turns)


@pytest.mark.parametrize("wide_first", [True, False])
def test_neither_kind_of_beams_waits_for_many_of_the_other(
    wide_first: bool, model_dir: Path, sentences: list[str]
) -> None:
    translator = Admitting.of(model_dir, beam=3)
    engine = engine_of(translator, slots=16)
    usual = engine.config.decode.changed(beam=3, length_penalty=0.5)
    wide = engine.config.decode.changed(beam=16)
    many, one = (wide, usual) if wide_first else (usual, wide)

    async def ask_many() -> Any:
        asked = [engine.translate_detailed(sentences[n : n + 3], many) for n in range(0, 60, 3)]
        return await asyncio.gather(*asked)

    async def ask_one() -> Any:
        return await engine.translate_detailed([ORDINARY], one)

    while_admitting(translator, engine, ask_many(), ask_one)
    engine.close()
    [known] = translator.known([ORDINARY])
    assert len(translator.admitted[0]) == (3 if wide_first else 16)  # 48 rows
    assert known in translator.admitted[1]


def test_a_request_that_is_given_up_is_admitted_no_further(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Admitting.of(model_dir, beam=3)
    meters = Meters()
    engine = engine_of(translator, slots=8, meters=meters)

    async def leave() -> list[str]:
        leaving = asyncio.create_task(engine.translate(sentences))
        await asyncio.to_thread(translator.began.wait, WAIT)
        leaving.cancel()
        await asyncio.sleep(0)
        translator.go.set()
        return await engine.translate([ORDINARY])

    within(leave())
    engine.close()
    assert list(map(len, translator.admitted)) == [8, 1]
    counts, _ = meters.collect()
    assert counts["dropped", ()] + counts["sentences", ()] == len(sentences) + 1
    assert counts["dropped", ()] >= len(sentences) - 8


def test_a_heavy_request_over_http_does_not_hold_up_an_ordinary_one(model_dir: Path) -> None:
    translator = Admitting.of(model_dir, beam=3)
    models = Models(in_threads(lambda _: translator, slots=8))
    models.serve([model_dir])
    heavy = {"source": "en", "q": "trees.\n" * 100, "n_best": 4, "beam": 6}

    async def both(address: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=address, timeout=WAIT, trust_env=False) as client:
            first = asyncio.create_task(client.post("/v1/translate", json=heavy))
            await asyncio.to_thread(translator.began.wait, WAIT)
            engine = models.all[0].engine
            heavy_weight = engine.waiting
            second = asyncio.create_task(client.post("/translate", json={**BODY, "q": ORDINARY}))
            while engine.waiting == heavy_weight:
                await asyncio.sleep(0.001)
            translator.go.set()
            return await asyncio.gather(first, second)

    with client_of(models, limits=Limits(seconds=WAIT)) as client:
        answers = within(both(str(client.base_url)))
    models.close()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert translator.admitted[1][0] == translator.known([ORDINARY])[0]


# ---- beside the slots ----------------------------------------------------------------------------

# It has no space to be cut at, and too many tokens for a slot.
LONG = "I-see-trees-and-we-want-bread-and-they-see-Paris-and-you-want-school-and-so-on"


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


def test_a_long_sentence_comes_after_one_batch_of_samples(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Recorded.of(model_dir, beam=3, max_source=3)
    engine = engine_of(translator)
    samples = engine.config.decode.changed(temperature=1.0, n_best=6)

    async def both() -> list[Any]:
        first = asyncio.create_task(engine.translate_detailed(sentences[:40], samples))
        await asyncio.to_thread(translator.began.wait, WAIT)
        others = [asyncio.create_task(engine.translate([LONG])) for _ in range(2)]
        await taken(engine)
        # Who needs no batch waits for none.
        plain = await engine.translate([ORDINARY])
        translator.go.set()
        return [plain, await asyncio.gather(first, *others)]

    plain, (_, *long) = within(both())
    engine.close()
    own = Translator.load(model_dir).with_settings(beam=3, max_source=3)
    assert plain == own.translate([ORDINARY])
    assert long == [own.translate([LONG])] * 2
    # Twice as wide as the model's own, so half as many at a time; equal settings share a batch.
    size = own.config.decode.batch_size // 2
    assert list(map(len, translator.batches))[:3] == [size, 2, size]
    assert translator.batches[1] == [LONG] * 2


def test_samples_that_are_given_up_cost_no_further_batch(
    model_dir: Path, sentences: list[str]
) -> None:
    translator = Recorded.of(model_dir)
    engine = engine_of(translator)
    samples = engine.config.decode.changed(temperature=1.0)

    async def leave() -> None:
        leaving = asyncio.create_task(engine.translate_detailed(sentences, samples))
        await asyncio.to_thread(translator.began.wait, WAIT)
        leaving.cancel()
        while engine.waiting:
            await asyncio.sleep(0.001)
        translator.go.set()
        await engine.translate_detailed([ORDINARY], samples)

    within(leave())
    engine.close()
    assert list(map(len, translator.batches)) == [translator.config.decode.batch_size, 1]
