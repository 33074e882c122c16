"""One timer for many things that wait equally long."""

import asyncio

import pytest

from s2s.serving.http.shared_timer import SharedTimer
from s2s.serving.http.time_limit import TimeLimit

WAIT = 0.05


def test_items_come_due_in_order_unless_they_are_discarded() -> None:
    due: list[tuple[str, float]] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        timer = SharedTimer[str](WAIT, lambda item: due.append((item, loop.time())))
        begin = loop.time()
        for item in ("a", "b", "c"):
            timer.add(item)
            await asyncio.sleep(WAIT / 5)
        timer.discard("b")
        timer.discard("never there")
        await asyncio.sleep(2 * WAIT)
        timer.discard("a")  # it has been due
        assert [item for item, _ in due] == ["a", "c"]
        assert due[0][1] - begin >= WAIT * 0.9
        assert due[1][1] - due[0][1] >= WAIT / 5
        timer.add("d")  # after a time without any
        await asyncio.sleep(2 * WAIT)
        assert [item for item, _ in due] == ["a", "c", "d"]

    asyncio.run(run())


def test_an_error_of_one_item_does_not_end_the_timer() -> None:
    due: list[int] = []

    def call(item: int) -> None:
        if item == 1:
            raise ValueError
        due.append(item)

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        timer = SharedTimer[int](WAIT, call)
        timer.add(1)
        await asyncio.sleep(WAIT / 2)
        timer.add(2)
        await asyncio.sleep(2 * WAIT)

    asyncio.run(run())
    assert due == [2]


def test_one_timer_serves_several_event_loops() -> None:
    due: list[int] = []
    timer = SharedTimer[int](WAIT, due.append)

    async def run(item: int, wait: float) -> None:
        timer.add(item)
        await asyncio.sleep(wait)

    asyncio.run(run(1, 0))  # ends before its item is due
    asyncio.run(run(2, 2 * WAIT))
    assert due == [2]


def test_a_loop_has_one_timer_however_many_items_there_are() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        timer = SharedTimer[int](WAIT, lambda _: None)
        for item in range(100):
            timer.add(item)
            if item % 2:
                timer.discard(item)
        assert len(loop._scheduled) == 1  # type: ignore[attr-defined]

    asyncio.run(run())


def test_work_within_the_limit_gives_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(WAIT / 5)
        return 3

    assert asyncio.run(TimeLimit(60).wait_for(work())) == 3


def test_work_over_the_limit_is_cancelled() -> None:
    cancelled = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def run() -> None:
        limit = TimeLimit(WAIT)
        with pytest.raises(TimeoutError):
            await limit.wait_for(work())
        task = asyncio.create_task(limit.wait_for(work()))
        await asyncio.sleep(WAIT / 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):  # that of the task is no time-out
            await task

    asyncio.run(run())
    assert cancelled == [True, True]
