"""Environment variables that set options of a verb, unless the option is given.

They count before a file of options.

A field of a verb is such an option where its annotation names a variable:

    port: Annotated[int, Variable("S2S_PORT")] = 8000

The value of a flag is yes or no, and the items of a list are separated by commas. A variable that
is empty counts as not set.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import tyro

from s2s.cli.verb import Verb
from s2s.errors import BadInput

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Variable:
    """The mark of a field that an environment variable may set."""

    name: str


@dataclass(frozen=True)
class _Setting:
    """A field that an environment variable sets."""

    field: str
    kind: Any  # the field's type
    positional: bool
    variable: str
    value: str

    @property
    def option(self) -> str:
        """The option as it is given."""
        return f"--{self.field.replace('_', '-')}"

    @property
    def opposite(self) -> str:
        """The option that turns a flag off."""
        return f"--no-{self.field.replace('_', '-')}"

    @property
    def items(self) -> list[str]:
        """The items of the value, if it is a list."""
        return [item.strip() for item in self.value.split(",") if item.strip()]

    def words(self) -> list[str]:
        """Return the words of a command line that set the field.

        Raises:
            BadInput: the value of a flag is neither yes nor no.
        """
        if self.kind is bool:
            if self.value.lower() not in (*_YES, *_NO):
                raise BadInput(f"{self.variable}: yes or no is needed, not {self.value!r}")
            return [self.option if self.value.lower() in _YES else self.opposite]
        if get_origin(self.kind) is tuple:
            return [self.option, *self.items]
        return [f"{self.option}={self.value}"]


def options_of_variables(kind: type[Verb], arguments: list[str]) -> list[str]:
    """Return the options that variables set, as words of a command line.

    Args:
        kind: class of the verb.
        arguments: those that are given, which count first.

    Raises:
        BadInput: the value of a flag is neither yes nor no.
    """
    settings = [each for each in _settings(kind, arguments) if not each.positional]
    return [word for setting in settings for word in setting.words()]


def values_of_variables(kind: type[Verb]) -> dict[str, list[str]]:
    """Return the values that variables set for positional arguments, by the names of fields."""
    return {each.field: each.items for each in _settings(kind, []) if each.positional}


def naming_variables(message: str, kind: type[Verb], arguments: list[str]) -> str:
    """Return an error with the variables that set what it is about, in place of options.

    Args:
        kind: class of the verb.
        arguments: those that were given.
    """
    for each in _settings(kind, arguments):
        if not each.positional:
            message = re.sub(rf"{each.option}(?![\w-])", each.variable, message)
        elif not set(each.items) & set(arguments) and any(
            _names(message, path) for path in each.items
        ):
            message = f"{each.variable}: {message}"
    return message


def _settings(kind: type[Verb], arguments: list[str]) -> Iterator[_Setting]:
    """Yield the fields of a verb that variables set, other than options that are given."""
    given = {word.partition("=")[0].replace("_", "-") for word in arguments}
    for field, hint in get_type_hints(kind, include_extras=True).items():
        kind_of_field, *marks = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        for mark in marks:
            if isinstance(mark, Variable) and (value := os.environ.get(mark.name, "").strip()):
                positional = tyro.conf.Positional in marks
                setting = _Setting(field, kind_of_field, positional, mark.name, value)
                if given.isdisjoint({setting.option, setting.opposite}):
                    yield setting


def _names(message: str, path: str) -> bool:
    """Return whether a message names a path, as a word of its own."""
    return re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w-])", message) is not None
