"""The order of a sweep's trials, and how good each of them is."""

import math
from collections.abc import Sequence

import numpy as np

from s2s.tuning.trials import Sweep, Trial

_FAR = 3  # interquartile ranges from the middle half of some values to one that a plot cuts off


def scored(sweep: Sweep) -> list[Trial]:
    """Return the trials that have a score and have not failed, from the best to the worst."""
    sign = -1 if sweep.maximised else 1
    trials = [t for t in sweep.trials if t.is_compared and math.isfinite(score(t))]
    return sorted(trials, key=lambda trial: (sign * score(trial), trial.number))


def ranked(sweep: Sweep) -> list[Trial]:
    """Return all trials from the best to the worst; others are last."""
    first = scored(sweep)
    numbers = {trial.number for trial in first}
    others = [trial for trial in sweep.trials if trial.number not in numbers]
    return first + sorted(others, key=lambda trial: (trial.status == "failed", trial.number))


def score(trial: Trial) -> float:
    """Return the score of a trial, which is not a number if the trial has none."""
    return math.nan if trial.score is None else trial.score


def goodness(sweep: Sweep) -> dict[int, float]:
    """Return how good each trial with a score is, by its number.

    Returns:
        1 for the best score, 0.5 for the median, at least 0, and in between in proportion: one
        very bad trial does not make all others look alike.
    """
    scores = {trial.number: score(trial) for trial in scored(sweep)}
    if not scores:
        return {}
    best, *_, worst = *scores.values(), next(reversed(scores.values()))
    reach = 2 * abs(best - float(np.median([*scores.values()]))) or abs(best - worst) or 1.0
    return {number: max(0.0, 1 - abs(best - value) / reach) for number, value in scores.items()}


def plotted_range(values: Sequence[float], *, maximised: bool) -> tuple[float, float]:
    """Return the ends of an axis for values, without those that are far worse than most."""
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = _FAR * (upper - lower)
    low = min(v for v in values if v >= lower - reach) if maximised else min(values)
    high = max(values) if maximised else max(v for v in values if v <= upper + reach)
    margin = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def has_far_worse(values: Sequence[float], *, maximised: bool) -> bool:
    """Return whether `plotted_range` leaves out some of the values."""
    low, high = plotted_range(values, maximised=maximised)
    return min(values) < low or max(values) > high
