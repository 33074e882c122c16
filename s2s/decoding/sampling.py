"""Sampling: translations whose tokens are drawn by their probabilities.

Shapes: B sentences, R hypotheses that have not ended, S source tokens, V target vocabulary.
"""

import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.constraints import IMPOSSIBLE
from s2s.decoding.greedy import decode_token_by_token
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.network import Network


@torch.inference_mode()
def sample(
    model: Network,
    source: Tensor,
    source_lengths: Tensor,
    settings: DecodeConfig,
    details: bool = False,
) -> list[list[Hypothesis]]:
    """Draw `n_best` independent translations of each sentence, best first.

    Args:
        source: (B, S) tokens, padded at the end.
        source_lengths: (B,) true lengths, each at least 1, on the CPU.
        details: whether hypotheses have scores and the weights of attention; they always do where
            there are several of a sentence.
    """
    random = torch.Generator(source.device).manual_seed(settings.seed)

    def draw(logits: Tensor) -> Tensor:
        probabilities = _truncate(logits, settings).softmax(1)  # (R, V)
        return torch.multinomial(probabilities, 1, generator=random)[:, 0]  # (R,)

    each = settings.n_best
    drawn = decode_token_by_token(
        model,
        source.repeat_interleave(each, 0),
        source_lengths.repeat_interleave(each),
        settings,
        details or each > 1,
        draw,
    )
    groups = [drawn[start : start + each] for start in range(0, len(drawn), each)]
    return [sorted(group, key=_rank) for group in groups]


def _rank(drawn: Hypothesis) -> tuple[bool, float]:
    """Return what drawn translations are sorted by: those without loops first, then the best."""
    return drawn.finish_reason == "repetition", -drawn.score


def _truncate(logits: Tensor, settings: DecodeConfig) -> Tensor:
    """Return logits (R, V) over the temperature, of which only the likeliest tokens are possible.

    These are the `top_k` likeliest, and of them the likeliest that together have `top_p` of the
    probability (nucleus sampling, Holtzman et al., 2020, https://arxiv.org/abs/1904.09751).
    """
    logits = logits / (settings.temperature or 1.0)
    if settings.top_k is not None:
        least = logits.topk(min(settings.top_k, logits.shape[1])).values[:, -1:]  # (R, 1)
        logits = logits.masked_fill(logits < least, IMPOSSIBLE)
    if settings.top_p is not None:
        probabilities, tokens = logits.softmax(1).sort(descending=True)  # (R, V)
        likelier = probabilities.cumsum(1) - probabilities  # (R, V), of all likelier tokens
        beyond = torch.zeros_like(likelier, dtype=torch.bool)
        beyond.scatter_(1, tokens, likelier >= settings.top_p)
        logits = logits.masked_fill(beyond, IMPOSSIBLE)
    return logits
