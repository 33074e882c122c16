"""What a verb of the `s2s` command is, and the options that several verbs share."""

from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import Any, Protocol

import tyro

from s2s.overrides import Override, dataclass_fields, overridden


class Verb(Protocol):
    """The parsed arguments of a verb, which do its work."""

    def run(self) -> None:
        """Do the work; raises the errors of `s2s.errors`."""


class DecodingOptions(Protocol):
    """Options that override a model's own decoding settings."""

    def settings(self) -> Mapping[str, object]:
        """Return the settings that were given, by name."""


class _Options:
    def settings(self) -> Mapping[str, object]:
        """Return the settings that were given, by name."""
        return overridden(self, self._offered)  # type: ignore[attr-defined]


def decoding_options(offered: tuple[Override, ...]) -> Any:
    """Return the annotation of a field of type `DecodingOptions` that offers some settings.

    On the command line each setting is an option of its own.
    """
    kind = make_dataclass(
        "Options",
        dataclass_fields(offered),
        bases=(_Options,),
        namespace={"_offered": offered},
        frozen=True,
    )
    return tyro.conf.arg(name="", constructor=kind)
