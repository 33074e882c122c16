"""Every path that a GPU takes, checked and timed on one card, in one run of at most six minutes.

    s2s prepare seed --source fra-eng.zip --languages en-fr --out corpora/seed
    s2s prepare multi30k … --out corpora/multi30k          # as in docs/translation.md
    s2s prepare demo --source demo --out corpora/demo
    python -m benchmarks.gpu --data corpora --out build/gpu

The first half needs no Ray: numbers against float64 on the CPU, data-parallel workers, decoding,
checkpoints; then rates, each beside its floor: the arithmetic and the bytes that it cannot do
without, by what the card was measured to do. The second half runs where Ray is installed. A part
that fails is told, and the others go on. The table comes last; `report.json` and the profiler's
breakdown of a step are in the folder of `--out`. Without a GPU the same parts run on the CPU, to
see that the script is whole: no figure of such a run means anything.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from s2s.batches import Batches
from s2s.bundle import Bundle
from s2s.card import Card
from s2s.checkpoints import Checkpoints
from s2s.config import PRESETS, Config
from s2s.corpus import Corpus
from s2s.errors import Failed
from s2s.host import Alone, Wish
from s2s.loop import Training
from s2s.loss import cross_entropy
from s2s.slots import Slots
from s2s.step import OnCard, Reading
from s2s.text import PAD
from s2s.translator import Translator

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
CPU = torch.device("cpu")
NO = (False, False, False)  # what a worker wishes


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    part: str
    what: str
    found: str
    wanted: str = ""
    right: bool | None = None  # None where there is nothing to reach


@dataclass
class Report:
    """What was found, and where it is written."""

    data: Path
    out: Path
    rows: list[Row] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)  # FLOP/s and bytes/s, by name

    def add(
        self, part: str, what: str, found: str, wanted: str = "", right: bool | None = None
    ) -> None:
        """Add a line, and print it at once."""
        row = Row(part, what, found, wanted, right)
        self.rows.append(row)
        print(f"   {_mark(row)} {part}: {what}: {found} {wanted and f'({wanted})'}", flush=True)

    def corpus(self, name: str) -> Corpus:
        """An opened corpus of the folder of data."""
        return Corpus.open(self.data / name)

    def save(self) -> None:
        """Write `report.json`."""
        told = {
            "card": torch.cuda.get_device_name() if GPU else "none",
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
            },
            "command": " ".join(sys.argv),
            "rows": [asdict(row) for row in self.rows],
            "numbers": self.numbers,
        }
        (self.out / "report.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def main() -> None:
    """Run all parts, or some, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of seed, multi30k, demo")
    parser.add_argument("--out", type=Path, required=True, help="folder for report and profiles")
    parser.add_argument("--parts", nargs="+", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # a process of the data-parallel part
    arguments = parser.parse_args()
    if arguments.worker:
        _worker(arguments.data, arguments.out, json.loads(arguments.worker))
        return
    torch.set_num_threads(min(8, os.cpu_count() or 1))
    datasets.disable_progress_bars()
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = Report(arguments.data, arguments.out)
    begin = time.monotonic()
    for name, part in PARTS.items():
        if arguments.parts and name not in arguments.parts:
            continue
        started = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            part(report)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            traceback.print_exc()
            last = str(error).strip().splitlines() or [""]
            report.add(name, "the part", f"failed: {type(error).__name__}: {last[-1][:150]}",
                       right=False)  # fmt: skip
        spent = time.monotonic() - started
        report.numbers.setdefault("seconds", {})[name] = spent
        print(f"   {spent:.1f} s", flush=True)
        report.save()
    print(f"\n{torch.cuda.get_device_name() if GPU else 'no GPU'}, torch {torch.__version__}, "
          f"{time.monotonic() - begin:.0f} s\n")  # fmt: skip
    print("| | part | what | found | wanted |\n| --- | --- | --- | --- | --- |")
    for row in report.rows:
        print(f"| {_mark(row)} | {row.part} | {row.what} | {row.found} | {row.wanted} |")
    failed = sum(row.right is False for row in report.rows)
    print(f"\n{len(report.rows)} rows, {failed} not as wanted")


def _mark(row: Row) -> str:
    return {None: "·", True: "ok", False: "NO"}[row.right]


# ---- what is used by several parts --------------------------------------------------------------


def _config(preset: str, model: dict[str, Any] | None = None, **train: Any) -> Config:
    start = PRESETS[preset]()
    return start.model_copy(
        update={
            "model": start.model.model_copy(update=model or {}),
            "train": start.train.model_copy(update={"checkpoint_minutes": None, **train}),
        }
    )


@contextmanager
def _training(
    corpus: Corpus, config: Config, device: torch.device = DEVICE, **others: Any
) -> Iterator[Training]:
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints", last=99)
        yield Training(corpus, config, device, checkpoints, Path(folder), **others)


def _seconds(work: Callable[[], object], calls: int, rounds: int = 3) -> float:
    """Seconds of a call: the median of rounds, after two calls that warm up."""
    found = []
    for turn in range(rounds + 1):
        if GPU:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(calls if turn else 2):
            work()
        if GPU:
            torch.cuda.synchronize()
        if turn:
            found.append((time.perf_counter() - begin) / calls)
    return statistics.median(found)


def _far(one: list[Tensor], other: list[Tensor]) -> float:
    """How far tensors are from others that are right: the norm of the difference over theirs."""
    mine, right = (torch.cat([part.detach().double().cpu().flatten() for part in parts])
                   for parts in (one, other))  # fmt: skip
    return float((mine - right).norm() / right.norm())


# ---- ceilings -----------------------------------------------------------------------------------


def ceilings(report: Report) -> None:
    """What the card does of one thing alone: the unit of the floors."""
    size, amount = (8192, 1 << 30) if GPU else (512, 1 << 24)
    for name, dtype, tf32 in (("bf16", torch.bfloat16, True), ("tf32", torch.float32, True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        one, other = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        seconds = _seconds(lambda a=one, b=other: a @ b, 10)  # type: ignore[misc]
        report.ceilings[name] = 2 * size**3 / seconds
    source, sink = (torch.empty(amount, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    report.ceilings["bytes"] = 2 * amount / _seconds(lambda: sink.copy_(source), 10)
    report.numbers["ceilings"] = report.ceilings
    report.add("ceilings", "bf16, TF32, memory", f"{report.ceilings['bf16'] / 1e12:.0f} and "
               f"{report.ceilings['tf32'] / 1e12:.0f} TFLOP/s, "
               f"{report.ceilings['bytes'] / 1e12:.2f} TB/s")  # fmt: skip


# ---- kernels ------------------------------------------------------------------------------------


def kernels(report: Report) -> None:
    """Each of our kernels against its plain counterpart: the numbers, and the time."""
    if not GPU:
        report.add("kernels", "all", "not on a CPU")
        return
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        _kernels(report)


def _kernels(report: Report) -> None:
    batches = Batches(report.corpus("seed").part("train"), 128)
    card = Card(DEVICE)
    card.hold(batches)
    right = 0
    steps = list(islice(card.steps(batches, 1, 0), 40)) + list(card.steps(batches, 1, 0))[-1:]
    for step in steps:
        card.load(step.pool)
        card.point(step.shares[0])
        ours, plain = card.batch(step.shares[0].shape), card._batch(step.shares[0].shape)
        right += all(torch.equal(a, b) for a, b in zip(  # type: ignore[arg-type]
            (ours.source, ours.source_lengths, ours.target_in, ours.target_out, ours.predicted),
            (plain.source, plain.source_lengths, plain.target_in, plain.target_out,
             plain.predicted), strict=True))  # fmt: skip
    shape = steps[0].shares[0].shape
    ratio = _recorded_ratio(lambda: card._batch(shape), lambda: card.batch(shape))
    report.add("kernels", f"{len(steps)} batches put together", f"{right} the same, {ratio}",
               "all", right == len(steps))  # fmt: skip

    for rows, words, width, dtype in ((700, 50, 64, torch.float32), (1000, 8087, 64, torch.float32),
                                      (1000, 8087, 64, torch.bfloat16),
                                      (15_000, 12_161, 256, torch.bfloat16),
                                      (300, 70_001, 64, torch.float32)):  # fmt: skip
        torch.backends.cuda.matmul.allow_tf32 = False
        hidden, weight, bias = (torch.randn(*size, device=DEVICE) / 4
                                for size in ((rows, width), (words, width), (words,)))  # fmt: skip
        targets = torch.randint(1, words, (rows,), device=DEVICE)
        targets[::7] = PAD
        parts = [part.requires_grad_() for part in (hidden, weight, bias)]

        def ours(parts: list[Tensor] = parts, targets: Tensor = targets) -> list[Tensor]:
            with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):  # noqa: B023
                loss = cross_entropy(parts[0], parts[1], parts[2], targets, 0.1, PAD)
            return [loss, *torch.autograd.grad(loss, parts)]

        def plain(parts: list[Tensor] = parts, targets: Tensor = targets) -> list[Tensor]:
            with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):  # noqa: B023
                logits = F.linear(*parts)
                logits = logits if logits.dtype == torch.float64 else logits.float()
                loss = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1,
                                       ignore_index=PAD)  # fmt: skip
            return [loss, *torch.autograd.grad(loss, parts)]

        exact = plain([part.detach().double().requires_grad_() for part in parts], targets) \
            if rows < 2000 and dtype == torch.float32 else plain()  # fmt: skip
        far = max(_far([a], [b]) for a, b in zip(ours(), exact, strict=True))
        limit = 2e-5 if dtype == torch.float32 else 2e-2
        ratio = _recorded_ratio(plain, ours)
        name = str(dtype).removeprefix("torch.")
        flop = 6 * rows * words * width
        seconds = _recorded_seconds(ours)
        report.add("kernels", f"loss, {rows:,} tokens, {words:,} words, {width} features, {name}",
                   f"off by {far:.1e}, {ratio}, {flop / seconds / 1e12:.0f} TFLOP/s",
                   f"at most {limit:.0e}", far < limit)  # fmt: skip


def _recorded_ratio(plain: Callable[[], object], ours: Callable[[], object]) -> str:
    """How long two ways take as CUDA graphs, and the ratio."""
    theirs, mine = _recorded_seconds(plain), _recorded_seconds(ours)
    return f"{theirs * 1e6:.0f} us plain, {mine * 1e6:.0f} ours, ratio {theirs / mine:.2f}"


def _recorded_seconds(work: Callable[[], object]) -> float:
    """Seconds of a replay; not on the default stream."""
    work()
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        work()
    return _seconds(graph.replay, 20)


# ---- numbers ------------------------------------------------------------------------------------

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
        right, losses = _exact(corpus, _config("seed", model, precision="fp32", **options))
        for precision in many:
            config = _config("seed", model, precision=precision, clip_norm=1e9, **options)
            with _training(corpus, config) as training:
                steps = list(islice(training._stepper.steps(training._train, 1, 0), STEPS))
                found: list[float] = []
                gradients: list[Tensor] = []
                # The same steps twice, so that shapes come again and are replayed.
                for number, step in enumerate(steps * 3, start=1):
                    told = training._stepper.take(step, number, 1e-3, NO)
                    found.append(told.read().loss / step.tokens)
                    if number == 1:
                        gradients = [p.grad.clone() for p in training._model.parameters()]  # type: ignore[union-attr]
                far = _far(gradients, right)
                drift = max(abs(a - b) / b for a, b in zip(found, losses, strict=True))
                graphs = getattr(training._stepper, "_graphs", None)
                recorded = 0 if graphs is None else len(graphs)
            limit = FAR[precision]
            report.add("numbers", f"{kind}, {precision}",
                       f"gradient off by {far:.1e}, losses of {len(found)} steps by {drift:.1e}, "
                       f"{recorded} graphs", f"at most {limit:.0e} each",
                       far < limit and drift < limit)  # fmt: skip


def _exact(corpus: Corpus, config: Config) -> tuple[list[Tensor], list[float]]:
    """The first gradient and all losses of the same steps in float64, the plain way."""
    with _training(corpus, config, CPU) as training:
        model = training._model.double()
        reads = model.encoder.recurrent
        if config.model.cell != "rnn":
            reads.read = reads._read_padded  # type: ignore[method-assign]
        else:
            reads.read = lambda inputs, lengths: reads._read(  # type: ignore[method-assign]
                torch.nn.utils.rnn.pack_padded_sequence(inputs, lengths, True, False)
            )
        adam = torch.optim.Adam(model.parameters(), 1e-3)
        smoothing = config.train.label_smoothing
        losses: list[float] = []
        first: list[Tensor] = []
        steps = list(islice(training._train.epoch(1), STEPS))
        for step in steps * 3:
            [batch] = step.shares
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
            with _training(corpus, _config("seed", model, clip_norm=1.0)) as training:
                if not recorded and isinstance(training._stepper, OnCard):
                    training._stepper._graphs = None
                for number, step in enumerate(
                    islice(training._stepper.steps(training._train, 1, 0), 60), start=1
                ):
                    training._stepper.take(step, number, 1e-3, NO).read()
                found.append(list(training._model.weights().values()))
        far = _far(*found)
        same = all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        report.add("graphs", f"{kind}, 60 steps replayed against started",
                   "the same to the bit" if same else f"weights differ by {far:.1e}",
                   "at most 1e-3", far < 1e-3)  # fmt: skip


class _Stop(Alone):
    """Asks to stop before a step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def wish(self) -> Wish:
        self.left -= 1
        return Wish(stop=self.left == 0)


def resumption(report: Report) -> None:
    """A run that is stopped and goes on; one that changes between card and CPU."""
    corpus = report.corpus("demo")
    model = {"dropout": 0.2, "attention": "general"}
    epochs = 2 if GPU else 1

    def run(folder: Path, device: torch.device, last: int, host: Alone | None = None,
            precision: str = "auto") -> dict[str, Tensor]:  # fmt: skip
        config = _config("demo", {**model, "hidden_size": 64}, epochs=last, precision=precision)
        checkpoints = Checkpoints(folder / "checkpoints", last=99)
        training = Training(corpus, config, device, checkpoints, folder, host=host)
        training.run()
        return {name: weight.cpu().clone() for name, weight in training._model.weights().items()}

    with tempfile.TemporaryDirectory() as place:
        whole = run(Path(place, "whole"), DEVICE, epochs)
        run(Path(place, "cut"), DEVICE, epochs, _Stop(50))
        rest = run(Path(place, "cut"), DEVICE, epochs)
        far = _far(list(rest.values()), list(whole.values()))
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
                both.append(list(Bundle.load(path).model.weights().values()))
        for name, found in zip(("card to CPU", "CPU to card"), both, strict=False):
            far = _far(found, both[2])
            report.add("resumption", f"{name}, 60 steps with dropout's own streams",
                       f"off by {far:.1e} of the CPU's", "at most 1e-1", far < 0.1)  # fmt: skip


@contextmanager
def _training_in(folder: Path) -> Iterator[Path]:
    checkpoints = Checkpoints(folder / "checkpoints", last=99)
    [*_, newest] = checkpoints.all()
    with checkpoints.open(newest) as path:
        yield path


def memory(report: Report) -> None:
    """Out of memory is told in a line."""
    if not GPU:
        report.add("memory", "out of memory", "not on a CPU")
        return
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.03)
    try:
        config = _config("seed", {"hidden_size": 512}, batch_size=20_000, epochs=1)
        with _training(report.corpus("seed"), config) as training:
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
    port = _free_port()
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
        off = _far(found[precision], alone[precision])
        report.add("workers", f"2 over gloo, {precision}, 20 steps against one alone",
                   f"weights differ by {off:.1e}", f"at most {far:.0e}", off < far)  # fmt: skip
    if not GPU:
        return
    meet = f"tcp://127.0.0.1:{_free_port()}"
    dist.init_process_group("nccl", init_method=meet, rank=0, world_size=1)
    try:
        off = _far(_steps(report.data, "fp32"), alone["fp32"])
    finally:
        dist.destroy_process_group()
    report.add("workers", "1 over nccl, fp32, 20 steps against one alone",
               f"weights differ by {off:.1e}", "at most 2e-04", off < 2e-4)  # fmt: skip


def _worker(data: Path, out: Path, told: dict[str, int]) -> None:
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
    config = _config("seed", model, precision=precision, clip_norm=1.0)
    with _training(Corpus.open(data / "seed"), config) as training:
        for number, step in enumerate(
            islice(training._stepper.steps(training._train, 1, 0), 20), start=1
        ):
            training._stepper.take(step, number, 1e-3, NO).read()
        return [weight.cpu() for weight in training._model.weights().values()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# ---- a trained seed, and decoding ---------------------------------------------------------------


def seed(report: Report) -> None:
    """The tutorial's run, to the CPU's accuracy."""
    corpus = report.corpus("seed")
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints", last=99)
        config = _config("seed", epochs=10 if GPU else 1)
        begin = time.perf_counter()
        told = Training(corpus, config, DEVICE, checkpoints, Path(folder)).run()
        spent = time.perf_counter() - begin
        with checkpoints.open(checkpoints.best(1)[0]) as best:
            shutil.copytree(best, report.out / "seed", dirs_exist_ok=True)
    last = told["epochs"][-1]
    accuracy = last["valid_padded_accuracy"]
    report.numbers["seed"] = told["epochs"]
    rate = statistics.median(epoch["pairs_per_second"] for epoch in told["epochs"])
    report.add("seed", f"{len(told['epochs'])} epochs in {spent:.1f} s, validation and checkpoints "
               f"included, {rate:,.0f} pairs/s in the median one",
               f"padded accuracy {accuracy:.4f}, token accuracy "
               f"{last['valid_token_accuracy']:.4f}", "0.8282 on CPUs; at least 0.826",
               accuracy >= 0.826)  # fmt: skip


def decoding(report: Report) -> None:
    """Translations of the card against the CPU's."""
    path = report.out / "seed"
    rows = report.corpus("seed").part("valid")["source"][:]
    sentences = list(dict.fromkeys(rows))[: 1000 if GPU else 100]
    theirs, ours = Translator.load(path), Translator.load(path, DEVICE)
    ways: dict[str, dict[str, Any]] = {
        "greedy": {},
        "greedy, limits of length": {"min_ratio": 1.2, "max_ratio": 2.0},
        "beam 5": {"beam": 5},
        "beam 5, n-best 3": {"beam": 5, "n_best": 3},
    }
    for name, how in ways.items():
        one, other = (t.using(batch_size=256, **how) for t in (theirs, ours))
        wanted = one.translate(sentences)
        for _ in range(3):  # started, recorded, replayed
            found = other.translate(sentences)
        same = sum(a == b for a, b in zip(wanted, found, strict=True)) / len(sentences)
        report.add("decoding", f"{name}, {len(sentences):,} sentences against the CPU's",
                   f"{same:.2%} the same", "at least 99.5 %", same >= 0.995)  # fmt: skip
    one, other = (
        [[t.score for t in told] for told in translator.using(beam=5, n_best=3).hypotheses(
            sentences[:100])] for translator in (theirs, ours)
    )  # fmt: skip
    far = float(np.abs(np.array(one) - np.array(other)).max())
    report.add("decoding", "scores of the 3 best of 100 sentences", f"differ by up to {far:.1e}",
               "at most 1e-3", far < 1e-3)  # fmt: skip
    drawn = [ours.using(temperature=0.7, seed=s).translate(sentences[:200]) for s in (1, 1, 2)]
    likeliest = ours.using(temperature=0.7, top_k=1).translate(sentences[:200])
    same = likeliest == ours.using(beam=1).translate(sentences[:200])
    report.add("decoding", "sampling: same seed, other seed, one word to choose from",
               f"{drawn[0] == drawn[1]}, {drawn[0] == drawn[2]}, {same}", "True, False, True",
               drawn[0] == drawn[1] and drawn[0] != drawn[2] and same)  # fmt: skip
    found = _in_slots(ours, sentences, 48)
    wanted = ours.using(beam=1).translate(sentences)
    same = sum(a == b for a, b in zip(wanted, found, strict=True)) / len(sentences)
    report.add("decoding", "48 slots, sentences that come and go", f"{same:.2%} the same",
               "at least 99.5 %", same >= 0.995)  # fmt: skip


def _in_slots(translator: Translator, sentences: list[str], size: int) -> list[str]:
    """The translations of sentences that enter slots as others leave."""
    slots: Slots[int] = Slots(translator.model, translator.config.decode, size, translator.device)
    waiting = [(n, piece) for n, [piece] in enumerate(translator.cut(sentences))][::-1]
    pieces = dict(waiting)
    made = [""] * len(sentences)
    while waiting or len(slots):
        if slots.free > size // 4 and waiting:
            entering = [waiting.pop() for _ in range(min(slots.free, len(waiting)))]
            slots.enter([piece.ids for _, piece in entering], [n for n, _ in entering])
        for slot in slots.step():
            piece = pieces[slot.owner]
            made[slot.owner] = translator.written(piece.sentence, slot.words, slot.looked)
    return made


# ---- rates --------------------------------------------------------------------------------------


class _Often:
    """A corpus whose training part is read some times over, so that an epoch is long."""

    def __init__(self, corpus: Corpus, times: int) -> None:
        self._corpus = corpus
        train = corpus.part("train").select_columns(["source_ids", "target_ids"])
        self._train = datasets.concatenate_datasets([train] * times)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._corpus, name)

    def part(self, name: str) -> Any:
        return self._train if name == "train" else self._corpus.part(name)


def _floor(
    report: Report, config: Config, shapes: list[tuple[int, int, int, int]], vocabulary: int,
    weights: int,
) -> tuple[float, float]:  # fmt: skip
    """Seconds that a step takes at least, and those of its output layer alone.

    Arithmetic by 6 FLOP for each weight of a product and row that it meets (2 forward, 4 backward),
    bytes by one writing and reading of the logits and their gradient, and Adam's seven passes.
    """
    model = config.model
    embedding, hidden, layers = model.embedding_size, model.hidden_size, model.layers
    recurrent = 4 * hidden * (embedding + hidden) + (layers - 1) * 8 * hidden * hidden
    width = embedding if model.tie != "none" else hidden
    output, rest, moved = 0.0, 0.0, 0.0
    for sentences, source, target, real in shapes:
        output += 6 * real * width * vocabulary
        rest += 6 * sentences * (source + target) * recurrent
        if model.attention != "none":
            rest += 6 * sentences * target * (2 * hidden * width + 2 * source * hidden)
            rest += 6 * sentences * source * hidden * hidden
        moved += 4 * 2 * real * vocabulary + 7 * 4 * weights
    steps, rate = len(shapes), report.ceilings["bf16"]
    arithmetic, bytes_ = (output + rest) / rate / steps, moved / report.ceilings["bytes"] / steps
    return max(arithmetic, bytes_), output / rate / steps


def speed(report: Report) -> None:
    """Pairs per second of training: seed and base, replayed and started kernel by kernel."""
    seed_corpus, large = report.corpus("seed"), report.corpus("multi30k")
    cases = [
        ("seed", seed_corpus, 128, 10, "at least 150,000; 300,000"),
        ("seed", seed_corpus, 512, 20, ""),
        ("seed", seed_corpus, 4096, 40, "at least 1,000,000; 2,000,000"),
        ("base", large, 128, 4, ""),
        ("base", large, 1024, 6, ""),
    ]
    for preset, corpus, batch, times, wanted in cases if GPU else cases[:1]:
        config = _config(preset, batch_size=batch, epochs=4, log_steps=500)
        rates: dict[bool, float] = {}
        for recorded in (True, False):
            many = _Often(corpus, times) if GPU and recorded else corpus
            with _training(many, config) as training:  # type: ignore[arg-type]
                if not recorded and isinstance(training._stepper, OnCard):
                    training._stepper._graphs = None
                if recorded:
                    _rate(training, 1)
                    epochs = [_rate(training, number) for number in (2, 3, 4)]
                    rates[True] = statistics.median(rate for rate, _ in epochs)
                    busy = statistics.median(spent for _, spent in epochs)
                    steps = training._stepper.steps(training._train, 1, 0) if GPU else ()
                    shapes = [share.shape for step in steps for share in step.shares]  # type: ignore[attr-defined]
                    weights = sum(w.numel() for w in training._model.weights().values())
                    count = len(getattr(training._stepper, "_graphs", None) or [])
                    if GPU:
                        card = _profile(report, training, f"{preset}-{batch}")
                else:
                    _rate(training, 1, 20)
                    rates[False], _ = _rate(training, 2, 100)
        ms = batch / rates[True] * 1e3
        told = f"{rates[True]:,.0f} pairs/s, {ms:.3f} ms a step, {count} graphs"
        told += f", the CPU busy for {busy * 1e3:.3f} ms of it"
        if shapes:
            size = len(corpus.target)
            floor, output = _floor(report, config, shapes, size, weights)
            told += (f", kernels for {card:.3f}; floor {floor * 1e3:.3f} ms, of the output layer "
                     f"{output * 1e3:.3f}; kernel by kernel {rates[False]:,.0f} pairs/s, ratio "
                     f"{rates[True] / rates[False]:.2f}")  # fmt: skip
        report.numbers.setdefault("speed", {})[f"{preset}, {batch}"] = {
            "recorded": rates[True], "started": rates[False],
        }  # fmt: skip
        least = {"seed128": 150e3, "seed4096": 1e6}.get(f"{preset}{batch}")
        report.add("speed", f"{preset}, batch {batch}", told, wanted,
                   None if least is None else rates[True] >= least)  # fmt: skip


def _rate(training: Training, epoch: int, most: int = 10**9) -> tuple[float, float]:
    """Pairs per second of an epoch, from the first batch fetched to the last step done.

    Also the seconds of a step that the CPU was busy with it.
    """
    stepper, pairs, count, busy = training._stepper, 0, 0, 0.0
    taken: list[Reading] = []
    steps = stepper.steps(training._train, epoch, 0)
    begin = time.perf_counter()
    for number, step in enumerate(islice(steps, most if GPU else 5), start=1):
        asked = time.perf_counter()
        taken.append(stepper.take(step, number, 1e-3, NO))
        busy += time.perf_counter() - asked
        pairs, count = pairs + len(step.rows), count + 1
        if len(taken) > stepper.lag:
            taken.pop(0).read()
    for reading in taken:
        reading.read()
    return pairs / (time.perf_counter() - begin), busy / count


def _profile(report: Report, training: Training, name: str) -> float:
    """Write what the kernels of a step take, summed over some steps; returns milliseconds."""
    stepper = training._stepper
    steps = list(islice(stepper.steps(training._train, 1, 0), 40))
    for number, step in enumerate(steps[:20], start=1):
        stepper.take(step, number, 1e-3, NO).read()
    with torch.profiler.profile() as profiler:
        for number, step in enumerate(steps[20:], start=1):
            stepper.take(step, number, 1e-3, NO).read()
    events = profiler.key_averages()
    kernels = [event for event in events if event.self_device_time_total > 0
               and event.device_type == torch.autograd.DeviceType.CUDA]  # fmt: skip
    kernels.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in kernels) / 20
    count = sum(event.count for event in kernels) / 20
    lines = [f"{name}: {total:.0f} us in {count:.0f} kernels a step"]
    for event in kernels[:40]:
        spent = event.self_device_time_total / 20
        lines.append(f"{spent:9.1f} us {event.count / 20:6.1f} x {event.key[:120]}")
    lines.append("on the CPU:")
    for event in sorted(events, key=lambda event: -event.self_cpu_time_total)[:12]:
        spent = event.self_cpu_time_total / 20
        lines.append(f"{spent:9.1f} us {event.count / 20:6.1f} x {event.key[:80]}")
    with (report.out / "profile.txt").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n\n")
    return total / 1e3


