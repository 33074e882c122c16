"""A dimension of a search space: a setting that varies and its values, as options and files say.

    model.hidden-size=32,64,128          choices
    model.dropout=0.1:0.5                a range, of whole numbers where the setting is one
    model.hidden-size=32:256:32          a range in steps
    train.learning-rate=log:1e-4:1e-2    a range searched evenly in its logarithm

In a TOML file, a dimension may also have a condition:

    [search]
    "model.layers" = [1, 2]
    "model.dropout" = { low = 0.1, high = 0.5, where = { "model.layers" = [2] } }
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, TypeAdapter, ValidationError

from s2s.config import Config, Section, describe
from s2s.errors import BadInput
from s2s.settings import setting_names
from s2s.suggestions import did_you_mean

Value = bool | int | float | str | None

SECTIONS = ("model", "train", "decode")
"""Sections whose settings can vary: the corpus is the same for all trials."""


@dataclass(frozen=True)
class Dimension:
    """A setting that varies: over choices, or over a range."""

    setting: str
    """Dotted name, such as `model.hidden_size`."""

    choices: tuple[Value, ...] = ()
    """Values, if the dimension is no range."""

    low: float = math.nan
    """Least value of a range."""

    high: float = math.nan
    """Greatest value of a range."""

    step: float | None = None
    """Distance of two values of a range; None for any values, of whole numbers 1."""

    log: bool = False
    """Whether the range is searched evenly in its logarithm."""

    is_whole: bool = False
    """Whether the values of the range are whole numbers."""

    where: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Values of other settings with which alone the dimension applies."""

    @property
    def is_range(self) -> bool:
        """Whether the dimension has a range instead of choices."""
        return not self.choices

    @property
    def values(self) -> tuple[Value, ...] | None:
        """All values, or None if there are too many to count them out."""
        if not self.is_range:
            return self.choices
        if self.step is None or self.log:
            return None
        steps = math.floor((self.high - self.low) / self.step + 1e-9)
        found = [self.low + number * self.step for number in range(steps + 1)]
        return tuple(int(value) for value in found) if self.is_whole else tuple(found)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values that decide whether all of them are valid: all choices, or both ends."""
        if not self.is_range:
            return self.choices
        return (int(self.low), int(self.high)) if self.is_whole else (self.low, self.high)

    def contains(self, value: Value) -> bool:
        """Return whether a value is one of the dimension's."""
        if (values := self.values) is not None:
            return value in values
        return isinstance(value, int | float) and self.low <= value <= self.high

    def applies(self, point: Mapping[str, object]) -> bool:
        """Return whether the dimension applies to a point with these values of other settings."""
        return all(point.get(name) in values for name, values in self.where.items())


def parse_dimension(text: str, config: Config) -> Dimension:
    """Return the dimension of a `--search` option.

    Args:
        text: `SETTING=VALUES`, as in the module's docstring.
        config: whose settings vary.

    Raises:
        BadInput: the setting is unknown, or the values are no values of it.
    """
    name, equals, values = text.partition("=")
    where = f"--search {text}"
    if not equals or not values.strip():
        raise BadInput(f"{where}: expected SETTING=VALUES, such as model.hidden-size=64,128")
    setting = _known(name.strip(), config, where)
    *mark, rest = values.strip().partition("log:")[::2] if values.startswith("log:") else (values,)
    bounds = rest.split(":")
    if len(bounds) == 1 and not mark:
        choices = tuple(each.strip() for each in rest.split(","))
        return Dimension(setting, tuple(_value(each, setting, config, where) for each in choices))
    if not 2 <= len(bounds) <= 3:
        raise BadInput(f"{where}: a range is LOW:HIGH, or LOW:HIGH:STEP")
    numbers = [_number(each, where) for each in bounds]
    step = numbers[2] if len(numbers) == 3 else None
    return _range(setting, config, where, numbers[0], numbers[1], step, log=bool(mark))


