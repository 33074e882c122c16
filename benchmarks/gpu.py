"""Checks and timings of every GPU code path, on one GPU, in one run of at most six minutes.

    s2s prepare seed --source fra-eng.zip --languages en-fr --out corpora/seed
    s2s prepare multi30k … --out corpora/multi30k          # as in docs/translation.md
    s2s prepare demo --source demo --out corpora/demo
    python -m benchmarks.gpu --data corpora --out build/gpu

The first half needs no Ray: numerics against float64 on the CPU, data-parallel workers, decoding
and checkpoints; then rates, each beside its floor: the time that its arithmetic and its memory
traffic take at least, at the rates that the same run measured for this GPU. The second half runs
where Ray is installed. If a part fails, the failure is reported and the other parts still run. The
table comes last; `report.json` and the profiler's breakdown of a step are in the `--out` folder.
Without a GPU the same parts run on the CPU, to check that the script works: figures from such a run
mean nothing.
"""

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import datasets
import torch

from benchmarks.gpu_checks import (
    decoding,
    graphs,
    memory,
    numbers,
    resumption,
    run_worker,
    seed,
    workers,
)
from benchmarks.gpu_rates import ceilings, kernels, recurrent, speed, translating
from benchmarks.gpu_ray import ray_commands
from benchmarks.gpu_report import GPU, Report, mark

PARTS: dict[str, Callable[[Report], None]] = {
    "ceilings": ceilings,
    "kernels": kernels,
    "numbers": numbers,
    "graphs": graphs,
    "resumption": resumption,
    "memory": memory,
    "workers": workers,
    "seed": seed,
    "decoding": decoding,
    "speed": speed,
    "recurrent": recurrent,
    "translating": translating,
    "ray": ray_commands,
}


def main() -> None:
    """Run all parts, or those of `--parts`, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the corpora seed, multi30k, demo"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the report and profiles"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"parts to run, of {', '.join(PARTS)}; all by default",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # JSON, for a data-parallel worker
    arguments = parser.parse_args()
    if arguments.worker:
        run_worker(arguments.data, arguments.out, json.loads(arguments.worker))
        return
    torch.set_num_threads(min(8, os.cpu_count() or 1))
    datasets.disable_progress_bars()
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = Report(arguments.data, arguments.out)
    begin = time.monotonic()
    for name, part in PARTS.items():
        if arguments.parts and name not in arguments.parts:
            continue
        started = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            part(report)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            traceback.print_exc()
            last = str(error).strip().splitlines() or [""]
            report.add(name, "the whole part", f"failed: {type(error).__name__}: {last[-1][:150]}",
                       passed=False)  # fmt: skip
        spent = time.monotonic() - started
        report.numbers.setdefault("seconds", {})[name] = spent
        print(f"   {spent:.1f} s", flush=True)
        report.save()
    print(f"\n{torch.cuda.get_device_name() if GPU else 'no GPU'}, torch {torch.__version__}, "
          f"{time.monotonic() - begin:.0f} s\n")  # fmt: skip
    print("| | part | check | result | expected |\n| --- | --- | --- | --- | --- |")
    for row in report.rows:
        print(f"| {mark(row)} | {row.part} | {row.check} | {row.result} | {row.expected} |")
    failed = sum(row.passed is False for row in report.rows)
    print(f"\n{len(report.rows)} rows, {failed} failed")


if __name__ == "__main__":
    main()
