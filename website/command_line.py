"""The reference of the command line, made of what `s2s help` prints.

It needs no more than s2s itself: the hooks of the site use it, and a test checks it.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import get_type_hints

from s2s.cli.arguments import parse
from s2s.cli.verbs import VERBS
from s2s.config import Section
from s2s.presets import PRESETS

# Columns of the help that is read: wide, but too narrow for two boxes side by side.
_WIDTH = 100


@dataclass
class Option:
    """An option of a verb, or an argument that has a place instead of a name."""

    spelling: str
    """How it is written: `--beam INT`."""

    text: str
    """What it does, without its default."""

    default: str | None
    """Its default; None if it must be given."""


@dataclass
class Group:
    """Options that the help shows in one box."""

    title: str
    description: str = ""
    options: list[Option] = field(default_factory=list)


@dataclass(frozen=True)
class Help:
    """What `s2s help VERB` says."""

    usage: str
    summary: str
    groups: list[Group]


def has_presets(verb: str) -> bool:
    """Return whether a verb takes a preset first."""
    hints = get_type_hints(VERBS[verb]).values()
    return any(isinstance(hint, type) and issubclass(hint, Section) for hint in hints)


def help_of(verb: str, preset: str | None = None) -> Help:
    """Return the help of a verb."""
    written = io.BytesIO()
    printed = io.TextIOWrapper(written, encoding="utf-8")  # else the boxes are drawn in ASCII
    arguments = ["--help"] if preset is None else [preset, "--help"]
    with _columns(_WIDTH), redirect_stdout(printed), suppress(SystemExit):
        parse(verb, VERBS[verb], arguments)
    printed.flush()
    return read_help(written.getvalue().decode())


def read_help(text: str) -> Help:
    """Return what printed help says."""
    before, *boxes = re.split(r"^╭─ (.*?) ─*╮$", text, flags=re.MULTILINE)
    usage, _, summary = before.strip().partition("\n")
    titles, bodies = boxes[::2], boxes[1::2]
    groups = [_group(title, body) for title, body in zip(titles, bodies, strict=True)]
    return Help(usage.removeprefix("usage: "), " ".join(summary.split()), groups)


def reference() -> str:
    """Return the Markdown text of the reference: a section for each verb."""
    return "\n\n".join(_section(verb) for verb in VERBS)


def _section(verb: str) -> str:
    if not has_presets(verb):
        shown = help_of(verb)
        parts = [_heading(verb, shown.usage, shown.summary)]
        for group in shown.groups:
            parts += _group_text(verb, group, {})
        return "\n\n".join(parts)
    helps = {preset: help_of(verb, preset) for preset in PRESETS}
    shown = helps["base"]
    usage = shown.usage.replace(f"{verb} base", f"{verb} PRESET")
    parts = [_heading(verb, usage, shown.summary), _PRESETS_NOTE]
    others = {
        preset: {_name(o.spelling): o for group in each.groups for o in group.options}
        for preset, each in helps.items()
    }
    for group in shown.groups:
        parts += _group_text(verb, group, others)
    return "\n\n".join(parts)


_PRESETS_NOTE = (
    f"`PRESET` is {', '.join(f'`{name}`' for name in PRESETS)}. "
    "Where the presets differ, each default is followed by the presets that have it."
)


def _heading(verb: str, usage: str, summary: str) -> str:
    return f"## s2s {verb}\n\n{_escaped(summary)}\n\n    {usage}"


def _group_text(verb: str, group: Group, presets: dict[str, dict[str, Option]]) -> list[str]:
    """Return the paragraphs of a group: a definition for each option."""
    is_section = group.title not in ("options", "positional arguments")
    parts = [f"### s2s {verb}: {group.title}"] if is_section else []
    if group.description:
        parts.append(_escaped(group.description))
    for option in group.options:
        if option.spelling.startswith("-h,"):
            continue
        shown = _positive(option, presets)
        spelling = f"`{_plain(shown.spelling)}`"
        if any(_negated(each.spelling) for each in _same(option, presets)):
            spelling += f" or `{_negative(shown.spelling)}`"
        parts.append(f"{spelling}\n:   {_escaped(shown.text)} {_default(option, presets)}".rstrip())
    return parts


def _same(option: Option, presets: dict[str, dict[str, Option]]) -> list[Option]:
    name = _name(option.spelling)
    return [by_name[name] for by_name in presets.values() if name in by_name] or [option]


def _positive(option: Option, presets: dict[str, dict[str, Option]]) -> Option:
    """Return an option as the presets have it in which it is off, if there is one."""
    positive = [each for each in _same(option, presets) if not _negated(each.spelling)]
    if positive:
        return positive[0]
    spelling = re.sub(r"(^--|\.)no-", r"\1", option.spelling)
    return Option(spelling, option.text, option.default)


def _default(option: Option, presets: dict[str, dict[str, Option]]) -> str:
    if option.default is None:
        return "*Required.*"
    name = _name(option.spelling)
    by_default: dict[str, list[str]] = {}
    for preset, options in presets.items():
        if name in options:
            by_default.setdefault(options[name].default or "", []).append(f"`{preset}`")
    if len(by_default) < 2:
        return f"*Default:* `{option.default}`." if option.default not in _UNSAID else ""
    each = "; ".join(f"`{value}` ({', '.join(names)})" for value, names in by_default.items())
    return f"*Default:* {each}."


# Defaults that the text of an option implies.
_UNSAID = frozenset({"", "None", "False"})


def _plain(spelling: str) -> str:
    """Return a spelling as people write it, without the marks for what may be left out."""
    spelling = spelling.replace("{None}|", "").replace("{None,", "{")
    return re.sub(r"\[+(\S+) \[\1 \.\.\.\]+", r"\1 …", spelling)


def _negated(spelling: str) -> bool:
    return re.match(r"--(\S+\.)?no-", spelling) is not None


def _negative(spelling: str) -> str:
    *section, name = spelling.removeprefix("--").split(".")
    return "--" + ".".join([*section, f"no-{name}"])


def _name(spelling: str) -> str:
    """Return the name by which an option is the same in all presets."""
    return re.sub(r"(^--|\.)no-", r"\1", spelling.partition(" ")[0])


def _group(title: str, body: str) -> Group:
    group = Group(title)
    lines = [line[1:-1].rstrip() for line in body.splitlines() if line.startswith("│")]
    rule = next((i for i, line in enumerate(lines) if set(line.strip()) == {"─"}), -1)
    group.description = " ".join(line.strip() for line in lines[:rule]) if rule > 0 else ""
    for line in lines[rule + 1 :]:
        if line.startswith(" ") and not line.startswith("  "):
            spelling, _, text = re.sub(r"\s{2,}", "\0", line.strip(), count=1).partition("\0")
            group.options.append(Option(spelling, text, ""))
        elif group.options:
            option = group.options[-1]
            option.text = f"{option.text} {line.strip()}".strip()
    for option in group.options:
        option.text, option.default = _split_default(option.text)
    return group


def _split_default(text: str) -> tuple[str, str | None]:
    """Return the text of an option without its default, and the default."""
    if text.endswith("(required)"):
        return text.removesuffix("(required)").strip(), None
    found = re.search(r" ?\((?:default|repeatable|optional)[^()]*(?:\([^()]*\)[^()]*)*\)$", text)
    if not found:
        return text, ""
    default = re.search(r"default(?: if used)?: (.*)\)$", found[0])
    return text[: found.start()].strip(), default[1] if default else ""


def _escaped(text: str) -> str:
    """Return text with what Markdown would read as markup made plain, but for code."""
    parts = text.split("`")
    plain = [re.sub(r"([\\*_<>\[\]|])", r"\\\1", part) for part in parts[::2]]
    parts[::2] = plain
    return "`".join(parts)


@contextmanager
def _columns(width: int) -> Iterator[None]:
    """Have help printed for a terminal of some width."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
