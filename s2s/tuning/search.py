"""The choice of the points that a sweep tries."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np

from s2s.tuning.dimension import Dimension, Value
from s2s.tuning.space import Point, Space, point_key
from s2s.tuning.trials import Trial

Searcher = Literal["grid", "random", "optuna"]


class PointSearch(Protocol):
    """What chooses the points of a sweep, one after the other."""

    def suggest(self, trials: Sequence[Trial]) -> Point | None:
        """Return a point that no trial has tried, or None if there is none.

        Args:
            trials: all that have begun so far.
        """


class ListedSearch:
    """The points of a list, in its order.

    Args:
        points: without repetition; may be endless.
    """

    def __init__(self, points: Iterator[Point]) -> None:
        self._points = points

    def suggest(self, trials: Sequence[Trial]) -> Point | None:
        """Return the next point that no trial has tried, or None at the end of the list."""
        tried = {point_key(trial.settings) for trial in trials}
        return next((point for point in self._points if point_key(point) not in tried), None)


def grid(space: Space) -> Iterator[Point]:
    """Yield all points of a space.

    Raises:
        BadInput: a dimension is a range without steps.
    """
    return iter(space.points())


def random_points(space: Space, seed: int) -> Iterator[Point]:
    """Yield random points of a space, always the same ones with the same seed.

    A finite space is shuffled, so that no point is repeated; another one is drawn from for ever.
    """
    random = np.random.default_rng(seed)
    if space.is_finite:
        points = space.points()
        for number in random.permutation(len(points)):
            yield points[number]
        return
    while True:
        # Values of dimensions that do not apply are drawn, too: the others do not depend on that.
        yield space.applied({each.setting: _draw(each, random) for each in space.dimensions})


def _draw(dimension: Dimension, random: np.random.Generator) -> Value:
    """Return a random value of a dimension."""
    if (values := dimension.values) is not None:
        return values[int(random.integers(len(values)))]
    low, high = dimension.low, dimension.high
    if not dimension.log:
        return float(random.uniform(low, high))
    value = float(np.exp(random.uniform(np.log(low), np.log(high))))
    return round(value) if dimension.is_whole else value