def recurrent(report: Report) -> None:
    """Forward and backward pass of an LSTM by cuDNN: packed and padded, and by dtype."""
    if not GPU:
        return
    torch.backends.cudnn.allow_tf32 = True
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    lines = []
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        for width, rows in product((64, 128, 256, 512), (128, 512, 1024, 4096)):
            found = [_recorded_seconds(_lstm(width, rows, dtype)) * 1e6 for dtype in dtypes]
            lines.append([width, rows, *found])
            print("   LSTM {} wide, {} rows, 12 words: {:.0f} us TF32, {:.0f} bf16, {:.0f} fp16"
                  .format(*lines[-1]), flush=True)  # fmt: skip
        report.numbers["recurrent"] = lines
        ways = [_lstm(64, 128, torch.float32, packed=packed) for packed in (True, False)]
        packed, padded = (_seconds(way, 20) * 1e6 for way in ways)
        replayed = _recorded_seconds(ways[1]) * 1e6
    report.add("recurrent", "LSTM 64 wide, 128 rows of up to 12 words, TF32",
               f"packed {packed:.0f} us, padded {padded:.0f}, replayed {replayed:.0f}")  # fmt: skip


def _lstm(width: int, rows: int, dtype: torch.dtype, *, packed: bool = False) -> Callable[[], None]:
    """A forward and backward pass."""
    layer = torch.nn.LSTM(width, width, batch_first=True).to(DEVICE, dtype)
    inputs = torch.randn(rows, 12, width, device=DEVICE, dtype=dtype, requires_grad=True)
    lengths = torch.randint(4, 13, (rows,))

    def work() -> None:
        layer.zero_grad()
        inputs.grad = None
        if packed:
            read = torch.nn.utils.rnn.pack_padded_sequence(inputs, lengths, True, False)
            layer(read)[0].data.sum().backward()
        else:
            layer(inputs)[0].sum().backward()

    return work