def read_space(path: Path, config: Config) -> list[Dimension]:
    """Return the dimensions of a TOML file.

    Raises:
        BadInput: the file cannot be read, or a dimension in it is wrong.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(f"--space {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"--space {path} is not TOML: {error}") from None
    if not isinstance(search := content.get("search"), dict) or len(content) > 1:
        raise BadInput(f"--space {path}: one table [search] is needed")
    return [_dimension(name, given, config, f"--space {path}") for name, given in search.items()]


class _Given(Section):
    """A dimension as a file describes it."""

    choices: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    where: dict[str, list[Value] | Value] = Field(default_factory=dict)


def _dimension(name: str, given: object, config: Config, where: str) -> Dimension:
    setting = _known(name, config, where)
    where = f"{where}: {name}"
    try:
        read = _Given.model_validate({"choices": given} if isinstance(given, list) else given)
    except ValidationError as error:
        raise BadInput(f"{where}: {describe(error)}") from None
    conditions = {
        (other := _known(key, config, where)): tuple(
            _value(each, other, config, where)
            for each in (values if isinstance(values, list) else [values])
        )
        for key, values in read.where.items()
    }
    if read.choices:
        choices = tuple(_value(each, setting, config, where) for each in read.choices)
        return Dimension(setting, choices, where=conditions)
    if read.low is None or read.high is None:
        raise BadInput(f"{where}: a list of values is needed, or low and high")
    found = _range(setting, config, where, read.low, read.high, read.step, log=read.log)
    return Dimension(**{**vars(found), "where": conditions})


def _range(
    setting: str,
    config: Config,
    where: str,
    low: float,
    high: float,
    step: float | None,
    *,
    log: bool,
) -> Dimension:
    """Return the dimension of a range.

    Raises:
        BadInput: the setting is no number, or the range is empty.
    """
    kinds = _kinds(setting, config)
    if not kinds & {int, float}:
        raise BadInput(f"{where}: {setting} is no number; give its values with commas")
    is_whole = float not in kinds
    if not low < high or (log and low <= 0) or (step is not None and step <= 0):
        rule = "positive, the lower one first" if log else "the lower one first"
        raise BadInput(f"{where}: two different numbers are needed, {rule}")
    if is_whole and not all(float(each).is_integer() for each in (low, high, step or 1)):
        raise BadInput(f"{where}: {setting} is a whole number")
    if is_whole and not log:
        step = step or 1
    return Dimension(setting, low=low, high=high, step=step, log=log, is_whole=is_whole)


def _known(name: str, config: Config, where: str) -> str:
    """Return the dotted name of a setting.

    Raises:
        BadInput: there is no such setting, or it belongs to the corpus.
    """
    setting = name.replace("-", "_")
    known = {each for section in SECTIONS for each in setting_names(config, section)}
    if setting.partition(".")[0] in ("text", "corpus"):
        raise BadInput(f"{where}: {name} belongs to the corpus, which all trials share")
    if setting not in known:
        choices = {each.replace("_", "-") for each in known}
        raise BadInput(f"{where}: unknown setting {name}{did_you_mean(name, choices)}")
    return setting


def _annotation(setting: str, config: Config) -> Any:
    *parents, name = setting.split(".")
    section: Any = config
    for parent in parents:
        section = getattr(section, parent)
    return type(section).model_fields[name].annotation


def _kinds(setting: str, config: Config) -> set[object]:
    """Return the types that a setting takes."""
    annotation = _annotation(setting, config)
    return {annotation, *get_args(annotation)}


def _value(given: object, setting: str, config: Config, where: str) -> Value:
    """Return a value as the type of its setting; text is read as on the command line.

    Raises:
        BadInput: the setting does not take it.
    """
    annotation = _annotation(setting, config)
    if given == "none" and type(None) in _kinds(setting, config):
        return None
    try:
        value: Value = TypeAdapter(annotation).validate_python(given)
    except ValidationError:
        choices = [str(each) for each in get_args(annotation) if isinstance(each, str)]
        expected = f"; expected one of {', '.join(choices)}" if choices else ""
        raise BadInput(f"{where}: {given!r} is no value of {setting}{expected}") from None
    return value


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadInput(f"{where}: a number is needed, not {text!r}")
    return number
