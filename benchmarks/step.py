"""Cost of choosing the tokens of a decoding step: the output layer, and the best of its logits.

`python -m benchmarks.step --model MODEL` times torch's implementation and ours in turns, on the
same decoder outputs of that model's size, for several numbers of sentences, on one thread, and
checks that both give the same result.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from s2s.decoding.output_layer import OutputLayer
from s2s.decoding.scoring import argmax, top_logits
from s2s.model.directory import ModelDirectory

ROWS = (1, 4, 16, 64, 320)
BEAM = 5
ROUNDS, CALLS = 15, 20


def main() -> None:
    """Print tables of the output layer, of the argmax, and of the best tokens for a beam."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    exact = ModelDirectory.load(parser.parse_args().model).model.decoder.output
    torch.set_num_threads(1)
    print(f"{exact.in_features} features, vocabulary {exact.out_features:,}; microseconds\n")
    with torch.inference_mode():
        ours = OutputLayer(exact, torch.float32)
        low = OutputLayer(exact, torch.bfloat16)
        print("| sentences | nn.Linear | ours, fp32 | ratio | ours, bf16 | ratio |")
        print("| --- | --- | --- | --- | --- | --- |")
        for rows in ROWS:
            hidden = torch.randn(rows, exact.in_features)
            torch.testing.assert_close(ours(hidden), exact(hidden), atol=1e-4, rtol=1e-4)
            _row(rows, *_time(lambda x=hidden: exact(x), lambda x=hidden: ours(x),
                              lambda x=hidden: low(x)))  # fmt: skip
        print("\n| sentences | torch.max | ours | ratio |\n| --- | --- | --- | --- |")
        for rows in ROWS:
            logits = torch.randn(rows, exact.out_features)
            assert torch.equal(argmax(logits), _torch_argmax(logits))  # noqa: S101
            _row(rows, *_time(lambda x=logits: _torch_argmax(x), lambda x=logits: argmax(x)))
        print(f"\n| hypotheses | torch.topk, {BEAM} | ours | ratio |\n| --- | --- | --- | --- |")
        for rows in ROWS:
            logits = torch.randn(rows, exact.out_features)
            assert torch.equal(top_logits(logits, BEAM)[0], _topk(logits))  # noqa: S101
            _row(rows, *_time(lambda x=logits: _topk(x), lambda x=logits: top_logits(x, BEAM)))


def _torch_argmax(logits: Tensor) -> Tensor:
    return logits.max(dim=1).indices


def _topk(logits: Tensor) -> Tensor:
    return logits.topk(BEAM, dim=1).values


def _time(*functions: Callable[[], object]) -> list[float]:
    """Return the microseconds of a call of each function: medians of rounds, taken in turns."""
    rounds: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, times in zip(functions, rounds, strict=True):
            start = time.perf_counter()
            for _ in range(CALLS):
                function()
            times.append((time.perf_counter() - start) / CALLS * 1e6)
    return [median(times) for times in rounds]


def _row(rows: int, plain: float, *ours: float) -> None:
    cells = [f"{time:,.0f} | {plain / time:.2f}" for time in ours]
    print(f"| {rows} | {plain:,.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
