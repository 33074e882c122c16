"""Speed of the adaptive softmax beside the full one, by size of the vocabulary.

`python -m benchmarks.adaptive` takes training steps, of 128 random pairs of 8 tokens, and steps of
decoding with both output layers in turns, on one thread, for networks of the size of `seed` and of
four times that size. Random words are Zipfian: the word of rank r has a probability proportional to
1 / (r + 10). Times are of the processor, the shortest of some rounds.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from s2s.config import DecodeConfig, ModelConfig
from s2s.corpus.batches import Batch
from s2s.decoding.network import Network
from s2s.decoding.runtime import has_native_step, in_torch
from s2s.decoding.scoring import argmax
from s2s.model.loss import TrainingLoss
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import SOS, SPECIALS

OUTPUTS = ("full", "adaptive")
SOURCE_WORDS, PAIRS, LENGTH = 8_000, 128, 8
ROWS = (1, 64, 320)


def main() -> None:
    """Print a table of training steps and one of decoding steps."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptive", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], help="of the network")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[8_000, 16_000, 50_000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = [(size, words) for size in options.sizes for words in options.vocabularies]
    print("| network | vocabulary | training step: full, ms | adaptive, ms | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for size, words in kinds:
        steps = [_training_step(size, words, output) for output in OUTPUTS]
        full, adaptive = _shortest(steps, options.rounds)
        print(f"| {size} | {words:,} | {full * 1e3:.1f} | {adaptive * 1e3:.1f} "
              f"| {full / adaptive:.2f} |", flush=True)  # fmt: skip
    runtime = "ONNX Runtime" if has_native_step() else "torch"
    print(f"\n| network | vocabulary | rows | decoding step by {runtime}: full, µs "
          "| adaptive, µs | ratio |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- |")
    for size, words in kinds:
        networks = [_network(size, words, output) for output in OUTPUTS]
        for rows in ROWS:
            steps = [_decoding_step(network, rows) for network in networks]
            full, adaptive = _shortest(steps, 3 * options.rounds)
            print(f"| {size} | {words:,} | {rows} | {full * 1e6:,.0f} | {adaptive * 1e6:,.0f} "
                  f"| {full / adaptive:.2f} |", flush=True)  # fmt: skip


def _config(size: int, output: str) -> ModelConfig:
    return ModelConfig.model_validate(
        {"embedding_size": size, "hidden_size": size, "output": output}
    )


def _training_step(size: int, words: int, output: str) -> Callable[[], object]:
    """Return a function that takes an optimizer step."""
    torch.manual_seed(0)
    loss = TrainingLoss(Seq2Seq(SOURCE_WORDS, words, _config(size, output)))
    adam = torch.optim.Adam(loss.parameters(), fused=True)
    source, target = (_random_words(count) for count in (SOURCE_WORDS, words))
    target_in = target.roll(1, dims=1)
    target_in[:, 0] = SOS
    batch = Batch(source, torch.full((PAIRS,), LENGTH), target_in, target, PAIRS)

    def step() -> None:
        adam.zero_grad()
        (loss(batch) / target.numel()).backward()
        adam.step()

    return step


def _random_words(count: int) -> Tensor:
    """Return the words (PAIRS, LENGTH) of random sentences, by their frequency in a vocabulary."""
    frequencies = 1 / (torch.arange(count - len(SPECIALS)) + 10.0)
    words = torch.multinomial(frequencies, PAIRS * LENGTH, replacement=True) + len(SPECIALS)
    return words.view(PAIRS, LENGTH)


def _network(size: int, words: int, output: str) -> Network:
    """Return a network as decoding uses it on a CPU."""
    config = _config(size, output)
    model = Seq2Seq(SOURCE_WORDS, words, config).eval()
    if has_native_step():
        from s2s.onnx.session import OnnxModel

        return OnnxModel.of(model, config)
    return in_torch(model, DecodeConfig())


def _decoding_step(network: Network, rows: int) -> Callable[[], object]:
    """Return a function that takes a step of greedy decoding for some sentences."""
    with torch.inference_mode():
        state = network.encode(torch.full((rows, 2), 5), torch.full((rows,), 2))
    tokens = torch.full((rows,), SOS)

    @torch.inference_mode()
    def step() -> None:
        argmax(network.step(tokens, state)[0])

    return step


def _shortest(steps: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the seconds of each step: the shortest of some rounds in turns, after a first one."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(1 + rounds):
        for step, found in zip(steps, times, strict=True):
            start = time.process_time()
            step()
            found.append(time.process_time() - start)
    return [min(found[1:]) for found in times]


if __name__ == "__main__":
    main()
