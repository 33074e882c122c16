"""What a step of decoding may say, what is likeliest of it, and how lengths are weighed.

Shapes: N hypotheses, V target words.
"""

import math
from typing import Any

import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.text.vocabulary import EOS, PAD, SOS, UNK

IMPOSSIBLE = -math.inf


def likeliest(logits: Tensor) -> Tensor:
    """The first of the words of greatest logit (N,), of logits (N, V).

    On a CPU numpy finds it, several times faster than torch (docs/log.md).
    """
    if logits.device.type != "cpu" or logits.dtype != torch.float32:
        return logits.max(dim=1).indices
    return torch.from_numpy(logits.numpy().argmax(axis=1))


def forbid(logits: Tensor, early: Tensor | None, settings: DecodeConfig) -> None:
    """Make impossible, in place, what translations can't say in this step.

    Args:
        logits: (N, V).
        early: (N,) bool, those that are too short to end; None if none is.
    """
    logits[:, PAD] = IMPOSSIBLE
    logits[:, SOS] = IMPOSSIBLE
    if settings.unknown == "avoid":
        logits[:, UNK] = IMPOSSIBLE
    if early is not None:
        logits[:, EOS].masked_fill_(early, IMPOSSIBLE)


def penalty(length: Any, alpha: float) -> Any:
    """What a sum of log-probabilities over so many words, `<eos>` included, is divided by."""
    return ((5 + length) / 6) ** alpha
