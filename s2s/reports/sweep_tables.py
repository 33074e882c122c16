"""Tables of a sweep, which the terminal and the HTML page share."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from s2s.reports.blocks import Table
from s2s.reports.ranking import ranked
from s2s.reports.sweep_values import (
    duration,
    objective_name,
    score_text,
    setting_text,
    short_names,
)
from s2s.tuning.trials import Axis, Sweep, Trial

Columns = dict[str, Callable[[Trial], object]]  # cells of a trial, by their headings

_SEARCHERS = {"grid": "grid search", "random": "random search", "optuna": "Optuna (TPE)"}
_SCHEDULERS = {"none": "none", "asha": "ASHA", "median": "median stopping"}


def overview_table(sweep: Sweep) -> Table:
    """Return how the sweep searched, and what it spent."""
    rows: list[tuple[object, ...]] = [
        ("objective", describe_objective(sweep)),
        ("searcher", searcher_name(sweep)),
        ("scheduler", scheduler_name(sweep)),
        *([("rungs", "epochs " + ", ".join(map(str, sweep.rungs)))] if sweep.rungs else []),
        ("trials", f"{len(sweep.trials):,}: {count_statuses(sweep)}"),
        ("at the same time", f"at most {sweep.concurrency:,}"),
        ("epochs", f"{sum(trial.all_epochs for trial in sweep.trials):,}"),
        ("target tokens", f"{sum(trial.tokens for trial in sweep.trials):,}"),
        ("time", duration(sweep.total_seconds)),
    ]
    return Table("Sweep", ("what", "value"), rows)


def describe_objective(sweep: Sweep) -> str:
    """Return the objective, and which values of it are better."""
    better = "higher" if sweep.maximised else "lower"
    return f"{objective_name(sweep.objective)} on valid; {better} is better"


def searcher_name(sweep: Sweep) -> str:
    """Return what people call the searcher of a sweep."""
    return _SEARCHERS.get(sweep.searcher, sweep.searcher)


def scheduler_name(sweep: Sweep) -> str:
    """Return what people call the scheduler of a sweep."""
    return _SCHEDULERS.get(sweep.scheduler, sweep.scheduler)


def count_statuses(sweep: Sweep) -> str:
    """Return how many trials have each status, such as `3 finished, 1 failed`."""
    counts = Counter[str](trial.status for trial in sweep.trials)
    order = ("finished", "stopped", "failed", "running")
    return ", ".join(f"{counts[status]:,} {status}" for status in order if counts[status])


def axes_table(sweep: Sweep) -> Table:
    """Return the settings that vary, with the values that were tried."""
    rows = [(axis.setting, *_tried(axis, sweep)) for axis in sweep.axes]
    return Table("Settings that vary", ("setting", "values", "tried"), rows)


def _tried(axis: Axis, sweep: Sweep) -> tuple[str, int]:
    """Return the values of an axis in words, and how many different ones were tried."""
    name = axis.setting
    tried = {setting_text(t.settings[name]): t.settings[name] for t in sweep.trials
             if name in t.settings}  # fmt: skip
    if axis.choices:
        return ", ".join(map(setting_text, axis.choices)), len(tried)
    numbers = sorted(value for value in tried.values() if isinstance(value, int | float))
    if not numbers:
        return "a range", 0
    spread = f"{setting_text(numbers[0])} to {setting_text(numbers[-1])}"
    return f"{spread} (log)" if axis.log else spread, len(tried)


def best_settings_table(sweep: Sweep) -> Table:
    """Return the settings of the best trial."""
    settings = sweep.best_trial.settings.items()
    rows = [(setting, setting_text(value)) for setting, value in settings]
    return Table("Settings of the best trial", ("setting", "value"), rows)


def best_table(sweep: Sweep) -> Table:
    """Return the results of the best trial, and of its settings trained again if they were."""
    trials = [sweep.best_trial] + ([sweep.retrained] if sweep.retrained is not None else [])
    of_seeds: Columns = {
        f"with seed {seed}": partial(_score_with_seed, sweep, seed)
        for seed in dict.fromkeys(each.seed for trial in trials for each in trial.seeds)
    }
    results = _filled({**_scores(sweep), **of_seeds, **_measures(sweep)}, trials)
    headings = ("what", f"trial {sweep.best}", "trained again")[: len(trials) + 1]
    rows = [(what, *values) for what, values in results.items()]
    return Table("Results of the best trial", headings, rows)


def _score_with_seed(sweep: Sweep, seed: int, trial: Trial) -> str:
    scores = {each.seed: each.score for each in trial.seeds}
    return score_text(sweep.objective, scores.get(seed))


def trials_table(sweep: Sweep, *, brief: bool = False) -> Table:
    """Return all trials with their settings and results, from the best to the worst.

    Args:
        brief: leave out reasons and most measures, so that the table fits a terminal.
    """
    scores, measures = _scores(sweep), _measures(sweep)
    names = short_names([axis.setting for axis in sweep.axes], [*scores, *measures])
    columns = _filled(
        {
            "trial": lambda trial: trial.number,
            **scores,
            **{short: partial(_setting, name) for name, short in names.items()},
            **({"epochs": measures["epochs"]} if brief else measures),
            "status": lambda trial: trial.status if brief else _status(trial),
        },
        ranked(sweep),
    )
    return Table("Trials", tuple(columns), list(zip(*columns.values(), strict=True)))


def _status(trial: Trial) -> str:
    return f"{trial.status}: {trial.reason}" if trial.reason else trial.status


def failures_table(sweep: Sweep) -> Table:
    """Return why trials failed."""
    failed = [trial for trial in sweep.trials if trial.status == "failed"]
    rows = [(trial.number, trial.reason or "") for trial in failed]
    return Table("Failed trials", ("trial", "reason"), rows)


def _scores(sweep: Sweep) -> Columns:
    return {
        objective_name(sweep.objective): lambda trial: score_text(sweep.objective, trial.score),
        "± over seeds": lambda trial: score_text(sweep.objective, trial.spread),
    }


def _measures(sweep: Sweep) -> Columns:
    """Return the columns of what was measured besides the objective."""
    columns: Columns = {
        "epochs": lambda trial: trial.epochs,
        "valid loss": lambda trial: trial.best and f"{trial.best.valid_loss:.4f}",
        "valid accuracy": lambda trial: trial.best and f"{trial.best.valid_token_accuracy:.2%}",
        "parameters": lambda trial: trial.parameters,
        "words/s": lambda trial: trial.words_per_second and round(trial.words_per_second),
        "seconds": lambda trial: f"{seconds(trial):,.1f}",
    }
    objective = {"loss": "valid loss", "token_accuracy": "valid accuracy"}.get(sweep.objective)
    return {name: of for name, of in columns.items() if name != objective}


def _filled(columns: Columns, trials: Sequence[Trial]) -> dict[str, list[object]]:
    """Return the cells of those columns in which a trial has a value, by heading."""
    cells = {
        heading: ["" if (value := of(trial)) is None else value for trial in trials]
        for heading, of in columns.items()
    }
    return {heading: column for heading, column in cells.items() if set(column) - {""}}


def _setting(name: str, trial: Trial) -> str:
    return setting_text(trial.settings[name]) if name in trial.settings else ""


def seconds(trial: Trial) -> float:
    """Return the time from the start of a trial to its end."""
    return trial.train_seconds + trial.valid_seconds + trial.overhead_seconds
