"""Optuna: the tree-structured Parzen estimator as a search, and a storage for its dashboard.

Optuna is an optional dependency (extra `tune`). A sweep's own records are the truth
(`s2s.tuning.records`); a study is made of them whenever it is needed.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from s2s.tuning.dimension import Dimension, Value
from s2s.tuning.search import random_points, untried
from s2s.tuning.space import Point, Space
from s2s.tuning.trials import Trial

Cost = Literal["parameters", "words_per_second"]
Direction = Literal["minimize", "maximize"]

JOURNAL = "optuna.log"  # in the folder of a sweep; optuna-dashboard opens it
_LEAST_RANDOM, _MOST_RANDOM = 4, 10  # points before the estimator begins
_TRIES = 20  # suggestions, until one is new


class Goals:
    """What a study optimises: the score, and a cost if there is one.

    Args:
        maximised: whether a greater score is better.
        cost: second objective: fewer `parameters`, or more `words_per_second`.
    """

    def __init__(self, *, maximised: bool, cost: Cost | None = None) -> None:
        self.cost = cost
        self._score: Direction = "maximize" if maximised else "minimize"

    @property
    def directions(self) -> list[Direction]:
        """Directions by Optuna's names."""
        if self.cost is None:
            return [self._score]
        return [self._score, "minimize" if self.cost == "parameters" else "maximize"]

    def values(self, trial: Trial) -> list[float] | None:
        """Return the values of a trial, or None if one of them is not known."""
        values = [trial.score] if self.cost is None else [trial.score, getattr(trial, self.cost)]
        known = [float(value) for value in values if value is not None]
        return known if len(known) == len(values) else None


class OptunaSearch:
    """The multivariate tree-structured Parzen estimator (Bergstra et al., 2011) of Optuna.

    The first points are random. Running trials count as poor ones, so that neighbours are not tried
    at the same time. With a cost as second objective, points near the Pareto front are looked for.
    """

    def __init__(self, space: Space, goals: Goals, seed: int) -> None:
        self._space, self._goals, self._seed = space, goals, seed

    def suggest(self, trials: Sequence[Trial]) -> Point | None:
        """Return a point that no trial has tried, or None if there is none.

        Args:
            trials: all that have begun so far.
        """
        tried = {self._space.key(trial.settings) for trial in trials}
        # Another seed for each trial: else all of them would draw the same numbers.
        seed = int(np.random.SeedSequence((self._seed, len(trials))).generate_state(1)[0])
        with _quiet():
            study = optuna.create_study(
                directions=self._goals.directions,
                sampler=optuna.samplers.TPESampler(
                    n_startup_trials=min(
                        max(2 * len(self._space.dimensions), _LEAST_RANDOM), _MOST_RANDOM
                    ),
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    seed=seed,
                ),
            )
            study.add_trials(_past(self._space, self._goals, trials))
            for _ in range(_TRIES):
                asked = study.ask()
                point = _ask(self._space, asked)
                if self._space.is_valid(point) and self._space.key(point) not in tried:
                    return point
                study.tell(asked, state=TrialState.FAIL)
        return next(untried(self._space, random_points(self._space, seed), tried), None)


class StudyLog:
    """An Optuna storage of a sweep, up to date while the sweep runs, for `optuna-dashboard`.

    Args:
        file: to write; an earlier one is replaced.
        trials: that have ended so far.
    """

    def __init__(self, file: Path, space: Space, goals: Goals, trials: Sequence[Trial]) -> None:
        self._space, self._goals = space, goals
        self._running: dict[int, optuna.Trial] = {}  # by our numbers
        self._reported: dict[int, int] = {}  # epochs of each of them
        for earlier in (file, file.with_name(f"{file.name}.lock")):
            earlier.unlink(missing_ok=True)  # that of a killed process would be waited for
        with _quiet():
            # A lock that is a file works where symbolic links do not.
            backend = JournalFileBackend(str(file), JournalFileOpenLock(str(file)))
            self._study: optuna.Study = optuna.create_study(
                study_name=file.parent.name.removesuffix(".run"),
                directions=goals.directions,
                storage=JournalStorage(backend),
            )
            self._study.set_metric_names(["score", goals.cost] if goals.cost else ["score"])
            self._study.add_trials(_past(space, goals, trials))

    def begin(self, trial: Trial) -> None:
        """Add a trial that has begun."""
        if not (given := _inside(self._space, trial)):
            return
        with _quiet():
            self._study.enqueue_trial(dict(trial.settings), user_attrs={"trial": trial.number})
            self._running[trial.number] = self._study.ask(given)
            self._reported[trial.number] = 0

    def update(self, trial: Trial) -> None:
        """Add the epochs that a trial has trained since."""
        if self._goals.cost is not None or (entry := self._running.get(trial.number)) is None:
            return  # Optuna has no curves where there are two objectives
        with _quiet():
            for epoch in range(self._reported[trial.number], len(trial.curve)):
                entry.report(trial.curve[epoch], epoch + 1)
        self._reported[trial.number] = len(trial.curve)

    def end(self, trial: Trial) -> None:
        """Note what became of a trial."""
        if (entry := self._running.pop(trial.number, None)) is None:
            return
        with _quiet():
            if trial.reason is not None:
                entry.set_user_attr("reason", trial.reason)
            values = self._goals.values(trial)
            if trial.status == "finished" and values:
                self._study.tell(entry, values)
            else:
                failed = trial.status == "failed"
                self._study.tell(entry, state=TrialState.FAIL if failed else TrialState.PRUNED)


