"""Cross-entropy and accuracy as sums and counts, which add up over batches and workers.

A mean of means would weigh a short batch like a long one; sums are divided once, at the end.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Sums:
    """What was summed over some target tokens."""

    loss: float = 0.0  # nats
    correct: float = 0.0  # tokens predicted right under teacher forcing
    tokens: float = 0.0
    sentences: float = 0.0

    @classmethod
    def of(cls, totals: Tensor) -> "Sums":
        """The sums held in a tensor of four numbers, in the order of the fields."""
        return cls(*totals.tolist())

    @property
    def mean_loss(self) -> float:
        """Nats per real target token."""
        return self.loss / self.tokens

    @property
    def token_accuracy(self) -> float:
        """Share of the real target tokens predicted right, `<eos>` among them."""
        return self.correct / self.tokens

    def padded_accuracy(self, longest: int) -> float:
        """The tutorial's Keras metric: accuracy over `longest` positions of every sentence.

        Positions after `<eos>` count as right, since decoding stops there.
        """
        positions = self.sentences * longest
        return (self.correct + positions - self.tokens) / positions


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The summed cross-entropy in nats of logits (N, V) against words (N,); a scalar."""
    return F.cross_entropy(logits, targets, reduction="sum")


def totals(loss: Tensor, logits: Tensor, targets: Tensor, sentences: int) -> Tensor:
    """The numbers of `Sums` for one batch, (4,) float64, on the device of the logits."""
    correct = (logits.argmax(dim=1) == targets).sum()
    counts = torch.tensor([len(targets), sentences], device=logits.device)
    return torch.cat([torch.stack([loss.detach().double(), correct.double()]), counts.double()])
