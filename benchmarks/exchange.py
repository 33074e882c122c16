"""Sums of gradients over two workers on one host: by gloo, and in shared memory.

`python -m benchmarks.exchange` sums tensors of the shapes of a model's gradients, by turns in both
ways, in two processes of one thread. gloo gets them as one flat tensor, and copies to and from it
are not counted. Milliseconds by the wall and of processor time, the median of all turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from s2s.presets import PRESETS
from s2s.shared_memory import SharedMemory, share_memory

VOCAB = 8_087  # of `seed`
HIDDEN = [64, 512]  # sizes of the models: 2.5 and 26 MB


def main() -> None:
    """Measure both ways for all models, and print a row for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exchange", description=__doc__)
    parser.add_argument("--turns", type=int, default=100, help="sums of each kind")
    turns = parser.parse_args().turns
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {turns} turns\n")
    print(
        "| MB | gloo, ms | shared memory, ms | gloo over it "
        "| gloo, ms of a processor | shared memory, ms of a processor |"
    )
    print("| " + "--- | " * 6)
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_work, (Path(folder) / "meet", turns), nprocs=2)


def _work(rank: int, meet: Path, turns: int) -> None:
    """Sum as one of two processes; the first prints the rows."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    for hidden in HIDDEN:
        gradients = _gradients(hidden)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        memory = share_memory(len(flat))
        if memory is None:
            raise SystemExit("the two processes cannot share memory here")
        by_gloo, shared = _time(memory, flat, gradients, turns)
        if rank == 0:
            ratio = by_gloo[0] / shared[0]
            print(
                f"| {flat.nbytes / 1e6:.1f} | {by_gloo[0]:.2f} | {shared[0]:.2f} | {ratio:.1f} "
                f"| {by_gloo[1]:.2f} | {shared[1]:.2f} |",
                flush=True,
            )
        memory.close()
    dist.destroy_process_group()


def _gradients(hidden: int) -> list[torch.Tensor]:
    """Return gradients that workers of a `seed` with a hidden size sum, but embeddings' rows."""
    embedding = PRESETS["seed"]().model.embedding_size
    lstm = torch.nn.LSTM(embedding, hidden)
    output = torch.nn.Linear(hidden, VOCAB)
    weights = [*lstm.parameters(), *lstm.parameters(), *output.parameters()]
    return [torch.zeros_like(weight) for weight in weights]


def _time(
    memory: SharedMemory, flat: torch.Tensor, gradients: list[torch.Tensor], turns: int
) -> tuple[list[float], list[float]]:
    """Return the median milliseconds by the wall and of processor time: of gloo, and shared."""
    ways: list[Callable[[], object]] = [
        lambda: dist.all_reduce(flat),
        lambda: memory.all_reduce(gradients),
    ]
    times: list[list[tuple[float, float]]] = [[], []]
    for turn in range(turns + 5):  # the first ones touch the memory
        for way, taken in zip(ways, times, strict=True):
            memory.barrier()
            wall, processor = time.perf_counter(), time.process_time()
            way()
            if turn >= 5:
                taken.append((time.perf_counter() - wall, time.process_time() - processor))
    by_gloo, shared = (
        [statistics.median(column) * 1e3 for column in zip(*taken, strict=True)] for taken in times
    )
    return by_gloo, shared


if __name__ == "__main__":
    main()
