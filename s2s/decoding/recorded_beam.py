"""Beam search on a GPU, several steps in one start (`s2s.decoding.recorded`).

Decided sentences stay in their rows, where they are masked, until all of a batch are decided.

Shapes: B sentences, R rows of the buffers, at least B; K hypotheses of each (the beam), S source
tokens, T target tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2s.config import DecodeConfig
from s2s.decoding.beam import (
    BeamHistory,
    Continuations,
    best_continuations,
    can_improve,
    retire_ended,
)
from s2s.decoding.constraints import IMPOSSIBLE, constrained_step, length_limits
from s2s.decoding.hypothesis import AttentionTrace, Hypothesis, unpadded
from s2s.decoding.recorded import MIN_SOURCE, STEPS, RecordedSearch, SearchBuffers, integers
from s2s.decoding.repetition import (
    LOOP_COST,
    LoopsOfBeams,
    looks_for_loops,
    most_repetitions,
)
from s2s.decoding.scoring import length_penalty
from s2s.gpu.graphs import next_power_of_two
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import SOS


@dataclass(kw_only=True)
class BeamBuffers(SearchBuffers):
    """The tensors of a batch that a beam search reads and writes; N = R K.

    Of the K + 1 places for ended hypotheses the last one takes what is written for hypotheses that
    have not ended, and is never read.
    """

    totals: Tensor  # (R, K) nats, log-probabilities of the hypotheses
    tokens: Tensor  # (T, R, K)
    parents: Tensor  # (T, R, K) rank, a step before, of the hypothesis that each continues
    scores: Tensor  # (T, R, K) nats, log-probability of each token
    alignment: Tensor  # (T, R, K) the source token of greatest weight for each, with attention
    ended_scores: Tensor  # (R, K + 1) as in `BeamHistory`
    ended_at: Tensor  # (2, R, K + 1) the last step, and the rank there
    ended_counts: Tensor  # (R,) hypotheses that have ended
    undecided: Tensor  # (R,) bool, sentences that are still searched
    loops: LoopsOfBeams

    @classmethod
    def allocate(
        cls, rows: int, size: int, steps: int, width: int, device: torch.device
    ) -> "BeamBuffers":
        """Return buffers for so many sentences, source tokens, target tokens and hypotheses."""
        return cls(
            source=integers(rows, size, device=device),
            source_lengths=integers(rows, device=device) + 1,
            min_lengths=integers(rows, device=device),
            max_lengths=integers(rows, device=device),
            last_tokens=integers(rows * width, device=device),
            step=integers(1, device=device),
            totals=integers(rows, width, device=device).float(),
            tokens=integers(steps, rows, width, device=device),
            parents=integers(steps, rows, width, device=device),
            scores=integers(steps, rows, width, device=device).float(),
            alignment=integers(steps, rows, width, device=device),
            ended_scores=integers(rows, width + 1, device=device).float(),
            ended_at=integers(2, rows, width + 1, device=device),
            ended_counts=integers(rows, device=device),
            undecided=integers(rows, device=device) > 0,
            loops=LoopsOfBeams.allocate(rows, width, device),
        )

    def history(self, count: int, *, with_alignment: bool) -> BeamHistory:
        """Copy the search of the first sentences to the CPU."""
        width = self.totals.shape[1]
        trace = AttentionTrace(self.alignment[:, :count].cpu(), None) if with_alignment else None
        return BeamHistory(
            tokens=self.tokens[:, :count].cpu(),
            parents=self.parents[:, :count].cpu(),
            scores=self.scores[:, :count].cpu(),
            trace=trace,
            ended_scores=self.ended_scores[:count, :width].cpu(),
            ended_at=self.ended_at[:, :count, :width].cpu(),
        )

    def record(self, best: Continuations, weights: Tensor | None, parents: Tensor) -> None:
        """Add a step, with the weights (R K, S) of attention, to the history.

        Args:
            parents: (R K,) the hypothesis, of all, that each continues.
        """
        self.tokens.index_copy_(0, self.step, best.tokens[None])
        self.parents.index_copy_(0, self.step, best.parents[None])
        self.scores.index_copy_(0, self.step, best.scores[None])
        if weights is not None:
            heaviest = weights.max(dim=1).indices[parents].view_as(best.tokens)  # (R, K)
            self.alignment.index_copy_(0, self.step, heaviest[None])

    def retire(self, best: Continuations, ranks: Tensor, settings: DecodeConfig) -> None:
        """Move the hypotheses that end out of the beam."""
        width, at_limit = len(ranks), self.max_lengths == self.step + 1  # (R,)
        looping = None
        if looks_for_loops(settings):
            looping = self.loops.extend(best.tokens, best.parents)
        ending, places, totals = retire_ended(
            best, ranks, self.ended_counts, at_limit, looping, self.undecided
        )
        places = torch.where(ending, places, width)  # (R, K)
        penalty = length_penalty((self.step + 1).double(), settings.length_penalty).float()  # (1,)
        scores = best.totals / penalty  # (R, K)
        if looping is not None:
            scores -= LOOP_COST * looping
        self.ended_scores.scatter_(1, places, scores)
        self.ended_at[0].scatter_(1, places, self.step.expand_as(places))
        self.ended_at[1].scatter_(1, places, ranks.expand_as(places))
        self.ended_counts += ending.sum(1)
        self.totals.copy_(totals)


class RecordedBeam(RecordedSearch[BeamBuffers]):
    """Beam search by recorded steps; all calls are of one model."""

    @torch.inference_mode()
    def decode(
        self, model: Seq2Seq, source: Tensor, source_lengths: Tensor, settings: DecodeConfig
    ) -> list[list[Hypothesis]]:
        """Return what `s2s.decoding.beam.beam_search` does, without the weights of attention.

        Args:
            source: (B, S) tokens, padded at the end.
            source_lengths: (B,) true lengths, each at least 1, on the CPU.
        """
        copies = settings.unknown == "copy" and model.decoder.attention is not None
        with self._lock:
            self._limit_memory()
            buffers = self._search(model, source, source_lengths, settings)
            # Copied before another thread's search overwrites the buffers.
            history = buffers.history(len(source), with_alignment=copies)
        return history.hypotheses(source, source_lengths, settings)

    def _search(
        self, model: Seq2Seq, source: Tensor, source_lengths: Tensor, settings: DecodeConfig
    ) -> BeamBuffers:
        """Search until all sentences are decided; return the buffers with what was found."""
        count, longest_source = source.shape
        size = next_power_of_two(longest_source, MIN_SOURCE)
        steps = next_power_of_two(settings.max_length, STEPS)
        shape = (next_power_of_two(count), size, steps, settings.beam)
        if shape not in self._buffers:
            self._buffers[shape] = BeamBuffers.allocate(*shape, self._device)
        buffers = self._buffers[shape]
        min_lengths, max_lengths = length_limits(source_lengths, settings)
        buffers.load(source, source_lengths, min_lengths, max_lengths)
        if looks_for_loops(settings):
            repetitions = most_repetitions(unpadded(source, source_lengths))  # (B, 2)
            empty = len(buffers.source) - count
            buffers.loops.reset(nn.functional.pad(repetitions, (0, 0, 0, empty), value=1))
        self._graphs.run(("encode", *shape), lambda: self._encode(model, buffers))
        how = (
            settings.unknown,
            settings.min_ratio > 0,
            looks_for_loops(settings),
            settings.n_best,
            settings.length_penalty,
        )
        max_steps = int(max_lengths.max())
        for step in range(0, max_steps, STEPS):
            self._graphs.run(("step", *shape, *how), lambda: self._step(model, buffers, settings))
            if step + STEPS >= max_steps or not buffers.undecided.any():
                break
        return buffers

    def _encode(self, model: Seq2Seq, buffers: BeamBuffers) -> None:
        state = model.encode(buffers.source, buffers.source_lengths)
        width = buffers.totals.shape[1]
        sentences = torch.arange(len(buffers.source), device=self._device)  # (R,)
        each = sentences.repeat_interleave(width, output_size=len(buffers.last_tokens))  # (R K,)
        state = state.reorder(each)
        if buffers.decoder is None:
            buffers.decoder = state.select(sentences, width)
        for buffer, new in zip(buffers.decoder.tensors(), state.tensors(), strict=True):
            buffer.copy_(new)
        buffers.last_tokens.fill_(SOS)
        buffers.totals.fill_(IMPOSSIBLE)
        buffers.totals[:, 0] = 0.0  # the hypotheses are all the same yet
        buffers.ended_scores.fill_(IMPOSSIBLE)
        buffers.ended_counts.zero_()
        buffers.undecided.copy_(buffers.max_lengths > 0)
        buffers.step.zero_()

    def _step(self, model: Seq2Seq, buffers: BeamBuffers, settings: DecodeConfig) -> None:
        """Take `STEPS` steps."""
        assert buffers.decoder is not None  # noqa: S101
        width = settings.beam
        ranks = torch.arange(width, device=self._device)  # (K,)
        first = width * torch.arange(len(buffers.source), device=self._device)[:, None]  # (R, 1)
        max_penalties = length_penalty(buffers.max_lengths.double(), settings.length_penalty)
        max_penalties = max_penalties.float()  # (R,)
        for _ in range(STEPS):
            too_short = None
            if settings.min_ratio:
                early = buffers.step < buffers.min_lengths  # (R,)
                too_short = early[:, None].expand(-1, width).flatten()  # (R K,)
            logits, weights, decoder = constrained_step(
                model, buffers.last_tokens, buffers.decoder, too_short, settings
            )  # (R K, V), (R K, S)
            best = best_continuations(logits, buffers.totals)
            parents = (best.parents + first).flatten()  # (R K,)
            buffers.record(best, weights, parents)
            buffers.retire(best, ranks, settings)
            ended_scores = buffers.ended_scores[:, :width]
            buffers.undecided &= can_improve(
                buffers.totals, max_penalties, ended_scores, settings.n_best
            )
            buffers.update(decoder.reorder(parents))
            buffers.last_tokens.copy_(best.tokens.flatten())
            buffers.step += 1
