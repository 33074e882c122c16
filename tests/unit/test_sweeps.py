"""Sweeps without Ray: budgets, searches, records that sweeps are resumed from, and results."""

import csv
import io
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from s2s.distributed.sweep_hooks import Comparison, make_scheduler, rungs
from s2s.distributed.trial import EPOCH, SCORE
from s2s.errors import BadInput
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.presets import PRESETS
from s2s.training.checkpoints import CheckpointManifest, Checkpoints
from s2s.tuning import sweep_table
from s2s.tuning.budget import Budget, Spent, describe_seconds
from s2s.tuning.dimension import parse_dimension, read_space
from s2s.tuning.objective import Objective
from s2s.tuning.records import Records
from s2s.tuning.search import ListedSearch, PointSearch, grid, random_points
from s2s.tuning.space import Space
from s2s.tuning.study import JOURNAL, Cost, Goals, OptunaSearch, StudyLog, importances
from s2s.tuning.sweep_run import SweepRun, TrialReport, best_trial
from s2s.tuning.sweep_table import SweepTable
from s2s.tuning.trials import SWEEP, Axis, Sweep, Trial, pareto_front

RECORD = EpochRecord(1, 40, 1.5, 2.0, 0.5, 0.75, 900.0, 9000.0, 2.0, 0.5, 0.125)
SIZES = ("model.hidden-size=16,32", "model.embedding-size=8,16")


def space_of(*options: str, epochs: int = 3) -> Space:
    config = PRESETS["seed"]()
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
    return Space.of(config, [parse_dimension(text, config) for text in options])


def epochs(*accuracies: float) -> tuple[EpochRecord, ...]:
    """Return records of epochs with these accuracies, whose loss falls as they rise."""
    return tuple(
        replace(RECORD, epoch=number, valid_token_accuracy=each, valid_loss=3 - each)
        for number, each in enumerate(accuracies, 1)
    )


# ---- budgets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "budget"),
    [
        ((), Budget()),
        (("30m",), Budget(seconds=1800)),
        (("1h30m", "200epochs"), Budget(seconds=5400, epochs=200)),
        (("90s", "1 epoch", "50Mtokens"), Budget(seconds=90, epochs=1, tokens=5e7)),
        (("1.5h", "10,000 tokens"), Budget(seconds=5400, tokens=10_000)),
    ],
)
def test_a_budget_is_read(texts: tuple[str, ...], budget: Budget) -> None:
    assert Budget.parse(texts) == budget
    assert budget.is_limited == bool(texts)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("30",), "expected a time as in 30m or 1h30m, 200epochs, or 50Mtokens"),
        (("30 minutes",), "expected a time"),
        (("1.2.3h",), "expected a time"),
        (("-1h",), "expected a time"),
        (("0s",), "more than 0 is needed"),
        (("0.4epochs",), "more than 0 is needed"),
        (("1h", "30m"), "--budget 30m: there is a limit of seconds already"),
    ],
)
def test_a_wrong_budget_is_refused(texts: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadInput, match="--budget") as caught:
        Budget.parse(texts)
    assert said in str(caught.value)


def test_what_is_used_up_and_what_is_left() -> None:
    budget = Budget(seconds=3600, epochs=100)
    assert budget.used_up(Spent(3599, 99, 10**12)) is None
    assert budget.used_up(Spent(3600, 0, 0)) == "the budget of 1h00m is used up"
    assert budget.used_up(Spent(0, 100, 0)) == "the budget of 100 epochs is used up"
    assert Budget(tokens=5).used_up(Spent(tokens=5)) == "the budget of 5 tokens is used up"
    assert budget.describe_left(Spent(600, 60, 0)) == "50m left, 40 epochs left"
    assert [describe_seconds(each) for each in (0, 59.4, 3900)] == ["0s", "59s", "1h05m"]


# ---- searches -----------------------------------------------------------------------------------


def trial(number: int, settings: object, status: str = "finished", **more: object) -> Trial:
    return Trial.model_validate({"number": number, "settings": settings, "status": status, **more})


