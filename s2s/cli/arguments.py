"""Command-line arguments: parsed by tyro into a verb, with a preset's values as defaults."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import get_origin, get_type_hints

import tyro

from s2s.cli.config_file import defaults, option_names, read_config_file
from s2s.cli.help import EXAMPLE, explain
from s2s.cli.options import groups, sections_of
from s2s.cli.variables import options_of_variables, values_of_variables
from s2s.cli.verb import Verb
from s2s.errors import BadInput
from s2s.presets import PRESETS, PURPOSES
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
    program, default = f"s2s {name}", tyro.MISSING_NONPROP
    arguments, command = _without_command(kind, arguments)
    _require_lists_once(kind, arguments)
    file = config_file(arguments)
    content = {} if file is None else read_config_file(file)
    content |= values_of_variables(kind)
    sections = sections_of(kind, EXAMPLE)
    preset = ""
    if sections and "preset" in content and arguments[0].startswith("-"):
        arguments = [str(content["preset"]), *arguments]
    if sections and arguments[:1] not in (["-h"], ["--help"]):
        if not arguments or arguments[0].startswith("-"):
            choices = "; ".join(f"{each} {purpose}" for each, purpose in PURPOSES.items())
            raise BadInput(f"{program}: a preset comes first: {choices}")
        if arguments[0] not in PRESETS:
            raise BadInput(
                f"{program}: unknown preset {arguments[0]!r}{did_you_mean(arguments[0], PRESETS)}"
            )
        preset, *arguments = arguments
        program, sections = f"{program} {preset}", sections_of(kind, preset)
    if not {"-h", "--help"}.isdisjoint(arguments):
        print(explain(name, kind, preset or None))
        raise SystemExit
    if sections or content:
        default = defaults(kind, sections, content, file)
    arguments = [*arguments, *options_of_variables(kind, arguments)]
    errors = io.StringIO()
    try:
        with redirect_stderr(errors), _unbroken(), warnings.catch_warnings(action="ignore"):
            parsed: Verb = tyro.cli(kind, prog=program, args=arguments, default=default)
            given = frozenset((*_names(arguments), *option_names(content)))
            return replace(parsed, given=given, preset=preset, command=command)
    except SystemExit as stop:
        if stop.code:
            options = (each for group in groups(kind, sections) for each in group.options)
            known = {name for each in options for name in each.names} | {"--help"}
            reason = _reason(_one_line(errors.getvalue()), arguments, known)
            raise BadInput(f"{reason} (see {program} --help)") from None
        raise


def _without_command(kind: type[Verb], arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the arguments of a verb, and the words after them that are another command."""
    if not kind.takes_command:
        return arguments, ()
    [group] = groups(kind, {})
    with_value = {each.name for each in group.options if each.value}
    before = ""
    for place, argument in enumerate(arguments):
        if not argument.startswith("-") and before not in with_value:
            return arguments[: place + 1], tuple(arguments[place + 1 :])
        before = argument
    return arguments, ()


def config_file(arguments: list[str]) -> Path | None:
    """Return the file that --config names, or None.

    Raises:
        BadInput: --config names none.
    """
    places = [
        number
        for number, argument in enumerate(arguments)
        if argument == "--config" or argument.startswith("--config=")
    ]
    if not places:
        return None
    if len(places) > 1:
        raise BadInput("--config is given twice; put all options into one file")
    name, equals, value = arguments[places[0]].partition("=")
    if not equals:
        value = "".join(arguments[places[0] + 1 : places[0] + 2])
    if not value or value.startswith("--"):
        raise BadInput(f"{name}: name a TOML or YAML file")
    return Path(value)


def _require_lists_once(kind: type[Verb], arguments: list[str]) -> None:
    """Check that an option whose values follow it is given once: only the last one would count.

    Raises:
        BadInput: one is given twice.
    """
    given = [each.partition("=")[0].replace("_", "-") for each in arguments]
    plain = get_type_hints(kind)
    for name, hint in get_type_hints(kind, include_extras=True).items():
        option = f"--{name.replace('_', '-')}"
        repeats = tyro.conf.UseAppendAction in getattr(hint, "__metadata__", ())
        if get_origin(plain[name]) is tuple and not repeats and given.count(option) > 1:
            raise BadInput(f"{option} is given twice; all values follow one {option}")


@contextmanager
def _unbroken() -> Iterator[None]:
    """Keep tyro from breaking what is wrong into lines, and long words with them."""
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _names(arguments: list[str]) -> frozenset[str]:
    """Return the names of the options among some arguments, without their dashes."""
    options = (each for each in arguments if each.startswith("--"))
    return frozenset(each[2:].partition("=")[0].replace("_", "-") for each in options)


def _reason(message: str, arguments: list[str], known: set[str]) -> str:
    """Return what is wrong with arguments, in plain words.

    Args:
        message: what tyro says of them.
        known: names of the options.
    """
    given = (each.partition("=")[0].replace("_", "-") for each in arguments)
    for name in given:
        if name.startswith("--") and name not in known:
            return f"unknown option {name}{did_you_mean(name, known)}"
    if message.startswith("Unrecognized options: "):
        [extra] = re.findall(r"Unrecognized options: (.*?)(?: Perhaps you meant.*)?$", message)
        return f"unexpected {extra!r}; text with spaces must be in quotation marks"
    if message.startswith("Missing from"):
        names = re.findall(r"(--[\w.-]+) [A-Z\[]", message)
        if names:
            return f"missing: {', '.join(dict.fromkeys(names))}"
        positional = re.search(r": \S+ (.+?)\.? \(required\)", message)
        return f"missing: {positional[1].lower()}" if positional else message
    if choice := re.match(
        r"invalid choice (.*) for argument '(.*)'\. Expected .*\((.*)\)", message
    ):
        expected = choice[3].replace("'", "").rstrip(",")
        return f"{choice[2]}: expected one of {expected}, not {choice[1]}"
    if fault := re.match(
        r"Error parsing ([\w.]+): (?:(\w+) Input should|Value error,) (.*)", message
    ):
        section, setting, rule = fault.groups()
        if setting is None:  # a rule on several settings
            return f"{section}: {rule}"
        return f"--{section}.{setting.replace('_', '-')}: must {rule}"
    if fault := re.match(r"Error parsing (\S+): (.*)", message):
        [given] = re.findall(r"'([^']*)'\]?$|$", fault[2])[:1]
        kinds = [word for sign, word in _KINDS.items() if re.search(sign, fault[2])]
        if len(kinds) == 1:
            return f"{fault[1]}: {kinds[0]} is needed, not {given!r}"
    return message


# By what tyro's errors tell the kinds of values, and what people call them.
_KINDS = {r"\bINT\b|for int\(\)": "a whole number", r"\bFLOAT\b|to float": "a number"}


def _one_line(box: str) -> str:
    """Return the text of an error box of tyro as one line: logs and scripts want no boxes."""
    lines = [line.strip("│| ") for line in box.splitlines()[1:]]  # the first is the box's title
    text = " ".join(line for line in lines if not set(line) <= set("─╰╯-+"))
    text = re.sub(r"For full helptext.*|Argument helptext:.*|\[type=.*?\]", "", text)
    text = re.sub(r"For further information visit \S+|1 validation error for \w+ ", "", text)
    return " ".join(text.split())
