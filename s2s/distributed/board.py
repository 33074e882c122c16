"""The board between the driver of a run and its workers: progress one way, requests the other."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from s2s.console import EpochBar
from s2s.training.host import Progress
from s2s.training.signals import Signals

_POLL_SECONDS = 0.5


@ray.remote(num_cpus=0)
class _Board:
    """The actor that keeps what was posted until it is read."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._progress: Progress | None = None
        self._signals = Signals()
        self._saves = 0

    # ---- of workers ----

    def post_line(self, line: str) -> None:
        self._lines.append(line)

    def post_progress(self, progress: Progress) -> None:
        self._progress = progress

    def post_saved(self) -> None:
        self._signals = Signals(stop=self._signals.stop)
        self._saves += 1

    def signals(self) -> Signals:
        return self._signals

    # ---- of the driver and Ray Train's controller ----

    def read(self) -> tuple[list[str], Progress | None]:
        """Return the lines since the last reading, and the latest progress."""
        lines, self._lines = self._lines, []
        return lines, self._progress

    def request_stop(self) -> None:
        self._signals = Signals(stop=True)

    def request_save(self) -> int:
        """Request a checkpoint, and return how many requested ones have been written before."""
        self._signals = Signals(stop=self._signals.stop, save=True)
        return self._saves

    def saves(self) -> int:
        return self._saves


class BoardClient:
    """The board as a worker sees it. No method waits for an answer."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._next_poll = 0.0
        self._answer: Any = None
        self._signals = Signals()

    def log(self, line: str) -> None:
        """Post a line for the driver to print."""
        self._board.post_line.remote(line)

    def report_progress(self, progress: Progress) -> None:
        """Post how far the run is."""
        self._board.post_progress.remote(progress)

    def checkpoint_saved(self) -> None:
        """Post that a requested checkpoint is written."""
        self._signals, self._answer = Signals(stop=self._signals.stop), None
        self._board.post_saved.remote()

    def signals(self) -> Signals:
        """Return what the driver requests, as of a second ago."""
        if (now := time.monotonic()) >= self._next_poll:
            self._next_poll = now + _POLL_SECONDS
            if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
                with suppress(ray.exceptions.RayError):  # the board's node has gone; train on
                    self._signals = ray.get(self._answer)
                self._answer = None
            if self._answer is None:
                self._answer = self._board.signals.remote()
        return self._signals


@contextmanager
def display(bar: EpochBar) -> Iterator[Any]:
    """Make a board, and show what is posted on it until the end of the block."""
    # On the host of this process, without which nobody would see what is posted.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board, ended = _Board.options(scheduling_strategy=here).remote(), threading.Event()
    shown: Progress | None = None

    def show() -> None:
        nonlocal shown
        try:
            lines, progress = ray.get(board.read.remote(), timeout=10)
        except ray.exceptions.RayError:
            return  # the board's node has gone; training continues unseen
        for line in lines:
            bar.log(line)
        if progress is not None and progress != shown:
            shown = progress
            bar.show(*astuple(progress))

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            show()

    watcher = threading.Thread(target=watch, name="s2s-progress", daemon=True)
    watcher.start()
    try:
        yield board
    finally:
        ended.set()
        watcher.join()
        show()
        ray.kill(board)


def request_stop(board: Any) -> None:
    """Request that the run saves and ends."""
    board.request_stop.remote()


def is_reachable(board: Any) -> bool:
    """Return whether the cluster of the board is still there; it may have ended with the driver."""
    try:
        ray.get(board.saves.remote(), timeout=5)
    except ray.exceptions.GetTimeoutError:
        return True  # slow, as all is while workers start
    except ray.exceptions.RayError:
        return False
    return True
