"""Batches that are put together on a GPU, so that a step needs one small copy from the CPU.

The tokens of a corpus are held on the card if they take little of its memory, else those of each
pool of batches are copied there. A batch is then a few numbers, by which the card gathers the
padded tensors itself, in shapes that are rounded up so that there are few of them: a step's kernels
can be recorded for each (`s2s.gpu.graphs`).

Shapes: P rows of a pool, B sentences of a batch, S source tokens, T target tokens, N of them real.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2s.corpus.batches import Batch, Batches, GlobalBatch, Pool
from s2s.gpu.kernels import collate, has_kernels
from s2s.text.ragged import Ragged
from s2s.text.vocabulary import PAD, SOS

# Of the card's memory, what the tokens of a corpus may take.
_HELD = 0.1

# Lengths are rounded up to a multiple of this, and of a quarter of the power of two below.
_TOKENS = 4
# The same for real target tokens, whose number has a finer grid: the output layer pays for each.
_REAL = 64


class Shape(NamedTuple):
    """The shape of a batch on the card."""

    sentences: int  # B
    source: int  # S
    target: int  # T
    real: int  # N


@dataclass(frozen=True)
class MicroBatch:
    """The places in a pool that make a batch: first, first + stride, …, before end."""

    first: int
    end: int
    stride: int
    shape: Shape


@dataclass(frozen=True)
class Tokens:
    """The tokens of some rows, one list after the other, all int64."""

    source: Tensor
    source_starts: Tensor  # (rows + 1,)
    target: Tensor
    target_starts: Tensor  # (rows + 1,)

    @classmethod
    def of(cls, source: Ragged, target: Ragged, device: torch.device) -> "Tokens":
        """The tokens in memory from which the device copies."""
        parts = (source.values, source.offsets, target.values, target.offsets)
        return cls(*(_pinned(part, device) for part in parts))

    @property
    def parts(self) -> list[Tensor]:
        """All tensors."""
        return [self.source, self.source_starts, self.target, self.target_starts]


@dataclass(frozen=True)
class CardPool:
    """A pool in page-locked memory, from which the card copies by itself."""

    rows: Tensor  # (P,) int64, of the tokens
    places: Tensor  # (P + 1,) int64, real target tokens before each row
    tokens: Tokens | None  # of the pool alone, if the card does not hold those of the corpus


@dataclass(frozen=True)
class DeviceBatch(GlobalBatch):
    """An optimizer step whose batches the card puts together."""

    micro_batches: list[MicroBatch]
    pool: CardPool


class Card:
    """The tokens that are trained on, and the numbers of the current batch, on a GPU.

    They stay where they are, so that recorded kernels find them; `load` says when they could not.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._asked: Batches | None = None  # who was looked at last
        self._held: Batches | None = None  # whose tokens are all here
        self._pool: CardPool | None = None
        self._tokens = Tokens(*(self._room(0) for _ in range(4)))
        self._rows, self._places = self._room(0), self._room(0)
        # Places in the pool, and what the caller wants to know of the step; all exact in float64.
        self._numbers = torch.zeros(8, dtype=torch.float64, device=device)

    def hold(self, batches: Batches) -> bool:
        """Copy all tokens of a corpus to the card, if they take little of its memory.

        Returns:
            Whether tensors have moved, so that graphs must be recorded anew.
        """
        if batches is self._asked:
            return False
        self._asked, self._held = batches, None
        size = 8 * (batches.source_tokens + batches.target_tokens + 2 * batches.pairs)
        room = float("inf")
        if self._device.type == "cuda":
            room = _HELD * torch.cuda.get_device_properties(self._device).total_memory
        if size > room:
            return False
        batches.remember_lengths()
        source, target = batches.tokens()
        parts = (source.values, source.offsets, target.values, target.offsets)
        self._tokens = Tokens(*(torch.from_numpy(part).to(self._device).long() for part in parts))
        self._held = batches
        return True

    def steps(self, batches: Batches, epoch: int, skip: int) -> Iterator[DeviceBatch]:
        """The steps of an epoch, as `Batches.epoch` gives them."""
        if self._device.index is not None:
            torch.cuda.set_device(self._device)  # of the thread that makes them
        for pool in batches.pools(epoch, skip):
            tokens, rows = None, pool.rows
            if self._held is not batches:
                tokens = Tokens.of(*batches.tokens(rows), self._device)
                rows = np.arange(len(rows))
            places = np.concatenate(([0], np.cumsum(pool.target_lengths)))
            made = CardPool(_pinned(rows, self._device), _pinned(places, self._device), tokens)
            for batch in pool.batches:
                first, end = int(batch[0]), int(batch[-1]) + 1
                count = int(places[end] - places[first])
                own = pool.rows[first:end]
                if batches.world > 1:  # what they exchange are the rows of its words
                    facts = GlobalBatch.of(own, *batches.tokens(own))
                else:
                    facts = GlobalBatch(own, count, _NONE, _NONE)
                parts = _shares(batches, pool, first, end)
                yield DeviceBatch(**vars(facts), micro_batches=parts, pool=made)

    def load(self, pool: CardPool) -> bool:
        """Copy a pool to the card, if it is not there; returns whether anything had to move."""
        if pool is self._pool:
            return False
        self._pool = pool
        self._rows, moved = self._copied(self._rows, pool.rows)
        self._places, also = self._copied(self._places, pool.places)
        moved |= also
        if pool.tokens is not None:
            copied = [
                self._copied(*both)
                for both in zip(self._tokens.parts, pool.tokens.parts, strict=True)
            ]
            self._tokens = Tokens(*(part for part, _ in copied))
            moved |= any(also for _, also in copied)
        return moved

    def _copied(self, room: Tensor, given: Tensor) -> tuple[Tensor, bool]:
        """The room with what is given, and whether it is another one, with some to spare."""
        moved = len(given) > len(room)
        if moved:
            room = self._room(len(given) * 5 // 4)
        room[: len(given)].copy_(given, non_blocking=True)
        return room, moved

    def point(self, share: MicroBatch, *told: float) -> None:
        """Make a share the current one, and keep up to five numbers beside it, in `told`."""
        numbers = torch.tensor([share.first, share.end, share.stride, *told], dtype=torch.float64)
        if self._device.type == "cuda":
            numbers = numbers.pin_memory()
        self._numbers[: len(numbers)].copy_(numbers, non_blocking=True)

    @property
    def told(self) -> Tensor:
        """The numbers (5,) float32 that were given to `point`."""
        return self._numbers[3:].float()

    def batch(self, shape: Shape, stride: int = 1) -> Batch:
        """The current batch, padded to a shape."""
        if self._device.type == "cuda" and stride == 1 and has_kernels():
            source, lengths, target_in, target_out, predicted = collate(
                self._tokens.parts, self._rows, self._places, self._numbers, shape, PAD, SOS
            )
            return Batch(source, lengths, target_in, target_out, shape.sentences, predicted)
        return self._batch(shape)

    def _batch(self, shape: Shape) -> Batch:
        """The same by torch's own kernels, one for each little thing."""
        first, end, stride = self._numbers[:3].long()
        places = first + stride * torch.arange(shape.sentences, device=self._device)  # (B,)
        counts = places < end  # (B,)
        # Rows that do not count are the share's first: the shape has room for it.
        rows = self._rows[torch.where(counts, places, torch.minimum(first, end - 1))]  # (B,)
        tokens = self._tokens
        source, lengths, _ = _gathered(tokens.source, tokens.source_starts, rows, shape.source)
        target_out, _, inside = _gathered(tokens.target, tokens.target_starts, rows, shape.target)
        real = inside & counts[:, None]  # (B, T)
        target_out = target_out.masked_fill(~real, PAD)
        begin = torch.full_like(target_out[:, :1], SOS)
        return Batch(
            source=source,
            source_lengths=lengths,
            target_in=torch.cat([begin, target_out[:, :-1]], dim=1),
            target_out=target_out,
            sentences=shape.sentences,
            target_positions=torch.nonzero_static(real.flatten(), size=shape.real, fill_value=-1)[
                :, 0
            ],
        )

    def _room(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.int64, device=self._device)


_NONE = torch.empty(0, dtype=torch.int64)


def _shares(batches: Batches, pool: Pool, first: int, end: int) -> list[MicroBatch]:
    """What of a batch, from one place in a pool to another, the worker takes, and the shapes."""
    stride = batches.world * batches.accumulate
    size = batches.batch_size if batches.batch_tokens is None else _rounded(end - first, 8)
    size = -(-size // stride)
    made = []
    for share in range(batches.rank, stride, batches.world):
        part = slice(min(first + share, end - 1), end, stride)
        source, target = pool.source_lengths[part], pool.target_lengths[part]
        width = _rounded(int(target.max()), _TOKENS)
        real = min(_rounded(int(target.sum()), _REAL, parts=16), size * width)
        shape = Shape(size, _rounded(int(source.max()), _TOKENS), width, real)
        made.append(MicroBatch(first + share, end, stride, shape))
    return made


def _gathered(
    values: Tensor, starts: Tensor, rows: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (B, width) of rows (B,), their lengths (B,), and which (B, width) are real."""
    begins = starts[rows]  # (B,)
    lengths = starts[rows + 1] - begins  # (B,)
    places = torch.arange(width, device=rows.device)  # (width,)
    inside = places < lengths[:, None]  # (B, width)
    places = (begins[:, None] + places).clamp_max(len(values) - 1)  # (B, width)
    return values[places].masked_fill(~inside, PAD), lengths, inside


def _pinned(numbers: "np.ndarray[Any, Any]", device: torch.device) -> Tensor:
    tensor = torch.from_numpy(numbers.astype(np.int64))
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _rounded(number: int, least: int, parts: int = 4) -> int:
    """A number, rounded up to a multiple of `least` and of a part of the power of two below it."""
    grid = max(least, (1 << (number.bit_length() - 1)) // parts)
    return -(-number // grid) * grid
