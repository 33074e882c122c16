"""Beam search over a batch of sentences.

Hypotheses that end give up their place in the beam. They are ranked by the sum of their
log-probabilities over the length penalty of Wu et al. (2016, https://arxiv.org/abs/1609.08144,
equation 14, without coverage). A sentence is decided when no hypothesis that is left can end better
than its `n_best` ended ones: log-probabilities only fall, and the penalty is largest at the
greatest length, so that stopping then changes nothing.

A hypothesis that has come to loop (`s2s.decoding.repetition`) ends there, and is ranked below all
that have not.

A step is the same maths on the CPU (`BeamState.advance`) and recorded on a GPU
(`s2s.decoding.recorded_beam`): `best_continuations`, `retire_ended` and `can_improve`. They differ
in how ended hypotheses are stored and in how decided sentences leave.

Shapes: B sentences, R of them that are not decided, K hypotheses of each (the beam), S source
tokens, T target tokens, V target vocabulary.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.constraints import IMPOSSIBLE, constrained_step, length_limits
from s2s.decoding.hypothesis import AttentionTrace, Hypothesis, unpadded
from s2s.decoding.network import Network
from s2s.decoding.repetition import (
    LOOP_COST,
    LoopsOfBeams,
    looks_for_loops,
    most_repetitions,
)
from s2s.decoding.scoring import length_penalty, top_log_probabilities
from s2s.model.seq2seq import DecoderState
from s2s.text.vocabulary import EOS, SOS


@torch.inference_mode()
def beam_search(
    model: Network,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool = False,
) -> list[list[Hypothesis]]:
    """Find the best translations by a search of `beam` hypotheses at a time, best first.

    The beam of width 1 is greedy decoding.

    Args:
        source: (B, S) tokens, padded at the end.
        source_lengths: (B,) true lengths, each at least 1, on the CPU.
        details: whether hypotheses have the weights of attention.
    """
    state = model.encode(source, source_lengths)
    beam = BeamState.begin(state, source, source_lengths, settings, details)
    for _ in range(beam.max_steps):
        if not beam.advance(model):
            break
    return beam.history.hypotheses(source, source_lengths, settings)


# ---- what a step computes, on any device --------------------------------------------------------


class Continuations(NamedTuple):
    """The K best continuations of the K hypotheses of each sentence, best first."""

    tokens: Tensor  # (R, K)
    parents: Tensor  # (R, K) rank of the hypothesis that each continues
    scores: Tensor  # (R, K) nats, log-probability of the token
    totals: Tensor  # (R, K) nats, log-probability of the hypothesis with it


def best_continuations(logits: Tensor, totals: Tensor) -> Continuations:
    """Return the best continuations by logits (R K, V), which are overwritten.

    Args:
        totals: (R, K) log-probabilities of the hypotheses so far, nats.
    """
    rows, width = totals.shape
    # The best of all are among the best of each, so the whole softmax is never made.
    scores, candidates = top_log_probabilities(logits, width)  # (R K, K'), K' = min(K, V)
    sums = (totals.flatten()[:, None] + scores).view(rows, -1)  # (R, K K')
    best, places = sums.topk(width, dim=1)  # (R, K)
    parents = places // scores.shape[1]  # (R, K)
    tokens = candidates.view(rows, -1).gather(1, places)  # (R, K)
    return Continuations(tokens, parents, scores.view(rows, -1).gather(1, places), best)


def retire_ended(
    best: Continuations,
    ranks: Tensor,
    ended_counts: Tensor,
    at_limit: Tensor,
    looping: Tensor | None = None,
    undecided: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Separate the hypotheses that end in a step from those that continue.

    Args:
        ranks: (K,) 0 to K - 1.
        ended_counts: (R,) hypotheses that ended before, whose places in the beam are given up.
        at_limit: (R,) bool, whether this step is the last that the sentence may take.
        looping: (R, K) bool, hypotheses that have come to loop; None if that is not looked for.
        undecided: (R,) bool, sentences that are still searched; None if all are.

    Returns:
        (R, K) bool, hypotheses that end; (R, K) their places among the sentence's ended ones; (R,
        K) totals of those that continue, `IMPOSSIBLE` elsewhere.
    """
    in_beam = (best.totals > IMPOSSIBLE) & (ranks < (len(ranks) - ended_counts)[:, None])
    if undecided is not None:
        in_beam &= undecided[:, None]
    over = (best.tokens == EOS) | at_limit[:, None]
    ending = in_beam & (over if looping is None else over | looping)
    # Each takes the next free place among the ended hypotheses of its sentence.
    places = ended_counts[:, None] + ending.cumsum(1) - 1
    return ending, places, best.totals.masked_fill(~in_beam | ending, IMPOSSIBLE)


