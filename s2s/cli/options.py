"""The options of a verb as data: what its help explains and what shells complete.

tyro reads the same declarations and does the parsing.
"""

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser
import tyro
from typing_extensions import Doc

from s2s.cli.variables import Variable
from s2s.cli.verb import Verb, group_of
from s2s.config import Section
from s2s.locations import Location
from s2s.presets import PRESETS


class _Required(Enum):
    """Type of the default of an option that has none."""

    REQUIRED = "required"


REQUIRED = _Required.REQUIRED


@dataclass(frozen=True)
class Option:
    """An option of a verb, or an argument by position."""

    name: str  # `--train.epochs`, or `MODEL` by position
    off: str | None  # of a flag: the option that turns it off
    value: str  # what a value looks like, such as `INT` or `lstm|gru|rnn`; empty for a flag
    choices: tuple[str, ...]  # all values, if they are few
    description: str
    default: object  # REQUIRED if there is none
    variable: str = ""  # that sets it in the environment, if one does

    @property
    def is_positional(self) -> bool:
        """Whether the argument is recognised by its position."""
        return not self.name.startswith("--")

    @property
    def names(self) -> tuple[str, ...]:
        """All names under which the command line takes the option."""
        return (self.name,) if self.off is None else (self.name, self.off)


@dataclass(frozen=True)
class Group:
    """Options of a verb that belong together: its own, or a section of settings."""

    name: str  # `corpus.clean`, or empty for the verb's own
    description: str
    options: tuple[Option, ...]


def sections_of(kind: type[Verb], preset: str) -> dict[str, Section]:
    """Return the values of a preset for the sections of settings that a verb has, by field."""
    names = [n for n, h in get_type_hints(kind).items() if isinstance(h, type)
             and issubclass(h, Section)]  # fmt: skip
    config = PRESETS[preset]()
    return {name: getattr(config, name) for name in names}


def groups(kind: type[Verb], sections: dict[str, Section]) -> list[Group]:
    """Return the options of a verb by group.

    Args:
        kind: class of the verb.
        sections: values of its settings, as `sections_of` returns them.
    """
    own: list[Option] = []
    decoding: list[Option] = []
    others: list[Group] = []
    hints = get_type_hints(kind, include_extras=True)
    described = _descriptions(kind)  # type: ignore[arg-type] # of a frozen dataclass
    for field in fields(kind):
        _, marks = _unwrapped(hints[field.name])
        if tyro.conf.Suppress in marks:
            continue
        if field.name in sections:
            others += _section_groups(field.name, sections[field.name])
        elif (offered := group_of(marks)) is not None:
            decoding += (
                _option(each.name, hint, _doc(hint), each.default)
                for each, hint in _fields_with_hints(offered)
            )
        else:
            own.append(
                _option(field.name, hints[field.name], described[field.name], _default(field))
            )
    own.sort(key=lambda option: (not option.is_positional, option.default is not REQUIRED))
    return [Group("", "", (*own, *decoding)), *others]


def _section_groups(prefix: str, section: Section) -> Iterator[Group]:
    """Yield the settings of a section, then of each section in it."""
    options: list[Option] = []
    inner: list[Group] = []
    for name, setting in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            inner += _section_groups(f"{prefix}.{name}", value)
        else:
            text = setting.description or ""
            options.append(_option(f"{prefix}.{name}", setting.annotation, text, value))
    yield Group(prefix, type(section).__doc__ or "", tuple(options))
    yield from inner


def _option(name: str, hint: Any, description: str, default: object) -> Option:
    annotation, marks = _unwrapped(hint)
    if tyro.conf.Positional in marks:
        shown, off = name.upper(), None
    else:
        *parents, last = name.replace("_", "-").split(".")
        shown = "--" + ".".join([*parents, last])
        off = "--" + ".".join([*parents, f"no-{last}"]) if annotation is bool else None
    value, choices = _value(annotation)
    if NoneType in get_args(annotation) and "None " in description:  # "None: …" is of overrides
        value += "|None"
    if tyro.conf.UseAppendAction in marks:
        value = value.partition(" ")[0]
    variable = next((mark.name for mark in marks if isinstance(mark, Variable)), "")
    return Option(shown, off, value, choices, " ".join(description.split()), default, variable)


def _value(annotation: Any) -> tuple[str, tuple[str, ...]]:
    """Return what values of a type look like, and all of them if they are few."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is bool:
        return "", ()
    if origin is Literal:
        choices = tuple(map(str, parts))
        return "|".join(choices), choices
    if origin in (Union, UnionType):
        [part] = [each for each in parts if each is not NoneType]
        value, choices = ("True|False", ("True", "False")) if part is bool else _value(part)
        return value, (*choices, "None") if choices else ()
    if origin is tuple:
        values = [_value(each)[0] for each in parts if each is not ...]
        return (f"{values[0]} …" if ... in parts else " ".join(values)), ()
    return {int: "INT", float: "FLOAT", Path: "PATH", Location: "PATH"}.get(annotation, "TEXT"), ()


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without its annotations, and these."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    annotation, *marks = get_args(hint)
    return annotation, tuple(marks)


def _fields_with_hints(kind: type) -> list[tuple[Field[Any], Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return [(field, hints[field.name]) for field in fields(kind)]


def _doc(hint: Any) -> str:
    return next(mark.documentation for mark in _unwrapped(hint)[1] if isinstance(mark, Doc))


@cache
def _descriptions(kind: type) -> dict[str, str]:
    """Return the docstrings under the fields of a class and of those that it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        params = docstring_parser.parse_from_object(base).params
        found |= {each.arg_name: each.description or "" for each in params}
    return found


def _default(field: Field[Any]) -> object:
    if field.default is not MISSING:
        return field.default
    return REQUIRED if field.default_factory is MISSING else field.default_factory()
