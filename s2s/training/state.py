"""The state of a training run between two steps: everything needed to resume it, and its record."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.errors import BadInput
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import EpochRecord, RunMetrics

STATE = "train_state.pt"


@dataclass
class Cursor:
    """The position of a run, and the sums over the steps of its current epoch.

    The position determines all batches and random numbers to come, for any number of workers.
    """

    epoch: int = 1
    step: int = 0  # steps done in the epoch
    steps: int = 0  # steps done since the run began
    loss: float = 0.0  # nats, summed over the epoch's target tokens so far
    seconds: float = 0.0  # of training in the epoch
    checkpoint_seconds: float = 0.0  # of the epoch, in which training waited for a checkpoint


@dataclass
class TrainingState:
    """Weights, optimizer, cursor and record of a run.

    Attributes:
        conditions: the metrics of the run without its epochs: workers, precision, corpus and so on.
        epochs: the records of the epochs so far.
    """

    directory: ModelDirectory
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    conditions: RunMetrics
    cursor: Cursor = field(default_factory=Cursor)
    epochs: list[EpochRecord] = field(default_factory=list)

    @property
    def valid_losses(self) -> list[float]:
        """The loss on `valid` after each epoch."""
        return [record.valid_loss for record in self.epochs]

    @property
    def metrics(self) -> RunMetrics:
        """The metrics of the run so far."""
        best = min(self.epochs, key=lambda record: record.valid_loss, default=None)
        return self.conditions.model_copy(update={"epochs": tuple(self.epochs), "best": best})

    def snapshot(self) -> "Snapshot":
        """Return a copy that further training does not change."""
        return Snapshot(
            directory=self.directory,
            weights=_copy_to_cpu(self.directory.model.named_weights()),
            metrics=self.metrics,
            state={
                "optimizer": _copy_to_cpu(self.optimizer.state_dict()),
                "scaler": self.scaler.state_dict(),
                "cursor": asdict(self.cursor),
                "epochs": [asdict(record) for record in self.epochs],
                "precision": self.conditions.precision,
            },
        )

    def restore(self, path: Path) -> str | None:
        """Restore the state that `Snapshot.save` wrote.

        Returns:
            A warning for the user if the run will not continue exactly as before.

        Raises:
            BadInput: `path` holds no complete checkpoint.
        """
        saved = ModelDirectory.load(path)
        try:
            # weights_only: a checkpoint can hold tensors and numbers, never code.
            state = torch.load(path / STATE, map_location="cpu", weights_only=True)
            self.directory.model.load_weights(saved.model.named_weights())
            # The optimizer's settings stay those of this run, whose device may be another one.
            settings = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({**state["optimizer"], "param_groups": settings})
            if state["scaler"]:  # of fp16; empty for every other precision
                self.scaler.load_state_dict(state["scaler"])
            self.cursor = Cursor(**state["cursor"])
            self.epochs[:] = [EpochRecord(**record) for record in state["epochs"]]
            before, now = state["precision"], self.conditions.precision
        except Exception as error:  # zip, pickle, OS and key errors alike mean a broken file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise BadInput(
                f"{path / STATE} cannot be loaded ({reason}); --restart starts over"
            ) from None
        if before != now:
            return f"precision changed from {before} to {now}: results may differ slightly"
        return None


@dataclass(frozen=True)
class Snapshot:
    """A copy of a run's state, which can be written while training continues."""

    directory: ModelDirectory
    weights: Mapping[str, Tensor]
    metrics: RunMetrics
    state: dict[str, Any]  # the content of `train_state.pt`

    def save(self, path: Path) -> None:
        """Write a checkpoint: a model directory with `train_state.pt` in it."""
        self.directory.save(path, RunMetrics.model_validate(self.metrics), self.weights)
        torch.save(self.state, path / STATE)


def _copy_to_cpu(tree: Any) -> Any:
    """Return a copy of nested mappings and lists, with all tensors on the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: _copy_to_cpu(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_copy_to_cpu(value) for value in tree]
    return copy.copy(tree)
