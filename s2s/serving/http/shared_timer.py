"""One timer of an event loop for many things that wait equally long."""

import asyncio
from collections.abc import Callable
from itertools import takewhile
from typing import Generic, TypeVar

Item = TypeVar("Item")


class SharedTimer(Generic[Item]):
    """Calls a function with each item that is still there some seconds after it was added.

    All items wait equally long, so they come due in the order in which they were added, and one
    timer serves them all, where `asyncio.timeout` sets and cancels one for each.

    Args:
        call: called with an item that is due, on the event loop that it was added on.
    """

    def __init__(self, seconds: float, call: Callable[[Item], object]) -> None:
        self._seconds, self._call = seconds, call
        self._queues: dict[asyncio.AbstractEventLoop, dict[Item, float]] = {}

    def add(self, item: Item) -> None:
        """Add an item, which is hashable and not there yet."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            for ended in [each for each in list(self._queues) if each.is_closed()]:
                self._queues.pop(ended, None)
            queue = self._queues[loop] = {}
            self._call_later(loop, queue, self._seconds)
        queue[item] = loop.time() + self._seconds

    def discard(self, item: Item) -> None:
        """Remove an item that is not due any more; one that has been due is not there."""
        queue = self._queues.get(asyncio.get_running_loop())
        if queue is not None:
            queue.pop(item, None)

    def _call_later(
        self, loop: asyncio.AbstractEventLoop, queue: dict[Item, float], seconds: float
    ) -> None:
        loop.call_later(seconds, self._call_due, loop, queue)

    def _call_due(self, loop: asyncio.AbstractEventLoop, queue: dict[Item, float]) -> None:
        now = loop.time()
        items = list(takewhile(lambda item: queue[item] <= now, queue))
        for item in items:
            del queue[item]
        # Before the calls, so that an error in one of them does not end the timer.
        if queue:
            self._call_later(loop, queue, next(iter(queue.values())) - now)
        else:
            del self._queues[loop]
        for item in items:
            self._call(item)
