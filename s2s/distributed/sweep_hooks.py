"""What Ray Tune calls while a sweep runs: search, scheduler, stopper and callback.

All of them ask or tell `s2s.tuning.sweep_run.SweepRun`, whose records alone are kept. What Tune
itself would save and restore is not used: a sweep is resumed from the records.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ray.tune import Callback, Stopper
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from s2s.distributed.cluster import WorkerResources
from s2s.distributed.trial import EPOCH, REPORT, SCORE, read_report
from s2s.errors import last_line
from s2s.tuning.space import Space
from s2s.tuning.sweep_run import SweepRun
from s2s.tuning.trials import Trial

Scheduler = Literal["none", "asha", "median"]

REDUCTION = 4  # of ASHA: the share of trials that goes on is its inverse
_NAMES: dict[Scheduler, str] = {"none": "Tune", "asha": "ASHA", "median": "median rule"}
_CAPACITY_SECONDS = 5.0  # between two looks at what the cluster has


class _Unsaved:
    """Is left out when Tune saves a sweep."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Search(_Unsaved, Searcher):
    """The search that begins a trial whenever the cluster has room for one.

    Args:
        most: trials at the same time, at most; None for as many as the cluster has room for.
    """

    def __init__(self, sweep: SweepRun, workers: WorkerResources, most: int | None) -> None:
        super().__init__()
        self._sweep, self._workers, self._most = sweep, workers, most
        self._capacity, self._next_look = 1, 0.0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of a trial, None if there is no room, or that there is no other one."""
        if self._sweep.running >= self._room():
            return None
        trial = self._sweep.next_trial()
        if trial is None:
            return str(Searcher.FINISHED)
        return {"number": trial.number, "settings": trial.settings}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: the callback records the end of a trial."""

    def _room(self) -> int:
        if self._most is not None:
            return self._most
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + _CAPACITY_SECONDS
            self._capacity = max(1, self._workers.groups())
        return self._capacity

    def save(self, checkpoint_path: str) -> None:
        """Save nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


@dataclass(frozen=True)
class _Subject:
    """A trial as a scheduler knows it, the same in all sessions."""

    trial_id: str


class Comparison(_Unsaved, FIFOScheduler):
    """A scheduler of Tune that also knows the trials of earlier sessions.

    Args:
        scheduler: of Tune.
        space: of the sweep.
        past: trials of earlier sessions, to which others are compared.
    """

    def __init__(self, scheduler: TrialScheduler, space: Space, past: Iterable[Trial]) -> None:
        super().__init__()
        self._scheduler, self._space = scheduler, space
        self._known: set[int] = set()
        for trial in past:
            for epoch, value in enumerate(trial.curve, 1):
                # Recorded without a decision: that was made when the epoch ended.
                subject: Any = _Subject(str(trial.number))
                scheduler.on_trial_add(None, subject)
                scheduler.on_trial_complete(None, subject, {EPOCH: epoch, SCORE: value})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether a trial is to continue."""
        if SCORE not in result:
            return str(TrialScheduler.CONTINUE)
        decision = self._compare(trial.config["number"], result)
        epochs = self._space.config_of(trial.config["settings"]).train.epochs
        # After its last epoch a trial ends by itself.
        return str(TrialScheduler.CONTINUE) if result[EPOCH] >= epochs else decision

    def _compare(self, number: int, result: dict[str, Any]) -> str:
        subject: Any = _Subject(str(number))
        if number not in self._known:
            self._known.add(number)
            self._scheduler.on_trial_add(None, subject)
        return str(self._scheduler.on_trial_result(None, subject, result))


class BudgetStopper(_Unsaved, Stopper):
    """Ends all trials as soon as the budget is used up."""

    def __init__(self, sweep: SweepRun) -> None:
        self._sweep = sweep

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return that no single trial is to end."""
        return False

    def stop_all(self) -> bool:
        """Return whether the budget is used up."""
        return self._sweep.budget_used_up is not None


class Recorder(_Unsaved, Callback):
    """Records what trials report and how they end.

    Args:
        scheduler: name of what stops poor trials, for the reason of a trial that it has stopped.
        log: called with a line for the user.
        tick: called several times a second.
    """

    def __init__(
        self,
        sweep: SweepRun,
        scheduler: Scheduler,
        log: Callable[[str], None],
        tick: Callable[[], None],
    ) -> None:
        self._sweep, self._scheduler, self._log, self._tick = sweep, scheduler, log, tick

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Let the user know from time to time that the sweep is at work."""
        self._tick()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Record a report."""
        self._sweep.report(trial.config["number"], read_report(result))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Log that a trial is tried again."""
        self._log(f"trial {trial.config['number']} is started again: {_error(trial)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Record that a trial has ended by itself, or was stopped."""
        number, last = trial.config["number"], trial.last_result
        report = read_report(last) if last and REPORT in last else None
        if report is not None and report.failure is not None:
            self._sweep.end(number, "failed", report.failure)
        elif report is not None and report.is_last:
            self._sweep.end(number, "finished")
        else:
            epochs = self._sweep.trials[number].epochs
            self._sweep.end(number, "stopped", f"{_NAMES[self._scheduler]}, at epoch {epochs}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Record that a trial has failed."""
        self._sweep.end(trial.config["number"], "failed", _error(trial), may_be_retried=True)


def _error(trial: Any) -> str:
    """Return the last error of a trial in one line."""
    error = trial.get_pickled_error()
    return "for an unknown reason" if error is None else last_line(error)


def make_scheduler(
    kind: Scheduler, space: Space, *, maximised: bool, past: Iterable[Trial]
) -> TrialScheduler:
    """Return a scheduler of Tune that knows earlier trials.

    Args:
        maximised: whether a greater score is better.
        past: trials of earlier sessions.
    """
    mode, epochs = "max" if maximised else "min", most_epochs(space)
    inner: TrialScheduler
    match kind:
        case "asha":
            # Li et al., 2020, https://arxiv.org/abs/1810.05934. It would end a trial at `max_t`.
            inner = ASHAScheduler(
                time_attr=EPOCH,
                metric=SCORE,
                mode=mode,
                max_t=epochs + 1,
                reduction_factor=REDUCTION,
            )
        case "median":
            # Golovin et al., 2017. A trial without enough others to compare with is never paused.
            inner = MedianStoppingRule(
                time_attr=EPOCH, metric=SCORE, mode=mode, grace_period=1,
                min_time_slice=float("inf"),
            )  # fmt: skip
        case _:
            return FIFOScheduler()
    return Comparison(inner, space, past)


def most_epochs(space: Space) -> int:
    """Return the epochs that a trial has at most."""
    for dimension in space.dimensions:
        if dimension.setting == "train.epochs":
            return max(int(value) for value in dimension.extremes if value is not None)
    return space.config.train.epochs


def rungs(space: Space) -> tuple[int, ...]:
    """Return the epochs after which ASHA compares trials."""
    epochs = most_epochs(space)
    return tuple(
        REDUCTION**power for power in range(epochs.bit_length()) if REDUCTION**power < epochs
    )
