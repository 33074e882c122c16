"""What a verb of the `s2s` command is, and the options that several verbs share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import tyro

from s2s.overrides import Override, dataclass_fields, overridden


@dataclass(frozen=True)
class Verb:
    """The parsed arguments of a verb, which do its work."""

    # Whether the words after the positional argument are another command.
    takes_command: ClassVar[bool] = False

    config: Path | None = field(default=None, kw_only=True)
    """TOML or YAML file of options, such as the config.yaml that a training run leaves; options on
    the command line take precedence."""

    given: Annotated[frozenset[str], tyro.conf.Fixed, tyro.conf.Suppress] = field(
        default=frozenset(), kw_only=True
    )
    """Names of the options that the user gave, without their dashes."""

    preset: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = field(default="", kw_only=True)
    """Preset that the settings began with, of a verb that has settings."""

    command: Annotated[tuple[str, ...], tyro.conf.Fixed, tyro.conf.Suppress] = field(
        default=(), kw_only=True
    )
    """Words of another command after the positional argument, of a verb that takes one."""

    def run(self) -> None:
        """Do the work; raises the errors of `s2s.errors`."""
        raise NotImplementedError


class DecodingOptions(Protocol):
    """Options that override a model's own decoding settings."""

    def settings(self) -> Mapping[str, object]:
        """Return the settings that were given, by name."""


class _Options:
    def settings(self) -> Mapping[str, object]:
        """Return the settings that were given, by name."""
        return overridden(self, self._offered)  # type: ignore[attr-defined]


def group_of(annotations: Iterable[object]) -> type | None:
    """Return the dataclass whose fields are options of a verb, given the annotations of a field.

    None if the field is an option by itself.
    """
    return next((each for each in annotations if isinstance(each, type)), None)


def decoding_options(offered: tuple[Override, ...]) -> tuple[Any, type]:
    """Return annotations of a field of type `DecodingOptions` that offers some settings.

    On the command line, and in a file of options, each setting is an option of its own.
    """
    kind = make_dataclass(
        "Options",
        dataclass_fields(offered),
        bases=(_Options,),
        namespace={"_offered": offered},
        frozen=True,
    )
    return tyro.conf.arg(name="", constructor=kind), kind
