"""Speed of a GPU, beside the floors: the parts of `benchmarks.gpu` that measure."""

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
    in_slots,
    relative_error,
    seconds_of,
    training_of,
)
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.corpus.batches import Batches
from s2s.decoding.translator import Translator
from s2s.model.cross_entropy import cross_entropy
from s2s.text.vocabulary import PAD
from s2s.training.checkpoints import Checkpoints
from s2s.training.device_batches import DeviceCorpus
from s2s.training.loop import Training
from s2s.training.step import GpuStepper, PendingStep


def ceilings(report: Report) -> None:
    """Measure the GPU's rates of matrix products and memory copies, from which floors follow."""
    size, amount = (8192, 1 << 30) if GPU else (512, 1 << 24)
    for name, dtype, tf32 in (("bf16", torch.bfloat16, True), ("tf32", torch.float32, True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left, right = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        seconds = seconds_of(lambda a=left, b=right: a @ b, 10)  # type: ignore[misc]
        report.ceilings[name] = 2 * size**3 / seconds
    source, sink = (torch.empty(amount, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    report.ceilings["bytes"] = 2 * amount / seconds_of(lambda: sink.copy_(source), 10)
    report.numbers["ceilings"] = report.ceilings
    report.add("ceilings", "bf16, TF32, memory", f"{report.ceilings['bf16'] / 1e12:.0f} and "
               f"{report.ceilings['tf32'] / 1e12:.0f} TFLOP/s, "
               f"{report.ceilings['bytes'] / 1e12:.2f} TB/s")  # fmt: skip


def kernels(report: Report) -> None:
    """Check each Triton kernel against torch, and time both."""
    if not GPU:
        report.add("kernels", "all", "skipped: no GPU")
        return
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        _collating(report)
        for case in LOSSES:
            _loss(report, *case)


def _collating(report: Report) -> None:
    """Check and time the kernel that collates a batch."""
    batches = Batches(report.corpus("seed").split("train"), 128)
    corpus = DeviceCorpus(DEVICE)
    corpus.cache_tokens(batches)
    identical = 0
    steps = list(corpus.global_batches(batches, 1, 0))
    steps = steps[:40] + steps[-1:]
    for step in steps:
        corpus.load_pool(step.pool)
        corpus.select(step.micro_batches[0])
        shape = step.micro_batches[0].shape
        ours, plain = corpus.batch(shape), corpus._batch_by_torch(shape)
        identical += all(torch.equal(a, b) for a, b in zip(  # type: ignore[arg-type]
            (ours.source, ours.source_lengths, ours.target_in, ours.target_out,
             ours.target_positions),
            (plain.source, plain.source_lengths, plain.target_in, plain.target_out,
             plain.target_positions), strict=True))  # fmt: skip
    shape = steps[0].micro_batches[0].shape
    ratio = recorded_ratio(lambda: corpus._batch_by_torch(shape), lambda: corpus.batch(shape))
    report.add("kernels", f"{len(steps)} batches collated", f"{identical} identical, {ratio}",
               "all", identical == len(steps))  # fmt: skip


# Target tokens, vocabulary size, features and dtype of the loss kernel.
LOSSES = [
    (700, 50, 64, torch.float32),
    (1000, 8087, 64, torch.float32),
    (1000, 8087, 64, torch.bfloat16),
    (15_000, 12_161, 256, torch.bfloat16),
    (300, 70_001, 64, torch.float32),
]


def _loss(report: Report, tokens: int, vocabulary: int, width: int, dtype: torch.dtype) -> None:
    """Check and time the kernel of the loss, with the products around it."""
    torch.backends.cuda.matmul.allow_tf32 = False
    tensors = [(torch.randn(*size, device=DEVICE) / 4).requires_grad_()
               for size in ((tokens, width), (vocabulary, width), (vocabulary,))]  # fmt: skip
    targets = torch.randint(1, vocabulary, (tokens,), device=DEVICE)
    targets[::7] = PAD

    def ours() -> list[Tensor]:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            loss = cross_entropy(tensors[0], tensors[1], tensors[2], targets, 0.1, PAD)
        return [loss, *torch.autograd.grad(loss, tensors)]

    def plain(inputs: list[Tensor] = tensors, *, checked: bool = False) -> list[Tensor]:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            logits = F.linear(*inputs)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            loss = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1,
                                   ignore_index=PAD)  # fmt: skip
        gradients = torch.autograd.grad(loss, inputs)
        if checked:  # ours has the value without smoothing
            loss = F.cross_entropy(logits, targets, reduction="sum", ignore_index=PAD)
        return [loss, *gradients]

    if tokens < 2000 and dtype == torch.float32:
        exact = plain(
            [tensor.detach().double().requires_grad_() for tensor in tensors], checked=True
        )
    else:
        exact = plain(checked=True)
    error = max(relative_error([a], [b]) for a, b in zip(ours(), exact, strict=True))
    limit = 2e-5 if dtype == torch.float32 else 2e-2
    ratio = recorded_ratio(plain, ours)
    name = str(dtype).removeprefix("torch.")
    flop = 6 * tokens * vocabulary * width
    seconds = recorded_seconds(ours)
    report.add("kernels", f"loss, {tokens:,} tokens, vocabulary {vocabulary:,}, {width} features, "
               f"{name}", f"off by {error:.1e}, {ratio}, {flop / seconds / 1e12:.0f} TFLOP/s",
               f"at most {limit:.0e}", error < limit)  # fmt: skip


def recorded_ratio(plain: Callable[[], object], ours: Callable[[], object]) -> str:
    """Time torch's and our code as CUDA graphs; return both times and their ratio as text."""
    torch_seconds, our_seconds = recorded_seconds(plain), recorded_seconds(ours)
    return (f"{torch_seconds * 1e6:.0f} us plain, {our_seconds * 1e6:.0f} ours, "
            f"ratio {torch_seconds / our_seconds:.2f}")  # fmt: skip


def recorded_seconds(work: Callable[[], object]) -> float:
    """Record work as a CUDA graph, and return the seconds of a replay.

    The current stream must not be the default stream, which cannot be recorded.
    """
    work()
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        work()
    return seconds_of(graph.replay, 20)


class _RepeatedCorpus:
    """Corpus whose `train` split is read several times over, so that an epoch is long."""

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
    """Return the seconds that a step takes at least, and those of its output layer alone.

    The arithmetic is 6 FLOP for each weight of a product and each row of its input (2 forward, 4
    backward). The bytes are those of writing and reading the logits and their gradient once, and of
    Adam's seven passes.

    Args:
        shapes: sentences, source tokens, target tokens and real target tokens of each step.
        vocabulary: target tokens to choose from.
        weights: parameters of the model.
    """
    model = config.model
    embedding, hidden, layers = model.embedding_size, model.hidden_size, model.layers
    recurrent = 4 * hidden * (embedding + hidden) + (layers - 1) * 8 * hidden * hidden
    width = embedding if model.tie != "none" else hidden
    output, rest, traffic = 0.0, 0.0, 0.0
    for sentences, source, target, real in shapes:
        output += 6 * real * width * vocabulary
        rest += 6 * sentences * (source + target) * recurrent
        if model.attention != "none":
            rest += 6 * sentences * target * (2 * hidden * width + 2 * source * hidden)
            rest += 6 * sentences * source * hidden * hidden
        traffic += 4 * 2 * real * vocabulary + 7 * 4 * weights
    steps, rate = len(shapes), report.ceilings["bf16"]
    arithmetic, memory = (output + rest) / rate / steps, traffic / report.ceilings["bytes"] / steps
    return max(arithmetic, memory), output / rate / steps


def speed(report: Report) -> None:
    """Measure the training speed of seed and base, replayed and launched kernel by kernel."""
    seed_corpus, large = report.corpus("seed"), report.corpus("multi30k")
    cases = [
        ("seed", seed_corpus, 128, 10, "at least 150,000; 300,000"),
        ("seed", seed_corpus, 512, 20, ""),
        ("seed", seed_corpus, 4096, 40, "at least 1,000,000; 2,000,000"),
        ("base", large, 128, 4, ""),
        ("base", large, 1024, 6, ""),
    ]
    for preset, corpus, batch, times, expected in cases if GPU else cases[:1]:
        config = config_of(preset, batch_size=batch, epochs=4, log_steps=500)
        rates: dict[bool, float] = {}
        for recorded in (True, False):
            rows = _RepeatedCorpus(corpus, times) if GPU and recorded else corpus
            with training_of(rows, config) as training:  # type: ignore[arg-type]
                if not recorded and isinstance(training.stepper, GpuStepper):
                    training.stepper._graphs = None
                if recorded:
                    _rate(training, 1)
                    epochs = [_rate(training, number) for number in (2, 3, 4)]
                    rates[True] = statistics.median(rate for rate, _ in epochs)
                    busy = statistics.median(seconds for _, seconds in epochs)
                    stepper = training.stepper
                    steps = stepper.global_batches(training.batches, 1, 0) if GPU else ()
                    shapes = [micro.shape for step in steps for micro in step.micro_batches]  # type: ignore[attr-defined]
                    weights = sum(w.numel() for w in training.model.named_weights().values())
                    count = len(getattr(stepper, "_graphs", None) or [])
                    if GPU:
                        kernel_ms = _profile(report, training, f"{preset}-{batch}")
                else:
                    _rate(training, 1, 20)
                    rates[False], _ = _rate(training, 2, 100)
        ms = batch / rates[True] * 1e3
        result = f"{rates[True]:,.0f} pairs/s, {ms:.3f} ms/step, {count} graphs"
        result += f", CPU busy for {busy * 1e3:.3f} ms of a step"
        if shapes:
            size = len(corpus.target)
            floor, output = _floor(report, config, shapes, size, weights)
            result += (f", GPU busy for {kernel_ms:.3f} ms; floor {floor * 1e3:.3f} ms, "
                       f"{output * 1e3:.3f} of that for the output layer; kernel by kernel "
                       f"{rates[False]:,.0f} pairs/s, ratio "
                       f"{rates[True] / rates[False]:.2f}")  # fmt: skip
        report.numbers.setdefault("speed", {})[f"{preset}, {batch}"] = {
            "recorded": rates[True], "started": rates[False],
        }  # fmt: skip
        minimum = {"seed128": 150e3, "seed4096": 1e6}.get(f"{preset}{batch}")
        report.add("speed", f"{preset}, batch {batch}", result, expected,
                   None if minimum is None or not GPU else rates[True] >= minimum)  # fmt: skip
    adaptive = {"output": "adaptive", "frequent_words": 2000}
    for batch in (128, 4096) if GPU else (128,):
        config = config_of("seed", adaptive, batch_size=batch, epochs=4, log_steps=500)
        with training_of(seed_corpus, config) as training:
            _rate(training, 1, 20)
            rate, _ = _rate(training, 2, 100)
        report.add("speed", f"seed, batch {batch}, adaptive softmax, kernel by kernel",
                   f"{rate:,.0f} pairs/s")  # fmt: skip


def _rate(training: Training, epoch: int, max_steps: int = 10**9) -> tuple[float, float]:
    """Train for an epoch; return pairs per second, and the seconds of CPU work in a step.

    The rate's time is from the first batch fetched to the last step done.
    """
    stepper, pairs, count, busy = training.stepper, 0, 0, 0.0
    pending: list[PendingStep] = []
    steps = stepper.global_batches(training.batches, epoch, 0)
    begin = time.perf_counter()
    for number, step in enumerate(islice(steps, max_steps if GPU else 5), start=1):
        step_begin = time.perf_counter()
        pending.append(stepper.step(step, number, 1e-3, NO_SIGNALS))
        busy += time.perf_counter() - step_begin
        pairs, count = pairs + len(step.rows), count + 1
        if len(pending) > stepper.lag:
            pending.pop(0).read()
    for unread in pending:
        unread.read()
    return pairs / (time.perf_counter() - begin), busy / count


def _profile(report: Report, training: Training, name: str) -> float:
    """Profile some steps and write the time of each kernel; return a step's GPU milliseconds."""
    stepper = training.stepper
    steps = list(islice(stepper.global_batches(training.batches, 1, 0), 40))
    for number, step in enumerate(steps[:20], start=1):
        stepper.step(step, number, 1e-3, NO_SIGNALS).read()
    with torch.profiler.profile() as profiler:
        for number, step in enumerate(steps[20:], start=1):
            stepper.step(step, number, 1e-3, NO_SIGNALS).read()
    events = profiler.key_averages()
    kernels = [event for event in events if event.self_device_time_total > 0
               and event.device_type == torch.autograd.DeviceType.CUDA
               and not event.is_user_annotation]  # fmt: skip
    kernels.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in kernels) / 20
    count = sum(event.count for event in kernels) / 20
    lines = [f"{name}: {total:.0f} us in {count:.0f} kernels/step"]
    for event in kernels[:40]:
        microseconds = event.self_device_time_total / 20
        lines.append(f"{microseconds:9.1f} us {event.count / 20:6.1f} x {event.key[:120]}")
    lines.append("on the CPU:")
    for event in sorted(events, key=lambda event: -event.self_cpu_time_total)[:12]:
        microseconds = event.self_cpu_time_total / 20
        lines.append(f"{microseconds:9.1f} us {event.count / 20:6.1f} x {event.key[:80]}")
    with (report.out / "profile.txt").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n\n")
    return total / 1e3


def recurrent(report: Report) -> None:
    """Time the forward and backward pass of cuDNN's LSTM: packed and padded, in each dtype."""
    if not GPU:
        return
    torch.backends.cudnn.allow_tf32 = True
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    lines = []
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        for width, rows in product((64, 128, 256, 512), (128, 512, 1024, 4096)):
            times = [recorded_seconds(_lstm(width, rows, dtype)) * 1e6 for dtype in dtypes]
            lines.append([width, rows, *times])
            print("   LSTM {} wide, {} rows, 12 tokens: {:.0f} us TF32, {:.0f} bf16, {:.0f} fp16"
                  .format(*lines[-1]), flush=True)  # fmt: skip
        report.numbers["recurrent"] = lines
        passes = [_lstm(64, 128, torch.float32, packed=packed) for packed in (True, False)]
        packed, padded = (seconds_of(work, 20) * 1e6 for work in passes)
        replayed = recorded_seconds(passes[1]) * 1e6
    report.add("recurrent", "LSTM 64 wide, 128 rows of up to 12 tokens, TF32",
               f"packed {packed:.0f} us, padded {padded:.0f}, replayed {replayed:.0f}")  # fmt: skip


def _lstm(width: int, rows: int, dtype: torch.dtype, *, packed: bool = False) -> Callable[[], None]:
    """Return a function that does a forward and backward pass of an LSTM, on 12 tokens a row."""
    layer = torch.nn.LSTM(width, width, batch_first=True).to(DEVICE, dtype)
    inputs = torch.randn(rows, 12, width, device=DEVICE, dtype=dtype, requires_grad=True)
    lengths = torch.randint(4, 13, (rows,))

    def work() -> None:
        layer.zero_grad()
        inputs.grad = None
        if packed:
            sequences = torch.nn.utils.rnn.pack_padded_sequence(inputs, lengths, True, False)
            layer(sequences)[0].data.sum().backward()
        else:
            layer(inputs)[0].sum().backward()

    return work


def translating(report: Report) -> None:
    """Measure sentences and words per second: greedy, with a beam, and in slots."""
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
        seconds = time.perf_counter() - begin
        with checkpoints.open(checkpoints.best(1)[0]) as best:
            shutil.copytree(best, model, dirs_exist_ok=True)
    report.add("translating", f"multi30k trained for {config.train.epochs} epochs in "
               f"{seconds:.0f} s",
               f"token accuracy {metrics.best.valid_token_accuracy:.4f}")  # fmt: skip
    test = corpus.split("test")["source"][:]
    for precision in ("bf16", "fp32"):
        translator = Translator.load(model, DEVICE).with_settings(precision=precision)
        for beam in (1, 5):
            for batch in (1, 64, 1024) if GPU else (64,):
                sentences = test[: 40 if batch == 1 else len(test)]
                ours = translator.with_settings(beam=beam, batch_size=batch)
                translations = ours.translate_rows(sentences)
                seconds = seconds_of(lambda o=ours, s=sentences: o.translate_rows(s), 1)  # type: ignore[misc]
                words = sum(len(text.split()) for text in translations)
                result = (
                    f"{len(sentences) / seconds:,.0f} sentences/s, {words / seconds:,.0f} words/s"
                )
                if batch == 1024 and beam == 1:
                    result += _breakdown(report, ours, sentences, seconds)
                report.numbers.setdefault("translating", {})[f"{precision}, {beam}, {batch}"] = (
                    len(sentences) / seconds
                )
                name = f"{precision}, {'greedy' if beam == 1 else 'beam 5'}, batch {batch}"
                report.add("translating", name, result)
                if not GPU:
                    return
        for beam, slots in product((1, 5), (64, 256)):
            ours = translator.with_settings(beam=beam)
            in_slots(ours, test, slots)
            seconds = seconds_of(lambda o=ours, n=slots: in_slots(o, test, n), 1)  # type: ignore[misc]
            report.add("translating", f"{precision}, beam {beam}, {slots} slots",
                       f"{len(test) / seconds:,.0f} sentences/s")  # fmt: skip


def _breakdown(report: Report, translator: Translator, sentences: list[str], seconds: float) -> str:
    """Time the stages of translating a batch; return them as text, with the floor of the search."""
    ids = translator._directory.source.encode(sentences)
    splitting = seconds_of(lambda: translator.split(sentences), 1)
    searching = seconds_of(lambda: translator._search(ids, lambda rows: None, details=False), 1)
    best = [h[0] for h in translator._search(ids, lambda rows: None, details=False)]
    detokenising = seconds_of(lambda: [translator.detokenise(s, h.ids, h.alignment) for s, h in
                                       zip(sentences, best, strict=True)], 1)  # fmt: skip
    model = translator.model
    config = translator.config.model
    tokens = sum(len(h.ids) + 1 for h in best)
    width, hidden = config.embedding_size, config.hidden_size
    flop = 2 * (width * len(model.decoder.output.weight) + 4 * hidden * (width + hidden)
                + 3 * hidden * hidden)  # fmt: skip
    floor = tokens * flop / report.ceilings["bf16"]
    steps = max(len(h.ids) + 1 for h in best)
    weights = sum(w.numel() for w in model.named_weights().values()) * 4
    memory = steps * weights / report.ceilings["bytes"]
    floor = max(floor, memory) * 1e3
    return (
        f"; {seconds * 1e3:.1f} ms: splitting and tokenising {splitting * 1e3:.1f}, search "
        f"{searching * 1e3:.1f} (floor {floor:.2f} for {steps} steps), detokenising "
        f"{detokenising * 1e3:.1f}"
    )
