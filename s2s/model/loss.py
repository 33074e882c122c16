"""Loss and accuracy as sums and counts, which add up over batches and workers.

A mean of means would weigh a short batch like a long one; sums are divided once, at the end.

Shapes: B sentences, T target tokens with padding, N without; C target tokens of a chunk, H features
that the output layer reads (R in `s2s.model.seq2seq`), V target vocabulary.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from s2s.corpus.batches import Batch
from s2s.model.adaptive import AdaptiveOutput
from s2s.model.cross_entropy import chunks, output_cross_entropy
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import PAD

# Bytes of logits that exist at a time in validation, whose few passes over the logits are twice as
# fast while these lie in a core's cache (measured: from 1 to 4 MB the same).
VALID_CHUNK_BYTES = 2_000_000


@dataclass(frozen=True)
class TokenSums:
    """Loss and counts, summed over target tokens."""

    loss: float = 0.0  # nats
    correct: float = 0.0  # tokens predicted right under teacher forcing
    tokens: float = 0.0
    sentences: float = 0.0

    @classmethod
    def from_tensor(cls, sums: Tensor) -> "TokenSums":
        """Read the sums from a tensor of four numbers, in the order of the fields."""
        return cls(*sums.tolist())

    @property
    def mean_loss(self) -> float:
        """Nats per real target token."""
        return self.loss / self.tokens

    @property
    def token_accuracy(self) -> float:
        """Share of the real target tokens predicted right, `<eos>` among them."""
        return self.correct / self.tokens

    def padded_accuracy(self, longest: int) -> float:
        """Return the tutorial's Keras metric: accuracy over `longest` positions of every sentence.

        Positions after `<eos>` count as right, since decoding stops there.
        """
        positions = self.sentences * longest
        return (self.correct + positions - self.tokens) / positions


class TrainingLoss(nn.Module):
    """The summed cross-entropy of a model under teacher forcing, which training minimises.

    Args:
        smoothing: label smoothing, as of `cross_entropy`.
    """

    def __init__(self, model: Seq2Seq, smoothing: float = 0.0) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, batch: Batch) -> Tensor:
        """Return nats over all real target tokens of a batch; a scalar, float32."""
        hidden, targets = _select_targets(self.model, batch)  # (N, H), (N,)
        output = self.model.decoder.output
        ignored = None if batch.target_positions is None else PAD
        return output_cross_entropy(hidden, output, targets, self.smoothing, ignored)


@torch.inference_mode()
def batch_sums(model: Seq2Seq, batch: Batch) -> Tensor:
    """Return the numbers of `TokenSums` for a batch, (4,) float64, on the device of the batch."""
    hidden, targets = _select_targets(model, replace(batch, target_positions=None))  # (N, H), (N,)
    output = model.decoder.output
    loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
    correct = torch.zeros_like(loss)
    space = None
    for chunk in chunks(hidden, output.out_features, VALID_CHUNK_BYTES):
        tokens = targets[chunk]  # (C,)
        if isinstance(output, AdaptiveOutput):
            logits = output(hidden[chunk])  # (C, V)
        else:
            if space is None:
                space = hidden.new_empty(len(tokens), output.out_features)  # no chunk is larger
            logits = torch.addmm(  # (C, V)
                output.bias, hidden[chunk], output.weight.t(), out=space[: len(tokens)]
            )
        highest, best = logits.max(dim=1)  # (C,), (C,)
        wanted = logits.gather(1, tokens[:, None])[:, 0]  # (C,)
        probabilities = torch.softmax(logits, dim=1, out=logits)  # (C, V)
        # The highest probability is at least 1/V, so its logarithm is exact where that of a small
        # one would not be.
        likeliest = probabilities.gather(1, best[:, None])[:, 0].log()  # (C,)
        loss += (highest - likeliest - wanted).sum().double()
        correct += (best == tokens).sum()
    counts = torch.tensor([len(targets), batch.sentences], device=hidden.device).double()
    return torch.cat([torch.stack([loss, correct]), counts])


def _select_targets(model: Seq2Seq, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the hidden vectors (N, H) that predict real target tokens, and these tokens (N,)."""
    hidden = model(batch.source, batch.source_lengths, batch.target_in)  # (B, T, H)
    # Selecting before the output layer saves the largest product of all for the padding.
    if batch.target_positions is None:
        predicted = batch.target_out != PAD  # (B, T)
        return hidden[predicted], batch.target_out[predicted]
    positions = batch.target_positions.clamp_min(0)  # (N,)
    targets = batch.target_out.flatten()[positions].masked_fill(batch.target_positions < 0, PAD)
    return hidden.flatten(0, 1).index_select(0, positions), targets
