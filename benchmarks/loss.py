"""The loss of a training step on a CPU: its parts and all of it, in older ways and in ours.

`python -m benchmarks.loss` times the ways in turns, with random weights, and checks that all have
the same results. `textbook` is `F.cross_entropy` of all logits at once, by `F.linear`; `before`
makes the logits of a chunk by `torch.addmm`, and the biases' gradient by a sum. The last line is
the share of the arithmetic that this CPU reaches in a square product of the same precision. With
one thread, times are of the processor, which other programs disturb less. The fastest call counts.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.train import cpu_name
from s2s.model.cross_entropy import (
    CHUNK_BYTES,
    _chunk_gradient,
    _layer_gradients,
    _loss_and_gradients,
    _output_layer,
    chunks,
)

# Target tokens of a batch, features that the output layer reads, target vocabulary: of `seed`, of
# `base`, and of a larger model.
SIZES = ((896, 64, 8_087), (1_408, 256, 8_000), (1_408, 512, 16_000))
SQUARE = 1_024

Way = Callable[[], object]


def main() -> None:
    """Print a table of milliseconds for each size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loss", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of all ways, one after the other")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    square = torch.randn(SQUARE, SQUARE, dtype=dtype)
    print(f"{cpu_name()}, threads: {arguments.threads}, {arguments.precision}")
    for tokens, features, vocab in SIZES:
        print(f"\n{tokens:,} tokens, {features} features, vocabulary {vocab:,}; milliseconds\n")
        parts, wholes = _ways(tokens, features, vocab, dtype)
        ways = {(row, name): way for row, cells in {**parts, "all": wholes}.items()
                for name, way in cells.items()}  # fmt: skip
        ways["square", "mm"] = lambda: square @ square
        times = _time(ways, arguments.rounds)
        print("| part | textbook | before | now | before / now |\n| --- | --- | --- | --- | --- |")
        for row in (*parts, "all"):
            shown = [times.get((row, name)) for name in ("textbook", "before", "now")]
            cells = ["" if each is None else f"{each:.2f}" for each in shown]
            _, before, now = shown
            ratio = f"{before / now:.2f}" if before and now else ""
            print(f"| {row} | {' | '.join(cells)} | {ratio} |")
        peak = 2 * SQUARE**3 / times["square", "mm"]
        rate = 6 * tokens * features * vocab / times["all", "now"]
        print(f"\n{rate / 1e6:,.0f} GFLOP/s, {rate / peak:.0%} of a square product's", flush=True)


def _ways(
    tokens: int, features: int, vocab: int, dtype: torch.dtype
) -> tuple[dict[str, dict[str, Way]], dict[str, Way]]:
    """Return the ways of the parts of a loss, for its first chunk, and of the whole loss."""
    torch.manual_seed(0)
    hidden = torch.randn(tokens, features, requires_grad=True)
    weight = torch.randn(vocab, features).mul_(features**-0.5).requires_grad_()
    bias = torch.randn(vocab, requires_grad=True)
    targets = torch.randint(vocab, (tokens,))
    low_hidden, low_weight, low_bias = (x.detach().to(dtype) for x in (hidden, weight, bias))
    chunk = next(chunks(hidden, vocab, CHUNK_BYTES, dtype))
    part = low_hidden[chunk]  # (C, H)
    space = part.new_empty(len(part), vocab)  # (C, V)
    logits, difference = space.clone().zero_(), space.clone().normal_()
    project = _output_layer(low_weight, low_bias)
    loss = torch.zeros(())

    def textbook() -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = F.linear(hidden, weight, bias)
        return F.cross_entropy(logits.float(), targets, reduction="sum")

    fixed = hidden.detach(), weight.detach(), bias.detach()
    wholes = {
        "textbook": lambda: torch.autograd.grad(textbook(), (hidden, weight, bias)),
        "before": lambda: _before(fixed[0], low_weight, low_bias, targets),
        "now": lambda: _loss_and_gradients(*fixed, targets, 0.0, None, dtype)[1:],
    }
    off = {"rtol": 1e-3, "atol": 1e-3} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.5}
    results = [way() for way in wholes.values()]
    for gradients in results[1:]:
        torch.testing.assert_close(gradients, results[0], check_dtype=False, **off)
    parts = {
        "logits of a chunk": {
            "before": lambda: torch.addmm(low_bias, part, low_weight.t(), out=space),
            "now": lambda: project(part),
        },
        "softmax and its gradient": {
            "now": lambda: _chunk_gradient(logits, targets[chunk], loss, 0.0, None, 1.0)
        },
        "gradient by hidden vectors": {"now": lambda: difference @ low_weight},
        "gradients by weights and biases": {
            "before": lambda: (difference.t() @ part, difference.sum(0)),
            "now": lambda: _layer_gradients(difference, part),
        },
    }
    return parts, wholes


@torch.no_grad()
def _before(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by hidden vectors, weights and biases, made a chunk at a time."""
    loss, d_hidden = torch.zeros(()), torch.empty_like(hidden)
    d_weight, d_bias = torch.zeros(weight.shape), torch.zeros(bias.shape)
    space = None
    for chunk in chunks(hidden, len(weight), CHUNK_BYTES, weight.dtype):
        part = hidden[chunk].to(weight.dtype)  # (C, H)
        if space is None:
            space = part.new_empty(len(part), len(weight))  # (C, V): no other is larger
        logits = torch.addmm(bias, part, weight.t(), out=space[: len(part)])  # (C, V)
        difference = _chunk_gradient(logits, targets[chunk], loss, 0.0, None, 1.0)
        d_hidden[chunk] = (difference @ weight).to(hidden.dtype)
        d_weight += difference.t() @ part
        d_bias += difference.sum(0)
    return d_hidden, d_weight, d_bias


def _time(ways: dict[tuple[str, str], Way], rounds: int) -> dict[tuple[str, str], float]:
    """Return the milliseconds of each way's fastest call, in rounds that call all in turns."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            begin = clock()
            way()
            times[name] = min(times[name], (clock() - begin) * 1e3)
    return times


if __name__ == "__main__":
    main()