@pytest.mark.parametrize("kind", ["grid", "random", "optuna"])
def test_a_search_tries_each_point_of_a_finite_space_once(kind: str) -> None:
    space = space_of(*SIZES, "model.cell=lstm,gru")
    search: PointSearch = {
        "grid": lambda: ListedSearch(space, grid(space)),
        "random": lambda: ListedSearch(space, random_points(space, 1)),
        "optuna": lambda: OptunaSearch(space, Goals(maximised=True), 1),
    }[kind]()
    tried = [trial(1, space.points()[2], score=0.5)]  # of an earlier session
    while (point := search.suggest(tried)) is not None:
        tried.append(trial(len(tried) + 1, point, score=0.1 * len(tried)))
    assert len(tried) == 8
    assert sorted(str(each.settings) for each in tried) == sorted(map(str, space.points()))


SPACES = {
    "whole numbers by their logarithm": ("model.layers=log:1:3", 3),
    "steps that are no binary numbers": ("model.dropout=0.1:0.7:0.1", 7),
    "a range within which some are invalid": ("model.hidden-size=8:1000000", 12),
}


@pytest.mark.parametrize("kind", ["random", "optuna"])
@pytest.mark.parametrize(("option", "count"), SPACES.values(), ids=SPACES)
def test_a_search_ends_where_all_is_tried_and_suggests_nothing_invalid(
    kind: str, option: str, count: int, tmp_path: Path
) -> None:
    config = PRESETS["base"]()  # bidirectional: hidden sizes are even
    space = Space.of(config, [parse_dimension(option, config)])
    search: PointSearch = (
        OptunaSearch(space, Goals(maximised=True), 0)
        if kind == "optuna"
        else ListedSearch(space, random_points(space, 0))
    )
    tried = list[Trial]()
    while len(tried) < 12 and (point := search.suggest(tried)) is not None:
        assert space.is_valid(point)
        tried.append(trial(len(tried) + 1, point, score=0.1, curve=(0.1,)))
    assert len({space.key(each.settings) for each in tried}) == len(tried) == count
    StudyLog(tmp_path / JOURNAL, space, Goals(maximised=True), tried)
    assert len(read_study(tmp_path / JOURNAL).trials) == count


def test_a_setting_whose_condition_never_holds_ends_a_search(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        '[search]\nmodel.cell = ["lstm", "gru"]\n'
        'model.dropout = { low = 0.1, high = 0.5, where = { "model.layers" = 2 } }\n'
    )
    config = PRESETS["seed"]()
    space = Space.of(config, read_space(file, config))
    for search in (
        ListedSearch(space, random_points(space, 0)), OptunaSearch(space, Goals(maximised=True), 0)
    ):  # fmt: skip
        tried = list[Trial]()
        while (point := search.suggest(tried)) is not None:
            tried.append(trial(len(tried) + 1, point, score=0.5))
        assert [each.settings for each in tried] in (
            [{"model.cell": "lstm"}, {"model.cell": "gru"}],
            [{"model.cell": "gru"}, {"model.cell": "lstm"}],
        )


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "clock.json").write_text("{")
    with pytest.raises(BadInput, match=r"clock\.json cannot be read"):
        Records(tmp_path)
    (tmp_path / "clock.json").unlink()
    (tmp_path / "trials/0001").mkdir(parents=True)
    (tmp_path / "trials/0001/trial.json").write_text('{"number": "first"}')
    with pytest.raises(BadInput, match=r"0001/trial\.json: "):
        Records(tmp_path).load()


def test_what_equals_the_preset_is_not_tried_again_under_another_name() -> None:
    space = space_of("model.hidden-size=16,32", "model.embedding-size=64,8")
    search = ListedSearch(space, grid(space))
    # Of a session in which the embedding size did not vary: it was the preset's, 64.
    tried = [trial(1, {"model.hidden_size": 16}, score=0.5)]
    assert search.suggest(tried) == {"model.hidden_size": 16, "model.embedding_size": 8}


def test_a_large_space_is_not_listed() -> None:
    space = space_of("model.hidden-size=32:512", "model.embedding-size=32:512",
                     "train.batch-size=16:256")  # fmt: skip
    assert not space.is_finite
    assert OptunaSearch(space, Goals(maximised=True), 0).suggest([]) is not None
    assert next(random_points(space, 0))
    with pytest.raises(BadInput, match="a grid of more than 100,000 points is too large"):
        grid(space)


