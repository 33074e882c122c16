"""The interface between a training run and the program that started its workers."""

from dataclasses import dataclass
from typing import Protocol

from s2s.model.metrics import EpochRecord
from s2s.training.signals import Signals


@dataclass(frozen=True)
class Progress:
    """The progress of an epoch, for display."""

    epoch: int  # from 1
    step: int  # steps done in the epoch
    steps: int  # of the whole epoch
    loss: float  # nats per token, mean over the steps since the last report
    pairs_per_second: float


class Host(Protocol):
    """The program that started the workers, as each worker's training loop sees it."""

    def log(self, line: str) -> None:
        """Show a line of text to the user."""

    def report_progress(self, progress: Progress) -> None:
        """Show the progress; called by the first worker every `log_steps` steps."""

    def report_epoch(self, record: EpochRecord) -> None:
        """Record the end of an epoch; called by all workers."""

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

    def report_epoch(self, record: EpochRecord) -> None:
        """Discard the record."""

    def signals(self) -> Signals:
        """Return no request."""
        return Signals()

    def checkpoint_saved(self) -> None:
        """Do nothing."""


def progress_line(progress: Progress, epochs: int) -> str:
    """Return the progress of an epoch as a line, for a run of so many epochs."""
    return (
        f"epoch {progress.epoch}/{epochs}  loss {progress.loss:.4f}  "
        f"{progress.pairs_per_second:,.0f} pairs/s"
    )


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """Return the results of an epoch as a line, for a run of so many epochs."""
    bleu = "" if record.valid_bleu is None else f"  BLEU {record.valid_bleu:.2f}"
    return (
        f"epoch {record.epoch}/{epochs}  train loss {record.train_loss:.4f}  "
        f"valid loss {record.valid_loss:.4f}  token accuracy {record.valid_token_accuracy:.4f}  "
        f"padded accuracy {record.valid_padded_accuracy:.4f}  "
        f"{record.pairs_per_second:,.0f} pairs/s  {record.seconds:.1f} s{bleu}"
    )
