"""The content of `sweep.json`: the trials of a sweep, and the best one."""

import json
from dataclasses import asdict, fields
from typing import Literal

from pydantic import model_serializer, model_validator

from s2s.config import Section
from s2s.model.metrics import EpochRecord
from s2s.tuning.dimension import Value

_BEST = "best_"  # before the names of the best epoch's record


class Trial(Section):
    """A model that was tried."""

    settings: dict[str, Value]
    """Settings that the sweep chose, by dotted names."""

    status: Literal["finished", "stopped", "failed"]
    """`finished` with all of its epochs, `stopped` early by the scheduler, or `failed`."""

    reason: str | None = None
    """Why it failed, if so."""

    epochs: int | None = None
    """Epochs that it trained, if it has a checkpoint."""

    best: EpochRecord | None = None
    """Record of its best epoch; in JSON each value by its name with `best_` before it."""

    @model_serializer
    def _flat(self) -> dict[str, object]:
        row: dict[str, object] = {
            "settings": self.settings, "status": self.status, "reason": self.reason
        }  # fmt: skip
        if self.best is not None:
            row["epochs"] = self.epochs
            row |= {_BEST + name: value for name, value in asdict(self.best).items()}
        return row

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, row: object) -> object:
        if not isinstance(row, dict) or _BEST + "epoch" not in row:
            return row
        names = [_BEST + field.name for field in fields(EpochRecord)]
        best = {name.removeprefix(_BEST): row[name] for name in names if name in row}
        return {**{k: v for k, v in row.items() if k not in names}, "best": best}


class Sweep(Section):
    """The trials of a sweep."""

    trials: list[Trial]
    """All trials, in the order in which they were chosen."""

    best: int
    """Number of the trial of least loss on `valid`, from 0."""

    total_seconds: float
    """Wall time of the sweep, in seconds."""

    def to_json(self) -> str:
        """Return the text of `sweep.json`."""
        return json.dumps(self.model_dump(), indent=2) + "\n"