def searched(search: OptunaSearch, score: Callable[[Trial], float], trials: int) -> list[Trial]:
    tried: list[Trial] = []
    for number in range(1, trials + 1):
        point = search.suggest(tried)
        assert point is not None
        new = trial(number, point)
        tried.append(new.model_copy(update={"score": score(new)}))
    return tried


def test_optuna_looks_where_scores_are_good_and_leaves_what_fails() -> None:
    space = space_of("model.dropout=0:0.9", "train.learning-rate=log:1e-5:1")

    def score(one: Trial) -> float:
        return -abs(float(str(one.settings["model.dropout"])) - 0.3)

    tried = searched(OptunaSearch(space, Goals(maximised=True), 0), score, 40)
    late = [abs(each.score or 0) for each in tried[20:]]
    random = [-score(trial(0, point)) for point in itertools.islice(random_points(space, 0), 200)]
    assert sum(late) / len(late) < 0.5 * sum(random) / len(random)
    # Where every rate above 0.01 fails, few are tried.
    failing = OptunaSearch(space, Goals(maximised=True), 0)
    tried = []
    for number in range(1, 41):
        point = failing.suggest(tried)
        assert point is not None
        bad = float(str(point["train.learning_rate"])) > 0.01
        tried.append(
            trial(number, point, "failed", reason="the loss exploded") if bad
            else trial(number, point, score=0.5)
        )  # fmt: skip
    assert sum(each.status == "failed" for each in tried[20:]) <= 3


def test_optuna_obeys_conditions_and_knows_running_and_stopped_trials(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        '[search]\n"model.bidirectional" = [true, false]\n'
        '"model.attention" = { choices = ["none", "general"], '
        'where = { "model.bidirectional" = true } }\n"model.dropout" = { low = 0.1, high = 0.5 }\n'
    )
    config = PRESETS["seed"]()
    space = Space.of(config, read_space(file, config))
    search, tried = OptunaSearch(space, Goals(maximised=False), 3), list[Trial]()
    for number in range(1, 25):
        point = search.suggest(tried)
        assert point is not None
        assert ("model.attention" in point) == point["model.bidirectional"]
        state = ("finished", "stopped", "running")[number % 3]
        curve = (2.0, 1.5 + number / 100)
        tried.append(trial(number, point, state, curve=curve, score=curve[1]))
    # A session with another space leaves out what is not in it.
    other = OptunaSearch(space_of("model.cell=lstm,gru"), Goals(maximised=False), 3)
    assert other.suggest(tried) in ({"model.cell": "lstm"}, {"model.cell": "gru"})


@pytest.mark.parametrize("cost", ["parameters", "words_per_second"])
def test_two_objectives_are_searched_together(cost: Cost) -> None:
    space = space_of("model.hidden-size=16:256:16", "model.embedding-size=8:128:8")
    search, tried = OptunaSearch(space, Goals(maximised=True, cost=cost), 0), list[Trial]()
    for number in range(1, 31):
        point = search.suggest(tried)
        assert point is not None
        size = int(str(point["model.hidden_size"]))
        tried.append(
            trial(number, point, "finished" if number % 4 else "stopped", score=size / 256,
                  curve=(0.1,), parameters=size, words_per_second=None if number % 4 == 0 else 1e5)
        )  # fmt: skip
    assert len({str(each.settings) for each in tried}) == 30


# ---- Optuna's storage ---------------------------------------------------------------------------