def translating(report: Report) -> None:
    """Sentences and words per second, greedy and with a beam, and of slots."""
    corpus = report.corpus("multi30k")
    model = report.out / "multi30k"
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints")
        config = _config("multi30k", None if GPU else {"hidden_size": 16, "embedding_size": 16},
                         epochs=5 if GPU else 1, batch_size=128)  # fmt: skip
        if not GPU:
            config.train.__dict__["batch_size"] = 4096
        begin = time.perf_counter()
        told = Training(corpus, config, DEVICE, checkpoints, Path(folder)).run()
        spent = time.perf_counter() - begin
        with checkpoints.open(checkpoints.best(1)[0]) as best:
            shutil.copytree(best, model, dirs_exist_ok=True)
    report.add("translating", f"multi30k trained for {config.train.epochs} epochs in {spent:.0f} s",
               f"token accuracy {told['best']['valid_token_accuracy']:.4f}")  # fmt: skip
    test = corpus.part("test")["source"][:]
    for precision in ("bf16", "fp32"):
        translator = Translator.load(model, DEVICE).using(precision=precision)
        for beam in (1, 5):
            for batch in (1, 64, 1024) if GPU else (64,):
                sentences = test[: 40 if batch == 1 else len(test)]
                ours = translator.using(beam=beam, batch_size=batch)
                made = ours.translate(sentences)
                seconds = _seconds(lambda o=ours, s=sentences: o.translate(s), 1)  # type: ignore[misc]
                words = sum(len(text.split()) for text in made)
                found = (
                    f"{len(sentences) / seconds:,.0f} sentences/s, {words / seconds:,.0f} words/s"
                )
                if batch == 1024 and beam == 1:
                    found += _left(report, ours, sentences, seconds)
                report.numbers.setdefault("translating", {})[f"{precision}, {beam}, {batch}"] = (
                    len(sentences) / seconds
                )
                name = f"{precision}, {'greedy' if beam == 1 else 'beam 5'}, batch {batch}"
                report.add("translating", name, found)
                if not GPU:
                    return
        for slots in (64, 256):
            greedy = translator.using(beam=1)
            _in_slots(greedy, test, slots)
            seconds = _seconds(lambda g=greedy, n=slots: _in_slots(g, test, n), 1)  # type: ignore[misc]
            report.add("translating", f"{precision}, {slots} slots",
                       f"{len(test) / seconds:,.0f} sentences/s")  # fmt: skip


