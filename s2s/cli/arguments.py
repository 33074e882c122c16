"""Command-line arguments: parsed by tyro into a verb, with a preset's values as defaults."""

import io
import re
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff

from s2s.cli.verb import Verb
from s2s.config import Section
from s2s.errors import BadInput
from s2s.presets import PRESETS


def parse(name: str, kind: type[Verb], arguments: list[str]) -> Verb:
    """Return a verb with its arguments.

    Args:
        name: what the verb is called on the command line.
        kind: class of the verb.
        arguments: those after the verb; a preset first, if the verb has settings.

    Raises:
        BadInput: an option is unknown or missing, or has a bad value.
        SystemExit: help was asked for, and printed.
    """
    hints = get_type_hints(kind)
    sections = [n for n, h in hints.items() if isinstance(h, type) and issubclass(h, Section)]
    program, default = f"s2s {name}", tyro.MISSING_NONPROP
    if sections:
        if arguments[:1] in (["-h"], ["--help"]):
            arguments = ["seed", *arguments]
        if not arguments or arguments[0] not in PRESETS:
            instead = f", not {arguments[0]!r}" if arguments else ""
            raise BadInput(f"{program}: a preset comes first: {' or '.join(PRESETS)}{instead}")
        program, preset = f"{program} {arguments[0]}", PRESETS[arguments[0]]()
        default = _defaults(kind, {name: getattr(preset, name) for name in sections})
        arguments = arguments[1:]
    errors = io.StringIO()
    try:
        with redirect_stderr(errors), warnings.catch_warnings(action="ignore"):
            parsed: Verb = tyro.cli(
                kind, prog=program, args=arguments, default=default, config=(FlagCreatePairsOff,)
            )
            if is_dataclass(parsed) and "given" in hints:
                return replace(parsed, given=_names(arguments))
            return parsed
    except SystemExit as stop:
        if stop.code:
            raise BadInput(f"{_one_line(errors.getvalue())} (see {program} --help)") from None
        raise


def _names(arguments: list[str]) -> frozenset[str]:
    """Return the names of the options among some arguments, without their dashes."""
    options = (each for each in arguments if each.startswith("--"))
    return frozenset(each[2:].partition("=")[0].replace("_", "-") for each in options)


def _defaults(kind: Any, sections: Mapping[str, Section]) -> Any:
    """Return a verb with the sections of a preset; what must be given is marked as missing."""
    required = {field.name: tyro.MISSING for field in fields(kind) if _is_required(field)}
    return kind(**{**required, **sections})


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _one_line(box: str) -> str:
    """Return the text of an error box of tyro as one line: logs and scripts want no boxes."""
    lines = [line.strip("│| ") for line in box.splitlines()[1:]]  # the first is the box's title
    text = " ".join(line for line in lines if not set(line) <= set("─╰╯-+"))
    text = re.sub(r"For full helptext.*|Argument helptext:.*|\[type=.*?\]", "", text)
    text = re.sub(r"For further information visit \S+|1 validation error for \w+ ", "", text)
    return " ".join(text.split())
