"""Tables and arrays that stages leave for each other, and summaries of them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s2s.corpus.directory import SIDES
from s2s.files import new_file
from s2s.preparation.job import CHUNK_BYTES
from s2s.preparation.outcomes import EXAMPLES, Histogram, LeftOut
from s2s.preparation.readers import TABLE_ROWS
from s2s.text.normalise import SplitWords
from s2s.text.ragged import Ints, Ragged

_EXAMPLE_CHARACTERS = 160  # of a side


def save_table(path: Path, table: pa.Table) -> None:
    """Write a table as an Arrow stream, whole or not at all."""
    with (
        new_file(path) as file,
        pa.OSFile(str(file), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table.combine_chunks(), max_chunksize=TABLE_ROWS)


def load_table(path: Path) -> pa.Table:
    """Return a table that `save_table` wrote, memory-mapped."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all()


def save_array(path: Path, array: Any) -> None:
    """Write a NumPy array, whole or not at all."""
    with new_file(path) as file, file.open("wb") as opened:
        np.save(opened, array)


def first_rows(tables: Iterable[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    """Yield tables until they have `limit` rows in all; None yields all of them."""
    left = limit
    for table in tables:
        yield table if left is None else table.slice(0, left)
        if left is not None and (left := left - table.num_rows) <= 0:
            return


def rechunk(tables: Iterable[pa.Table], max_rows: int) -> Iterator[pa.Table]:
    """Yield the rows of tables as tables of at most `max_rows` rows and about `CHUNK_BYTES`."""
    held: list[pa.Table] = []
    for table in tables:
        while table.num_rows:
            room = max_rows - sum(part.num_rows for part in held)
            held.append(table.slice(0, room))
            table = table.slice(room)
            full = sum(part.num_rows for part in held) == max_rows
            if full or sum(part.nbytes for part in held) >= CHUNK_BYTES:
                yield pa.concat_tables(held)
                held = []
    if held:
        yield pa.concat_tables(held)


def words_column(words: SplitWords, rows: Ints) -> pa.ListArray:
    """Return the words of the sentences at `rows` as lists of dictionary-encoded strings."""
    selected = words.indices.select(rows)
    values = pa.DictionaryArray.from_arrays(
        pa.array(selected.values), pa.array(words.distinct, pa.string())
    )
    return pa.ListArray.from_arrays(pa.array(selected.offsets.astype(np.int32)), values)


def words_of_column(column: pa.ChunkedArray) -> SplitWords:
    """Return the words that `words_column` encoded."""
    lists = column.combine_chunks()
    indices = pa.ListArray.from_arrays(lists.offsets, lists.values.indices)
    return SplitWords(Ragged.from_arrow(indices), lists.values.dictionary.to_pylist())


def left_out_rows(table: pa.Table, drop: Any) -> LeftOut:
    """Return how many rows break each rule, with the first of them.

    Args:
        table: columns `source` and `target`.
        drop: (rows,) the rule that each row breaks, or empty.
    """
    rules = [rule for rule in dict.fromkeys(drop) if rule]
    examples = {}
    for rule in rules:
        rows = table.take(np.flatnonzero(drop == rule)[:EXAMPLES])
        source, target = (
            [text[:_EXAMPLE_CHARACTERS] for text in rows[side].to_pylist()] for side in SIDES
        )
        examples[rule] = list(zip(source, target, strict=True))
    return LeftOut(drops={rule: int((drop == rule).sum()) for rule in rules}, examples=examples)


def histogram(numbers: Any) -> Histogram:
    """Return how often each number occurs."""
    values, counts = np.unique(numbers, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def sum_histograms(histograms: Iterable[Histogram]) -> Histogram:
    """Return how often each number occurs in all of them, in ascending order of the numbers."""
    total: Histogram = {}
    for each in histograms:
        for value, count in each.items():
            total[value] = total.get(value, 0) + count
    return dict(sorted(total.items()))
