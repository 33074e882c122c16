"""Tables: Parquet, and the Arrow files of a directory that `datasets` saved."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2s.bulk.blocks import BYTES, Block, Fault, ReadOptions
from s2s.bulk.columns import choose_column
from s2s.bulk.files import opened_input, opened_random
from s2s.errors import BadInput

# Of a row group that is written: what readers of Parquet like, in memory that stays small.
_GROUP_ROWS = 1 << 16
_GROUP_BYTES = 64 << 20

_FEATURES = b"huggingface"  # key of the features of datasets in the metadata of a schema
_STRING = {"dtype": "string", "_type": "Value"}


@dataclass(frozen=True)
class TableBlock(Block[pa.Table]):
    """Rows of a table, which are written with one more column."""

    table: pa.Table
    output_column: str

    def with_translations(self, outputs: Sequence[str | None]) -> pa.Table:
        """Return the table with a column of translations, null for a row without one."""
        column = pa.array(outputs, pa.string())
        table = self.table.append_column(self.output_column, column)
        return table.replace_schema_metadata(_with_feature(table.schema, self.output_column))


def read_parquet(location: str, options: ReadOptions) -> Iterator[TableBlock]:
    """Yield the rows of a Parquet file as blocks."""
    with opened_random(location) as raw:
        file = pq.ParquetFile(raw, buffer_size=1 << 20, pre_buffer=False)
        bytes_per_row = raw.size() / max(1, file.metadata.num_rows)
        schema, columns = file.schema_arrow, None
        if options.texts_only:
            name = choose_column(schema.names, options, location)
            columns = [_top_level(name, schema.names)]
        batches = file.iter_batches(options.rows, columns=columns, use_threads=False)
        tables = _of_rows(batches, options.rows)
        yield from _blocks(tables, schema, options, location, bytes_per_row)


def _of_rows(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Yield batches as tables of the same number of rows, but for the last one.

    Where batches of Parquet end depends on the columns that are read, as dictionaries end some.
    """
    held: list[pa.RecordBatch] = []
    lacking = rows
    for batch in batches:
        rest = batch
        while rest.num_rows >= lacking:
            yield pa.Table.from_batches([*held, rest.slice(0, lacking)])
            rest = rest.slice(lacking)
            held, lacking = [], rows
        if rest.num_rows:
            held.append(rest)
            lacking -= rest.num_rows
    if held:
        yield pa.Table.from_batches(held)


def read_arrow(location: str, options: ReadOptions) -> Iterator[TableBlock]:
    """Yield the rows of a file in Arrow's stream format as blocks."""
    with opened_input(location) as (file, tell), pa.ipc.open_stream(file) as stream:

        def tables() -> Iterator[pa.Table]:
            for batch in stream:
                for begin in range(0, batch.num_rows, options.rows):
                    yield pa.Table.from_batches([batch.slice(begin, options.rows)])

        begin = 0
        for block in _blocks(tables(), stream.schema, options, location, 0.0):
            object.__setattr__(block, "size", -begin + (begin := tell()))
            yield block


def _blocks(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    options: ReadOptions,
    label: str,
    bytes_per_row: float,
) -> Iterator[TableBlock]:
    """Yield tables as blocks, and at least one, which has the schema.

    Raises:
        BadInput: no column can be chosen, it holds no text, or the output column is in use.
    """
    if options.output_column in schema.names:
        raise BadInput(
            f"{label}: there is a column {options.output_column} already; "
            "name another one with --output-column"
        )
    name = choose_column(schema.names, options, label)
    first = 1
    for table in tables:
        for part, column in _cut(table, _text_column(table, name, label)):
            texts = _texts(column)
            faults = [
                Fault(
                    number, f"{'is not UTF-8' if is_valid else 'has no text'} in the column {name}"
                )
                for number, (text, is_valid) in enumerate(
                    zip(texts, column.is_valid().to_pylist(), strict=True), first
                )
                if text is None
            ]
            size = round(bytes_per_row * part.num_rows)
            yield TableBlock(first, texts, part, options.output_column, faults=faults, size=size)
            first += part.num_rows
    if first == 1:
        _text_column(schema.empty_table(), name, label)
        yield TableBlock(1, [], schema.empty_table(), options.output_column)


