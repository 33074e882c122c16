"""The engine of a model: sentences of many requests translated together, in a process of its own.

Messages come over a connection, whose other end is `s2s.serving.engine.client`, and answers go back
over it. The thread of the scheduler reads them and runs the slots: sentences enter and leave them
at every step, one of each request in turn (continuous batching), and are searched as their request
says, greedily or by a beam. What slots can't do is translated beside them by another thread
(`s2s.serving.engine.beside`).
"""

import time
from collections import deque

from s2s.decoding.slot import Search, Slot
from s2s.decoding.slots import Slots
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
from s2s.serving.engine.translators import Translators
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
# sentences of their kind in slots are held back until more have come, for so many steps at most:
# fewer where there are beams, whose steps take longer than to encode a sentence.
_FEW = 1 / 2
_HOLD_STEPS = {True: 8, False: 2}  # by whether they are decoded greedily


class Scheduler:
    """Translates what comes over a connection, on one model.

    Args:
        slots: sentences that are translated at a time.
    """

    def __init__(self, translator: Translator, connection: Connection, slots: int = 64) -> None:
        self._connection = connection
        settings = translator.config.decode
        self._translators = Translators(translator)
        # Of the model's own hypotheses only the best one is served.
        self._own_search = Search(settings.model_copy(update={"n_best": 1}))
        self._longest = _LONGEST * settings.max_source
        self._slots: Slots[SentenceTask] = Slots(
            translator.model, settings, slots, translator.device
        )
        self._meters = Meters()
        self._pending = PendingRequests(connection, self._meters)
        self._beside = BesideSlots(self._translators, connection, self._pending, self._meters)
        # Sentences that wait for a slot: to be decoded greedily; by the model's own beam or a
        # narrower one; by a wider one.
        self._greedy: Turns[Request, SentenceTask] = Turns()
        self._usual: Turns[Request, SentenceTask] = Turns()
        self._wide: Turns[Request, SentenceTask] = Turns()
        self._long: deque[Request] = deque()  # whose texts are not split yet
        self._held_steps = {True: 0, False: 0}  # for which sentences have been held back
        self._closed = False  # whether no more requests come

    def run(self) -> None:
        """Translate until `Close` has come and all is done, or until the service has gone."""
        self._beside.start()
        self._connection.send(Ready(PROTOCOL, self._translators.own.config.model_dump_json()))
        try:
            while self._receive():
                try:
                    self._step()
                except BaseException as error:  # a panic in a library's Rust code is no Exception
                    for slot in self._slots.evict_stepped():
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
        waiting = len(self._greedy) + len(self._usual) + len(self._wide) + len(self._long)
        return waiting > 0 or len(self._slots) > 0

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
        """Do what messages ask for; the texts of all short requests are split together.

        Those of long ones are split one request at a step, so that others do not wait for them.
        """
        came: list[Request] = []
        for message in messages:
            match message:
                case Translate(number, texts, streamed, arrival, aligned):
                    came.append(
                        self._pending.add(
                            number,
                            texts,
                            arrival,
                            self._own_search,
                            streamed=streamed,
                            aligned=aligned,
                        )
                    )
                case TranslateDetailed(number, texts, settings):
                    search = Search(settings, details=True)
                    came.append(self._pending.add(number, texts, time.monotonic(), search))
                case Cancel(number):
                    self._pending.cancel(number)
                case Close():
                    self._closed = True
                case _:
                    raise ValueError(f"{type(message).__name__} is no message for an engine")
        short: dict[Search, list[Request]] = {}
        for request in came:
            if sum(map(len, request.texts)) > _LONG:
                self._long.append(request)
            else:
                short.setdefault(request.search, []).append(request)
        for requests in short.values():
            self._split(requests)

    def _split(self, requests: list[Request]) -> None:
        """Split texts that are searched alike into sentences; if that fails, request by request."""
        try:
            split = self._translators.of(requests[0].search).split(
                [text for request in requests for text in request.texts]
            )
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
            fits = self._fits_slots(request.search, task.sentence)
            (fitting if fits else beside).append(task)
        self._queue_of(request.search).put(request, fitting)
        if beside:
            self._beside.translate(beside)
        if not tasks:
            self._answer([request])

    def _fits_slots(self, search: Search, sentence: Sentence) -> bool:
        """Whether slots can translate a sentence."""
        settings, own = search.settings, self._translators.settings
        return (
            len(sentence.ids) <= self._longest
            and settings.temperature is None
            and settings.precision == own.precision  # which the slots' model has
        )

    def _queue_of(self, search: Search) -> Turns[Request, SentenceTask]:
        """Return the queue of sentences that are searched in a way."""
        if search.is_greedy:
            return self._greedy
        return self._wide if self._is_wide(search) else self._usual

    def _is_wide(self, search: Search) -> bool:
        return search.settings.beam > self._translators.settings.beam

    # ---- a step ----

    def _step(self) -> None:
        """Free the slots of settled requests, admit sentences, add a token to each, and deliver."""
        if self._long:
            self._split([self._long.popleft()])
        self._evict()
        begin = time.monotonic()
        admitted = self._admit()
        occupied = len(self._slots)
        ended = self._slots.step()
        end = time.monotonic()
        answered = self._complete(ended)
        for slot in self._slots.grown:
            if slot.owner.request.streamed:
                self._send_partial(slot)
        first = [slot.owner for slot in self._slots.stepped if not slot.owner.begun]
        for task in first:
            task.begun = True
        self._meters.observe(
            [("queue_seconds", begin - task.request.arrival) for task in admitted]
            + [("first_word_seconds", end - task.request.arrival) for task in first]
            + [("request_seconds", end - request.arrival) for request in answered]
        )
        self._meters.count(
            steps=occupied > 0,
            taken_slots=occupied,
            sentences=len(ended),
            words=sum(len(slot.ids) for slot in ended),
            unknown_words=sum(slot.ids.count(UNK) for slot in ended),
        )
        self._answer(answered)

    def _evict(self) -> None:
        """Free the slots of requests that nobody waits for."""
        evicted = {slot for slot in self._slots.active if slot.owner.request.settled}
        if evicted:
            self._slots.cancel(evicted)
            self._meters.count(dropped=len(evicted))

    def _admit(self) -> list[SentenceTask]:
        """Fill free slots with sentences that wait, and return these."""
        admitted: list[SentenceTask] = []
        for greedy in (True, False):
            queues = [self._greedy] if greedy else [self._usual, self._wide]
            if not self._holds_back(sum(map(len, queues)), greedy=greedy):
                admitted += self._take_tasks(queues)
        if admitted:
            self._encode(admitted)
        return admitted

    def _take_tasks(self, queues: list[Turns[Request, SentenceTask]]) -> list[SentenceTask]:
        """Take sentences of one kind, one of each request in turn, as long as there is room."""
        tasks: list[SentenceTask] = []
        searches: list[Search] = []
        while any(queues):
            queue = queues[0] if len(queues) == 1 else self._next_of_beams(searches)
            request = queue.next_owner()
            if request.settled:
                self._meters.count(dropped=queue.drop())
            elif self._slots.fits([*searches, request.search]):
                tasks.append(queue.take())
                searches.append(request.search)
            else:
                break
        return tasks

    def _next_of_beams(self, taken: list[Search]) -> Turns[Request, SentenceTask]:
        """Return the queue whose sentences have fewer rows, of those where some wait.

        So a usual request does not wait for many that search more widely, nor they for it.

        Args:
            taken: how those are searched that are to be admitted already.
        """
        if not (self._usual and self._wide):
            return self._usual or self._wide
        rows = {True: 0, False: 0}  # by whether they are wide
        for search in [*(slot.search for slot in self._slots.beams), *taken]:
            rows[self._is_wide(search)] += search.settings.beam
        return self._wide if rows[True] < rows[False] else self._usual

    def _holds_back(self, waiting: int, *, greedy: bool) -> bool:
        """Return whether so few sentences of a kind wait that they are to wait for more."""
        few = waiting < self._slots.count(greedy=greedy) * _FEW
        if few and self._held_steps[greedy] < _HOLD_STEPS[greedy]:
            self._held_steps[greedy] += 1
            return True
        self._held_steps[greedy] = 0
        return False

    def _encode(self, tasks: list[SentenceTask]) -> None:
        """Encode sentences into slots; if that fails, one by one, so that one alone is refused."""
        try:
            self._slots.admit(
                [task.sentence.ids for task in tasks],
                tasks,
                [task.request.search for task in tasks],
            )
        except BaseException:
            for task in tasks:
                try:
                    self._slots.admit([task.sentence.ids], [task], [task.request.search])
                except BaseException as error:
                    self._pending.fail(task.request, error)

    def _complete(self, ended: list[Slot[SentenceTask]]) -> list[Request]:
        """Put translations where their sentences stood; return the requests that this completes."""
        completed: list[Request] = []
        for slot in ended:
            if slot.search.details:
                completed += self._complete_in_detail(slot)
                continue
            text = self._detokenise(slot)
            links = [] if text is None else self._links(slot, text)
            if text is None or links is None:
                continue
            incomplete = slot.finish_reason != "stop"
            if self._pending.complete(slot.owner, text, links, incomplete=incomplete):
                completed.append(slot.owner.request)
        return completed

    def _complete_in_detail(self, slot: Slot[SentenceTask]) -> list[Request]:
        """Keep all that is known of a translation; return its request if that completes it."""
        task = slot.owner
        try:
            translator = self._translators.of(task.request.search)
            found = translator.as_translations(task.sentence.stripped, slot.hypotheses)
        except BaseException as error:
            self._pending.fail(task.request, error)
            return []
        return [task.request] if self._pending.complete_in_detail(task, found) else []

    def _send_partial(self, slot: Slot[SentenceTask]) -> None:
        text = self._detokenise(slot)
        if text is not None:
            self._pending.send_partial(slot.owner, text)

    def _detokenise(self, slot: Slot[SentenceTask]) -> str | None:
        """Return the text of a slot's tokens; None if that fails, as its request then does."""
        task = slot.owner
        # A stream has what the model said, as `/v1/translate` does.
        streamed = task.request.streamed
        translator = self._translators.own if streamed else self._translators.unmarked
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
            return self._translators.own.links(
                task.sentence.stripped, slot.ids, slot.alignment, text
            )
        except BaseException as error:
            self._pending.fail(task.request, error)
            return None

    def _answer(self, requests: list[Request]) -> None:
        """Answer requests; the last ones after all that was counted."""
        self._pending.report(at_least_after=_REPORT_SECONDS if self._busy else 0.0)
        self._pending.answer(requests)
