"""The search space of a sweep: all points that the values of its dimensions make."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from s2s.config import Config
from s2s.errors import BadInput
from s2s.settings import changed
from s2s.tuning.dimension import SECTIONS, Dimension, Value

# Values by dotted names of settings, without what a condition leaves out.
Point = dict[str, Value]

_MOST_LISTED, _MOST_CHECKED = 100_000, 5_000  # points


@dataclass(frozen=True)
class Space:
    """All points of a sweep: the values of some settings of a config, in their order."""

    config: Config
    dimensions: tuple[Dimension, ...]

    @classmethod
    def of(cls, config: Config, dimensions: Sequence[Dimension]) -> "Space":
        """Return the space of some dimensions, whose points are valid configs as far as is checked.

        A large space is checked at its corners; searches pass over invalid points between them.

        Raises:
            BadInput: a setting is named twice, or a point is invalid.
        """
        names = [each.setting for each in dimensions]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"--search {name} is given twice")
        space = cls(config, _ordered(dimensions))
        space._check()
        return space

    @property
    def is_finite(self) -> bool:
        """Whether the points are few enough to be listed."""
        return math.prod(each.count for each in self.dimensions) <= _MOST_LISTED

    def points(self) -> list[Point]:
        """Return all points of a finite space, without repetition.

        Raises:
            BadInput: a dimension is a range without steps, or there are too many points.
        """
        for each in self.dimensions:
            if math.isinf(each.count):
                raise BadInput(
                    f"a grid needs steps in the range of {each.setting}, such as "
                    f"{each.setting}={each.low:g}:{each.high:g}:STEP, or use --searcher random"
                )
        if not self.is_finite:
            raise BadInput(
                f"a grid of more than {_MOST_LISTED:,} points is too large; use --searcher random"
            )
        return list(self._combinations([each.values for each in self.dimensions]))

    def config_of(self, point: Point) -> Config:
        """Return the config of a point.

        Raises:
            BadInput: the config's own rules refuse it.
        """
        try:
            return changed(self.config, point, SECTIONS)
        except BadInput as error:
            raise BadInput(f"{describe_point(point)}: {error}") from None

    def is_valid(self, point: Point) -> bool:
        """Return whether the config's own rules accept a point."""
        try:
            self.config_of(point)
        except BadInput:
            return False
        return True

    def key(self, point: Point) -> str:
        """Return what is equal for points whose configs are equal, and for no others."""
        return self.config_of(point).to_json()

    def _check(self) -> None:
        """Check all points of a small space, and of others combinations of choices and ends.

        Raises:
            BadInput: the config's rules refuse one.
        """
        count = math.prod(each.count for each in self.dimensions)
        points = self.points() if count <= _MOST_CHECKED else self.corners(_MOST_CHECKED)
        for point in points:
            self.config_of(point)

    def corners(self, most: int) -> Iterator[Point]:
        """Yield combinations of choices and ends of ranges, the first ones of them."""
        yield from itertools.islice(self._combinations([d.extremes for d in self.dimensions]), most)

    def _combinations(self, values: list[tuple[Value, ...]]) -> Iterator[Point]:
        """Yield the points of some values of each dimension, without repetition."""
        seen = set()
        for chosen in itertools.product(*values):
            point = self.applied(dict(zip(self.names, chosen, strict=True)))
            key = point_key(point)
            if key not in seen:
                seen.add(key)
                yield point

    @property
    def names(self) -> list[str]:
        """The settings that vary, each after those that its condition names."""
        return [each.setting for each in self.dimensions]

    def applied(self, values: Point) -> Point:
        """Return a point without the values of dimensions that do not apply to it."""
        point: Point = {}
        for each in self.dimensions:
            if self.applies(each, point):
                point[each.setting] = values[each.setting]
        return point

    def applies(self, dimension: Dimension, point: Point) -> bool:
        """Return whether a dimension's condition holds at a point."""
        return dimension.applies({name: self._value(point, name) for name in dimension.where})

    def _value(self, point: Point, name: str) -> object:
        """Return the value that a setting has at a point."""
        if name in point:
            return point[name]
        value: object = self.config
        for part in name.split("."):
            value = getattr(value, part)
        return value


def _ordered(dimensions: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Return dimensions so that each comes after those that its condition names.

    Raises:
        BadInput: conditions depend on each other.
    """
    left, ordered = list(dimensions), list[Dimension]()
    while left:
        waiting = {each.setting for each in left}
        ready = [each for each in left if waiting.isdisjoint(each.where)]
        if not ready:
            raise BadInput(f"the conditions of {', '.join(sorted(waiting))} form a circle")
        ordered += ready
        left = [each for each in left if each not in ready]
    return tuple(ordered)


def point_key(point: Point) -> tuple[tuple[str, Value], ...]:
    """Return what is equal for equal points alone, and can be in a set."""
    return tuple(sorted(point.items()))


def describe_point(point: Point) -> str:
    """Return the values of a point in one line."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in point.items()) or "the preset"


def value_text(value: Value) -> str:
    """Return the value of a setting as text for a line or a column."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()
