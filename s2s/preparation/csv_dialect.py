"""The character between the cells of a CSV file, found from its first lines."""

import csv
import re
from collections import Counter
from collections.abc import Sequence

_DELIMITERS = (",", ";", "\t", "|")  # Excel writes the second where the comma is the decimal mark
_HINT = re.compile(r"sep=(.)\s*")  # a first line that Excel reads and writes


def find_delimiter(lines: Sequence[str]) -> tuple[str, bool]:
    """Return what separates cells, and whether the first line only says so: `sep=;`.

    It is what cuts most of the lines into the same number of cells, two at least.

    Args:
        lines: the first ones of the file, with their ends.
    """
    if lines and (hint := _HINT.fullmatch(lines[0])):
        return hint[1], True
    shares = {delimiter: _regularity(lines, delimiter) for delimiter in _DELIMITERS}
    return max(_DELIMITERS, key=lambda delimiter: shares[delimiter]), False


def _regularity(lines: Sequence[str], delimiter: str) -> float:
    """Return the share of the rows that have as many cells as the first one."""
    widths = [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if cells]
    if not widths or widths[0] < 2:
        return 0.0
    return Counter(widths)[widths[0]] / len(widths)
