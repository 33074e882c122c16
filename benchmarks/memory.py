"""Memory of training: its growth with the corpus, and what computing the loss in chunks saves.

`python -m benchmarks.memory` takes one training step of 1,000 target tokens with a vocabulary of
50,000, with the loss in chunks and with torch's over all logits, each in a separate process. Then
the command trains on 100,000 and on 1,000,000 distinct synthetic rows with two Ray workers, and
prints the peak of a worker's unique set size (USS: the memory that no other process shares).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import ray  # noqa: F401  (psutil comes with it)
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.prepare import write_rows
from s2s.model.cross_entropy import cross_entropy

import psutil  # isort: skip

WAYS = ("all logits, fp32", "all logits, autocast to bf16", "chunks, fp32", "chunks, bf16")


def main() -> None:
    """Print a table of a step's memory, and one of the workers'."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the larger corpus")
    parser.add_argument("--loss", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loss:
        print(json.dumps(_loss(arguments.loss)))
        return
    print("| way | peak memory of a step beyond weights, MB |\n| --- | --- |")
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks.memory", "--loss", way]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(f"| {way} | {json.loads(done.stdout):,.0f} |")
    print("\n| rows | peak USS of a worker, MB | anonymous memory, MB |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "all.tsv", arguments.rows)
        for rows in (arguments.rows // 10, arguments.rows):
            with (folder / "all.tsv").open() as lines, (folder / "some.tsv").open("w") as some:
                some.writelines(islice(lines, rows))
            corpus, out = folder / f"corpus-{rows}", folder / f"model-{rows}"
            _s2s(
                "prepare",
                "base",
                "--languages",
                "en-fr",
                "--source",
                folder / "some.tsv",
                "--out",
                corpus,
                "--tasks",
                1,
            )
            with _watch_workers() as peaks:
                _s2s(
                    "train", "base", "--corpus", corpus, "--out", out, "--workers", 2,
                    "--train.epochs", 1, "--train.batch-size", 512,
                )  # fmt: skip
            print(f"| {rows:,} | {peaks['uss']:,.0f} | {peaks['anonymous']:,.0f} |", flush=True)


@contextmanager
def _watch_workers() -> Iterator[dict[str, float]]:
    """Yield the memory peaks in MB of any Ray Train worker, updated until the block ends."""
    peaks, ended = {"uss": 0.0, "anonymous": 0.0}, threading.Event()

    def sample() -> None:
        while not ended.wait(0.5):
            for process in psutil.process_iter(["cmdline"]):
                if "RayTrainWorker" not in " ".join(process.info["cmdline"] or []):
                    continue
                try:
                    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                except OSError:
                    continue
                fields = {
                    line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6
                    for line in text.splitlines()[1:]
                }
                uss = fields["Private_Clean"] + fields["Private_Dirty"]
                peaks["uss"] = max(peaks["uss"], uss)
                peaks["anonymous"] = max(peaks["anonymous"], fields["Anonymous"])

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


def _loss(way: str) -> float:
    """Return the MB by which a forward and backward pass raises the peak of resident memory."""
    torch.manual_seed(0)
    output = nn.Linear(256, 50_000)
    hidden, targets = torch.randn(1_000, 256), torch.randint(0, 50_000, (1_000,))
    output(hidden[:64]).sum().backward()  # loads libraries, allocates gradients
    output.zero_grad(set_to_none=True)
    before = _peak()
    with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in way):
        if way.startswith("all"):
            loss = F.cross_entropy(output(hidden), targets, reduction="sum")
        else:
            loss = cross_entropy(hidden, output.weight, output.bias, targets)
    loss.backward()
    return _peak() - before


def _peak() -> float:
    """Return the peak of this process's resident memory, in MB."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) * 1024 / 1e6


def _s2s(*arguments: object) -> None:
    command = [sys.executable, "-m", "s2s.cli", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
