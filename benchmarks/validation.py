"""Validation: loss and accuracy on `valid`, in the way of a textbook and in ours.

`python -m benchmarks.validation --model MODEL --corpus CORPUS` scores all of `valid` in turns, on
one thread, in float32: with torch's cross-entropy and argmax of all logits of a batch, in chunks of
16 MB, and with `validate` of `s2s.evaluation.teacher_forcing`. Both must give the same sums.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from benchmarks.train import cpu_name
from s2s.corpus import Corpus
from s2s.corpus.batches import Batches
from s2s.evaluation.teacher_forcing import validate
from s2s.model.cross_entropy import CHUNK_BYTES
from s2s.model.directory import ModelDirectory
from s2s.model.loss import TokenSums
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import PAD


def main() -> None:
    """Print the seconds of both ways and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus directory")
    parser.add_argument("--rounds", type=int, default=7, help="of both ways, one after the other")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = ModelDirectory.load(arguments.model).model
    batches = Batches(Corpus.open(arguments.corpus).split("valid"), 128)
    seconds: dict[str, list[float]] = {"textbook": [], "ours": []}
    sums = {}
    for _ in range(arguments.rounds):
        for way, compute in (("textbook", _textbook), ("ours", validate)):
            begin = time.perf_counter()
            sums[way] = compute(model, batches)
            seconds[way].append(time.perf_counter() - begin)
    textbook, ours = (sums[way] for way in seconds)
    torch.testing.assert_close(ours.loss, textbook.loss, rtol=1e-6, atol=0)
    if (ours.correct, ours.tokens) != (textbook.correct, textbook.tokens):
        raise SystemExit("the counts differ")
    slow, fast = (median(times) for times in seconds.values())
    print(f"{cpu_name()}; {batches.pairs:,} pairs; {ours.tokens:,.0f} tokens")
    print("| textbook, s | ours, s | ratio |\n| --- | --- | --- |")
    print(f"| {slow:.2f} | {fast:.2f} | {slow / fast:.2f} |")


@torch.inference_mode()
def _textbook(model: Seq2Seq, batches: Batches) -> TokenSums:
    """Return the sums by `F.cross_entropy` and `argmax`, in chunks of new memory."""
    model.eval()
    loss, correct, tokens, sentences = 0.0, 0, 0, 0
    size = CHUNK_BYTES // (4 * model.decoder.output.out_features)
    for step in batches.epoch(0):
        for batch in step.micro_batches:
            hidden = model(batch.source, batch.source_lengths, batch.target_in)
            predicted = batch.target_out != PAD
            parts = hidden[predicted].split(size), batch.target_out[predicted].split(size)
            for states, words in zip(*parts, strict=True):
                logits = model.decoder.output(states)
                loss += F.cross_entropy(logits, words, reduction="sum").item()
                correct += int((logits.argmax(1) == words).sum())
                tokens += len(words)
            sentences += batch.sentences
    return TokenSums(loss, correct, tokens, sentences)


if __name__ == "__main__":
    main()