def importances(
    space: Space, trials: Sequence[Trial], *, maximised: bool
) -> dict[str, float] | None:
    """Return how much each setting matters for the score among the better trials.

    Importances are PED-ANOVA's (Watanabe et al., 2023), and add up to 1. A setting that some trials
    do not have has none.

    Returns:
        Shares by dotted names, the greatest first; None if there are too few trials.
    """
    scored = [trial for trial in trials if trial.is_compared]
    if len(scored) < 2 * len(space.dimensions) or len({trial.score for trial in scored}) < 2:
        return None
    goals = Goals(maximised=maximised)
    finished = [trial.model_copy(update={"status": "finished"}) for trial in scored]
    with _quiet():
        study = optuna.create_study(directions=goals.directions)
        study.add_trials(_past(space, goals, finished))
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in found.items()}


def _past(space: Space, goals: Goals, trials: Sequence[Trial]) -> list[FrozenTrial]:
    """Return trials for a study: those whose points are in its space."""
    with _quiet():
        past = []
        for trial in trials:
            if not (distributions := _inside(space, trial)):
                continue
            values = goals.values(trial)
            curve = {} if goals.cost else dict(enumerate(trial.curve, 1))
            match trial.status:
                case "running":
                    kept = TrialState.RUNNING
                case "finished" if values:
                    kept = TrialState.COMPLETE
                case "failed":
                    # Pruned before its first epoch is the worst: failed ones would be ignored, and
                    # others tried near by.
                    kept, curve = TrialState.PRUNED, {}
                case _:
                    kept = TrialState.PRUNED
            past.append(
                create_trial(
                    state=kept,
                    values=values if kept == TrialState.COMPLETE else None,
                    params=dict(trial.settings),
                    distributions=distributions,
                    intermediate_values=curve,
                    user_attrs={"trial": trial.number, "reason": trial.reason},
                )
            )
    return past


def _inside(space: Space, trial: Trial) -> dict[str, BaseDistribution]:
    """Return the distributions of a trial's settings; none if its point is not in the space.

    It may be of a session with another space.
    """
    found = {}
    for dimension in space.dimensions:
        if dimension.setting in trial.settings:
            if not dimension.contains(trial.settings[dimension.setting]):
                return {}
            found[dimension.setting] = _distribution(dimension)
    return found if found.keys() == trial.settings.keys() else {}


def _ask(space: Space, trial: optuna.Trial) -> Point:
    """Return the point that Optuna suggests for a trial."""
    point: Point = {}
    for dimension in space.dimensions:
        if space.applies(dimension, point):
            point[dimension.setting] = _suggest(dimension, trial)
    return point


def _suggest(dimension: Dimension, trial: optuna.Trial) -> Value:
    name, low, high, log = dimension.setting, dimension.low, dimension.high, dimension.log
    if not dimension.is_range:
        chosen: Value = trial.suggest_categorical(name, dimension.choices)
        return chosen
    if dimension.is_whole:
        step = int(dimension.step or 1)
        return trial.suggest_int(name, int(low), int(high), step=step, log=log)
    # Optuna rounds the values of steps in another way.
    return dimension.nearest(trial.suggest_float(name, low, high, step=dimension.step, log=log))


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Return the values of a dimension as Optuna has them."""
    low, high, log = dimension.low, dimension.high, dimension.log
    if not dimension.is_range:
        return CategoricalDistribution(dimension.choices)
    if dimension.is_whole:
        step = int(dimension.step or 1)
        return IntDistribution(int(low), int(high), log, step)
    return FloatDistribution(low, high, log, dimension.step)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from printing its log, and that parts of it are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
