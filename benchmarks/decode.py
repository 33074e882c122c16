"""Speed of translating: a model directory, at several batch sizes, and JoeyNMT beside it.

`python -m benchmarks.decode --model MODEL --source FILE` translates the lines of a file, greedily
and with a beam of 5. With `--joeynmt FOLDER`, where `benchmarks.joeynmt_peer` trained a model of
the same size on the same rows, JoeyNMT translates them as well, in a process of its own with as
many threads, the rounds interleaved with ours.

A time is that of one call, from sentences to translations: splitting into words, batching, search
and joining words. Start-up and loading are left out, and a first round warms up and is not counted.
A small batch gets fewer sentences, at most a hundred batches of them. Target words are those of the
translations, split at spaces. A machine is noisy: compare within a run only.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import sacrebleu
import torch
from safetensors import safe_open

from benchmarks.train import _cpu
from s2s.decoding.translator import Translator

BATCHES = 100  # at most, of a call
BEAMS = (1, 5)
PEER_BATCH = 64  # sentences, of JoeyNMT

# Sentences → seconds and translations.
Translate = Callable[[list[str]], tuple[float, list[str]]]
# The same with `beam` and `batch`, sentences translated together.
Ask = Callable[..., tuple[float, list[str]]]


@dataclass(frozen=True)
class Cell:
    """What one row of the table is measured with."""

    system: str
    beam: int
    batch: int
    sentences: int


@dataclass(frozen=True)
class Result:
    """A row of the table."""

    cell: Cell
    rates: list[float]  # sentences/s, of each round
    words: int  # of all translations
    bleu: float | None  # of 100, on words split at spaces; with a reference
    examples: list[str]

    @property
    def rate(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rates)

    @property
    def length(self) -> float:
        """Words of a translation."""
        return self.words / self.cell.sentences


def main() -> None:
    """Print a table of rates, or one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--source", type=Path, required=True, help="a sentence a line; may be .gz")
    parser.add_argument("--reference", type=Path, help="their translations, for BLEU and lengths")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("--threads", type=int, default=2, help="of an operation")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--sentences", type=int, default=1000, help="from the start of the file")
    parser.add_argument(
        "--precisions", nargs="+", default=["fp32"], help="of ours, as --decode.precision"
    )
    parser.add_argument("--joeynmt", type=Path, help="folder of benchmarks.joeynmt_peer")
    parser.add_argument("--examples", type=int, default=0, help="translations shown of each system")
    parser.add_argument("--json", action="store_true", help="print a JSON object instead")
    arguments = parser.parse_args()

    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)  # of the tokenizers
    torch.set_num_threads(arguments.threads)
    sentences, references = _read(arguments.source, arguments.reference, arguments.sentences)
    translator = Translator.load(arguments.model)
    about = {
        "cpu": _cpu(),
        "date": str(date.today()),
        "command": " ".join(sys.argv[1:]),
        "threads": arguments.threads,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "parameters": {"s2s": _parameters(arguments.model)},
        "words_of_reference": _length(references) if references else None,
    }
    with ExitStack() as stack:
        ways: dict[Cell, Translate] = {}
        if arguments.joeynmt:
            ask, peer = stack.enter_context(_joeynmt(arguments, translator))
            about["versions"]["joeynmt"] = peer["versions"]["joeynmt"]
            about["parameters"]["joeynmt"] = peer["parameters"]
            for beam in BEAMS:
                cell = Cell("JoeyNMT", beam, PEER_BATCH, _enough(PEER_BATCH, sentences))
                ways[cell] = partial(ask, beam=beam, batch=PEER_BATCH)
        for precision in arguments.precisions:
            for beam in BEAMS:
                for batch in arguments.batch_sizes:
                    using = translator.with_settings(
                        beam=beam, batch_size=batch, precision=precision
                    )
                    cell = Cell(f"s2s, {precision}", beam, batch, _enough(batch, sentences))
                    ways[cell] = partial(_ours, using)
        results = _measure(ways, sentences, references, arguments.rounds, arguments.examples)
    if arguments.json:
        told = [{**asdict(r), "sentences_per_second": r.rate, "length": r.length} for r in results]
        print(json.dumps({**about, "results": told}))
    else:
        _show(about, results)


def _measure(
    ways: dict[Cell, Translate],
    sentences: list[str],
    references: list[str],
    rounds: int,
    examples: int,
) -> list[Result]:
    """Time every way in every round, after one that warms up."""
    rates: dict[Cell, list[float]] = {cell: [] for cell in ways}
    made: dict[Cell, list[str]] = {}
    for turn in range(rounds + 1):
        for cell, translate in ways.items():
            seconds, made[cell] = translate(sentences[: cell.sentences])
            if turn:
                rates[cell].append(cell.sentences / seconds)
            print(f"round {turn}: {cell}, {seconds:.2f} s", file=sys.stderr)
    results = []
    for cell, translations in made.items():
        bleu = None
        if references:
            against = [references[: cell.sentences]]
            bleu = sacrebleu.corpus_bleu(translations, against, tokenize="none", force=True).score
        words = sum(len(text.split()) for text in translations)
        results.append(Result(cell, rates[cell], words, bleu, translations[:examples]))
    return results


