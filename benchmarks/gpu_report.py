"""Report of `benchmarks.gpu`, and the helpers with which all of its parts set up and measure."""

import json
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.config import Config
from s2s.corpus import Corpus
from s2s.decoding.slots import Slots
from s2s.decoding.translator import Translator
from s2s.presets import PRESETS
from s2s.text.sentences import Sentence
from s2s.training.checkpoints import Checkpoints
from s2s.training.loop import Training
from s2s.training.signals import StepSignals

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
CPU = torch.device("cpu")
NO_SIGNALS = StepSignals(stop=False, save=False, due=False)


@dataclass(frozen=True)
class Row:
    """Row of the table."""

    part: str
    check: str
    result: str
    expected: str = ""
    passed: bool | None = None  # None where there is no target


@dataclass
class Report:
    """Results of all parts, and the folder that they are written to."""

    data: Path  # folder of the corpora
    out: Path
    rows: list[Row] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)  # FLOP/s and bytes/s, by name

    def add(
        self, part: str, check: str, result: str, expected: str = "", passed: bool | None = None
    ) -> None:
        """Add a row to the table, and print the row at once."""
        row = Row(part, check, result, expected, passed)
        self.rows.append(row)
        print(
            f"   {mark(row)} {part}: {check}: {result} {expected and f'({expected})'}", flush=True
        )

    def corpus(self, name: str) -> Corpus:
        """Open a corpus in the data folder."""
        return Corpus.open(self.data / name)

    def save(self) -> None:
        """Write `report.json`."""
        report = {
            "card": torch.cuda.get_device_name() if GPU else "none",
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
            },
            "command": " ".join(sys.argv),
            "rows": [
                {
                    "part": row.part,
                    "what": row.check,
                    "found": row.result,
                    "wanted": row.expected,
                    "right": row.passed,
                }
                for row in self.rows
            ],
            "numbers": self.numbers,
        }
        (self.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def mark(row: Row) -> str:
    """Return the mark of a row in the table: whether its check passed."""
    return {None: "·", True: "ok", False: "NO"}[row.passed]


def config_of(preset: str, model: dict[str, Any] | None = None, **train: Any) -> Config:
    """Return a preset with some settings changed, and without timed checkpoints.

    Args:
        model: settings of `model`.
        train: settings of `train`.
    """
    start = PRESETS[preset]()
    return start.model_copy(
        update={
            "model": start.model.model_copy(update=model or {}),
            "train": start.train.model_copy(update={"checkpoint_minutes": None, **train}),
        }
    )


@contextmanager
def training_of(
    corpus: Corpus,
    config: Config,
    device: torch.device = DEVICE,
    *,
    shares_memory: bool = True,
) -> Iterator[Training]:
    """Yield a training run whose steps the caller takes, with a temporary folder.

    Args:
        shares_memory: whether workers on one host may sum gradients in shared memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints", last=99)
        yield Training(
            corpus, config, device, checkpoints, Path(folder), shares_memory=shares_memory
        )


def seconds_of(work: Callable[[], object], calls: int, rounds: int = 3) -> float:
    """Return the seconds of one call: the median of rounds, after two calls that warm up."""
    times = []
    for turn in range(rounds + 1):
        if GPU:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(calls if turn else 2):
            work()
        if GPU:
            torch.cuda.synchronize()
        if turn:
            times.append((time.perf_counter() - begin) / calls)
    return statistics.median(times)


def relative_error(tensors: list[Tensor], reference: list[Tensor]) -> float:
    """Return the norm of the difference between tensors and their reference, over its norm."""
    actual, exact = (torch.cat([tensor.detach().double().cpu().flatten() for tensor in each])
                     for each in (tensors, reference))  # fmt: skip
    return float((actual - exact).norm() / exact.norm())


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def in_slots(translator: Translator, sentences: list[str], size: int) -> list[str]:
    """Translate sentences in `size` slots, admitting new ones as others finish."""
    slots: Slots[int] = Slots(translator.model, translator.config.decode, size, translator.device)
    encoded = translator._directory.source.encode(sentences)
    waiting = list(enumerate(map(Sentence, sentences, encoded)))[::-1]
    by_owner = dict(waiting)
    translations = [""] * len(sentences)
    while waiting or len(slots):
        if slots.free > size // 4 and waiting:
            admitted = [waiting.pop() for _ in range(min(slots.free, len(waiting)))]
            slots.admit([sentence.ids for _, sentence in admitted], [n for n, _ in admitted])
        for slot in slots.step():
            source = by_owner[slot.owner].stripped
            translations[slot.owner] = translator.detokenise(source, slot.ids, slot.alignment)
    return translations
