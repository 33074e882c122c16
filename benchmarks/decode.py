"""Translation speed of a model directory at several batch sizes, and of JoeyNMT beside it.

`python -m benchmarks.decode --model MODEL --source FILE` translates the lines of a file, greedily
and with a beam of 5. With `--joeynmt FOLDER`, where `benchmarks.joeynmt_peer` trained a model of
the same size on the same rows, JoeyNMT translates them as well, in a separate process with the
same number of threads. The rounds of all systems are interleaved.

Times cover one call, from sentences to translations: tokenising, batching, search and detokenising.
Start-up and loading are excluded, and a first round warms up and is not counted. Small batch sizes
get fewer sentences, at most a hundred batches. Target words are the words of the translations,
split at spaces. Machines are noisy: compare figures within one run only.
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

from benchmarks.train import cpu_name
from s2s.decoding.translator import Translator

MAX_BATCHES = 100  # in a call
BEAMS = (1, 5)
PEER_BATCH = 64  # sentences in a batch of JoeyNMT

# Sentences → seconds and translations.
Translate = Callable[[list[str]], tuple[float, list[str]]]
# Sentences, `beam` and `batch` → seconds and translations.
TranslateWith = Callable[..., tuple[float, list[str]]]


@dataclass(frozen=True)
class Setup:
    """System and settings that one row of the table is measured with."""

    system: str
    beam: int
    batch: int  # sentences translated together
    sentences: int


@dataclass(frozen=True)
class Result:
    """Row of the table."""

    setup: Setup
    rates: list[float]  # sentences/s in each round
    words: int  # in all translations
    bleu: float | None  # 0 to 100, on words split at spaces; None without a reference
    examples: list[str]

    @property
    def rate(self) -> float:
        """Sentences/s, the median of the rounds."""
        return statistics.median(self.rates)

    @property
    def length(self) -> float:
        """Mean number of words in a translation."""
        return self.words / self.setup.sentences


def main() -> None:
    """Measure all systems; print a table of rates, or one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--source", type=Path, required=True, help="a sentence a line; may be .gz")
    parser.add_argument(
        "--reference", type=Path, help="reference translations, for BLEU and lengths"
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    parser.add_argument("--threads", type=int, default=2, help="threads of one operation")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--sentences", type=int, default=1000, help="sentences to read")
    parser.add_argument(
        "--precisions", nargs="+", default=["fp32"], help="precisions of s2s: fp32, bf16"
    )
    parser.add_argument("--joeynmt", type=Path, help="folder of benchmarks.joeynmt_peer")
    parser.add_argument(
        "--examples", type=int, default=0, help="translations to show of each system"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object instead")
    arguments = parser.parse_args()

    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)  # threads of the tokenizers
    torch.set_num_threads(arguments.threads)
    sentences, references = _read(arguments.source, arguments.reference, arguments.sentences)
    translator = Translator.load(arguments.model)
    about = {
        "cpu": cpu_name(),
        "date": str(date.today()),
        "command": " ".join(sys.argv[1:]),
        "threads": arguments.threads,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "parameters": {"s2s": _parameters(arguments.model)},
        "words_of_reference": _mean_words(references) if references else None,
    }
    with ExitStack() as stack:
        ways: dict[Setup, Translate] = {}
        if arguments.joeynmt:
            translate_with, peer = stack.enter_context(_joeynmt(arguments, translator))
            about["versions"]["joeynmt"] = peer["versions"]["joeynmt"]
            about["parameters"]["joeynmt"] = peer["parameters"]
            for beam in BEAMS:
                setup = Setup("JoeyNMT", beam, PEER_BATCH, _limit(PEER_BATCH, sentences))
                ways[setup] = partial(translate_with, beam=beam, batch=PEER_BATCH)
        for precision in arguments.precisions:
            for beam in BEAMS:
                for batch in arguments.batch_sizes:
                    configured = translator.with_settings(
                        beam=beam, batch_size=batch, precision=precision
                    )
                    setup = Setup(f"s2s, {precision}", beam, batch, _limit(batch, sentences))
                    ways[setup] = partial(_translate, configured)
        results = _measure(ways, sentences, references, arguments.rounds, arguments.examples)
    if arguments.json:
        rows = [
            {"cell": asdict(r.setup), "rates": r.rates, "words": r.words, "bleu": r.bleu,
             "examples": r.examples, "sentences_per_second": r.rate, "length": r.length}
            for r in results
        ]  # fmt: skip
        print(json.dumps({**about, "results": rows}))
    else:
        _show(about, results)


def _measure(
    ways: dict[Setup, Translate],
    sentences: list[str],
    references: list[str],
    rounds: int,
    examples: int,
) -> list[Result]:
    """Time every system in every round, after a round that warms up."""
    rates: dict[Setup, list[float]] = {setup: [] for setup in ways}
    outputs: dict[Setup, list[str]] = {}
    for turn in range(rounds + 1):
        for setup, translate in ways.items():
            seconds, outputs[setup] = translate(sentences[: setup.sentences])
            if turn:
                rates[setup].append(setup.sentences / seconds)
            print(f"round {turn}: {setup}, {seconds:.2f} s", file=sys.stderr)
    results = []
    for setup, translations in outputs.items():
        bleu = None
        if references:
            matching = [references[: setup.sentences]]
            bleu = sacrebleu.corpus_bleu(translations, matching, tokenize="none", force=True).score
        words = sum(len(text.split()) for text in translations)
        results.append(Result(setup, rates[setup], words, bleu, translations[:examples]))
    return results


def _show(about: dict[str, Any], results: list[Result]) -> None:
    """Print the table of rates and that of s2s over JoeyNMT."""
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
        setup = result.setup
        print(
            f"| {setup.system} | {setup.beam} | {setup.batch} | {setup.sentences:,} "
            f"| {result.rate:,.1f} | {min(result.rates):,.1f} to {max(result.rates):,.1f} "
            f"| {result.rate * result.length:,.0f} | {result.length:.2f} |"
            + (f" {result.bleu:.1f} |" if bleu else "")
        )
    if about["words_of_reference"]:
        print(f"\nThe reference has {about['words_of_reference']:.2f} words/sentence.")
    peers = {result.setup.beam: result for result in results if result.setup.system == "JoeyNMT"}
    if peers:
        print(f"\n| system, batch {PEER_BATCH} | beam | sentences/s over JoeyNMT's | words/s |")
        print("|" + " --- |" * 4)
        for result in results:
            if result.setup.batch == PEER_BATCH and result.setup.system != "JoeyNMT":
                peer = peers[result.setup.beam]
                ratio = result.rate / peer.rate
                words = ratio * result.length / peer.length
                print(
                    f"| {result.setup.system} | {result.setup.beam} | {ratio:.2f} | {words:.2f} |"
                )
    for result in results:
        if result.examples and result.setup.batch == PEER_BATCH:
            print(f"\n{result.setup.system}, beam {result.setup.beam}:")
            print("\n".join(f"    {text}" for text in result.examples))


# ---- the systems --------------------------------------------------------------------------------


def _translate(translator: Translator, sentences: list[str]) -> tuple[float, list[str]]:
    """Return the seconds of one call of s2s, and the translations."""
    start = time.perf_counter()
    translations = translator.translate_rows(sentences)
    return time.perf_counter() - start, translations


@contextmanager
def _joeynmt(
    arguments: argparse.Namespace, translator: Translator
) -> Iterator[tuple[TranslateWith, dict[str, Any]]]:
    """Start a process that translates with JoeyNMT, and end the process with the block.

    Yields:
        A function that translates by the length limits of `translator`, and the description that
        the process gives of its model: weights, versions, threads and vocabulary sizes.
    """
    folder: Path = arguments.joeynmt
    command: list[str | Path] = [
        folder / "venv" / "bin" / "python",
        "-P",  # this folder's modules have names that would hide others
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

        def read() -> dict[str, Any]:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit(f"JoeyNMT ended: see {log}")
            answer: dict[str, Any] = json.loads(line)
            return answer

        def translate(sentences: list[str], beam: int, batch: int) -> tuple[float, list[str]]:
            request = {
                "sentences": sentences,
                "beam": beam,
                "batch_size": batch,
                "max_length": decode.max_length,
                "length_penalty": decode.length_penalty,
            }
            print(json.dumps(request), file=process.stdin, flush=True)
            answer = read()
            return answer["seconds"], answer["translations"]

        yield translate, read()


# ---- the sentences ------------------------------------------------------------------------------


def _read(source: Path, reference: Path | None, limit: int) -> tuple[list[str], list[str]]:
    """Return the first `limit` sentences that have words, and their references if there are any."""
    sentences = read_lines(source)
    references = read_lines(reference) if reference else [""] * len(sentences)
    pairs = [pair for pair in zip(sentences, references, strict=True) if pair[0].strip()][:limit]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs] if reference else []


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, which may be compressed by gzip."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return text.removesuffix("\n").split("\n")


def _limit(batch: int, sentences: list[str]) -> int:
    """Return the number of sentences to translate at a batch size."""
    return min(len(sentences), MAX_BATCHES * batch)


def _mean_words(texts: list[str]) -> float:
    return statistics.fmean(len(text.split()) for text in texts)


def _parameters(model: Path) -> int:
    """Return the number of weights in a model directory, tied ones counted once."""
    with safe_open(model / "model.safetensors", "pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118


if __name__ == "__main__":
    main()
