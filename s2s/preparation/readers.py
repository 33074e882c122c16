"""The rows of every kind of source, as Arrow tables of a bounded size.

No source has to fit in memory. Hugging Face datasets reads wherever it has a reader that accounts
for every row.
"""

import csv
import gzip
import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from glob import escape
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from babel.messages.pofile import PoFileError, read_po
from datasets import Features, Value

from s2s.errors import BadInput
from s2s.preparation.sources import Origin, Source, cause

# Rows of the tables that readers give. Also the rows of a line reader's step, so small enough that
# megabytes a row do no harm.
STEP = 4096

SCHEMA = pa.schema({"source": pa.string(), "target": pa.string(), "drop": pa.string()})
"""What readers give; `drop` is why a row has no sentence pair, or empty."""


def read(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """The rows of an origin, as tables of `SCHEMA`.

    Args:
        folder: an empty one, for what has to be unpacked.

    Raises:
        BadInput: the origin cannot be read to its end.
    """
    try:
        for table in _READERS[origin.kind](origin, source, folder):
            for batch in table.to_batches(max_chunksize=STEP):
                yield pa.Table.from_batches([batch], SCHEMA)
    except BadInput:
        raise
    except Exception as error:  # gzip, zip, Arrow, XML and OS errors alike mean a broken file
        raise BadInput(f"{origin.label} cannot be read: {cause(error)}") from None


def _plain(origin: Origin, folder: Path) -> list[Path]:
    """The origin's files, unpacked.

    They have plain names: datasets reads some as patterns, or as chains of file systems.
    """
    plain = []
    for number, name in enumerate(origin.members or origin.paths):
        file = folder / f"{number}.txt"
        if origin.members:
            with zipfile.ZipFile(origin.paths[0]) as archive, archive.open(name) as member:
                _copy(member, file)
        elif origin.span is not None:
            begin, end = origin.span
            with Path(name).open("rb") as whole, file.open("wb") as part:
                whole.seek(begin)
                part.write(whole.read(end - begin))
        else:
            file.symlink_to(Path(name).resolve())
        with file.open("rb") as opened:
            packed = opened.read(2) == b"\x1f\x8b"
        if packed:
            file, archive_file = folder / f"{number}.plain.txt", file
            with gzip.open(archive_file) as opened:
                _copy(opened, file)
        plain.append(file)
    return plain


def _copy(packed: IO[bytes] | gzip.GzipFile, file: Path) -> None:
    with file.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)


def _stream(builder: str, *arguments: Any, **options: Any) -> Iterator[pa.Table]:
    """The tables that datasets reads, one after the other."""
    dataset = datasets.load_dataset(builder, *arguments, streaming=True, **options)
    yield from dataset.with_format("arrow").iter(STEP)


def _lines(path: Path, breaks: bool = False) -> Iterator[pa.StringArray]:
    """The lines of a text file; what is no UTF-8 comes as U+FFFD."""
    for table in _stream(
        "text",
        data_files=escape(str(path)),
        split="train",
        features=Features({"text": Value("string")}),
        encoding="utf-8-sig",
        encoding_errors="replace",
        keep_linebreaks=breaks,
    ):
        yield table["text"].combine_chunks()


def _table(source: Any, target: Any, drop: Any = None) -> pa.Table:
    drop = pa.array([""] * len(source), pa.string()) if drop is None else drop
    return pa.table([_string(source), _string(target), drop], schema=SCHEMA)


def _string(column: Any) -> pa.Array:
    """A column as strings, nothing as the empty one."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.fill_null(column.cast(pa.string()), "")


def _read_tsv(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Two columns, or three as Tatoeba has (the attribution), or columns named in a first line."""
    (file,) = _plain(origin, folder)
    begins = origin.span is None or origin.span[0] == 0
    with (file if begins else Path(origin.paths[0])).open(
        encoding="utf-8-sig", errors="replace"
    ) as opened:
        first = [cell.strip() for cell in opened.readline().split("\t")]
    picked, named = _picked(first, source, origin.label)
    width = len(first) if named else None
    for number, lines in enumerate(_lines(file)):
        if begins and named and not number:
            lines = lines[1:]
        cells = pc.split_pattern(lines, "\t")
        widths = pc.list_value_length(cells)
        fits = pc.equal(widths, width) if width else pc.is_in(widths, pa.array([2, 3], pa.int32()))
        if source.columns and not width:
            fits = pc.greater(widths, max(picked))
        blank = pc.equal(pc.utf8_trim_whitespace(lines), "")
        drop = pc.if_else(blank, "empty", pc.if_else(fits, "", "columns"))
        filled = pc.if_else(fits, cells, pa.scalar([""] * (max(picked) + 1)))
        source_side, target_side = (pc.list_element(filled, place) for place in picked)
        yield _table(source_side, target_side, drop)


