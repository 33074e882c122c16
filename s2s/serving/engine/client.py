"""The service's end of a model's engine, for any number of callers on their event loops."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from s2s.config import Config, DecodeConfig
from s2s.decoding.translation import SentenceTranslations, Translations
from s2s.errors import BadInput, Failed
from s2s.serving.engine.connection import Connection
from s2s.serving.engine.messages import (
    Cancel,
    Cancelled,
    Close,
    Failure,
    Partial,
    ProtocolError,
    Ready,
    Statistics,
    Translate,
    Translated,
    TranslatedDetailed,
    TranslateDetailed,
    Unusable,
)
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.process import EngineProcess
from s2s.serving.engine.weight import search_width, weight

# The usual greatest weight of requests that wait.
MAX_WAITING = 4096

# What a request is answered with: translations, or why there are none.
_Answer = Translations | list[list[SentenceTranslations]] | Failed


class Overloaded(Exception):
    """More would wait than the engine accepts."""


class Closed(Overloaded):
    """The engine accepts no more requests."""


@dataclass(eq=False, slots=True)
class _PendingRequest:
    """A request that is not answered yet."""

    number: int
    loop: asyncio.AbstractEventLoop  # its caller's
    answer: asyncio.Future[Any]
    weight: int
    wide: bool  # whether it is searched for more widely than with the model's own settings
    on_partial: Callable[[Partial], None] | None


class EngineClient:
    """Asks the engine of a model, which runs elsewhere.

    Args:
        process: where the engine runs.
        max_waiting: the greatest weight (`s2s.serving.engine.weight`) of the requests that are not
            answered yet; of those that search more widely than the model's own settings, and of
            all others, so that neither can keep the others out.
        meters: counts what happens.
        on_end: called when the engine ends without having been closed, before its callers get
            their errors.

    Raises:
        BadInput: the engine's model cannot be loaded.
        Failed: the engine ended before it was ready, or is of another version of s2s.
    """

    def __init__(
        self,
        process: EngineProcess,
        max_waiting: int = MAX_WAITING,
        meters: Meters | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.meters, self.max_waiting = meters or Meters(), max_waiting
        self._process, self._on_end = process, on_end
        self._connection = Connection(process.connection)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._pending: dict[int, _PendingRequest] = {}
        self._weights = {False: 0, True: 0}  # of those, by whether they are wide
        self._closed = False  # whether no more requests are accepted
        self._ended = False
        self._readers: set[asyncio.AbstractEventLoop] = set()
        self._reading = threading.Lock()
        self.config = self._await_ready()

    # ---- callers, on their event loops ----

    async def translate(
        self, texts: list[str], *, aligned: bool = False, weight: int | None = None
    ) -> Translations:
        """Return a translation of each text, in order, by the model's own settings.

        The sentences of a caller that is cancelled leave their slots at the next step.

        Args:
            aligned: whether the alignments of sentences are wanted, too.
            weight: what the texts weigh, for a caller that knows it.

        Raises:
            Overloaded: too much waits, or the engine is closed; none of these texts was accepted.
            Failed: the model failed.
        """
        if not texts:
            return Translations([], [], [])
        request = Translate(next(self._numbers), texts, False, time.monotonic(), aligned)
        pending = self._ask(request, self.weight(texts) if weight is None else weight)
        translations: Translations = await self._answer_to(pending)
        return translations

    async def stream(self, texts: list[str]) -> AsyncGenerator[Partial | Translations, None]:
        """Yield what each sentence's translation is so far, whenever it has grown by a token.

        The last item is what `translate` would have returned.

        Raises:
            Overloaded, Failed: as `translate`.
        """
        partials: asyncio.Queue[Partial | None] = asyncio.Queue()
        request = Translate(next(self._numbers), texts, True, time.monotonic(), False)
        pending = self._ask(request, self.weight(texts), on_partial=partials.put_nowait)
        answer = asyncio.ensure_future(self._answer_to(pending))
        answer.add_done_callback(lambda _: partials.put_nowait(None))
        try:
            while (partial := await partials.get()) is not None:
                yield partial
            yield await answer
        finally:
            answer.cancel()

    async def translate_detailed(
        self, texts: list[str], settings: DecodeConfig
    ) -> list[list[SentenceTranslations]]:
        """Return the sentences of each text, and the translations that some settings give them.

        Raises:
            Overloaded, Failed: as `translate`.
        """
        width = self.width(settings)
        request = TranslateDetailed(next(self._numbers), texts, settings)
        pending = self._ask(request, self.weight(texts) * width, wide=width > 1)
        detailed: list[list[SentenceTranslations]] = await self._answer_to(pending)
        return detailed

    @property
    def waiting(self) -> int:
        """The weight of all requests that are neither answered nor cancelled."""
        return sum(self._weights.values())

    @property
    def alive(self) -> bool:
        """Whether the engine runs."""
        return not self._ended and self._process.alive()

    def close(self) -> None:
        """Have the engine end once it has translated what it was asked, and wait for its end."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._connection.send(Close())
        while not self._ended:  # perhaps no event loop reads any more
            self._connection.wait(0.1)
            self._read(None)
        self._process.join()

    def weight(self, texts: list[str]) -> int:
        """Return what texts weigh with the model's own settings."""
        return weight(texts, self.config.source_language)

    def width(self, settings: DecodeConfig | None) -> int:
        """Return how many times as much texts weigh with some settings; None: the model's own."""
        return 1 if settings is None else search_width(settings, self.config.decode)

    def require_room(self, weight: int, *, wide: bool) -> None:
        """Return if a request of a weight may wait now.

        Args:
            wide: whether it searches more widely than with the model's own settings.

        Raises:
            Overloaded: too much waits already.
        """
        if self._weights[wide] + weight > self.max_waiting and not self._closed:
            self.meters.count(refused=1)
            raise Overloaded

    def _ask(
        self,
        request: Translate | TranslateDetailed,
        weight: int,
        *,
        wide: bool = False,
        on_partial: Callable[[Partial], None] | None = None,
    ) -> _PendingRequest:
        """Send a request, and return what waits for its answer."""
        loop = asyncio.get_running_loop()
        pending = _PendingRequest(
            request.request, loop, loop.create_future(), weight, wide, on_partial
        )
        with self._lock:
            if self._closed:
                raise Closed
            self.require_room(weight, wide=wide)
            self._pending[pending.number] = pending
            self._weights[wide] += weight
            if loop not in self._readers:
                self._read_on(loop)
            # In the lock, so that nothing is sent after `Close`.
            self._connection.send_soon(request)
        return pending

    async def _answer_to(self, pending: _PendingRequest) -> Any:
        """Wait for the answer to a request; if the caller is cancelled, the request is, too."""
        try:
            return await pending.answer
        finally:
            if pending.number in self._pending:
                self._connection.send_soon(Cancel(pending.number))

    # ---- what the engine sends, read on the callers' event loops ----

    def _await_ready(self) -> Config:
        """Wait until the model is loaded, and return its config."""
        try:
            messages = self._connection.receive(wait=True)
        except ProtocolError as error:
            self._abandon()
            raise Failed(
                f"the process of {self._process.name} is of another version of s2s ({error}): "
                "start the service again"
            ) from None
        match messages:
            case [Ready(_, config)]:
                return Config.model_validate_json(config)
            case [Unusable(_, reason)]:
                self._abandon()
                raise BadInput(reason)
        status = self._abandon()
        raise Failed(f"the process of {self._process.name} ended as it started (status {status})")

    def _abandon(self) -> object:
        """End the connection, and with it the engine; return its status."""
        self._connection.close()
        return self._process.join()

    def _read_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have an event loop read what the engine sends, from now on."""
        self._readers = {reader for reader in self._readers if not reader.is_closed()} | {loop}
        loop.add_reader(self._connection.fileno(), self._read, loop)

    def _read(self, reader: asyncio.AbstractEventLoop | None) -> None:
        """Read the messages that have come, and answer callers.

        Args:
            reader: the event loop that this is called on, if it is one.
        """
        with self._reading:
            if self._ended:
                return
            messages = self._connection.receive(wait=False)
            if messages is None:
                self._end(reader)
                return
            answers: list[tuple[_PendingRequest, _Answer]] = []
            for message in messages:
                match message:
                    case Translated(translations, incomplete, alignments):
                        answers += [
                            (
                                self._pop(n),
                                Translations(texts, incomplete.get(n, []), alignments.get(n)),
                            )
                            for n, texts in translations.items()
                        ]
                    case TranslatedDetailed(number, texts):
                        answers.append((self._pop(number), texts))
                    case Failure(number, reason):
                        answers.append((self._pop(number), Failed(reason)))
                    case Cancelled(number):
                        self._pop(number)
                    case Partial():
                        self._pass_on(message)
                    case Statistics(counts, observations):
                        self.meters.count(**counts)
                        self.meters.observe(observations)
                    case _:
                        raise ValueError(f"{type(message).__name__} is no message for a service")
        _answer(answers, reader)

    def _pass_on(self, partial: Partial) -> None:
        pending = self._pending[partial.request]
        if pending.on_partial:
            _call_on(pending.loop, pending.on_partial, partial)

    def _pop(self, number: int) -> _PendingRequest:
        with self._lock:
            pending = self._pending.pop(number)
            self._weights[pending.wide] -= pending.weight
        return pending

    def _end(self, reader: asyncio.AbstractEventLoop | None) -> None:
        """Fail all requests that are pending: the engine has ended."""
        if not self._closed:
            self._on_end()
        with self._lock:
            self._closed = self._ended = True
        error = Failed(f"the process of {self._process.name} has ended")
        _answer([(self._pop(number), error) for number in list(self._pending)], reader)
        for loop in self._readers:
            _call_on(loop, loop.remove_reader, self._connection.fileno())
        self._readers.clear()


def _answer(
    answers: list[tuple[_PendingRequest, _Answer]], reader: asyncio.AbstractEventLoop | None
) -> None:
    """Settle the futures of callers, with one call to each event loop but that of the reader."""
    for loop in {pending.loop for pending, _ in answers}:
        settled = [(pending.answer, answer) for pending, answer in answers if pending.loop is loop]
        if loop is reader:
            _settle(settled)
        else:
            _call_on(loop, _settle, settled)


def _call_on(loop: asyncio.AbstractEventLoop, call: Callable[..., object], argument: Any) -> None:
    """Call something on an event loop, unless the loop has ended, and its callers with it."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, argument)


def _settle(answers: list[tuple[asyncio.Future[Any], _Answer]]) -> None:
    """Give futures their results or errors, unless their callers have been cancelled."""
    for future, answer in answers:
        if future.done():
            continue
        if isinstance(answer, Failed):
            future.set_exception(answer)
        else:
            future.set_result(answer)
