"""The choice of the points that a sweep tries."""

from typing import Literal

import numpy as np

from s2s.errors import BadInput
from s2s.tuning.dimension import Dimension, Value
from s2s.tuning.space import Point, Space

Searcher = Literal["grid", "random"]


def choose_points(space: Space, searcher: Searcher, trials: int, seed: int) -> list[Point]:
    """Return the points of a sweep's trials.

    More trials with the same seed begin with the same points.

    Args:
        searcher: `grid` for all points, or `random` for some: of a finite space without
            repetition.
        trials: number of random points.

    Raises:
        BadInput: there is no trial, or the space of a grid is not finite.
    """
    if searcher == "grid":
        return space.points()
    if trials < 1:
        raise BadInput(f"--trials {trials}: at least 1 is needed")
    random = np.random.default_rng(seed)
    if space.is_finite:
        points = space.points()
        return [points[number] for number in random.permutation(len(points))[:trials]]
    return [_sample(space, random) for _ in range(trials)]


def _sample(space: Space, random: np.random.Generator) -> Point:
    """Return a random point of a space."""
    # Values of dimensions that do not apply are drawn, too, so that the others do not depend on it.
    return space.applied({each.setting: _draw(each, random) for each in space.dimensions})


def _draw(dimension: Dimension, random: np.random.Generator) -> Value:
    """Return a random value of a dimension."""
    if (values := dimension.values) is not None:
        return values[int(random.integers(len(values)))]
    low, high = dimension.low, dimension.high
    if not dimension.log:
        return float(random.uniform(low, high))
    value = float(np.exp(random.uniform(np.log(low), np.log(high))))
    return round(value) if dimension.is_whole else value
