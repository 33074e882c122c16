"""Deterministic, length-bucketed global batches, and their tensors.

Shapes: B sentences of a batch, S source tokens, T target tokens.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self, TypeVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from s2s.ragged import Column, Ints, Ragged
from s2s.text import PAD, SOS

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
    sentences: int  # that count; the others are there for the shape
    # (N,) int64, the places of the real tokens in the flattened target_out, then -1 to a fixed
    # number of places; None where the places are not known yet.
    predicted: Tensor | None = None

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

    source: Ragged
    target: Ragged
    rows: Ints  # of the corpus
    batches: list[
        Ints
    ]  # places in the pool of the rows of each global batch, in order of the steps


@dataclass(frozen=True)
class Step:
    """What all workers know of an optimizer step: facts of its global batch."""

    rows: Ints
    tokens: int  # of its targets
    source_words: Tensor  # (words,) int64, the different ones that the global batch reads
    target_words: Tensor  # (words,) int64, <sos> among them

    @classmethod
    def facts(cls, pool: Pool, batch: Ints) -> "Step":
        """The facts of a batch of a pool."""
        read, said = pool.source.take(batch), pool.target.take(batch)
        return Step(
            rows=pool.rows[batch],
            tokens=len(said.values),
            source_words=torch.from_numpy(np.unique(read.values).astype(np.int64)),
            target_words=torch.from_numpy(np.union1d(said.values, [SOS]).astype(np.int64)),
        )


@dataclass(frozen=True)
class HostStep(Step):
    """An optimizer step with a worker's share of its global batch, as tensors on the CPU."""

    shares: list[Batch]  # whose gradients are accumulated


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
            Column(table.column(name)) for name in ("source_ids", "target_ids")
        )
        self.batch_size, self.batch_tokens, self._seed = batch_size, batch_tokens, seed
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self.pairs = len(rows)
        self.tokens = self._target.total
        if batch_tokens is not None:
            batch_size = max(1, batch_tokens * self.pairs // self.tokens)
        self._pool = POOL * batch_size

    @property
    def longest_target(self) -> int:
        """Tokens of the longest target, `<eos>` included."""
        return self._target.longest

    def steps(self, epoch: int) -> int:
        """Global batches of an epoch."""
        if self.batch_tokens is None:
            return -(-self.pairs // self.batch_size)
        return sum(
            len(self._cut(self._target.lengths(rows[order])))
            for rows in self._pools(epoch)
            for order in [self._sorted(rows)]
        )

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[HostStep]:
        """The worker's part of each global batch of an epoch.

        Rows are shuffled and cut into pools; each pool is sorted by length and cut into batches,
        which are shuffled: little padding, and batches that still mix lengths.

        Args:
            skip: global batches from the start that are passed over.
        """
        for pool in self.pools(epoch, skip):
            for batch in pool.batches:
                yield self._step(pool, batch)

    def pools(self, epoch: int, skip: int = 0) -> Iterator[Pool]:
        """The pools of an epoch, without the first `skip` global batches."""
        for number, rows in enumerate(self._pools(epoch)):
            if self.batch_tokens is None and skip >= POOL:
                skip -= POOL  # without reading it
                continue
            rows = rows[self._sorted(rows)]
            source, target = self._source.take(rows), self._target.take(rows)
            batches = self._cut(target.lengths)
            order = np.random.default_rng((self._seed, epoch, number)).permutation(len(batches))
            yield Pool(source, target, rows, [batches[place] for place in order[skip:]])
            skip = max(0, skip - len(batches))

    def _pools(self, epoch: int) -> Iterator[Ints]:
        order = np.arange(self.pairs, dtype=np.int32)  # half of what int64 takes
        np.random.default_rng((self._seed, epoch)).shuffle(order)
        for start in range(0, self.pairs, self._pool):
            yield order[start : start + self._pool].astype(np.int64)

    def _sorted(self, rows: Ints) -> Ints:
        return np.lexsort((self._source.lengths(rows), self._target.lengths(rows)))

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

    def _step(self, pool: Pool, batch: Ints) -> HostStep:
        shares = self.world * self.accumulate
        read, said = pool.source.take(batch), pool.target.take(batch)
        return HostStep(
            shares=[
                _collate(read, said, np.arange(share, len(batch), shares))
                for share in range(self.rank, shares, self.world)
            ],
            **vars(Step.facts(pool, batch)),
        )


def _collate(source: Ragged, target: Ragged, rows: Ints) -> Batch:
    if not len(rows):
        # Fewer rows than shares: the worker takes its step on a row without targets, so that it
        # meets the others in the all-reduce and adds nothing to it.
        batch = _collate(source, target, np.arange(1))
        return replace(batch, target_out=torch.full_like(batch.target_out, PAD), sentences=0)
    target_out = padded(target, rows)  # (B, T)
    target_in = target_out.roll(1, dims=1)  # (B, T)
    target_in[:, 0] = SOS
    return Batch(
        source=padded(source, rows),
        source_lengths=torch.from_numpy(source.lengths[rows]),
        target_in=target_in,
        target_out=target_out,
        sentences=len(rows),
    )


def ahead(items: Iterator[Item], depth: int = 4) -> Iterator[Item]:
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
