"""The requests that an engine has not answered yet, and its answers to them."""

import logging
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field

from s2s.decoding.slot import Search
from s2s.decoding.translation import SentenceTranslations, Translation, with_translations
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.messages import (
    Cancelled,
    Failure,
    Partial,
    Statistics,
    Translated,
    TranslatedDetailed,
)
from s2s.serving.engine.meters import Meters
from s2s.text.alignment import Alignment, Link
from s2s.text.sentences import Sentence, align

_LOGGER = logging.getLogger("s2s.serving")


@dataclass(eq=False)
class Request:
    """Texts that are answered together."""

    number: int
    texts: list[str]
    arrival: float  # seconds of the system's monotonic clock
    search: Search  # how its sentences are searched; with details, the request wants all of them
    streamed: bool = False
    aligned: bool = False  # whether the alignments of sentences are wanted
    translations: list[list[str]] = field(default_factory=list)  # of each text, of each sentence
    untranslated: int = 0  # sentences without a translation
    incomplete: set[int] = field(default_factory=set)  # texts of which a sentence is
    # Links of the words of a translation to those of its sentence, by text and sentence.
    links: dict[tuple[int, int], list[Link]] = field(default_factory=dict)
    # Of a request that wants details, by text and sentence.
    details: dict[tuple[int, int], list[Translation]] = field(default_factory=dict)
    sentences: list[list[Sentence]] = field(default_factory=list)  # of each text
    settled: bool = False  # answered, failed or cancelled: nobody waits for its sentences


@dataclass(eq=False)
class SentenceTask:
    """A sentence of a request that is to be translated."""

    request: Request
    text: int  # place of its text in the request
    place: int  # place of the sentence in the text
    sentence: Sentence
    begun: bool = False  # whether it has its first token


class PendingRequests:
    """The requests that are not settled, by number. Any thread may call.

    Messages are put on the connection; whoever calls sends them.
    """

    def __init__(self, connection: Connection, meters: Meters) -> None:
        self._connection, self._meters = connection, meters
        self._requests: dict[int, Request] = {}
        self._lock = threading.Lock()
        self._reported = 0.0  # when statistics were last reported, by the monotonic clock

    def add(
        self,
        number: int,
        texts: list[str],
        arrival: float,
        search: Search,
        *,
        streamed: bool = False,
        aligned: bool = False,
    ) -> Request:
        """Return a new request, which is to be answered."""
        request = Request(number, texts, arrival, search, streamed, aligned)
        self._requests[number] = request
        return request

    def enqueue(self, request: Request, texts: list[list[Sentence]]) -> list[SentenceTask]:
        """Return the tasks of a request.

        Args:
            texts: the sentences of each of the request's texts.
        """
        request.sentences = texts
        # A sentence without tokens stays as it is.
        request.translations = [[sentence.text for sentence in sentences] for sentences in texts]
        tasks = [
            SentenceTask(request, text, place, sentence)
            for text, sentences in enumerate(texts)
            for place, sentence in enumerate(sentences)
            if sentence.ids
        ]
        request.untranslated = len(tasks)
        return tasks

    def complete(
        self, task: SentenceTask, translation: str, links: list[Link], *, incomplete: bool
    ) -> bool:
        """Put the translation of a task's sentence in the place of the sentence.

        Args:
            translation: translation, without the white space around the sentence.
            links: links of the words of the translation to those of the sentence; they are kept
                only if the request wants alignments.
            incomplete: whether the translation was cut or repeats itself.

        Returns:
            Whether the translation was the last one that the request waited for.
        """
        request = task.request
        if incomplete:
            request.incomplete.add(task.text)
        if request.aligned:
            request.links[task.text, task.place] = links
        request.translations[task.text][task.place] = task.sentence.with_whitespace(translation)
        if request.streamed:
            self.send_partial(task, translation)
        return self._count_down(request)

    def complete_in_detail(self, task: SentenceTask, translations: list[Translation]) -> bool:
        """Keep the translations of a task's sentence, best first, with all that is known of them.

        Returns:
            Whether they were the last ones that the request waited for.
        """
        task.request.details[task.text, task.place] = translations
        return self._count_down(task.request)

    def _count_down(self, request: Request) -> bool:
        """Count a translated sentence of a request; return whether it was the last one."""
        with self._lock:
            request.untranslated -= 1
            return request.untranslated == 0

    def send_partial(self, task: SentenceTask, translation: str) -> None:
        """Send what the translation of a sentence is so far."""
        if not task.request.settled:
            self._connection.put(Partial(task.request.number, task.text, task.place, translation))

    def answer(self, requests: Iterable[Request]) -> None:
        """Answer requests, all of whose sentences are translated: plain ones with one message."""
        settled = [request for request in requests if self._settle(request)]
        answered = [request for request in settled if not request.search.details]
        for request in settled:
            if request.search.details:
                self._connection.put(TranslatedDetailed(request.number, _in_detail(request)))
        if answered:
            self._connection.put(
                Translated(
                    {
                        request.number: ["".join(sentences) for sentences in request.translations]
                        for request in answered
                    },
                    {
                        request.number: sorted(request.incomplete)
                        for request in answered
                        if request.incomplete
                    },
                    {
                        request.number: _alignments(request)
                        for request in answered
                        if request.aligned
                    },
                )
            )

    def fail(self, request: Request, error: BaseException) -> None:
        """Answer a request that the model failed on."""
        # Only the kind of error is sent and logged: its message may quote a text.
        places = "".join(traceback.format_tb(error.__traceback__))
        _LOGGER.error("%s in a model:\n%s", type(error).__name__, places)
        if self._settle(request):
            reason = f"the model failed ({type(error).__name__})"
            self._connection.put(Failure(request.number, reason))

    def cancel(self, number: int) -> None:
        """Forget a request, unless its answer is on its way."""
        request = self._requests.get(number)
        if request is not None and self._settle(request):
            self._connection.put(Cancelled(number))

    def cancel_all(self) -> None:
        """Forget all requests: the service has gone."""
        for request in list(self._requests.values()):
            self._settle(request)

    def report(self, *, at_least_after: float = 0.0) -> None:
        """Send statistics, unless it was done fewer than so many seconds ago."""
        now = time.monotonic()
        if now - self._reported < at_least_after:
            return
        self._reported = now
        counted, observations = self._meters.collect()
        counts = {name: count for (name, _), count in counted.items() if count}
        if counts or observations:
            self._connection.put(Statistics(counts, observations))

    def _settle(self, request: Request) -> bool:
        """Forget a request, whose sentences leave; whether it was still to be answered."""
        request.settled = True
        return self._requests.pop(request.number, None) is not None


def _in_detail(request: Request) -> list[list[SentenceTranslations]]:
    """Return the sentences of each text and their translations, all of which are known."""
    in_order = [request.details[place] for place in sorted(request.details)]
    return with_translations(request.sentences, in_order)


def _alignments(request: Request) -> list[list[Alignment]]:
    """Return the alignments of the sentences of each text."""
    return [
        align(
            sentences,
            request.translations[text],
            [request.links.get((text, place), []) for place in range(len(sentences))],
        )
        for text, sentences in enumerate(request.sentences)
    ]
