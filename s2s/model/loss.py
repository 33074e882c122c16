"""Cross-entropy and accuracy as sums and counts, which add up over batches and workers.

A mean of means would weigh a short batch like a long one; sums are divided once, at the end. The
output layer is part of the loss: its logits are by far the largest thing in training, and here they
are made a chunk at a time.

Shapes: N target tokens without padding, C of them in a chunk, H hidden size, V target words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from s2s.corpus.batches import Batch
from s2s.gpu.kernels import MOST_WORDS, has_kernels, softmax_difference
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import PAD

# Bytes of logits that exist at a time. Small enough that a vocabulary of any size fits, large
# enough that a matrix product is worth its start (measured: from 4 to 32 MB the same).
CHUNK_BYTES = 16_000_000

# The same on a GPU, whose kernels want all the work that there is at a time; at most this share of
# its memory.
CARD_CHUNK_BYTES, CARD_SHARE = 2_000_000_000, 1 / 32

# A chunk's rows are a multiple of this.
ROWS = 32

# Columns that the bias takes beside the weight, of which the first alone is not zero, and rows to
# whose multiple words are filled up: products of other sizes take three times as long on a GPU.
_COLUMNS, _ALIGNED = 8, 64

# What gradients of fp16 logits are multiplied by, and the rows of a chunk of them: more of either,
# and the sum over a chunk could overflow.
LIFT, LIFTED_ROWS = 64.0, 992


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


class Objective(nn.Module):
    """The summed cross-entropy of a model under teacher forcing, as it is trained on."""

    def __init__(self, model: Seq2Seq, smoothing: float = 0.0) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, batch: Batch) -> Tensor:
        """Nats over all real target tokens of a batch; a scalar, float32."""
        hidden, targets = _predictions(self.model, batch)  # (N, H), (N,)
        output = self.model.decoder.output
        ignored = None if batch.target_positions is None else PAD
        return cross_entropy(hidden, output.weight, output.bias, targets, self.smoothing, ignored)


@torch.inference_mode()
def totals(model: Seq2Seq, batch: Batch) -> Tensor:
    """The numbers of `Sums` for one batch, (4,) float64, on the device of the batch."""
    hidden, targets = _predictions(model, replace(batch, target_positions=None))  # (N, H), (N,)
    output = model.decoder.output
    loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
    correct = torch.zeros_like(loss)
    for chunk in _chunks(len(targets), output.weight):
        logits, words = output(hidden[chunk]), targets[chunk]  # (C, V), (C,)
        loss += nn.functional.cross_entropy(logits, words, reduction="sum").double()
        correct += (logits.argmax(dim=1) == words).sum()
    counts = torch.tensor([len(targets), batch.sentences], device=hidden.device).double()
    return torch.cat([torch.stack([loss, correct]), counts])


def _predictions(model: Seq2Seq, batch: Batch) -> tuple[Tensor, Tensor]:
    """The states (N, H) from which the real target tokens are predicted, and the tokens (N,)."""
    hidden = model(batch.source, batch.source_lengths, batch.target_in)  # (B, T, H)
    # Selecting before the projection saves the largest product of all for the padding.
    if batch.target_positions is None:
        predicted = batch.target_out != PAD  # (B, T)
        return hidden[predicted], batch.target_out[predicted]
    places = batch.target_positions.clamp_min(0)  # (N,)
    targets = batch.target_out.flatten()[places].masked_fill(batch.target_positions < 0, PAD)
    return hidden.flatten(0, 1).index_select(0, places), targets


def _chunks(tokens: int, weight: Tensor) -> Iterator[slice]:
    """Slices of the target tokens whose logits, by a weight (V, H), take so many bytes."""
    most = CHUNK_BYTES
    if weight.is_cuda:
        memory = torch.cuda.get_device_properties(weight.device).total_memory
        most = min(CARD_CHUNK_BYTES, int(CARD_SHARE * memory))
    size = max(ROWS, most // (len(weight) * weight.element_size()) // ROWS * ROWS)
    if weight.dtype == torch.float16:
        size = min(size, LIFTED_ROWS)
    return (slice(start, start + size) for start in range(0, tokens, size))


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    smoothing: float = 0.0,
    ignored: int | None = None,
) -> Tensor:
    """The summed cross-entropy, in nats, of the logits that an output layer makes.

    Its value (up to 87 nats a token) and its gradients are those of `F.cross_entropy` of all
    logits, `F.linear(hidden, weight, bias)`, with `reduction="sum"`, but the logits are made a
    chunk at a time, in the dtype of autocast where that is on, and each chunk's gradients are taken
    at once, while it is there (as in Liger Kernel, Hsu et al., 2024,
    https://arxiv.org/abs/2410.10989).

    Args:
        hidden: (N, H) states of the decoder.
        weight: (V, H) of the output layer.
        bias: (V,) of the output layer.
        targets: (N,) words.
        smoothing: share of the target's probability that is spread over all V words (Szegedy et
            al., 2016, https://arxiv.org/abs/1512.00567).
        ignored: a word that stands where there is nothing to predict, and counts for nothing.

    Returns:
        A scalar, float32.
    """
    loss: Tensor = _ProjectedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, smoothing, ignored
    )
    return loss


class _ProjectedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        ignored: int | None,
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        fits = hidden.is_cuda and has_kernels() and len(weight) <= MOST_WORDS
        make = _loss_and_gradients_on_card if fits else _loss_and_gradients
        with torch.autocast(device, enabled=False):
            loss, *gradients = make(
                hidden, weight, bias, targets, smoothing, ignored, dtype or hidden.dtype
            )
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        # In place: they are nobody else's, and this is the only backward pass they can have. Slices
        # of a larger matrix are copied out of it while they are scaled.
        scaled = (g.mul_(above) if g.is_contiguous() else g * above
                  for g in (d_hidden, d_weight, d_bias))  # fmt: skip
        return *scaled, None, None, None


def _loss_and_gradients(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    smoothing: float,
    ignored: int | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and its gradients by hidden (N, H), weight (V, H) and bias (V,)."""
    low_weight, low_bias = weight.to(dtype), bias.to(dtype)
    spread = smoothing / len(weight)
    # fp16 has no room for small probabilities: they are computed in float32, and lifted.
    lift = LIFT if dtype == torch.float16 else 1.0
    loss = torch.zeros((), device=hidden.device)
    d_hidden = torch.empty_like(hidden)
    d_weight = d_bias = logits = None
    for chunk in _chunks(len(targets), low_weight):
        words = targets[chunk]  # (C,)
        rows = torch.arange(len(words), device=words.device)
        # Products of few different sizes: a CPU library compiles its code for each anew.
        part = low_weight.new_zeros(-len(words) % ROWS + len(words), hidden.shape[1])
        part[: len(words)] = hidden[chunk]  # (C + …, H)
        if logits is None:
            logits = low_weight.new_empty(len(part), len(weight))  # (C + …, V): no other is larger
        logits = torch.addmm(low_bias, part, low_weight.t(), out=logits[: len(part)])
        wanted = logits[rows, words].float()  # (C,)
        work = logits.float() if lift > 1 else logits
        probabilities = torch.softmax(work, dim=1, out=work)
        surprise = -_log(probabilities[rows, words])  # (C,)
        padding = None if ignored is None else words == ignored
        if padding is not None:
            surprise = surprise.masked_fill(padding, 0)
        loss += surprise.sum()
        difference = probabilities  # by which they differ from the wanted ones: the gradient
        if smoothing:
            # All words' surprise, from the sum of all logits: no second pass over the chunk.
            all_logits = part[: len(words)].float() @ weight.sum(0) + bias.sum()  # (C,)
            everyone = len(weight) * (wanted + surprise) - all_logits  # (C,)
            if padding is not None:
                everyone = everyone.masked_fill(padding, 0)
            loss += (spread * everyone - smoothing * surprise).sum()
            difference -= spread
        difference[rows, words] -= 1 - smoothing
        difference[len(words) :] = 0
        if padding is not None:
            difference[: len(words)].masked_fill_(padding[:, None], 0)
        difference = difference.mul_(lift).to(dtype) if lift > 1 else difference
        d_hidden[chunk] = (difference @ low_weight)[: len(words)]
        more_weight, more_bias = difference.t() @ part, difference.sum(0)
        if d_weight is None or d_bias is None:
            d_weight, d_bias = more_weight.to(weight.dtype), more_bias.to(bias.dtype)
        else:
            d_weight += more_weight
            d_bias += more_bias
    if d_weight is None or d_bias is None:  # no target token at all
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    if lift > 1:
        for gradient in (d_hidden, d_weight, d_bias):
            gradient /= lift
    return loss, d_hidden, d_weight, d_bias


def _loss_and_gradients_on_card(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    smoothing: float,
    ignored: int | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same, with one kernel between the products, and the bias as a column of the weight."""
    words, size = weight.shape
    lift = LIFT if dtype == torch.float16 else 1.0
    # The bias' gradient sums a matrix as large as the logits: as a column it costs nothing.
    both = weight.new_zeros(-words % _ALIGNED + words, size + _COLUMNS, dtype=dtype)
    both[:words, :size], both[:words, size] = weight, bias  # (V + …, H + _COLUMNS)
    states = hidden.new_zeros(len(hidden), size + _COLUMNS, dtype=dtype)
    states[:, :size], states[:, size] = hidden, 1  # (N, H + _COLUMNS)
    loss = torch.zeros((), device=hidden.device)
    d_hidden = torch.empty_like(hidden)
    d_both = None
    for chunk in _chunks(len(targets), both):
        difference = states[chunk] @ both.t()  # (C, V + …): logits yet
        loss += softmax_difference(
            difference, words, targets[chunk], ignored, smoothing, lift
        ).sum()  # fmt: skip
        d_hidden[chunk] = difference @ both[:, :size]
        more = difference.t() @ states[chunk]  # (V + …, H + _COLUMNS)
        d_both = more.to(weight.dtype) if d_both is None else d_both + more
    if d_both is None:  # no target token at all
        d_both = torch.zeros_like(both, dtype=weight.dtype)
    d_weight, d_bias = d_both[:words, :size], d_both[:words, size]
    if lift > 1:
        for gradient in (d_hidden, d_weight, d_bias):
            gradient /= lift
    return loss, d_hidden, d_weight, d_bias


def _log(probabilities: Tensor) -> Tensor:
    """Logarithms in float32; what is rounded to zero counts as the least number there is."""
    return probabilities.float().clamp_min(torch.finfo(probabilities.dtype).tiny).log()
