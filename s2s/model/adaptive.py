"""The adaptive softmax: an output layer in which rare words cost little.

Grave et al. (2017), https://arxiv.org/abs/1609.04309. Words are in the order of falling frequency.
The first ones have logits of their own; the others are in clusters, each of which has one logit
beside them. The words of a cluster read fewer features, and training computes them only where the
next word is one of them. The layout is that of `torch.nn.AdaptiveLogSoftmaxWithLoss`, with biases.

Shapes: N hidden vectors of R features, V target vocabulary, C clusters of W words each, D features
that the words of a cluster read.
"""

from typing import cast

import torch
from torch import Tensor, nn

# A cluster ends at this multiple of its start, and has a fraction of the features of the one before
# (of R, the first), as in the paper.
_GROWTH, _SHRINKAGE = 5, 4


class Cluster(nn.Module):
    """An output layer of the words from `start` to before `end`, by fewer features."""

    def __init__(self, in_features: int, features: int, start: int, end: int) -> None:
        super().__init__()
        self.start, self.end = start, end
        self.features = nn.Linear(in_features, features)
        self.words = nn.Linear(features, end - start)

    def holds(self, targets: Tensor) -> Tensor:
        """Return which target tokens (N,) are in the cluster, (N,) bool."""
        return (self.start <= targets) & (targets < self.end)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities (N, W) of words of the cluster by hidden vectors (N, R)."""
        logits: Tensor = self.words(self.features(hidden))
        return logits.log_softmax(-1)


class AdaptiveOutput(nn.Module):
    """An output layer of a head, for frequent words and clusters, and the clusters as its tails.

    Args:
        in_features: R.
        out_features: V.
        frequent_words: words of the head; without more than these there are no clusters.
    """

    def __init__(self, in_features: int, out_features: int, frequent_words: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.frequent_words = min(frequent_words, out_features)
        self.tails = nn.ModuleList()
        start, size = self.frequent_words, in_features
        while start < out_features:
            end, size = min(_GROWTH * start, out_features), max(1, size // _SHRINKAGE)
            self.tails.append(Cluster(in_features, size, start, end))
            start = end
        self.head = nn.Linear(in_features, self.frequent_words + len(self.tails))

    @property
    def clusters(self) -> list[Cluster]:
        """The tails."""
        return [cast(Cluster, tail) for tail in self.tails]

    def head_targets(self, targets: Tensor) -> Tensor:
        """Return the places (N,) in the head of target tokens (N,) or of their clusters."""
        places = targets
        for number, cluster in enumerate(self.clusters):
            places = places.masked_fill(cluster.holds(targets), self.frequent_words + number)
        return places

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits (N, V) of hidden vectors (N, R).

        The logit of a cluster is divided among its words, so that the softmax of all logits has the
        probabilities of the words.
        """
        sizes = [self.frequent_words, *(1 for _ in self.tails)]
        frequent, *totals = self.head(hidden).split(sizes, dim=-1)  # (N, frequent words), (N, 1) …
        rare = [
            total + cluster(hidden)  # (N, W)
            for total, cluster in zip(totals, self.tails, strict=True)
        ]
        return torch.cat([frequent, *rare], dim=-1)
