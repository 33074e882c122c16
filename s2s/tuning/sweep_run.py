"""A sweep while it runs: which trial is next, and what has become of the others."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from s2s.model.metrics import EpochRecord
from s2s.tuning.budget import Budget, Spent
from s2s.tuning.objective import Objective, value_of
from s2s.tuning.records import Records
from s2s.tuning.search import PointSearch
from s2s.tuning.space import Point, Space
from s2s.tuning.study import StudyLog
from s2s.tuning.trials import SeedScore, Status, Trial


@dataclass(frozen=True)
class TrialReport:
    """What a trial reports after each epoch, and at its end."""

    seed_index: int  # 0 for the first seed
    epochs: tuple[EpochRecord, ...]  # of the run with this seed, all so far
    words_per_second: float | None = None  # of the finished model
    measure_seconds: float = 0.0  # that measuring this took
    failure: str | None = None  # why the run failed or was refused
    is_last: bool = False  # whether the trial has ended


class SweepRun:
    """A sweep while it runs, resumed from its records.

    Args:
        seeds: that each point is trained with.
        trials: number of trials after which no other one is begun; None for no limit.
        log: of Optuna, which the trials that have ended are in already.
        parameters_of: returns the number of weights of a point's model.
        changed: called with a trial that has changed.

    Attributes:
        trials: all that have begun, by their numbers.
    """

    def __init__(
        self,
        space: Space,
        search: PointSearch,
        objective: Objective,
        records: Records,
        *,
        seeds: int,
        trials: int | None,
        budget: Budget,
        log: StudyLog,
        parameters_of: Callable[[Point], int],
        changed: Callable[[Trial], None],
    ) -> None:
        self._space, self._search, self._objective = space, search, objective
        self._records, self._log, self._changed = records, log, changed
        self._seeds = seeds
        self._limit, self._budget, self._parameters_of = trials, budget, parameters_of
        self.trials = {trial.number: trial for trial in records.load()}
        self._waiting = [
            number for number, trial in self.trials.items() if is_unfinished(space, trial, seeds)
        ]
        self._running: dict[int, _Clock] = {}

    @property
    def running(self) -> int:
        """Number of trials that run now."""
        return len(self._running)

    @property
    def spent(self) -> Spent:
        """What the sweep has spent so far."""
        trials = list(self.trials.values())  # the thread of the live table looks, too
        return Spent(
            self._records.seconds,
            sum(trial.all_epochs for trial in trials),
            sum(trial.tokens for trial in trials),
        )

    @property
    def budget_used_up(self) -> str | None:
        """The limit of the budget that is reached, in words."""
        return self._budget.used_up(self.spent)

    def next_trial(self) -> Trial | None:
        """Begin a trial: one that an earlier session has not finished, or else a new one.

        Returns:
            The trial, or None if there is no other one to run.
        """
        if self.budget_used_up:
            return None
        if self._waiting:
            number = self._waiting.pop(0)
            again = {"status": "running", "reason": None, "may_be_retried": False}
            trial = self.trials[number].model_copy(update=again)
        else:
            if self._limit is not None and len(self.trials) >= self._limit:
                return None
            point = self._search.suggest(list(self.trials.values()))
            if point is None:
                return None
            number = max(self.trials, default=0) + 1
            parameters = self._parameters_of(point)
            trial = Trial(number=number, settings=point, status="running", parameters=parameters)
        clock = self._running[number] = _Clock(trial.overhead_seconds)
        trial = self._saved(trial)
        clock.begin(trial)
        self._log.begin(trial)
        self._keep(trial)
        return trial

    def report(self, number: int, report: TrialReport) -> None:
        """Record what a running trial has reported."""
        trial, clock = self.trials[number], self._running[number]
        if report.failure is None:
            clock.reports[report.seed_index] = report
            trial = self._described(trial, clock.reports)
        self._keep(trial)

    def _saved(self, trial: Trial) -> Trial:
        """Return a running trial as the checkpoints of its runs describe it."""
        reports = self._running[trial.number].reports
        for index in range(self._seeds):
            epochs = self._records.epochs(trial.number, index)
            earlier = reports.get(index)
            if epochs and (earlier is None or len(earlier.epochs) < len(epochs)):
                reports[index] = TrialReport(index, epochs)
        return self._described(trial, reports) if reports else trial

    def _described(self, trial: Trial, reports: Mapping[int, TrialReport]) -> Trial:
        """Return a trial as its reports describe it.

        Args:
            reports: the last one of each seed, by its index.
        """
        records = [record for report in reports.values() for record in report.epochs]
        update: dict[str, object] = {
            "tokens": round(sum(each.target_tokens_per_second * each.seconds for each in records)),
            "train_seconds": sum(each.seconds for each in records),
            "valid_seconds": sum(each.valid_seconds for each in records)
            + sum(each.measure_seconds for each in reports.values()),
        }
        if first := reports.get(0):
            update |= {
                "epochs": len(first.epochs),
                "curve": tuple(value_of(self._objective, record) for record in first.epochs),
                "best": _best(first.epochs),
            }
            if first.words_per_second is not None:
                update["words_per_second"] = first.words_per_second
        seed = self._space.config_of(trial.settings).train.seed
        seeds = tuple(
            SeedScore(
                seed=seed + index,
                score=value_of(self._objective, best),
                epochs=len(report.epochs),
            )
            for index, report in sorted(reports.items())
            if (best := _best(report.epochs)) is not None
        )
        if seeds:
            scores = [each.score for each in seeds]
            spread = statistics.stdev(scores) if len(scores) > 1 else None
            update |= {"seeds": seeds, "score": statistics.fmean(scores), "spread": spread}
        return trial.model_copy(update=update)

    def end(
        self,
        number: int,
        status: Status,
        reason: str | None = None,
        *,
        may_be_retried: bool = False,
    ) -> None:
        """Record what has become of a running trial.

        Args:
            status: `running` for one that a later session may resume.
            may_be_retried: whether the next session is to try a failed trial again.
        """
        trial = self.trials[number]
        if status == "finished":
            reason = self._early_end(trial)
        ended = {"status": status, "reason": reason, "may_be_retried": may_be_retried}
        trial = trial.model_copy(update=ended)
        self._keep(trial)
        del self._running[number]
        self._log.end(trial)

    def close(self) -> None:
        """Keep the trials that the end of the sweep has interrupted, for a later session."""
        for number in list(self._running):
            # A worker may have saved an epoch since, of which nobody has heard.
            self.trials[number] = self._saved(self.trials[number])
            self.end(number, "running", self.budget_used_up)
        self._records.save_clock()

    def _early_end(self, trial: Trial) -> str | None:
        """Return why a finished trial has fewer epochs than it may have, if so."""
        train = self._space.config_of(trial.settings).train
        if trial.epochs >= train.epochs:
            return None
        return f"no better loss in {train.patience} epochs"

    def _keep(self, trial: Trial) -> None:
        """Save the record of a running trial, and show it."""
        overhead = self._running[trial.number].overhead(trial)
        trial = trial.model_copy(update={"overhead_seconds": overhead})
        self.trials[trial.number] = trial
        self._records.save(trial)
        self._log.update(trial)
        self._changed(trial)


class _Clock:
    """The reports and the overhead of a trial in this session.

    Args:
        overhead: of earlier sessions, in seconds.

    Attributes:
        reports: the last ones, by the index of the seed.
    """

    def __init__(self, overhead: float) -> None:
        self.reports: dict[int, TrialReport] = {}
        self._earlier, self._begin, self._busy = overhead, time.monotonic(), 0.0

    def begin(self, trial: Trial) -> None:
        """Begin to count from what a trial has done before."""
        self._busy = trial.train_seconds + trial.valid_seconds

    def overhead(self, trial: Trial) -> float:
        """Return the time that was spent neither in steps nor in validation, in seconds."""
        busy = trial.train_seconds + trial.valid_seconds - self._busy
        return max(0.0, self._earlier + time.monotonic() - self._begin - busy)


def _best(epochs: Sequence[EpochRecord]) -> EpochRecord | None:
    """Return the epoch of least loss on `valid`."""
    return min(epochs, key=lambda each: each.valid_loss, default=None)


def is_unfinished(space: Space, trial: Trial, seeds: int) -> bool:
    """Return whether a trial of an earlier session is to be resumed.

    That is one which was running or lost its worker, or has finished with fewer epochs or seeds
    than it is to have now.
    """
    if trial.status == "finished":
        epochs = space.config_of(trial.settings).train.epochs
        ended_early = trial.reason is not None
        return len(trial.seeds) < seeds or (trial.epochs < epochs and not ended_early)
    return trial.status == "running" or trial.may_be_retried


def best_trial(trials: Sequence[Trial], *, maximised: bool) -> Trial | None:
    """Return the trial of the best score, the first one of equal ones.

    Trials that have failed do not count, whatever their epochs before were like.

    Returns:
        The trial, or None if no other one has a score.
    """
    compared = [trial for trial in trials if trial.is_compared]
    sign = -1 if maximised else 1
    return min(compared, key=lambda each: (sign * (each.score or 0), each.number), default=None)
