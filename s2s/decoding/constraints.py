"""What a translation may be: how long, and which tokens a step may choose.

Shapes: B sentences, N hypotheses, S source tokens, V target vocabulary.
"""

import math

import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.network import Network
from s2s.model.seq2seq import DecoderState
from s2s.text.vocabulary import EOS, PAD, SOS, UNK

# The logit of a token that may not be chosen, and the score of a hypothesis that does not exist.
IMPOSSIBLE = -math.inf


def length_limits(source_lengths: Tensor, settings: DecodeConfig) -> tuple[Tensor, Tensor]:
    """Return the fewest and most tokens (B,) of translations of sources of lengths (B,)."""
    longest = torch.full_like(source_lengths, settings.max_length)
    if settings.max_ratio is not None:
        by_ratio = _scale(source_lengths, settings.max_ratio).clamp_min(1)
        longest = torch.minimum(longest, by_ratio)
    shortest = _scale(source_lengths, settings.min_ratio)
    return torch.minimum(shortest, longest), longest


def _scale(lengths: Tensor, ratio: float) -> Tensor:
    """Return lengths (B,) times a ratio, rounded up, but for what the rounding of floats adds."""
    return (lengths.double() * ratio - 1e-9).ceil().long()


def constrained_step(
    model: Network,
    tokens: Tensor,
    state: DecoderState,
    too_short: Tensor | None,
    settings: DecodeConfig,
) -> tuple[Tensor, Tensor | None, DecoderState]:
    """Take the model's step, and mask the logits of tokens that may not be chosen.

    Args:
        tokens: (N,) the last token of each hypothesis.
        too_short: (N,) bool, hypotheses that may not end yet; None if all may.

    Returns:
        Logits (N, V) of the next tokens; with attention, the weights (N, S) of the source tokens;
        the state after `tokens`.
    """
    logits, weights, state = model.step(tokens, state)
    mask_logits(logits, too_short, settings)
    return logits, weights, state


def mask_logits(logits: Tensor, too_short: Tensor | None, settings: DecodeConfig) -> None:
    """Make tokens impossible, in place, that may not be chosen in a step.

    Args:
        logits: (N, V).
        too_short: (N,) bool, hypotheses that may not end yet; None if all may.
    """
    logits[:, PAD] = IMPOSSIBLE
    logits[:, SOS] = IMPOSSIBLE
    if settings.unknown == "avoid":
        logits[:, UNK] = IMPOSSIBLE
    if too_short is not None:
        logits[:, EOS].masked_fill_(too_short, IMPOSSIBLE)
