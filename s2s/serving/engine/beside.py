"""Translation beside the slots, in batches, of what slots can't do.

That is samples, sentences longer than slots have room for, and searches with the output layer in
another precision than the model's own. It runs in a thread of its own, so that none of it delays
another sentence by more than its share of the cores. Requests take turns: each is translated a
batch at a time, so that none waits for all of another.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from s2s.config import DecodeConfig
from s2s.decoding.translation import Translation
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.pending import PendingRequests, Request, SentenceTask
from s2s.serving.engine.translators import Translators
from s2s.text.vocabulary import EOS, SPECIALS, UNK

Hypotheses = list[list[Translation]]  # of each sentence, best first


@dataclass(eq=False)
class _Job:
    """Sentences of a request that are translated with the same settings."""

    request: Request
    sentences: list[str]
    settings: DecodeConfig
    deliver: Callable[[Hypotheses], None]
    taken: int = 0  # sentences that have been put into a batch
    hypotheses: Hypotheses = field(default_factory=list)  # of the first sentences, so far

    @property
    def left(self) -> int:
        """Number of sentences that have not been put into a batch."""
        return len(self.sentences) - self.taken


@dataclass(frozen=True)
class _Part:
    """Consecutive sentences of a job that are translated in one batch."""

    job: _Job
    sentences: list[str]


class BesideSlots:
    """A queue of jobs, and the thread that translates them, a batch of each job in turn.

    Jobs of equal settings share batches.
    """

    def __init__(
        self,
        translators: Translators,
        connection: Connection,
        pending: PendingRequests,
        meters: Meters,
    ) -> None:
        self._translators, self._connection = translators, connection
        self._pending, self._meters = pending, meters
        self._own_settings = translators.settings.model_copy(update={"n_best": 1})
        self._unmarked_settings = self._own_settings.without_marks()
        self._jobs: deque[_Job] = deque()
        self._own_last = False  # whether the last batch was one with the model's own settings
        self._changed = threading.Condition()  # guards the queue
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
        """Have sentences of one request translated."""
        request = tasks[0].request
        if request.search.details:
            settings = request.search.settings
        else:
            # A stream has what the model said, as `/v1/translate` does.
            settings = self._own_settings if request.streamed else self._unmarked_settings

        def deliver(hypotheses: Hypotheses) -> None:
            completed = [
                self._complete(task, found) for task, found in zip(tasks, hypotheses, strict=True)
            ]
            if any(completed):
                seconds = time.monotonic() - request.arrival
                self._meters.observe([("request_seconds", seconds)])
                self._pending.report()
                self._pending.answer([request])

        self._put(_Job(request, [task.sentence.stripped for task in tasks], settings, deliver))

    def _complete(self, task: SentenceTask, found: list[Translation]) -> bool:
        """Keep the translations of a task; return whether its request waits for no others."""
        if task.request.search.details:
            return self._pending.complete_in_detail(task, found)
        best = found[0]
        links = best.links(task.sentence.stripped) if task.request.aligned else []
        incomplete = best.finish_reason != "stop"
        return self._pending.complete(task, best.text, links, incomplete=incomplete)

    def _put(self, job: _Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    # ---- the thread ----

    def _run(self) -> None:
        while self._wait():
            parts = self._next_batch()
            if parts:
                self._translate(parts)
            self._connection.flush()
            with self._changed:  # behind all that came meanwhile
                self._jobs += [part.job for part in parts if part.job.left]

    def _wait(self) -> bool:
        """Wait until there is something to do; return whether there is, or this is the end."""
        with self._changed:
            while not (self._jobs or self._closed):
                self._changed.wait()
            return bool(self._jobs)

    def _next_batch(self) -> list[_Part]:
        """Take a batch of the next job and those that share it, if there are any.

        The sentences of a batch come from each of its jobs in turn.
        """
        with self._changed:
            self._drop_settled()
            if not self._jobs:
                return []
            first = self._next_job()
            jobs = [first]
            # What is sampled depends on the batch, but is to depend on the seed alone.
            if first.settings.temperature is None:
                jobs += [j for j in self._jobs if j is not first and j.settings == first.settings]
            shares = _shares([job.left for job in jobs], self._batch_size(first.settings))
            parts = [_take(job, share) for job, share in zip(jobs, shares, strict=True) if share]
            for part in parts:
                self._jobs.remove(part.job)
            return parts

    def _next_job(self) -> _Job:
        """Return the first job of the other kind than the last batch was of, or else the first.

        There are jobs with the model's own settings, and with others, so that a usual request does
        not wait for many that search more widely, nor they for it.
        """
        other = (job for job in self._jobs if self._is_own(job) is not self._own_last)
        job = next(other, self._jobs[0])
        self._own_last = self._is_own(job)
        return job

    def _is_own(self, job: _Job) -> bool:
        return job.settings in (self._own_settings, self._unmarked_settings)

    def _drop_settled(self) -> None:
        """Remove the jobs that nobody waits for."""
        settled = [job for job in self._jobs if job.request.settled]
        if settled:
            self._meters.count(dropped=sum(job.left for job in settled))
            self._jobs = deque(job for job in self._jobs if not job.request.settled)

    def _batch_size(self, settings: DecodeConfig) -> int:
        """Return the sentences of a batch, fewer if each is searched for more widely.

        So a batch takes about as long as one with the model's own settings.
        """
        own = self._own_settings
        hypotheses = max(settings.beam, settings.n_best)  # there are more than the beam in samples
        return max(1, own.batch_size * own.beam // max(hypotheses, own.beam))

    def _translate(self, parts: list[_Part]) -> None:
        """Translate parts of jobs together, and deliver jobs that are done.

        If that fails, translate each part alone.
        """
        try:
            translator = self._translators.with_settings(parts[0].job.settings)
            hypotheses = translator.hypotheses([each for part in parts for each in part.sentences])
        except BaseException as error:
            if len(parts) == 1:
                self._pending.fail(parts[0].job.request, error)
                return
            for part in parts:
                if not part.job.request.settled:
                    self._translate([part])
            return
        self._count(hypotheses)
        remaining = iter(hypotheses)
        for part in parts:
            self._add(part.job, [next(remaining) for _ in part.sentences])

    def _add(self, job: _Job, hypotheses: Hypotheses) -> None:
        """Keep the translations of a job's next sentences; deliver the job if they are the last."""
        job.hypotheses += hypotheses
        if len(job.hypotheses) < len(job.sentences):
            return
        try:
            job.deliver(job.hypotheses)
        except BaseException as error:
            self._pending.fail(job.request, error)

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


def _shares(wanted: list[int], room: int) -> list[int]:
    """Return how much of a room each gets that wants some of it: as much as the others, or all."""
    shares = [0] * len(wanted)
    waiting = [place for place, want in enumerate(wanted) if want]
    while room and waiting:
        for place in waiting[:room]:
            shares[place] += 1
        room -= len(waiting[:room])
        waiting = [place for place in waiting if shares[place] < wanted[place]]
    return shares


def _take(job: _Job, number: int) -> _Part:
    """Take the next sentences of a job."""
    sentences = job.sentences[job.taken : job.taken + number]
    job.taken += len(sentences)
    return _Part(job, sentences)
