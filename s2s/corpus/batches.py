"""Deterministic, length-bucketed global batches, and their tensors.

Shapes: B sentences of a batch, S source tokens, T target tokens.
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

# Batches of a pool within which rows are sorted by length. Sorting the whole corpus saves a little
# more padding and costs accuracy (docs/log.md).
POOL = 20


@dataclass(frozen=True)
class Batch:
    """Sentence pairs as padded tensors."""

    source: Tensor  # (B, S) int64, PAD after the last word
    source_lengths: Tensor  # (B,) int64, each at least 1
    target_in: Tensor  # (B, T) int64: <sos>, then the words
    target_out: Tensor  # (B, T) int64: the words, then <eos>; PAD where nothing is to predict
    sentences: int  # that count, the others being there for the shape; on a GPU, all
    # (N,) int64, the places of the real tokens in the flattened target_out, then -1 to a fixed
    # number of places; None where the places are not known yet.
    target_positions: Tensor | None = None

    def to(self, device: torch.device) -> Self:
        """The batch on a device."""
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
    """Rows sorted by length, and the batches that they are cut into."""

    rows: Ints  # of the corpus
    source_lengths: Ints
    target_lengths: Ints
    # Places in the pool of the rows of each global batch, in the order of the steps.
    batches: list[Ints]


@dataclass(frozen=True)
class GlobalBatch:
    """What all workers know of an optimizer step: facts of its global batch."""

    rows: Ints
    tokens: int  # of its targets
    source_ids: Tensor  # (words,) int64, the different ones that the global batch reads
    target_ids: Tensor  # (words,) int64, <sos> among them

    @classmethod
    def of(cls, rows: Ints, source: Ragged, target: Ragged) -> "GlobalBatch":
        """The facts of a global batch of so many rows, and their tokens."""
        return GlobalBatch(
            rows=rows,
            tokens=len(target.values),
            source_ids=torch.from_numpy(np.unique(source.values).astype(np.int64)),
            target_ids=torch.from_numpy(np.union1d(target.values, [SOS]).astype(np.int64)),
        )


@dataclass(frozen=True)
class LocalBatch(GlobalBatch):
    """An optimizer step with a worker's share of its global batch, as tensors on the CPU."""

    micro_batches: list[Batch]  # whose gradients are accumulated


def pad(lists: Ragged, rows: Ints) -> Tensor:
    """Some of the lists as rows, (B, longest) int64, PAD at their ends."""
    taken = lists.select(rows)
    steps = np.arange(taken.lengths.max())  # (longest,)
    inside = steps < taken.lengths[:, None]  # (B, longest)
    table = np.full(inside.shape, PAD, np.int64)
    table[inside] = taken.values  # row by row, as the values are
    return torch.from_numpy(table)