def _left(report: Report, translator: Translator, sentences: list[str], seconds: float) -> str:
    """Where the time of a batch goes: the card's share, its floor, and the CPU's parts."""
    ids = translator._bundle.source.encode(sentences)
    cutting = _seconds(lambda: translator.cut(sentences), 1)
    decoding = _seconds(lambda: translator._decoded(ids, lambda rows: None, details=False), 1)
    found = [h[0] for h in translator._decoded(ids, lambda rows: None, details=False)]
    writing = _seconds(lambda: [translator.written(s, h.words, h.looked) for s, h in
                                zip(sentences, found, strict=True)], 1)  # fmt: skip
    model = translator.model
    config = translator.config.model
    words = sum(len(h.words) + 1 for h in found)
    width, hidden = config.embedding_size, config.hidden_size
    each = 2 * (width * len(model.decoder.output.weight) + 4 * hidden * (width + hidden)
                + 3 * hidden * hidden)  # fmt: skip
    floor = words * each / report.ceilings["bf16"]
    steps = max(len(h.words) + 1 for h in found)
    weights = sum(w.numel() for w in model.weights().values()) * 4
    bytes_ = steps * weights / report.ceilings["bytes"]
    floor = max(floor, bytes_) * 1e3
    return (
        f"; {seconds * 1e3:.1f} ms = cutting {cutting * 1e3:.1f}, decoding {decoding * 1e3:.1f} "
        f"(floor {floor:.2f}: {steps} steps), writing {writing * 1e3:.1f}"
    )


