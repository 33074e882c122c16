"""Log-probabilities of tokens, and how hypotheses of different lengths compare.

Shapes: N hypotheses, V target vocabulary.
"""

from typing import overload

import torch
from torch import Tensor

_GROUP = 16  # tokens whose greatest logit is found together


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


def top_logits(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the greatest logits and their tokens, the greatest first, (N, `count`), of (N, V).

    On a CPU `topk` sorts all tokens of a row in part. The greatest ones of many are among those of
    the few groups of tokens that have the greatest maxima (`benchmarks/step.py`).
    """
    rows, size = logits.shape
    groups = size // _GROUP
    if logits.device.type != "cpu" or groups < 4 * count:
        return logits.topk(count, dim=1)
    # A group has every `groups`-th token, so that maxima are taken of whole rows at once.
    maxima = logits[:, : groups * _GROUP].view(rows, _GROUP, groups).amax(1)  # (N, G)
    best = maxima.topk(count, dim=1).indices  # (N, K)
    members = best[:, None] + torch.arange(0, groups * _GROUP, groups)[:, None]  # (N, 16, K)
    rest = torch.arange(groups * _GROUP, size).expand(rows, -1)  # (N, fewer than 16)
    tokens = torch.cat([members.flatten(1), rest], dim=1)  # (N, C)
    values, places = logits.gather(1, tokens).topk(count, dim=1)  # (N, K)
    return values, tokens.gather(1, places)


def top_log_probabilities(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the greatest log-probabilities, in nats, and their tokens, by logits (N, V).

    The logits are overwritten: new memory of their size would cost more than the sums.

    Returns:
        Both (N, `count`), or (N, V) if there are fewer tokens; the greatest first.
    """
    values, tokens = top_logits(logits, min(count, logits.shape[1]))
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
