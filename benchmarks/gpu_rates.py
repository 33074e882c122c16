"""How fast a GPU is at what it does: the parts of `benchmarks.gpu` that measure, with floors."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice, product
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_report import (
    DEVICE,
    GPU,
    NO_SIGNALS,
    Report,
    config_of,
    far_from,
    in_slots,
    seconds_of,
    training_of,
)
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.corpus.batches import Batches
from s2s.decoding.translator import Translator
from s2s.model.loss import cross_entropy
from s2s.text.vocabulary import PAD
from s2s.training.checkpoints import Checkpoints
from s2s.training.device_batches import DeviceCorpus
from s2s.training.loop import Training
from s2s.training.step import GpuStepper, PendingStep


def ceilings(report: Report) -> None:
    """What the card does of one thing alone: the unit of the floors."""
    size, amount = (8192, 1 << 30) if GPU else (512, 1 << 24)
    for name, dtype, tf32 in (("bf16", torch.bfloat16, True), ("tf32", torch.float32, True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        one, other = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        seconds = seconds_of(lambda a=one, b=other: a @ b, 10)  # type: ignore[misc]
        report.ceilings[name] = 2 * size**3 / seconds
    source, sink = (torch.empty(amount, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    report.ceilings["bytes"] = 2 * amount / seconds_of(lambda: sink.copy_(source), 10)
    report.numbers["ceilings"] = report.ceilings
    report.add("ceilings", "bf16, TF32, memory", f"{report.ceilings['bf16'] / 1e12:.0f} and "
               f"{report.ceilings['tf32'] / 1e12:.0f} TFLOP/s, "
               f"{report.ceilings['bytes'] / 1e12:.2f} TB/s")  # fmt: skip


def kernels(report: Report) -> None:
    """Each of our kernels against its plain counterpart: the numbers, and the time."""
    if not GPU:
        report.add("kernels", "all", "not on a CPU")
        return
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        _kernels(report)


def _kernels(report: Report) -> None:
    batches = Batches(report.corpus("seed").split("train"), 128)
    corpus = DeviceCorpus(DEVICE)
    corpus.cache_tokens(batches)
    right = 0
    steps = list(corpus.global_batches(batches, 1, 0))
    steps = steps[:40] + steps[-1:]
    for step in steps:
        corpus.load_pool(step.pool)
        corpus.select(step.micro_batches[0])
        ours, plain = (
            corpus.batch(step.micro_batches[0].shape),
            corpus._batch_by_torch(step.micro_batches[0].shape),
        )
        right += all(torch.equal(a, b) for a, b in zip(  # type: ignore[arg-type]
            (ours.source, ours.source_lengths, ours.target_in, ours.target_out,
             ours.target_positions),
            (plain.source, plain.source_lengths, plain.target_in, plain.target_out,
             plain.target_positions), strict=True))  # fmt: skip
    shape = steps[0].micro_batches[0].shape
    ratio = recorded_ratio(lambda: corpus._batch_by_torch(shape), lambda: corpus.batch(shape))
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
        far = max(far_from([a], [b]) for a, b in zip(ours(), exact, strict=True))
        limit = 2e-5 if dtype == torch.float32 else 2e-2
        ratio = recorded_ratio(plain, ours)
        name = str(dtype).removeprefix("torch.")
        flop = 6 * rows * words * width
        seconds = recorded_seconds(ours)
        report.add("kernels", f"loss, {rows:,} tokens, {words:,} words, {width} features, {name}",
                   f"off by {far:.1e}, {ratio}, {flop / seconds / 1e12:.0f} TFLOP/s",
                   f"at most {limit:.0e}", far < limit)  # fmt: skip


def recorded_ratio(plain: Callable[[], object], ours: Callable[[], object]) -> str:
    """How long two ways take as CUDA graphs, and the ratio."""
    theirs, mine = recorded_seconds(plain), recorded_seconds(ours)
    return f"{theirs * 1e6:.0f} us plain, {mine * 1e6:.0f} ours, ratio {theirs / mine:.2f}"


def recorded_seconds(work: Callable[[], object]) -> float:
    """Seconds of a replay; not on the default stream."""
    work()
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        work()
    return seconds_of(graph.replay, 20)


class _Often:
    """A corpus whose training part is read some times over, so that an epoch is long."""

    def __init__(self, corpus: Corpus, times: int) -> None:
        self._corpus = corpus
        train = corpus.split("train").select_columns(["source_ids", "target_ids"])
        self._train = datasets.concatenate_datasets([train] * times)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._corpus, name)

    def split(self, name: str) -> Any:
        return self._train if name == "train" else self._corpus.split(name)


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
        config = config_of(preset, batch_size=batch, epochs=4, log_steps=500)
        rates: dict[bool, float] = {}
        for recorded in (True, False):
            many = _Often(corpus, times) if GPU and recorded else corpus
            with training_of(many, config) as training:  # type: ignore[arg-type]
                if not recorded and isinstance(training.stepper, GpuStepper):
                    training.stepper._graphs = None
                if recorded:
                    _rate(training, 1)
                    epochs = [_rate(training, number) for number in (2, 3, 4)]
                    rates[True] = statistics.median(rate for rate, _ in epochs)
                    busy = statistics.median(spent for _, spent in epochs)
                    stepper = training.stepper
                    steps = stepper.global_batches(training.batches, 1, 0) if GPU else ()
                    shapes = [share.shape for step in steps for share in step.micro_batches]  # type: ignore[attr-defined]
                    weights = sum(w.numel() for w in training.model.named_weights().values())
                    count = len(getattr(stepper, "_graphs", None) or [])
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
                   None if least is None or not GPU else rates[True] >= least)  # fmt: skip


def _rate(training: Training, epoch: int, most: int = 10**9) -> tuple[float, float]:
    """Pairs per second of an epoch, from the first batch fetched to the last step done.

    Also the seconds of a step that the CPU was busy with it.
    """
    stepper, pairs, count, busy = training.stepper, 0, 0, 0.0
    pending: list[PendingStep] = []
    steps = stepper.global_batches(training.batches, epoch, 0)
    begin = time.perf_counter()
    for number, step in enumerate(islice(steps, most if GPU else 5), start=1):
        asked = time.perf_counter()
        pending.append(stepper.step(step, number, 1e-3, NO_SIGNALS))
        busy += time.perf_counter() - asked
        pairs, count = pairs + len(step.rows), count + 1
        if len(pending) > stepper.lag:
            pending.pop(0).read()
    for step in pending:
        step.read()
    return pairs / (time.perf_counter() - begin), busy / count


def _profile(report: Report, training: Training, name: str) -> float:
    """Write what the kernels of a step take, summed over some steps; returns milliseconds."""
    stepper = training.stepper
    steps = list(islice(stepper.global_batches(training.batches, 1, 0), 40))
    for number, step in enumerate(steps[:20], start=1):
        stepper.step(step, number, 1e-3, NO_SIGNALS).read()
    with torch.profiler.profile() as profiler:
        for number, step in enumerate(steps[20:], start=1):
            stepper.step(step, number, 1e-3, NO_SIGNALS).read()
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
            found = [recorded_seconds(_lstm(width, rows, dtype)) * 1e6 for dtype in dtypes]
            lines.append([width, rows, *found])
            print("   LSTM {} wide, {} rows, 12 words: {:.0f} us TF32, {:.0f} bf16, {:.0f} fp16"
                  .format(*lines[-1]), flush=True)  # fmt: skip
        report.numbers["recurrent"] = lines
        ways = [_lstm(64, 128, torch.float32, packed=packed) for packed in (True, False)]
        packed, padded = (seconds_of(way, 20) * 1e6 for way in ways)
        replayed = recorded_seconds(ways[1]) * 1e6
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
        config = config_of("multi30k", None if GPU else {"hidden_size": 16, "embedding_size": 16},
                         epochs=5 if GPU else 1, batch_size=128)  # fmt: skip
        if not GPU:
            config.train.__dict__["batch_size"] = 4096
        begin = time.perf_counter()
        metrics = Training(corpus, config, DEVICE, checkpoints, Path(folder)).run().metrics
        spent = time.perf_counter() - begin
        with checkpoints.open(checkpoints.best(1)[0]) as best:
            shutil.copytree(best, model, dirs_exist_ok=True)
    report.add("translating", f"multi30k trained for {config.train.epochs} epochs in {spent:.0f} s",
               f"token accuracy {metrics.best.valid_token_accuracy:.4f}")  # fmt: skip
    test = corpus.split("test")["source"][:]
    for precision in ("bf16", "fp32"):
        translator = Translator.load(model, DEVICE).with_settings(precision=precision)
        for beam in (1, 5):
            for batch in (1, 64, 1024) if GPU else (64,):
                sentences = test[: 40 if batch == 1 else len(test)]
                ours = translator.with_settings(beam=beam, batch_size=batch)
                made = ours.translate(sentences)
                seconds = seconds_of(lambda o=ours, s=sentences: o.translate(s), 1)  # type: ignore[misc]
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
            greedy = translator.with_settings(beam=1)
            in_slots(greedy, test, slots)
            seconds = seconds_of(lambda g=greedy, n=slots: in_slots(g, test, n), 1)  # type: ignore[misc]
            report.add("translating", f"{precision}, {slots} slots",
                       f"{len(test) / seconds:,.0f} sentences/s")  # fmt: skip


def _left(report: Report, translator: Translator, sentences: list[str], seconds: float) -> str:
    """Where the time of a batch goes: the card's share, its floor, and the CPU's parts."""
    ids = translator._directory.source.encode(sentences)
    cutting = seconds_of(lambda: translator.split(sentences), 1)
    decoding = seconds_of(lambda: translator._search(ids, lambda rows: None, details=False), 1)
    found = [h[0] for h in translator._search(ids, lambda rows: None, details=False)]
    writing = seconds_of(lambda: [translator.detokenise(s, h.ids, h.alignment) for s, h in
                                zip(sentences, found, strict=True)], 1)  # fmt: skip
    model = translator.model
    config = translator.config.model
    words = sum(len(h.ids) + 1 for h in found)
    width, hidden = config.embedding_size, config.hidden_size
    each = 2 * (width * len(model.decoder.output.weight) + 4 * hidden * (width + hidden)
                + 3 * hidden * hidden)  # fmt: skip
    floor = words * each / report.ceilings["bf16"]
    steps = max(len(h.ids) + 1 for h in found)
    weights = sum(w.numel() for w in model.named_weights().values()) * 4
    bytes_ = steps * weights / report.ceilings["bytes"]
    floor = max(floor, bytes_) * 1e3
    return (
        f"; {seconds * 1e3:.1f} ms = cutting {cutting * 1e3:.1f}, decoding {decoding * 1e3:.1f} "
        f"(floor {floor:.2f}: {steps} steps), writing {writing * 1e3:.1f}"
    )