def _show(about: dict[str, Any], results: list[Result]) -> None:
    """Print the table, and how much faster ours is than JoeyNMT."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    parameters = ", ".join(f"{name} {count:,}" for name, count in about["parameters"].items())
    print(f"{about['cpu']}, threads: {about['threads']}; {versions}; {about['date']};")
    print(f"parameters: {parameters}; {about['command']}\n")
    bleu = results[0].bleu is not None
    print(
        "| system | beam | batch | sentences | sentences/s, median of the rounds "
        f"| lowest to highest | target words/s | words/sentence |{' BLEU |' * bleu}"
    )
    print("|" + " --- |" * (8 + bleu))
    for result in results:
        cell = result.cell
        print(
            f"| {cell.system} | {cell.beam} | {cell.batch} | {cell.sentences:,} "
            f"| {result.rate:,.1f} | {min(result.rates):,.1f} to {max(result.rates):,.1f} "
            f"| {result.rate * result.length:,.0f} | {result.length:.2f} |"
            + (f" {result.bleu:.1f} |" if bleu else "")
        )
    if about["words_of_reference"]:
        print(f"\nThe reference has {about['words_of_reference']:.2f} words a sentence.")
    peers = {result.cell.beam: result for result in results if result.cell.system == "JoeyNMT"}
    if peers:
        print(
            f"\n| system, batch {PEER_BATCH} | beam | times JoeyNMT's sentences/s | its words/s |"
        )
        print("|" + " --- |" * 4)
        for result in results:
            if result.cell.batch == PEER_BATCH and result.cell.system != "JoeyNMT":
                peer = peers[result.cell.beam]
                ratio = result.rate / peer.rate
                words = ratio * result.length / peer.length
                print(f"| {result.cell.system} | {result.cell.beam} | {ratio:.2f} | {words:.2f} |")
    for result in results:
        if result.examples and result.cell.batch == PEER_BATCH:
            print(f"\n{result.cell.system}, beam {result.cell.beam}:")
            print("\n".join(f"    {text}" for text in result.examples))


# ---- the ways -----------------------------------------------------------------------------------


def _ours(translator: Translator, sentences: list[str]) -> tuple[float, list[str]]:
    start = time.perf_counter()
    translations = translator.translate(sentences)
    return time.perf_counter() - start, translations


@contextmanager
def _joeynmt(
    arguments: argparse.Namespace, translator: Translator
) -> Iterator[tuple[Ask, dict[str, Any]]]:
    """A process that translates with JoeyNMT, by the limits of our translator, and what it is."""
    folder: Path = arguments.joeynmt
    command: list[str | Path] = [
        folder / "venv" / "bin" / "python",
        "-P",  # the modules of this folder have common names
        Path(__file__).with_name("joeynmt_peer.py"),
        *("--folder", folder, "--threads", str(arguments.threads), "--answer"),
    ]
    threads = {"OMP_NUM_THREADS": str(arguments.threads)}
    decode = translator.config.decode
    log = folder / "answer.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **threads},
        ) as process,
    ):

        def told() -> dict[str, Any]:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit(f"JoeyNMT ended: see {log}")
            answer: dict[str, Any] = json.loads(line)
            return answer

        def ask(sentences: list[str], beam: int, batch: int) -> tuple[float, list[str]]:
            request = {
                "sentences": sentences,
                "beam": beam,
                "batch_size": batch,
                "max_length": decode.max_length,
                "length_penalty": decode.length_penalty,
            }
            print(json.dumps(request), file=process.stdin, flush=True)
            answer = told()
            return answer["seconds"], answer["translations"]

        yield ask, told()


# ---- what is translated -------------------------------------------------------------------------


def _read(source: Path, reference: Path | None, most: int) -> tuple[list[str], list[str]]:
    """Sentences, and their references if there are any, without those that have no words."""
    sentences = _lines(source)
    references = _lines(reference) if reference else [""] * len(sentences)
    pairs = [pair for pair in zip(sentences, references, strict=True) if pair[0].strip()][:most]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs] if reference else []


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return text.removesuffix("\n").split("\n")


def _enough(batch: int, sentences: list[str]) -> int:
    return min(len(sentences), BATCHES * batch)


def _length(texts: list[str]) -> float:
    return statistics.fmean(len(text.split()) for text in texts)


def _parameters(model: Path) -> int:
    """Weights of a model directory, tied ones once."""
    with safe_open(model / "model.safetensors", "pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118


if __name__ == "__main__":
    main()