class Batches:
    """The batches of one part of a corpus, for one of `world` workers.

    A global batch is a set of rows chosen by (seed, epoch, position) alone. It is dealt out, row by
    row, to the shares of all workers, so all workers together see the same batches whatever their
    number and that of their shares, and take the same number of steps.

    Args:
        rows: columns `source_ids` and `target_ids`; memory-mapped rows are read where they lie.
        batch_size: sentence pairs of a global batch.
        batch_tokens: if given, the target tokens of a global batch instead, padding included.
        accumulate: shares in which a worker takes its part of a global batch.
    """

    def __init__(
        self,
        rows: Dataset,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        *,
        batch_tokens: int | None = None,
        accumulate: int = 1,
    ) -> None:
        # The table of a selection holds other rows, too: it is copied.
        table = rows.data if rows._indices is None else rows.with_format("arrow")[:]
        self._source, self._target = (
            ListColumn(table.column(name)) for name in ("source_ids", "target_ids")
        )
        self.batch_size, self.batch_tokens, self._seed = batch_size, batch_tokens, seed
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self._lengths: tuple[Any, Any] | None = None  # if they are remembered
        self.pairs = len(rows)
        self.target_tokens = self._target.total_length
        self.source_tokens = self._source.total_length
        if batch_tokens is not None:
            batch_size = max(1, batch_tokens * self.pairs // self.target_tokens)
        self._pool = POOL * batch_size

    @property
    def longest_target(self) -> int:
        """Tokens of the longest target, `<eos>` included."""
        return self._target.max_length

    def steps(self, epoch: int) -> int:
        """Global batches of an epoch."""
        if self.batch_tokens is None:
            return -(-self.pairs // self.batch_size)
        return sum(
            len(self._cut(target[_by_length(source, target)]))
            for rows in self._pools(epoch)
            for source, target in [self._lengths_of(rows)]
        )

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[LocalBatch]:
        """The worker's part of each global batch of an epoch.

        Rows are shuffled and cut into pools; each pool is sorted by length and cut into batches,
        which are shuffled: little padding, and batches that still mix lengths.

        Args:
            skip: global batches from the start that are passed over.
        """
        for pool in self.pools(epoch, skip):
            tokens = self.tokens(pool.rows)
            for batch in pool.batches:
                yield self._step(pool.rows[batch], *(side.select(batch) for side in tokens))

    def pools(self, epoch: int, skip: int = 0) -> Iterator[Pool]:
        """The pools of an epoch, without the first `skip` global batches."""
        for number, rows in enumerate(self._pools(epoch)):
            if self.batch_tokens is None and skip >= POOL:
                skip -= POOL  # without reading it
                continue
            source, target = self._lengths_of(rows)
            order = _by_length(source, target)
            batches = self._cut(target[order])
            shuffled = np.random.default_rng((self._seed, epoch, number)).permutation(len(batches))
            yield Pool(
                rows[order],
                source[order],
                target[order],
                [batches[place] for place in shuffled[skip:]],
            )
            skip = max(0, skip - len(batches))

    def tokens(self, rows: Ints | None = None) -> tuple[Ragged, Ragged]:
        """Source and target of some rows, or of all."""
        if rows is None:
            return self._source.to_ragged(), self._target.to_ragged()
        return self._source.select(rows), self._target.select(rows)

    def remember_lengths(self) -> None:
        """Keep the lengths of all rows, 8 bytes for each: pools are then made without reading."""
        rows = np.arange(self.pairs)
        source, target = (c.lengths(rows).astype(np.int32) for c in (self._source, self._target))
        self._lengths = (source, target)

    def _lengths_of(self, rows: Ints) -> tuple[Ints, Ints]:
        if self._lengths is None:
            return self._source.lengths(rows), self._target.lengths(rows)
        source, target = self._lengths
        return source[rows], target[rows]

    def _pools(self, epoch: int) -> Iterator[Ints]:
        order = np.arange(self.pairs, dtype=np.int32)  # half of what int64 takes
        np.random.default_rng((self._seed, epoch)).shuffle(order)
        for start in range(0, self.pairs, self._pool):
            yield order[start : start + self._pool].astype(np.int64)

    def _cut(self, lengths: Ints) -> list[Ints]:
        """The rows of each batch of a pool, by the target lengths of its rows, shortest first."""
        ends = [0]
        while ends[-1] < len(lengths):
            if self.batch_tokens is None:
                size = self.batch_size
            else:
                rest = lengths[ends[-1] :]
                places = rest * np.arange(1, len(rest) + 1)  # a batch is as wide as its last row
                size = max(1, int(np.searchsorted(places, self.batch_tokens, side="right")))
            ends.append(min(ends[-1] + size, len(lengths)))
        return [np.arange(start, end) for start, end in pairwise(ends)]

    def _step(self, rows: Ints, source: Ragged, target: Ragged) -> LocalBatch:
        shares = self.world * self.accumulate
        return LocalBatch(
            micro_batches=[
                _collate(source, target, np.arange(share, len(rows), shares))
                for share in range(self.rank, shares, self.world)
            ],
            **vars(GlobalBatch.of(rows, source, target)),
        )


def _by_length(source: Ints, target: Ints) -> Ints:
    """The order of rows by target length, then by source length, then as they are.

    What np.lexsort gives, but numpy sorts short integers in linear time.
    """
    if max(source.max(), target.max()) >= 1 << 16:
        return np.lexsort((source, target))
    order = np.argsort(source.astype(np.uint16), kind="stable")
    return order[np.argsort(target[order].astype(np.uint16), kind="stable")]


def _collate(source: Ragged, target: Ragged, rows: Ints) -> Batch:
    if not len(rows):
        # Fewer rows than shares: the worker takes its step on a row without targets, so that it
        # meets the others in the all-reduce and adds nothing to it.
        batch = _collate(source, target, np.arange(1))
        return replace(batch, target_out=torch.full_like(batch.target_out, PAD), sentences=0)
    target_out = pad(target, rows)  # (B, T)
    target_in = target_out.roll(1, dims=1)  # (B, T)
    target_in[:, 0] = SOS
    return Batch(
        source=pad(source, rows),
        source_lengths=torch.from_numpy(source.lengths[rows]),
        target_in=target_in,
        target_out=target_out,
        sentences=len(rows),
    )


def prefetch(items: Iterator[Item], depth: int = 4) -> Iterator[Item]:
    """The items of an iterator, made by a thread of their own before they are asked for.

    An error of the iterator is raised where its item would have been; a caller that stops early
    ends the thread.
    """
    made: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    left = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> bool:
        while not left.is_set():
            try:
                made.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item, None):
                    return
            put(None, StopIteration())
        except BaseException as error:  # it is raised in the thread that asked
            put(None, error)

    threading.Thread(target=make, name="s2s-batches", daemon=True).start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        left.set()