# ---- Ray ----------------------------------------------------------------------------------------


def ray_commands(report: Report) -> None:
    """The commands on a local Ray cluster with a GPU: train, tune, serve, bulk translation."""
    if importlib.util.find_spec("ray") is None:
        report.add("ray", "all", "Ray is not installed: left out")
        return
    with tempfile.TemporaryDirectory(prefix="s2s") as place:
        folder = Path(place)
        corpus = str((report.data / "demo").resolve())
        flag = ["--gpu"] if GPU else []
        small = ["--train.epochs", "2", "--model.hidden-size", "64"]
        begin = time.perf_counter()
        _command(report, "train --gpu --workers 1", "train", "demo", "--corpus", corpus,
                 "--out", folder / "model", "--workers", 1, *flag, *small)  # fmt: skip
        if GPU and (folder / "model" / "metrics.json").exists():
            told = json.loads((folder / "model" / "metrics.json").read_bytes())
            rate = told["epochs"][-1]["pairs_per_second"]
            report.add("ray", "what the model says it was trained on",
                       f"{told['device']}, {rate:,.0f} pairs/s in its last epoch", "cuda",
                       told["device"] == "cuda")  # fmt: skip
        share = ["--gpu", "--gpu-share", "0.5"] if GPU else []
        _command(report, "tune --gpu, half a card a trial", "tune", "demo", "--corpus", corpus,
                 "--out", folder / "sweep", "--hidden-sizes", 32, 64, "--embedding-sizes", 32,
                 "--trials", 2, "--train.epochs", 2, *share)  # fmt: skip
        model = folder / "model"
        if not model.exists():
            model = report.out / "seed"
        try:
            _bulk(report, model)
        except Exception as error:
            report.add("ray", "bulk translation", f"{type(error).__name__}: {error}"[:200],
                       right=False)  # fmt: skip
        try:
            _replica(report, model, folder)
        except Exception as error:
            report.add("ray", "a replica", f"{type(error).__name__}: {error}"[:200], right=False)
        report.numbers["ray_seconds"] = time.perf_counter() - begin