def can_improve(totals: Tensor, max_penalties: Tensor, ended: Tensor, n_best: int) -> Tensor:
    """Return whether a hypothesis that continues could become one of the `n_best`, (R,) bool.

    Args:
        totals: (R, K) of hypotheses that continue, nats.
        max_penalties: (R,) length penalties at the greatest lengths.
        ended: (R, K) scores of ended hypotheses.
    """
    bounds = totals.max(1).values / max_penalties  # (R,)
    worst = ended.topk(min(n_best, ended.shape[1])).values[:, -1]  # (R,)
    return bounds > worst


# ---- the search and its history -----------------------------------------------------------------


@dataclass(frozen=True)
class BeamHistory:
    """Every step of a search, and the hypotheses that have ended."""

    tokens: Tensor  # (T, B, K)
    parents: Tensor  # (T, B, K) rank, a step before, of the hypothesis that each continues
    scores: Tensor  # (T, B, K) nats, log-probability of each token
    trace: AttentionTrace | None
    # (B, K) log-probability over length penalty, less LOOP_COST with a loop; IMPOSSIBLE where none
    # ended
    ended_scores: Tensor
    ended_at: Tensor  # (2, B, K) of each ended hypothesis the last step, and its rank there

    @classmethod
    def allocate(
        cls, steps: int, count: int, width: int, trace: AttentionTrace | None, device: torch.device
    ) -> "BeamHistory":
        """Return an empty history of so many steps, sentences and hypotheses of each."""
        shape = (steps, count, width)
        return cls(
            tokens=torch.full(shape, EOS, device=device),
            parents=torch.zeros(shape, dtype=torch.long, device=device),
            scores=torch.zeros(shape, device=device),
            trace=trace,
            ended_scores=torch.full((count, width), IMPOSSIBLE, device=device),
            ended_at=torch.zeros(2, count, width, dtype=torch.long, device=device),
        )

    def hypotheses(
        self, source: Tensor, source_lengths: Tensor, settings: DecodeConfig
    ) -> list[list[Hypothesis]]:
        """Return the `n_best` ended hypotheses of each sentence, traced back from their ends."""
        tensors = (self.tokens, self.parents, self.scores, self.ended_scores, self.ended_at)
        tokens, parents, scores, ended_scores, ended_at = (t.cpu().numpy() for t in tensors)
        trace = None if self.trace is None else self.trace.cpu()
        lengths, sentences = source_lengths.tolist(), unpadded(source, source_lengths)
        shortest, longest = (limit.tolist() for limit in length_limits(source_lengths, settings))
        by_sentence = []
        for row, row_scores in enumerate(ended_scores):
            hypotheses = []
            for place in np.argsort(-row_scores, kind="stable")[: settings.n_best]:
                if row_scores[place] == IMPOSSIBLE:
                    continue
                last_step, rank = ended_at[:, row, place].tolist()
                path = []
                for step in range(last_step, -1, -1):
                    path.append((step, row, rank))
                    rank = int(parents[step, row, rank])
                path.reverse()
                ids = [int(tokens[at]) for at in path]
                alignment, attention = None, None
                if trace is not None:
                    alignment, attention = trace.along(path, lengths[row])
                found = Hypothesis(
                    ids=ids[:-1] if ids[-1] == EOS else ids,
                    scores=[float(scores[at]) for at in path],
                    score=float(row_scores[place]),
                    alignment=alignment,
                    attention=attention,
                )
                hypotheses.append(
                    found.ended(sentences[row], shortest[row], longest[row], settings)
                )
            by_sentence.append(hypotheses)
        return by_sentence