def test_the_storage_of_a_sweep_is_read_by_optuna(tmp_path: Path) -> None:
    space, goals = space_of(*SIZES, "train.clip-norm=none,1"), Goals(maximised=True)
    points = space.points()
    past = [
        trial(1, points[0], score=0.6, curve=(0.5, 0.6)),
        trial(2, {"model.hidden_size": 48}, score=0.1),  # of another space
    ]
    log = StudyLog(tmp_path / JOURNAL, space, goals, past)
    running = [trial(number, points[number], "running") for number in (3, 4, 5)]
    for each in running:
        log.begin(each)
    longer = running[0].model_copy(update={"curve": (0.4, 0.7), "score": 0.7})
    for curve in ((), (0.4,), (0.4, 0.7)):
        log.update(longer.model_copy(update={"curve": curve}))
    log.end(longer.model_copy(update={"status": "finished"}))
    log.end(running[1].model_copy(update={"status": "failed", "reason": "it exploded"}))
    study = read_study(tmp_path / JOURNAL)
    told = [(each.user_attrs["trial"], each.state.name, each.value) for each in study.trials]
    assert told == [
        (1, "COMPLETE", 0.6), (3, "COMPLETE", 0.7), (4, "FAIL", None), (5, "RUNNING", None)
    ]  # fmt: skip
    assert study.trials[1].intermediate_values == {1: 0.4, 2: 0.7}
    assert study.trials[1].params == points[3]
    assert study.trials[2].user_attrs["reason"] == "it exploded"
    assert study.direction.name == "MAXIMIZE"


def read_study(file: Path) -> "optuna.Study":
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    return optuna.load_study(study_name=None, storage=storage)


def test_importances_tell_which_setting_matters() -> None:
    space = space_of("model.dropout=0:0.9", "model.hidden-size=16:256:16")
    points = itertools.islice(random_points(space, 0), 60)
    tried = [trial(number, point) for number, point in enumerate(points, 1)]
    scored = [
        each.model_copy(update={"score": float(str(each.settings["model.dropout"]))})
        for each in tried
    ]
    found = importances(space, scored, maximised=True)
    assert found is not None
    assert list(found) == ["model.dropout", "model.hidden_size"]
    assert found["model.dropout"] > 0.6
    assert importances(space, scored[:3], maximised=True) is None
    equal = [each.model_copy(update={"score": 0.5}) for each in tried]
    assert importances(space, equal, maximised=True) is None


# ---- a sweep while it runs ----------------------------------------------------------------------


def sweep_run(
    folder: Path,
    space: Space,
    *,
    objective: Objective = "token_accuracy",
    seeds: int = 1,
    trials: int | None = None,
    budget: Budget = Budget(),  # noqa: B008
    shown: Callable[[Trial], None] = lambda trial: None,
) -> SweepRun:
    records = Records(folder)
    log = StudyLog(folder / JOURNAL, space, Goals(maximised=True), [])
    return SweepRun(
        space, ListedSearch(space, grid(space)), objective, records, seeds=seeds, trials=trials,
        budget=budget, log=log, parameters_of=lambda point: 1000,
        changed=shown,
    )  # fmt: skip


def run_one(sweep: SweepRun, *accuracies: float, status: str = "finished") -> int:
    """Begin the next trial, and end it after these epochs."""
    begun = sweep.next_trial()
    assert begun is not None
    for count in range(1, len(accuracies) + 1):
        sweep.report(begun.number, TrialReport(0, epochs(*accuracies[:count])))
    sweep.end(begun.number, status)  # type: ignore[arg-type]
    return begun.number


def test_a_trial_is_recorded_with_its_epochs_times_and_score(tmp_path: Path) -> None:
    shown: list[Trial] = []
    sweep = sweep_run(tmp_path, space_of(*SIZES), shown=shown.append)
    begun = sweep.next_trial()
    assert begun is not None
    assert (begun.number, begun.status, begun.parameters) == (1, "running", 1000)
    assert sweep.running == 1
    sweep.report(1, TrialReport(0, epochs(0.2)))
    sweep.report(1, TrialReport(0, epochs(0.2, 0.5, 0.4)))
    sweep.report(1, TrialReport(0, epochs(0.2, 0.5, 0.4), 1234.5, 0.25, is_last=True))
    sweep.end(1, "finished")
    [record] = Records(tmp_path).load()
    assert record == sweep.trials[1] == shown[-1]
    assert record.curve == (0.2, 0.5, 0.4)
    assert record.best is not None
    assert (record.best.epoch, record.score, record.epochs) == (2, 0.5, 3)
    assert record.words_per_second == 1234.5
    assert record.tokens == 3 * 18_000
    assert record.train_seconds == 6.0
    assert record.valid_seconds == pytest.approx(1.75)
    assert record.overhead_seconds == 0.0  # no more time has passed than is claimed
    assert sweep.running == 0
    assert sweep.spent.epochs == 3


