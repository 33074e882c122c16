"""Cross-entropy of the logits that an output layer makes, and its gradients.

The output layer is part of the loss: its logits are by far the largest tensor of training, and here
they exist a chunk at a time.

Shapes: N target tokens, C target tokens of a chunk, H features that the output layer reads (R in
`s2s.model.seq2seq`), V target vocabulary.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from s2s.gpu.kernels import MAX_VOCAB, has_kernels, softmax_difference
from s2s.model import onednn
from s2s.model.adaptive import AdaptiveOutput

# Bytes of logits that exist at a time. Small enough that a vocabulary of any size fits, large
# enough that a matrix product is worth its start (measured: from 4 to 32 MB the same).
CHUNK_BYTES = 16_000_000

# Bytes of logits that exist at a time on a GPU, whose kernels are fast on much work alone; at most
# this share of its memory.
GPU_CHUNK_BYTES, GPU_MEMORY_SHARE = 2_000_000_000, 1 / 32

# The rows of a chunk are filled up to a multiple of this: few sizes to compile, and little waste.
ROWS = 16

# Up to so many features, oneDNN makes the gradient of the weight, turned, faster than torch does
# (measured: 64 and 256). With more of them, torch is as fast, and nothing has to be turned back.
_FEW_FEATURES = 128

# Columns that the bias takes beside the weight, of which the first alone is not zero, and the
# multiple to which the vocabulary is filled up: products of other sizes take three times as long on
# a GPU.
_BIAS_COLUMNS, _VOCAB_MULTIPLE = 8, 64

# What gradients of fp16 logits are scaled by, and the rows of a chunk of them: more of either, and
# the sum over a chunk could overflow.
FP16_GRADIENT_SCALE, FP16_CHUNK_ROWS = 64.0, 992


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    smoothing: float = 0.0,
    ignored: int | None = None,
) -> Tensor:
    """Return the summed cross-entropy, in nats, of the logits that an output layer makes.

    It has the gradients of `F.cross_entropy` of all logits, `F.linear(hidden, weight, bias)`, with
    `reduction="sum"`, and its value (up to 87 nats a token), but for label smoothing, which is in
    the gradients alone: the value compares with the loss on held-out data. The logits are made a
    chunk at a time, in the dtype of autocast where that is on, and a chunk's gradients are taken at
    once, while its logits exist (as in Liger Kernel, Hsu et al., 2024,
    https://arxiv.org/abs/2410.10989).

    Args:
        hidden: (N, H) hidden vectors of the decoder.
        weight: (V, H) of the output layer.
        bias: (V,) of the output layer.
        targets: (N,) tokens.
        smoothing: share of the target's probability that is spread over all V tokens, for the
            gradients (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567).
        ignored: token that stands where there is nothing to predict, and counts for nothing.

    Returns:
        A scalar, float32.
    """
    loss: Tensor = _ProjectedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, smoothing, ignored
    )
    return loss


def output_cross_entropy(
    hidden: Tensor,
    output: nn.Linear | AdaptiveOutput,
    targets: Tensor,
    smoothing: float = 0.0,
    ignored: int | None = None,
) -> Tensor:
    """Return the summed cross-entropy, in nats, of the logits that an output layer makes.

    All is as of `cross_entropy`. That of an adaptive layer is the sum over its head and, for the
    targets in it, each cluster. Label smoothing spreads over the entries of each of these softmaxes
    instead of all V tokens, which would need every cluster for every target.
    """
    if isinstance(output, nn.Linear):
        return cross_entropy(hidden, output.weight, output.bias, targets, smoothing, ignored)
    head = output.head
    loss = cross_entropy(
        hidden, head.weight, head.bias, output.head_targets(targets), smoothing, ignored
    )
    for cluster in output.clusters:
        rows = cluster.holds(targets).nonzero()[:, 0]  # (M,) of the N
        features, words = cluster.features(hidden[rows]), targets[rows] - cluster.start  # (M, D)
        loss = loss + cross_entropy(
            features, cluster.words.weight, cluster.words.bias, words, smoothing
        )
    return loss


def chunks(
    hidden: Tensor, vocab: int, limit: int, dtype: torch.dtype = torch.float32
) -> Iterator[slice]:
    """Return slices of hidden vectors (N, H) whose logits, of a dtype, fit into some bytes.

    A GPU has a limit of its own.
    """
    if hidden.is_cuda:
        memory = torch.cuda.get_device_properties(hidden.device).total_memory
        limit = min(GPU_CHUNK_BYTES, int(GPU_MEMORY_SHARE * memory))
    size = max(ROWS, limit // (vocab * dtype.itemsize) // ROWS * ROWS)
    if dtype == torch.float16:
        size = min(size, FP16_CHUNK_ROWS)
    return (slice(start, start + size) for start in range(0, len(hidden), size))


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
        fits = hidden.is_cuda and has_kernels() and len(weight) <= MAX_VOCAB
        compute = _loss_and_gradients_on_gpu if fits else _loss_and_gradients
        with torch.autocast(device, enabled=False):
            loss, *gradients = compute(
                hidden, weight, bias, targets, smoothing, ignored, dtype or hidden.dtype
            )
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        # In place: nothing else holds the gradients, and this is the only backward pass that they
        # can have. Slices of a larger matrix are copied out of it while they are scaled.
        scaled = (g.mul_(d_loss) if g.is_contiguous() else g * d_loss
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
    """Return the loss, and the gradients by hidden (N, H), weight (V, H) and bias (V,)."""
    low_weight = weight.to(dtype)
    project = _output_layer(low_weight, bias.to(dtype))
    # fp16 has no room for small probabilities: they are computed in float32, and gradients scaled.
    scale = FP16_GRADIENT_SCALE if dtype == torch.float16 else 1.0
    loss = torch.zeros((), device=hidden.device)
    d_hidden = torch.empty_like(hidden)
    d_weight = d_bias = None
    for chunk in chunks(hidden, len(weight), CHUNK_BYTES, dtype):
        tokens = targets[chunk]  # (C,)
        # Products of few different sizes: a CPU library compiles its code again for each.
        part = low_weight.new_zeros(-len(tokens) % ROWS + len(tokens), hidden.shape[1])
        part[: len(tokens)] = hidden[chunk]  # (C + …, H)
        difference = _chunk_gradient(project(part), tokens, loss, smoothing, ignored, scale)
        d_hidden[chunk] = (difference @ low_weight)[: len(tokens)]
        more_weight, more_bias = _layer_gradients(difference, part)  # (V, H), (V,)
        del difference  # before the logits of the next chunk exist
        if d_weight is None or d_bias is None:
            d_weight, d_bias = more_weight.to(weight.dtype), more_bias.to(bias.dtype)
        else:
            d_weight += more_weight
            d_bias += more_bias
    if d_weight is None or d_bias is None:  # no target token at all
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    if scale > 1:
        for gradient in (d_hidden, d_weight, d_bias):
            gradient /= scale
    return loss, d_hidden, d_weight.contiguous(), d_bias


def _output_layer(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from hidden vectors (C, H) to logits (C, V), in the weight's dtype."""
    if weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and onednn.has_bf16():
        # Once for all chunks: otherwise oneDNN does so in every product, for the same result.
        reordered = onednn.reorder(weight)
        return lambda hidden: onednn.linear(hidden, reordered, bias)
    if weight.dtype == torch.float32 and onednn.has_onednn(weight.device):
        return lambda hidden: onednn.linear(hidden, weight, bias)  # its own order gains nothing
    return lambda hidden: torch.addmm(bias, hidden, weight.t())


def _layer_gradients(difference: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients by weight (V, H) and bias (V,) of a chunk of hidden vectors (C, H).

    Args:
        difference: (C, V), the gradient by the logits.
    """
    ones = hidden.new_ones(1, len(hidden))  # (1, C)
    few = hidden.shape[1] <= _FEW_FEATURES
    if few and hidden.dtype == torch.float32 and onednn.has_onednn(hidden.device):
        # One product for both: beside H rows, one more for the bias costs nothing.
        both = onednn.linear(torch.cat([hidden.t(), ones]), difference.t())  # (H + 1, V)
        return both[:-1].t(), both[-1]
    # A product reads the chunk row by row, and so in half the time of a sum over its rows.
    return difference.t() @ hidden, (ones @ difference)[0]


def _chunk_gradient(
    logits: Tensor,
    targets: Tensor,
    loss: Tensor,
    smoothing: float,
    ignored: int | None,
    scale: float,
) -> Tensor:
    """Add a chunk's cross-entropy to a sum, and return its gradient by the logits.

    `softmax_difference` of `s2s.gpu.kernels` computes the same in one kernel.

    Args:
        logits: (C + …, V), overwritten unless they are scaled; the rows after C are filled up.
        targets: (C,) tokens.
        loss: scalar to which the nats of the chunk are added.
        scale: what the gradient is multiplied by, if greater than 1.

    Returns:
        (C + …, V), by how much the predicted probabilities differ from the wanted ones.
    """
    rows = torch.arange(len(targets), device=targets.device)
    work = logits.float() if scale > 1 else logits
    probabilities = torch.softmax(work, dim=1, out=work)  # (C + …, V)
    surprise = -_log(probabilities[rows, targets])  # (C,)
    padding = None if ignored is None else targets == ignored
    if padding is not None:
        surprise = surprise.masked_fill(padding, 0)
    loss += surprise.sum()
    difference = probabilities
    if smoothing:
        difference -= smoothing / logits.shape[1]
    difference[rows, targets] -= 1 - smoothing
    difference[len(targets) :] = 0
    if padding is not None:
        difference[: len(targets)].masked_fill_(padding[:, None], 0)
    return difference.mul_(scale).to(logits.dtype) if scale > 1 else difference


def _loss_and_gradients_on_gpu(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    smoothing: float,
    ignored: int | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `_loss_and_gradients` does, by one kernel between the matrix products.

    The bias is a column of the weight, so that its gradient, the sum over a matrix as large as the
    logits, costs nothing.
    """
    vocab, size = weight.shape
    scale = FP16_GRADIENT_SCALE if dtype == torch.float16 else 1.0
    both = weight.new_zeros(-vocab % _VOCAB_MULTIPLE + vocab, size + _BIAS_COLUMNS, dtype=dtype)
    both[:vocab, :size], both[:vocab, size] = weight, bias  # (V + …, H + _BIAS_COLUMNS)
    states = hidden.new_zeros(len(hidden), size + _BIAS_COLUMNS, dtype=dtype)
    states[:, :size], states[:, size] = hidden, 1  # (N, H + _BIAS_COLUMNS)
    loss = torch.zeros((), device=hidden.device)
    d_hidden = torch.empty_like(hidden)
    d_both = None
    for chunk in chunks(hidden, len(both), CHUNK_BYTES, dtype):
        difference = states[chunk] @ both.t()  # (C, V + …), logits until the kernel has run
        loss += softmax_difference(
            difference, vocab, targets[chunk], ignored, smoothing, scale
        ).sum()  # fmt: skip
        d_hidden[chunk] = difference @ both[:, :size]
        more = difference.t() @ states[chunk]  # (V + …, H + _BIAS_COLUMNS)
        d_both = more.to(weight.dtype) if d_both is None else d_both + more
    if d_both is None:  # no target token at all
        d_both = torch.zeros_like(both, dtype=weight.dtype)
    d_weight, d_bias = d_both[:vocab, :size], d_both[:vocab, size]
    if scale > 1:
        for gradient in (d_hidden, d_weight, d_bias):
            gradient /= scale
    return loss, d_hidden, d_weight, d_bias


def _log(probabilities: Tensor) -> Tensor:
    """Return logarithms in float32; a rounded zero counts as the least normal number."""
    return probabilities.float().clamp_min(torch.finfo(probabilities.dtype).tiny).log()
