"""Batches that are put together on a GPU, so that a step needs one small copy from the CPU.

A pool of batches is copied to the card as it is read, ragged. Each batch of it is then a few
numbers, from which the card gathers the padded tensors itself, in shapes that are rounded up so
that there are few of them: a step's kernels can be recorded for each (`s2s.graphs`).

Shapes: B sentences of a batch, S source tokens, T target tokens, N of them real.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2s.batches import Batch, Batches, Pool, Step
from s2s.ragged import Ints
from s2s.text import PAD, SOS

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
class Share:
    """The rows of a pool that make a batch: first, first + stride, …, before end."""

    first: int
    end: int
    stride: int
    shape: Shape


@dataclass(frozen=True)
class PinnedPool:
    """The tokens of a pool in page-locked memory, from which the card copies by itself."""

    values: tuple[Tensor, Tensor]  # of source and target, one list after the other, int64
    starts: tuple[Tensor, Tensor]  # (rows + 1,) each, int64


@dataclass(frozen=True)
class CardStep(Step):
    """An optimizer step whose batches the card puts together."""

    shares: list[Share]
    pool: PinnedPool


def card_steps(batches: Batches, epoch: int, skip: int, device: torch.device) -> Iterator[CardStep]:
    """The steps of an epoch, as `Batches.epoch` gives them, for a card."""
    if device.index is not None:
        torch.cuda.set_device(device)  # of this thread
    for pool in batches.pools(epoch, skip):
        sides = (pool.source, pool.target)
        source, target = (_pinned(side.values, device) for side in sides)
        starts = (_pinned(pool.source.starts, device), _pinned(pool.target.starts, device))
        pinned = PinnedPool((source, target), starts)
        for batch in pool.batches:
            facts = Step.facts(pool, batch) if batches.world > 1 else _alone(pool, batch)
            yield CardStep(**vars(facts), shares=shares(batches, pool, batch), pool=pinned)


def shares(batches: Batches, pool: Pool, batch: Ints) -> list[Share]:
    """What of a batch the worker takes, and the shapes of it."""
    stride = batches.world * batches.accumulate
    first, end = int(batch[0]), int(batch[-1]) + 1
    sentences = batches.batch_size if batches.batch_tokens is None else _rounded(len(batch), 8)
    size = -(-sentences // stride)
    made = []
    for share in range(batches.rank, stride, batches.world):
        rows = np.arange(min(first + share, end - 1), end, stride)
        source, target = (side.starts[rows + 1] - side.starts[rows]
                          for side in (pool.source, pool.target))  # fmt: skip
        width = _rounded(int(target.max()), _TOKENS)
        real = min(_rounded(int(target.sum()), _REAL, parts=16), size * width)
        shape = Shape(size, _rounded(int(source.max()), _TOKENS), width, real)
        made.append(Share(first + share, end, stride, shape))
    return made


class Card:
    """The pool whose batches are trained on, and the numbers of the current batch, on a GPU.

    They stay where they are, so that recorded kernels find them; `moved` says when they could not.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: PinnedPool | None = None
        self._values, self._starts = [self._room(0), self._room(0)], [self._room(0), self._room(0)]
        # Row numbers, and what the caller wants to know of the step; all exact in float64.
        self.numbers = torch.zeros(8, dtype=torch.float64, device=device)

    def load(self, pool: PinnedPool) -> bool:
        """Copy a pool to the card, if it is not there; returns whether it had to move."""
        if pool is self._pool:
            return False
        self._pool, moved = pool, False
        for rooms, given in ((self._values, pool.values), (self._starts, pool.starts)):
            for side, tensor in enumerate(given):
                if len(tensor) > len(rooms[side]):
                    # With some to spare: the next pool is as large, but for chance.
                    rooms[side], moved = self._room(len(tensor) * 5 // 4), True
                rooms[side][: len(tensor)].copy_(tensor, non_blocking=True)
        return moved

    def point(self, share: Share, *told: float) -> None:
        """Make a share the current one, and keep up to five numbers beside it, in `told`."""
        numbers = torch.tensor([share.first, share.end, share.stride, *told], dtype=torch.float64)
        if self._device.type == "cuda":
            numbers = numbers.pin_memory()
        self.numbers[: len(numbers)].copy_(numbers, non_blocking=True)

    @property
    def told(self) -> Tensor:
        """The numbers (5,) float32 that were given to `point`."""
        return self.numbers[3:].float()

    def batch(self, shape: Shape) -> Batch:
        """The current batch, padded to a shape."""
        first, end, stride = self.numbers[:3].long()
        rows = first + stride * torch.arange(shape.sentences, device=self._device)  # (B,)
        counts = rows < end  # (B,)
        rows = torch.minimum(rows, end - 1)
        source, lengths, _ = self._gathered(0, rows, shape.source)
        target_out, _, inside = self._gathered(1, rows, shape.target)
        real = inside & counts[:, None]  # (B, T)
        target_out = target_out.masked_fill(~real, PAD)
        begin = torch.full_like(target_out[:, :1], SOS)
        return Batch(
            source=source,
            source_lengths=lengths,
            target_in=torch.cat([begin, target_out[:, :-1]], dim=1),
            target_out=target_out,
            sentences=shape.sentences,
            predicted=torch.nonzero_static(real.flatten(), size=shape.real, fill_value=-1)[:, 0],
        )

    def _gathered(self, side: int, rows: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, width) of rows (B,), their lengths (B,), and which (B, width) are real."""
        values, starts = self._values[side], self._starts[side]
        begins = starts[rows]  # (B,)
        lengths = starts[rows + 1] - begins  # (B,)
        places = torch.arange(width, device=self._device)  # (width,)
        inside = places < lengths[:, None]  # (B, width)
        places = (begins[:, None] + places).clamp_max(len(values) - 1)  # (B, width)
        return values[places].masked_fill(~inside, PAD), lengths, inside

    def _room(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.int64, device=self._device)


def _alone(pool: Pool, batch: Ints) -> Step:
    """The facts of a batch that only a worker that exchanges nothing needs."""
    starts, none = pool.target.starts, torch.empty(0, dtype=torch.int64)
    tokens = int(starts[batch[-1] + 1] - starts[batch[0]])
    return Step(pool.rows[batch], tokens, none, none)


def _pinned(numbers: "np.ndarray[Any, Any]", device: torch.device) -> Tensor:
    tensor = torch.from_numpy(numbers.astype(np.int64))
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _rounded(number: int, least: int, parts: int = 4) -> int:
    """A number, rounded up to a multiple of `least` and of a part of the power of two below it."""
    grid = max(least, (1 << (number.bit_length() - 1)) // parts)
    return -(-number // grid) * grid
