"""What `sweep.json` says: the trials of a sweep and the best one."""

import json
from dataclasses import asdict, fields

from pydantic import model_serializer, model_validator

from s2s.config import Section
from s2s.model.metrics import EpochRecord

_BEST = "best_"  # before the names of the best epoch's record


class Trial(Section):
    """A model that was tried."""

    hidden_size: int
    """Its `model.hidden_size`."""

    embedding_size: int
    """Its `model.embedding_size`."""

    epochs: int | None = None
    """Epochs that it was trained for, if it has a checkpoint."""

    best: EpochRecord | None = None
    """The record of its best epoch; in JSON each value by its name with `best_` before it."""

    error: str | None = None
    """Why it has failed, if so."""

    @model_serializer
    def _flat(self) -> dict[str, object]:
        row: dict[str, object] = {
            "hidden_size": self.hidden_size, "embedding_size": self.embedding_size
        }  # fmt: skip
        if self.best is not None:
            row["epochs"] = self.epochs
            row |= {_BEST + name: value for name, value in asdict(self.best).items()}
        return {**row, "error": self.error}

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
    """All trials, in the order in which they were drawn."""

    best: int
    """Number of the trial of least loss on `valid`, from 0."""

    total_seconds: float
    """Wall time of the sweep."""

    def to_json(self) -> str:
        """Return the text of `sweep.json`."""
        return json.dumps(self.model_dump(), indent=2) + "\n"
