"""The board between the driver of a run and its workers: what is shown, and what is asked for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from s2s.console import EpochBar
from s2s.training.host import Progress
from s2s.training.signals import Signals

_EVERY = 0.5  # seconds between two looks


@ray.remote(num_cpus=0)
class _Board:
    def __init__(self) -> None:
        self._lines: list[str] = []
        self._progress: Progress | None = None
        self._wish = Signals()
        self._saved = 0

    def pin_line(self, line: str) -> None:
        self._lines.append(line)

    def pin_progress(self, progress: Progress) -> None:
        self._progress = progress

    def read(self) -> tuple[list[str], Progress | None]:
        """The lines since the last reading, and the latest progress."""
        lines, self._lines = self._lines, []
        return lines, self._progress

    def ask(self, wish: Signals) -> None:
        self._wish = wish

    def asked(self) -> Signals:
        return self._wish

    def ask_to_save(self) -> int:
        """Ask for a checkpoint; returns how many such wishes were fulfilled so far."""
        self._wish = Signals(stop=self._wish.stop, save=True)
        return self._saved

    def pin_saved(self) -> None:
        self._wish = Signals(stop=self._wish.stop)
        self._saved += 1

    def saved(self) -> int:
        return self._saved


class Pin:
    """A worker's way to the board. Nothing of it waits for an answer."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._due = 0.0
        self._answer: Any = None
        self._wish = Signals()

    def line(self, line: str) -> None:
        """Show a line."""
        self._board.pin_line.remote(line)

    def progress(self, progress: Progress) -> None:
        """Show how far the run is."""
        self._board.pin_progress.remote(progress)

    def saved(self) -> None:
        """Tell that a checkpoint which was asked for is written."""
        self._wish, self._answer = Signals(stop=self._wish.stop), None
        self._board.pin_saved.remote()

    def wish(self) -> Signals:
        """What the driver wants, as of a second ago."""
        if (now := time.monotonic()) >= self._due:
            self._due = now + _EVERY
            if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
                with suppress(
                    ray.exceptions.RayError
                ):  # the board's node has gone; train on unseen
                    self._wish = ray.get(self._answer)
                self._answer = None
            if self._answer is None:
                self._answer = self._board.asked.remote()
        return self._wish


@contextmanager
def shown(bar: EpochBar, epochs: int) -> Iterator[Any]:
    """A board whose lines and progress are shown until the end of the block."""
    board, ended = _Board.remote(), threading.Event()

    def show() -> None:
        try:
            lines, progress = ray.get(board.read.remote(), timeout=10)
        except ray.exceptions.RayError:
            return  # the board's node has gone; training goes on unseen
        for line in lines:
            bar.line(line)
        if progress is not None:
            said = f"epoch {progress.epoch}/{epochs}  loss {progress.loss:.4f}"
            rate = f"{progress.pairs_per_second:,.0f} pairs/s"
            bar.show(f"{said}  {rate}", progress.step, progress.steps)

    def watch() -> None:
        while not ended.wait(_EVERY):
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


def ask_to_stop(board: Any) -> None:
    """Ask the run to save and end."""
    board.ask.remote(Signals(stop=True))


def answers(board: Any) -> bool:
    """Whether the cluster of the board is still there; it may have been ended with the driver."""
    try:
        ray.get(board.saved.remote(), timeout=5)
    except ray.exceptions.GetTimeoutError:
        return True  # slow, as all is while workers start
    except ray.exceptions.RayError:
        return False
    return True
