"""Learning rate schedules, and early stopping.

Both are functions of the position of the run and of its losses so far. They have no state to save,
and a resumed run computes the same values.
"""

import math
from collections.abc import Sequence

from s2s.config import TrainConfig


def learning_rate(
    settings: TrainConfig, step: int, fraction: float, losses: Sequence[float]
) -> float:
    """Return the learning rate of an optimizer step.

    Args:
        step: number of the step in the run, from 1.
        fraction: of the run that is done before the step, 0 to 1.
        losses: on `valid`, after each epoch so far.
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
            factor = settings.plateau_factor ** plateaus(losses, settings.plateau_patience)
    return settings.learning_rate * factor


def plateaus(losses: Sequence[float], patience: int) -> int:
    """Return how often there were `patience` epochs in a row without a new lowest loss."""
    best, waited, count = math.inf, 0, 0
    for loss in losses:
        waited += 1
        if loss < best:
            best, waited = loss, 0
        elif waited == patience:
            count, waited = count + 1, 0
    return count


def stops_early(settings: TrainConfig, losses: Sequence[float]) -> bool:
    """Return whether the run ends early: `patience` epochs did not improve the loss on `valid`."""
    return settings.patience is not None and plateaus(losses, settings.patience) > 0
