"""Training speed: the plain loop against Ray Train, side by side in one run.

`python -m benchmarks.train` (the short form is `make bench`) trains the `seed` model on the demo
corpus, so it needs no data; `--corpus` takes another corpus directory. Rounds are interleaved,
since a shared machine is noisy: compare within a run only.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from s2s.config import PRESETS
from s2s.corpus import Corpus
from s2s.loop import train

SETTINGS = ["--train.epochs", "3"]


def main() -> None:
    """Print a row for each way of training."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("--corpus", type=Path, help="corpus directory; the demo corpus by default")
    parser.add_argument("--rounds", type=int, default=2, help="interleaved repetitions")
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        _plain(arguments.corpus, arguments.plain)
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or Path(folder) / "corpus"
        if not arguments.corpus:
            _s2s("prepare", "demo", "--source", "demo", "--out", corpus)
        rates: dict[str, list[float]] = {}
        for number in range(arguments.rounds):
            for threads in (1, 2):
                command = [sys.executable, "-m", "benchmarks.train", "--plain", str(threads)]
                done = subprocess.run(
                    [*command, "--corpus", corpus], check=True, capture_output=True, text=True
                )
                rates.setdefault(f"plain loop, {threads} threads", []).append(float(done.stdout))
            for workers in (1, 2):
                out = Path(folder) / f"model-{number}-{workers}"
                _s2s("train", "seed", "--corpus", corpus, "--out", out, "--workers", workers,
                     *SETTINGS)  # fmt: skip
                told = json.loads((out / "metrics.json").read_bytes())["epochs"]
                rate = max(epoch["pairs_per_second"] for epoch in told)
                rates.setdefault(f"Ray Train, {workers} workers of 1 thread", []).append(rate)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    print(
        "| way | pairs/s, median of the rounds' best epochs | of the first |\n| --- | --- | --- |"
    )
    first = statistics.median(next(iter(rates.values())))
    for way, values in rates.items():
        middle = statistics.median(values)
        print(f"| {way} | {middle:,.0f} | {middle / first:.2f} |")


def _plain(corpus: Path, threads: int) -> None:
    """Train without Ray and print the best epoch's pairs per second."""
    torch.set_num_threads(threads)
    opened, preset = Corpus.open(corpus), PRESETS["seed"]()
    config = preset.model_copy(update={"train": preset.train.model_copy(update={"epochs": 3})})
    metrics = train(opened, config, torch.device("cpu"), lambda run: None)
    print(max(epoch["pairs_per_second"] for epoch in metrics["epochs"]))


def _s2s(*arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "s2s.cli", *map(str, arguments)], check=True, capture_output=True
    )


if __name__ == "__main__":
    main()