def _command(report: Report, name: str, *arguments: object) -> None:
    command = [sys.executable, "-m", "s2s.cli", *map(str, arguments)]
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        code, said = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        code, said = -1, f"{late.stdout!r} {late.stderr!r}"
    spent = time.perf_counter() - begin
    log = report.out / "ray.log"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{said}\n")
    last = (said.strip().splitlines() or [""])[-1]
    told = f"exit {code} in {spent:.0f} s" + ("" if code == 0 else f": {last[:150]}")
    report.add("ray", name, told, "exit 0", code == 0)


class _Bulk:
    """A translator that Ray Data keeps on a part of a GPU."""

    def __init__(self, model: str) -> None:
        self._translator = Translator.load(Path(model), DEVICE)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        texts = list(batch["text"])
        where = [str(self._translator.device)] * len(texts)
        return {"text": self._translator.translate(texts), "where": where}


def _bulk(report: Report, model: Path) -> None:
    import ray
    import ray.data

    ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    try:
        texts = report.corpus("demo").part("test")["source"][:500]
        rows = ray.data.from_items([{"text": text} for text in texts])
        made = rows.map_batches(
            _Bulk, fn_constructor_args=(str(model.resolve()),), batch_size=128, concurrency=1,
            num_gpus=0.5 if GPU else 0,
        ).take_all()  # fmt: skip
        places = {row["where"] for row in made}
        wanted = Translator.load(model).translate(texts)
        same = sum(a["text"] == b for a, b in zip(made, wanted, strict=True)) / len(texts)
        report.add("ray", "bulk translation by an actor of half a GPU",
                   f"{len(made)} texts on {', '.join(places)}, {same:.1%} as on a CPU",
                   "on cuda, at least 99 %", same >= 0.99 and places == {str(DEVICE)})  # fmt: skip
    finally:
        ray.shutdown()


