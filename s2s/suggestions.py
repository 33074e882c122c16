"""What a user probably meant by a name that does not exist."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the known one that was probably meant.

    The last part of a dotted name may be given alone, or the initials of its words: `epochs`, `lr`.
    If none is like it, a few known names are listed.
    """
    names = sorted(known)
    last = _last(name)
    alike = [each for each in names if last in (_last(each), _initials(_last(each)))]
    alike = alike or difflib.get_close_matches(name, names, 1, 0.5)
    if not alike:
        return f"; expected one of {', '.join(names)}" if len(names) <= 20 else ""
    return f"; did you mean {min(alike, key=lambda each: (each.count('.'), len(each)))}?"


def _last(name: str) -> str:
    """Return the last part of a dotted name, with its words parted by hyphens."""
    return name.lstrip("-").rpartition(".")[2].replace("_", "-")


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("-"))
