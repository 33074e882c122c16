"""Scaling of a training step from one worker to two: computing, exchange, batch preparation.

`python -m benchmarks.scaling --corpus CORPUS` takes steps of the plain loop with one process of one
thread, and with two that divide each batch and sum gradients by gloo on loopback, and in shared
memory, for models of several widths. Computing is the time that one worker takes for half of each
batch; the exchange is the additional time that two workers take. Rounds are interleaved; the median
counts. Cases in bf16 are left out where the CPU is not fast in it.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from s2s.corpus import Corpus
from s2s.presets import PRESETS
from s2s.training.checkpoints import Checkpoints
from s2s.training.loop import Training
from s2s.training.precision import choose_precision
from s2s.training.signals import StepSignals

CASES = [  # hidden size, pairs of a global batch, precision
    (64, 128, "bf16"),
    (64, 128, "fp32"),
    (256, 128, "bf16"),
    (512, 128, "bf16"),
    (512, 128, "fp32"),
    (512, 512, "bf16"),
    (512, 512, "fp32"),
]


def main() -> None:
    """Measure all cases, and print a row for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="corpus directory")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    parser.add_argument("--steps", type=int, default=40, help="steps measured in each round")
    parser.add_argument("--compress", action="store_true", help="have gloo sum gradients in bf16")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many cases to measure")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(_steps(**json.loads(arguments.case))))
        return
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {' '.join(sys.argv[1:])}\n")
    print(
        "| hidden | batch | precision | MB exchanged | of that embedding rows "
        "| 1 worker, ms | 2 by gloo, ms | 2 in shared memory, ms | computing | exchange by gloo "
        "| in shared memory | batches | 2 by gloo over 1 | in shared memory over 1 |"
    )
    print("| " + "--- | " * 14)
    fast = choose_precision("auto", torch.device("cpu")).name
    cases = [case for case in CASES if case[2] in ("fp32", fast)]
    for hidden, batch, precision in cases[: arguments.cases]:
        case = {
            "corpus": str(arguments.corpus), "steps": arguments.steps, "hidden": hidden,
            "precision": precision, "compress": arguments.compress,
        }  # fmt: skip
        runs: dict[str, list[dict[str, Any]]] = {"one": [], "half": [], "gloo": [], "shared": []}
        for _ in range(arguments.rounds):
            runs["one"].append(_run(1, **case, batch=batch))
            runs["half"].append(_run(1, **case, batch=batch // 2))
            runs["gloo"].append(_run(2, **case, batch=batch, shares_memory=False))
            runs["shared"].append(_run(2, **case, batch=batch))
        one, half, gloo, shared = (
            statistics.median(run["ms"] for run in each) for each in runs.values()
        )
        last = runs["gloo"][-1]
        print(
            f"| {hidden} | {batch} | {precision} | {last['dense'] + last['rows']:.2f} "
            f"| {last['rows']:.2f} | {one:.1f} | {gloo:.1f} | {shared:.1f} | {half:.1f} "
            f"| {gloo - half:.1f} | {shared - half:.1f} | {last['waited']:.2f} "
            f"| {one / gloo:.2f} | {one / shared:.2f} |",
            flush=True,
        )


def _run(world: int, **case: Any) -> dict[str, Any]:
    """Run a case with `world` processes; return the measurements of the first one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling", "--corpus", case["corpus"],
             "--case", json.dumps({**case, "rank": rank, "world": world, "port": port})],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(world)
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("a worker failed")
    measured: dict[str, Any] = json.loads(outputs[0].splitlines()[-1])
    return measured


def _steps(
    corpus: str,
    hidden: int,
    batch: int,
    precision: str,
    compress: bool,
    steps: int,
    rank: int,
    world: int,
    port: int,
    shares_memory: bool = True,
) -> dict[str, float]:
    """Take steps as one of `world` workers.

    Args:
        shares_memory: whether workers sum in shared memory, not by gloo.

    Returns:
        Milliseconds of a step (`ms`), of which waiting for a batch (`waited`), and the MB that a
        step exchanges: of embedding rows (`rows`) and of all other gradients (`dense`).
    """
    torch.set_num_threads(1)
    if world > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    preset = PRESETS["seed"]()
    train = {"batch_size": batch, "precision": precision, "compress_gradients": compress}
    config = preset.model_copy(
        update={
            "train": preset.train.model_copy(update=train),
            "model": preset.model.model_copy(update={"hidden_size": hidden}),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        training = Training(
            Corpus.open(Path(corpus)),
            config,
            torch.device("cpu"),
            Checkpoints(folder),
            Path(folder),
            shares_memory=shares_memory,
        )
        stepper, signals = training.stepper, StepSignals(stop=False, save=False, due=False)
        batches = stepper.global_batches(training.batches, 1, 0)
        for step in islice(batches, 15):  # warm-up: kernels are compiled
            stepper.step(step, 1, 1e-3, signals)
        waited, rows, begin = 0.0, 0, time.perf_counter()
        for _ in range(steps):
            fetching = time.perf_counter()
            step = next(batches)
            waited += time.perf_counter() - fetching
            stepper.step(step, 1, 1e-3, signals)
            rows += len(step.source_ids) + len(step.target_ids)
        seconds = time.perf_counter() - begin
        model = training.model
        embedded = sum(m.weight.numel() for m in (model.encoder.embedding, model.decoder.embedding))
        dense = sum(weight.numel() for weight in model.parameters()) - embedded
    width = config.model.embedding_size
    return {
        "ms": seconds / steps * 1e3,
        "waited": waited / steps * 1e3,
        "dense": dense * (2 if compress else 4) / 1e6,
        "rows": rows / steps * width * 4 / 1e6,
    }


if __name__ == "__main__":
    main()
