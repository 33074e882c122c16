"""What a step of decoding spends on words: the output layer, and the search for the likeliest.

`python -m benchmarks.step --model MODEL` times torch's own way and ours on the same states of that
model's size, in turns, for several numbers of sentences, on one thread, and checks that both say
the same.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from s2s.decoding.output_layer import OutputLayer
from s2s.decoding.scoring import argmax
from s2s.model.directory import ModelDirectory

ROWS = (1, 4, 16, 64, 320)
ROUNDS, CALLS = 15, 20


def main() -> None:
    """Print a table of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    exact = ModelDirectory.load(parser.parse_args().model).model.decoder.output
    torch.set_num_threads(1)
    print(f"{exact.in_features} features, {exact.out_features:,} words; microseconds\n")
    with torch.inference_mode():
        ours = OutputLayer(exact, torch.float32)
        low = OutputLayer(exact, torch.bfloat16)
        print("| sentences | nn.Linear | ours, fp32 | ratio | ours, bf16 | ratio |")
        print("| --- | --- | --- | --- | --- | --- |")
        for rows in ROWS:
            states = torch.randn(rows, exact.in_features)
            torch.testing.assert_close(ours(states), exact(states), atol=1e-4, rtol=1e-4)
            _row(rows, *_timed(lambda x=states: exact(x), lambda x=states: ours(x),
                               lambda x=states: low(x)))  # fmt: skip
        print("\n| sentences | torch.max | ours | ratio |\n| --- | --- | --- | --- |")
        for rows in ROWS:
            logits = torch.randn(rows, exact.out_features)
            assert torch.equal(argmax(logits), _naive(logits))  # noqa: S101
            _row(rows, *_timed(lambda x=logits: _naive(x), lambda x=logits: argmax(x)))


def _naive(logits: Tensor) -> Tensor:
    return logits.max(dim=1).indices


def _timed(*ways: Callable[[], object]) -> list[float]:
    """Microseconds of a call of each way, medians of rounds in which they take turns."""
    rounds: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, times in zip(ways, rounds, strict=True):
            start = time.perf_counter()
            for _ in range(CALLS):
                way()
            times.append((time.perf_counter() - start) / CALLS * 1e6)
    return [median(times) for times in rounds]


def _row(rows: int, plain: float, *ours: float) -> None:
    told = [f"{time:,.0f} | {plain / time:.2f}" for time in ours]
    print(f"| {rows} | {plain:,.0f} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
