"""Speed of slots with shortlists, on one thread.

`python -m benchmarks.shortlist --model MODEL --source FILE` translates the lines of a file in slots
(`s2s.decoding.slots`), without a shortlist and with several, after `s2s shortlist` has made one.
As many sentences as there are slots are on their way at any time. The rounds of all ways are
interleaved; times are processor time, from tokens to tokens.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.decode import read_lines
from benchmarks.train import cpu_name
from s2s.decoding.slot import Slot
from s2s.decoding.slots import Slots
from s2s.decoding.translator import Translator


@dataclass
class Way:
    """Slots with a shortlist or without one, and what was measured."""

    name: str
    translator: Translator
    rates: list[float] = field(default_factory=list)  # sentences/s in each round
    translations: list[list[int]] = field(default_factory=list)


def main() -> None:
    """Measure all sizes of shortlists, and print a table for each beam and number of slots."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shortlist",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="directory with a shortlist")
    parser.add_argument("--source", type=Path, required=True, help="a sentence a line; may be .gz")
    parser.add_argument("--shortlists", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--precision", choices=["fp32", "int8"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=192, help="sentences to read")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    start = Translator.load(arguments.model).with_settings(precision=arguments.precision)
    lines = read_lines(arguments.source)[: arguments.sentences]
    ids = [each for each in start.directory.source.encode(lines) if each]
    print(f"{cpu_name()}, 1 thread; {' '.join(sys.argv[1:])}\n")
    print("| beam | slots | shortlist | sentences/s | over none | sentences that change |")
    print("| --- | --- | --- | --- | --- | --- |")
    for beam in arguments.beams:
        searched = start.with_settings(beam=beam)
        ways = [Way("none", searched)]
        ways += [Way(str(n), searched.with_settings(shortlist=n)) for n in arguments.shortlists]
        for slots in arguments.slots:
            _measure(ways, ids, slots, arguments.rounds)
            for way in ways:
                rate, base = (statistics.median(each.rates) for each in (way, ways[0]))
                pairs = zip(way.translations, ways[0].translations, strict=True)
                changed = statistics.fmean(own != other for own, other in pairs)
                print(f"| {beam} | {slots} | {way.name} | {rate:,.1f} | {rate / base:.2f} | "
                      f"{changed:.1%} |", flush=True)  # fmt: skip


def _measure(ways: list[Way], ids: list[list[int]], slots: int, rounds: int) -> None:
    """Translate all sentences by each way in turn; the first round warms up."""
    for way in ways:
        way.rates.clear()
    for turn in range(rounds + 1):
        for way in ways:
            model, settings = way.translator.model, way.translator.config.decode
            start = time.process_time()
            way.translations = _translate(Slots(model, settings, slots, torch.device("cpu")), ids)
            rate = len(ids) / (time.process_time() - start)
            if turn:
                way.rates.append(rate)


def _translate(slots: Slots[int], ids: list[list[int]]) -> list[list[int]]:
    """Return the tokens that translate each sentence; free slots are filled in their order."""
    waiting, ended = list(enumerate(ids)), list[Slot[int]]()
    while waiting or len(slots):
        coming, waiting = waiting[: slots.free], waiting[slots.free :]
        if coming:
            slots.admit([own for _, own in coming], [owner for owner, _ in coming])
        ended += slots.step()
    return [slot.ids for slot in sorted(ended, key=lambda slot: slot.owner)]


if __name__ == "__main__":
    main()
