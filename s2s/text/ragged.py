"""Lists of integers of different lengths, stored as one flat array and processed without a loop.

The layout is Arrow's: `values` holds all lists one after the other, and `offsets` says where each
begins and ends.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
import pyarrow as pa

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Ragged:
    """Lists of int32 values, in memory."""

    values: np.ndarray[Any, np.dtype[np.int32]]  # (sum of lengths,)
    offsets: Ints  # (lists + 1,): list i is values[offsets[i]:offsets[i + 1]]

    @classmethod
    def from_lists(cls, lists: Iterable[list[int]]) -> Self:
        """Return Python lists as one ragged array."""
        lists = list(lists)
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        values = np.fromiter(chain.from_iterable(lists), np.int32, int(lengths.sum()))
        return cls(values, _offsets(lengths))

    @classmethod
    def from_arrow(cls, lists: pa.ListArray) -> Self:
        """Return an Arrow array of lists of int32, without copying its values."""
        offsets = lists.offsets.to_numpy().astype(np.int64)
        values = lists.values.to_numpy()[offsets[0] : offsets[-1]]
        return cls(values, offsets - offsets[0])

    def to_arrow(self) -> pa.ListArray:
        """Return an Arrow array of lists of int32."""
        offsets = pa.array(self.offsets.astype(np.int32))
        return pa.ListArray.from_arrays(offsets, pa.array(self.values))

    def __len__(self) -> int:
        """Return the number of lists."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Length of each list, (lists,)."""
        return np.diff(self.offsets)

    def select(self, rows: Ints) -> Self:
        """Return the lists at `rows`, in that order."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return type(self)(self.values[_ranges(self.offsets[rows], lengths)], _offsets(lengths))

    def substitute(self, lists: Self) -> Self:
        """Return the lists with each value `n` replaced by the values of `lists[n]`."""
        chosen = lists.select(self.values.astype(np.int64))
        return type(self)(chosen.values, chosen.offsets[self.offsets])

    def append_to_each(self, value: int) -> Self:
        """Return the lists with `value` added at the end of each."""
        return type(self)(
            np.insert(self.values, self.offsets[1:], value).astype(np.int32),
            self.offsets + np.arange(len(self.offsets)),
        )

    def pad(self, rows: Ints, value: int) -> Ints:
        """Return the lists at `rows` as a matrix, (rows, longest), `value` after each one's end."""
        selected = self.select(rows)
        positions = np.arange(selected.lengths.max())  # (longest,)
        inside = positions < selected.lengths[:, None]  # (rows, longest)
        matrix = np.full(inside.shape, value, np.int64)
        matrix[inside] = selected.values  # both are in row-major order
        return matrix


class ListColumn:
    """An Arrow column of lists, read in place, however long it is.

    Only the bounds of its chunks are held; a memory-mapped column needs no memory of its own.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._views = [
            (chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in self._chunks
        ]
        self._bounds = _offsets(np.array([len(chunk) for chunk in self._chunks], np.int64))

    def __len__(self) -> int:
        """Return the number of lists."""
        return int(self._bounds[-1])

    @property
    def total_length(self) -> int:
        """Sum of the lengths of all lists."""
        return sum(int(offsets[-1]) - int(offsets[0]) for _, offsets in self._views)

    @property
    def max_length(self) -> int:
        """Length of the longest list; 0 if there is none."""
        return max((int(np.diff(offsets).max()) for _, offsets in self._views), default=0)

    def to_ragged(self) -> Ragged:
        """Return a copy of all lists."""
        values = [values[offsets[0] : offsets[-1]] for values, offsets in self._views]
        lengths = [np.diff(offsets) for _, offsets in self._views]
        none: list[Any] = [np.empty(0, np.int32)]
        return Ragged(np.concatenate(values or none), _offsets(np.concatenate(lengths or none)))

    def lengths(self, rows: Ints) -> Ints:
        """Return the lengths of the lists at `rows`, in that order."""
        lengths = np.empty(len(rows), np.int64)
        for (_, offsets), positions, local in self._by_chunk(rows):
            lengths[positions] = offsets[local + 1] - offsets[local]
        return lengths

    def select(self, rows: Ints) -> Ragged:
        """Return a copy of the lists at `rows`, in that order."""
        offsets = _offsets(self.lengths(rows))
        values = np.empty(offsets[-1], np.int32)
        for (chunk_values, chunk_offsets), positions, local in self._by_chunk(rows):
            lists = Ragged(chunk_values, chunk_offsets).select(local)
            values[_ranges(offsets[:-1][positions], lists.lengths)] = lists.values
        return Ragged(values, offsets)

    def _by_chunk(self, rows: Ints) -> Iterator[tuple[tuple[Any, Any], Ints, Ints]]:
        """Yield what each chunk that holds any of `rows` has of them.

        This is its values and offsets, the positions in `rows` of those that it holds, and their
        numbers within the chunk.
        """
        order = np.argsort(rows, kind="stable")
        cuts = np.searchsorted(rows[order], self._bounds)
        for chunk in np.flatnonzero(np.diff(cuts)):
            positions = order[cuts[chunk] : cuts[chunk + 1]]
            yield self._views[chunk], positions, rows[positions] - self._bounds[chunk]


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return the integers start, start + 1, … of each range, one range after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
