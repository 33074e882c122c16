"""Log-probabilities of tokens, and how hypotheses of different lengths compare.

Shapes: N hypotheses, V target vocabulary.
"""

from typing import overload

import torch
from torch import Tensor


def argmax(logits: Tensor) -> Tensor:
    """Return the tokens (N,) of greatest logit, of equal ones the first, of logits (N, V).

    On a CPU numpy finds them, several times faster than torch (docs/log.md).
    """
    if logits.device.type != "cpu" or logits.dtype != torch.float32:
        return logits.max(dim=1).indices
    return torch.from_numpy(logits.numpy().argmax(axis=1))


def token_log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probabilities (N,), in nats, of tokens (N,) by logits (N, V).

    The logits are overwritten: new memory of their size would cost more than the sums.
    """
    chosen = logits.gather(1, tokens[:, None])[:, 0]  # (N,)
    highest = logits.amax(1, keepdim=True)  # (N, 1)
    sums = logits.sub_(highest).exp_().sum(1)  # (N,)
    return chosen - highest[:, 0] - sums.log()


def top_log_probabilities(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the greatest log-probabilities, in nats, and their tokens, by logits (N, V).

    The logits are overwritten: new memory of their size would cost more than the sums.

    Returns:
        Both (N, `count`), or (N, V) if there are fewer tokens; the greatest first.
    """
    values, tokens = logits.topk(min(count, logits.shape[1]), dim=1)
    highest = values[:, :1]  # (N, 1)
    values = values - highest - logits.sub_(highest).exp_().sum(1, keepdim=True).log()
    return values, tokens


@overload
def length_penalty(length: int, alpha: float) -> float: ...
@overload
def length_penalty(length: Tensor, alpha: float) -> Tensor: ...
def length_penalty(length: int | Tensor, alpha: float) -> float | Tensor:
    """Return what the log-probability of a hypothesis is divided by, to compare different lengths.

    Wu et al. (2016), https://arxiv.org/abs/1609.08144, equation 14.

    Args:
        length: tokens, `<eos>` included.
        alpha: exponent; 0 favours short translations.
    """
    penalty: float | Tensor = ((5 + length) / 6) ** alpha
    return penalty
