"""Tables of rows as the stages pass them on: cut, written, read, and told of."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s2s.corpus.directory import SIDES
from s2s.preparation.job import EXAMPLES, PIECE_BYTES, Outcome
from s2s.preparation.readers import STEP
from s2s.text.normalise import Words
from s2s.text.ragged import Ints, Ragged

_SHOWN = 160  # characters of a side in an example


def save(file: Path, table: pa.Table) -> None:
    """Write a table as an Arrow stream."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=STEP)


def load(file: Path) -> pa.Table:
    """A table that `save` wrote, memory-mapped."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_stream(source).read_all()


def first_rows(tables: Iterable[pa.Table], rows: int | None) -> Iterator[pa.Table]:
    """The first rows of some tables, or all."""
    left = rows
    for table in tables:
        yield table if left is None else table.slice(0, left)
        if left is not None and (left := left - table.num_rows) <= 0:
            return


def cut(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of some tables in pieces of a bounded size."""
    held: list[pa.Table] = []
    for table in tables:
        while table.num_rows:
            room = rows - sum(part.num_rows for part in held)
            held.append(table.slice(0, room))
            table = table.slice(room)
            full = sum(part.num_rows for part in held) == rows
            if full or sum(part.nbytes for part in held) >= PIECE_BYTES:
                yield pa.concat_tables(held)
                held = []
    if held:
        yield pa.concat_tables(held)


def words_column(words: Words, rows: Ints) -> pa.ListArray:
    """The words of some rows as a column of lists of dictionary-encoded strings."""
    taken = words.numbers.take(rows)
    values = pa.DictionaryArray.from_arrays(
        pa.array(taken.values), pa.array(words.distinct, pa.string())
    )
    return pa.ListArray.from_arrays(pa.array(taken.starts.astype(np.int32)), values)


def words_of(column: pa.ChunkedArray) -> Words:
    """What `words_column` keeps."""
    lists = column.combine_chunks()
    numbers = pa.ListArray.from_arrays(lists.offsets, lists.values.indices)
    return Words(Ragged.from_arrow(numbers), lists.values.dictionary.to_pylist())


def left_out(table: pa.Table, drop: Any) -> Outcome:
    """How many rows break each rule, and the first of them.

    Args:
        drop: (rows,) the rule that each row breaks, or empty.
    """
    rules = [rule for rule in dict.fromkeys(drop) if rule]
    examples = {}
    for rule in rules:
        rows = table.take(np.flatnonzero(drop == rule)[:EXAMPLES])
        sides = (rows[side].to_pylist() for side in SIDES)
        examples[rule] = [[text[:_SHOWN] for text in pair] for pair in zip(*sides, strict=True)]
    return {"drops": {rule: int((drop == rule).sum()) for rule in rules}, "examples": examples}


def histogram(numbers: Any) -> dict[int, int]:
    """How often each number occurs."""
    values, counts = np.unique(numbers, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