def _picked(names: list[str], source: Source, label: str) -> tuple[tuple[int, int], bool]:
    """The places of source and target among the columns of a first line, and whether it names them.

    Raises:
        BadInput: the columns that the user names are not there.
    """
    if source.columns and not all(name.isdigit() for name in source.columns):
        return _places(names, source, label), True
    if source.columns:
        places = tuple(int(name) - 1 for name in source.columns)
        if min(places) < 0 or max(places) >= len(names):
            raise BadInput(f"{label}: columns {' and '.join(source.columns)} of {len(names)}")
        return (places[0], places[1]), False
    try:
        return _places(names, source, label), True
    except BadInput:
        return (0, 1), False


def _places(names: Sequence[str], source: Source, label: str) -> tuple[int, int]:
    """Where the columns of source and target are among named ones."""
    folded = [name.casefold() for name in names]
    habits = [source.languages, ("source", "target"), ("src", "tgt"), ("src", "trg")]
    for wanted in [source.columns] if source.columns else habits:
        one, two = (name.casefold() for name in wanted)
        if one in folded and two in folded:
            return folded.index(one), folded.index(two)
    named = " and ".join(source.columns or source.languages)
    raise BadInput(
        f"{label}: no columns {named} among {', '.join(names) or 'none'}; name two with --columns"
    )


