"""Lists of numbers of different lengths as one flat array, handled without a loop."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
import pyarrow as pa

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Ragged:
    """Lists of int32, one after the other."""

    values: np.ndarray[Any, np.dtype[np.int32]]  # (sum of lengths,)
    starts: Ints  # (lists + 1,): list i is values[starts[i]:starts[i + 1]]

    @classmethod
    def of(cls, lists: Iterable[list[int]]) -> Self:
        """The lists of an iterable."""
        lists = list(lists)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        values = np.fromiter(chain.from_iterable(lists), np.int32, int(lengths.sum()))
        return cls(values, _starts(lengths))

    @classmethod
    def from_arrow(cls, lists: pa.ListArray) -> Self:
        """The lists of an Arrow array, without a copy of their values."""
        starts = lists.offsets.to_numpy().astype(np.int64)
        values = lists.values.to_numpy()[starts[0] : starts[-1]]
        return cls(values, starts - starts[0])

    def to_arrow(self) -> pa.ListArray:
        """The lists as an Arrow array of lists of int32."""
        starts = pa.array(self.starts.astype(np.int32))
        return pa.ListArray.from_arrays(starts, pa.array(self.values))

    def __len__(self) -> int:
        """Number of lists."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """Numbers in each list."""
        return np.diff(self.starts)

    def take(self, rows: Ints) -> Self:
        """Some of the lists, in the order of `rows`."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        return type(self)(self.values[_spans(self.starts[rows], lengths)], _starts(lengths))

    def joined(self, parts: Self) -> Self:
        """Lists of lists, flattened: each number of a list stands for the list of it in `parts`."""
        taken = parts.take(self.values.astype(np.int64))
        return type(self)(taken.values, taken.starts[self.starts])

    def closed(self, last: int) -> Self:
        """Every list with one number more at its end."""
        ends = self.starts[1:]
        return type(self)(
            np.insert(self.values, ends, last).astype(np.int32),
            self.starts + np.arange(len(self.starts)),
        )


class Column:
    """The lists of an Arrow column, read where they lie, however many there are.

    Only the bounds of its chunks are held; a memory-mapped column costs no memory of its own.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._views = [
            (chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in self._chunks
        ]
        self._bounds = _starts(np.array([len(chunk) for chunk in self._chunks], np.int64))

    def __len__(self) -> int:
        """Number of lists."""
        return int(self._bounds[-1])

    @property
    def total(self) -> int:
        """Sum of the lengths of all lists."""
        return sum(int(offsets[-1]) - int(offsets[0]) for _, offsets in self._views)

    @property
    def longest(self) -> int:
        """Length of the longest list."""
        return max((int(np.diff(offsets).max()) for _, offsets in self._views), default=0)

    def whole(self) -> Ragged:
        """All lists, copied."""
        values = [values[offsets[0] : offsets[-1]] for values, offsets in self._views]
        lengths = [np.diff(offsets) for _, offsets in self._views]
        none: list[Any] = [np.empty(0, np.int32)]
        return Ragged(np.concatenate(values or none), _starts(np.concatenate(lengths or none)))

    def lengths(self, rows: Ints) -> Ints:
        """Numbers in each of some lists, in the order of `rows`."""
        found = np.empty(len(rows), np.int64)
        for (_, offsets), places, own in self._by_chunk(rows):
            found[places] = offsets[own + 1] - offsets[own]
        return found

    def take(self, rows: Ints) -> Ragged:
        """Some of the lists, in the order of `rows`."""
        starts = _starts(self.lengths(rows))
        found = np.empty(starts[-1], np.int32)
        for (values, offsets), places, own in self._by_chunk(rows):
            mine = Ragged(values, offsets).take(own)
            found[_spans(starts[:-1][places], mine.lengths)] = mine.values
        return Ragged(found, starts)

    def _by_chunk(self, rows: Ints) -> Iterator[tuple[tuple[Any, Any], Ints, Ints]]:
        """For each chunk that has any: its views, places in `rows`, and their numbers in it."""
        order = np.argsort(rows, kind="stable")
        cuts = np.searchsorted(rows[order], self._bounds)
        for number in np.flatnonzero(np.diff(cuts)):
            places = order[cuts[number] : cuts[number + 1]]
            yield self._views[number], places, rows[places] - self._bounds[number]


def _spans(starts: Ints, lengths: Ints) -> Ints:
    """The places start, start + 1, … of each span, one span after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def _starts(lengths: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
