"""The objective of a sweep: what its trials are compared by."""

from typing import Literal

from s2s.model.metrics import EpochRecord

Objective = Literal["token_accuracy", "loss", "bleu", "chrf"]

_FIELDS: dict[Objective, str] = {
    "token_accuracy": "valid_token_accuracy",
    "loss": "valid_loss",
    "bleu": "valid_bleu",
    "chrf": "valid_chrf",
}


def value_of(objective: Objective, record: EpochRecord) -> float | None:
    """Return the value of an objective after an epoch; None if it could not be measured."""
    value: float | None = getattr(record, _FIELDS[objective])
    return value


def is_maximised(objective: Objective) -> bool:
    """Return whether a greater value is better."""
    return objective != "loss"


def needs_translations(objective: Objective) -> bool:
    """Return whether `valid` must be translated after each epoch."""
    return objective in ("bleu", "chrf")
