"""Triton kernels, for CUDA devices alone: torch brings Triton where it brings CUDA.

Each does in one start what takes torch several, or more memory traffic. Every kernel has its plain
counterpart in torch beside the place where it is used, and both must give the same.

Shapes: B sentences, S source tokens, T target tokens, N of them real, V target vocabulary.
"""

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

# A row of logits is held in registers: larger vocabularies are left to torch.
MAX_VOCAB = 65_536


def has_kernels() -> bool:
    """Return whether Triton is installed."""
    return triton is not None


def softmax_difference(
    logits: Tensor,
    vocab: int,
    targets: Tensor,
    ignored: int | None,
    smoothing: float,
    scale: float,
) -> Tensor:
    """Compute cross-entropies of logits, and turn the logits into the gradient in place.

    Label smoothing is in the gradient alone.

    One pass over memory, which bounds the time: each row is read once and written once. As in Liger
    Kernel (Hsu et al., 2024, https://arxiv.org/abs/2410.10989).

    Args:
        logits: (N, V + …), rows that are filled up to an aligned length.
        vocab: V; columns beyond it get a gradient of 0.
        targets: (N,) int64 tokens.
        ignored: token whose rows have no loss and no gradient; None for no such token.
        smoothing: share of the target's probability that is spread over all tokens.
        scale: what gradients are multiplied by.

    Returns:
        Nats (N,), float32.
    """
    rows, width = logits.shape
    losses = torch.empty(rows, device=logits.device)
    block = triton.next_power_of_2(width)
    # Measured on an H100: rows shorter than what all threads load at a time want fewer threads.
    warps = 4 if block <= 8192 else 16
    _softmax_difference[(rows,)](
        logits, targets, losses, vocab, width, logits.stride(0),
        -1 if ignored is None else ignored, smoothing, scale, block=block, num_warps=warps,
    )  # fmt: skip
    return losses


def collate(
    tokens: list[Tensor],
    rows: Tensor,
    places: Tensor,
    numbers: Tensor,
    shape: tuple[int, int, int, int],
    pad: int,
    sos: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Collate ragged tokens into the tensors of a batch.

    Args:
        tokens: of all sources, where each source starts; of all targets, where each target starts.
        rows: rows of the corpus, in the order of a pool.
        places: real target tokens of the pool before each of its rows, and at its end.
        numbers: (2 or more,) float64; the batch's first place in the pool, and the place after its
            last.
        shape: (B, S, T, N) of the batch.
        pad: token of padding.
        sos: token before the first target token.

    Returns:
        Source tokens (B, S), their lengths (B,), target tokens for the decoder (B, T), target
        tokens (B, T), and the positions (N,) of real tokens in the flattened targets, then -1.
    """

    def empty(*size: int) -> Tensor:
        return torch.empty(size, dtype=torch.int64, device=rows.device)

    sentences, source, target, real = shape
    outputs = (empty(sentences, source), empty(sentences), empty(sentences, target),
               empty(sentences, target), empty(real))  # fmt: skip
    rest = -(-real // sentences)
    blocks = (max(32, triton.next_power_of_2(size)) for size in (source, target, rest))
    source_block, target_block, rest_block = blocks
    _collate[(sentences,)](
        *tokens, rows, places, numbers, *outputs, source, target, real, rest, pad, sos,
        source_block=source_block, target_block=target_block, rest_block=rest_block, num_warps=1,
    )  # fmt: skip
    return outputs


if triton is not None:

    @triton.jit
    def _softmax_difference(
        logits, targets, losses, vocab, width, stride, ignored, smoothing, scale,
        block: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        target = tl.load(targets + row)
        places = tl.arange(0, block)
        inside = places < vocab
        at = logits + row * stride + places
        values = tl.load(at, mask=inside, other=-float("inf")).to(tl.float32)
        highest = tl.max(values, 0)
        shares = tl.exp(values - highest)
        total = tl.sum(shares, 0)
        level = highest + tl.log(total)
        hit = places == target
        wanted = tl.sum(tl.where(hit, values, 0.0), 0)
        spread = smoothing / vocab
        counts = target != ignored
        tl.store(losses + row, tl.where(counts, level - wanted, 0.0))
        difference = shares / total - spread - tl.where(hit, 1 - smoothing, 0.0)
        difference = tl.where(counts & inside, difference * scale, 0.0)
        tl.store(at, difference.to(logits.dtype.element_ty), mask=places < width)

    @triton.jit(do_not_specialize=["source_size", "target_size", "real", "rest", "pad", "sos"])
    def _collate(
        source, source_starts, target, target_starts, rows, places, numbers,
        source_out, lengths, target_in, target_out, predicted,
        source_size, target_size, real, rest, pad, sos,
        source_block: tl.constexpr, target_block: tl.constexpr, rest_block: tl.constexpr,
    ):  # fmt: skip
        sentence = tl.program_id(0)
        first = tl.load(numbers).to(tl.int64)
        end = tl.load(numbers + 1).to(tl.int64)
        counts = first + sentence < end
        # Rows that fill the batch up repeat its first row.
        at = tl.where(counts, first + sentence, tl.minimum(first, end - 1))
        row = tl.load(rows + at)

        begin = tl.load(source_starts + row)
        length = tl.load(source_starts + row + 1) - begin
        tl.store(lengths + sentence, length)
        place = tl.arange(0, source_block)
        tokens = tl.load(source + begin + place, mask=place < length, other=pad)
        tl.store(source_out + sentence * source_size + place, tokens, mask=place < source_size)

        begin = tl.load(target_starts + row)
        length = tl.where(counts, tl.load(target_starts + row + 1) - begin, 0)
        place = tl.arange(0, target_block)
        tokens = tl.load(target + begin + place, mask=place < length, other=pad)
        tl.store(target_out + sentence * target_size + place, tokens, mask=place < target_size)
        before = tl.load(target + begin + place - 1, mask=(place > 0) & (place <= length) & counts,
                         other=pad)  # fmt: skip
        before = tl.where(place == 0, sos, before)
        tl.store(target_in + sentence * target_size + place, before, mask=place < target_size)

        offset = tl.load(places + at) - tl.load(places + first)
        tl.store(predicted + offset + place, sentence * target_size + place, mask=place < length)
        total = tl.load(places + end) - tl.load(places + first)
        beyond = sentence * rest + tl.arange(0, rest_block)
        own = (beyond >= total) & (beyond < real) & (beyond < (sentence + 1) * rest)
        tl.store(predicted + beyond, tl.full([rest_block], -1, tl.int64), mask=own)
