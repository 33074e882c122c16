"""Requests to stop and to save: of one worker's host, and of all workers together.

The requests of a step are summed over all workers with its loss, so that all of them act on a
request after the same step and need no further exchange for it.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

from s2s.config import TrainConfig


@dataclass(frozen=True)
class Signals:
    """The requests of a host to its worker."""

    stop: bool = False  # save a checkpoint, then end the run
    save: bool = False  # save a checkpoint


class StepSignals(NamedTuple):
    """The signals that travel with a step: of one worker, or of any worker once summed."""

    stop: bool
    save: bool
    due: bool  # the time between two checkpoints is over


class RunSignals:
    """The signals of all workers since the last checkpoint.

    Args:
        rank: of this worker. The clock of the first worker alone decides when a checkpoint is due.
        steps: optimizer steps that the run has done so far.
    """

    def __init__(self, settings: TrainConfig, rank: int, steps: int) -> None:
        self._settings, self._rank = settings, rank
        self._stop = self._save = self._due = False
        self._saved_steps, self._saved_at = steps, time.monotonic()

    @property
    def stop(self) -> bool:
        """Whether the run is to end after the next checkpoint."""
        return self._stop

    @property
    def requested(self) -> bool:
        """Whether a host has requested a checkpoint, to save or to stop."""
        return self._save or self._stop

    def of_step(self, host: Signals) -> StepSignals:
        """Return this worker's signals for the next step."""
        minutes = self._settings.checkpoint_minutes
        due = minutes is not None and time.monotonic() - self._saved_at > 60 * minutes
        return StepSignals(host.stop, host.save, due and self._rank == 0)

    def update(self, signals: StepSignals) -> None:
        """Add the signals that all workers sent with a step."""
        self._stop |= signals.stop
        self._save |= signals.save
        self._due |= signals.due

    def wants_checkpoint(self, steps: int) -> bool:
        """Return whether a checkpoint is requested or due after so many steps of the run."""
        every = self._settings.checkpoint_steps
        scheduled = every is not None and steps % every == 0 and steps > self._saved_steps
        return self.requested or self._due or scheduled

    def checkpoint_begun(self, steps: int) -> None:
        """Reset what the checkpoint after so many steps fulfils."""
        self._save = self._due = False
        self._saved_steps, self._saved_at = steps, time.monotonic()
