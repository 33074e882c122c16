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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, TypeAdapter, ValidationError

from s2s.config import Config, Section, describe
from s2s.errors import BadInput
from s2s.settings import setting_names
from s2s.suggestions import did_you_mean

Value = bool | int | float | str | None

SECTIONS = ("model", "train")
"""Sections whose settings can vary."""

_MOST_STEPS = 1_000_000_000

_SHARED = {
    "text": "the corpus, which all trials share",
    "corpus": "the corpus, which all trials share",
    "decode": "decoding, by which no trial is compared: choose it with `s2s evaluate`",
}


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
    """Distance of two values of a range, 1 for whole numbers; None for any values."""

    log: bool = False
    """Whether the range is searched evenly in its logarithm; it then has no other step than 1."""

    is_whole: bool = False
    """Whether the values of the range are whole numbers."""

    where: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Values of other settings with which alone the dimension applies."""

    @property
    def is_range(self) -> bool:
        """Whether the dimension has a range instead of choices."""
        return not self.choices

    @property
    def count(self) -> float:
        """The number of values; infinite for a range without steps."""
        if not self.is_range:
            return len(self.choices)
        return math.inf if self.step is None else self._steps + 1

    @property
    def values(self) -> tuple[Value, ...]:
        """All values, of a dimension whose `count` is finite."""
        return tuple(self.value(number) for number in range(int(self.count)))

    def value(self, number: int) -> Value:
        """Return one of the values of a dimension whose `count` is finite, from number 0."""
        return self._step_value(number) if self.is_range else self.choices[number]

    @property
    def extremes(self) -> tuple[Value, ...]:
        """All choices, or both ends of a range."""
        if not self.is_range:
            return self.choices
        if self.step is None:
            return self.low, self.high
        return self._step_value(0), self._step_value(self._steps)

    @property
    def _steps(self) -> int:
        low, high, step = (Decimal(repr(each)) for each in (self.low, self.high, self.step))
        return int((high - low) / step)

    def _step_value(self, number: int) -> Value:
        # In decimal numbers: 0.1 + 2 x 0.1 is 0.3.
        value = Decimal(repr(self.low)) + number * Decimal(repr(self.step))
        return int(value) if self.is_whole else float(value)

    def contains(self, value: Value) -> bool:
        """Return whether a value is one of the dimension's."""
        if not self.is_range:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and self.nearest(value) == value

    def nearest(self, number: float) -> Value:
        """Return the value of a range that is closest to a number within it."""
        if self.step is None:
            return number
        return self._step_value(round((number - self.low) / self.step))

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
    named = dict(_flat(search))
    if not named:
        raise BadInput(f"--space {path}: [search] names no setting")
    return [_dimension(name, given, config, f"--space {path}") for name, given in named.items()]


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield settings by dotted names: without quotes, TOML reads a name as tables in each other."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name in SECTIONS:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


_FORMS = "a list of values is needed, or { low = …, high = … }"


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
    if not isinstance(given, list | dict):
        raise BadInput(f"{where}: {_FORMS}")
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
    if bool(read.choices) == (read.low is not None or read.high is not None):
        raise BadInput(f"{where}: {_FORMS}")
    if read.choices:
        choices = tuple(_value(each, setting, config, where) for each in read.choices)
        return Dimension(setting, choices, where=conditions)
    if read.low is None or read.high is None:
        raise BadInput(f"{where}: {_FORMS}")
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
    if log and step is not None:
        raise BadInput(f"{where}: a range that is searched in its logarithm has no steps")
    if is_whole:
        step = step or 1
    if step is not None and (high - low) / step > _MOST_STEPS:
        raise BadInput(f"{where}: more than {_MOST_STEPS:,} steps; leave out the step")
    return Dimension(setting, low=low, high=high, step=step, log=log, is_whole=is_whole)


def _known(name: str, config: Config, where: str) -> str:
    """Return the dotted name of a setting.

    Raises:
        BadInput: there is no such setting, or it cannot vary.
    """
    setting = name.replace("-", "_")
    known = {each for section in SECTIONS for each in setting_names(config, section)}
    if (section := setting.partition(".")[0]) in _SHARED:
        raise BadInput(f"{where}: {name} belongs to {_SHARED[section]}")
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
        if isinstance(given, bool) and bool not in _kinds(setting, config):
            raise ValueError  # pydantic takes it for 0 or 1
        value: Value = TypeAdapter(annotation).validate_python(given)
    except ValueError:
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
