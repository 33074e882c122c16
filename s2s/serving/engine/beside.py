"""Translation beside the slots, in batches, of what slots can't do.

That is a beam, samples, scores and attention, and sentences longer than slots have room for. It
runs in a thread of its own, so that none of it delays a plain sentence by more than its share of
the cores.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from s2s.config import DecodeConfig
from s2s.decoding.translation import Translation
from s2s.decoding.translator import Translator
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.messages import SentenceTranslations
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.pending import PendingRequests, Request, SentenceTask
from s2s.text.vocabulary import EOS, SPECIALS, UNK

_TRANSLATORS = 16  # settings whose translators are kept

Hypotheses = list[list[Translation]]  # of each sentence, best first


@dataclass(eq=False)
class _Job:
    """Sentences of a request that are translated with the same settings."""

    request: Request
    sentences: list[str]
    settings: DecodeConfig
    deliver: Callable[[Hypotheses], None]


class BesideSlots:
    """A queue of jobs, and the thread that translates them.

    Jobs of equal settings share batches.
    """

    def __init__(
        self,
        translator: Translator,
        connection: Connection,
        pending: PendingRequests,
        meters: Meters,
    ) -> None:
        self._translator, self._connection = translator, connection
        self._pending, self._meters = pending, meters
        self._own_settings = translator.config.decode
        self._with_settings = lru_cache(_TRANSLATORS)(
            lambda settings: translator.with_settings(**settings.model_dump())
        )
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()  # guards the jobs
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="s2s-beside", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Wait until all jobs are done, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def translate(self, tasks: list[SentenceTask]) -> None:
        """Have sentences of one plain request translated with the model's own settings."""
        request = tasks[0].request

        def deliver(hypotheses: Hypotheses) -> None:
            completed = [
                self._pending.complete(
                    task,
                    best.text,
                    best.links(task.sentence.stripped) if request.aligned else [],
                    incomplete=best.finish_reason != "stop",
                )
                for task, (best, *_) in zip(tasks, hypotheses, strict=True)
            ]
            if any(completed):
                seconds = time.monotonic() - request.arrival
                self._meters.observe([("request_seconds", seconds)])
                self._pending.report()
                self._pending.answer([request])

        # A stream has what the model said, as `/v1/translate` does.
        settings = self._own_settings if request.streamed else self._own_settings.without_marks()
        settings = settings.model_copy(update={"n_best": 1})
        sentences = [task.sentence.stripped for task in tasks]
        self._put(_Job(request, sentences, settings, deliver))

    def translate_detailed(self, request: Request, settings: DecodeConfig) -> None:
        """Have a request translated in detail, with settings of its own."""
        try:
            texts = self._with_settings(settings).split(request.texts)
        except BaseException as error:  # a panic in a library's Rust code is no Exception
            self._pending.fail(request, error)
            return

        def deliver(hypotheses: Hypotheses) -> None:
            remaining = iter(hypotheses)
            self._pending.answer_detailed(
                request,
                [
                    [
                        SentenceTranslations(
                            sentence,
                            next(remaining)
                            if sentence.ids
                            else [Translation.of_untranslatable(sentence.stripped)],
                        )
                        for sentence in sentences
                    ]
                    for sentences in texts
                ],
            )

        sentences = [
            sentence.stripped for sentences in texts for sentence in sentences if sentence.ids
        ]
        self._put(_Job(request, sentences, settings, deliver))

    def _put(self, job: _Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    # ---- the thread ----

    def _run(self) -> None:
        while jobs := self._next_jobs():
            self._translate(jobs)
            self._connection.flush()

    def _next_jobs(self) -> list[_Job]:
        """Wait for a job, and take it and those that share its batch; none at the end."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return []
                self._changed.wait()
            first = self._jobs.popleft()
            jobs, others = [first], deque[_Job]()
            room = self._own_settings.batch_size - len(first.sentences)
            # What is sampled depends on the batch, but is to depend on the seed alone.
            shares = first.settings.temperature is None
            for job in self._jobs:
                if shares and job.settings == first.settings and len(job.sentences) <= room:
                    jobs.append(job)
                    room -= len(job.sentences)
                else:
                    others.append(job)
            self._jobs = others
            return jobs

    def _translate(self, jobs: list[_Job]) -> None:
        """Translate jobs together and deliver each; if that fails, each alone."""
        try:
            hypotheses = self._hypotheses(jobs)
            if hypotheses is None:
                return
            self._count(hypotheses)
            remaining = iter(hypotheses)
            for job in jobs:
                job.deliver([next(remaining) for _ in job.sentences])
        except BaseException as error:
            if len(jobs) == 1:
                self._pending.fail(jobs[0].request, error)
                return
            for job in jobs:
                if not job.request.settled:
                    self._translate([job])

    def _hypotheses(self, jobs: list[_Job]) -> Hypotheses | None:
        """Return the translations of all jobs' sentences; None once nobody waits for them."""
        translator = self._with_settings(jobs[0].settings)
        sentences = [sentence for job in jobs for sentence in job.sentences]
        hypotheses: Hypotheses = []
        size = self._own_settings.batch_size
        for begin in range(0, len(sentences), size):
            if all(job.request.settled for job in jobs):
                self._meters.count(dropped=len(sentences) - begin)
                return None
            hypotheses += translator.hypotheses(sentences[begin : begin + size])
        return hypotheses

    def _count(self, hypotheses: Hypotheses) -> None:
        """Count the best translations, before anybody is answered."""
        tokens = [
            [token for token in best.words if token != SPECIALS[EOS]] for best, *_ in hypotheses
        ]
        self._meters.count(
            sentences=len(hypotheses),
            words=sum(map(len, tokens)),
            unknown_words=sum(each.count(SPECIALS[UNK]) for each in tokens),
        )
        self._pending.report()
