"""Triton kernels, for CUDA devices alone: torch brings Triton where it brings CUDA.

Shapes: N target tokens, V target words.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# A row of logits is held in registers: what more words need is left to torch.
MOST_WORDS = 65_536


def softmax_difference(
    logits: Tensor, targets: Tensor, ignored: int | None, smoothing: float, lift: float
) -> Tensor:
    """The cross-entropy (N,) float32 of logits (N, V), which become its gradient in place.

    One pass over memory: each row is read once and written once, which is what bounds its time. As
    in Liger Kernel (Hsu et al., 2024, https://arxiv.org/abs/2410.10989).

    Args:
        targets: (N,) int64 words.
        ignored: word whose rows have no loss and no gradient; None for no such word.
        smoothing: share of the target's probability that is spread over all words.
        lift: what gradients are multiplied by.
    """
    rows, words = logits.shape
    losses = torch.empty(rows, device=logits.device)
    block = triton.next_power_of_2(words)
    # Measured on an H100: fewer words than threads can load at a time want fewer threads.
    warps = 4 if block <= 8192 else 16
    _softmax_difference[(rows,)](
        logits, targets, losses, words, logits.stride(0), -1 if ignored is None else ignored,
        smoothing, lift, block=block, num_warps=warps,
    )  # fmt: skip
    return losses


@triton.jit
def _softmax_difference(
    logits, targets, losses, words, stride, ignored, smoothing, lift, block: tl.constexpr
):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    places = tl.arange(0, block)
    inside = places < words
    at = logits + row * stride + places
    values = tl.load(at, mask=inside, other=-float("inf")).to(tl.float32)
    highest = tl.max(values, 0)
    shares = tl.exp(values - highest)
    total = tl.sum(shares, 0)
    level = highest + tl.log(total)
    hit = places == target
    wanted = tl.sum(tl.where(hit, values, 0.0), 0)
    everyone = tl.sum(tl.where(inside, values, 0.0), 0)
    spread = smoothing / words
    loss = (1 - smoothing) * (level - wanted) + smoothing * level - spread * everyone
    counts = target != ignored
    tl.store(losses + row, tl.where(counts, loss, 0.0))
    difference = shares / total - spread - tl.where(hit, 1 - smoothing, 0.0)
    difference = tl.where(counts, difference * lift, 0.0)
    tl.store(at, difference.to(logits.dtype.element_ty), mask=inside)
