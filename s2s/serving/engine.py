"""Batches sentences of many requests and translates them in a thread of its own."""

import asyncio
import queue
import threading
from concurrent.futures import Future

from s2s.config import Config
from s2s.translator import Translator


class Overloaded(Exception):
    """More sentences wait than the engine takes, or it takes none any more."""


class Engine:
    """Translates sentences from any number of callers, many at a time.

    While the model works on one batch, arriving sentences wait together and make up the next, so
    batches grow with the load and a lone sentence waits for nobody. The model runs in this thread
    and never on the event loop, where it would hold up every other request.
    """

    def __init__(self, translator: Translator, max_batch: int = 64, max_waiting: int = 4096):
        self.config: Config = translator.config
        self._translator = translator
        self._max_batch = max_batch
        self._waiting: queue.Queue[tuple[str, Future[str]] | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._run, name="s2s-engine", daemon=True)
        self._closed = False
        self._thread.start()

    async def translate(self, sentences: list[str]) -> list[str]:
        """A translation for each sentence, in order.

        Raises:
            Overloaded: too many sentences wait, or the engine is closed; none of these was taken.
        """
        if (
            self._closed
            or not self.alive
            or len(sentences) > self._waiting.maxsize - self._waiting.qsize()
        ):
            raise Overloaded
        futures: list[Future[str]] = [Future() for _ in sentences]
        for entry in zip(sentences, futures, strict=True):
            self._waiting.put(entry)
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    @property
    def alive(self) -> bool:
        """Whether the engine's thread still runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread once the sentences taken so far are translated."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            batch = [self._waiting.get()]
            while len(batch) < self._max_batch and not self._waiting.empty():
                batch.append(self._waiting.get())
            running = None not in batch
            # A caller that went away has cancelled its future: its sentence is left out.
            self._answer(
                [e for e in batch if e is not None and e[1].set_running_or_notify_cancel()]
            )

    def _answer(self, batch: list[tuple[str, Future[str]]]) -> None:
        try:
            translations = self._translator.translate([sentence for sentence, _ in batch])
        except BaseException as error:  # a panic in a library's Rust code is no Exception
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), translation in zip(batch, translations, strict=True):
            future.set_result(translation)
