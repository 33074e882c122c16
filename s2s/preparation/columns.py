"""Choice of the two columns that hold the source and target of a table."""

import re
from collections.abc import Sequence
from functools import lru_cache

from s2s.errors import BadInput
from s2s.preparation.sources import Source
from s2s.text.languages import find_code, language_names

# Names in use, besides names of the languages.
_USUAL = (("source", "target"), ("src", "tgt"), ("src", "trg"))


def named_columns(names: Sequence[str], source: Source, label: str) -> tuple[int, int]:
    """Return the positions of source and target among named columns.

    They are the ones that the user names, or else those with the codes (in any spelling) or names
    of the languages (`en` or `English`, also as one word of a name: `text_en`), `source` and
    `target`, or `src` and `tgt`.

    Raises:
        BadInput: there are no such columns.
    """
    found = _find_columns(tuple(names), source.columns, source.languages)
    if found is None:
        expected = " and ".join(source.columns or source.languages)
        raise BadInput(
            f"{label}: no columns {expected} among {', '.join(names) or 'none'}; "
            "name two with --columns, or number them from 1 if the first row is no header"
        )
    return found


@lru_cache(256)  # JSON has the same names in every record
def _find_columns(
    names: tuple[str, ...], wanted: tuple[str, str] | None, languages: tuple[str, str]
) -> tuple[int, int] | None:
    folded = [name.strip().casefold() for name in names]
    if wanted is not None:
        return _exact(folded, ({wanted[0].casefold()}, {wanted[1].casefold()}))
    one, two = (find_code(language, names) for language in languages)
    if one is not None and two is not None and one != two:
        return names.index(one), names.index(two)
    of_languages, usual = _names_of(languages), _usual_names()
    for pair in (of_languages, *usual):
        if (found := _exact(folded, pair)) is not None:
            return found
    for pair in (of_languages, *usual):
        if (found := _one_word(folded, pair)) is not None:
            return found
    return None


def _names_of(languages: tuple[str, str]) -> tuple[set[str], set[str]]:
    """Return what a column of each language may be called, without what could mean either."""
    one, two = (language_names(code) for code in languages)
    return set(one - two), set(two - one)


def _usual_names() -> list[tuple[set[str], set[str]]]:
    return [({one}, {two}) for one, two in _USUAL]


def _exact(names: list[str], pair: tuple[set[str], set[str]]) -> tuple[int, int] | None:
    """Return the first column of each kind that is called by one of its names alone."""
    one, two = (next((n for n, name in enumerate(names) if name in kind), None) for kind in pair)
    return None if one is None or two is None else (one, two)


def _one_word(names: list[str], pair: tuple[set[str], set[str]]) -> tuple[int, int] | None:
    """Return the only column of each kind that has a name of it among its words."""
    words = [set(re.split(r"[\W_]+", name)) for name in names]
    one, two = ([n for n, each in enumerate(words) if each & kind] for kind in pair)
    return (one[0], two[0]) if len(one) == len(two) == 1 and one != two else None


def columns_of_first_row(
    cells: Sequence[str], source: Source, label: str
) -> tuple[tuple[int, int], bool]:
    """Return the positions of source and target, and whether the first row is a header.

    Raises:
        BadInput: the columns that the user names or numbers are not there.
    """
    if has_numbered_columns(source):
        return numbered_columns(len(cells), source, label), is_header(cells, source)
    if source.columns:
        return named_columns(cells, source, label), True
    if is_header(cells, source):
        return named_columns(cells, source, label), True
    return (0, 1), False


def is_header(cells: Sequence[str], source: Source) -> bool:
    """Return whether the first row names the columns rather than being a pair of sentences."""
    folded = [cell.strip().casefold() for cell in cells]
    pairs = (_names_of(source.languages), *_usual_names())
    return any(_exact(folded, pair) is not None for pair in pairs)


def has_numbered_columns(source: Source) -> bool:
    """Return whether the user gives the columns by their numbers."""
    return bool(source.columns) and all(name.isdigit() for name in source.columns or ())


def numbered_columns(count: int, source: Source, label: str) -> tuple[int, int]:
    """Return the positions of source and target, whose numbers the user gives, from 1.

    Raises:
        BadInput: one of them is not between 1 and `count`.
    """
    numbers = source.columns or ("1", "2")
    one, two = (int(number) - 1 for number in numbers)
    if min(one, two) < 0 or max(one, two) >= count:
        raise BadInput(f"{label}: no columns {' and '.join(numbers)} in a file of {count} columns")
    return one, two