def test_a_trial_that_fails_keeps_its_epochs_and_is_not_the_best(tmp_path: Path) -> None:
    sweep = sweep_run(tmp_path, space_of(*SIZES))
    run_one(sweep, 0.1, 0.2, 0.3)
    sweep.next_trial()
    sweep.report(2, TrialReport(0, epochs(0.5, 0.6)))
    sweep.report(2, TrialReport(0, (), failure="the loss exploded", is_last=True))
    sweep.end(2, "failed", "the loss exploded")
    failed = sweep.trials[2]
    assert (failed.epochs, failed.score, failed.reason) == (2, 0.6, "the loss exploded")
    best = best_trial(list(sweep.trials.values()), maximised=True)
    assert best is not None
    assert best.number == 1
    assert sweep_run(tmp_path, space_of(*SIZES), trials=2).next_trial() is None


def test_seeds_of_a_point_give_mean_and_spread(tmp_path: Path) -> None:
    sweep = sweep_run(tmp_path, space_of(*SIZES), seeds=3)
    sweep.next_trial()
    for index, accuracy in enumerate((0.5, 0.6, 0.7)):
        sweep.report(1, TrialReport(index, epochs(0.1, accuracy)))
    sweep.end(1, "finished")
    record = sweep.trials[1]
    assert [(each.seed, each.score) for each in record.seeds] == [(0, 0.5), (1, 0.6), (2, 0.7)]
    assert record.score == pytest.approx(0.6)
    assert record.spread == pytest.approx(0.1)
    assert (record.epochs, record.curve) == (2, (0.1, 0.5))
    assert record.train_seconds == 12.0


def test_a_sweep_is_resumed_and_extended_from_its_records(tmp_path: Path) -> None:
    sizes = space_of(*SIZES)
    sweep = sweep_run(tmp_path, sizes, trials=3)
    run_one(sweep, 0.1, 0.2, 0.3)
    run_one(sweep, 0.1, status="stopped")
    third = sweep.next_trial()
    assert third is not None
    sweep.report(3, TrialReport(0, epochs(0.1)))
    assert sweep.next_trial() is None  # three are enough
    sweep.close()

    # Interrupted: the third is run again, and has its earlier overhead.
    sweep = sweep_run(tmp_path, sizes, trials=3)
    assert run_one(sweep, 0.1, 0.2, 0.4) == 3
    assert sweep.next_trial() is None
    # Further trials: none is tried twice.
    sweep = sweep_run(tmp_path, sizes, trials=9)
    assert run_one(sweep, 0.1, 0.2, 0.3) == 4
    assert sweep.next_trial() is None
    points = [str(each.settings) for each in sweep.trials.values()]
    assert len(set(points)) == 4
    # Further values of a setting.
    wider = space_of("model.hidden-size=16,32,48", "model.embedding-size=8,16")
    sweep = sweep_run(tmp_path, wider)
    assert [run_one(sweep, 0.1, 0.2, 0.3) for _ in range(2)] == [5, 6]
    assert sweep.next_trial() is None
    # More epochs: those that have finished train on, the one that was stopped does not.
    sweep = sweep_run(tmp_path, space_of(*SIZES, epochs=4))
    assert [run_one(sweep, 0.1, 0.2, 0.3, 0.4) for _ in range(5)] == [1, 3, 4, 5, 6]
    assert sweep.next_trial() is None
    # More seeds.
    sweep = sweep_run(tmp_path, space_of(*SIZES, epochs=4), seeds=2)
    again = sweep.next_trial()
    assert again is not None
    assert again.number == 1


