"""Interruption of a command by Ctrl-C and SIGTERM."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s2s.errors import Stopped


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C, or SIGTERM as `ray job stop` sends it, end the block as an exception.

    In another thread than the main one, which alone gets signals, neither is looked for.

    Raises:
        Stopped: one of the two was sent.
    """
    # A shell starts commands in the background with SIGINT ignored; here it always counts.
    with _handled(lambda: signal.default_int_handler(signal.SIGINT, None)):
        try:
            yield
        except (KeyboardInterrupt, SystemExit):  # Ray ends its workers on SIGINT, and then exits
            raise Stopped("stopped; run the same command again to resume") from None


@contextmanager
def requests_to_stop(cannot_save: Callable[[], bool]) -> Iterator[list[float]]:
    """Collect Ctrl-C and SIGTERM, so that the block can save first: when each of them came.

    The second one ends the block. In another thread than the main one, none are collected.

    Args:
        cannot_save: whether the first one is to end the block, too.

    Raises:
        Stopped: the block is ended.
    """
    requests: list[float] = []

    def collect() -> None:
        requests.append(time.monotonic())
        if len(requests) > 1 or cannot_save():
            raise Stopped(
                "stopped without saving; run the same command again to resume from the last "
                "checkpoint"
            )

    with _handled(collect):
        yield requests


@contextmanager
def _handled(handle: Callable[[], None]) -> Iterator[None]:
    """Call `handle` at every SIGINT and SIGTERM within the block, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda *_: handle())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
