"""Lists of numbers of different lengths as one flat array, handled without a loop."""

from collections.abc import Iterable
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
        starts = _starts(self.lengths[rows])
        places = np.repeat(self.starts[rows] - starts[:-1], np.diff(starts))
        return type(self)(self.values[places + np.arange(starts[-1])], starts)

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


def _starts(lengths: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
