"""Hypotheses, as the searches return them, and where attention lay in each of their steps.

Shapes: S source tokens, T steps; … stands for the hypotheses of a search, in one dimension or two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.repetition import find_end
from s2s.decoding.scoring import length_penalty
from s2s.decoding.translation import FinishReason
from s2s.model.seq2seq import Memory


@dataclass(frozen=True)
class Hypothesis:
    """A translation in the model's tokens.

    Scores are one more than ids if the hypothesis ended in `<eos>`, which is scored but no id.
    """

    ids: list[int]  # without `<sos>` and `<eos>`
    scores: list[float]  # nats, the log-probability of each scored token
    score: float  # their sum over the length penalty, by which hypotheses are ranked
    alignment: list[int] | None  # of each scored token, the source token of greatest weight
    attention: list[list[float]] | None  # of each scored token, a weight for each source token
    finish_reason: FinishReason = "stop"

    def ended(
        self, source: list[int], min_length: int, max_length: int, settings: DecodeConfig
    ) -> Self:
        """Return the hypothesis with the reason why it ended, and without its loop.

        Args:
            source: tokens of the sentence.
            min_length: tokens that a translation of it has at least.
            max_length: tokens that it has at most.
        """
        cut = len(self.ids) >= max_length
        size, reason = find_end(self.ids, source, cut=cut, min_length=min_length, settings=settings)
        if size == len(self.ids):
            return self if reason == "stop" else replace(self, finish_reason=reason)
        scores = self.scores[:size]
        score = sum(scores) / length_penalty(size, settings.length_penalty) if scores else 0.0
        return replace(
            self,
            ids=self.ids[:size],
            scores=scores,
            score=score,
            alignment=None if self.alignment is None else self.alignment[:size],
            attention=None if self.attention is None else self.attention[:size],
            finish_reason=reason,
        )


@dataclass(frozen=True)
class AttentionTrace:
    """The source tokens that the hypotheses of a search attended to, step by step."""

    alignment: Tensor  # (T, …) the source token of greatest weight
    weights: Tensor | None  # (T, …, S)

    @classmethod
    def allocate(
        cls, memory: Memory | None, shape: tuple[int, ...], settings: DecodeConfig, details: bool
    ) -> "AttentionTrace | None":
        """Return an empty trace of a shape (T, …); None without attention, or if nobody reads it.

        Args:
            details: whether all weights are recorded.
        """
        if memory is None or not (details or settings.unknown == "copy"):
            return None
        alignment = torch.zeros(shape, dtype=torch.long, device=memory.values.device)
        size = memory.values.shape[1]
        return cls(alignment, memory.values.new_zeros(*shape, size) if details else None)

    def record(self, place: tuple[int, Tensor], weights: Tensor) -> None:
        """Record the weights (rows, …, S) of a step, at the place of the step and its rows."""
        self.alignment[place] = weights.max(dim=-1).indices
        if self.weights is not None:
            self.weights[place] = weights

    def cpu(self) -> "AttentionTrace":
        """Return the trace on the CPU."""
        return AttentionTrace(
            self.alignment.cpu(), None if self.weights is None else self.weights.cpu()
        )

    def along(
        self, path: Sequence[tuple[int, ...]], source_length: int
    ) -> tuple[list[int], list[list[float]] | None]:
        """Return alignment and, if recorded, weights of one hypothesis; the trace is on the CPU.

        Args:
            path: the place (step, …) of each of its tokens.
        """
        heaviest = self.alignment.numpy()
        alignment = [int(heaviest[place]) for place in path]
        if self.weights is None:
            return alignment, None
        weights = self.weights.numpy()
        return alignment, [weights[place][:source_length].tolist() for place in path]


def unpadded(source: Tensor, source_lengths: Tensor) -> list[list[int]]:
    """Return the tokens of each sentence of a batch (B, S), without padding."""
    lengths = source_lengths.tolist()
    return [ids[:length] for ids, length in zip(source.tolist(), lengths, strict=True)]
