"""The time limit of requests."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from s2s.serving.http.shared_timer import SharedTimer

Result = TypeVar("Result")


class TimeLimit:
    """A time limit for any number of tasks, like `asyncio.timeout`, but with one timer for all."""

    def __init__(self, seconds: float) -> None:
        self._timer = SharedTimer[asyncio.Timeout](seconds, _expire)

    async def wait_for(self, work: Awaitable[Result]) -> Result:
        """Return what some work gives.

        Raises:
            TimeoutError: the time is over; the work is cancelled.
        """
        async with asyncio.timeout(None) as timeout:
            self._timer.add(timeout)
            try:
                return await work
            finally:
                self._timer.discard(timeout)


def _expire(timeout: asyncio.Timeout) -> None:
    timeout.reschedule(0)  # the past
