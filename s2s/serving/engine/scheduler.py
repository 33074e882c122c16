"""The engine of a model: sentences of many requests translated together, in a process of its own.

What is asked comes over a connection (`s2s.serving.engine.client` is at its other end), and what is
made goes back over it. One thread reads it and runs the slots: sentences enter and leave them at
every step, first come, first served. Another thread takes what slots can't do (a beam, samples,
scores and attention, sentences longer than slots have room for), so that none of it delays a plain
sentence by more than its share of the cores.

Messages that come:

- `translate`, number, texts, streamed, time: a translation of each text, by greedy search.
- `hypotheses`, number, texts, settings: all that is known of each sentence's translations.
- `drop`, number: nobody waits for it any more.
- `close`: finish, and end.

Messages that go; to each request one of the last four:

- `ready`, config: the model is loaded.
- `counted`, counts, observations: of `s2s.serving.engine.meters`.
- `grown`, number, text, sentence of it, translation: so far, where `streamed`.
- `done`, [(number, translations)].
- `found`, number, [[(piece, its tokens, hypotheses)] of each text].
- `failed`, number, why.
- `dropped`, number.
"""

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from s2s.config import DecodeConfig
from s2s.decoding.slots import Slot, Slots
from s2s.decoding.translation import Translation
from s2s.decoding.translator import Translator
from s2s.serving.engine.messages import Wire
from s2s.serving.engine.meters import Meters
from s2s.text.sentences import Sentence
from s2s.text.vocabulary import EOS, SPECIALS, UNK

# Source tokens of a sentence that slots take, in sentences of the greatest usual length: reading a
# longer one would hold up all others.
_LONG = 4

# Seconds for which counts are gathered while there is work.
_COUNTING = 0.1

# To encode a few sentences takes nearly as long as to encode many: fewer than this share of those
# on their way wait for others, for so many steps at most.
_FEW = 1 / 2
_HOLD = 8

_Found = list[list[Translation]] | BaseException
_LOGGER = logging.getLogger("s2s.serving")


@dataclass(eq=False)
class _Request:
    """Texts that are answered together."""

    number: int
    texts: list[str]
    streamed: bool
    came: float  # by the system's monotonic clock
    made: list[list[str]] = field(default_factory=list)  # of each text, of each piece
    left: int = 0  # pieces that are not translated yet
    gone: bool = False  # nobody waits for it


@dataclass(eq=False)
class _Part:
    """A sentence of a text of a request."""

    request: _Request
    text: int
    place: int
    piece: Sentence


@dataclass(eq=False)
class _Aside:
    """Sentences of a request that are translated in one go, in a way of their own."""

    request: _Request
    sentences: list[str]
    settings: DecodeConfig
    told: Callable[[list[list[Translation]]], None]


