"""The engine of a model: sentences of many requests translated together, in a process of its own.

Messages come over a connection, whose other end is `s2s.serving.engine.client`, and answers go back
over it. The thread of the scheduler reads them and runs the slots: sentences enter and leave them
at every step, one of each request in turn (continuous batching). What slots can't do is translated
beside them by another thread (`s2s.serving.engine.beside`).
"""

import time
from collections import deque

from s2s.decoding.slots import Slot, Slots
from s2s.decoding.translator import Translator
from s2s.serving.engine.beside import BesideSlots
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.messages import (
    PROTOCOL,
    Cancel,
    Close,
    Message,
    Ready,
    Translate,
    TranslateDetailed,
)
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.pending import PendingRequests, Request, SentenceTask
from s2s.serving.engine.turns import Turns
from s2s.text.alignment import Link
from s2s.text.sentences import Sentence
from s2s.text.vocabulary import UNK

# Source tokens of the longest sentence that enters a slot, in sentences of the greatest usual
# length (`decode.max_source`): to encode a longer one would hold up all others.
_LONGEST = 4

# Characters of the longest request whose texts are split as soon as it comes: about 1 ms of work.
_LONG = 1000

# Seconds between two reports of statistics while there is work.
_REPORT_SECONDS = 0.1

# To encode a few sentences takes nearly as long as to encode many. Fewer than this share of the
# sentences in slots are held back until more have come, for so many steps at most.
_FEW = 1 / 2
_HOLD_STEPS = 8


