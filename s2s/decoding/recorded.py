"""What greedy decoding and beam search on a GPU share: several steps in one start.

Only the GPU knows which sentences continue; the CPU asks after every few steps. Batches are padded
to few shapes. For each of them encoding and stepping are recorded (`s2s.gpu.graphs`), over buffers
that stay where they are.

Shapes: B sentences, R rows of the buffers, at least B; S source tokens.
"""

import threading
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from s2s.gpu.graphs import GraphCache
from s2s.model.seq2seq import DecoderState
from s2s.text.vocabulary import PAD

# Steps of a start. A sentence that ends in the first of them computes the others in vain.
STEPS = 4

# The least number of source tokens that buffers have room for.
MIN_SOURCE = 8

# Buffers and graphs of a model, beyond which all are dropped: shapes and settings are as many as
# requests ask for.
_MAX_BUFFERS, _MAX_GRAPHS = 64, 256


@dataclass(kw_only=True)
class SearchBuffers:
    """The tensors of a batch that a recording reads and writes."""

    source: Tensor  # (R, S)
    source_lengths: Tensor  # (R,)
    min_lengths: Tensor  # (R,) tokens before which a hypothesis does not end
    max_lengths: Tensor  # (R,) tokens after which it is cut; 0 where there is no sentence
    last_tokens: Tensor  # (N,) of each hypothesis
    step: Tensor  # (1,) tokens so far
    decoder: DecoderState | None = None  # allocated by the first batch

    def load(
        self, source: Tensor, source_lengths: Tensor, min_lengths: Tensor, max_lengths: Tensor
    ) -> None:
        """Copy sentences (B, S) and their limits (B,) into the first rows, and empty the others."""
        rows, size = self.source.shape
        count, longest = source.shape
        padding = (0, size - longest, 0, rows - count)
        self.source.copy_(nn.functional.pad(source, padding, value=PAD))
        for buffer, values, filler in (
            (self.source_lengths, source_lengths, 1),
            (self.min_lengths, min_lengths, 0),
            (self.max_lengths, max_lengths, 0),
        ):
            buffer.copy_(nn.functional.pad(values, (0, rows - count), value=filler))

    def update(self, decoder: DecoderState) -> None:
        """Copy what a step computes again of the decoder's state into the buffers."""
        assert self.decoder is not None  # noqa: S101
        buffers = self.decoder.step_tensors()
        for buffer, new in zip(buffers, decoder.step_tensors(), strict=True):
            buffer.copy_(new)


def integers(*shape: int, device: torch.device) -> Tensor:
    """Return a buffer of zeros for tokens, lengths or places."""
    return torch.zeros(shape, dtype=torch.int64, device=device)


Buffers = TypeVar("Buffers", bound=SearchBuffers)


class RecordedSearch(Generic[Buffers]):
    """Buffers and graphs of one model on one GPU, for one thread at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._graphs = device, GraphCache(device)
        self._buffers: dict[tuple[int, ...], Buffers] = {}
        self._lock = threading.Lock()

    def _limit_memory(self) -> None:
        """Drop all buffers and graphs if there are many."""
        if len(self._buffers) > _MAX_BUFFERS or len(self._graphs) > _MAX_GRAPHS:
            self._buffers.clear()
            self._graphs.clear()
