"""Checks of what a GPU computes against the CPU: the parts of `benchmarks.gpu` that can fail."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

import s2s
from benchmarks.gpu_report import (
    CPU,
    DEVICE,
    GPU,
    NO_SIGNALS,
    Report,
    config_of,
    free_port,
    in_slots,
    relative_error,
    training_of,
)
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import Failed
from s2s.model.directory import ModelDirectory
from s2s.text.vocabulary import EOS, PAD
from s2s.training.checkpoints import Checkpoints
from s2s.training.host import SilentHost
from s2s.training.loop import Training
from s2s.training.signals import Signals
from s2s.training.step import GpuStepper

KINDS: dict[str, dict[str, Any]] = {
    "seed": {},
    "base": {"bidirectional": True, "attention": "general", "tie": "target", "layers": 2,
             "residual": True},
    "gru": {"cell": "gru", "layers": 2, "bidirectional": True},
    "rnn": {"cell": "rnn"},
    "feeding": {"attention": "additive", "input_feeding": True},
    "adaptive": {"output": "adaptive", "frequent_words": 500},
}  # fmt: skip
# Greatest relative error, against float64, of the first step's gradient and of every step's loss.
TOLERANCES = {"fp32": 2e-5, "tf32": 3e-3, "bf16": 2e-2, "fp16": 1e-2}
STEPS = 12


def numbers(report: Report) -> None:
    """Check training in every precision against float64 on the CPU."""
    corpus = report.corpus("seed")
    precisions = list(TOLERANCES) if GPU else ["fp32"]
    for kind, model in KINDS.items():
        tested = precisions if kind in ("seed", "base") or not GPU else ["fp32", "bf16"]
        options = {"batch_size": 32, "label_smoothing": 0.1 if kind == "base" else 0.0}
        exact, exact_losses = _exact(corpus, config_of("seed", model, precision="fp32", **options))
        for precision in tested:
            config = config_of("seed", model, precision=precision, clip_norm=1e9, **options)
            with training_of(corpus, config) as training:
                steps = list(islice(training.stepper.global_batches(training.batches, 1, 0), STEPS))
                losses: list[float] = []
                gradients: list[Tensor] = []
                # The same steps again, so that shapes recur and their graphs are replayed.
                for number, step in enumerate(steps * 3, start=1):
                    pending = training.stepper.step(step, number, 1e-3, NO_SIGNALS)
                    losses.append(pending.read().loss / step.tokens)
                    if number == 1:
                        gradients = [p.grad.clone() for p in training.model.parameters()]  # type: ignore[union-attr]
                error = relative_error(gradients, exact)
                drift = max(abs(a - b) / b for a, b in zip(losses, exact_losses, strict=True))
                graphs = getattr(training.stepper, "_graphs", None)
                recorded = 0 if graphs is None else len(graphs)
            limit = TOLERANCES[precision]
            report.add("numbers", f"{kind}, {precision}",
                       f"gradient off by {error:.1e}, losses of {len(losses)} steps by "
                       f"{drift:.1e}, {recorded} graphs", f"at most {limit:.0e} each",
                       error < limit and drift < limit)  # fmt: skip


def _exact(corpus: Corpus, config: Config) -> tuple[list[Tensor], list[float]]:
    """Return the first gradient and all losses of the same steps in float64, by torch alone."""
    with training_of(corpus, config, CPU) as training:
        model = training.model.double()
        stack = model.encoder.recurrent
        if config.model.cell != "rnn":
            stack.encode = stack._encode_padded  # type: ignore[method-assign]
        else:
            stack.encode = lambda inputs, lengths: stack._run_packed(  # type: ignore[method-assign]
                torch.nn.utils.rnn.pack_padded_sequence(inputs, lengths, True, False)
            )
        adam = torch.optim.Adam(model.parameters(), 1e-3)
        smoothing = config.train.label_smoothing
        losses: list[float] = []
        first: list[Tensor] = []
        steps = list(islice(training.batches.epoch(1), STEPS))
        for step in steps * 3:
            [batch] = step.micro_batches
            real = batch.target_out != PAD
            hidden = model(batch.source, batch.source_lengths, batch.target_in)[real]
            logits = model.decoder.output(hidden)
            loss = F.cross_entropy(logits, batch.target_out[real], label_smoothing=smoothing)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if not first:
                first = [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
            adam.step()
            losses.append(F.cross_entropy(logits, batch.target_out[real]).item())
        return first, losses


def graphs(report: Report) -> None:
    """Check steps replayed as CUDA graphs against the same steps launched kernel by kernel."""
    corpus = report.corpus("seed")
    for kind, model in (("seed", {}), ("base with dropout", {**KINDS["base"], "dropout": 0.3})):
        weights = []
        for recorded in (True, False):
            with training_of(corpus, config_of("seed", model, clip_norm=1.0)) as training:
                if not recorded and isinstance(training.stepper, GpuStepper):
                    training.stepper._graphs = None
                for number, step in enumerate(
                    islice(training.stepper.global_batches(training.batches, 1, 0), 60), start=1
                ):
                    training.stepper.step(step, number, 1e-3, NO_SIGNALS).read()
                weights.append(list(training.model.named_weights().values()))
        error = relative_error(*weights)
        same = all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
        report.add("graphs", f"{kind}, 60 steps replayed against launched",
                   "identical to the bit" if same else f"weights differ by {error:.1e}",
                   "at most 1e-3", error < 1e-3)  # fmt: skip


class _StopAt(SilentHost):
    """Host that requests a stop before one step.

    Args:
        step: number of the step, from 1.
    """

    def __init__(self, step: int) -> None:
        self.left = step

    def signals(self) -> Signals:
        self.left -= 1
        return Signals(stop=self.left == 0)


def resumption(report: Report) -> None:
    """Check a run that is stopped and resumed, and runs that move between GPU and CPU."""
    corpus = report.corpus("demo")
    model = {"dropout": 0.2, "attention": "general"}
    epochs = 2 if GPU else 1

    def run(folder: Path, device: torch.device, last: int, host: SilentHost | None = None,
            precision: str = "auto") -> dict[str, Tensor]:  # fmt: skip
        config = config_of("demo", {**model, "hidden_size": 64}, epochs=last, precision=precision)
        checkpoints = Checkpoints(folder / "checkpoints", last=99)
        training = Training(corpus, config, device, checkpoints, folder, host=host)
        training.run()
        return {
            name: weight.cpu().clone() for name, weight in training.model.named_weights().items()
        }

    with tempfile.TemporaryDirectory() as root:
        whole = run(Path(root, "whole"), DEVICE, epochs)
        run(Path(root, "stopped"), DEVICE, epochs, _StopAt(50))
        resumed = run(Path(root, "stopped"), DEVICE, epochs)
        error = relative_error(list(resumed.values()), list(whole.values()))
        same = all(torch.equal(resumed[name], whole[name]) for name in whole)
        report.add("resumption", f"stopped at step 50, {epochs} epochs in all",
                   "weights identical to the bit" if same else f"weights differ by {error:.1e}",
                   "at most 1e-2", error < 1e-2)  # fmt: skip
        if not GPU:
            return
        weights = []
        for first, then in ((DEVICE, CPU), (CPU, DEVICE), (CPU, CPU)):
            folder = Path(root, f"{first.type}-{then.type}")
            run(folder, first, 1, _StopAt(40), "fp32")
            run(folder, then, 1, _StopAt(20), "fp32")
            with _newest_checkpoint(folder) as path:
                weights.append(list(ModelDirectory.load(path).model.named_weights().values()))
        for name, moved in zip(("GPU to CPU", "CPU to GPU"), weights, strict=False):
            error = relative_error(moved, weights[2])
            report.add("resumption", f"{name}, 60 steps, each device with its own dropout",
                       f"weights off the CPU's by {error:.1e}", "at most 1e-1",
                       error < 0.1)  # fmt: skip


@contextmanager
def _newest_checkpoint(folder: Path) -> Iterator[Path]:
    checkpoints = Checkpoints(folder / "checkpoints", last=99)
    [*_, newest] = checkpoints.all()
    with checkpoints.open(newest) as path:
        yield path


def memory(report: Report) -> None:
    """Check that running out of memory ends in an error of one line."""
    if not GPU:
        report.add("memory", "out of memory", "skipped: no GPU")
        return
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.03)
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"model.hidden_size": 512, "train.batch_size": 20_000, "train.epochs": 1}
            s2s.train(report.data / "seed", Path(folder, "model"), "seed", settings, quiet=True)
        report.add("memory", "out of memory", "no error", "one line", passed=False)
    except Failed as error:
        lines = str(error).splitlines()
        report.add("memory", "out of memory", lines[0][:60] + "…", "one line", len(lines) == 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


# ---- data-parallel workers ----------------------------------------------------------------------

WORKER_PRECISIONS = ("fp32", "bf16")


def workers(report: Report) -> None:
    """Check two workers on one GPU over gloo (NCCL refuses to share one), and one over NCCL."""
    single = {precision: _steps(report.data, precision) for precision in WORKER_PRECISIONS}
    file = report.out / "worker.pt"
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu", "--data", report.data, "--out", report.out,
             "--worker", json.dumps({"rank": rank, "port": port})],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        codes = [process.wait(90) for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(codes):
        raise RuntimeError(f"workers ended with {codes}")
    weights: dict[str, list[Tensor]] = torch.load(file)
    file.unlink()
    for precision, limit in (("fp32", 2e-4), ("bf16", 3e-2)):
        error = relative_error(weights[precision], single[precision])
        report.add("workers", f"2 over gloo, {precision}, 20 steps against a single worker",
                   f"weights differ by {error:.1e}", f"at most {limit:.0e}",
                   error < limit)  # fmt: skip
    if not GPU:
        return
    address = f"tcp://127.0.0.1:{free_port()}"
    dist.init_process_group("nccl", init_method=address, rank=0, world_size=1)
    try:
        error = relative_error(_steps(report.data, "fp32"), single["fp32"])
    finally:
        dist.destroy_process_group()
    report.add("workers", "1 over nccl, fp32, 20 steps against no process group",
               f"weights differ by {error:.1e}", "at most 2e-04", error < 2e-4)  # fmt: skip


def run_worker(data: Path, out: Path, worker: dict[str, int]) -> None:
    """Train in this process as one of two workers; the first one writes the weights.

    Args:
        worker: the `rank` of this worker, and the `port` at which both meet.
    """
    address = f"tcp://127.0.0.1:{worker['port']}"
    dist.init_process_group("gloo", init_method=address, rank=worker["rank"], world_size=2)
    weights = {precision: _steps(data, precision) for precision in WORKER_PRECISIONS}
    if worker["rank"] == 0:
        torch.save(weights, out / "worker.pt")
    dist.destroy_process_group()


def _steps(data: Path, precision: str) -> list[Tensor]:
    """Take 20 steps, as a worker of the current process group if any; return the weights."""
    model = {"attention": "general", "bidirectional": True}
    config = config_of("seed", model, precision=precision, clip_norm=1.0)
    with training_of(Corpus.open(data / "seed"), config) as training:
        for number, step in enumerate(
            islice(training.stepper.global_batches(training.batches, 1, 0), 20), start=1
        ):
            training.stepper.step(step, number, 1e-3, NO_SIGNALS).read()
        return [weight.cpu() for weight in training.model.named_weights().values()]


# ---- a trained seed, and decoding ---------------------------------------------------------------


def seed(report: Report) -> None:
    """Train `seed` as the tutorial does; check that the accuracy is that on CPUs."""
    corpus = report.corpus("seed")
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints", last=99)
        config = config_of("seed", epochs=10 if GPU else 1)
        begin = time.perf_counter()
        metrics = Training(corpus, config, DEVICE, checkpoints, Path(folder)).run().metrics
        seconds = time.perf_counter() - begin
        with checkpoints.open(checkpoints.best(1)[0]) as best:
            shutil.copytree(best, report.out / "seed", dirs_exist_ok=True)
    last = metrics.epochs[-1]
    accuracy = last.valid_padded_accuracy
    report.numbers["seed"] = [asdict(epoch) for epoch in metrics.epochs]
    rate = statistics.median(epoch.pairs_per_second for epoch in metrics.epochs)
    report.add("seed", f"{len(metrics.epochs)} epochs in {seconds:.1f} s, validation and "
               f"checkpoints included, {rate:,.0f} pairs/s in the median epoch",
               f"padded accuracy {accuracy:.4f}, token accuracy "
               f"{last.valid_token_accuracy:.4f}", "0.8282 on CPUs; at least 0.826",
               accuracy >= 0.826 if GPU else None)  # fmt: skip


def decoding(report: Report) -> None:
    """Check the GPU's translations against the CPU's."""
    path = report.out / "seed"
    rows = report.corpus("seed").split("valid")["source"][:]
    sentences = list(dict.fromkeys(rows))[: 1000 if GPU else 100]
    on_cpu, on_gpu = Translator.load(path), Translator.load(path, DEVICE)
    settings: dict[str, dict[str, Any]] = {
        "greedy": {},
        "greedy, length limits": {"min_ratio": 1.2, "max_ratio": 2.0},
        "beam 5": {"beam": 5},
        "beam 5, n-best 3": {"beam": 5, "n_best": 3},
    }
    for name, changed in settings.items():
        cpu, gpu = (t.with_settings(batch_size=256, **changed) for t in (on_cpu, on_gpu))
        expected = cpu.translate(sentences)
        for _ in range(3):  # launched kernel by kernel, recorded, replayed
            translations = gpu.translate(sentences)
        report.add("decoding", f"{name}, {len(sentences):,} sentences against the CPU's",
                   *_agreement(translations, expected))  # fmt: skip
    cpu_scores, gpu_scores = (
        np.array([[translation.score for translation in best] for best in
                  translator.with_settings(beam=5, n_best=3).hypotheses(sentences[:100])])
        for translator in (on_cpu, on_gpu)
    )  # fmt: skip
    difference = float(np.abs(cpu_scores - gpu_scores).max())
    report.add("decoding", "scores of the 3 best of 100 sentences",
               f"differ by up to {difference:.1e}", "at most 1e-3", difference < 1e-3)  # fmt: skip
    samples = [
        on_gpu.with_settings(temperature=0.7, seed=s).translate(sentences[:200]) for s in (1, 1, 2)
    ]
    top_1 = on_gpu.with_settings(temperature=0.7, top_k=1).translate(sentences[:200])
    greedy = top_1 == on_gpu.with_settings(beam=1).translate(sentences[:200])
    report.add("decoding", "sampling: same seed, other seed, top-k of 1 against greedy",
               f"{samples[0] == samples[1]}, {samples[0] == samples[2]}, {greedy}",
               "True, False, True",
               samples[0] == samples[1] and samples[0] != samples[2] and greedy)  # fmt: skip
    for beam in (1, 5):
        searching = on_gpu.with_settings(beam=beam)
        report.add("decoding", f"48 slots, beam {beam}, admitted as they free up, against batches",
                   *_agreement(in_slots(searching, sentences, 48),
                               searching.translate(sentences)))  # fmt: skip
        _loops(report, path, sentences, beam)


def _loops(report: Report, path: Path, sentences: list[str], beam: int) -> None:
    """Check that a model that hardly ends a translation is stopped alike on GPU and CPU."""
    cpu, gpu = (_reluctant(path, device).with_settings(beam=beam, max_length=60)
                for device in ("cpu", DEVICE))  # fmt: skip
    expected = [(best.text, best.finish_reason) for [best] in cpu.hypotheses(sentences)]
    for _ in range(3):  # launched kernel by kernel, recorded, replayed
        found = [(best.text, best.finish_reason) for [best] in gpu.hypotheses(sentences)]
    looped = sum(reason == "repetition" for _, reason in expected)
    same = sum(a == b for a, b in zip(found, expected, strict=True)) / len(expected)
    report.add("decoding", f"repetition, {'greedy' if beam == 1 else f'beam {beam}'}",
               f"{looped} translations end in a loop, {same:.2%} identical",
               "at least 99 %", bool(looped) and same >= 0.99)  # fmt: skip


def _reluctant(path: Path, device: torch.device | str) -> Translator:
    """Return a translator that hardly ever ends a translation."""
    directory = ModelDirectory.load(path, device)
    with torch.no_grad():
        directory.model.decoder.output.bias[EOS] -= 12
    return Translator(directory)


def _agreement(translations: list[str], expected: list[str]) -> tuple[str, str, bool]:
    """Return result, expectation and verdict: almost all translations have to be as expected."""
    same = sum(a == b for a, b in zip(translations, expected, strict=True)) / len(expected)
    return f"{same:.2%} identical", "at least 99.5 %", same >= 0.995
