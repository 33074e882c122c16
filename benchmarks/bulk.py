"""Translation of files: the rate with Ray against that of bare processes, and its memory.

`python -m benchmarks.bulk MODEL` translates the English sentences of fra-eng (S2S_DATA) twice with
as many translators as there are CPUs, one thread each: in bare processes that have the sentences in
memory, begin together once their models are loaded, and write nothing; and with
`s2s translate --workers`. Its rate is measured after start-up: from the first part on, without the
rows of the blocks that were then at work. Memory is what a process has alone (resident, not
shared), sampled every half second. `--lines 100000 1000000` repeats the sentences up to so many.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from multiprocessing.synchronize import Barrier
from pathlib import Path

import ray  # noqa: F401  (psutil comes with it)

from s2s.bulk.blocks import ROWS

import psutil  # isort: skip

# By what the command line of a process begins or ends with.
_ROLES = {"ray::MapWorker": "actor", "ray::Read": "reader", "raylet/raylet": "object store"}


def main() -> None:
    """Print a row for each number of lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("model", type=Path, help="model directory, from English")
    parser.add_argument("--lines", type=int, nargs="+", help="all sentences once by default")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-bare", action="store_true", help="measure Ray alone")
    arguments = parser.parse_args()
    sentences = _sentences()
    print("| lines | bare, lines/s | Ray, lines/s | share | start-up, s | peak memory, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number in arguments.lines or [len(sentences)]:
        lines = list(islice(cycle(sentences), number))
        bare = 0.0 if arguments.no_bare else _bare(arguments.model, lines, arguments.workers)
        with tempfile.TemporaryDirectory(prefix="s2s-bulk-") as folder:
            source, out = Path(folder) / "in.txt", Path(folder) / "out.txt"
            source.write_text("".join(f"{line}\n" for line in lines), "utf-8")
            del lines
            rate, start_up, peaks = _on_ray(arguments.model, source, out, arguments.workers)
            with out.open("rb") as file:
                written = sum(1 for _ in file)
            if written != number:
                raise SystemExit(f"{written} lines were written for {number}")
        memory = ", ".join(f"{role} {peak / 1e6:,.0f}" for role, peak in sorted(peaks.items()))
        share = f"{rate / bare:.2f}" if bare else ""
        print(
            f"| {number:,} | {bare:,.0f} | {rate:,.0f} | {share} | {start_up:.1f} | {memory} |",
            flush=True,
        )


def _sentences() -> list[str]:
    """Return the English sentences of fra-eng."""
    path = Path(os.environ.get("S2S_DATA", "")) / "fra-eng" / "fra-eng.zip"
    with zipfile.ZipFile(path) as archive:
        rows = max(archive.infolist(), key=lambda info: info.file_size)
        return [line.partition("\t")[0] for line in archive.read(rows).decode().splitlines()]


# ---- bare processes ----


def _bare(model: Path, lines: list[str], processes: int) -> float:
    """Return the lines per second of processes with a translator each."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    blocks = [lines[begin : begin + ROWS] for begin in range(0, len(lines), ROWS)]
    started = [
        context.Process(target=_translate, args=(model, blocks[number::processes], barrier))
        for number in range(processes)
    ]
    for process in started:
        process.start()
    barrier.wait(600)  # with an error if one of them has failed
    begin = time.perf_counter()
    barrier.wait()  # all are done
    seconds = time.perf_counter() - begin
    for process in started:
        process.join()
    return len(lines) / seconds


def _translate(model: Path, blocks: list[list[str]], barrier: Barrier) -> None:
    """Translate blocks in this process, between two meetings of all processes."""
    import torch

    from s2s.bulk.translation import BlockTranslator
    from s2s.decoding.translator import Translator

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    translator = BlockTranslator(Translator.load(model))
    translator.translate(list(blocks[0][:64]) if blocks else [], 1)
    barrier.wait()
    for block in blocks:
        translator.translate(list(block), 1)
    barrier.wait()


# ---- Ray ----


def _on_ray(
    model: Path, source: Path, out: Path, workers: int
) -> tuple[float, float, dict[str, int]]:
    """Return lines per second after start-up, the start-up in seconds, and memory peaks by role."""
    command = [
        sys.executable, "-m", "s2s.cli", "translate", model, "--input", source, "--output", out,
        "--workers", workers,
    ]  # fmt: skip
    with source.open("rb") as file:
        rows = sum(1 for _ in file)
    begin = time.time()
    process = subprocess.Popen(list(map(str, command)))
    first: float | None = None
    folder = out.with_name(f"{out.name}.run") / "parts" / "00000"
    with _peaks(process.pid) as peaks:
        while process.poll() is None and not out.exists():
            if first is None and (parts := list(folder.glob("*.part"))):
                first = min(part.stat().st_mtime for part in parts)
            time.sleep(0.05 if first is None else 0.2)
    process.wait()
    if process.returncode or first is None:
        raise SystemExit(f"the command failed: {process.returncode}")
    seconds = out.stat().st_mtime - first
    return max(0, rows - workers * ROWS) / seconds, first - begin, peaks


@contextmanager
def _peaks(driver: int) -> Iterator[dict[str, int]]:
    """Yield the peaks of memory in bytes of a driver and of the processes of its Ray, by role."""
    peaks: dict[str, int] = defaultdict(int)
    ended = threading.Event()

    def sample() -> None:
        root = psutil.Process(driver)
        while not ended.wait(0.5):
            with suppress(psutil.NoSuchProcess):
                for process in (root, *root.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                        name = (process.cmdline() or [""])[0]
                        role = next((r for key, r in _ROLES.items() if key in name), "")
                        role = "driver" if process.pid == driver else role
                        memory = process.memory_info()
                        own = memory.rss - memory.shared
                        used = memory.shared if role == "object store" else own
                        peaks[role] = max(peaks[role], used)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()
        peaks.pop("", None)


if __name__ == "__main__":
    main()
