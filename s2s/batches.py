"""Deterministic, length-bucketed global batches, and their tensors.

Shapes: B sentences of a batch, S source tokens, T target tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from s2s.ragged import Ints, Ragged
from s2s.text import PAD, SOS

# Batches of a pool within which rows are sorted by length. Sorting the whole corpus saves a little
# more padding and costs accuracy (docs/log.md).
POOL = 20


@dataclass(frozen=True)
class Batch:
    """Sentence pairs as padded tensors."""

    source: Tensor  # (B, S) int64, PAD after the last word
    source_lengths: Tensor  # (B,) int64, on the CPU: packing wants them there
    target_in: Tensor  # (B, T) int64: <sos>, then the words
    target_out: Tensor  # (B, T) int64: the words, then <eos>; PAD where nothing is to predict
    sentences: int  # that count; the others are there for the shape

    def to(self, device: torch.device) -> Self:
        """The batch with its tokens on a device."""
        return type(self)(
            self.source.to(device, non_blocking=True),
            self.source_lengths,
            self.target_in.to(device, non_blocking=True),
            self.target_out.to(device, non_blocking=True),
            self.sentences,
        )


def padded(lists: Ragged, rows: Ints) -> Tensor:
    """Some of the lists as rows, (B, longest) int64, PAD at their ends."""
    taken = lists.take(rows)
    steps = np.arange(taken.lengths.max())  # (longest,)
    inside = steps < taken.lengths[:, None]  # (B, longest)
    table = np.full(inside.shape, PAD, np.int64)
    table[inside] = taken.values  # row by row, as the values are
    return torch.from_numpy(table)


class Batches:
    """The batches of one part of a corpus, for one of `world` workers.

    A global batch is a set of rows chosen by (seed, epoch, position) alone; the worker of rank r
    takes every `world`-th of its rows, beginning with the r-th. So all workers together see the
    same batches whatever their number, and take the same number of steps.
    """

    def __init__(
        self, rows: Dataset, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        table = rows.with_format("arrow")[:]
        self._source, self._target = (
            Ragged.from_arrow(table[column].combine_chunks())
            for column in ("source_ids", "target_ids")
        )
        self._batch_size, self._seed = batch_size, seed
        self._rank, self._world = rank, world
        self.pairs = len(rows)
        self.tokens = int(self._target.lengths.sum())

    @property
    def longest_target(self) -> int:
        """Tokens of the longest target, `<eos>` included."""
        return int(self._target.lengths.max())

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.pairs // self._batch_size)

    def rows(self, epoch: int) -> list[Ints]:
        """The rows of each global batch of an epoch.

        Rows are shuffled and cut into pools; each pool is sorted by length and cut into batches,
        and all batches are shuffled: little padding, and batches that still mix lengths.
        """
        random = np.random.default_rng((self._seed, epoch))
        order = random.permutation(self.pairs)
        pool = np.arange(self.pairs) // (POOL * self._batch_size)
        source, target = self._source.lengths[order], self._target.lengths[order]
        order = order[np.lexsort((source, target, pool))]
        starts = random.permutation(len(self)) * self._batch_size
        return [order[start : start + self._batch_size] for start in starts]

    def epoch(self, epoch: int) -> Iterator[tuple[Batch, int]]:
        """The worker's share of each global batch, with the target tokens of the whole batch."""
        for rows in self.rows(epoch):
            yield self._collate(rows[self._rank :: self._world], rows), self._count(rows)

    def _count(self, rows: Ints) -> int:
        return int(self._target.lengths[rows].sum())

    def _collate(self, share: Ints, rows: Ints) -> Batch:
        if not len(share):
            # Fewer rows than workers: the worker takes its step on a row without targets, so
            # that it meets the others in the all-reduce and adds nothing to it.
            batch = self._collate(rows[:1], rows)
            return replace(batch, target_out=torch.full_like(batch.target_out, PAD), sentences=0)
        target_out = padded(self._target, share)  # (B, T)
        target_in = target_out.roll(1, dims=1)  # (B, T)
        target_in[:, 0] = SOS
        return Batch(
            source=padded(self._source, share),
            source_lengths=torch.from_numpy(self._source.lengths[share]),
            target_in=target_in,
            target_out=target_out,
            sentences=len(share),
        )
