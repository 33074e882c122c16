"""The help: the verbs, and every option of a verb, in lines that fit the terminal."""

import inspect
import shutil
from collections.abc import Iterator, Mapping
from textwrap import wrap

from s2s.cli.options import REQUIRED, Group, Option, groups, sections_of
from s2s.cli.verb import Verb
from s2s.presets import PRESETS

EXAMPLE = "base"  # preset whose values the help shows where none was named

_NARROWEST, _WIDEST = 40, 100  # lines longer than this are hard to read
_WIDE = 70  # from here on, descriptions are to the right of the names
_COLUMN = 30  # where descriptions start to the right of the names
_INDENT = 6  # where they start below the names


def overview(verbs: Mapping[str, type[Verb]]) -> str:
    """Return the help of the command: what each verb is for."""
    width = _width()
    lines = [
        *_wrapped(
            "Train and serve LSTM sequence-to-sequence translators, on a laptop or on Ray.", width
        ),
        "",
        "usage: s2s VERB [OPTIONS]",
        "",
    ]
    for verb, kind in verbs.items():
        lines += _entry(f"s2s {verb}", summary(kind), width, column=18)
    for paragraph in (
        f"`s2s help VERB` explains a verb. Verbs with settings take a preset first "
        f"({', '.join(PRESETS)}): `s2s help VERB PRESET` shows its values. `s2s --version` prints "
        "the version, and `s2s completion SHELL` a script that completes commands.",
        "Exit codes: 0 done, 1 failed, 2 bad input, 3 stopped but resumable.",
    ):
        lines += ["", *_wrapped(paragraph, width)]
    return "\n".join(lines)


def explain(verb: str, kind: type[Verb], preset: str | None) -> str:
    """Return the help of a verb.

    Args:
        verb: its name on the command line.
        kind: its class.
        preset: name of the preset whose values to show, or None if the user named none.
    """
    width = _width()
    sections = sections_of(kind, preset or EXAMPLE)
    listed = groups(kind, sections)
    first = (preset or "PRESET") if sections else ""
    lines = [*_usage(verb, first, listed[0], width, takes_command=kind.takes_command), ""]
    lines += _paragraphs(inspect.getdoc(kind) or "", width)
    if sections and preset is None:
        *others, last = PRESETS
        named = f"PRESET is {', '.join(others)} or {last}. The defaults below are the values of"
        lines += ["", *_wrapped(f"{named} {EXAMPLE}.", width)]
    for group in listed:
        positional = [each for each in group.options if each.is_positional]
        options = [each for each in group.options if not each.is_positional]
        if positional:
            lines += ["", "arguments:", *_explained(positional, width)]
        lines += ["", f"{group.name} options:".lstrip()]
        lines += _paragraphs(group.description, width, "  ")
        lines += _explained(options, width)
        if not group.name:
            lines += _entry("-h, --help", "Show this help.", width)
    return "\n".join(lines)


def summary(kind: type[Verb]) -> str:
    """Return the first paragraph of what a verb says of itself."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _width() -> int:
    """Return the number of characters of a line."""
    return min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)


def _usage(verb: str, preset: str, own: Group, width: int, *, takes_command: bool) -> Iterator[str]:
    """Yield the lines of the usage: the command with what it cannot do without."""
    words = []
    for option in own.options:
        if option.default is REQUIRED:
            words.append(_invocation(option))
        elif option.is_positional:
            words.append(f"[{_invocation(option)}]")
    if takes_command:
        words = ["[OPTIONS]", *(each.name for each in own.options if each.is_positional), "…"]
    else:
        words.append("[OPTIONS]")
    yield from _wrapped(
        " ".join(filter(None, ["usage: s2s", verb, preset, *words])), width, "", "    "
    )


def _explained(options: list[Option], width: int) -> Iterator[str]:
    for option in options:
        # "None: …" says what holds where the option is not given: nobody writes None.
        description, _, otherwise = option.description.partition(" None: ")
        default = f"(default: {otherwise.rstrip('.')})" if otherwise else _default(option)
        if option.variable:
            default = f"{default[:-1]}; " if default else "("
            default += f"variable {option.variable})"
        yield from _entry(_invocation(option), f"{description} {default}", width)


def _invocation(option: Option) -> str:
    """Return how an option is written, with its value."""
    if option.is_positional:
        name = "|".join(option.choices) or option.name
        return f"{name} …" if option.value.endswith("…") else name
    if option.default is True and option.off is not None:
        return f"{option.name}, {option.off}"
    return f"{option.name} {option.value}".rstrip()


def _default(option: Option) -> str:
    """Return what holds where an option is not given, in parentheses."""
    default = option.default
    if default is REQUIRED:
        return "(required)"
    if option.off is not None:
        if default:
            return f"(default: on; {option.off} turns it off)"
        return "(default: off)" if "." in option.name else ""  # obvious for a verb's own flags
    # None is worth a word only where the description says what it stands for.
    if default == () or (default is None and not option.value.endswith("None")):
        return ""
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return f"(default: {shown})"


def _entry(names: str, description: str, width: int, column: int = _COLUMN) -> Iterator[str]:
    """Yield the lines of an option or verb: its names, and its description beside or below them."""
    column = column if width >= _WIDE else _INDENT
    described = _wrapped(description, width, " " * column, " " * column)
    if len(names) + 4 <= column:
        first = next(described, "")
        yield f"  {names}".ljust(column) + first[column:]
    else:
        yield from _wrapped(names, width, "  ", "    ")
    yield from described


def _paragraphs(text: str, width: int, indent: str = "") -> Iterator[str]:
    for number, paragraph in enumerate(filter(None, text.split("\n\n"))):
        if number:
            yield ""
        yield from _wrapped(paragraph, width, indent, indent)


def _wrapped(text: str, width: int, first: str = "", others: str = "") -> Iterator[str]:
    """Yield lines that break at spaces alone: an option or a path stays whole."""
    yield from wrap(" ".join(text.split()), width, initial_indent=first, subsequent_indent=others,
                    break_long_words=False, break_on_hyphens=False)  # fmt: skip