def test_epochs_of_all_seeds_are_spent_and_kept_when_a_trial_is_resumed(tmp_path: Path) -> None:
    sweep = sweep_run(tmp_path, space_of(*SIZES), seeds=2, budget=Budget(epochs=6))
    sweep.next_trial()
    for index, accuracy in enumerate((0.5, 0.7)):
        sweep.report(1, TrialReport(index, epochs(0.1, 0.2, accuracy)))
        save_checkpoint(tmp_path, 1, index, epochs(0.1, 0.2, accuracy))
    assert sweep.spent.epochs == 6
    assert sweep.budget_used_up
    sweep.close()
    before = sweep.trials[1]
    assert (before.status, before.reason) == ("running", "the budget of 6 epochs is used up")
    # It is resumed with all that both seeds have done.
    resumed = sweep_run(tmp_path, space_of(*SIZES), seeds=2, budget=Budget(epochs=7))
    again = resumed.next_trial()
    assert again is not None
    same = ("score", "spread", "seeds", "tokens", "train_seconds")
    assert {name: getattr(again, name) for name in same} == {
        name: getattr(before, name) for name in same
    }


def save_checkpoint(
    folder: Path, number: int, index: int, records: tuple[EpochRecord, ...]
) -> None:
    """Write what a run saves, as far as sweeps read it."""
    store = Checkpoints(Records(folder).trial_folder(number, index) / "checkpoints")
    metrics = RunMetrics(epochs=records)
    store.save(
        CheckpointManifest(steps=records[-1].steps, epoch=len(records)),
        lambda path: (path / "metrics.json").write_text(metrics.to_json()),
    )
    store.wait()


def test_an_epoch_that_was_saved_as_the_sweep_ended_counts(tmp_path: Path) -> None:
    sweep = sweep_run(tmp_path, space_of(*SIZES))
    sweep.next_trial()
    sweep.report(1, TrialReport(0, epochs(0.1)))
    save_checkpoint(tmp_path, 1, 0, epochs(0.1, 0.6))
    sweep.close()
    [record] = Records(tmp_path).load()
    assert (record.epochs, record.score, record.status) == (2, 0.6, "running")


def test_a_trial_that_lost_its_worker_is_tried_again_by_the_next_session(tmp_path: Path) -> None:
    sweep = sweep_run(tmp_path, space_of(*SIZES), trials=2)
    for kind in ("the loss exploded", "the actor died"):
        begun = sweep.next_trial()
        assert begun is not None
        sweep.end(begun.number, "failed", kind, may_be_retried=kind == "the actor died")
    again = sweep_run(tmp_path, space_of(*SIZES), trials=2)
    assert run_one(again, 0.1, 0.2, 0.3) == 2
    assert again.next_trial() is None
    assert not again.trials[2].may_be_retried


def test_a_budget_ends_a_sweep_and_a_greater_one_resumes_it(tmp_path: Path) -> None:
    sweep = sweep_run(tmp_path, space_of(*SIZES), budget=Budget(epochs=4))
    run_one(sweep, 0.1, 0.2, 0.3)
    second = sweep.next_trial()
    assert second is not None
    sweep.report(2, TrialReport(0, epochs(0.1)))
    assert sweep.budget_used_up == "the budget of 4 epochs is used up"
    assert sweep.next_trial() is None
    sweep.close()
    assert sweep_run(tmp_path, space_of(*SIZES), budget=Budget(epochs=4)).next_trial() is None
    resumed = sweep_run(tmp_path, space_of(*SIZES), budget=Budget(epochs=9)).next_trial()
    assert resumed is not None
    assert resumed.number == 2


def test_a_trial_that_ends_early_by_its_own_patience_is_finished(tmp_path: Path) -> None:
    space = space_of(*SIZES, epochs=9)
    train = space.config.train.model_copy(update={"patience": 2})
    space = replace(space, config=space.config.model_copy(update={"train": train}))
    sweep = sweep_run(tmp_path, space, trials=1)
    run_one(sweep, 0.5, 0.4, 0.3)
    assert sweep.trials[1].reason == "no better loss in 2 epochs"
    assert sweep_run(tmp_path, space, trials=1).next_trial() is None


# ---- schedulers ---------------------------------------------------------------------------------


class Running:
    """A trial as Tune hands it to schedulers."""

    def __init__(self, number: int) -> None:
        self.config = {"number": number, "settings": {}}