def _replica(report: Report, model: Path, folder: Path) -> None:
    """A Serve replica that has half of the card."""
    import yaml

    port = _free_port()
    options = {"num_cpus": 1, **({"num_gpus": 0.5} if GPU else {})}
    config = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            {
                "name": "s2s",
                "import_path": "serve_app:build",
                "args": {"open": True, "device": DEVICE.type},
                "deployments": [
                    {
                        "name": "Translation",
                        "num_replicas": 1,
                        "ray_actor_options": options,
                        "user_config": {"models": [str(model.resolve())]},
                    }
                ],
            }
        ],
    }
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    log = (report.out / "serve.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", "from ray.serve.scripts import cli; cli()", "run", str(file)],
        stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    try:
        texts = report.corpus("demo").part("test")["source"][:64]
        body = json.dumps({"q": texts, "source": "en", "target": "fr"}).encode()
        end, answer = time.monotonic() + 75, None
        while answer is None:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/translate", body, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                    answer = json.loads(response.read())["translatedText"]
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise
                time.sleep(1)
        begin = time.perf_counter()
        for _ in range(20):
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                response.read()
        rate = 20 * len(texts) / (time.perf_counter() - begin)
        wanted = Translator.load(model).using(beam=1).translate(texts)
        same = sum(a == b for a, b in zip(answer, wanted, strict=True)) / len(texts)
        report.add("ray", "a Serve replica with half a GPU, 64 texts a request, one at a time",
                   f"{same:.1%} as on a CPU, {rate:,.0f} texts/s", "at least 99 %",
                   same >= 0.99)  # fmt: skip
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


PARTS: dict[str, Callable[[Report], None]] = {
    "ceilings": ceilings,
    "kernels": kernels,
    "numbers": numbers,
    "graphs": graphs,
    "resumption": resumption,
    "memory": memory,
    "workers": workers,
    "seed": seed,
    "decoding": decoding,
    "speed": speed,
    "recurrent": recurrent,
    "translating": translating,
    "ray": ray_commands,
}


if __name__ == "__main__":
    main()