def _read_csv(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Named columns, or two without names where the user gives their numbers.

    Parsed by the standard library: the CSV reader of datasets fails at a row of another width, or
    skips it unseen.
    """
    (file,) = _plain(origin, folder)
    csv.field_size_limit(1 << 30)
    ended = False

    def every_line() -> Iterator[str]:
        nonlocal ended
        for batch in _lines(file, breaks=True):
            yield from batch.to_pylist()
        ended = True

    places, width = None, 0
    rows: list[tuple[str, str, str]] = []
    for number, cells in enumerate(csv.reader(every_line()), start=1):
        if ended:  # a row ends at a line's end, but for one whose quotation mark stays open
            raise BadInput(f"{origin.label}: a quotation mark opened in row {number} never closes")
        if places is None:
            width = len(cells)
            if source.columns and all(name.isdigit() for name in source.columns):
                places, _ = _picked(cells, source, origin.label)
            else:
                places = _places([cell.strip() for cell in cells], source, origin.label)
                continue
        if not any(cell.strip() for cell in cells):
            rows.append(("", "", "empty"))
        elif len(cells) != width:
            rows.append(("", "", "columns"))
        else:
            rows.append((cells[places[0]], cells[places[1]], ""))
        if len(rows) == STEP:
            yield _of_rows(rows)
            rows = []
    if rows:
        yield _of_rows(rows)


def _of_rows(rows: Iterable[tuple[str, str, str]]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA)


def _read_jsonl(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Objects, in lines or an array: two named strings, or `translation` with one a language.

    Parsed line by line: the JSON reader of datasets gives up the file at its first bad line.
    """
    (file,) = _plain(origin, folder)
    with file.open("rb") as opened:
        head = opened.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    name = (origin.members or origin.paths)[0].lower().removesuffix(".gz")
    if head.startswith(b"[") and name.endswith(".json"):
        records = json.loads(file.read_text(encoding="utf-8-sig"))  # an array, whole
        for start in range(0, len(records), STEP):
            yield _of_rows(_of_record(record, source) for record in records[start : start + STEP])
        return
    for lines in _lines(file):
        yield _of_rows(_of_json(line, source) for line in lines.to_pylist())


def _of_json(line: str, source: Source) -> tuple[str, str, str]:
    if not line.strip():
        return "", "", "empty"
    try:
        return _of_record(json.loads(line), source)
    except (ValueError, RecursionError):
        return "", "", "malformed"


def _of_record(record: Any, source: Source) -> tuple[str, str, str]:
    if not isinstance(record, dict):
        return "", "", "malformed"
    if isinstance(record.get("translation"), dict):
        record = record["translation"]
    try:
        names = list(record)
        first, second = _places(names, source, "")
    except BadInput:
        return "", "", "columns"
    pair = record[names[first]], record[names[second]]
    if not all(isinstance(side, str | None) for side in pair):
        return "", "", "columns"
    # JSON can write halves of a surrogate pair alone: no text at all.
    one, two = (re.sub("[\ud800-\udfff]", "\ufffd", side or "") for side in pair)
    return one, two, ""


def _read_tables(tables: Iterable[pa.Table], source: Source, label: str) -> Iterator[pa.Table]:
    """Tables with two named columns, or `translation` with a field for each language."""
    for table in tables:
        names = table.column_names
        kind = table.schema.field("translation").type if "translation" in names else None
        if kind is not None and pa.types.is_struct(kind):
            table = pa.Table.from_arrays(
                table["translation"].combine_chunks().flatten(), names=[f.name for f in kind]
            )
        places = _places(table.column_names, source, label)
        yield _table(*(table.column(place) for place in places))


def _read_parquet(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    (file,) = _plain(origin, folder)
    yield from _read_tables(
        _stream("parquet", data_files=escape(str(file)), split="train"), source, origin.label
    )


def _read_saved(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    rows = datasets.load_from_disk(origin.paths[0]).with_format("arrow")
    yield from _read_tables(rows.iter(STEP), source, origin.label)


def _read_hub(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    name, config, split = origin.paths
    try:
        tables = _stream(name, config or None, split=split)
        yield from _read_tables(tables, source, origin.label)
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        raise BadInput(
            f"{origin.label}: no such dataset, configuration or split here, and none that the "
            f"network gives: {cause(error)}"
        ) from None


def _read_moses(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Two files, of which the lines of one number belong together."""
    files = _plain(origin, folder)
    none = pa.array([], pa.string())
    counts = [0, 0]
    for one, two in zip_longest(*map(_lines, files), fillvalue=none):
        counts = [counts[0] + len(one), counts[1] + len(two)]
        if len(one) == len(two):
            yield _table(one, two)
    if counts[0] != counts[1]:
        raise BadInput(
            f"{origin.label}: {counts[0]:,} and {counts[1]:,} lines, which cannot belong together "
            "(a carriage return ends a line, too)"
        )


def _read_tmx(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Translation units of TMX 1.4; variants of a language (en-US) count as it."""
    (file,) = _plain(origin, folder)
    rows: list[tuple[str, str, str]] = []
    with file.open("rb") as opened:
        # Expat, which reads the file, asks for nothing outside it and bounds what entities become.
        events = ElementTree.iterparse(opened, ("start", "end"))  # noqa: S314
        body = None
        for event, element in events:
            tag = element.tag.rpartition("}")[2]
            if event == "start" and tag == "body":
                body = element
            if event == "start" or tag != "tu":
                continue
            sides = dict.fromkeys(source.languages, "")
            for variant in element.findall(".//{*}tuv"):
                code = variant.get("{http://www.w3.org/XML/1998/namespace}lang")
                language = (code or variant.get("lang") or "").lower().replace("_", "-")
                segment = variant.find("{*}seg")
                for wanted in sides:
                    code = wanted.lower().replace("_", "-")
                    mine = language == code or language.startswith(f"{code}-")
                    if mine and segment is not None and not sides[wanted]:
                        sides[wanted] = "".join(segment.itertext())
            one, two = sides.values()
            rows.append((one, two, "" if one or two else "columns"))
            if body is not None:
                body.clear()
            if len(rows) == STEP:
                yield _of_rows(rows)
                rows = []
    if rows:
        yield _of_rows(rows)


def _read_po(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    """Messages of a gettext catalogue: the message is the source, its translation the target."""
    (file,) = _plain(origin, folder)
    try:
        with file.open("rb") as opened:
            catalogue = read_po(opened, ignore_obsolete=True, abort_invalid=True)
    except PoFileError as error:
        raise BadInput(f"{origin.label}: {error}") from None
    rows: list[tuple[str, str, str]] = []
    for message in catalogue:
        if not message.id:
            continue  # the header
        ids = (message.id,) if isinstance(message.id, str) else tuple(message.id)
        string: Any = message.string
        texts = string if isinstance(string, tuple) else (string,)
        # The first form is the singular's, the last the plural's, however many lie between.
        for one, two in {0: (ids[0], texts[0]), len(ids) - 1: (ids[-1], texts[-1])}.values():
            rows.append((one, two or "", "fuzzy" if message.fuzzy and two else ""))
    for start in range(0, len(rows), STEP):
        yield _of_rows(rows[start : start + STEP])


def _read_demo(origin: Origin, source: Source, folder: Path) -> Iterator[pa.Table]:
    from s2s.preparation import demo  # pyrealb is needed here alone

    yield _of_rows((one, two, "") for one, two in demo.load())


_READERS = {
    "tsv": _read_tsv,
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "moses": _read_moses,
    "tmx": _read_tmx,
    "po": _read_po,
    "saved": _read_saved,
    "hub": _read_hub,
    "demo": _read_demo,
}
