"""The layout of a table: its width and the columns of source and target, found from its first rows.

Readers of tables leave it in their scratch folder, so that messages can name the columns.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from s2s.config import Section
from s2s.errors import BadInput
from s2s.files import write_text
from s2s.preparation.columns import columns_of_first_row
from s2s.preparation.sources import Source

LAYOUT_CHARACTERS = 1 << 16
"""Characters of a file, about, from whose lines its layout is found."""

_FILE = "layout.json"

# Numbers, scores and dates; ids such as `s12`, `en-fr-007` and `doc-3:17`, hashes and UUIDs;
# addresses; codes of languages.
_NUMBER = r"[-+]?\d[\d.,:/ _-]*(?:[eE][-+]?\d+)?%?"
_ID = r"[A-Za-z]{0,12}(?:[-_.:#/][A-Za-z]{1,12}){0,3}[-_.:#/]?\d[\w.:#/-]*"
_HASH = r"[0-9a-fA-F]{16,128}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CODE = r"[a-z]{2,3}(?:[-_][A-Za-z]{2,4})?"
_NO_TEXT = re.compile(rf"(?:{_NUMBER}|{_ID}|{_HASH}|https?://\S+|{_CODE})?")
_FEW_ROWS = 10  # that say little of a column
_MOSTLY = 0.9  # of the cells of a column, which may have a few of another kind

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class TableLayout(Section):
    """How the rows of a table are cut into source and target."""

    columns: tuple[str, str]
    """Columns of source and target as `--columns` takes them: names, or numbers from 1."""

    positions: tuple[int, int]
    """Positions of the two in a row, from 0."""

    width: int
    """Cells of a row."""

    has_header: bool = False

    is_quoted: bool = False
    """Whether every cell stands in quotation marks."""

    note: str = ""
    """What was chosen without being named, for the user."""

    def save(self, folder: Path) -> None:
        """Write the layout to a reader's scratch folder."""
        write_text(folder / _FILE, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> "TableLayout | None":
        """Return the layout that a reader has left in its scratch folder, if it has."""
        file = folder / _FILE
        return cls.from_json(file.read_bytes(), str(file)) if file.exists() else None


def find_layout(lines: Sequence[str], source: Source, label: str) -> TableLayout:
    """Return the layout of a table whose cells are between tabs.

    Its width is the usual one of the rows. Where neither a header nor the user names the columns,
    those of numbers, ids, addresses and codes are passed over.

    Args:
        lines: the first ones of the file.
        source: what the user says of the columns.
        label: name of the file in messages.

    Raises:
        BadInput: the columns that the user names or numbers are not there, or it is not clear which
            two of more than three are meant.
    """
    rows = [[cell.strip() for cell in line.split("\t")] for line in lines if line.strip()]
    cells = [cell for row in rows for cell in row if cell]
    is_quoted = bool(cells) and all(_QUOTED.fullmatch(cell) for cell in cells)
    if is_quoted:
        rows = [[cell[1:-1].replace('""', '"') for cell in row] for row in rows]
    first = rows[0] if rows else []
    positions, has_header = columns_of_first_row(first, source, label)
    layout = layout_of_positions(positions, first, has_header)
    layout = layout.model_copy(update={"is_quoted": is_quoted})
    if has_header:
        return layout
    widths = Counter(len(row) for row in rows if len(row) > max(positions))
    width = max(widths, key=lambda each: (widths[each], -each), default=max(positions) + 1)
    if source.columns:
        return layout.model_copy(update={"width": width})
    usual = [row for row in rows if len(row) == width]
    texts = [number for number in range(width) if _is_text([row[number] for row in usual])]
    if width == 2:  # numbers may be meant as sentences, where there is nothing else
        odd = " and ".join(str(each + 1) for each in (0, 1) if each not in texts)
        note = f"{label}: column {odd} holds numbers, ids or codes: are these the sentences?"
        is_odd = odd and len(usual) >= _FEW_ROWS
        return layout.model_copy(update={"width": width, "note": note if is_odd else ""})
    if width > 3 and len(texts) != 2:
        one, two = texts[:2] if len(texts) > 1 else (0, 1)
        raise BadInput(
            f"{label}: rows of {width} columns; number those of source and target, from 1: "
            f"--columns {one + 1} {two + 1}"
        )
    if len(texts) < 2 or texts[:2] == [0, 1]:
        return layout.model_copy(update={"width": width})
    one, two = texts[:2]
    passed = [str(number + 1) for number in range(two) if number != one]
    note = (
        f"{label}: source and target are read from columns {one + 1} and {two + 1}, as "
        f"column{'s' * (len(passed) > 1)} {' and '.join(passed)} "
        f"{'hold' if len(passed) > 1 else 'holds'} numbers, ids or codes; "
        "--columns names others"
    )
    chosen = layout_of_positions((one, two), first, has_header=False)
    return chosen.model_copy(update={"width": width, "is_quoted": is_quoted, "note": note})


def layout_of_positions(
    positions: tuple[int, int], first_row: Sequence[str], has_header: bool
) -> TableLayout:
    """Return the layout of a table with the columns at these positions.

    Args:
        first_row: which has the names of the columns if it is a header.
        has_header: whether it is.
    """
    one, two = (first_row[each] if has_header else str(each + 1) for each in positions)
    return TableLayout(
        columns=(one, two), positions=positions, width=len(first_row), has_header=has_header
    )


def _is_text(column: Sequence[str]) -> bool:
    """Return whether the cells of a column may be sentences."""
    filled = [cell for cell in column if cell]
    other = sum(_NO_TEXT.fullmatch(cell) is not None for cell in filled)
    return bool(filled) and other < _MOSTLY * len(filled)
