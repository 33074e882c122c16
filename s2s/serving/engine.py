"""Sentences of many requests on one model: greedy ones in slots, all others in batches beside.

The model never runs on the event loop, where it would hold up every other request. One thread runs
the slots; sentences enter and leave them at every step, first come, first served. Another thread
takes what slots can't do (a beam, samples, scores and attention, sentences longer than slots have
room for), so that none of it delays a plain sentence by more than its share of the cores.
"""

import asyncio
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from s2s.config import Config, DecodeConfig
from s2s.errors import Failed
from s2s.serving.meters import Meters
from s2s.slots import Slot, Slots
from s2s.text import EOS, SPECIALS, UNK
from s2s.translator import Piece, Translation, Translator

# Source tokens of a sentence that slots take, in sentences of the greatest usual length: reading a
# longer one would hold up all others.
_LONG = 4

# A share of the slots that are taken: fewer sentences than it do not enter at once.
_FEW = 8


# A sentence that has grown, as (text, sentence of it, translation so far), or all translations.
Grown = tuple[int, int, str] | list[str]


class Overloaded(Exception):
    """More waits than the engine takes."""


class Closed(Overloaded):
    """The engine takes nothing any more."""


_Found = list[list[Translation]] | BaseException
_LOGGER = logging.getLogger("s2s.serving")


@dataclass(eq=False)
class _Request:
    """Texts that are answered together."""

    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[list[str]]
    texts: list[str]
    on_text: Callable[[int, int, str], None] | None  # text, sentence of it, what it is so far
    came: float = field(default_factory=time.monotonic)
    made: list[list[str]] = field(default_factory=list)  # of each text, of each piece
    left: int = 0  # pieces that are not translated yet
    gone: bool = False  # nobody waits for it


@dataclass(eq=False)
class _Part:
    """A sentence of a text of a request."""

    request: _Request
    text: int
    place: int
    piece: Piece


@dataclass(eq=False)
class _Aside:
    """Sentences that are translated in one go, in a way of their own."""

    sentences: list[str]
    settings: DecodeConfig
    told: Callable[[_Found], None]
    gone: Callable[[], bool]


