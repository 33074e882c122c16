"""Share of a core's peak that a training step reaches, and the operators that its time goes to.

`python -m benchmarks.peak --corpus CORPUS` takes steps of `seed` with several hidden sizes on one
thread, in the precision that this CPU is fast in, in turns with products of two square matrices, by
torch and by oneDNN: the rate of the faster way is the peak. The arithmetic of a step is 6
operations for each weight of the recurrent and output layers and each token that they read. The
operators' shares come from further steps under torch's profiler, which slows small operators down.
Batches are made before the clock starts.
"""

import argparse
import statistics
import time
from itertools import islice
from pathlib import Path

import torch

from benchmarks.gpu_report import CPU, NO_SIGNALS, config_of, training_of
from benchmarks.scaling import endless_batches
from benchmarks.train import cpu_name
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.corpus.batches import GlobalBatch, LocalBatch
from s2s.model import onednn
from s2s.training.loop import Training
from s2s.training.precision import choose_precision

SQUARE, PRODUCTS = 1_024, 5
WARM_UP, STEPS, PROFILED = 20, 5, 20

# Operators by what they are part of; all others, and Python, are the rest. The encoder reads packed
# sentences, with a product for each token; the decoder's products are inside its fused layer.
PARTS = {
    "products": ("aten::mm", "aten::addmm", "mkldnn::_linear_pointwise"),
    "softmax": ("aten::_softmax",),
    "recurrent layers": (
        "aten::mkldnn_rnn_layer", "aten::mkldnn_rnn_layer_backward", "aten::lstm",
        "aten::sigmoid_", "aten::tanh_", "aten::tanh", "aten::sigmoid_backward",
        "aten::tanh_backward",
    ),
    "Adam": ("aten::_fused_adam_", "Optimizer.step#Adam.step"),
    "sums and copies": (
        "aten::add_", "aten::mul_", "aten::copy_", "aten::fill_", "aten::cat",
        "aten::embedding_dense_backward", "mkldnn::_reorder_linear_weight",
    ),
}  # fmt: skip
REST = "the rest"


def main() -> None:
    """Print a row for each hidden size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peak", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="corpus directory")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 512], help="hidden sizes")
    parser.add_argument("--turns", type=int, default=10, help="turns of steps and products")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    precision = choose_precision("auto", CPU).name
    print(f"{cpu_name()}, 1 thread, torch {torch.__version__}, {precision}\n")
    names = [*PARTS, REST]
    print("| hidden | ms of a step | GFLOP | GFLOP/s | peak, GFLOP/s | share of the peak "
          f"| {' | '.join(names)} |")  # fmt: skip
    print("| " + "--- | " * (6 + len(names)))
    for hidden in arguments.hidden:
        config = config_of("seed", {"hidden_size": hidden})
        row = _row(Corpus.open(arguments.corpus), config, precision, arguments.turns)
        print(f"| {hidden} | {row} |", flush=True)


def _row(corpus: Corpus, config: Config, precision: str, turns: int) -> str:
    """Measure the steps of a model; return the cells of its row."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    seconds, rates, peaks, shares = [], [], [], []
    with training_of(corpus, config, CPU) as training:
        batches = endless_batches(training)
        _take(training, list(islice(batches, WARM_UP)))
        for _ in range(turns):
            peaks.append(_peak(dtype))
            steps = list(islice(batches, STEPS))
            seconds.append(_take(training, steps) / len(steps))
            operations = [_operations(step, config, len(corpus.target)) for step in steps]
            rates.append(statistics.mean(operations) / seconds[-1])
            shares.append(rates[-1] / peaks[-1])
        spent = _profile(training, list(islice(batches, PROFILED)))
    rate, second = statistics.median(rates), statistics.median(seconds)
    cells = [f"{second * 1e3:.1f}", f"{rate * second / 1e9:.2f}", f"{rate / 1e9:.0f}",
             f"{statistics.median(peaks) / 1e9:.0f}", f"{statistics.median(shares):.0%}",
             *(f"{share:.0%}" for share in spent.values())]  # fmt: skip
    return " | ".join(cells)


def _peak(dtype: torch.dtype) -> float:
    """Return the operations per second of a product of two square matrices, by the faster way."""
    square = torch.randn(SQUARE, SQUARE).to(dtype)
    rates = []
    for way in (lambda: square @ square, lambda: onednn.linear(square, square)):
        way()
        begin = time.perf_counter()
        for _ in range(PRODUCTS):
            way()
        rates.append(PRODUCTS * 2 * SQUARE**3 / (time.perf_counter() - begin))
    return max(rates)


def _take(training: Training, steps: list[GlobalBatch]) -> float:
    """Take steps; return the seconds of all."""
    begin = time.perf_counter()
    for step in steps:
        training.stepper.step(step, 1, 1e-3, NO_SIGNALS)
    return time.perf_counter() - begin


def _profile(training: Training, steps: list[GlobalBatch]) -> dict[str, float]:
    """Return the share of each part in the time of steps."""
    with torch.profiler.profile() as profiler:
        whole = _take(training, steps)
    own = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    shares = {
        part: sum(own.get(name, 0.0) for name in names) / whole for part, names in PARTS.items()
    }
    return shares | {REST: 1 - sum(shares.values())}


def _operations(batch: GlobalBatch, config: Config, vocabulary: int) -> float:
    """Return the floating-point operations of a step's recurrent layers and output layer."""
    assert isinstance(batch, LocalBatch)  # noqa: S101
    model, [micro] = config.model, batch.micro_batches
    recurrent = 4 * model.hidden_size * (model.embedding_size + model.hidden_size)
    tokens = int(micro.source_lengths.sum()) + micro.target_in.numel()
    return 6.0 * (recurrent * tokens + model.hidden_size * vocabulary * batch.tokens)


if __name__ == "__main__":
    main()
