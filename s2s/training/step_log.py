"""The log of a run's steps: their results, and the time that they take."""

import time
from collections import deque

from s2s.config import TrainConfig
from s2s.training.failures import LossGuard
from s2s.training.host import Host, Progress
from s2s.training.signals import RunSignals
from s2s.training.state import TrainingState
from s2s.training.step import PendingStep
from s2s.training.trackers.tracker import Tracker
from s2s.training.window import Window

# Between two reports of progress: often enough that a bar moves, too rarely to cost anything.
_REPORT_SECONDS = 0.25


class StepLog:
    """The steps of a run from their start until they are logged.

    The result of a step is read later than the step is started. It is then checked, counted in the
    cursor and in the window, and every `log_steps` steps the window is logged. Progress is reported
    to the host several times a second.

    Attributes:
        window: the measurements since the last log.
    """

    def __init__(
        self,
        settings: TrainConfig,
        state: TrainingState,
        signals: RunSignals,
        guard: LossGuard,
        tracker: Tracker,
        host: Host,
    ) -> None:
        self._settings, self._state, self._signals = settings, state, signals
        self._guard, self._tracker, self._host = guard, tracker, host
        self._pending: deque[PendingStep] = deque()  # steps whose results have not been read
        self._next_report = 0.0  # of progress, by the clock of `time.monotonic`
        self._clock = 0.0  # until when time has been counted
        self.window = Window()

    @property
    def steps_read(self) -> int:
        """Steps of the run whose results have been read."""
        return self._state.cursor.steps - len(self._pending)

    def add(self, step: PendingStep) -> None:
        """Add a step that has been started."""
        self._pending.append(step)

    def read(self, steps: int, unread: int = 0) -> None:
        """Read the results of all steps but the newest `unread`.

        Args:
            steps: number of steps in the current epoch.

        Raises:
            Failed: the loss exploded.
        """
        cursor = self._state.cursor
        while len(self._pending) > unread:
            step = self._pending.popleft()
            result = step.read()
            self._guard.check(step, result, self.steps_read, cursor.epoch)
            cursor.loss += result.loss
            self.window.add(step, result)
            self._signals.update(result.signals)
            self._report_progress(steps)
            if self.steps_read % self._settings.log_steps == 0:
                self._log(step.learning_rate, steps)

    def _report_progress(self, steps: int) -> None:
        """Report the progress to the host, unless that was done a moment ago."""
        window, now = self.window, time.monotonic()
        if window.is_empty or now < self._next_report:
            return
        self._next_report = now + _REPORT_SECONDS
        epoch, step = self._state.cursor.epoch, self._state.cursor.step - len(self._pending)
        speed, epochs = window.pairs_per_second, self._settings.epochs
        self._host.report_progress(Progress(epoch, epochs, step, steps, window.mean_loss, speed))

    def _log(self, learning_rate: float, steps: int) -> None:
        """Log the window to the tracker, and begin a new one."""
        window, self.window = self.window, Window()
        if window.is_empty:
            return
        epoch, step = self._state.cursor.epoch, self._state.cursor.step - len(self._pending)
        clipped = self._settings.clip_norm is not None
        values = window.log_values(learning_rate, epoch - 1 + step / steps, clipped=clipped)
        self._tracker.log(self.steps_read, values)

    def start_clock(self) -> None:
        """Count time as training from now on."""
        self._clock = time.perf_counter()

    def count_time(self) -> None:
        """Count the time since the clock was started, or time was last counted, as training."""
        now = time.perf_counter()
        self._state.cursor.seconds += now - self._clock
        self.window.seconds += now - self._clock
        self._clock = now
