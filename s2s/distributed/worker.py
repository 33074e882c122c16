"""A training run as one of the workers that Ray Train has started."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray.train
from ray.train.torch import get_device

from s2s.distributed.board import BoardClient
from s2s.distributed.metrics import TrainMetrics
from s2s.distributed.ray_internals import PreemptionNotice
from s2s.locations import name_of
from s2s.model.metrics import RunMetrics
from s2s.training.host import EpochTable, SilentHost
from s2s.training.job import Job, RunOutcome, take_part
from s2s.training.loop import exhaust
from s2s.training.signals import Signals

_NOTICE_SECONDS = 5.0  # between two checkpoints while a node is about to go


Report = Callable[[RunMetrics], dict[str, Any]]  # what Ray Train gets after an epoch


def last_epoch(metrics: RunMetrics) -> dict[str, Any]:
    """Return the record of the last epoch."""
    return asdict(metrics.epochs[-1])


def work(job: Job, board: Any = None, report: Report = last_epoch) -> RunOutcome:
    """Take part in a run, and return its outcome, the same in all workers.

    Errors that every other try would end with are outcomes: raised, Ray Train would try again.

    Args:
        board: where progress is posted; None for a trial of a sweep, which nobody watches.
        report: returns what Ray Train gets after each epoch.
    """
    rank = ray.train.get_context().get_world_rank()
    client = None if board is None or rank else BoardClient(board)
    return exhaust(
        take_part(
            job,
            get_device(),
            _Host(client, job.config.train.epochs, report),
            make_trackers=lambda resumed_from: [TrainMetrics(name_of(job.folder), resumed_from)],
            # A trial may be ended as soon as it has reported an epoch.
            background=board is not None,
        )
    )


class _Host(SilentHost):
    """Ray Train, as the training loop sees it.

    Args:
        board: of the first worker, where anybody watches; None for all others.
        epochs: of the run.
        report: returns what Ray Train gets after each epoch.
    """

    def __init__(self, board: BoardClient | None, epochs: int, report: Report) -> None:
        self._board, self._table = board, EpochTable(epochs)
        self._report = report
        self._notice = PreemptionNotice()
        self._next_save = 0.0  # while a node is about to go
        if board is not None:
            self.log = board.log  # type: ignore[method-assign]
            self.report_progress = board.report_progress  # type: ignore[method-assign]
            self.checkpoint_saved = board.checkpoint_saved  # type: ignore[method-assign]

    def report_epoch(self, metrics: RunMetrics) -> None:
        """Report to the driver and to Ray Train."""
        self.log(self._table.lines(metrics))
        ray.train.report(self._report(metrics))

    def signals(self) -> Signals:
        """Return the driver's requests; while a node is about to go, save every few seconds."""
        signals = self._board.signals() if self._board is not None else Signals()
        if not self._notice.received or time.monotonic() < self._next_save:
            return signals
        self._next_save = time.monotonic() + _NOTICE_SECONDS
        self.log("a node is about to go: saving")
        return Signals(stop=signals.stop, save=True)
