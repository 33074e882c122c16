"""What a sweep costs besides training: processes that live on, and a new one for each trial.

`python -m benchmarks.sweep --corpus CORPUS` runs the same sweep of short trials of one worker in
two ways, one after the other, each in a process and on a Ray of its own:

- `lives on`: as `s2s tune` runs them, where a process takes one trial after the other;
- `new each time`: with a new process for each trial, which imports Python, torch and datasets
  again.

Both must find the same scores. Overhead is the time of a trial that is spent neither in steps nor
in validation: of starting its process, opening the corpus, making the model, writing checkpoints.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.train import cpu_name
from s2s.tuning.trials import Sweep

WAYS = ("new each time", "lives on")


def main() -> None:
    """Run both sweeps and print a table; with `--way`, run one of them."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="corpus directory")
    add("--preset", default="seed", help="settings of all trials")
    add("--trials", type=int, default=20, help="of each sweep")
    add("--epochs", type=int, default=2, help="of each trial")
    add("--way", choices=WAYS, help=argparse.SUPPRESS)
    add("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        _sweep(arguments)
        return
    print(f"{cpu_name()}; {os.cpu_count()} CPUs; {' '.join(sys.argv[1:])}")
    print("| process | first overhead, s | overhead from the third trial on, s | highest | "
          "training steps | with validation | wall time, s |")  # fmt: skip
    scores = {}
    for way in WAYS:
        with tempfile.TemporaryDirectory(prefix="s2s-bench-") as folder:
            out = Path(folder) / "sweep"
            command = [sys.executable, "-m", "benchmarks.sweep", *sys.argv[1:], "--way", way]
            subprocess.run([*command, "--out", out], check=True, stdout=subprocess.DEVNULL)
            sweep = Sweep.load(out)
        scores[way] = [(trial.settings, trial.score) for trial in sweep.trials]
        print(_row(way, sweep))
    print("same scores" if scores[WAYS[0]] == scores[WAYS[1]] else "THE SCORES DIFFER")


def _row(way: str, sweep: Sweep) -> str:
    """Return the measurement of a sweep as a row of a table."""
    first = [trial.overhead_seconds for trial in sweep.trials[: sweep.concurrency]]
    later = [trial.overhead_seconds for trial in sweep.trials[sweep.concurrency :]]
    available = sweep.total_seconds * sweep.concurrency
    steps, validation = sweep.train_seconds / available, sweep.valid_seconds / available
    return (
        f"| {way} | {max(first):.1f} | {statistics.median(later):.2f} | {max(later):.2f} "
        f"| {steps:.1%} | {steps + validation:.1%} | {sweep.total_seconds:.0f} |"
    )


def _sweep(arguments: argparse.Namespace) -> None:
    """Run a sweep in one of the ways."""
    import ray.tune

    from s2s.cli.main import main

    if arguments.way == "new each time":
        original = ray.tune.TuneConfig

        def without_reuse(**settings: Any) -> ray.tune.TuneConfig:
            return original(**{**settings, "reuse_actors": False})

        ray.tune.TuneConfig = without_reuse  # type: ignore[assignment,misc]
    code = main(
        [
            "tune", arguments.preset, "--corpus", str(arguments.corpus),
            "--out", str(arguments.out), "--trials", str(arguments.trials),
            "--train.epochs", str(arguments.epochs), "--scheduler", "none",
            "--search", "train.learning-rate=log:1e-3:1e-2",
        ]
    )  # fmt: skip
    sys.exit(code)


if __name__ == "__main__":
    main()
