"""Speed and memory of preparing a corpus: the tutorial's steps in plain Python against `s2s`.

`python -m benchmarks.prepare` writes a million distinct synthetic rows, prepares them by the
tutorial's steps (normalise, split off punctuation, fit vocabularies, encode, pad) in plain Python,
and by `s2s` with 1 and 2 Ray tasks, and checks that all give the same ids. Rates exclude start-up,
which is reported separately. Memory is the peak unique set size (USS) of the driver and of the
largest worker, for a tenth of the rows and for all.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import ray  # noqa: F401  (psutil comes with it)

import psutil  # isort: skip

SYLLABLES = [
    "ba",
    "re",
    "mi",
    "tou",
    "lé",
    "cha",
    "ne",
    "vo",
    "si",
    "dur",
    "pê",
    "gra",
    "on",
    "ill",
]


def main() -> None:
    """Print a table of rates and one of memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="to prepare")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "FILE", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, file, out = arguments.one
        print(json.dumps(_plain(Path(file)) if way == "plain" else _s2s(way, file, Path(out))))
        return
    with tempfile.TemporaryDirectory() as folder:
        whole, tenth = Path(folder) / "all.tsv", Path(folder) / "tenth.tsv"
        write_rows(whole, arguments.rows)
        with whole.open(encoding="utf-8") as lines, tenth.open("w", encoding="utf-8") as some:
            some.writelines(islice(lines, arguments.rows // 10))
        seconds: dict[str, list[float]] = {}
        start_up: dict[str, float] = {}
        memory: dict[tuple[str, str], tuple[float, float]] = {}
        ids = set()
        for number in range(arguments.rounds):
            for way in ("plain", "1", "2"):
                out = Path(folder) / f"{way}-{number}"
                result, memory[way, "all"] = _measure(way, whole, out)
                seconds.setdefault(way, []).append(result["seconds"])
                start_up[way] = result["started"]
                ids.add(result["ids"])
        for way in ("1", "2"):
            _, memory[way, "tenth"] = _measure(way, tenth, Path(folder) / f"tenth-{way}")
        if len(ids) != 1:
            raise SystemExit("the ways differ in their ids")
    rates = {way: arguments.rows / statistics.median(times) for way, times in seconds.items()}
    print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, {arguments.rows:,} rows")
    print("| way | rows/s, median of the rounds | over plain | start-up, s |")
    print("| --- | --- | --- | --- |")
    names = {"plain": "plain Python", "1": "`--tasks 1`", "2": "`--tasks 2`"}
    for way, rate in rates.items():
        print(f"| {names[way]} | {rate:,.0f} | {rate / rates['plain']:.2f} | {start_up[way]:.1f} |")
    print(f"\n2 tasks over 1: {rates['2'] / rates['1']:.2f}\n")
    print("| way | process | USS for a tenth of the rows, MB | for all, MB | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for way in ("1", "2"):
        for index, process in enumerate(("driver", "largest worker")):
            small, large = memory[way, "tenth"][index], memory[way, "all"][index]
            print(
                f"| {names[way]} | {process} | {small:,.0f} | {large:,.0f} | {large / small:.2f} |"
            )


def write_rows(file: Path, rows: int) -> None:
    """Write distinct pairs of 2 to 13 synthetic words per side, drawn by Zipf's law."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(SYLLABLES, random.integers(1, 5))) for _ in range(60_000)]
    words = list(dict.fromkeys(words))
    half = len(words) // 2
    seen: set[str] = set()
    with file.open("w", encoding="utf-8") as out:
        while len(seen) < rows:
            lengths = random.integers(2, 14, size=(4096, 2))
            draws = [
                iter(np.minimum(random.zipf(1.3, int(lengths[:, side].sum())), half - 1).tolist())
                for side in (0, 1)
            ]
            for one, two in lengths.tolist():
                source = " ".join(words[next(draws[0])] for _ in range(one)).capitalize() + "."
                target = " ".join(words[half + next(draws[1])] for _ in range(two)) + ", oui !"
                if source not in seen and len(seen) < rows:
                    seen.add(source)
                    out.write(f"{source}\t{target.capitalize()}\n")


def _measure(way: str, file: Path, out: Path) -> tuple[dict[str, float], tuple[float, float]]:
    """Prepare in a separate process.

    Returns:
        The report of that process, and the peak USS in MB of the driver and the largest worker.
    """
    command = [sys.executable, "-m", "benchmarks.prepare", "--one", way, str(file), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peaks, ended = [0.0, 0.0], threading.Event()

    def sample() -> None:
        driver = psutil.Process(process.pid)
        while not ended.wait(0.25):
            try:
                family = [driver, *driver.children(recursive=True)]
            except psutil.Error:
                return
            for member in family:
                try:
                    worker = member.cmdline()[:1] and member.cmdline()[0].startswith("ray::")
                    if member is driver or worker:
                        uss = member.memory_full_info().uss / 1e6
                        peaks[bool(worker)] = max(peaks[bool(worker)], uss)
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=sample)
    watcher.start()
    process.stdout.readline()  # comes when preparation is done; what follows only checks the ids
    ended.set()
    watcher.join()
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{way} failed")
    return json.loads(output.splitlines()[-1]), (peaks[0], peaks[1])


def _s2s(tasks: str, file: str, out: Path) -> dict[str, float]:
    """Prepare with `s2s`; return the seconds of preparation and start-up, and a hash of the ids."""
    from s2s.corpus import Corpus
    from s2s.distributed import prepare as distributed
    from s2s.preparation import Source, prepare
    from s2s.presets import PRESETS

    preset = PRESETS["seed"]()
    config = preset.model_copy(update={"corpus": preset.corpus.model_copy(update={"rows": None})})
    source = Source(source=(file,), source_language="en", target_language="fr")
    begin = time.perf_counter()
    with distributed.tasks(int(tasks), 60, lambda line: None) as execute:
        ready = time.perf_counter()
        prepare(source, config, out, execute=execute)
        done = time.perf_counter()
        print("prepared", flush=True)
    corpus = Corpus.open(out)
    splits = (corpus.split(name) for name in corpus.manifest.rows)
    pairs = (
        (one, two[:-1])
        for split in splits
        for batch in split.iter(1000)
        for one, two in zip(batch["source_ids"], batch["target_ids"], strict=True)
    )
    return {"seconds": done - ready, "started": ready - begin, "ids": _digest(pairs)}


def _digest(pairs: Iterator[tuple[list[int], list[int]]]) -> int:
    """Return a hash of pairs of ids that does not depend on the order of the pairs."""
    return sum(hash((*source, -1, *target)) & 0xFFFFFFFF for source, target in pairs)


def _plain(file: Path) -> dict[str, float]:
    """Prepare by the tutorial's steps in plain Python; return the same figures as `_s2s`."""
    begin = time.perf_counter()

    def normalise(text: str) -> str:
        text = "".join(
            character
            for character in unicodedata.normalize("NFD", text)
            if unicodedata.category(character) != "Mn"
        )
        text = re.sub(r"([?.!,])", r" \1", text.lower().strip())
        return re.sub(r"[^a-zA-Z!.?]+", " ", text).strip()

    with file.open(encoding="utf-8") as lines:
        pairs = [line.rstrip("\n").split("\t")[:2] for line in lines]
    sides = []
    for side in (0, 1):
        sentences = [normalise(pair[side]).split(" ") for pair in pairs]
        counts = Counter(word for words in sentences for word in words)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        numbers = {word: number for number, word in enumerate(ranked, start=4)}
        ids = [[numbers[word] for word in words] for words in sentences]
        padded = np.zeros((len(ids), max(map(len, ids))), np.int32)
        for row, numbered in enumerate(ids):
            padded[row, : len(numbered)] = numbered
        sides.append(ids)
    seconds = time.perf_counter() - begin
    print("prepared", flush=True)
    return {"seconds": seconds, "started": 0.0, "ids": _digest(zip(*sides, strict=True))}


if __name__ == "__main__":
    main()
