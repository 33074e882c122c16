"""Readers of every source format, which yield the rows as Arrow tables of a bounded size.

`FORMATS`, at the end of the file, is the table of all formats, and says how to add one. No source
has to fit in memory. Hugging Face datasets reads a format wherever its reader accounts for every
row.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from babel.messages.catalog import Catalog
from babel.messages.pofile import PoFileError
from babel.messages.pofile import read_po as read_po_catalogue

from s2s import extras
from s2s.errors import BadInput
from s2s.preparation.columns import columns_of_first_row, has_numbered_columns, named_columns
from s2s.preparation.csv_dialect import find_delimiter
from s2s.preparation.json_pairs import PairFinder, has_json_lines, records_of_document
from s2s.preparation.sources import Origin, Source
from s2s.preparation.table_layout import LAYOUT_CHARACTERS, find_layout, layout_of_positions
from s2s.preparation.tmx import read_units
from s2s.preparation.unpack import unpack
from s2s.preparation.variants import Row
from s2s.text.lines import read_lines

# Rows of a table that a reader yields, and of a step of a reader of lines: few enough that a
# megabyte a row does no harm.
TABLE_ROWS = 4096

_DIALECT_LINES = 64  # of a CSV file, from which the character between cells is found

SCHEMA = pa.schema({"source": pa.string(), "target": pa.string(), "drop": pa.string()})
"""What readers yield; `drop` is the rule (`s2s.corpus.rules`) by which a row is no sentence pair,
or empty."""

Reader = Callable[[Origin, Source, Path], Iterator[pa.Table]]
"""Yields the rows of an origin as tables of `SCHEMA`, given an empty folder for scratch files."""


def read_origin(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Yield the rows of an origin as tables of `SCHEMA`, of `TABLE_ROWS` rows at most.

    Args:
        folder: an empty one, for unpacked files.

    Raises:
        BadInput: the origin cannot be read to its end.
    """
    try:
        for table in FORMATS[origin.format].read(origin, source, folder):
            for batch in table.to_batches(max_chunksize=TABLE_ROWS):
                yield pa.Table.from_batches([batch], SCHEMA)
    except BadInput:
        raise
    except Exception as error:  # gzip, zip, Arrow, XML and OS errors alike mean a broken file
        raise BadInput(f"{origin.label} cannot be read: {root_cause(error)}") from None


def root_cause(error: BaseException) -> str:
    """Return the first error of a chain of them, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


# ---- what readers share -------------------------------------------------------------------------


def _stream(builder: str, *arguments: Any, **options: Any) -> Iterator[pa.Table]:
    """Yield the tables that a builder of datasets reads."""
    dataset = datasets.load_dataset(builder, *arguments, streaming=True, **options)
    yield from dataset.with_format("arrow").iter(TABLE_ROWS)


def _lines(path: Path) -> Iterator[pa.StringArray]:
    """Yield the lines of a text file, `TABLE_ROWS` at a time but for the last."""
    with path.open("rb") as file:
        for lines in read_lines(file, TABLE_ROWS):
            yield pa.array(lines, pa.string())


def _table_of_columns(sides: Iterable[Any], drop: Any = None) -> pa.Table:
    source, target = map(_as_strings, sides)
    drop = pa.array([""] * len(source), pa.string()) if drop is None else drop
    return pa.table([source, target, drop], schema=SCHEMA)


def _as_strings(column: Any) -> pa.Array:
    """Return a column as strings, with an empty one for null."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.fill_null(column.cast(pa.string()), "")


def _table_of_rows(rows: Iterable[Row]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA)


def _tables_of_rows(rows: Iterable[Row]) -> Iterator[pa.Table]:
    """Yield rows as tables of `TABLE_ROWS` rows."""
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if len(held) == TABLE_ROWS:
            yield _table_of_rows(held)
            held = []
    if held:
        yield _table_of_rows(held)


