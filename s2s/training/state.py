"""What a training run is between two steps: all that it needs to go on, and its record so far."""

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
    """Where a run stands: in which epoch, and what the steps of that epoch have summed up so far.

    It decides every batch to come, whatever the number of workers, and every random number.
    """

    epoch: int = 1
    step: int = 0  # steps done in the epoch
    steps: int = 0  # steps done since the run began
    loss: float = 0.0  # nats, summed over the epoch's target tokens so far
    seconds: float = 0.0  # of training in the epoch
    checkpoint_seconds: float = 0.0


@dataclass
class State:
    """Weights, optimizer, cursor and record of a run."""

    directory: ModelDirectory
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    facts: dict[str, Any]
    cursor: Cursor = field(default_factory=Cursor)
    epochs: list[EpochRecord] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        """The loss on `valid` of each epoch."""
        return [record.valid_loss for record in self.epochs]

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` says of the run."""
        best = min(self.epochs, key=lambda record: record.valid_loss, default=None)
        return {
            "epochs": [asdict(record) for record in self.epochs],
            "best": best and asdict(best),
            **self.facts,
        }

    def snapshot(self) -> "Snapshot":
        """A copy that stays as it is while training goes on."""
        return Snapshot(
            directory=self.directory,
            weights=_copied(self.directory.model.weights()),
            metrics=self.metrics,
            state={
                "optimizer": _copied(self.optimizer.state_dict()),
                "scaler": self.scaler.state_dict(),
                "cursor": asdict(self.cursor),
                "epochs": [asdict(record) for record in self.epochs],
                "precision": self.facts["precision"],
            },
        )

    def restore(self, path: Path) -> str | None:
        """Take over what `Snapshot.save` wrote.

        Returns:
            What the run will not go on with exactly as before, if anything.

        Raises:
            BadInput: `path` holds no complete checkpoint.
        """
        saved = ModelDirectory.load(path)
        try:
            # weights_only: a checkpoint can hold tensors and numbers, never code.
            state = torch.load(path / STATE, map_location="cpu", weights_only=True)
            self.directory.model.load(saved.model.weights())
            # The optimizer's settings are this run's: another device has others.
            settings = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({**state["optimizer"], "param_groups": settings})
            if state["scaler"]:  # of fp16, which alone has one
                self.scaler.load_state_dict(state["scaler"])
            self.cursor = Cursor(**state["cursor"])
            self.epochs[:] = [EpochRecord(**record) for record in state["epochs"]]
            before, now = state["precision"], self.facts["precision"]
        except Exception as error:  # zip, pickle, OS and key errors alike mean a broken file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise BadInput(
                f"{path / STATE} cannot be loaded ({reason}); --restart begins anew"
            ) from None
        if before != now:
            return f"precision was {before} and is {now} now: results may differ slightly"
        return None


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment, which can be written while the run goes on."""

    directory: ModelDirectory
    weights: Mapping[str, Tensor]
    metrics: dict[str, Any]
    state: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write a checkpoint: a model directory with `train_state.pt` in it."""
        self.directory.save(path, RunMetrics.model_validate(self.metrics), self.weights)
        torch.save(self.state, path / STATE)


def _copied(tree: Any) -> Any:
    """Copies of all tensors in nested mappings and lists, on the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_copied(value) for value in tree]
    return copy.copy(tree)
