"""Command-line arguments: parsed by tyro into a verb, with a preset's values as defaults."""

import io
import re
import warnings
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff

from s2s.cli.config_file import defaults, option_names, read_config_file
from s2s.cli.variables import options_of_variables, values_of_variables
from s2s.cli.verb import Verb
from s2s.config import Section
from s2s.errors import BadInput
from s2s.presets import PRESETS
from s2s.suggestions import did_you_mean


def parse(name: str, kind: type[Verb], arguments: list[str]) -> Verb:
    """Return a verb with its arguments.

    Args:
        name: what the verb is called on the command line.
        kind: class of the verb.
        arguments: those after the verb; a preset first, if the verb has settings and no file names
            it.

    Raises:
        BadInput: an option is unknown or missing, or has a bad value, also in the file of --config.
        SystemExit: help was asked for, and printed.
    """
    hints = get_type_hints(kind)
    sections = [n for n, h in hints.items() if isinstance(h, type) and issubclass(h, Section)]
    program, default = f"s2s {name}", tyro.MISSING_NONPROP
    _require_lists_once(kind, arguments)
    file = _config_file(arguments)
    content = {} if file is None else read_config_file(file)
    content |= values_of_variables(kind)
    preset, start = "", {}
    if sections:
        if "preset" in content and (not arguments or arguments[0].startswith("-")):
            arguments = [str(content["preset"]), *arguments]
        if arguments[:1] in (["-h"], ["--help"]):
            arguments = ["seed", *arguments]
        if not arguments or arguments[0].startswith("-"):
            raise BadInput(
                f"{program}: a preset comes first: {' or '.join(PRESETS)} "
                "(base for a corpus of your own, seed for the tutorial's model)"
            )
        if arguments[0] not in PRESETS:
            raise BadInput(
                f"{program}: unknown preset {arguments[0]!r}{did_you_mean(arguments[0], PRESETS)}"
            )
        preset, *arguments = arguments
        program, config = f"{program} {preset}", PRESETS[preset]()
        start = {name: getattr(config, name) for name in sections}
    if sections or content:
        default = defaults(kind, start, content, file)
    arguments = [*arguments, *options_of_variables(kind, arguments)]
    errors = io.StringIO()
    try:
        with redirect_stderr(errors), warnings.catch_warnings(action="ignore"):
            parsed: Verb = tyro.cli(
                kind, prog=program, args=arguments, default=default, config=(FlagCreatePairsOff,)
            )
            given = frozenset((*_names(arguments), *option_names(content)))
            return replace(parsed, given=given, preset=preset)
    except SystemExit as stop:
        if stop.code:
            reason = _reason(_one_line(errors.getvalue()), arguments, kind, default)
            raise BadInput(f"{reason} (see {program} --help)") from None
        raise


def _config_file(arguments: list[str]) -> Path | None:
    """Return the file that --config names, or None.

    Raises:
        BadInput: --config names none.
    """
    for number, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
        if argument == "--config":
            if number + 1 == len(arguments):
                raise BadInput("--config: name a TOML or YAML file")
            return Path(arguments[number + 1])
    return None


def _require_lists_once(kind: type[Verb], arguments: list[str]) -> None:
    """Check that an option whose values follow it is given once: only the last one would count.

    Raises:
        BadInput: one is given twice.
    """
    given = [each.partition("=")[0].replace("_", "-") for each in arguments]
    for name, hint in get_type_hints(kind).items():
        option = f"--{name.replace('_', '-')}"
        if get_origin(hint) is tuple and given.count(option) > 1:
            raise BadInput(f"{option} is given twice; all values follow one {option}")


def _names(arguments: list[str]) -> frozenset[str]:
    """Return the names of the options among some arguments, without their dashes."""
    options = (each for each in arguments if each.startswith("--"))
    return frozenset(each[2:].partition("=")[0].replace("_", "-") for each in options)


def _reason(message: str, arguments: list[str], kind: type[Verb], default: Any) -> str:
    """Return what is wrong with arguments, in plain words.

    Args:
        message: what tyro says of them.
        kind: class of the verb.
        default: of the verb, as tyro takes it.
    """
    if message.startswith("Unrecognized options: "):
        known = _option_names(kind, default)
        given = (each.partition("=")[0].replace("_", "-") for each in arguments)
        for name in given:
            if name.startswith("--") and name not in known:
                return f"unknown option {name}{did_you_mean(name, known)}"
        [extra] = re.findall(r"Unrecognized options: (.*?)(?: Perhaps you meant.*)?$", message)
        return f"unexpected {extra!r}; text with spaces must be in quotation marks"
    if message.startswith("Missing from"):
        names = re.findall(r"(--[\w.-]+) [A-Z\[]", message)
        if names:
            return f"missing: {', '.join(dict.fromkeys(names))}"
        positional = re.search(r": [A-Z]+ (.+?)\.? \(required\)", message)
        return f"missing: {positional[1].lower()}" if positional else message
    if fault := re.match(r"Error parsing (\S+): (.*)", message):
        [given] = re.findall(r"'([^']*)'\]?$|$", fault[2])[:1]
        kinds = [word for sign, word in _KINDS.items() if re.search(sign, fault[2])]
        if len(kinds) == 1:
            return f"{fault[1]}: {kinds[0]} is needed, not {given!r}"
    return message


# By what tyro's errors tell the kinds of values, and what people call them.
_KINDS = {r"\bINT\b|for int\(\)": "a whole number", r"\bFLOAT\b|to float": "a number"}


def _option_names(kind: type[Verb], default: Any) -> set[str]:
    """Return the options of a verb, as its help has them."""
    text = io.StringIO()
    with suppress(SystemExit), redirect_stdout(text), warnings.catch_warnings(action="ignore"):
        tyro.cli(kind, args=["--help"], default=default, config=(FlagCreatePairsOff,))
    return set(re.findall(r"--[a-z][\w.-]*", text.getvalue()))


def _one_line(box: str) -> str:
    """Return the text of an error box of tyro as one line: logs and scripts want no boxes."""
    lines = [line.strip("│| ") for line in box.splitlines()[1:]]  # the first is the box's title
    text = " ".join(line for line in lines if not set(line) <= set("─╰╯-+"))
    text = re.sub(r"For full helptext.*|Argument helptext:.*|\[type=.*?\]", "", text)
    text = re.sub(r"For further information visit \S+|1 validation error for \w+ ", "", text)
    return " ".join(text.split())
