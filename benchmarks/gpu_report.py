"""What the parts of `benchmarks.gpu` share: the report that they add to, and how they measure."""

import json
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.config import Config
from s2s.corpus import Corpus
from s2s.decoding.slots import Slots
from s2s.decoding.translator import Translator
from s2s.presets import PRESETS
from s2s.training.checkpoints import Checkpoints
from s2s.training.loop import Training
from s2s.training.signals import StepSignals

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
CPU = torch.device("cpu")
NO_SIGNALS = StepSignals(stop=False, save=False, due=False)


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
        print(f"   {mark(row)} {part}: {what}: {found} {wanted and f'({wanted})'}", flush=True)

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


def mark(row: Row) -> str:
    """Whether a row is as wanted, in two letters."""
    return {None: "·", True: "ok", False: "NO"}[row.right]


def config_of(preset: str, model: dict[str, Any] | None = None, **train: Any) -> Config:
    """A preset with some settings of model and training, and no checkpoint by the clock."""
    start = PRESETS[preset]()
    return start.model_copy(
        update={
            "model": start.model.model_copy(update=model or {}),
            "train": start.train.model_copy(update={"checkpoint_minutes": None, **train}),
        }
    )


@contextmanager
def training_of(
    corpus: Corpus, config: Config, device: torch.device = DEVICE, **others: Any
) -> Iterator[Training]:
    """A training run that can be stepped by hand, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(f"{folder}/checkpoints", last=99)
        yield Training(corpus, config, device, checkpoints, Path(folder), **others)


def seconds_of(work: Callable[[], object], calls: int, rounds: int = 3) -> float:
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


def far_from(one: list[Tensor], other: list[Tensor]) -> float:
    """How far tensors are from others that are right: the norm of the difference over theirs."""
    mine, right = (torch.cat([part.detach().double().cpu().flatten() for part in parts])
                   for parts in (one, other))  # fmt: skip
    return float((mine - right).norm() / right.norm())


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def in_slots(translator: Translator, sentences: list[str], size: int) -> list[str]:
    """The translations of sentences that enter slots as others leave."""
    slots: Slots[int] = Slots(translator.model, translator.config.decode, size, translator.device)
    waiting = [(n, piece) for n, [piece] in enumerate(translator.split(sentences))][::-1]
    pieces = dict(waiting)
    made = [""] * len(sentences)
    while waiting or len(slots):
        if slots.free > size // 4 and waiting:
            entering = [waiting.pop() for _ in range(min(slots.free, len(waiting)))]
            slots.admit([piece.ids for _, piece in entering], [n for n, _ in entering])
        for slot in slots.step():
            piece = pieces[slot.owner]
            made[slot.owner] = translator.detokenise(piece.stripped, slot.ids, slot.alignment)
    return made
