"""A training run as one of the workers that Ray Train has started."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device

from s2s.collectives import all_or_raise
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.distributed.board import BoardClient
from s2s.distributed.metrics import TrainMetrics
from s2s.distributed.ray_internals import PreemptionNotice
from s2s.errors import BadInput, Failed
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.training.failures import out_of_memory
from s2s.training.host import SilentHost
from s2s.training.loop import Training
from s2s.training.profiler import StepProfiler
from s2s.training.run import TrainOptions, run_checkpoints
from s2s.training.signals import Signals
from s2s.training.trackers import JsonLines, MLflow, TensorBoard, Tracker, Trackers

_NOTICE_SECONDS = 5.0  # between two checkpoints while a node is about to go


@dataclass(frozen=True)
class Job:
    """A run as its workers get it. All paths are absolute, on storage that all nodes share."""

    corpus: Path
    config: Config
    folder: Path  # of the run
    threads: int  # of each worker
    options: TrainOptions = field(default_factory=TrainOptions)
    board: Any = None  # None for a trial of a sweep, which nobody watches


@dataclass(frozen=True)
class RunFinished:
    """The outcome of a run that has trained to its end."""

    metrics: RunMetrics


@dataclass(frozen=True)
class RunStopped:
    """The outcome of a run that was stopped on request, and has saved a checkpoint."""

    steps: int  # that are done


@dataclass(frozen=True)
class RunFailed:
    """The outcome of a run that ended early, as every other try would."""

    reason: str


@dataclass(frozen=True)
class RunRefused:
    """The outcome of a run whose input cannot be used."""

    reason: str


RunOutcome = RunFinished | RunStopped | RunFailed | RunRefused


def work(job: Job) -> RunOutcome:
    """Take part in a run, and return its outcome, the same in all workers.

    Errors that every other try would end with are outcomes: raised, Ray Train would try again.
    """
    torch.set_num_threads(job.threads)
    rank = ray.train.get_context().get_world_rank()
    board = None if job.board is None or rank else BoardClient(job.board)
    host = _Host(board, job.config.train.epochs)
    profiled = job.options.profile and rank == 0
    profile = StepProfiler(job.folder / "profile", host.log) if profiled else None
    start = job.options.init_from
    try:
        result = Training(
            all_or_raise(lambda: Corpus.open(job.corpus)),
            job.config,
            get_device(),
            run_checkpoints(
                job.folder,
                job.config.train,
                job.options.checkpoints,
                host.log,
                # A trial may be ended as soon as it has reported an epoch.
                background=job.board is not None,
            ),
            job.folder,
            host=host,
            start=all_or_raise(lambda: ModelDirectory.load(start) if start else None),
            make_tracker=lambda resumed_from: _trackers(job, resumed_from, host),
            after_step=profile.step if profile else lambda: None,
        ).run()
    except BadInput as error:
        return RunRefused(str(error))
    except Failed as error:
        return RunFailed(str(error))
    except torch.OutOfMemoryError:  # of a run that had not begun
        if ray.train.get_context().get_world_size() > 1:  # the others would wait for this one
            raise
        return RunFailed(str(out_of_memory("before the first step")))
    if profile is not None:
        profile.close()
    if result.stopped_at is not None:
        return RunStopped(result.stopped_at)
    return RunFinished(result.metrics)


def _trackers(job: Job, resumed_from: int, host: "_Host") -> Tracker:
    """Return all trackers of a run that is resumed from a step, as one."""
    trackers: list[Tracker] = [
        JsonLines(job.folder / "metrics.jsonl", resumed_from),
        TensorBoard(job.folder / "tensorboard", resumed_from),
        TrainMetrics(job.folder.name, resumed_from),
    ]
    if uri := job.options.mlflow:
        parameters = _flatten(json.loads(job.config.to_json()))
        memory = job.folder / "mlflow-run"
        trackers.append(MLflow(uri, "s2s", job.folder.name, parameters, memory, host.log))
    return Trackers(trackers, host.log)


class _Host(SilentHost):
    """Ray Train, as the training loop sees it.

    Args:
        board: of the first worker, where anybody watches; None for all others.
        epochs: of the run.
    """

    def __init__(self, board: BoardClient | None, epochs: int) -> None:
        self._board, self._epochs = board, epochs
        self._notice = PreemptionNotice()
        self._next_save = 0.0  # while a node is about to go
        if board is not None:
            self.log = board.log  # type: ignore[method-assign]
            self.report_progress = board.report_progress  # type: ignore[method-assign]
            self.checkpoint_saved = board.checkpoint_saved  # type: ignore[method-assign]

    def report_epoch(self, record: EpochRecord) -> None:
        """Report to the driver and to Ray Train."""
        self.log(_summary(record, self._epochs))
        ray.train.report(asdict(record))

    def signals(self) -> Signals:
        """Return the driver's requests; while a node is about to go, save every few seconds."""
        signals = self._board.signals() if self._board is not None else Signals()
        if not self._notice.received or time.monotonic() < self._next_save:
            return signals
        self._next_save = time.monotonic() + _NOTICE_SECONDS
        self.log("a node is about to go: saving")
        return Signals(stop=signals.stop, save=True)


def _summary(record: EpochRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch}/{epochs}  train loss {record.train_loss:.4f}  "
        f"valid loss {record.valid_loss:.4f}  token accuracy {record.valid_token_accuracy:.4f}  "
        f"padded accuracy {record.valid_padded_accuracy:.4f}  "
        f"{record.pairs_per_second:,.0f} pairs/s  {record.seconds:.1f} s"
    )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested settings by dotted names."""
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
