"""Comparison of a network with itself in another program, sentence by sentence.

Shapes: B sentences, S source tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch

from s2s.config import DecodeConfig
from s2s.decoding.greedy import greedy
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.network import Network
from s2s.errors import Failed
from s2s.text.ragged import Ragged
from s2s.text.vocabulary import PAD

# Largest difference of the log-probability of a token, in nats: what the order of sums explains,
# and far more than rounding to 8 bits does.
TOLERANCES = {"fp32": 1e-4, "int8": 1.0}

_BATCH = 64


@dataclass(frozen=True)
class Parity:
    """How closely two networks agree."""

    sentences: int
    changed: (
        int  # sentences in which they took different ones of two tokens with nearly equal scores
    )
    score_difference: float  # nats, the largest one of a token


def compare(
    network: Network,
    other: Network,
    sentences: list[list[int]],
    settings: DecodeConfig,
    tolerance: float = TOLERANCES["fp32"],
) -> Parity:
    """Translate sentences greedily with a network, and with the same one in another program.

    Args:
        sentences: source tokens, at least one of each.
        settings: limits of the length; its search and precision do not matter.
        tolerance: largest difference of the log-probability of a token, in nats.

    Raises:
        Failed: the score of a token differs by more.
    """
    settings = settings.model_copy(
        update={"beam": 1, "n_best": 1, "temperature": None, "precision": "fp32"}
    )
    changed, largest = 0, 0.0
    for start in range(0, len(sentences), _BATCH):
        lists = Ragged.from_lists(sentences[start : start + _BATCH])
        source = torch.from_numpy(lists.pad(np.arange(len(lists)), PAD))  # (B, S)
        lengths = torch.from_numpy(lists.lengths)  # (B,)
        pairs = zip(
            *(greedy(each, source, lengths, settings, details=True) for each in (network, other)),
            strict=True,
        )
        for place, (wanted, found) in enumerate(pairs, start=start):
            same, difference = _common(wanted, found)
            if difference > tolerance:
                raise Failed(
                    f"the exported graphs do not compute what the model does: sentence {place + 1} "
                    f"of {len(sentences)} has a token whose score differs by {difference:.2g}"
                )
            changed += not same
            largest = max(largest, difference)
    return Parity(len(sentences), changed, largest)


def _common(wanted: Hypothesis, found: Hypothesis) -> tuple[bool, float]:
    """Compare two translations up to the first token that differs.

    That token's score decides: between two tokens of nearly equal scores, rounding does.

    Returns:
        Whether all tokens are the same; the largest difference of two scores.
    """
    both = zip(wanted.ids, found.ids, strict=False)
    differing = (place + 1 for place, (one, other) in enumerate(both) if one != other)
    compared = next(differing, None)  # tokens; with None, all that both have
    scores = zip(wanted.scores[:compared], found.scores[:compared], strict=False)
    difference = max((abs(one - other) for one, other in scores), default=0.0)
    return wanted.ids == found.ids, difference
