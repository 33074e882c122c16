"""Beam search in slots, beside batches of equal size, and what a greedy sentence waits for beams.

`python -m benchmarks.slots --model MODEL --source FILE` has callers translate the lines of a file,
each one sentence at a time, with a beam of 5:

- `slots`: by the engine of a service in a process of its own, where sentences come and go;
- `batches`: by `Translator.hypotheses` in this process, a sentence of every caller in a batch, and
  the next batch after it.

The rounds of both are interleaved. Then one caller has sentences translated greedily, alone and
beside 32 callers with a beam of 5. Without `--model` the model is of the size of the preset `base`,
with random weights and sentences of 6 to 16 random words: then translations end by chance, and
speeds are only to be compared with each other. One thread computes (`--threads`). Machines are
noisy: compare figures within one run only.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch

from benchmarks.train import cpu_name
from s2s.config import Config, TextConfig
from s2s.decoding.translator import Translator
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.presets import base
from s2s.serving.engine.client import EngineClient
from s2s.serving.engine.process import EngineOptions
from s2s.text.vocabulary import SPECIALS, Vocabulary

BEAM = 5
CALLERS = 32  # with beams, beside the greedy one
WORDS = 8_000  # of the random model's vocabulary


@dataclass(frozen=True)
class Row:
    """What one number of callers got."""

    callers: int
    batches: list[float]  # sentences/s, of each round
    slots: list[float]

    def __str__(self) -> str:
        """Return a row of the table."""
        slow, fast = statistics.median(self.batches), statistics.median(self.slots)
        extent = f"{min(self.slots):,.0f} to {max(self.slots):,.0f}"
        return f"| {self.callers} | {slow:,.1f} | {fast:,.1f} | {extent} | {fast / slow:.2f} |"


def main() -> None:
    """Print a table of rates, and the latencies of a greedy caller."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, help="model directory; a random model without it")
    parser.add_argument("--source", type=Path, help="a sentence a line; random ones without it")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument(
        "--sentences", type=int, default=512, help="of a round, at most 16 a caller"
    )
    parser.add_argument("--greedy", type=int, default=40, help="sentences of the greedy caller")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads of one operation")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # Of the cores that it is told of, the engine leaves one to the service.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads + 1)
    with _model(arguments.model) as model:
        translator = Translator.load(model).with_settings(beam=BEAM)
        sentences = _sentences(translator, arguments.source)
        engine = EngineClient(EngineOptions(decode={"beam": BEAM}).start(model))
        print(f"{cpu_name()}; {translator!r}\n")
        try:
            rows = _rates(arguments, translator, engine, sentences)
            print("| callers | batches, sentences/s | slots | lowest to highest | ratio |")
            print("| --- | --- | --- | --- | --- |")
            print(*rows, sep="\n")
            _show_latencies(engine, sentences, arguments.greedy, arguments.rounds)
        finally:
            engine.close()


def _rates(
    arguments: argparse.Namespace,
    translator: Translator,
    engine: EngineClient,
    sentences: list[str],
) -> list[Row]:
    """Return the rates of both ways, for each number of callers."""
    rows = [Row(callers, [], []) for callers in arguments.callers]
    for number in range(arguments.rounds + 1):
        for row in rows:
            some = sentences[: min(arguments.sentences, 16 * row.callers)]
            begin = time.perf_counter()
            for first in range(0, len(some), row.callers):
                translator.hypotheses(some[first : first + row.callers])
            middle = time.perf_counter()
            asyncio.run(_ask(engine, some, row.callers))
            end = time.perf_counter()
            if number:  # the first round warms up
                row.batches.append(len(some) / (middle - begin))
                row.slots.append(len(some) / (end - middle))
    return rows


async def _ask(engine: EngineClient, sentences: list[str], callers: int) -> None:
    """Have sentences translated by so many callers, each one after the other."""
    waiting = iter(sentences)

    async def call() -> None:
        for sentence in waiting:
            await engine.translate([sentence])

    await asyncio.gather(*(call() for _ in range(callers)))


def _show_latencies(engine: EngineClient, sentences: list[str], count: int, rounds: int) -> None:
    """Print how long greedy sentences take alone, and beside callers with beams."""
    quiet: list[float] = []
    beside: list[float] = []
    for number in range(rounds + 1):
        for seconds, callers in ((quiet, 0), (beside, CALLERS)):
            found = asyncio.run(_greedy_latencies(engine, sentences, count, callers))
            if number:
                seconds += found
    print(f"\n| greedy, ms | alone | beside {CALLERS} callers with a beam of {BEAM} | ratio |")
    print("| --- | --- | --- | --- |")
    for name, place in (("p50", 0.5), ("p95", 0.95)):
        alone, other = (sorted(each)[int(len(each) * place)] * 1e3 for each in (quiet, beside))
        print(f"| {name} | {alone:.1f} | {other:.1f} | {other / alone:.2f} |")


async def _greedy_latencies(
    engine: EngineClient, sentences: list[str], count: int, callers: int
) -> list[float]:
    """Return the seconds of each of some greedy sentences, beside callers with beams."""
    settings = engine.config.decode.changed(beam=1)

    async def call(first: int) -> None:
        for sentence in islice(cycle(sentences), first, None):
            await engine.translate([sentence])

    others = [asyncio.create_task(call(7 * number)) for number in range(callers)]
    await asyncio.sleep(1 if callers else 0)
    seconds = []
    for sentence in islice(cycle(sentences), count):
        begin = time.perf_counter()
        await engine.translate_detailed([sentence], settings)
        seconds.append(time.perf_counter() - begin)
    for task in others:
        task.cancel()
    for task in others:
        with suppress(asyncio.CancelledError):
            await task
    return seconds


def _sentences(translator: Translator, source: Path | None) -> list[str]:
    """Return the sentences of a file, or random ones."""
    if source is not None:
        lines = source.read_text("utf-8").splitlines()
        return [each.stripped for line in translator.split(lines) for each in line if each.ids]
    chosen = random.Random(0)  # noqa: S311
    words = [f"w{number}" for number in range(WORDS - len(SPECIALS))]
    return [" ".join(chosen.choices(words, k=chosen.randint(6, 16))) for _ in range(1024)]


@contextmanager
def _model(path: Path | None) -> Iterator[Path]:
    """Give a model directory, or make one of the size of `base` until the block ends."""
    if path is not None:
        yield path
        return
    preset = base()
    config = Config(
        text=TextConfig(normaliser="tokenised"),
        model=preset.model,
        decode=preset.decode.changed(max_ratio=1.2),
    )
    words = " ".join(f"w{number}" for number in range(WORDS - len(SPECIALS)))
    vocabulary = Vocabulary.learn([words], config.text)
    torch.manual_seed(0)
    directory = ModelDirectory.new(config, vocabulary, vocabulary)
    with torch.no_grad():
        for weight in directory.model.parameters():
            weight *= 1.5  # surer than fresh ones, or all words are as likely
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.mkdir()
        directory.save(path, RunMetrics())
        yield path


if __name__ == "__main__":
    main()
