"""Batches that are collated on a GPU, so that a step needs one small copy from the CPU.

The tokens of a corpus are cached in GPU memory if they take little of it; otherwise those of each
pool are copied there. A batch is then a few numbers, from which the GPU gathers the padded tensors.
Their shapes are rounded up, so that there are few of them: the kernels of a step can be recorded
for each (`s2s.gpu.graphs`).

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

# Share of the GPU's memory that the tokens of a corpus may take.
_CACHE_SHARE = 0.1

# Lengths are rounded up to a multiple of this, and of a quarter of the power of two below.
_TOKENS = 4
# Numbers of real target tokens are rounded up to a multiple of this, and of a sixteenth of the
# power of two below: finer, since the output layer computes every one of them.
_REAL = 64


class BatchShape(NamedTuple):
    """The shape of a batch on a GPU."""

    sentences: int  # B
    source: int  # S
    target: int  # T
    real: int  # N


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch as indices into a pool: first, first + stride, …, before end."""

    first: int
    end: int
    stride: int
    shape: BatchShape


@dataclass(frozen=True)
class Tokens:
    """The tokens of some rows as flat arrays, all int64."""

    source: Tensor  # (source tokens of all rows,)
    source_starts: Tensor  # (rows + 1,)
    target: Tensor  # (target tokens of all rows,)
    target_starts: Tensor  # (rows + 1,)

    @classmethod
    def from_ragged(cls, source: Ragged, target: Ragged, device: torch.device) -> "Tokens":
        """Return the tokens on the CPU, in memory that the device copies from."""
        arrays = (source.values, source.offsets, target.values, target.offsets)
        return cls(*(_pinned(array, device) for array in arrays))

    @property
    def tensors(self) -> list[Tensor]:
        """All four tensors, in the order of the fields."""
        return [self.source, self.source_starts, self.target, self.target_starts]


@dataclass(frozen=True)
class PinnedPool:
    """A pool in page-locked CPU memory, which the GPU copies by itself."""

    rows: Tensor  # (P,) int64, indices into the tokens
    target_starts: Tensor  # (P + 1,) int64, real target tokens before each row
    tokens: Tokens | None  # of the pool alone; None if those of the corpus are cached


@dataclass(frozen=True)
class DeviceBatch(GlobalBatch):
    """A global batch with the part of it that one worker's GPU collates and computes."""

    micro_batches: list[MicroBatch]
    pool: PinnedPool


