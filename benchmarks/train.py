"""Training speed: `s2s` on Ray, the same loop without Ray, and the tutorial's program in Keras.

`make bench` runs the short form, which needs no data: the `seed` model on the demo corpus, without
Keras. The long form needs the tutorial's corpus, and creates a virtual environment for TensorFlow:

    s2s prepare seed --source fra-eng.zip --languages en-fr --out corpora/seed
    python -m benchmarks.train --corpus corpora/seed --keras build/keras --full

Rounds are interleaved, since shared machines are noisy: compare figures within one run only. Rates
are by the wall time of an epoch, from the first batch fetched to the last optimizer step. A round's
rate is that of its median epoch; the first epoch, in which programs are compiled, counts as well.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch

from s2s.corpus import Corpus
from s2s.presets import PRESETS
from s2s.training.checkpoints import Checkpoints
from s2s.training.loop import Training

Record = dict[str, Any]
Way = Callable[[Path, int], list[Record]]  # corpus, epochs → the record of each epoch


def main() -> None:
    """Print a table of rates, and with `--full` one of the accuracies after ten epochs."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, help="corpus directory; default: the demo corpus")
    parser.add_argument("--rounds", type=int, default=2, help="interleaved rounds")
    parser.add_argument("--epochs", type=int, default=3, help="epochs in a round")
    parser.add_argument("--keras", type=Path, help="virtual environment for TensorFlow; created")
    parser.add_argument(
        "--full", action="store_true", help="also train for ten epochs, Keras and s2s"
    )
    parser.add_argument(
        "--hidden", type=int, default=64, help="hidden size, as --model.hidden-size"
    )
    parser.add_argument("--batch", type=int, default=128, help="sentence pairs in a global batch")
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = (arguments.hidden, arguments.batch)
    if arguments.plain:
        print(json.dumps(_train_here(arguments.corpus, arguments.plain, arguments.epochs, *sizes)))
        return
    ways: dict[str, Way] = {}
    if arguments.keras:
        python = _tensorflow_python(arguments.keras)
        ways["Keras, 2 threads"] = lambda corpus, epochs: _keras(python, corpus, epochs)
    for threads in (1, 2):
        ways[f"plain loop, {threads} thread{'s' * (threads > 1)}"] = (
            lambda corpus, epochs, threads=threads: _plain(corpus, threads, epochs, *sizes)
        )  # fmt: skip
    for workers in (1, 2):
        ways[f"Ray Train, {workers} worker{'s' * (workers > 1)} of 1 thread"] = (
            lambda corpus, epochs, workers=workers: _ray(corpus, workers, epochs, *sizes)
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or Path(folder) / "corpus"
        if not arguments.corpus:
            _s2s("prepare", "demo", "--source", "demo", "--out", corpus)
        print(
            f"{cpu_name()}, torch {torch.__version__}, {date.today()}; {' '.join(sys.argv[1:])}\n"
        )
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, train in ways.items():
                records = train(corpus, arguments.epochs)
                rates[way].append(statistics.median(e["pairs_per_second"] for e in records))
        _show_rates(rates)
        if arguments.full and arguments.keras:
            keras = ways["Keras, 2 threads"](corpus, 10)
            ours = ways["Ray Train, 2 workers of 1 thread"](corpus, 10)
            _show_accuracies(keras, ours)


def _show_rates(rates: dict[str, list[float]]) -> None:
    first = statistics.median(next(iter(rates.values())))
    print("| way | pairs/s, median of the rounds | lowest to highest | over the first |")
    print("| --- | --- | --- | --- |")
    for way, rounds in rates.items():
        median = statistics.median(rounds)
        spread = f"{min(rounds):,.0f} to {max(rounds):,.0f}"
        print(f"| {way} | {median:,.0f} | {spread} | {median / first:.2f} |")


def _show_accuracies(keras: list[Record], ours: list[Record]) -> None:
    print("\n| after 10 epochs | Keras | s2s | ratio |\n| --- | --- | --- | --- |")
    for name in ("valid_padded_accuracy", "valid_token_accuracy", "valid_loss"):
        print(f"| {name} | {keras[-1][name]:.4f} | {ours[-1][name]:.4f} | |")
    pairs = [statistics.median(e["pairs_per_second"] for e in run) for run in (keras, ours)]
    print(
        f"| pairs/s, median epoch | {pairs[0]:,.0f} | {pairs[1]:,.0f} | {pairs[1] / pairs[0]:.2f} |"
    )
    for name in ("valid_padded_accuracy", "valid_token_accuracy"):
        best = max(record[name] for record in keras)
        seconds = [_seconds_to(run, name, best) for run in (keras, ours)]
        ratio = seconds[0] / seconds[1]
        print(
            f"| seconds to {name} {best:.4f} | {seconds[0]:.1f} | {seconds[1]:.1f} | {ratio:.2f} |"
        )


def _seconds_to(run: list[Record], name: str, accuracy: float) -> float:
    """Return the seconds of training to the end of the first epoch that reaches an accuracy."""
    seconds = 0.0
    for record in run:
        seconds += record["seconds"]
        if record[name] >= accuracy:
            return seconds
    return float("inf")


# ---- the ways -----------------------------------------------------------------------------------


def _tensorflow_python(folder: Path) -> Path:
    """Return the Python of a virtual environment with TensorFlow, which is created if missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        packages = ["tensorflow-cpu==2.21.0", "pyarrow"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def _keras(python: Path, corpus: Path, epochs: int) -> list[Record]:
    program = Path(__file__).with_name("keras_tutorial.py")
    command = [python, program, "--corpus", corpus, "--epochs", str(epochs), "--threads", "2"]
    done = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    records: list[Record] = json.loads(done.stdout.splitlines()[-1])["epochs"]
    return records


def _plain(corpus: Path, threads: int, epochs: int, hidden: int, batch: int) -> list[Record]:
    command = [
        sys.executable, "-m", "benchmarks.train", "--plain", str(threads), "--corpus", corpus,
        "--epochs", str(epochs), "--hidden", str(hidden), "--batch", str(batch),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    records: list[Record] = json.loads(done.stdout)
    return records


def _train_here(corpus: Path, threads: int, epochs: int, hidden: int, batch: int) -> list[Record]:
    """Train in this process, without Ray; return the record of each epoch."""
    torch.set_num_threads(threads)
    preset = PRESETS["seed"]()
    config = preset.model_copy(
        update={
            "train": preset.train.model_copy(update={"epochs": epochs, "batch_size": batch}),
            "model": preset.model.model_copy(update={"hidden_size": hidden}),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints")
        cpu = torch.device("cpu")
        result = Training(Corpus.open(corpus), config, cpu, checkpoints, Path(folder)).run()
    return [asdict(epoch) for epoch in result.metrics.epochs]


def _ray(corpus: Path, workers: int, epochs: int, hidden: int, batch: int) -> list[Record]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        _s2s(
            "train", "seed", "--corpus", corpus, "--out", out, "--workers", workers,
            "--train.epochs", epochs, "--model.hidden-size", hidden, "--train.batch-size", batch,
        )  # fmt: skip
        records: list[Record] = json.loads((out / "metrics.json").read_bytes())["epochs"]
    return records


def _s2s(*arguments: object) -> None:
    command = [sys.executable, "-m", "s2s.cli", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


def cpu_name() -> str:
    """Return the machine's CPU model and number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "CPU")
    return f"{model}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