class Engine:
    """Translates what comes over a connection, on one model.

    Args:
        slots: sentences on their way at a time.
    """

    def __init__(self, translator: Translator, wire: Wire, slots: int = 64) -> None:
        self._translator, self._wire = translator, wire
        self._config = translator.config
        settings = self._config.decode
        self._greedy = settings.beam == 1 and settings.temperature is None
        self._longest = _LONG * settings.max_source
        self._slots: Slots[_Part] = Slots(translator.model, settings, slots, translator.device)
        self._meters = Meters()
        self._requests: dict[int, _Request] = {}  # that are not answered yet
        self._ready: deque[_Part] = deque()  # cut and tokenised
        self._reported = 0.0  # when counts were handed on
        self._held = 0  # steps for which who is ready has waited for others
        self._work = threading.Lock()
        self._came_aside = threading.Condition(self._work)
        self._aside: deque[_Aside] = deque()
        self._using = lru_cache(16)(lambda how: translator.with_settings(**how.model_dump()))
        self._closed = False  # whether nothing more is asked
        self._last_came = False  # whether nothing more comes aside
        self._beside = threading.Thread(target=self._run_aside, name="s2s-aside", daemon=True)

    def run(self) -> None:
        """Translate until told to close, and all is done; or until the service has gone."""
        self._beside.start()
        self._wire.send("ready", self._config.model_dump_json())
        try:
            while self._take():
                try:
                    self._turn()
                except BaseException as error:  # a panic in a library's Rust code is no Exception
                    for slot in self._slots.evict_all():
                        self._fail(slot.owner.request, error)
                self._wire.send()
        finally:
            with self._work:
                self._last_came = True
                self._came_aside.notify()
            self._beside.join()
            self._report()
            self._wire.send()
            self._wire.close()

    # ---- the thread of the slots ----

    @property
    def _busy(self) -> bool:
        return bool(self._ready) or len(self._slots) > 0

    def _take(self) -> bool:
        """Take what has come; wait for it where there is nothing else to do.

        Returns:
            Whether there is anything to do; not if the engine is closed and all is done.
        """
        while True:
            if self._closed:
                return self._busy
            if not self._busy:
                self._report()
                self._wire.send()
            messages = self._wire.receive(wait=not self._busy)
            if messages is None:  # nobody is there to answer
                for request in list(self._requests.values()):
                    self._leave(request)
                return False
            new: list[_Request] = []
            for kind, *rest in messages:
                if kind == "translate":
                    number, texts, streamed, came = rest
                    request = _Request(number, texts, streamed, came)
                    self._requests[number] = request
                    new.append(request)
                elif kind == "hypotheses":
                    self._take_aside(*rest)
                elif kind == "drop":
                    self._drop(*rest)
                else:
                    self._closed = True
            if new:
                self._cut(new)
            if self._busy:
                return True

    def _drop(self, number: int) -> None:
        request = self._requests.get(number)
        if request is not None:  # else its answer is on its way
            self._leave(request)
            self._wire.put("dropped", number)

    def _turn(self) -> None:
        """One step: who is gone leaves, who waits enters, every sentence gets a word."""
        gone = {slot for slot in self._slots.active if slot.owner.request.gone}
        if gone:
            self._slots.cancel(gone)
        now = time.monotonic()
        entering: list[_Part] = []
        dropped = len(gone)
        few = len(self._ready) < len(self._slots) * _FEW
        self._held = self._held + 1 if few and self._held < _HOLD else 0
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
                text = self._translator.detokenise(part.piece.stripped, slot.ids, slot.alignment)
            except BaseException as error:
                self._fail(part.request, error)
                continue
            if self._put(part, text):
                done.append(part.request)
        for slot in self._slots.active:
            if slot.owner.request.streamed:
                self._tell_growth(slot)
        self._meters.observe(
            [("queue_seconds", now - part.request.came) for part in entering]
            + [("first_word_seconds", said - part.request.came) for part in entering]
            + [("request_seconds", said - request.came) for request in done]
        )
        self._meters.count(
            dropped=dropped,
            steps=taken > 0,
            taken_slots=taken,
            sentences=len(ended),
            words=sum(len(slot.ids) for slot in ended),
            unknown_words=sum(slot.ids.count(UNK) for slot in ended),
        )
        self._deliver(done)

    def _cut(self, requests: list[_Request]) -> None:
        """Cut texts into sentences, which are ready to enter slots, or go aside."""
        try:
            cut = self._translator.split([text for request in requests for text in request.texts])
        except BaseException as error:
            if len(requests) > 1:  # each alone, so that one alone is refused
                for request in requests:
                    self._cut([request])
                return
            self._fail(requests[0], error)
        else:
            each = iter(cut)
            for request in requests:
                self._make_ready(request, [next(each) for _ in request.texts])

    def _make_ready(self, request: _Request, cut: list[list[Sentence]]) -> None:
        if request.gone:
            self._meters.count(dropped=sum(map(len, cut)))
            return
        request.made = [[piece.with_whitespace("") for piece in pieces] for pieces in cut]
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
            self._send_aside(request, aside)
        if not parts:
            self._deliver([request])

    def _enter(self, parts: list[_Part]) -> None:
        """Encode sentences into slots; if that fails, one by one, so that one alone is refused."""
        try:
            self._slots.admit([part.piece.ids for part in parts], parts)
        except BaseException:
            for part in parts:
                try:
                    self._slots.admit([part.piece.ids], [part])
                except BaseException as error:
                    self._fail(part.request, error)

    def _send_aside(self, request: _Request, parts: list[_Part]) -> None:
        """Have sentences of texts translated beside the slots."""

        def told(found: list[list[Translation]]) -> None:
            done = [
                self._put(part, best.text) for part, (best, *_) in zip(parts, found, strict=True)
            ]
            if any(done):
                self._meters.observe([("request_seconds", time.monotonic() - request.came)])
                self._deliver([request])

        settings = self._config.decode.model_copy(update={"n_best": 1})
        self._put_aside(_Aside(request, [p.piece.stripped for p in parts], settings, told))

    def _take_aside(self, number: int, texts: list[str], settings: dict[str, Any]) -> None:
        """Have all that is known of texts' translations found beside the slots."""
        request = _Request(number, texts, streamed=False, came=time.monotonic())
        self._requests[number] = request
        try:
            cut = self._translator.split(texts)
            how = DecodeConfig.model_validate(settings)
        except BaseException as error:
            self._fail(request, error)
            return

        def told(found: list[list[Translation]]) -> None:
            each = iter(found)
            texts = [[(p.text, p.ids, [vars(t) for t in next(each)]) for p in ps] for ps in cut]
            if self._leave(request):
                self._wire.put("found", number, texts)

        sentences = [piece.stripped for pieces in cut for piece in pieces]
        self._put_aside(_Aside(request, sentences, how, told))

    def _put_aside(self, aside: _Aside) -> None:
        with self._work:
            self._aside.append(aside)
            self._came_aside.notify()

    def _put(self, part: _Part, translation: str) -> bool:
        """Put a translation where its sentence was; whether it was the last of its request."""
        request = part.request
        request.made[part.text][part.place] = part.piece.with_whitespace(translation)
        if request.streamed:
            self._tell(part, translation)
        with self._work:
            request.left -= 1
            return request.left == 0

    def _deliver(self, requests: list[_Request]) -> None:
        """Answer requests that are done; the last ones after all that was counted."""
        if not self._busy or time.monotonic() - self._reported > _COUNTING:
            self._report()
        answers = [(request.number, ["".join(pieces) for pieces in request.made])
                   for request in requests if self._leave(request)]  # fmt: skip
        if answers:
            self._wire.put("done", answers)

    def _report(self) -> None:
        """Hand on what was counted."""
        self._reported = time.monotonic()
        counts, observed = self._meters.collect()
        told = {name: count for (name, _), count in counts.items() if count}
        if told or observed:
            self._wire.put("counted", told, observed)

    def _leave(self, request: _Request) -> bool:
        """Forget a request; whether it was still to be answered. Its sentences leave."""
        request.gone = True
        return self._requests.pop(request.number, None) is not None

    def _fail(self, request: _Request, error: BaseException) -> None:
        """Tell no more than the kind of error, whose message may quote a text."""
        places = "".join(traceback.format_tb(error.__traceback__))
        _LOGGER.error("%s in a model:\n%s", type(error).__name__, places)
        if self._leave(request):
            self._wire.put("failed", request.number, f"the model failed ({type(error).__name__})")

    def _tell_growth(self, slot: Slot[_Part]) -> None:
        part = slot.owner
        try:
            text = self._translator.detokenise(part.piece.stripped, slot.ids, slot.alignment)
        except BaseException as error:  # of this sentence alone
            self._fail(part.request, error)
            return
        self._tell(part, text)

    def _tell(self, part: _Part, text: str) -> None:
        if not part.request.gone:
            self._wire.put("grown", part.request.number, part.text, part.place, text)

    # ---- the thread beside ----

    def _run_aside(self) -> None:
        while group := self._next_group():
            self._translate(group)
            self._wire.send()

    def _next_group(self) -> list[_Aside]:
        """Who waits first, and who wants the same; nobody if the engine is closed and done."""
        with self._work:
            while not self._aside:
                if self._last_came:
                    return []
                self._came_aside.wait()
            settings, room = self._aside[0].settings, self._config.decode.batch_size
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

    def _translate(self, group: list[_Aside]) -> None:
        """Tell each of a group what it asked for; if that fails, each alone."""
        sentences = [sentence for aside in group for sentence in aside.sentences]
        found: list[list[Translation]] = []
        size = self._config.decode.batch_size
        try:
            translator = self._using(group[0].settings)
            for begin in range(0, len(sentences), size):
                if all(aside.request.gone for aside in group):
                    self._meters.count(dropped=len(sentences) - begin)
                    return
                found += translator.hypotheses(sentences[begin : begin + size])
            words = [[word for word in best.words if word != SPECIALS[EOS]] for best, *_ in found]
            self._meters.count(
                sentences=len(found),
                words=sum(map(len, words)),
                unknown_words=sum(said.count(SPECIALS[UNK]) for said in words),
            )
            self._report()
            each = iter(found)
            for aside in group:
                aside.told([next(each) for _ in aside.sentences])
        except BaseException as error:
            if len(group) == 1:
                self._fail(group[0].request, error)
                return
            for aside in group:
                if not aside.request.gone:
                    self._translate([aside])
