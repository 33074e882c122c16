"""The choice of the points that a sweep tries."""

from collections.abc import Container, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np

from s2s.tuning.dimension import Dimension, Value
from s2s.tuning.space import Point, Space, point_key
from s2s.tuning.trials import Trial

Searcher = Literal["grid", "random", "optuna"]

_MOST_REPEATS = 1_000  # points in a row that were drawn before


class PointSearch(Protocol):
    """What chooses the points of a sweep, one after the other."""

    def suggest(self, trials: Sequence[Trial]) -> Point | None:
        """Return a point that no trial has tried, or None if there is none.

        Args:
            trials: all that have begun so far.
        """


class ListedSearch:
    """The points of a list, in its order, without those that are invalid.

    Args:
        points: may be endless.
    """

    def __init__(self, space: Space, points: Iterator[Point]) -> None:
        self._space, self._points = space, points

    def suggest(self, trials: Sequence[Trial]) -> Point | None:
        """Return the next point that no trial has tried, or None if there seems to be none."""
        tried = {self._space.key(trial.settings) for trial in trials}
        return next(untried(self._space, self._points, tried), None)


def untried(space: Space, points: Iterator[Point], tried: Container[str]) -> Iterator[Point]:
    """Yield the points that are valid and not tried.

    Args:
        tried: keys of points (`Space.key`).
    """
    for point in points:
        if space.is_valid(point) and space.key(point) not in tried:
            yield point


def grid(space: Space) -> Iterator[Point]:
    """Yield all points of a space.

    Raises:
        BadInput: a dimension is a range without steps.
    """
    return iter(space.points())


def random_points(space: Space, seed: int) -> Iterator[Point]:
    """Yield random points of a space without repetition, always the same ones with the same seed.

    They end where there is no other point, or hardly one.
    """
    random = np.random.default_rng(seed)
    if space.is_finite and not any(each.log for each in space.dimensions):
        points = space.points()
        for number in random.permutation(len(points)):
            yield points[number]
        return
    seen, repeats = set(), 0
    while repeats < _MOST_REPEATS:
        # Values of dimensions that do not apply are drawn, too: the others do not depend on that.
        point = space.applied({each.setting: _draw(each, random) for each in space.dimensions})
        key = point_key(point)
        if key in seen:
            repeats += 1
        else:
            seen.add(key)
            repeats = 0
            yield point


def _draw(dimension: Dimension, random: np.random.Generator) -> Value:
    """Return a random value of a dimension."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        value = float(np.exp(random.uniform(np.log(low), np.log(high))))
        return round(value) if dimension.is_whole else value
    if dimension.step is None and dimension.is_range:
        return float(random.uniform(low, high))
    return dimension.value(int(random.integers(int(dimension.count))))
