"""Scaling of a training step from one worker to two.

`python -m benchmarks.scaling --corpus CORPUS` takes steps of the plain loop with one worker of one
thread, and with two that divide each batch and sum gradients by gloo on loopback, and in shared
memory, for models of several widths. Two processes live as long as a case, and take all ways in
turns of a few steps of the same batches: the speed of a machine drifts, and so each turn is
compared with the turns beside it. The columns are

- `1 worker`, `2 by gloo`, `2 in shared memory`: milliseconds of a step;
- `half alone`: of one worker that takes its half of each batch and exchanges nothing;
- `halves at once`: the same with both workers running, which share the memory of the machine;
- `by gloo over 1`, `in shared memory over 1`: how many times as fast two workers are.

All are medians over the turns, the last two of the ratios of each turn. Cases in bf16 are left out
where the CPU is not fast in it.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.gpu_report import CPU, NO_SIGNALS, config_of, training_of
from s2s.corpus import Corpus
from s2s.corpus.batches import GlobalBatch
from s2s.training.loop import Training
from s2s.training.precision import choose_precision

CASES = [  # hidden size, pairs of a global batch, precision
    (64, 128, "bf16"),
    (64, 128, "fp32"),
    (256, 128, "bf16"),
    (512, 128, "bf16"),
    (512, 128, "fp32"),
    (512, 512, "bf16"),
    (512, 512, "fp32"),
]
WAYS = ("1 worker", "half alone", "halves at once", "2 by gloo", "2 in shared memory")
WARM_UP = 20  # steps of each way, a pool of batches: kernels are compiled


def main() -> None:
    """Measure all cases, and print a row for each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, required=True, help="corpus directory")
    parser.add_argument("--turns", type=int, default=15, help="turns of each way")
    parser.add_argument("--steps", type=int, default=4, help="steps of each turn")
    parser.add_argument("--compress", action="store_true", help="have gloo sum gradients in bf16")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many cases to measure")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # JSON, for a worker
    arguments = parser.parse_args()
    if arguments.case:
        case = json.loads(arguments.case)
        turns = _take_turns(arguments.corpus, arguments.turns, arguments.steps, **case)
        print(json.dumps(turns))
        return
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {' '.join(sys.argv[1:])}\n")
    print(f"| hidden | batch | precision | {', ms | '.join(WAYS)}, ms "
          "| by gloo over 1 | in shared memory over 1 |")  # fmt: skip
    print("| " + "--- | " * (len(WAYS) + 5))
    fast = choose_precision("auto", CPU).name
    cases = [case for case in CASES if case[2] in ("fp32", fast)]
    for hidden, batch, precision in cases[: arguments.cases]:
        turns = _run(arguments, hidden=hidden, batch=batch, precision=precision)
        times = [f"{statistics.median(turns[way]):.1f}" for way in WAYS]
        for way in WAYS[-2:]:
            ratios = [one / two for one, two in zip(turns["1 worker"], turns[way], strict=True)]
            times.append(f"{statistics.median(ratios):.2f}")
        print(f"| {hidden} | {batch} | {precision} | {' | '.join(times)} |", flush=True)


def _run(arguments: argparse.Namespace, **case: object) -> dict[str, list[float]]:
    """Run a case with two processes; return the milliseconds of a step in each turn, by way."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    case |= {"compress": arguments.compress, "port": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling", "--corpus", arguments.corpus,
             "--turns", str(arguments.turns), "--steps", str(arguments.steps),
             "--case", json.dumps({**case, "rank": rank})],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("a worker failed")
    turns: dict[str, list[float]] = json.loads(outputs[0].splitlines()[-1])
    return turns


def _take_turns(
    corpus: Path,
    turns: int,
    steps: int,
    *,
    hidden: int,
    batch: int,
    precision: str,
    compress: bool,
    rank: int,
    port: int,
) -> dict[str, list[float]]:
    """Take the turns of all ways as one of two workers.

    Returns:
        For each way, the milliseconds of a step in each turn, on this worker's clock.
    """
    torch.set_num_threads(1)
    config = config_of(
        "seed",
        {"hidden_size": hidden},
        batch_size=batch,
        precision=precision,
        compress_gradients=compress,
    )
    rows = Corpus.open(corpus)
    with training_of(rows, config, CPU) as one:  # before there is a group: of a single worker
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
        with (
            training_of(rows, config, CPU, shares_memory=False) as gloo,
            training_of(rows, config, CPU) as shared,
            training_of(rows, config, CPU) as half,
        ):
            for training in (shared, half):
                if training.stepper._parallel._memory is None:  # type: ignore[attr-defined]
                    raise SystemExit("the two processes cannot share memory here")
            # In shared memory the backward pass exchanges nothing: this is the whole exchange.
            half.stepper._parallel.all_reduce = lambda batch, scalars: scalars  # type: ignore[attr-defined]
            ways: dict[str, Callable[[int], float] | None] = {
                "1 worker": _taker(one) if rank == 0 else None,
                "half alone": _taker(half) if rank == 0 else None,
                "halves at once": _taker(half),
                "2 by gloo": _taker(gloo),
                "2 in shared memory": _taker(shared),
            }
            measured: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(turns + 1):
                for way, take in list(ways.items())[:: 1 if turn % 2 else -1]:
                    dist.barrier()
                    if take is None:
                        continue
                    milliseconds = take(steps if turn else WARM_UP)
                    if turn:
                        measured[way].append(milliseconds)
            dist.barrier()
    dist.destroy_process_group()
    return measured


def _taker(training: Training) -> Callable[[int], float]:
    """Return a function that takes some further steps, and returns the milliseconds of one."""
    batches = endless_batches(training)

    def take(steps: int) -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            training.stepper.step(next(batches), 1, 1e-3, NO_SIGNALS)
        return (time.perf_counter() - begin) / steps * 1e3

    return take


def endless_batches(training: Training) -> Iterator[GlobalBatch]:
    """Yield the batches of one epoch after another."""
    for epoch in count(1):
        yield from training.stepper.global_batches(training.batches, epoch, 0)


if __name__ == "__main__":
    main()
