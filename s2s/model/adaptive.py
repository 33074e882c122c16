"""The adaptive softmax: an output layer in which rare words cost little.

Grave et al. (2017), https://arxiv.org/abs/1609.04309. Words are in the order of falling frequency.
The first ones have logits of their own; the others are in clusters, each of which has one logit
beside them. The words of a cluster read fewer features, and training computes them only where the
next word is one of them. The layout is that of `torch.nn.AdaptiveLogSoftmaxWithLoss`, with biases.

Shapes: N hidden vectors of R features, V target vocabulary, C clusters of W words each, D features
that the words of a cluster read.
"""

import torch
from torch import Tensor, nn

# A cluster ends at this multiple of its start, and has a fraction of the features of the one before
# (of R, the first), as in the paper.
_GROWTH, _SHRINKAGE = 5, 4


class AdaptiveOutput(nn.Module):
    """An output layer of a head, for frequent words and clusters, and a tail for each cluster.

    Attributes:
        head: makes logits (N, frequent words + C).
        tails: of each cluster, two layers: from R to D, and from D to W.
        clusters: of each cluster, the first word and the one after the last.

    Args:
        in_features: R.
        out_features: V.
        frequent_words: words of the head; without more than these there are no clusters.
    """

    def __init__(self, in_features: int, out_features: int, frequent_words: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self._frequent = min(frequent_words, out_features)
        self.clusters: list[tuple[int, int]] = []
        self.tails = nn.ModuleList()
        start, size = self._frequent, in_features
        while start < out_features:
            end, size = min(_GROWTH * start, out_features), max(1, size // _SHRINKAGE)
            self.clusters.append((start, end))
            words = nn.Linear(size, end - start)
            self.tails.append(nn.Sequential(nn.Linear(in_features, size), words))
            start = end
        self.head = nn.Linear(in_features, self._frequent + len(self.clusters))

    def head_targets(self, targets: Tensor) -> Tensor:
        """Return the places (N,) in the head of target tokens (N,) or of their clusters."""
        places = targets
        for number, (start, end) in enumerate(self.clusters):
            inside = (start <= targets) & (targets < end)
            places = places.masked_fill(inside, self._frequent + number)
        return places

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits (N, V) of hidden vectors (N, R).

        The logit of a cluster is divided among its words, so that the softmax of all logits has the
        probabilities of the words.
        """
        sizes = [self._frequent, *(1 for _ in self.tails)]
        logits, *clusters = self.head(hidden).split(sizes, dim=-1)  # (N, frequent words), (N, 1) …
        parts = [
            tail(hidden).log_softmax(-1) + cluster  # (N, W)
            for tail, cluster in zip(self.tails, clusters, strict=True)
        ]
        return torch.cat([logits, *parts], dim=-1)
