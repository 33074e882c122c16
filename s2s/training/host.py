"""The interface between a training run and the program that started its workers."""

from dataclasses import dataclass
from typing import Protocol

from s2s.model.metrics import RunMetrics
from s2s.training.signals import Signals


@dataclass(frozen=True)
class Progress:
    """The progress of a run, for display."""

    epoch: int  # from 1
    epochs: int  # of the run
    step: int  # steps done in the epoch
    steps: int  # of the whole epoch
    loss: float  # nats per token, mean over the steps since the last report
    pairs_per_second: float


class Host(Protocol):
    """The program that started the workers, as each worker's training loop sees it."""

    def log(self, line: str) -> None:
        """Show a line of text to the user."""

    def report_progress(self, progress: Progress) -> None:
        """Show the progress; called by the first worker, some times a second at most."""

    def report_epoch(self, metrics: RunMetrics) -> None:
        """Record the end of an epoch, the last one in the metrics; called by all workers."""

    def signals(self) -> Signals:
        """Return what this worker is requested to do; called before every step, must not block."""

    def checkpoint_saved(self) -> None:
        """Note that a requested checkpoint is written; called by the first worker."""


class SilentHost:
    """A host that shows nothing and requests nothing, for runs in the same process."""

    def log(self, line: str) -> None:
        """Discard the line."""

    def report_progress(self, progress: Progress) -> None:
        """Discard the progress."""

    def report_epoch(self, metrics: RunMetrics) -> None:
        """Discard the record."""

    def signals(self) -> Signals:
        """Return no request."""
        return Signals()

    def checkpoint_saved(self) -> None:
        """Do nothing."""


# Headings of the table of epochs, whose rows fit 80 columns.
_HEADINGS = "  epoch  token acc  padded valid loss train loss   pairs/s      time   * best"


class EpochTable:
    """The results of epochs as lines of a table, for display.

    Args:
        epochs: of the run.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._has_headings = False

    def lines(self, metrics: RunMetrics) -> str:
        """Return the line of the last epoch in the metrics, the first time after the headings.

        A star marks the epoch of least loss on `valid` so far.
        """
        record = metrics.epochs[-1]
        line = (
            f"{'*' if record == metrics.best else ' '}{f'{record.epoch}/{self._epochs}':>6}"
            f"{record.valid_token_accuracy:11.4f}{record.valid_padded_accuracy:8.4f}"
            f"{record.valid_loss:11.4f}{record.train_loss:11.4f}"
            f"{record.pairs_per_second:10,.0f}{record.seconds:8.1f} s"
        )
        if record.valid_bleu is not None:
            line += f"  BLEU {record.valid_bleu:.2f}"
        if self._has_headings:
            return line
        self._has_headings = True
        return f"{_HEADINGS}\n{line}"
