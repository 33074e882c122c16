"""Settings that a command, a request or a deployment offers to override.

A setting is described once, where `s2s.config` declares it: its type, its bounds, and the docstring
that explains it. An interface only names the settings that it offers, and may lower the greatest
value of some. All of its fields default to None, which leaves a setting as the model has it:

    offered = overrides(DecodeConfig, ("beam", "seed"), at_most={"beam": 16})
    Request = create_model("Request", **pydantic_fields(offered))     # HTTP, Serve's arguments
    Flags = make_dataclass("Flags", dataclass_fields(offered))        # a command line, by tyro
    DecodeConfig().changed(**overridden(Flags(beam=4), offered))
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Le
from pydantic import Field
from typing_extensions import Doc

from s2s.config import DecodeConfig, Section

# A sentence that says what None stands for in the config. As an override None stands for the
# model's own value.
_NONE = re.compile(r"\s*\bNone [^.]*\.")


@dataclass(frozen=True)
class Override:
    """A setting as an interface offers it."""

    name: str
    annotation: Any  # its type, or None
    constraints: tuple[Any, ...]  # its bounds, of `annotated_types`
    description: str


def overrides(
    section: type[Section],
    names: Sequence[str],
    at_most: Mapping[str, float] | None = None,
    default: str = "",
) -> tuple[Override, ...]:
    """Return the named settings of a section, for an interface that offers to override them.

    Args:
        section: the group of settings, such as `DecodeConfig`.
        names: its fields, in the order in which the interface shows them.
        at_most: greatest values of some of them, instead of the section's own.
        default: a sentence that ends each description, such as "None: the model's own."

    Raises:
        KeyError: the section has no such field.
    """
    limits = at_most or {}
    if unknown := limits.keys() - set(names):
        raise KeyError(f"at_most: {', '.join(sorted(unknown))} not among the names")
    offered = []
    for name in names:
        setting = section.model_fields[name]
        constraints = tuple(setting.metadata)
        if name in limits:
            own = (bound for bound in constraints if not isinstance(bound, Le))
            constraints = (*own, Le(limits[name]))
        kind: Any = setting.annotation
        words = f"{_NONE.sub('', setting.description or '')} {default}".split()
        offered.append(Override(name, kind | None, constraints, " ".join(words)))
    return tuple(offered)


def pydantic_fields(offered: Iterable[Override]) -> dict[str, Any]:
    """Return fields for `pydantic.create_model`, which are validated by the bounds."""
    return {
        each.name: (
            Annotated[(each.annotation, Doc(each.description), *each.constraints)],
            Field(default=None, description=each.description),
        )
        for each in offered
    }


def dataclass_fields(offered: Iterable[Override]) -> list[tuple[str, Any, Any]]:
    """Return fields for `dataclasses.make_dataclass`, whose descriptions tyro shows as help.

    A dataclass does not validate: what was given is checked when it is put into the section.
    """
    return [
        (each.name, Annotated[each.annotation, Doc(each.description)], field(default=None))
        for each in offered
    ]


def overridden(values: object, offered: Iterable[Override]) -> dict[str, object]:
    """Return the settings that an object of such fields overrides: those that are not None."""
    given = {each.name: getattr(values, each.name) for each in offered}
    return {name: value for name, value in given.items() if value is not None}


# ---- decoding ----
#
# Each interface offers all settings of `DecodeConfig` but those that it leaves out: a new setting
# appears in all of them.

_FIXED = frozenset({"max_length", "max_ratio", "min_ratio", "batch_size", "max_source"})
_SAMPLING = frozenset({"n_best", "temperature", "top_k", "top_p", "seed"})

# Wider searches would take the time and memory of a replica from all other requests.
_SERVED_AT_MOST = {"beam": 16, "n_best": 16, "top_k": 100_000}


def _decoding(left_out: frozenset[str], at_most: Mapping[str, float]) -> tuple[Override, ...]:
    names = [name for name in DecodeConfig.model_fields if name not in left_out]
    limits = {name: limit for name, limit in at_most.items() if name in names}
    return overrides(DecodeConfig, names, limits, "None: the model's own.")


COMMAND_OVERRIDES = _decoding(_FIXED, {})
"""Settings that `s2s translate` offers."""

MODEL_OVERRIDES = _decoding(_FIXED | _SAMPLING, _SERVED_AT_MOST)
"""Settings that hold for all that a model translates: of `s2s evaluate` and `compare`."""

SERVICE_OVERRIDES = _decoding(_FIXED | _SAMPLING, _SERVED_AT_MOST)
"""The same of `s2s serve` and of the arguments of the Serve application."""

REQUEST_OVERRIDES = _decoding(_FIXED | {"precision", "shortlist"}, _SERVED_AT_MOST)
"""Settings that a request to `/v1/translate` offers."""