@dataclass
class BeamState:
    """A search after some of its steps."""

    settings: DecodeConfig
    history: BeamHistory
    ranks: Tensor  # (K,) 0 to K - 1
    # Of all sentences.
    min_lengths: Tensor  # (B,) tokens before which a hypothesis does not end
    max_lengths: Tensor  # (B,) tokens after which it is cut
    max_penalties: Tensor  # (B,) length penalties at the greatest lengths
    ended_counts: Tensor  # (B,) hypotheses that have ended
    # Of the sentences that are not decided.
    rows: Tensor  # (R,) their places among all
    decoder: DecoderState  # of R K hypotheses
    last_tokens: Tensor  # (R K,)
    totals: Tensor  # (R, K) nats, log-probabilities of the hypotheses
    loops: LoopsOfBeams | None  # None if loops are not looked for
    step: int = 0

    @classmethod
    def begin(
        cls,
        decoder: DecoderState,
        source: Tensor,
        source_lengths: Tensor,
        settings: DecodeConfig,
        details: bool,
    ) -> "BeamState":
        """Return the search before its first step.

        Args:
            decoder: state of one hypothesis of each sentence.
            source: (B, S) tokens.
            source_lengths: (B,), on the CPU.
            details: whether the weights of attention are recorded.
        """
        device, count, width = decoder.recurrent[0].device, len(source_lengths), settings.beam
        limits = length_limits(source_lengths, settings)
        min_lengths, max_lengths = (limit.to(device) for limit in limits)
        shape = (int(limits[1].max()), count, width)
        trace = AttentionTrace.allocate(decoder.memory, shape, settings, details)
        rows = torch.arange(count, device=device)
        totals = torch.full((count, width), IMPOSSIBLE, device=device)
        totals[:, 0] = 0.0  # the hypotheses are all the same yet
        loops = None
        if looks_for_loops(settings):
            loops = LoopsOfBeams.allocate(count, width, device)
            loops.reset(most_repetitions(unpadded(source, source_lengths)))
        return cls(
            settings=settings,
            history=BeamHistory.allocate(*shape, trace, device),
            ranks=torch.arange(width, device=device),
            min_lengths=min_lengths,
            max_lengths=max_lengths,
            max_penalties=length_penalty(max_lengths.double(), settings.length_penalty).float(),
            ended_counts=torch.zeros(count, dtype=torch.long, device=device),
            rows=rows,
            decoder=decoder.reorder(rows.repeat_interleave(width)),
            last_tokens=torch.full((count * width,), SOS, device=device),
            totals=totals,
            loops=loops,
        )

    @property
    def max_steps(self) -> int:
        """T, the greatest length of any hypothesis."""
        return len(self.history.tokens)

    def advance(self, model: Network) -> bool:
        """Extend every hypothesis by a token; return whether a sentence is left to be searched."""
        too_short = None
        if self.settings.min_ratio:
            early = self.step < self.min_lengths[self.rows]  # (R,)
            too_short = early.repeat_interleave(len(self.ranks))  # (R K,)
        logits, weights, decoder = constrained_step(
            model, self.last_tokens, self.decoder, too_short, self.settings
        )  # (R K, V), (R K, S)
        best = best_continuations(logits, self.totals)
        best = best._replace(tokens=decoder.tokens_of(best.tokens))
        self._record(best, weights)
        undecided = self._retire_ended(best)  # (R,)
        self.step += 1
        left = None if undecided.all() else undecided.nonzero()[:, 0]
        if left is not None and not len(left):
            return False
        first = len(self.ranks) * torch.arange(len(self.rows), device=self.rows.device)  # (R,)
        self.decoder = decoder.reorder((best.parents + first[:, None]).flatten())
        self.last_tokens = best.tokens.flatten()  # (R K,)
        if left is not None:
            self._select(left)
        return True

    def _record(self, best: Continuations, weights: Tensor | None) -> None:
        """Add a step to the history, with the weights (R K, S) of attention."""
        history, place = self.history, (self.step, self.rows)
        history.tokens[place] = best.tokens
        history.parents[place] = best.parents
        history.scores[place] = best.scores
        if history.trace is not None and weights is not None:
            weights = weights.view(*best.parents.shape, -1)  # (R, K, S)
            parents = best.parents[:, :, None].expand(-1, -1, weights.shape[2])
            history.trace.record(place, weights.gather(1, parents))

    def _retire_ended(self, best: Continuations) -> Tensor:
        """Move the hypotheses that end out of the beam; return the undecided sentences, (R,)."""
        history, rows = self.history, self.rows
        at_limit = self.max_lengths[rows] == self.step + 1
        counts = self.ended_counts[rows]
        looping = None if self.loops is None else self.loops.extend(best.tokens, best.parents)
        ending, places, self.totals = retire_ended(best, self.ranks, counts, at_limit, looping)
        row, rank = ending.nonzero(as_tuple=True)
        place = (rows[row], places[row, rank])
        penalty = length_penalty(self.step + 1, self.settings.length_penalty)
        scores = best.totals[row, rank] / penalty
        if looping is not None:
            scores -= LOOP_COST * looping[row, rank]
        history.ended_scores[place] = scores
        history.ended_at[0][place] = self.step
        history.ended_at[1][place] = rank
        self.ended_counts[rows] += ending.sum(1)
        ended_scores = history.ended_scores[rows]
        return can_improve(
            self.totals, self.max_penalties[rows], ended_scores, self.settings.n_best
        )

    def _select(self, left: Tensor) -> None:
        """Drop all but some of the R sentences, (any,): further steps are cheaper."""
        width = len(self.ranks)
        self.decoder = self.decoder.select(left, width)
        self.last_tokens = self.last_tokens[(left[:, None] * width + self.ranks).flatten()]
        self.rows, self.totals = self.rows[left], self.totals[left]
        if self.loops is not None:
            self.loops = self.loops.select(left)