class Engine:
    """Translates for any number of callers, on one model.

    Args:
        slots: sentences on their way at a time.
        max_waiting: texts that may wait for them.
        meters: told what happens.
    """

    def __init__(
        self,
        translator: Translator,
        slots: int = 64,
        max_waiting: int = 1024,
        meters: Meters | None = None,
    ) -> None:
        self.config: Config = translator.config
        self.meters = meters or Meters()
        self._translator, self._max_waiting = translator, max_waiting
        settings = translator.config.decode
        self._greedy = settings.beam == 1 and settings.temperature is None
        self._longest = _LONG * settings.max_source
        self._slots: Slots[_Part] = Slots(translator.model, settings, slots, translator.device)
        self._work = threading.Lock()
        self._came = threading.Condition(self._work)  # something for slots
        self._came_aside = threading.Condition(self._work)  # something for the other thread
        self._waiting: deque[_Request] = deque()
        self._uncut = 0  # texts of those
        self._ready: deque[_Part] = deque()  # cut and tokenised; the thread of slots changes it
        self._aside: deque[_Aside] = deque()
        self._beside = 0  # sentences of those
        self._using = lru_cache(16)(lambda how: translator.using(**how.model_dump()))
        self._held = False  # whether who is ready waits for another step
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run_slots, name="s2s-slots", daemon=True),
            threading.Thread(target=self._run_aside, name="s2s-aside", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # ---- callers, on their event loop ----

    async def translate(self, texts: list[str]) -> list[str]:
        """A translation for each text, in order, in the way of the model's own settings.

        A caller that is cancelled leaves its slots at the next step.

        Raises:
            Overloaded: too many texts wait, or the engine is closed; none of these was taken.
            Failed: the model failed.
        """
        return await self._answered(self._submitted(texts, None))

    async def stream(self, texts: list[str]) -> AsyncGenerator[Grown, None]:
        """What each sentence is so far, as (text, sentence, translation), whenever it has grown.

        The last thing that comes is what `translate` would have given; errors are the same.
        """
        told: asyncio.Queue[tuple[int, int, str] | None] = asyncio.Queue()
        request = self._submitted(texts, lambda *what: told.put_nowait(what))
        answer = asyncio.ensure_future(self._answered(request))
        answer.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (what := await told.get()) is not None:
                yield what
            yield await answer
        finally:
            answer.cancel()

    async def hypotheses(
        self, sentences: list[str], settings: DecodeConfig
    ) -> list[list[Translation]]:
        """The translations of each sentence that other settings give, with all that is known.

        Raises:
            Overloaded, Failed: as `translate`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[list[Translation]]] = loop.create_future()

        def told(found: _Found) -> None:
            result = _failed(found) if isinstance(found, BaseException) else found
            _on(loop, _settle, future, result)

        aside = _Aside(sentences, settings, told, future.cancelled)
        with self._work:
            self._admit(len(sentences))
            self._beside += len(sentences)
            self._aside.append(aside)
            self._came_aside.notify()
        return await future

    def cut(self, texts: list[str]) -> list[list[Piece]]:
        """The sentences of each text."""
        return self._translator.cut(texts)

    def settings(self, given: dict[str, Any]) -> DecodeConfig:
        """The model's own settings but for those that are given.

        Raises:
            BadInput: they do not go together.
        """
        return self._translator.settings(**given)

    @property
    def most(self) -> int:
        """Texts that may wait: more of them together are never taken."""
        return self._max_waiting

    @property
    def alive(self) -> bool:
        """Whether the engine's threads still run."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is on its way."""
        return not (self._uncut or self._ready or len(self._slots) or self._beside)

    def close(self) -> None:
        """End the threads once all that was taken so far is translated."""
        with self._work:
            self._closed = True
            self._came.notify()
            self._came_aside.notify()
        for thread in self._threads:
            thread.join()

    def _submitted(
        self, texts: list[str], on_text: Callable[[int, int, str], None] | None
    ) -> _Request:
        loop = asyncio.get_running_loop()
        request = _Request(loop, loop.create_future(), texts, on_text)
        if not texts:
            request.answer.set_result([])
            return request
        with self._work:
            self._admit(len(texts))
            self._uncut += len(texts)
            self._waiting.append(request)
            self._came.notify()
        return request

    async def _answered(self, request: _Request) -> list[str]:
        try:
            return await request.answer
        finally:
            request.gone = True

    def _admit(self, texts: int) -> None:
        waiting = self._uncut + len(self._ready) + self._beside
        if self._closed or not self.alive:
            raise Closed
        if waiting + texts > self._max_waiting:
            self.meters.count(refused=1)
            raise Overloaded

    # ---- the thread of the slots ----

    def _run_slots(self) -> None:
        while self._wait_for_work():
            try:
                self._turn()
            except BaseException as error:  # a panic in a library's Rust code is no Exception
                for slot in self._slots.clear():
                    self._fail(slot.owner.request, error)

    def _wait_for_work(self) -> bool:
        """Whether there is any; not if the engine is closed and all is done."""
        with self._work:
            while not (self._waiting or self._ready or len(self._slots)):
                if self._closed:
                    return False
                self._came.wait()
            new = list(self._waiting)
            self._waiting.clear()
        if new:
            self._cut(new)
        return True

    def _turn(self) -> None:
        """One step: who is gone leaves, who waits enters, every sentence gets a word."""
        gone = {slot for slot in self._slots.taken if slot.owner.request.gone}
        if gone:
            self._slots.drop(gone)
        now = time.monotonic()
        entering: list[_Part] = []
        dropped = len(gone)
        # To encode a few is hardly cheaper than to encode many: where few have come, they wait for
        # one more step, and for others.
        self._held = not self._held and len(self._ready) < len(self._slots) / _FEW
        while self._ready and not self._held and len(entering) < self._slots.free:
            part = self._ready.popleft()
            if part.request.gone:
                dropped += 1
            else:
                entering.append(part)
        if entering:
            self._enter(entering)
        taken = len(self._slots)
        ended = self._slots.step()
        said = time.monotonic()
        done: list[_Request] = []
        for slot in ended:
            part = slot.owner
            try:
                text = self._translator.written(part.piece.sentence, slot.words, slot.looked)
            except BaseException as error:
                self._fail(part.request, error)
                continue
            if self._put(part, text):
                done.append(part.request)
        for slot in self._slots.taken:
            if slot.owner.request.on_text:
                self._tell_growth(slot)
        self.meters.observe(
            [("queue_seconds", now - part.request.came) for part in entering]
            + [("first_word_seconds", said - part.request.came) for part in entering]
            + [("request_seconds", said - request.came) for request in done]
        )
        self.meters.count(
            dropped=dropped,
            steps=taken > 0,
            taken_slots=taken,
            sentences=len(ended),
            words=sum(len(slot.words) for slot in ended),
            unknown_words=sum(slot.words.count(UNK) for slot in ended),
        )
        self._deliver(done)

    def _cut(self, requests: list[_Request]) -> None:
        """Cut texts into sentences, which are ready to enter slots, or go aside."""
        waiting = [request for request in requests if not request.gone]
        texts = [text for request in waiting for text in request.texts]
        try:
            cut = self._translator.cut(texts)
        except BaseException as error:
            if len(requests) > 1:  # each alone, so that one alone is refused
                for request in requests:
                    self._cut([request])
                return
            self._fail(requests[0], error)
        else:
            each = iter(cut)
            for request in waiting:
                self._make_ready(request, [next(each) for _ in request.texts])
        taken = sum(len(request.texts) for request in requests)
        self.meters.count(dropped=taken - len(texts))
        with self._work:
            self._uncut -= taken

    def _make_ready(self, request: _Request, cut: list[list[Piece]]) -> None:
        request.made = [[piece.put_back("") for piece in pieces] for pieces in cut]
        parts = [
            _Part(request, text, place, piece)
            for text, pieces in enumerate(cut)
            for place, piece in enumerate(pieces)
            if piece.ids
        ]
        request.left = len(parts)
        aside = [p for p in parts if not self._greedy or len(p.piece.ids) > self._longest]
        held = set(aside)
        self._ready += [part for part in parts if part not in held]
        if aside:
            self._send_aside(aside)
        if not parts:
            self._deliver([request])

    def _enter(self, parts: list[_Part]) -> None:
        """Encode sentences into slots; if that fails, one by one, so that one alone is refused."""
        try:
            self._slots.enter([part.piece.ids for part in parts], parts)
        except BaseException:
            for part in parts:
                try:
                    self._slots.enter([part.piece.ids], [part])
                except BaseException as error:
                    self._fail(part.request, error)

    def _send_aside(self, parts: list[_Part]) -> None:
        request = parts[0].request

        def told(found: _Found) -> None:
            if isinstance(found, BaseException):
                self._fail(request, found)
                return
            done = [
                self._put(part, best.text) for part, (best, *_) in zip(parts, found, strict=True)
            ]
            if any(done):
                self._deliver([request])
                self.meters.observe([("request_seconds", time.monotonic() - request.came)])

        aside = _Aside(
            [part.piece.sentence for part in parts],
            self.config.decode.model_copy(update={"n_best": 1}),
            told,
            lambda: request.gone,
        )
        with self._work:
            self._beside += len(parts)
            self._aside.append(aside)
            self._came_aside.notify()

    def _put(self, part: _Part, translation: str) -> bool:
        """Put a translation where its sentence was; whether it was the last of its request."""
        request = part.request
        request.made[part.text][part.place] = part.piece.put_back(translation)
        if request.on_text:
            self._tell(part, translation)
        with self._work:
            request.left -= 1
            return request.left == 0

    def _deliver(self, requests: list[_Request]) -> None:
        """Answer requests, with one call to each event loop."""
        for loop in {request.loop for request in requests}:
            own = [request for request in requests if request.loop is loop]
            _on(loop, _answer, own)

    def _fail(self, request: _Request, error: BaseException) -> None:
        request.gone = True  # its other sentences leave
        _on(request.loop, _settle, request.answer, _failed(error))

    def _tell_growth(self, slot: Slot[_Part]) -> None:
        part = slot.owner
        try:
            text = self._translator.written(part.piece.sentence, slot.words, slot.looked)
        except BaseException as error:  # of this sentence alone
            self._fail(part.request, error)
            return
        self._tell(part, text)

    def _tell(self, part: _Part, text: str) -> None:
        request = part.request
        if request.on_text and not request.gone:
            _on(request.loop, request.on_text, part.text, part.place, text)

    # ---- the thread beside ----

    def _run_aside(self) -> None:
        while group := self._next_group():
            for aside, found in self._translated(group):
                try:
                    aside.told(found)
                except BaseException as error:
                    _log(error)
            with self._work:
                self._beside -= sum(len(aside.sentences) for aside in group)

    def _next_group(self) -> list[_Aside]:
        """Who waits first, and who wants the same; nobody if the engine is closed and done."""
        with self._work:
            while not self._aside:
                if self._closed and not self._threads[0].is_alive():
                    return []  # nothing comes from the slots any more, either
                self._came_aside.wait(0.05 if self._closed else None)
            settings, room = self._aside[0].settings, self.config.decode.batch_size
            group, others = [self._aside.popleft()], deque[_Aside]()
            room -= len(group[0].sentences)
            for aside in self._aside:
                # What is drawn depends on the batch, and is to depend on the seed alone.
                fits = aside.settings == settings and settings.temperature is None
                fits = fits and len(aside.sentences) <= room
                room -= len(aside.sentences) if fits else 0
                (group if fits else others).append(aside)
            self._aside = others
            return group

    def _translated(self, group: list[_Aside]) -> list[tuple[_Aside, _Found]]:
        """What each of a group is told; who has gone is told nothing."""
        sentences = [sentence for aside in group for sentence in aside.sentences]
        found: list[list[Translation]] = []
        size = self.config.decode.batch_size
        try:
            translator = self._using(group[0].settings)
            for begin in range(0, len(sentences), size):
                if all(aside.gone() for aside in group):
                    self.meters.count(dropped=len(sentences) - begin)
                    return []
                found += translator.hypotheses(sentences[begin : begin + size])
        except BaseException as error:
            if len(group) == 1:
                return [(group[0], error)]
            # Each alone, so that one alone is refused.
            return [told for aside in group for told in self._translated([aside])]
        words = [[word for word in best.words if word != SPECIALS[EOS]] for best, *_ in found]
        self.meters.count(
            sentences=len(found),
            words=sum(map(len, words)),
            unknown_words=sum(said.count(SPECIALS[UNK]) for said in words),
        )
        rest = iter(found)
        return [(aside, [next(rest) for _ in aside.sentences]) for aside in group]


def _on(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: Any) -> None:
    """Call something on an event loop, unless that has ended, and with it who waits."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)


def _answer(requests: list[_Request]) -> None:
    for request in requests:
        if not request.answer.done():
            request.answer.set_result(["".join(pieces) for pieces in request.made])


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    """Give a future its result or error, unless who waited has gone."""
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def _failed(error: BaseException) -> Failed:
    """What a caller is told: no more than the kind of error, whose message may quote a text."""
    _log(error)
    return Failed(f"the model failed ({type(error).__name__})")


def _log(error: BaseException) -> None:
    """Say where an error arose, without its message."""
    places = "".join(traceback.format_tb(error.__traceback__))
    _LOGGER.error("%s in a model:\n%s", type(error).__name__, places)
