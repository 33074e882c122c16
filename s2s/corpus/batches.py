"""Deterministic, length-bucketed global batches, and their tensors.

Shapes: P rows of a pool, B sentences of a batch, S source tokens, T target tokens.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self, TypeVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from s2s.text.ragged import Ints, ListColumn, Ragged
from s2s.text.vocabulary import PAD, SOS

Item = TypeVar("Item")

# Global batches in a pool, within which rows are sorted by length. Sorting the whole corpus saves a
# little more padding and costs accuracy (docs/log.md).
BATCHES_PER_POOL = 20


@dataclass(frozen=True)
class Batch:
    """Sentence pairs as padded tensors."""

    source: Tensor  # (B, S) int64, PAD after the last token
    source_lengths: Tensor  # (B,) int64, each at least 1
    target_in: Tensor  # (B, T) int64: <sos>, then the tokens
    target_out: Tensor  # (B, T) int64: the tokens, then <eos>; PAD where nothing is predicted
    sentences: int  # that count; further rows only fill the shape. A batch made on a GPU says B.
    # (N,) int64, positions of the real tokens in the flattened target_out, filled up with -1 to a
    # fixed size; None where the positions have not been computed.
    target_positions: Tensor | None = None

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""
        if device.type == "cpu":
            return self
        return type(self)(
            self.source.to(device, non_blocking=True),
            self.source_lengths.to(device, non_blocking=True),
            self.target_in.to(device, non_blocking=True),
            self.target_out.to(device, non_blocking=True),
            self.sentences,
        )


@dataclass(frozen=True)
class Pool:
    """Rows sorted by length, and the global batches that they are divided into."""

    rows: Ints  # (P,) of the corpus
    source_lengths: Ints  # (P,)
    target_lengths: Ints  # (P,)
    # Indices into the pool of the rows of each global batch, in the order of the steps.
    batches: list[Ints]


@dataclass(frozen=True)
class GlobalBatch:
    """What every worker knows of the sentence pairs of one optimizer step."""

    rows: Ints  # of the corpus
    tokens: int  # real target tokens
    source_ids: Tensor  # (unique tokens,) int64, sorted
    target_ids: Tensor  # (unique tokens,) int64, sorted, with <sos>

    @classmethod
    def from_rows(cls, rows: Ints, source: Ragged, target: Ragged) -> "GlobalBatch":
        """Return the global batch of some rows, given the tokens of these rows."""
        return GlobalBatch(
            rows=rows,
            tokens=len(target.values),
            source_ids=torch.from_numpy(np.unique(source.values).astype(np.int64)),
            target_ids=torch.from_numpy(np.union1d(target.values, [SOS]).astype(np.int64)),
        )


@dataclass(frozen=True)
class LocalBatch(GlobalBatch):
    """A global batch with the part of it that one worker computes, as tensors on the CPU."""

    micro_batches: list[Batch]  # their gradients are accumulated


class Batches:
    """The batches of one split of a corpus, for one of `world_size` workers.

    A global batch is a set of rows that depends on seed, epoch and position alone. Its rows are
    dealt out in turn to the micro-batches of all workers: every number of workers and micro-batches
    sees the same global batches, and all workers take the same number of steps.

    Args:
        rows: columns `source_ids` and `target_ids`; memory-mapped columns are not copied.
        batch_size: sentence pairs in a global batch.
        rank: of this worker, from 0.
        batch_tokens: if set, target tokens in a global batch, padding included, instead of
            `batch_size`.
        accumulate: micro-batches that each worker divides its part of a global batch into.
    """

    def __init__(
        self,
        rows: Dataset,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        *,
        batch_tokens: int | None = None,
        accumulate: int = 1,
    ) -> None:
        # The table of a selection also holds the rows that were not selected: copy the selected.
        table = rows.data if rows._indices is None else rows.with_format("arrow")[:]
        self._source, self._target = (
            ListColumn(table.column(name)) for name in ("source_ids", "target_ids")
        )
        self.batch_size, self.batch_tokens, self._seed = batch_size, batch_tokens, seed
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate
        self._lengths: tuple[Any, Any] | None = None  # of all rows, once they are cached
        self.pairs = len(rows)
        self.target_tokens = self._target.total_length
        self.source_tokens = self._source.total_length
        if batch_tokens is not None:
            batch_size = max(1, batch_tokens * self.pairs // self.target_tokens)
        self._pool_size = BATCHES_PER_POOL * batch_size

    @property
    def longest_target(self) -> int:
        """Length of the longest target in tokens, `<eos>` included."""
        return self._target.max_length

    def steps_per_epoch(self, epoch: int) -> int:
        """Return the number of global batches in an epoch (with `batch_tokens`, epochs differ)."""
        if self.batch_tokens is None:
            return -(-self.pairs // self.batch_size)
        return sum(
            len(self._divide(target[_by_length(source, target)]))
            for rows in self._shuffled(epoch)
            for source, target in [self._lengths_of(rows)]
        )

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[LocalBatch]:
        """Yield the global batches of an epoch, each with this worker's part.

        Rows are shuffled and divided into pools; each pool is sorted by length and divided into
        batches, which are shuffled. There is little padding, and an epoch still mixes lengths.

        Args:
            skip: global batches to leave out at the start of the epoch.
        """
        for pool in self.pools(epoch, skip):
            tokens = self.tokens(pool.rows)
            for batch in pool.batches:
                yield self._local_batch(pool.rows[batch], *(side.select(batch) for side in tokens))

    def pools(self, epoch: int, skip: int = 0) -> Iterator[Pool]:
        """Yield the pools of an epoch, without its first `skip` global batches."""
        for number, rows in enumerate(self._shuffled(epoch)):
            if self.batch_tokens is None and skip >= BATCHES_PER_POOL:
                skip -= BATCHES_PER_POOL  # the whole pool, without reading its lengths
                continue
            source, target = self._lengths_of(rows)
            order = _by_length(source, target)
            batches = self._divide(target[order])
            shuffled = np.random.default_rng((self._seed, epoch, number)).permutation(len(batches))
            yield Pool(
                rows[order],
                source[order],
                target[order],
                [batches[index] for index in shuffled[skip:]],
            )
            skip = max(0, skip - len(batches))

    def tokens(self, rows: Ints | None = None) -> tuple[Ragged, Ragged]:
        """Return source and target tokens of some rows, or of all."""
        if rows is None:
            return self._source.to_ragged(), self._target.to_ragged()
        return self._source.select(rows), self._target.select(rows)

    def cache_lengths(self) -> None:
        """Keep the lengths of all rows in memory, 8 bytes a row, to make pools without reading."""
        rows = np.arange(self.pairs)
        source, target = (c.lengths(rows).astype(np.int32) for c in (self._source, self._target))
        self._lengths = (source, target)

    def _lengths_of(self, rows: Ints) -> tuple[Ints, Ints]:
        if self._lengths is None:
            return self._source.lengths(rows), self._target.lengths(rows)
        source, target = self._lengths
        return source[rows], target[rows]

    def _shuffled(self, epoch: int) -> Iterator[Ints]:
        """Yield the rows of each pool of an epoch, in random order."""
        order = np.arange(self.pairs, dtype=np.int32)  # half the memory of int64
        np.random.default_rng((self._seed, epoch)).shuffle(order)
        for start in range(0, self.pairs, self._pool_size):
            yield order[start : start + self._pool_size].astype(np.int64)

    def _divide(self, lengths: Ints) -> list[Ints]:
        """Return the indices of each batch of a pool with ascending target lengths (P,)."""
        ends = [0]
        while ends[-1] < len(lengths):
            if self.batch_tokens is None:
                size = self.batch_size
            else:
                rest = lengths[ends[-1] :]
                # A batch is as wide as its last row, padding included.
                padded_tokens = rest * np.arange(1, len(rest) + 1)
                size = max(1, int(np.searchsorted(padded_tokens, self.batch_tokens, side="right")))
            ends.append(min(ends[-1] + size, len(lengths)))
        return [np.arange(start, end) for start, end in pairwise(ends)]

    def _local_batch(self, rows: Ints, source: Ragged, target: Ragged) -> LocalBatch:
        """Return the global batch of some rows, with the micro-batches of this worker."""
        stride = self.world_size * self.accumulate  # micro-batches of all workers
        return LocalBatch(
            micro_batches=[
                _collate(source, target, np.arange(first, len(rows), stride))
                for first in range(self.rank, stride, self.world_size)
            ],
            **vars(GlobalBatch.from_rows(rows, source, target)),
        )


def _by_length(source: Ints, target: Ints) -> Ints:
    """Return the stable order of rows by target length, then by source length.

    The order is that of np.lexsort, but numpy sorts 16-bit integers in linear time.
    """
    if max(source.max(), target.max()) >= 1 << 16:
        return np.lexsort((source, target))
    order = np.argsort(source.astype(np.uint16), kind="stable")
    return order[np.argsort(target[order].astype(np.uint16), kind="stable")]


def _collate(source: Ragged, target: Ragged, rows: Ints) -> Batch:
    """Return some rows as padded tensors."""
    if not len(rows):
        # There are fewer rows than micro-batches. The worker computes a row without targets: it
        # joins the all-reduce of the others and adds nothing to it.
        batch = _collate(source, target, np.arange(1))
        return replace(batch, target_out=torch.full_like(batch.target_out, PAD), sentences=0)
    target_out = torch.from_numpy(target.pad(rows, PAD))  # (B, T)
    target_in = target_out.roll(1, dims=1)  # (B, T)
    target_in[:, 0] = SOS
    return Batch(
        source=torch.from_numpy(source.pad(rows, PAD)),
        source_lengths=torch.from_numpy(source.lengths[rows]),
        target_in=target_in,
        target_out=target_out,
        sentences=len(rows),
    )


def prefetch(items: Iterator[Item], depth: int = 4) -> Iterator[Item]:
    """Yield the items of an iterator, which a thread computes up to `depth` items ahead.

    An error of the iterator is raised in place of its item. Closing the generator ends the thread.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> bool:
        while not closed.is_set():
            try:
                ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(item, None):
                    return
            put(None, StopIteration())
        except BaseException as error:  # it is raised in the consumer's thread
            put(None, error)

    threading.Thread(target=produce, name="s2s-batches", daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        closed.set()