def _cut(table: pa.Table, column: pa.ChunkedArray) -> Iterator[tuple[pa.Table, pa.ChunkedArray]]:
    """Yield a table and its texts in parts, none with more text than a block has."""
    size = pc.sum(pc.binary_length(column)).as_py() or 0
    rows = max(1, table.num_rows * BYTES // max(size, BYTES))
    for begin in range(0, table.num_rows, rows):
        yield table.slice(begin, rows), column.slice(begin, rows)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Return the texts of a column, None for those that are null or not UTF-8."""
    try:
        texts: list[str | None] = column.to_pylist()
        return texts
    except UnicodeDecodeError:  # Arrow does not look at the bytes of a file
        return [_decoded(each) for each in column.cast(pa.large_binary()).to_pylist()]


def _decoded(text: bytes | None) -> str | None:
    try:
        return None if text is None else text.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _text_column(table: pa.Table, name: str, label: str) -> pa.ChunkedArray:
    """Return a column of text.

    Raises:
        BadInput: the column is not there, or holds no text.
    """
    first = _top_level(name, table.column_names)
    path = [] if name == first else name.split(".")[1:]
    column = table.column(first)
    try:
        for key in path:
            column = pc.struct_field(column, key)
        if not pa.types.is_nested(column.type):
            kind = getattr(column.type, "value_type", column.type)  # of a dictionary
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                return column.cast(kind)
    except (pa.ArrowException, KeyError):
        raise BadInput(f"{label}: no field {name} in the column {first}") from None
    inner = " or ".join(f"{name}.{field.name}" for field in _fields(column.type))
    hint = f"; name {inner} with --column" if inner else ""
    raise BadInput(f"{label}: the column {name} holds {column.type}, not text{hint}")


def _top_level(name: str, names: Sequence[str]) -> str:
    """Return the column of a table that a column or a field in it, with dots, is in."""
    return name if name in names else name.split(".")[0]


def _fields(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(n) for n in range(kind.num_fields)] if pa.types.is_struct(kind) else []


def _with_feature(schema: pa.Schema, column: str) -> dict[bytes, bytes]:
    """Return the metadata of a schema, in which datasets finds the column as well."""
    metadata = dict(schema.metadata or {})
    metadata.pop(b"pandas", None)  # describes the columns before
    if _FEATURES in metadata:
        tree = json.loads(metadata[_FEATURES])
        tree.get("info", {}).get("features", {})[column] = _STRING
        metadata[_FEATURES] = json.dumps(tree).encode()
    return metadata


# ---- writing ----


def write_parquet(file: IO[bytes], written: Iterable[pa.Table]) -> None:
    """Write tables as a Parquet file."""
    writer: pq.ParquetWriter | None = None
    held: list[pa.Table] = []
    for table in written:
        writer = writer or pq.ParquetWriter(file, table.schema)
        held.append(table)
        rows, size = sum(each.num_rows for each in held), sum(each.nbytes for each in held)
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            writer.write_table(pa.concat_tables(held), row_group_size=_GROUP_ROWS)
            held = []
    if writer is not None:
        if held:
            writer.write_table(pa.concat_tables(held), row_group_size=_GROUP_ROWS)
        writer.close()


def write_arrow(file: IO[bytes], written: Iterable[pa.Table]) -> None:
    """Write tables in Arrow's stream format."""
    writer: Any = None
    for table in written:
        writer = writer or pa.ipc.new_stream(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def described_with(name: str, text: str, column: str) -> str:
    """Return a JSON file of a saved dataset as it is with one more column.

    Args:
        name: of the file.
        text: what it holds.
    """
    tree = json.loads(text)
    if name == "dataset_info.json" and isinstance(tree.get("features"), dict):
        tree["features"][column] = _STRING
    elif name == "state.json":
        known = f"{tree.get('_fingerprint')} {column}"
        tree["_fingerprint"] = hashlib.sha256(known.encode()).hexdigest()[:16]
        if isinstance(tree.get("_format_columns"), list):
            tree["_format_columns"] = [*tree["_format_columns"], column]
    return json.dumps(tree, indent=2) + "\n"
