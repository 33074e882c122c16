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
from s2s.model.metrics import EpochRecord
from s2s.training.host import Alone, Wish
from s2s.training.loop import Training, memory_is_full
from s2s.training.profiler import Profile
from s2s.training.run import TrainOptions, run_checkpoints
from s2s.training.trackers import JsonLines, MLflow, Several, TensorBoard, Tracker

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

    metrics: dict[str, Any]  # what `metrics.json` says of the run


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
    profile = Profile(job.folder / "profile", host.line) if profiled else None
    start = job.options.init_from
    try:
        metrics = Training(
            all_or_raise(lambda: Corpus.open(job.corpus)),
            job.config,
            get_device(),
            run_checkpoints(
                job.folder,
                job.config.train,
                job.options.checkpoints,
                host.line,
                # A trial may be ended as soon as it has reported an epoch.
                background=job.board is not None,
            ),
            job.folder,
            host=host,
            start=all_or_raise(lambda: ModelDirectory.load(start) if start else None),
            track=lambda after: _trackers(job, after, host),
            after_step=profile.step if profile else lambda: None,
        ).run()
    except BadInput as error:
        return RunRefused(str(error))
    except Failed as error:
        return RunFailed(str(error))
    except torch.OutOfMemoryError:  # of a run that had not begun
        if ray.train.get_context().get_world_size() > 1:  # the others would wait for this one
            raise
        return RunFailed(str(memory_is_full("before the first step")))
    if profile is not None:
        profile.close()
    return RunStopped(metrics["stopped"]) if "stopped" in metrics else RunFinished(metrics)


def _trackers(job: Job, after: int, host: "_Host") -> Tracker:
    """Return all trackers of a run that goes on from step `after`, as one."""
    trackers: list[Tracker] = [
        JsonLines(job.folder / "metrics.jsonl", after),
        TensorBoard(job.folder / "tensorboard", after),
        TrainMetrics(job.folder.name, after),
    ]
    if uri := job.options.mlflow:
        parameters = _flatten(json.loads(job.config.to_json()))
        memory = job.folder / "mlflow-run"
        trackers.append(MLflow(uri, "s2s", job.folder.name, parameters, memory, host.line))
    return Several(trackers, host.line)


class _Host(Alone):
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
            self.line, self.progress = board.line, board.progress  # type: ignore[method-assign]
            self.saved = board.saved  # type: ignore[method-assign]

    def epoch(self, record: EpochRecord) -> None:
        """Report to the driver and to Ray Train."""
        self.line(_summary(record, self._epochs))
        ray.train.report(asdict(record))

    def wish(self) -> Wish:
        """Return the driver's requests; while a node is about to go, save every few seconds."""
        wish = self._board.wish() if self._board is not None else Wish()
        if not self._notice.received or time.monotonic() < self._next_save:
            return wish
        self._next_save = time.monotonic() + _NOTICE_SECONDS
        self.line("a node is about to go: saving")
        return Wish(stop=wish.stop, save=True)


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
