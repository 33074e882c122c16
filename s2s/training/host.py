"""Whoever started the workers of a run, as the training loop sees it: who is told, and who asks."""

from dataclasses import dataclass
from typing import Protocol

from s2s.model.metrics import EpochRecord


@dataclass(frozen=True)
class Wish:
    """What is asked of a run."""

    stop: bool = False  # save, then end
    save: bool = False


@dataclass(frozen=True)
class Progress:
    """How far an epoch is, for showing."""

    epoch: int
    step: int
    steps: int
    loss: float  # nats per token, of the last steps
    pairs_per_second: float


class Host(Protocol):
    """Whoever started the workers, as the loop of each of them sees it."""

    def line(self, text: str) -> None:
        """Tell the user something."""

    def progress(self, progress: Progress) -> None:
        """Told every `log_steps` steps."""

    def epoch(self, record: EpochRecord) -> None:
        """Told after every epoch, by all workers."""

    def wish(self) -> Wish:
        """What this worker was asked for; asked before every step, so it must not wait."""

    def saved(self) -> None:
        """Told when a checkpoint that was wished for is written."""


class Alone:
    """The host of a run that nobody watches."""

    def line(self, text: str) -> None:
        """Say nothing."""

    def progress(self, progress: Progress) -> None:
        """Say nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Say nothing."""

    def wish(self) -> Wish:
        """Want nothing."""
        return Wish()

    def saved(self) -> None:
        """Say nothing."""