def decisions(scheduler: Comparison, number: int, *values: float) -> list[str]:
    told = []
    for epoch, value in enumerate(values, 1):
        told.append(scheduler.on_trial_result(None, Running(number), {EPOCH: epoch, SCORE: value}))
        if told[-1] == "STOP":
            break
    return told


@pytest.mark.parametrize("kind", ["asha", "median"])
@pytest.mark.parametrize("maximised", [True, False])
def test_a_scheduler_compares_with_earlier_sessions(kind: str, maximised: bool) -> None:
    sign = 1 if maximised else -1
    curves = [(sign * each, sign * (each + 0.1)) for each in (0.3, 0.4, 0.5, 0.6)]
    past = [trial(n, {}, curve=curve) for n, curve in enumerate(curves, 1)]
    space = space_of(*SIZES, epochs=9)
    scheduler = make_scheduler(kind, space, maximised=maximised, past=past)  # type: ignore[arg-type]
    assert isinstance(scheduler, Comparison)
    assert decisions(scheduler, 5, sign * 0.1) == ["STOP"]
    assert decisions(scheduler, 6, sign * 0.9, sign * 0.95) == ["CONTINUE", "CONTINUE"]
    # Without the earlier ones, nothing is there to compare with.
    alone = make_scheduler(kind, space, maximised=maximised, past=[])  # type: ignore[arg-type]
    assert isinstance(alone, Comparison)
    assert decisions(alone, 5, sign * 0.1) == ["CONTINUE"]


def test_a_poor_trial_of_an_earlier_session_is_no_obstacle() -> None:
    # It survived its first epoch, when there were too few others.
    curves = [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (0.1, 0.2), (0.6, 0.7)]
    past = [trial(n, {}, curve=curve) for n, curve in enumerate(curves, 1)]
    for kind in ("median", "asha"):
        scheduler = make_scheduler(kind, space_of(*SIZES, epochs=9), maximised=True, past=past)  # type: ignore[arg-type]
        assert isinstance(scheduler, Comparison)
        assert decisions(scheduler, 6, 0.65, 0.7) == ["CONTINUE"] * 2


def test_a_resumed_trial_is_not_compared_by_epochs_that_it_has_behind_it() -> None:
    # Four others and two that were interrupted after six epochs, all equal.
    past = [trial(n, {}, curve=(0.1, 0.2, 0.3, 0.4)) for n in range(1, 5)]
    past += [trial(n, {}, "running", curve=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)) for n in (5, 6)]
    scheduler = make_scheduler("asha", space_of(*SIZES, epochs=20), maximised=True, past=past)
    assert isinstance(scheduler, Comparison)
    for number in (5, 6):
        for epoch in (7, 8):
            result = {EPOCH: epoch, SCORE: epoch / 10}
            assert scheduler.on_trial_result(None, Running(number), result) == "CONTINUE"
    assert decisions(scheduler, 7, 0.1, 0.2, 0.3, 0.4) == ["CONTINUE"] * 4


def test_a_trial_is_not_stopped_after_its_last_epoch() -> None:
    space = space_of(*SIZES, epochs=4)
    past = [trial(n, {}, curve=(0.1, 0.2, 0.3, 0.9)) for n in range(1, 6)]
    scheduler = make_scheduler("asha", space, maximised=True, past=past)
    assert isinstance(scheduler, Comparison)
    assert decisions(scheduler, 9, 0.2, 0.3, 0.4, 0.5) == ["CONTINUE"] * 4


def test_rungs_are_powers_of_four_below_the_epochs() -> None:
    assert [rungs(space_of(*SIZES, epochs=each)) for each in (1, 3, 4, 16, 17)] == [
        (), (1,), (1,), (1, 4), (1, 4, 16),
    ]  # fmt: skip
    assert rungs(space_of("train.epochs=3,20", epochs=5)) == (1, 4, 16)


# ---- results ------------------------------------------------------------------------------------


