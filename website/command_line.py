"""The reference of the command line as Markdown, made from the options of each verb.

It needs no more than s2s itself: the hooks of the site use it, and a test checks it.
"""

import inspect
import re
from collections.abc import Iterator

from s2s.cli.options import REQUIRED, Group, Option, groups, sections_of
from s2s.cli.verb import Verb
from s2s.cli.verbs import VERBS
from s2s.presets import PRESETS

_SHOWN = "base"  # preset whose options give the order
_PRESETS_NOTE = (
    f"`PRESET` is {', '.join(f'`{name}`' for name in PRESETS)}. "
    "Where the presets differ, each default is followed by the presets that have it."
)


def reference() -> str:
    """Return the text of the reference: a section for each verb."""
    return "\n\n".join(
        paragraph for verb, kind in VERBS.items() for paragraph in _section(verb, kind)
    )


def _section(verb: str, kind: type[Verb]) -> Iterator[str]:
    """Yield the paragraphs on a verb."""
    sections = sections_of(kind, _SHOWN)
    listed = groups(kind, sections)
    yield f"## s2s {verb}"
    for paragraph in (inspect.getdoc(kind) or "").split("\n\n"):
        yield _escaped(" ".join(paragraph.split()))
    needed = [each for each in listed[0].options if each.default is REQUIRED]
    words = [*map(_written, needed)]
    words = ["[OPTIONS]", *words, "…"] if kind.takes_command else [*words, "[OPTIONS]"]
    words = ["s2s", verb, "PRESET" if sections else "", *words]
    yield f"    {' '.join(filter(None, words))}"
    if sections:
        yield _PRESETS_NOTE
    values = {
        preset: {
            option.name: option.default
            for group in groups(kind, sections_of(kind, preset))
            for option in group.options
        }
        for preset in (PRESETS if sections else [_SHOWN])
    }
    for group in listed:
        yield from _group(verb, group, values)


def _group(verb: str, group: Group, values: dict[str, dict[str, object]]) -> Iterator[str]:
    """Yield the paragraphs on a group of options: a definition for each.

    Args:
        values: defaults of all options, by preset and name.
    """
    if group.name:
        yield f"### s2s {verb}: {group.name} options"
    if group.description:
        yield _escaped(" ".join(group.description.split()))
    for option in group.options:
        names = f"`{_written(option)}`" + (f" or `{option.off}`" if option.off else "")
        # "None: …" says what holds where the option is not given: nobody writes None.
        text, _, otherwise = option.description.partition(" None: ")
        default = f"*Default:* {_escaped(otherwise)}" if otherwise else _default(option, values)
        yield f"{names}\n:   {_escaped(text)} {default}".rstrip()


def _written(option: Option) -> str:
    """Return how an option is written, with its value."""
    return f"{option.name} {option.value}".rstrip() if not option.is_positional else option.name


def _default(option: Option, values: dict[str, dict[str, object]]) -> str:
    """Return what holds where an option is not given."""
    if option.default is REQUIRED:
        return "*Required.*"
    presets: dict[str, list[str]] = {}
    for preset, defaults in values.items():
        presets.setdefault(_shown(defaults[option.name]), []).append(f"`{preset}`")
    if len(presets) > 1:
        each = "; ".join(f"`{value}` ({', '.join(names)})" for value, names in presets.items())
        return f"*Default:* {each}."
    value = _shown(option.default)
    # None is worth a word only where the description says what it stands for.
    is_clear = value == "" or (value == "None" and not option.value.endswith("None"))
    return "" if is_clear or value == "off" else f"*Default:* `{value}`."


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _escaped(text: str) -> str:
    """Return text with what Markdown would read as markup made plain, but for code."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_<>\[\]|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
