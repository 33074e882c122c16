"""Greedy decoding on a GPU, several steps in one start (`s2s.decoding.recorded`).

Once most sentences of a batch have ended, the others move to smaller buffers.

Shapes: B sentences, R rows of the buffers, at least B; S source tokens, T target tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.constraints import constrained_step, length_limits
from s2s.decoding.hypothesis import Hypothesis, unpadded
from s2s.decoding.recorded import MIN_SOURCE, STEPS, RecordedSearch, SearchBuffers, integers
from s2s.decoding.repetition import LoopsOfRows
from s2s.decoding.scoring import argmax
from s2s.gpu.graphs import next_power_of_two
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import EOS, SOS

_MIN_ROWS = 8


@dataclass(kw_only=True)
class GreedyBuffers(SearchBuffers):
    """The tensors of a batch that greedy decoding reads and writes; N = R."""

    tokens: Tensor  # (R, T)
    alignment: Tensor  # (R, T) the source token of greatest weight for each, with attention
    ended: Tensor  # (R,) bool

    @classmethod
    def allocate(cls, rows: int, size: int, steps: int, device: torch.device) -> "GreedyBuffers":
        """Return buffers for so many sentences, source tokens and target tokens."""
        return cls(
            source=integers(rows, size, device=device),
            source_lengths=integers(rows, device=device) + 1,
            min_lengths=integers(rows, device=device),
            max_lengths=integers(rows, device=device),
            last_tokens=integers(rows, device=device),
            step=integers(1, device=device),
            tokens=integers(rows, steps, device=device),
            alignment=integers(rows, steps, device=device),
            ended=integers(rows, device=device) > 0,
        )

    def move_from(self, other: "GreedyBuffers", rows: Tensor) -> None:
        """Copy some rows (any,) of larger buffers, with their decoder state, to the first rows."""
        for buffer, old in zip(self._of_rows(), other._of_rows(), strict=True):
            buffer[: len(rows)] = old[rows]
        self.ended.fill_(True)
        self.ended[: len(rows)] = False
        self.step.copy_(other.step)

    def _of_rows(self) -> list[Tensor]:
        """Return the tensors that further steps read, as views whose first dimension is R."""
        assert self.decoder is not None  # noqa: S101
        own = [self.min_lengths, self.max_lengths, self.last_tokens, self.tokens, self.alignment]
        return own + self.decoder.tensors()


class RecordedGreedy(RecordedSearch[GreedyBuffers]):
    """Greedy decoding by recorded steps; all calls are of one model."""

    @torch.inference_mode()
    def decode(
        self, model: Seq2Seq, source: Tensor, source_lengths: Tensor, settings: DecodeConfig
    ) -> list[list[Hypothesis]]:
        """Return one hypothesis of each sentence, without scores and weights of attention.

        Args:
            source: (B, S) tokens, padded at the end.
            source_lengths: (B,) true lengths, each at least 1, on the CPU.
        """
        min_lengths, max_lengths = length_limits(source_lengths, settings)
        with self._lock:
            self._limit_memory()
            tokens, alignment = self._search(
                model, source, source_lengths, min_lengths, max_lengths, settings
            )
        ids, aligned, limits = tokens.cpu().numpy(), alignment.cpu().numpy(), max_lengths.numpy()
        sizes = np.where((ids == EOS).any(1), (ids == EOS).argmax(1), limits)  # (B,)
        scored = np.minimum(sizes + 1, limits)  # (B,), with `<eos>` if the hypothesis ended in it
        copies = settings.unknown == "copy" and model.decoder.attention is not None
        hypotheses = [
            Hypothesis(
                ids=ids[row, :size].tolist(),
                scores=[],
                score=0.0,
                alignment=aligned[row, :count].tolist() if copies else None,
                attention=None,
            )
            for row, (size, count) in enumerate(zip(sizes.tolist(), scored.tolist(), strict=True))
        ]
        own = zip(
            unpadded(source, source_lengths),
            min_lengths.tolist(),
            max_lengths.tolist(),
            strict=True,
        )
        return [
            [each.ended(*limits, settings)] for each, limits in zip(hypotheses, own, strict=True)
        ]

    def _search(
        self,
        model: Seq2Seq,
        source: Tensor,
        source_lengths: Tensor,
        min_lengths: Tensor,
        max_lengths: Tensor,
        settings: DecodeConfig,
    ) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T) of each sentence, then `<eos>`, and the alignment (B, T) of each."""
        count, longest_source = source.shape
        rows = next_power_of_two(count, _MIN_ROWS)
        size = next_power_of_two(longest_source, MIN_SOURCE)
        steps = next_power_of_two(settings.max_length, STEPS)
        buffers = self._buffers_of(rows, size, steps)
        buffers.load(source, source_lengths, min_lengths, max_lengths)
        self._graphs.run(("encode", rows, size, steps), lambda: self._encode(model, buffers))
        tokens, alignment = buffers.tokens.new_full((2, rows, steps), EOS)
        sentences = torch.arange(rows, device=self._device)  # that are in the first rows of buffers
        # Rows without a sentence have one of no token.
        sources = unpadded(source, source_lengths)
        loops = LoopsOfRows([*sources, *[[]] * (rows - count)], settings)
        max_steps = int(max_lengths.max())
        for step in range(0, max_steps, STEPS):
            key = ("step", *buffers.source.shape, steps, settings.unknown, settings.min_ratio > 0)
            self._graphs.run(key, lambda buffers=buffers: self._step(model, buffers, settings))  # type: ignore[misc]
            if step + STEPS >= max_steps:
                break
            if loops.are_due(step + STEPS):
                known = buffers.tokens[: len(sentences), : step + STEPS]
                buffers.ended[: len(sentences)] |= loops.find(sentences, known)
            left = (~buffers.ended[: len(sentences)]).nonzero()[:, 0]
            if not len(left):
                break
            smaller = next_power_of_two(len(left), _MIN_ROWS)
            if smaller <= len(buffers.source) // 2:
                tokens[sentences] = buffers.tokens[: len(sentences)]
                alignment[sentences] = buffers.alignment[: len(sentences)]
                sentences, buffers = sentences[left], self._shrink(buffers, left, smaller)
        tokens[sentences] = buffers.tokens[: len(sentences)]
        alignment[sentences] = buffers.alignment[: len(sentences)]
        return tokens[:count], alignment[:count]

    def _buffers_of(self, rows: int, size: int, steps: int) -> GreedyBuffers:
        shape = (rows, size, steps)
        if shape not in self._buffers:
            self._buffers[shape] = GreedyBuffers.allocate(*shape, self._device)
        return self._buffers[shape]

    def _shrink(self, buffers: GreedyBuffers, left: Tensor, rows: int) -> GreedyBuffers:
        """Return smaller buffers, of so many rows, with some rows (any,) of larger ones."""
        smaller = self._buffers_of(rows, buffers.source.shape[1], buffers.tokens.shape[1])
        if smaller.decoder is None:
            assert buffers.decoder is not None  # noqa: S101
            smaller.decoder = buffers.decoder.select(left[:1].expand(rows))
        smaller.move_from(buffers, left)
        return smaller

    def _encode(self, model: Seq2Seq, buffers: GreedyBuffers) -> None:
        state = model.encode(buffers.source, buffers.source_lengths)
        if buffers.decoder is None:
            buffers.decoder = state.select(torch.arange(len(buffers.source), device=self._device))
        for buffer, new in zip(buffers.decoder.tensors(), state.tensors(), strict=True):
            buffer.copy_(new)
        buffers.last_tokens.fill_(SOS)
        buffers.tokens.fill_(EOS)
        buffers.step.zero_()
        buffers.ended.copy_(buffers.max_lengths == 0)

    def _step(self, model: Seq2Seq, buffers: GreedyBuffers, settings: DecodeConfig) -> None:
        """Take `STEPS` steps."""
        assert buffers.decoder is not None  # noqa: S101
        for _ in range(STEPS):
            too_short = buffers.step < buffers.min_lengths if settings.min_ratio else None
            logits, weights, decoder = constrained_step(
                model, buffers.last_tokens, buffers.decoder, too_short, settings
            )
            tokens = argmax(logits).masked_fill(buffers.ended, EOS)  # (R,)
            buffers.last_tokens.copy_(tokens)
            buffers.tokens.index_copy_(1, buffers.step, tokens[:, None])
            if weights is not None:
                heaviest = weights.max(dim=1).indices  # (R,)
                buffers.alignment.index_copy_(1, buffers.step, heaviest[:, None])
            buffers.update(decoder)
            buffers.step += 1
            buffers.ended |= (tokens == EOS) | (buffers.max_lengths <= buffers.step)
