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
from s2s.decoding.translation import Translation
from s2s.errors import BadInput, Failed
from s2s.serving.engine.messages import Wire
from s2s.serving.engine.meters import Meters
from s2s.serving.engine.process import Host
from s2s.text.sentences import Sentence

# Characters of a text that weigh as much as another text, where too much is refused.
LONG = 200

# A sentence that has grown, as (text, sentence of it, translation so far), or all translations.
Grown = tuple[int, int, str] | list[str]

# A sentence of a text, and its translations, best first.
Found = tuple[Sentence, list[Translation]]


class Overloaded(Exception):
    """More waits than the engine takes."""


class Closed(Overloaded):
    """The engine takes nothing any more."""


@dataclass(eq=False)
class _Asked:
    """A request that is not answered yet."""

    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    weight: int
    on_grown: Callable[[int, int, str], None] | None


class EngineClient:
    """Asks the engine of a model, which runs elsewhere.

    Args:
        most: the greatest `weight` of texts that are not translated yet.
        meters: told what happens.
        on_end: called when the engine ends without having been closed, before callers are told.

    Raises:
        BadInput: the engine's model cannot be loaded.
        Failed: the engine ended before it was ready.
    """

    def __init__(
        self,
        host: Host,
        most: int = 1024,
        meters: Meters | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.meters, self.most = meters or Meters(), most
        self._host, self._on_end = host, on_end
        self._wire = Wire(host.connection)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._asked: dict[int, _Asked] = {}
        self._weight = 0  # of those
        self._closed = False  # whether nothing more is taken
        self._ended = False
        self._readers: set[asyncio.AbstractEventLoop] = set()
        self._reading = threading.Lock()
        self.config = self._begin()

    # ---- callers, on their event loop ----

    async def translate(self, texts: list[str]) -> list[str]:
        """A translation for each text, in order, in the way of the model's own settings.

        A caller that is cancelled leaves its slots at the next step.

        Raises:
            Overloaded: too much waits, or the engine is closed; none of these texts was taken.
            Failed: the model failed.
        """
        if not texts:
            return []
        number, asked = self._ask("translate", texts, False, time.monotonic())
        translated: list[str] = await self._answered(number, asked)
        return translated

    async def stream(self, texts: list[str]) -> AsyncGenerator[Grown, None]:
        """What each sentence is so far, as (text, sentence, translation), whenever it has grown.

        The last thing that comes is what `translate` would have given; errors are the same.
        """
        told: asyncio.Queue[tuple[int, int, str] | None] = asyncio.Queue()
        number, asked = self._ask(
            "translate", texts, True, time.monotonic(), on_grown=lambda *what: told.put_nowait(what)
        )
        answer = asyncio.ensure_future(self._answered(number, asked))
        answer.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (what := await told.get()) is not None:
                yield what
            yield await answer
        finally:
            answer.cancel()

    async def hypotheses(self, texts: list[str], settings: DecodeConfig) -> list[list[Found]]:
        """The sentences of each text, and their translations that some settings give.

        Raises:
            Overloaded, Failed: as `translate`.
        """
        number, asked = self._ask("hypotheses", texts, settings.model_dump())
        return [
            [
                (Sentence(text, ids), [Translation(**one) for one in best])
                for text, ids, best in pieces
            ]
            for pieces in await self._answered(number, asked)
        ]

    @property
    def waiting(self) -> int:
        """The `weight` of all texts that the engine has not answered, nor dropped, yet."""
        return self._weight

    @property
    def alive(self) -> bool:
        """Whether the engine runs."""
        return not self._ended and self._host.alive()

    def close(self) -> None:
        """Have the engine end once all that it was asked so far is translated, and wait for it."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._wire.send("close")
        while not self._ended:  # nobody else may read
            self._wire.wait(0.1)
            self._read()
        self._host.join()

    def _ask(
        self, kind: str, texts: list[str], *rest: Any, on_grown: Callable[..., None] | None = None
    ) -> tuple[int, _Asked]:
        loop = asyncio.get_running_loop()
        asked = _Asked(loop, loop.create_future(), weight(texts), on_grown)
        with self._lock:
            if self._closed:
                raise Closed
            if self._weight + asked.weight > self.most:
                self.meters.count(refused=1)
                raise Overloaded
            number = next(self._numbers)
            self._asked[number] = asked
            self._weight += asked.weight
            if loop not in self._readers:
                self._read_on(loop)
            # In the lock, so that nothing is sent after `close`.
            self._wire.send_soon(kind, number, texts, *rest)
        return number, asked

    async def _answered(self, number: int, asked: _Asked) -> Any:
        try:
            return await asked.answer
        finally:
            if number in self._asked:  # the caller leaves
                self._wire.send_soon("drop", number)

    # ---- what the engine says, on the callers' event loops ----

    def _begin(self) -> Config:
        messages = self._wire.receive(wait=True)
        if messages is None:
            self._wire.close()
            status = self._host.join()
            raise Failed(f"the process of {self._host.name} ended as it began (status {status})")
        [[kind, told]] = messages
        if kind == "unfit":
            self._wire.close()
            self._host.join()
            raise BadInput(told)
        return Config.model_validate_json(told)

    def _read_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have an event loop read what the engine says, from now on."""
        self._readers = {reader for reader in self._readers if not reader.is_closed()} | {loop}
        loop.add_reader(self._wire.fileno(), self._read)

    def _read(self) -> None:
        """Read what has come."""
        with self._reading:
            if self._ended:
                return
            messages = self._wire.receive(wait=False)
            if messages is None:
                self._end()
                return
            answers: list[tuple[_Asked, Any]] = []
            for kind, *rest in messages:
                if kind == "done":
                    answers += [(self._left(number), texts) for number, texts in rest[0]]
                elif kind == "counted":
                    self.meters.count(**rest[0])
                    self.meters.observe(rest[1])
                elif kind == "grown":
                    self._tell_growth(*rest)
                elif kind == "found":
                    answers.append((self._left(rest[0]), rest[1]))
                elif kind == "failed":
                    answers.append((self._left(rest[0]), Failed(rest[1])))
                else:  # dropped
                    self._left(rest[0])
        _answer(answers)

    def _tell_growth(self, number: int, text: int, place: int, translation: str) -> None:
        asked = self._asked[number]
        if asked.on_grown:
            _on(asked.loop, asked.on_grown, text, place, translation)

    def _left(self, number: int) -> _Asked:
        with self._lock:
            asked = self._asked.pop(number)
            self._weight -= asked.weight
        return asked

    def _end(self) -> None:
        """The engine has ended: whoever it has not answered is told."""
        if not self._closed:
            self._on_end()
        with self._lock:
            self._closed = self._ended = True
        why = Failed(f"the process of {self._host.name} has ended")
        _answer([(self._left(number), why) for number in list(self._asked)])
        for loop in self._readers:
            _on(loop, loop.remove_reader, self._wire.fileno())
        self._readers.clear()


def weight(texts: list[str]) -> int:
    """What some texts weigh where too much is refused: one each, and more if they are long."""
    return sum(1 + len(text) // LONG for text in texts)


def _answer(answers: list[tuple[_Asked, Any]]) -> None:
    """Tell callers, with one call to each event loop."""
    for loop in {asked.loop for asked, _ in answers}:
        _on(loop, _settle, [(asked.answer, what) for asked, what in answers if asked.loop is loop])


def _on(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: Any) -> None:
    """Call something on an event loop, unless that has ended, and with it who waits."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)


def _settle(answers: list[tuple[asyncio.Future[Any], Any]]) -> None:
    """Give futures their results or errors, unless who waited has gone."""
    for future, what in answers:
        if future.done():
            continue
        if isinstance(what, BaseException):
            future.set_exception(what)
        else:
            future.set_result(what)
