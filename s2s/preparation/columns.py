"""Choice of the two columns that hold the source and target of a table."""

from collections.abc import Sequence

from s2s.errors import BadInput
from s2s.preparation.sources import Source
from s2s.text.languages import find_code


def named_columns(names: Sequence[str], source: Source, label: str) -> tuple[int, int]:
    """Return the positions of source and target among named columns.

    They are the ones that the user names, or those named by the codes of the languages (in any
    spelling), `source` and `target`, or `src` and `tgt`.

    Raises:
        BadInput: there are no such columns.
    """
    folded = [name.casefold() for name in names]
    if not source.columns:
        found = [find_code(language, tuple(names)) for language in source.languages]
        if None not in found and found[0] != found[1]:
            return names.index(found[0]), names.index(found[1])
    usual = [("source", "target"), ("src", "tgt"), ("src", "trg")]
    for pair in [source.columns] if source.columns else usual:
        one, two = (name.casefold() for name in pair)
        if one in folded and two in folded:
            return folded.index(one), folded.index(two)
    expected = " and ".join(source.columns or source.languages)
    raise BadInput(
        f"{label}: no columns {expected} among {', '.join(names) or 'none'}; "
        "name two with --columns"
    )


def columns_of_first_row(
    cells: Sequence[str], source: Source, label: str
) -> tuple[tuple[int, int], bool]:
    """Return the positions of source and target, and whether the first row is a header.

    Raises:
        BadInput: the columns that the user names or numbers are not there.
    """
    if has_numbered_columns(source):
        return numbered_columns(len(cells), source, label), False
    if source.columns:
        return named_columns(cells, source, label), True
    try:
        return named_columns(cells, source, label), True
    except BadInput:
        return (0, 1), False


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
