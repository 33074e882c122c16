"""Translation speed of a model directory on one thread, by how the network is computed.

`python -m benchmarks.precision --model MODEL --source FILE --reference FILE` translates the lines
of a file with the network in torch (float32, and bf16 where the CPU has it), in ONNX Runtime
(float32 and int8), and with shortlists if `s2s shortlist` has made one. The rounds of all of them
are interleaved. Beside the rate stand the share of sentences that are translated otherwise than by
torch in float32, and the difference in BLEU with its p-value, of paired bootstrap resampling.

Times cover one call, from sentences to translations, and are processor time: one thread does all
the work, and other programs on the machine then cost it only what they push out of the caches.
"""

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.decode import read_lines
from benchmarks.train import cpu_name
from s2s.decoding.runtime import has_native_step, network_of
from s2s.decoding.shortlist import SHORTLIST
from s2s.decoding.translator import Translator
from s2s.evaluation.scores import paired_bootstrap
from s2s.model.onednn import has_bf16


@dataclass
class Way:
    """How the network is computed, and what was measured."""

    name: str
    beam: int
    translator: Translator
    rates: list[float] = field(default_factory=list)  # source words/s in each round
    translations: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Source words/s, the median of the rounds."""
        return statistics.median(self.rates)


def main() -> None:
    """Measure all ways, and print a table for each beam."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--source", type=Path, required=True, help="a sentence a line; may be .gz")
    parser.add_argument("--reference", type=Path, help="reference translations, for BLEU")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shortlists", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--sentences", type=int, default=1000, help="sentences to read")
    arguments = parser.parse_args()

    os.environ["RAYON_NUM_THREADS"] = "1"  # threads of the tokenizers
    torch.set_num_threads(1)
    sources = read_lines(arguments.source)[: arguments.sentences]
    references = read_lines(arguments.reference)[: len(sources)] if arguments.reference else None
    print(f"{cpu_name()}, 1 thread; {' '.join(sys.argv[1:])}")
    for beam in arguments.beams:
        ways = _ways(arguments, beam)
        words = sum(len(source.split()) for source in sources)
        for turn in range(arguments.rounds + 1):  # the first warms up
            for way in ways:
                start = time.process_time()
                way.translations = list(way.translator.translate_rows(sources))
                rate = words / (time.process_time() - start)
                if turn:
                    way.rates.append(rate)
                print(f"round {turn}: {way.name}, beam {beam}, {rate:,.0f}/s", file=sys.stderr)
        _show(ways, references)


def _ways(arguments: argparse.Namespace, beam: int) -> list[Way]:
    """Return all ways that this machine and the model directory have, torch in float32 first."""
    start = Translator.load(arguments.model).with_settings(
        beam=beam, batch_size=arguments.batch_size, precision="fp32"
    )
    ways = [Way("torch, fp32", beam, _by_torch(start))]
    if has_bf16():
        ways.append(Way("torch, bf16", beam, start.with_settings(precision="bf16")))
    precisions = ["fp32", "int8"] if has_native_step() else []
    ways += [Way(f"ONNX Runtime, {each}", beam, start.with_settings(precision=each))
             for each in precisions]  # fmt: skip
    if (arguments.model / SHORTLIST).is_file():
        for precision in precisions:
            for size in arguments.shortlists:
                name = f"ONNX Runtime, {precision}, shortlist {size}"
                with_list = start.with_settings(precision=precision, shortlist=size)
                ways.append(Way(name, beam, with_list))
    return ways


def _by_torch(translator: Translator) -> Translator:
    """Return a translator of the same settings whose network torch computes."""
    own = translator.with_settings()
    own._model = network_of(own.directory, own.config.decode, native=False)
    return own


def _show(ways: list[Way], references: list[str] | None) -> None:
    """Print what was measured of one beam, beside torch in float32."""
    first = ways[0]
    bleu = " BLEU | difference, p |" if references else ""
    print(
        f"\n| beam {first.beam} | source words/s | of torch, fp32 | sentences that change |{bleu}"
    )
    print("|" + " --- |" * (4 + 2 * bool(references)))
    for way in ways:
        pairs = zip(way.translations, first.translations, strict=True)
        share = statistics.fmean(own != other for own, other in pairs)
        row = f"| {way.name} | {way.rate:,.0f} | {way.rate / first.rate:.2f} | {share:.1%} |"
        if references:
            each_alone = [[reference] for reference in references]
            # As `benchmarks.decode` has it: the words of Multi30k are split already.
            [difference] = [
                each
                for each in paired_bootstrap(
                    first.translations, way.translations, each_alone, tokenize="none"
                )
                if each.name == "BLEU"
            ]
            row += f" {difference.b:.2f} | {difference.difference:+.2f}, {difference.p_value:.3f} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
