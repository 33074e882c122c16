"""The report of a sweep: one HTML page of its trials, what they cost, and what made them good."""

import shlex
from pathlib import Path

from s2s.config import DataConfig
from s2s.model.config_file import read_config
from s2s.reports.blocks import Table, titled
from s2s.reports.elements import Html, element, join, value_bar
from s2s.reports.heat_map import heat_map
from s2s.reports.page import Header, Tile, page
from s2s.reports.parallel_coordinates import plot_parallel_coordinates
from s2s.reports.sweep_plots import plot_against, plot_history, plot_times, plot_trial_curves
from s2s.reports.sweep_tables import (
    axes_table,
    best_settings_table,
    best_table,
    count_statuses,
    overview_table,
    scheduler_name,
    searcher_name,
    trials_table,
)
from s2s.reports.sweep_values import duration, objective_name, score_text
from s2s.tuning.trials import Sweep


def report_of_directory(directory: Path) -> str:
    """Return the page of a sweep directory.

    Raises:
        BadInput: `sweep.json` or the best model's config cannot be read.
        ModuleNotFoundError: matplotlib is not installed.
    """
    sweep = Sweep.load(directory)
    return sweep_report(sweep, directory.resolve().name, read_config(directory / "best"))


def sweep_report(sweep: Sweep, name: str, config: DataConfig) -> str:
    """Return the page as an HTML file that needs no other file.

    Args:
        name: of the sweep directory.
        config: of the best model.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    sections = {
        "Best": _best(sweep, name),
        "Trials": _trials(sweep),
        "Heat map": heat_map(sweep),
        "Settings and scores": _settings_and_scores(sweep),
        "Curves": _grid(
            _titled("Objective after each epoch", plot_trial_curves(sweep)),
            _titled("Score of each trial", plot_history(sweep)),
        ),
        "Quality and cost": _grid(
            _titled("Score against parameters", plot_against(sweep, "parameters")),
            _titled("Score against speed", plot_against(sweep, "words_per_second")),
        ),
        "Time": _time(sweep),
        "Setup": _grid(titled(overview_table(sweep)), titled(axes_table(sweep))),
    }
    return page(_header(sweep, name, config), sections)


def _header(sweep: Sweep, name: str, config: DataConfig) -> Header:
    best, objective = sweep.best_trial, objective_name(sweep.objective)
    spread = (
        f"; ± {score_text(sweep.objective, best.spread)} over seeds"
        if best.spread is not None
        else ""
    )
    available = sweep.total_seconds * sweep.concurrency
    steps = (sweep.train_seconds + sweep.valid_seconds) / (available or 1)
    epochs = sum(trial.all_epochs for trial in sweep.trials)
    tiles = [
        Tile(objective, score_text(sweep.objective, best.score), f"trial {best.number}{spread}"),
        Tile("trials", f"{len(sweep.trials):,}", count_statuses(sweep)),
        Tile(
            "time", duration(sweep.total_seconds), f"{steps:.0%} of it in training and validation"
        ),
        Tile("epochs", f"{epochs:,}", f"{epochs / len(sweep.trials):.1f} a trial"),
    ]
    searcher = searcher_name(sweep)
    settings = "one setting" if len(sweep.axes) == 1 else f"{len(sweep.axes)} settings"
    stopping = "" if sweep.scheduler == "none" else f", with {scheduler_name(sweep)}"
    lead = (
        f"{searcher[0].upper()}{searcher[1:]} over {settings}{stopping}. The best of "
        f"{len(sweep.trials):,} trials is trial {best.number}, with a {objective} of "
        f"{score_text(sweep.objective, best.score)} on valid."
    )
    return Header("Sweep", name, config, lead, tiles)


def _best(sweep: Sweep, name: str) -> Html:
    """Return settings and results of the best trial, and the commands for its model."""
    settings, results = best_settings_table(sweep), best_table(sweep)
    model = shlex.quote(f"{name}/best")
    commands = {
        "serve it": f"s2s serve --local {model}",
        "evaluate it": f"s2s evaluate {model} --corpus CORPUS --split test",
        "report on it": f"s2s report {model} --corpus CORPUS",
    }
    commands_table = Table(
        "Commands", ("to", "command"), [(to, element("code", c)) for to, c in commands.items()]
    )
    return join(
        [
            _grid(titled(settings) if settings.rows else Html(""), titled(results)),
            element("div", titled(commands_table)),
        ]
    )


def _trials(sweep: Sweep) -> Html:
    """Return the table of all trials, in which the best one is marked."""
    table = trials_table(sweep)
    rows = [
        (element("b", f"{number} (best)") if number == sweep.best else number, *cells)
        for number, *cells in table.rows
    ]
    return element("div", Table(table.title, table.headings, rows).html(), class_="trials")


def _settings_and_scores(sweep: Sweep) -> Html:
    return _grid(
        _titled("Parallel coordinates", plot_parallel_coordinates(sweep)), _importances(sweep)
    )


def _importances(sweep: Sweep) -> Html:
    shares = sorted((sweep.importances or {}).items(), key=lambda each: -each[1])
    if not shares:
        return Html("")
    rows = [(name, value_bar(100 * share, f"{share:.0%}")) for name, share in shares]
    note = (
        "Share of each setting in the variation of the score among the better trials (PED-ANOVA, "
        "Watanabe et al., 2023). Choose the settings of large shares with care."
    )
    table = Table("Importances", ("setting", "importance"), rows)
    return element("div", titled(table), element("p", note, class_="note"), class_="bars")


def _time(sweep: Sweep) -> Html:
    """Return where the time of the sweep and of each trial went."""
    parts = {
        "training steps": sweep.train_seconds,
        "validation": sweep.valid_seconds,
        "overhead of trials": sweep.overhead_seconds,
    }
    if not sum(parts.values()):
        return Html("")
    available = sweep.total_seconds * sweep.concurrency
    parts["idle"] = max(0.0, available - sum(parts.values()))
    total = sum(parts.values())
    rows = [
        (what, duration(part), value_bar(100 * part / total, f"{part / total:.1%}"))
        for what, part in parts.items()
    ]
    table = Table("Time of all trials", ("part", "time", "share"), rows)
    at_once = "one trial" if sweep.concurrency == 1 else f"{sweep.concurrency} trials"
    note = (
        f"Of {duration(sweep.total_seconds)} with at most {at_once} at the same time. Overhead is "
        "the rest of a trial: its start, checkpoints and waiting. Idle: fewer ran than could."
    )
    return _grid(
        _titled("Each trial", plot_times(sweep)),
        element("div", titled(table), element("p", note, class_="note"), class_="bars"),
    )


def _titled(title: str, content: Html) -> Html:
    """Return content under a title, or nothing if there is none."""
    return element("div", element("h3", title), content, class_="block") if content else content


def _grid(*blocks: Html) -> Html:
    """Return blocks side by side, or nothing if there are none."""
    filled = [block for block in blocks if block]
    return element("div", *filled, class_="grid") if filled else Html("")