class Scheduler:
    """Translates what comes over a connection, on one model.

    Args:
        slots: sentences that are translated at a time.
    """

    def __init__(self, translator: Translator, connection: Connection, slots: int = 64) -> None:
        self._translator, self._connection = translator, connection
        settings = translator.config.decode
        # Who asks for a translation alone is never shown `<unk>`.
        self._unmarked = translator.with_settings(unknown=settings.without_marks().unknown)
        self._greedy = settings.beam == 1 and settings.temperature is None
        self._longest = _LONGEST * settings.max_source
        self._slots: Slots[SentenceTask] = Slots(
            translator.model, settings, slots, translator.device
        )
        self._meters = Meters()
        self._pending = PendingRequests(connection, self._meters)
        self._beside = BesideSlots(translator, connection, self._pending, self._meters)
        self._waiting: Turns[Request, SentenceTask] = Turns()  # for a slot
        self._long: deque[Request] = deque()  # whose texts are not split yet
        self._held_steps = 0  # for which sentences have been held back
        self._closed = False  # whether no more requests come

    def run(self) -> None:
        """Translate until `Close` has come and all is done, or until the service has gone."""
        self._beside.start()
        self._connection.send(Ready(PROTOCOL, self._translator.config.model_dump_json()))
        try:
            while self._receive():
                try:
                    self._step()
                except BaseException as error:  # a panic in a library's Rust code is no Exception
                    for slot in self._slots.evict_all():
                        self._pending.fail(slot.owner.request, error)
                self._connection.flush()
        finally:
            self._beside.close()
            self._pending.report()
            self._connection.flush()
            self._connection.close()

    # ---- what comes ----

    @property
    def _busy(self) -> bool:
        """Whether there are sentences in slots, or waiting for one, or texts to split."""
        return len(self._waiting) > 0 or len(self._slots) > 0 or len(self._long) > 0

    def _receive(self) -> bool:
        """Take the messages that have come; wait for one where there is nothing else to do.

        Returns:
            Whether there is anything to do; not if the engine is closed and all is done.
        """
        while not self._closed:
            if not self._busy:
                self._pending.report()
                self._connection.flush()
            messages = self._connection.receive(wait=not self._busy)
            if messages is None:  # nobody is there to answer
                self._pending.cancel_all()
                return False
            self._take(messages)
            if self._busy:
                return True
        return self._busy

    def _take(self, messages: list[Message]) -> None:
        """Do what messages ask for; the texts of all short plain requests are split together.

        Those of long ones are split one request at a step, so that others do not wait for them.
        """
        short: list[Request] = []
        for message in messages:
            match message:
                case Translate(number, texts, streamed, arrival, aligned):
                    request = self._pending.add(
                        number, texts, arrival, streamed=streamed, aligned=aligned
                    )
                    is_long = sum(map(len, texts)) > _LONG
                    (self._long if is_long else short).append(request)
                case TranslateDetailed(number, texts, settings):
                    request = self._pending.add(number, texts, time.monotonic())
                    self._beside.translate_detailed(request, settings)
                case Cancel(number):
                    self._pending.cancel(number)
                case Close():
                    self._closed = True
                case _:
                    raise ValueError(f"{type(message).__name__} is no message for an engine")
        if short:
            self._split(short)

    def _split(self, requests: list[Request]) -> None:
        """Split texts into sentences; if that fails, of each request alone."""
        try:
            split = self._translator.split([text for request in requests for text in request.texts])
        except BaseException as error:
            if len(requests) == 1:
                self._pending.fail(requests[0], error)
                return
            for request in requests:
                self._split([request])
        else:
            texts = iter(split)
            for request in requests:
                self._enqueue(request, [next(texts) for _ in request.texts])

    def _enqueue(self, request: Request, texts: list[list[Sentence]]) -> None:
        """Queue the sentences of a request, for slots or beside them."""
        if request.settled:
            self._meters.count(dropped=sum(map(len, texts)))
            return
        tasks = self._pending.enqueue(request, texts)
        fitting: list[SentenceTask] = []
        beside: list[SentenceTask] = []
        for task in tasks:
            fits = self._greedy and len(task.sentence.ids) <= self._longest
            (fitting if fits else beside).append(task)
        self._waiting.put(request, fitting)
        if beside:
            self._beside.translate(beside)
        if not tasks:
            self._answer([request])

    # ---- a step ----

    def _step(self) -> None:
        """Free the slots of settled requests, admit sentences, add a token to each, and deliver."""
        if self._long:
            self._split([self._long.popleft()])
        dropped = self._evict()
        begin = time.monotonic()
        admitted, passed_over = self._admit()
        occupied = len(self._slots)
        ended = self._slots.step()
        end = time.monotonic()
        answered = self._complete(ended)
        for slot in self._slots.active:
            if slot.owner.request.streamed:
                self._send_partial(slot)
        self._meters.observe(
            [("queue_seconds", begin - task.request.arrival) for task in admitted]
            + [("first_word_seconds", end - task.request.arrival) for task in admitted]
            + [("request_seconds", end - request.arrival) for request in answered]
        )
        self._meters.count(
            dropped=dropped + passed_over,
            steps=occupied > 0,
            taken_slots=occupied,
            sentences=len(ended),
            words=sum(len(slot.ids) for slot in ended),
            unknown_words=sum(slot.ids.count(UNK) for slot in ended),
        )
        self._answer(answered)

    def _evict(self) -> int:
        """Free the slots of requests that nobody waits for; return how many."""
        evicted = {slot for slot in self._slots.active if slot.owner.request.settled}
        if evicted:
            self._slots.cancel(evicted)
        return len(evicted)

    def _admit(self) -> tuple[list[SentenceTask], int]:
        """Fill free slots with sentences that wait.

        Returns:
            The sentences, and how many were passed over because nobody waits for them.
        """
        admitted: list[SentenceTask] = []
        passed_over = 0
        if len(self._waiting) < len(self._slots) * _FEW and self._held_steps < _HOLD_STEPS:
            self._held_steps += 1
            return admitted, passed_over
        self._held_steps = 0
        while self._waiting and len(admitted) < self._slots.free:
            if self._waiting.next_owner().settled:
                passed_over += self._waiting.drop()
            else:
                admitted.append(self._waiting.take())
        if admitted:
            self._encode(admitted)
        return admitted, passed_over

    def _encode(self, tasks: list[SentenceTask]) -> None:
        """Encode sentences into slots; if that fails, one by one, so that one alone is refused."""
        try:
            self._slots.admit([task.sentence.ids for task in tasks], tasks)
        except BaseException:
            for task in tasks:
                try:
                    self._slots.admit([task.sentence.ids], [task])
                except BaseException as error:
                    self._pending.fail(task.request, error)

    def _complete(self, ended: list[Slot[SentenceTask]]) -> list[Request]:
        """Put translations where their sentences stood; return the requests that this completes."""
        completed: list[Request] = []
        for slot in ended:
            text = self._detokenise(slot)
            links = [] if text is None else self._links(slot, text)
            if text is None or links is None:
                continue
            incomplete = slot.finish_reason != "stop"
            if self._pending.complete(slot.owner, text, links, incomplete=incomplete):
                completed.append(slot.owner.request)
        return completed

    def _send_partial(self, slot: Slot[SentenceTask]) -> None:
        text = self._detokenise(slot)
        if text is not None:
            self._pending.send_partial(slot.owner, text)

    def _detokenise(self, slot: Slot[SentenceTask]) -> str | None:
        """Return the text of a slot's tokens; None if that fails, as its request then does."""
        task = slot.owner
        translator = self._translator if task.request.streamed else self._unmarked
        try:
            return translator.detokenise(task.sentence.stripped, slot.ids, slot.alignment)
        except BaseException as error:
            self._pending.fail(task.request, error)
            return None

    def _links(self, slot: Slot[SentenceTask], text: str) -> list[Link] | None:
        """Return the links of a translation, if they are wanted; None if that fails."""
        task = slot.owner
        if not task.request.aligned:
            return []
        try:
            return self._translator.links(task.sentence.stripped, slot.ids, slot.alignment, text)
        except BaseException as error:
            self._pending.fail(task.request, error)
            return None

    def _answer(self, requests: list[Request]) -> None:
        """Answer requests; the last ones after all that was counted."""
        self._pending.report(at_least_after=_REPORT_SECONDS if self._busy else 0.0)
        self._pending.answer(requests)