class DeviceCorpus:
    """The tokens of a corpus on a GPU, and the micro-batch that is selected from them.

    Recorded kernels read the tensors by their addresses. Methods that may replace a tensor return
    whether they did: graphs that were recorded before are then invalid.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: Batches | None = None  # those that `cache_tokens` was called with last
        self._cached: Batches | None = None  # those whose tokens are all in GPU memory
        self._pool: PinnedPool | None = None  # the one in GPU memory
        self._tokens = Tokens(*(self._buffer(0) for _ in range(4)))
        self._rows, self._target_starts = self._buffer(0), self._buffer(0)
        # first, end and stride of a micro-batch, and five scalars of the step; exact in float64.
        self._selection = torch.zeros(8, dtype=torch.float64, device=device)

    def cache_tokens(self, batches: Batches) -> bool:
        """Copy all tokens of a split to the GPU, if they take little of its memory.

        Returns:
            Whether tensors were replaced.
        """
        if batches is self._seen:
            return False
        self._seen, self._cached = batches, None
        size = 8 * (batches.source_tokens + batches.target_tokens + 2 * batches.pairs)
        limit = float("inf")
        if self._device.type == "cuda":
            limit = _CACHE_SHARE * torch.cuda.get_device_properties(self._device).total_memory
        if size > limit:
            return False
        batches.cache_lengths()
        source, target = batches.tokens()
        arrays = (source.values, source.offsets, target.values, target.offsets)
        self._tokens = Tokens(*(torch.from_numpy(part).to(self._device).long() for part in arrays))
        self._cached = batches
        return True

    def global_batches(self, batches: Batches, epoch: int, skip: int) -> Iterator[DeviceBatch]:
        """Yield the global batches of an epoch in the order of `Batches.epoch`."""
        if self._device.index is not None:
            torch.cuda.set_device(self._device)  # for the thread that runs this generator
        for pool in batches.pools(epoch, skip):
            tokens, rows = None, pool.rows
            if self._cached is not batches:
                tokens = Tokens.from_ragged(*batches.tokens(rows), self._device)
                rows = np.arange(len(rows))
            starts = np.concatenate(([0], np.cumsum(pool.target_lengths)))
            pinned = PinnedPool(_pinned(rows, self._device), _pinned(starts, self._device), tokens)
            for batch in pool.batches:
                first, end = int(batch[0]), int(batch[-1]) + 1
                own = pool.rows[first:end]
                if batches.world_size > 1:  # workers exchange the gradients of the batch's ids
                    known = GlobalBatch.from_rows(own, *batches.tokens(own))
                else:
                    known = GlobalBatch(own, int(starts[end] - starts[first]), _NO_IDS, _NO_IDS)
                micro_batches = _micro_batches(batches, pool, first, end)
                yield DeviceBatch(**vars(known), micro_batches=micro_batches, pool=pinned)

    def load_pool(self, pool: PinnedPool) -> bool:
        """Copy a pool to the GPU, unless it is there already.

        Returns:
            Whether tensors were replaced.
        """
        if pool is self._pool:
            return False
        self._pool = pool
        self._rows, replaced = self._copy(pool.rows, self._rows)
        self._target_starts, also = self._copy(pool.target_starts, self._target_starts)
        replaced |= also
        if pool.tokens is not None:
            copies = [
                self._copy(values, buffer)
                for values, buffer in zip(pool.tokens.tensors, self._tokens.tensors, strict=True)
            ]
            self._tokens = Tokens(*(buffer for buffer, _ in copies))
            replaced |= any(also for _, also in copies)
        return replaced

    def _copy(self, values: Tensor, buffer: Tensor) -> tuple[Tensor, bool]:
        """Copy values into a buffer, or into a new one, somewhat larger, if they do not fit.

        Returns:
            The buffer, and whether it is a new one.
        """
        replaced = len(values) > len(buffer)
        if replaced:
            buffer = self._buffer(len(values) * 5 // 4)
        buffer[: len(values)].copy_(values, non_blocking=True)
        return buffer, replaced

    def select(self, micro_batch: MicroBatch, *scalars: float) -> None:
        """Make a micro-batch of the loaded pool the current one.

        Args:
            scalars: up to five numbers of the step, for the property `scalars`.
        """
        numbers = torch.tensor(
            [micro_batch.first, micro_batch.end, micro_batch.stride, *scalars], dtype=torch.float64
        )
        if self._device.type == "cuda":
            numbers = numbers.pin_memory()
        self._selection[: len(numbers)].copy_(numbers, non_blocking=True)

    @property
    def scalars(self) -> Tensor:
        """The scalars of the selection, (5,) float32, on the GPU."""
        return self._selection[3:].float()

    def batch(self, shape: BatchShape, stride: int = 1) -> Batch:
        """Collate the selected micro-batch, padded to a shape.

        Args:
            stride: of the micro-batch, which the CPU cannot read from the selection.
        """
        if self._device.type == "cuda" and stride == 1 and has_kernels():
            source, lengths, target_in, target_out, positions = collate(
                self._tokens.tensors,
                self._rows,
                self._target_starts,
                self._selection,
                shape,
                PAD,
                SOS,
            )
            return Batch(source, lengths, target_in, target_out, shape.sentences, positions)
        return self._batch_by_torch(shape)

    def _batch_by_torch(self, shape: BatchShape) -> Batch:
        """Collate the selected micro-batch with torch's operators, a kernel for each."""
        first, end, stride = self._selection[:3].long()
        indices = first + stride * torch.arange(shape.sentences, device=self._device)  # (B,)
        counts = indices < end  # (B,)
        # Rows that fill the batch up repeat its first row, for which the shape is large enough.
        rows = self._rows[torch.where(counts, indices, torch.minimum(first, end - 1))]  # (B,)
        tokens = self._tokens
        source, lengths, _ = _gather(tokens.source, tokens.source_starts, rows, shape.source)
        target_out, _, inside = _gather(tokens.target, tokens.target_starts, rows, shape.target)
        real = inside & counts[:, None]  # (B, T)
        target_out = target_out.masked_fill(~real, PAD)
        sos = torch.full_like(target_out[:, :1], SOS)
        return Batch(
            source=source,
            source_lengths=lengths,
            target_in=torch.cat([sos, target_out[:, :-1]], dim=1),
            target_out=target_out,
            sentences=shape.sentences,
            target_positions=torch.nonzero_static(real.flatten(), size=shape.real, fill_value=-1)[
                :, 0
            ],
        )

    def _buffer(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.int64, device=self._device)


_NO_IDS = torch.empty(0, dtype=torch.int64)


def _micro_batches(batches: Batches, pool: Pool, first: int, end: int) -> list[MicroBatch]:
    """Return this worker's micro-batches of a global batch, given by its bounds in a pool."""
    stride = batches.world_size * batches.accumulate
    size = batches.batch_size if batches.batch_tokens is None else _round_up(end - first, 8)
    size = -(-size // stride)
    micro_batches = []
    for offset in range(batches.rank, stride, batches.world_size):
        part = slice(min(first + offset, end - 1), end, stride)
        source, target = pool.source_lengths[part], pool.target_lengths[part]
        width = _round_up(int(target.max()), _TOKENS)
        real = min(_round_up(int(target.sum()), _REAL, steps=16), size * width)
        shape = BatchShape(size, _round_up(int(source.max()), _TOKENS), width, real)
        micro_batches.append(MicroBatch(first + offset, end, stride, shape))
    return micro_batches


def _gather(
    values: Tensor, starts: Tensor, rows: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens (B, width) of rows (B,), their lengths (B,), and a mask (B, width)."""
    begins = starts[rows]  # (B,)
    lengths = starts[rows + 1] - begins  # (B,)
    positions = torch.arange(width, device=rows.device)  # (width,)
    inside = positions < lengths[:, None]  # (B, width)
    indices = (begins[:, None] + positions).clamp_max(len(values) - 1)  # (B, width)
    return values[indices].masked_fill(~inside, PAD), lengths, inside


def _pinned(numbers: "np.ndarray[Any, Any]", device: torch.device) -> Tensor:
    """Return numbers as int64 on the CPU, in page-locked memory if the device is a GPU."""
    tensor = torch.from_numpy(numbers.astype(np.int64))
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _round_up(number: int, least: int, steps: int = 4) -> int:
    """Round up to a multiple of `least`, and of the power of two below the number over `steps`."""
    grid = max(least, (1 << (number.bit_length() - 1)) // steps)
    return -(-number // grid) * grid
