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


def value_of(objective: Objective, record: EpochRecord) -> float:
    """Return the value of an objective after an epoch.

    A score is 0 if `valid` was not translated, as the memory of the GPU was full.
    """
    value: float | None = getattr(record, _FIELDS[objective])
    return 0.0 if value is None else value


def is_maximised(objective: Objective) -> bool:
    """Return whether a greater value is better."""
    return objective != "loss"


def needs_translations(objective: Objective) -> bool:
    """Return whether `valid` must be translated after each epoch."""
    return objective in ("bleu", "chrf")
