"""Dropout with one mask for all tokens of a sentence.

Shapes: N sentences or hypotheses, T tokens, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


class LockedDropout(nn.Module):
    """Dropout that drops the same features of every token of a sentence.

    The variational dropout of Gal and Ghahramani (2016), https://arxiv.org/abs/1512.05287.

    Args:
        rate: probability with which a feature is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return inputs (N, T, D) with some features set to zero and the others scaled up.

        Args:
            mask: (N, 1, D) of `draw_mask`, where a sentence's tokens come one at a time; drawn here
                if None.
        """
        if not self.training or not self.rate:
            return inputs
        return inputs * (self.draw_mask(inputs[:, :1]) if mask is None else mask)

    def packed(self, inputs: PackedSequence) -> PackedSequence:
        """Return packed sentences with some features set to zero and the others scaled up."""
        if not self.training or not self.rate:
            return inputs
        sizes = inputs.batch_sizes.tolist()
        mask = self.draw_mask(inputs.data[: sizes[0]])  # (N, D)
        mask = torch.cat([mask[:size] for size in sizes])
        return inputs._replace(data=inputs.data * mask)

    def draw_mask(self, like: Tensor) -> Tensor:
        """Draw factors for features, in the shape, dtype and device of a tensor."""
        return torch.empty_like(like).bernoulli_(1 - self.rate).div_(1 - self.rate)