def _pairs_of_tables(tables: Iterable[pa.Table], source: Source, label: str) -> Iterator[pa.Table]:
    """Yield the pairs of tables with two named columns, or with them in a column `translation`.

    Columns that hold no plain text are searched as JSON objects are.
    """
    finder = PairFinder(source, label)
    for table in tables:
        if (sides := _plain_sides(table, source)) is not None:
            yield _table_of_columns(sides)
        else:
            records = table.to_pylist()
            yield from _tables_of_rows(row for record in records for row in finder.rows(record))
    finder.check()


def _plain_sides(table: pa.Table, source: Source) -> list[Any] | None:
    """Return the two columns of a table if they are named, and their cells are plain."""
    names = table.column_names
    kind = table.schema.field("translation").type if "translation" in names else None
    if kind is not None and pa.types.is_struct(kind):
        table = pa.Table.from_arrays(
            table["translation"].combine_chunks().flatten(), names=[f.name for f in kind]
        )
    try:
        sides = [table.column(each) for each in named_columns(table.column_names, source, "")]
    except BadInput:
        return None
    return None if any(pa.types.is_nested(side.type) for side in sides) else sides


# ---- readers ------------------------------------------------------------------------------------


def read_tsv(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read two columns, or three as Tatoeba has (an attribution), or columns with a header."""
    (file,) = unpack(origin, folder)
    has_first_line = origin.byte_range is None or origin.byte_range[0] == 0
    with (file if has_first_line else Path(origin.paths[0])).open(
        encoding="utf-8-sig", errors="replace", newline="\n"
    ) as opened:
        layout = find_layout(opened.readlines(LAYOUT_CHARACTERS), source, origin.label)
    layout.save(folder)
    for number, lines in enumerate(_lines(file)):
        if has_first_line and layout.has_header and not number:
            lines = lines[1:]
        cells = pc.split_pattern(lines, "\t")
        fits = pc.equal(pc.list_value_length(cells), layout.width)
        blank = pc.equal(pc.utf8_trim_whitespace(lines), "")
        drop = pc.if_else(blank, "empty", pc.if_else(fits, "", "columns"))
        filled = pc.if_else(fits, cells, pa.scalar([""] * layout.width))
        sides = [pc.list_element(filled, position) for position in layout.positions]
        if layout.is_quoted or pc.any(pc.match_substring(lines, '""')).as_py():
            sides = [_unquoted(side, layout.is_quoted) for side in sides]
        yield _table_of_columns(sides, drop)


# A cell that stands in quotation marks, with those within it doubled, as pandas writes one that has
# any; no other cell has that form.
_QUOTED = r'^\s*"(?:[^"]|"")*"\s*$'


def _unquoted(cells: pa.StringArray, all_quoted: bool) -> pa.StringArray:
    """Return cells without the quotation marks that a writer of tables has put around them."""
    quoted = pc.match_substring_regex(cells, _QUOTED)
    if not all_quoted:
        quoted = pc.and_(quoted, pc.match_substring(cells, '""'))
    inner = pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(cells), 1, -1)
    return pc.if_else(quoted, pc.replace_substring(inner, '""', '"'), cells)


def read_csv(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read columns with a header, or without one if the user numbers them.

    The standard library parses the file: the CSV reader of datasets fails at a row of another
    width, or skips it silently.
    """
    (file,) = unpack(origin, folder)
    yield from _tables_of_rows(_csv_rows(file, source, origin.label, folder))


# Stands for a carriage return, at which the parser would end a row. No text has this character.
_CARRIAGE_RETURN = "\uffff"


def _csv_rows(file: Path, source: Source, label: str, folder: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    lines = (
        line.replace("\r", _CARRIAGE_RETURN) + "\n"
        for batch in _lines(file)
        for line in batch.to_pylist()
    )
    first_lines = list(islice(lines, _DIALECT_LINES))
    delimiter, is_hint = find_delimiter(first_lines)
    at_end = False

    def every_line() -> Iterator[str]:
        nonlocal at_end
        yield from chain(first_lines[is_hint:], lines)
        at_end = True

    layout = None
    for number, cells in enumerate(csv.reader(every_line(), delimiter=delimiter), start=1):
        if at_end:  # a row ends where a line ends, unless its quotation mark stays open
            raise BadInput(f"{label}: a quotation mark opened in row {number} never closes")
        if layout is None:
            header = [cell.strip() for cell in cells]
            if has_numbered_columns(source):
                positions, has_header = columns_of_first_row(header, source, label)
            else:
                positions, has_header = named_columns(header, source, label), True
            layout = layout_of_positions(positions, header, has_header)
            layout.save(folder)
            if has_header:
                continue
        if not any(cell.strip() for cell in cells):
            yield "", "", "empty"
        elif len(cells) != layout.width:
            yield "", "", "columns"
        else:
            one, two = (cells[each].replace(_CARRIAGE_RETURN, "\r") for each in layout.positions)
            yield one, two, ""


def read_jsonl(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read JSON objects, one a line or in a document, as `PairFinder` finds pairs in them.

    The lines are parsed one by one: the JSON reader of datasets gives up at the first bad line.
    """
    (file,) = unpack(origin, folder)
    finder = PairFinder(source, origin.label)
    if (records := _document(file, origin)) is not None:
        yield from _tables_of_rows(row for record in records for row in finder.rows(record))
    else:
        for lines in _lines(file):
            rows = (row for line in lines.to_pylist() for row in _rows_of_json(line, finder))
            yield from _tables_of_rows(rows)
    if origin.byte_range is None or origin.byte_range[0] == 0:
        finder.check()


def _document(file: Path, origin: Origin) -> Sequence[object] | None:
    """Return the records of a file that is a JSON document; None if its lines are records."""
    if origin.byte_range is not None or has_json_lines(file):
        return None
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
        return records_of_document(text, origin.label)
    except (ValueError, RecursionError):
        suffixes = Path((origin.members or origin.paths)[0].lower()).suffixes
        if ".json" in suffixes:
            raise
        return None  # lines, of which the first is broken


def _rows_of_json(line: str, finder: PairFinder) -> list[Row]:
    if not line.strip():
        return [("", "", "empty")]
    try:
        return finder.rows(json.loads(line))
    except (ValueError, RecursionError):
        return [("", "", "malformed")]


def read_parquet(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read two named columns, or a column `translation` with a field for each language."""
    (file,) = unpack(origin, folder, text=False)
    tables = _stream("parquet", data_files=escape(str(file)), split="train")
    yield from _pairs_of_tables(tables, source, origin.label)


def read_saved(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read a directory that `save_to_disk` of datasets wrote, or one split of it."""
    rows = datasets.load_from_disk(origin.paths[0]).with_format("arrow")
    yield from _pairs_of_tables(rows.iter(TABLE_ROWS), source, origin.label)


def read_hub(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read a split of a dataset of the Hugging Face Hub, or of a local folder of that layout."""
    name, config, split = origin.paths
    try:
        tables = _stream(name, config or None, split=split)
        yield from _pairs_of_tables(tables, source, origin.label)
    except BadInput:
        raise
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        raise BadInput(
            f"{origin.label}: no such dataset, configuration or split, neither on this machine nor "
            f"on the Hub: {root_cause(error)}"
        ) from None


def read_moses(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read two parallel files: lines of the same number are a pair."""
    files = unpack(origin, folder)
    none = pa.array([], pa.string())
    counts = [0, 0]
    for one, two in zip_longest(*map(_lines, files), fillvalue=none):
        counts = [counts[0] + len(one), counts[1] + len(two)]
        if len(one) == len(two):
            yield _table_of_columns((one, two))
    if counts[0] != counts[1]:
        raise BadInput(
            f"{origin.label}: {counts[0]:,} and {counts[1]:,} lines, so the files are not parallel"
        )


def read_tmx(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read the translation units of TMX 1.4; a variant such as en-US counts as its language."""
    (file,) = unpack(origin, folder)
    yield from _tables_of_rows(read_units(file, source.languages, origin.label))


def read_xliff(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Refuse XLIFF, with the way to a format that is read."""
    raise BadInput(
        f"{origin.label}: XLIFF is not read; convert it to gettext with: xliff2po FILE NEW.po "
        "(of the Translate Toolkit)"
    )


def read_po(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read the messages of a gettext catalogue as sources, and their translations as targets."""
    (file,) = unpack(origin, folder)
    try:
        with file.open("rb") as opened:
            catalogue = read_po_catalogue(opened, ignore_obsolete=True, abort_invalid=True)
    except PoFileError as error:
        raise BadInput(f"{origin.label}: {error}") from None
    yield from _tables_of_rows(_po_rows(catalogue))


def _po_rows(catalogue: Catalog) -> Iterator[Row]:
    for message in catalogue:
        if not message.id:
            continue  # the header
        ids = (message.id,) if isinstance(message.id, str) else tuple(message.id)
        string: Any = message.string
        texts = string if isinstance(string, tuple) else (string,)
        # The first form is the singular, the last one the plural, however many are between them.
        for one, two in {0: (ids[0], texts[0]), len(ids) - 1: (ids[-1], texts[-1])}.values():
            yield one, two or "", "fuzzy" if message.fuzzy and two else ""


def read_demo(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Read the embedded demo corpus."""
    try:
        from s2s.preparation import demo  # which needs pyrealb; no other reader does

        pairs = demo.load()
    except ModuleNotFoundError as error:
        raise BadInput(extras.advice("prepare --source demo", error) or str(error)) from None
    yield _table_of_rows((english, french, "") for english, french in pairs)


# ---- the table of formats -----------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """A source format: its reader, and how its files are recognised."""

    read: Reader
    title: str  # in messages
    suffixes: tuple[str, ...] = ()  # of file names, in lower case, with the dot
    # Whether the first bytes of a file, without byte order mark and white space, are of the format.
    matches: Callable[[bytes], bool] | None = None
    overrides_suffix: bool = False  # whether `matches` also counts if the suffix is another one's
    # Whether the lines of a file are rows, so that tasks can read ranges of it.
    has_rows_of_lines: Callable[[Path], bool] | None = None


_JSON = re.compile(rb'\{\s*"|\[\s*\{')

FORMATS: dict[str, Format] = {
    "tsv": Format(
        read_tsv, "tab-separated", (".txt", ".tsv", ".tab"), has_rows_of_lines=lambda path: True
    ),
    "csv": Format(read_csv, "CSV", (".csv",)),
    "jsonl": Format(
        read_jsonl, "JSON", (".jsonl", ".ndjson", ".json"),
        lambda head: _JSON.match(head) is not None, has_rows_of_lines=has_json_lines,
    ),
    "parquet": Format(
        read_parquet, "Parquet", (".parquet",), lambda head: head.startswith(b"PAR1"),
        overrides_suffix=True,
    ),
    "moses": Format(read_moses, "parallel lines"),  # two files (`s2s.preparation.file_names`)
    "tmx": Format(
        read_tmx, "TMX", (".tmx",), lambda head: b"<tmx" in head, overrides_suffix=True
    ),
    "xliff": Format(
        read_xliff, "XLIFF", (".xlf", ".xliff", ".sdlxliff", ".mxliff"),
        lambda head: b"<xliff" in head, overrides_suffix=True,
    ),
    "po": Format(read_po, "gettext", (".po",), lambda head: b"\nmsgid " in b"\n" + head),
    "saved": Format(read_saved, "saved by datasets"),  # a directory
    "hub": Format(read_hub, "dataset"),  # hub:NAME
    "demo": Format(read_demo, "embedded"),
}  # fmt: skip
"""All source formats by name.

To add a file format:

1. write a `read_NAME` function above: it unpacks the origin's file with `unpack`, and yields tables
   of `SCHEMA`, in which every row of the file occurs, those that are no pair with a `drop`;
2. add a row here with its suffixes, and `matches` if its first bytes give it away;
3. add a form of it to `FORMS` in `tests/unit/test_sources.py`, which checks that all formats give
   the same pairs, and its name to the table in `docs/corpora.md`.

Archives and compressed files are unpacked, and UTF-16 is decoded, for all formats. A file has the
first format that `matches` it and overrides the suffix, else the format of its suffix. If the
suffix is one of `tsv`, or of no format, the first format that `matches` is taken, or else `tsv`.
What is not a file, such as `hub`, is recognised in `s2s.preparation.discovery.find_origins`.
"""
