"""Choice of the column or field to translate."""

from collections.abc import Sequence

from s2s.bulk.blocks import ReadOptions
from s2s.errors import BadInput
from s2s.text.languages import find_code

_USUAL = ("source", "src", "text", "sentence")


def choose_column(names: Sequence[str], options: ReadOptions, label: str) -> str:
    """Return the column to translate: the one that is named, or else the one usually meant.

    The usual one is called by the code of the source language, or source, src, text or sentence.

    Raises:
        BadInput: there is no such column.
    """
    wanted = options.column
    if wanted is not None:
        if wanted in names or wanted.split(".")[0] in names:
            return wanted
    else:
        usual = [find_code(options.languages[0], tuple(names)), *_USUAL]
        chosen = next((name for name in usual if name in names), None)
        if chosen is not None:
            return chosen
    raise BadInput(
        f"{label}: no column or field {wanted or ' or '.join((options.languages[0], *_USUAL))}; "
        f"there are {', '.join(names) or 'none'}: name one with --column"
    )