def test_sweep_json_and_its_table_have_every_trial(tmp_path: Path) -> None:
    trials = (
        trial(1, {"model.cell": "gru"}, score=0.5, best=RECORD, epochs=1, curve=(0.5,)),
        trial(2, {}, "failed", reason='it said "no", twice'),
    )
    sweep = Sweep(
        axes=(Axis(setting="model.cell", choices=("lstm", "gru")),), objective="token_accuracy",
        maximised=True, searcher="grid", scheduler="none", trials=trials, best=1, concurrency=2,
        train_seconds=2.0, valid_seconds=0.5, overhead_seconds=0.25, total_seconds=3.0,
    )  # fmt: skip
    (tmp_path / SWEEP).write_text(sweep.to_json(), "utf-8")
    assert Sweep.load(tmp_path) == sweep
    assert sweep.best_trial == trials[0]
    rows = list(csv.DictReader(io.StringIO(sweep.to_csv())))
    assert [row["model.cell"] for row in rows] == ["gru", ""]
    assert float(rows[0]["best_valid_token_accuracy"]) == 0.5
    assert rows[1]["reason"] == 'it said "no", twice'
    with pytest.raises(BadInput, match="cannot be read"):
        Sweep.load(tmp_path / "nothing")


@given(
    st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(1, 5)), max_size=12),
    st.booleans(),
    st.sampled_from(["parameters", "words_per_second"]),
)
def test_nothing_beats_the_pareto_front(
    pairs: list[tuple[int, int | None]], maximised: bool, gain: str
) -> None:
    trials = [trial(n, {}, score=score, **{gain: other}) for n, (score, other) in enumerate(pairs)]
    front = pareto_front(trials, gain, maximised=maximised)

    def key(one: Trial) -> tuple[float, float]:
        other = getattr(one, gain) * (-1 if gain == "words_per_second" else 1)
        return (one.score or 0) * (-1 if maximised else 1), other

    known = [each for each in trials if getattr(each, gain) is not None]
    for one in front:
        mine = key(one)
        assert not any(
            all(map(lambda a, b: a <= b, key(o), mine)) and key(o) != mine for o in known
        )
    beaten = [each for each in known if key(each) not in [key(one) for one in front]]
    for one in beaten:
        assert any(all(map(lambda a, b: a <= b, key(f), key(one))) for f in front)


def test_the_best_trial_is_the_first_of_equal_ones() -> None:
    trials = [
        trial(1, {}),
        trial(2, {}, score=0.5),
        trial(3, {}, score=0.5),
        trial(4, {}, score=0.1),
    ]
    assert best_trial(trials, maximised=True) == trials[1]
    assert best_trial(trials, maximised=False) == trials[3]
    assert best_trial(trials[:1], maximised=True) is None


# ---- the table ----------------------------------------------------------------------------------


def test_the_table_shows_running_and_best_trials_and_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_table, "_LINE_SECONDS", 0.0)
    space = space_of("model.hidden-size=16:256:16", "train.learning-rate=0.001,0.01")
    budget = Budget(epochs=100)
    with SweepTable("token_accuracy") as table:
        sweep = sweep_run(tmp_path, space, trials=30, budget=budget, shown=table.show)
        table.begin(sweep, budget, 30, maximised=True)
        for number in range(1, 13):
            run_one(sweep, 0.1, 0.1, number / 20, status="stopped" if number % 2 else "finished")
        sweep.next_trial()
    lines = capsys.readouterr().out.splitlines()
    ended = [line for line in lines if line.startswith("trial ")]
    assert len(ended) == 12
    assert ended[3] == (
        "trial 4  hidden_size 32  learning_rate 0.01  epoch 3  token accuracy 0.2000  finished"
    )
    assert re.fullmatch(
        r"13 of 30 trials, 1 running, 6 finished, 6 stopped, \w+ elapsed, 64 epochs left, "
        r"best token accuracy 0\.6000 \(trial 12\)",
        lines[-1],
    )
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table._render())
    drawn = console.export_text()
    numbers = re.findall(r"^│ +(\d+) │ (\w+)", drawn, re.MULTILINE)
    # The running one, and the ten best.
    assert numbers == [("13", "running")] + [
        (str(n), "stopped" if n % 2 else "finished") for n in range(12, 2, -1)
    ]
    assert "64 epochs left" in drawn
