"""Greedy decoding, and decoding by any other choice of one token after the other.

Shapes: B sentences, R of them that have not ended, S source tokens, T target tokens, V target
vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.constraints import constrained_step, length_limits
from s2s.decoding.hypothesis import AttentionTrace, Hypothesis, unpadded
from s2s.decoding.network import Network
from s2s.decoding.repetition import LoopsOfRows
from s2s.decoding.scoring import argmax, length_penalty, token_log_probabilities
from s2s.text.vocabulary import EOS, SOS

# Chooses tokens (R,) by logits (R, V).
Choose = Callable[[Tensor], Tensor]


@torch.inference_mode()
def greedy(
    model: Network,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool = False,
) -> list[Hypothesis]:
    """Choose the likeliest next token, again and again, until `<eos>` or the greatest length.

    Args:
        source: (B, S) tokens, padded at the end.
        source_lengths: (B,) true lengths, each at least 1, on the CPU.
        details: whether hypotheses have scores and the weights of attention.
    """
    return decode_token_by_token(model, source, source_lengths, settings, details, argmax)


def decode_token_by_token(
    model: Network,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool,
    choose: Choose,
) -> list[Hypothesis]:
    """Extend one hypothesis of each sentence by tokens that are never taken back.

    Args:
        source: (B, S) tokens, padded at the end.
        source_lengths: (B,) true lengths, each at least 1, on the CPU.
        details: whether hypotheses have scores and the weights of attention.
        choose: how each step's tokens are chosen.
    """
    device, count = source.device, len(source)
    shortest, longest = length_limits(source_lengths, settings)
    steps = int(longest.max())
    min_lengths, max_lengths = shortest.to(device), longest.to(device)
    limited = bool((longest < steps).any())
    state = model.encode(source, source_lengths)
    output = torch.full((count, steps), EOS, device=device)  # (B, T)
    scores = torch.zeros(count, steps, device=device) if details else None  # (B, T)
    trace = AttentionTrace.allocate(state.memory, (steps, count), settings, details)
    sources = unpadded(source, source_lengths)
    loops = LoopsOfRows(sources, settings)
    rows = torch.arange(count, device=device)  # (R,) sentences that have not ended
    tokens = torch.full((count,), SOS, device=device)  # (R,)
    for step in range(steps):
        too_short = step < min_lengths[rows] if settings.min_ratio else None
        logits, weights, state = constrained_step(model, tokens, state, too_short, settings)
        places = choose(logits)
        tokens = state.tokens_of(places)
        output[rows, step] = tokens
        if scores is not None:
            scores[rows, step] = token_log_probabilities(logits, places)
        if trace is not None and weights is not None:
            trace.record((step, rows), weights)
        unfinished = tokens != EOS
        if limited:
            unfinished &= max_lengths[rows] > step + 1
        if loops.are_due(step + 1):
            unfinished &= ~loops.find(rows, output[rows, : step + 1])
        if not unfinished.all():
            # Sentences that have ended leave, so that further steps are cheaper.
            left = unfinished.nonzero()[:, 0]
            if not len(left):
                break
            rows, tokens, state = rows[left], tokens[left], state.select(left)
    hypotheses = _hypotheses(output, scores, trace, source_lengths, longest, settings)
    limits = zip(sources, shortest.tolist(), longest.tolist(), strict=True)
    return [each.ended(*own, settings) for each, own in zip(hypotheses, limits, strict=True)]


def _hypotheses(
    output: Tensor,
    scores: Tensor | None,
    trace: AttentionTrace | None,
    source_lengths: Tensor,
    max_lengths: Tensor,
    settings: DecodeConfig,
) -> list[Hypothesis]:
    """Return the hypothesis of each row of tokens (B, T), which are `<eos>` from its end on."""
    all_scores = None if scores is None else scores.tolist()
    trace = None if trace is None else trace.cpu()
    lengths, limits = source_lengths.tolist(), max_lengths.tolist()
    hypotheses = []
    for row, tokens in enumerate(output.tolist()):
        size = tokens.index(EOS) if EOS in tokens else limits[row]
        scored = min(size + 1, limits[row])  # tokens, with `<eos>` if the hypothesis ended in it
        own_scores = [] if all_scores is None else all_scores[row][:scored]
        score = 0.0
        if own_scores:
            score = sum(own_scores) / length_penalty(len(own_scores), settings.length_penalty)
        alignment, attention = None, None
        if trace is not None:
            alignment, attention = trace.along([(t, row) for t in range(scored)], lengths[row])
        hypotheses.append(Hypothesis(tokens[:size], own_scores, score, alignment, attention))
    return hypotheses
