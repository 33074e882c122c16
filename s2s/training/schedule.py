"""What the course of a run decides: the learning rate of a step, and when to end early.

Both are functions of where the run stands and of its losses so far, so there is no state of them to
keep: a resumed run computes the same.
"""

import math
from collections.abc import Sequence

from s2s.config import TrainConfig


def learning_rate(
    settings: TrainConfig, step: int, fraction: float, losses: Sequence[float]
) -> float:
    """The learning rate of an optimizer step.

    Args:
        step: number of the step in the run, from 1.
        fraction: share of the run that lies before the step, 0 to 1.
        losses: on `valid`, of each epoch so far.
    """
    warmup = settings.warmup_steps
    if step < warmup:
        return settings.learning_rate * step / warmup
    match settings.schedule:
        case "constant":
            factor = 1.0
        case "cosine":
            factor = (1 + math.cos(math.pi * fraction)) / 2
        case "inverse_sqrt":
            factor = math.sqrt(warmup / step)
        case "plateau":
            falls = plateaus(losses, settings.plateau_patience)
            factor = settings.plateau_factor**falls
    return settings.learning_rate * factor


def plateaus(losses: Sequence[float], patience: int) -> int:
    """How often there were `patience` epochs in a row without a new best loss."""
    best, waited, found = math.inf, 0, 0
    for loss in losses:
        waited += 1
        if loss < best:
            best, waited = loss, 0
        elif waited == patience:
            found, waited = found + 1, 0
    return found


def exhausted(settings: TrainConfig, losses: Sequence[float]) -> bool:
    """Whether the run ends early: its patience with the loss on `valid` has run out."""
    return settings.patience is not None and plateaus(losses, settings.patience) > 0
