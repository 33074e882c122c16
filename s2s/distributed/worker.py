"""A training run as one of the workers that Ray Train has started."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device
from ray.train.v2._internal.execution.context import get_train_context

from s2s.collectives import all_or_raise
from s2s.config import Config, TrainConfig
from s2s.corpus import Corpus
from s2s.distributed.board import Pin
from s2s.distributed.metrics import RayMetrics
from s2s.errors import BadInput, Failed
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import EpochRecord
from s2s.training.checkpoints import Checkpoints
from s2s.training.failures import out_of_memory
from s2s.training.host import SilentHost
from s2s.training.loop import Training
from s2s.training.profiler import StepProfiler
from s2s.training.signals import Signals
from s2s.training.trackers import JsonLines, MLflow, TensorBoard, Tracker, Trackers

_NOTICE = 5.0  # seconds between two checkpoints while a node is about to go


def checkpoints_of(
    folder: Path,
    settings: TrainConfig,
    place: str | None,
    say: Callable[[str], None] = lambda line: None,
    *,
    background: bool = True,
) -> Checkpoints:
    """The checkpoints of the run in a folder, as many as its settings need.

    Args:
        place: folder or URI that other runs might name, too; None for the run's own.

    Raises:
        BadInput: nothing here reads such a URI.
    """
    number = settings.average_epochs
    return Checkpoints(
        place or folder / "checkpoints",
        say,
        run=str(folder) if place else "",
        background=background,
        last=settings.keep_last,
        best=max(settings.keep_best, number if settings.average == "best" else 1),
        last_epochs=number if settings.average == "last" else 0,
    )


def work(settings: dict[str, Any]) -> dict[str, Any]:
    """The run as one of its workers: returns what `metrics.json` says, or why the run failed."""
    torch.set_num_threads(settings["threads"])
    config = Config.from_json(settings["config"], "config")
    folder, rank = Path(settings["folder"]), ray.train.get_context().get_world_rank()
    board = settings["board"] if rank == 0 else None
    host = _Host(None if board is None else Pin(board), config.train.epochs)
    start = settings.get("start")

    def make_tracker(resumed_from: int) -> Tracker:
        trackers: list[Tracker] = [
            JsonLines(folder / "metrics.jsonl", resumed_from),
            TensorBoard(folder / "tensorboard", resumed_from),
            RayMetrics(folder.name, resumed_from),
        ]
        if uri := settings.get("mlflow"):
            parameters = _flat(json.loads(config.to_json()))
            memory = folder / "mlflow-run"
            trackers.append(MLflow(uri, "s2s", folder.name, parameters, memory, host.log))
        return Trackers(trackers, host.log)

    profiled = settings.get("profile") and rank == 0
    profile = StepProfiler(folder / "profile", host.log) if profiled else None
    try:
        result = Training(
            all_or_raise(lambda: Corpus.open(Path(settings["corpus"]))),
            config,
            get_device(),
            checkpoints_of(
                folder,
                config.train,
                settings.get("checkpoints"),
                host.log,
                # A trial may be ended as soon as it has told of an epoch.
                background=settings["board"] is not None,
            ),
            folder,
            host=host,
            start=all_or_raise(lambda: ModelDirectory.load(Path(start)) if start else None),
            make_tracker=make_tracker,
            after_step=profile.step if profile else lambda: None,
        ).run()
    # All workers meet these together. Raised, they would be tried again in vain.
    except BadInput as error:
        return {"refused": str(error)}
    except Failed as error:
        return {"failed": str(error)}
    except torch.OutOfMemoryError:  # of a run that had not begun
        if ray.train.get_context().get_world_size() > 1:  # the others would wait for this one
            raise
        return {"failed": str(out_of_memory("before the first step"))}
    if profile is not None:
        profile.close()
    outcome = result.metrics.model_dump(exclude_unset=True)
    return outcome if result.stopped_at is None else {**outcome, "stopped": result.stopped_at}


class _Host(SilentHost):
    """Ray Train, as the loop sees it.

    Args:
        pin: of the first worker, where anybody looks at its board.
        epochs: of the run.
    """

    def __init__(self, pin: Pin | None, epochs: int) -> None:
        self._pin, self._epochs = pin, epochs
        self._context = get_train_context().preemption_context
        self._preempted = 0.0  # when to save next
        if pin is not None:
            self.log, self.report_progress = pin.line, pin.progress  # type: ignore[method-assign]
            self.checkpoint_saved = pin.saved  # type: ignore[method-assign]

    def report_epoch(self, record: EpochRecord) -> None:
        """Tell driver and Ray Train."""
        self.log(_told(record, self._epochs))
        ray.train.report(asdict(record))

    def signals(self) -> Signals:
        """What the driver wants; while a node is about to go, a checkpoint every few seconds."""
        signals = self._pin.wish() if self._pin is not None else Signals()
        # Every worker's own copy of the notice: the public get_preemption_info makes all workers
        # wait for each other, which the exchange of signals in every step does anyway.
        if self._context.preemption_info is None or time.monotonic() < self._preempted:
            return signals
        self._preempted = time.monotonic() + _NOTICE
        self.log("a node is about to go: saving")
        return Signals(stop=signals.stop, save=True)


def _told(record: EpochRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch}/{epochs}  train loss {record.train_loss:.4f}  "
        f"valid loss {record.valid_loss:.4f}  token accuracy {record.valid_token_accuracy:.4f}  "
        f"padded accuracy {record.valid_padded_accuracy:.4f}  "
        f"{record.pairs_per_second:,.0f} pairs/s  {record.seconds:.1f} s"
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat
