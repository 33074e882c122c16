"""What a GPU computes, against the CPU: the parts of `benchmarks.gpu` that say right or wrong."""

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

from benchmarks.gpu_report import (
    CPU,
    DEVICE,
    GPU,
    NO_SIGNALS,
    Report,
    config_of,
    far_from,
    free_port,
    in_slots,
    training_of,
)
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import Failed
from s2s.model.directory import ModelDirectory
from s2s.text.vocabulary import PAD
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
}  # fmt: skip
# How far the gradient of a step may be from float64's, and the losses of later ones.
FAR = {"fp32": 2e-5, "tf32": 3e-3, "bf16": 2e-2, "fp16": 1e-2}
STEPS = 12


def numbers(report: Report) -> None:
    """Training in every precision against float64 on the CPU."""
    corpus = report.corpus("seed")
    precisions = list(FAR) if GPU else ["fp32"]
    for kind, model in KINDS.items():
        many = precisions if kind in ("seed", "base") or not GPU else ["fp32", "bf16"]
        options = {"batch_size": 32, "label_smoothing": 0.1 if kind == "base" else 0.0}
        right, losses = _exact(corpus, config_of("seed", model, precision="fp32", **options))
        for precision in many:
            config = config_of("seed", model, precision=precision, clip_norm=1e9, **options)
            with training_of(corpus, config) as training:
                steps = list(islice(training.stepper.global_batches(training.batches, 1, 0), STEPS))
                found: list[float] = []
                gradients: list[Tensor] = []
                # The same steps twice, so that shapes come again and are replayed.
                for number, step in enumerate(steps * 3, start=1):
                    pending = training.stepper.step(step, number, 1e-3, NO_SIGNALS)
                    found.append(pending.read().loss / step.tokens)
                    if number == 1:
                        gradients = [p.grad.clone() for p in training.model.parameters()]  # type: ignore[union-attr]
                far = far_from(gradients, right)
                drift = max(abs(a - b) / b for a, b in zip(found, losses, strict=True))
                graphs = getattr(training.stepper, "_graphs", None)
                recorded = 0 if graphs is None else len(graphs)
            limit = FAR[precision]
            report.add("numbers", f"{kind}, {precision}",
                       f"gradient off by {far:.1e}, losses of {len(found)} steps by {drift:.1e}, "
                       f"{recorded} graphs", f"at most {limit:.0e} each",
                       far < limit and drift < limit)  # fmt: skip


def _exact(corpus: Corpus, config: Config) -> tuple[list[Tensor], list[float]]:
    """The first gradient and all losses of the same steps in float64, the plain way."""
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
            losses.append(loss.item())
        return first, losses


def graphs(report: Report) -> None:
    """Steps that are replayed against the same steps, started kernel by kernel."""
    corpus = report.corpus("seed")
    for kind, model in (("seed", {}), ("base with dropout", {**KINDS["base"], "dropout": 0.3})):
        found = []
        for recorded in (True, False):
            with training_of(corpus, config_of("seed", model, clip_norm=1.0)) as training:
                if not recorded and isinstance(training.stepper, GpuStepper):
                    training.stepper._graphs = None
                for number, step in enumerate(
                    islice(training.stepper.global_batches(training.batches, 1, 0), 60), start=1
                ):
                    training.stepper.step(step, number, 1e-3, NO_SIGNALS).read()
                found.append(list(training.model.named_weights().values()))
        far = far_from(*found)
        same = all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        report.add("graphs", f"{kind}, 60 steps replayed against started",
                   "the same to the bit" if same else f"weights differ by {far:.1e}",
                   "at most 1e-3", far < 1e-3)  # fmt: skip


class _Stop(SilentHost):
    """Asks to stop before a step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def signals(self) -> Signals:
        self.left -= 1
        return Signals(stop=self.left == 0)


def resumption(report: Report) -> None:
    """A run that is stopped and goes on; one that changes between card and CPU."""
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

    with tempfile.TemporaryDirectory() as place:
        whole = run(Path(place, "whole"), DEVICE, epochs)
        run(Path(place, "cut"), DEVICE, epochs, _Stop(50))
        rest = run(Path(place, "cut"), DEVICE, epochs)
        far = far_from(list(rest.values()), list(whole.values()))
        same = all(torch.equal(rest[name], whole[name]) for name in whole)
        report.add("resumption", f"stopped at step 50, {epochs} epochs in all",
                   "the same weights to the bit" if same else f"weights differ by {far:.1e}",
                   "at most 1e-2", far < 1e-2)  # fmt: skip
        if not GPU:
            return
        both = []
        for first, then in ((DEVICE, CPU), (CPU, DEVICE), (CPU, CPU)):
            folder = Path(place, f"{first.type}-{then.type}")
            stop = _Stop(40)
            run(folder, first, 1, stop, "fp32")
            run(folder, then, 1, _Stop(20), "fp32")
            with _training_in(folder) as path:
                both.append(list(ModelDirectory.load(path).model.named_weights().values()))
        for name, found in zip(("card to CPU", "CPU to card"), both, strict=False):
            far = far_from(found, both[2])
            report.add("resumption", f"{name}, 60 steps with dropout's own streams",
                       f"off by {far:.1e} of the CPU's", "at most 1e-1", far < 0.1)  # fmt: skip


@contextmanager
def _training_in(folder: Path) -> Iterator[Path]:
    checkpoints = Checkpoints(folder / "checkpoints", last=99)
    [*_, newest] = checkpoints.all()
    with checkpoints.open(newest) as path:
        yield path


def memory(report: Report) -> None:
    """Running out of memory ends in one line."""
    if not GPU:
        report.add("memory", "out of memory", "not on a CPU")
        return
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.03)
    try:
        config = config_of("seed", {"hidden_size": 512}, batch_size=20_000, epochs=1)
        with training_of(report.corpus("seed"), config) as training:
            training.run()
        report.add("memory", "out of memory", "there was none", "one line", right=False)
    except Failed as error:
        lines = str(error).splitlines()
        report.add("memory", "out of memory", lines[0][:60] + "…", "one line", len(lines) == 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


# ---- data-parallel workers ----------------------------------------------------------------------

WORKERS = ("fp32", "bf16")  # precisions


def workers(report: Report) -> None:
    """Two workers on one card over gloo (NCCL refuses to share one), and one over NCCL."""
    alone = {precision: _steps(report.data, precision) for precision in WORKERS}
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
    found: dict[str, list[Tensor]] = torch.load(file)
    file.unlink()
    for precision, far in (("fp32", 2e-4), ("bf16", 3e-2)):
        off = far_from(found[precision], alone[precision])
        report.add("workers", f"2 over gloo, {precision}, 20 steps against one alone",
                   f"weights differ by {off:.1e}", f"at most {far:.0e}", off < far)  # fmt: skip
    if not GPU:
        return
    meet = f"tcp://127.0.0.1:{free_port()}"
    dist.init_process_group("nccl", init_method=meet, rank=0, world_size=1)
    try:
        off = far_from(_steps(report.data, "fp32"), alone["fp32"])
    finally:
        dist.destroy_process_group()
    report.add("workers", "1 over nccl, fp32, 20 steps against one alone",
               f"weights differ by {off:.1e}", "at most 2e-04", off < 2e-4)  # fmt: skip


def be_a_worker(data: Path, out: Path, told: dict[str, int]) -> None:
    """Be one of the two."""
    meet = f"tcp://127.0.0.1:{told['port']}"
    dist.init_process_group("gloo", init_method=meet, rank=told["rank"], world_size=2)
    found = {precision: _steps(data, precision) for precision in WORKERS}
    if told["rank"] == 0:
        torch.save(found, out / "worker.pt")
    dist.destroy_process_group()


def _steps(data: Path, precision: str) -> list[Tensor]:
    """The weights after 20 steps, as one of the current workers."""
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
    """The tutorial's run, to the CPU's accuracy."""
    corpus = report.corpus("seed")
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints", last=99)
        config = config_of("seed", epochs=10 if GPU else 1)
        begin = time.perf_counter()
        metrics = Training(corpus, config, DEVICE, checkpoints, Path(folder)).run().metrics
        spent = time.perf_counter() - begin
        with checkpoints.open(checkpoints.best(1)[0]) as best:
            shutil.copytree(best, report.out / "seed", dirs_exist_ok=True)
    last = metrics.epochs[-1]
    accuracy = last.valid_padded_accuracy
    report.numbers["seed"] = [asdict(epoch) for epoch in metrics.epochs]
    rate = statistics.median(epoch.pairs_per_second for epoch in metrics.epochs)
    report.add("seed", f"{len(metrics.epochs)} epochs in {spent:.1f} s, validation and checkpoints "
               f"included, {rate:,.0f} pairs/s in the median one",
               f"padded accuracy {accuracy:.4f}, token accuracy "
               f"{last.valid_token_accuracy:.4f}", "0.8282 on CPUs; at least 0.826",
               accuracy >= 0.826 if GPU else None)  # fmt: skip


def decoding(report: Report) -> None:
    """Translations of the card against the CPU's."""
    path = report.out / "seed"
    rows = report.corpus("seed").split("valid")["source"][:]
    sentences = list(dict.fromkeys(rows))[: 1000 if GPU else 100]
    theirs, ours = Translator.load(path), Translator.load(path, DEVICE)
    ways: dict[str, dict[str, Any]] = {
        "greedy": {},
        "greedy, limits of length": {"min_ratio": 1.2, "max_ratio": 2.0},
        "beam 5": {"beam": 5},
        "beam 5, n-best 3": {"beam": 5, "n_best": 3},
    }
    for name, how in ways.items():
        one, other = (t.with_settings(batch_size=256, **how) for t in (theirs, ours))
        wanted = one.translate(sentences)
        for _ in range(3):  # started, recorded, replayed
            found = other.translate(sentences)
        same = sum(a == b for a, b in zip(wanted, found, strict=True)) / len(sentences)
        report.add("decoding", f"{name}, {len(sentences):,} sentences against the CPU's",
                   f"{same:.2%} the same", "at least 99.5 %", same >= 0.995)  # fmt: skip
    one, other = (
        [[t.score for t in told] for told in translator.with_settings(beam=5, n_best=3).hypotheses(
            sentences[:100])] for translator in (theirs, ours)
    )  # fmt: skip
    far = float(np.abs(np.array(one) - np.array(other)).max())
    report.add("decoding", "scores of the 3 best of 100 sentences", f"differ by up to {far:.1e}",
               "at most 1e-3", far < 1e-3)  # fmt: skip
    drawn = [
        ours.with_settings(temperature=0.7, seed=s).translate(sentences[:200]) for s in (1, 1, 2)
    ]
    likeliest = ours.with_settings(temperature=0.7, top_k=1).translate(sentences[:200])
    same = likeliest == ours.with_settings(beam=1).translate(sentences[:200])
    report.add("decoding", "sampling: same seed, other seed, one word to choose from",
               f"{drawn[0] == drawn[1]}, {drawn[0] == drawn[2]}, {same}", "True, False, True",
               drawn[0] == drawn[1] and drawn[0] != drawn[2] and same)  # fmt: skip
    found = in_slots(ours, sentences, 48)
    wanted = ours.with_settings(beam=1).translate(sentences)
    same = sum(a == b for a, b in zip(wanted, found, strict=True)) / len(sentences)
    report.add("decoding", "48 slots, sentences that come and go", f"{same:.2%} the same",
               "at least 99.5 %", same >= 0.995)  # fmt: skip
