"""Plots of a sweep: curves of its trials, their scores, what they cost and where time went."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from s2s.reports.elements import Html
from s2s.reports.plots import COLOURS, MUTED, STEPS, plot
from s2s.reports.ranking import goodness, has_far_worse, plotted_range, score, scored
from s2s.reports.sweep_values import objective_name, tick_text
from s2s.tuning.trials import Sweep, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_DOTTED = (0, (1, 2))
_NEAR = 0.08  # shares of a plot's width and height within which two labels would touch


def plot_trial_curves(sweep: Sweep) -> Html:
    """Return the objective of all trials over the epochs, or nothing before the first one."""
    curves = {t.number: t.curve for t in sweep.trials if any(map(math.isfinite, t.curve))}
    if not curves:
        return Html("")
    weights = goodness(sweep)
    stopped = {trial.number for trial in sweep.trials if trial.status == "stopped"}

    values = [value for curve in curves.values() for value in curve if math.isfinite(value)]

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        for rung in sweep.rungs:
            axes.axvline(rung, color=MUTED, linewidth=1, linestyle=_DOTTED)
        for number, curve in curves.items():
            best = number == sweep.best
            axes.plot(
                range(1, len(curve) + 1), curve, "-",
                len(curve), curve[-1], "x" if number in stopped else "o",
                color=COLOURS[1 if best else 0], linewidth=2.4 if best else 1.1, markersize=4.5,
                alpha=1 if best else 0.25 + 0.5 * weights.get(number, 0.0) ** 2,
                zorder=4 if best else 2,
            )  # fmt: skip
        axes.set_ylim(*plotted_range(values, maximised=sweep.maximised))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        _show_objective(axes, sweep)

    notes = ["×: stopped early"] if stopped else []
    notes += [f"dotted: rungs of ASHA, epochs {', '.join(map(str, sweep.rungs))}"] * bool(
        sweep.rungs
    )
    return plot(
        "Objective after each epoch", ["trial", f"trial {sweep.best}, the best"], draw,
        "; ".join(notes + _cut_off(sweep, values)),
    )  # fmt: skip


def _show_objective(axes: "Axes", sweep: Sweep) -> None:
    """Give the vertical axis the ticks and the name of the objective."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=STEPS))
    axes.yaxis.set_major_formatter(lambda value, _: tick_text(sweep.objective, value))
    unit = ", nats per token" if sweep.objective == "loss" else ""
    axes.set_ylabel(objective_name(sweep.objective) + unit)


def _cut_off(sweep: Sweep, values: Sequence[float]) -> list[str]:
    """Return a note if a plot of these values has no room for some of them."""
    cut_off = has_far_worse(values, maximised=sweep.maximised)
    return ["far worse values are cut off"] if cut_off else []


def plot_history(sweep: Sweep) -> Html:
    """Return the score of each trial and the best one so far, in the order of their numbers."""
    trials = sorted(scored(sweep), key=lambda trial: trial.number)
    if len(trials) < 2:
        return Html("")
    scores = [score(trial) for trial in trials]
    numbers = [trial.number for trial in trials]
    last = max(trial.number for trial in sweep.trials)

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        best = np.maximum if sweep.maximised else np.minimum
        axes.plot(numbers, scores, "o", color=COLOURS[0], alpha=0.7, markersize=4.5)
        axes.step(
            [*numbers, last],
            [*(so_far := best.accumulate(scores)), so_far[-1]],
            where="post", color=COLOURS[1], linewidth=1.8,
        )  # fmt: skip
        axes.set_ylim(*plotted_range(scores, maximised=sweep.maximised))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(numbers[0] - 0.8, last + 0.8)
        axes.set_xlabel("trial")
        _show_objective(axes, sweep)

    note = "".join(_cut_off(sweep, scores))
    return plot("Score of each trial", ["trial", "best so far"], draw, note)


def plot_against(sweep: Sweep, gain: str) -> Html:
    """Return scores against another number of the trials, with the Pareto front of both.

    Args:
        gain: `parameters` or `words_per_second`; nothing is plotted if all trials have the same.
    """
    trials = [trial for trial in scored(sweep) if getattr(trial, gain) is not None]
    points = {trial.number: (float(getattr(trial, gain)), score(trial)) for trial in trials}
    if len({number for number, _ in points.values()}) < 2:
        return Html("")
    front = pareto_front(trials, gain, maximised=sweep.maximised)

    def draw(axes: "Axes") -> None:
        for trial in trials:
            axes.plot(
                *points[trial.number], "o", color=COLOURS[0], alpha=0.7, markersize=5,
                fillstyle="none" if trial.status == "stopped" else "full",
            )  # fmt: skip
        axes.plot(
            *zip(*(points[trial.number] for trial in front), strict=True),
            color=COLOURS[1], marker="o", markersize=6, linewidth=1.4,
        )  # fmt: skip
        axes.set_ylim(*plotted_range([y for _, y in points.values()], maximised=sweep.maximised))
        _scale(axes.xaxis, [x for x, _ in points.values()])
        axes.set_xlabel("parameters" if gain == "parameters" else "words translated per second")
        _show_objective(axes, sweep)
        _label(axes, {t.number: points[t.number] for t in front}, above=sweep.maximised)

    title = "parameters" if gain == "parameters" else "words per second"
    notes = ["hollow: stopped early"] * any(trial.status == "stopped" for trial in trials)
    notes += _cut_off(sweep, [score(trial) for trial in trials])
    return plot(
        f"Score against {title}", ["trial", "Pareto front, with numbers of trials"], draw,
        "; ".join(notes),
    )  # fmt: skip


def _scale(axis: "Axis", values: list[float]) -> None:
    """Choose a horizontal axis for positive numbers, a logarithmic one for different magnitudes."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

    if min(values) > 0 and max(values) > 8 * min(values):
        axis.axes.set_xscale("log")
        wide = max(values) > 100 * min(values)
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=12))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axis.set_major_formatter(EngFormatter())


def _label(axes: "Axes", points: Mapping[int, tuple[float, float]], *, above: bool) -> None:
    """Write the numbers of trials at their points, without those that would cover another one.

    Args:
        above: whether to write above the points, where no trial is if higher scores are better.
    """
    written: list[np.ndarray] = []
    for number, point in points.items():
        place = axes.transAxes.inverted().transform(axes.transData.transform(point))
        if all((abs(place - other) > _NEAR).any() for other in written):
            written.append(place)
            axes.annotate(
                str(number), point, xytext=(0, 5 if above else -5), textcoords="offset points",
                ha="center", va="bottom" if above else "top",
            )  # fmt: skip


def plot_times(sweep: Sweep) -> Html:
    """Return where the time of each trial went."""
    parts = {
        "training steps": [trial.train_seconds for trial in sweep.trials],
        "validation": [trial.valid_seconds for trial in sweep.trials],
        "overhead": [trial.overhead_seconds for trial in sweep.trials],
    }
    numbers = [trial.number for trial in sweep.trials]

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        bottom = np.zeros(len(numbers))
        for colour, values in zip(COLOURS, parts.values(), strict=False):
            axes.bar(numbers, values, bottom=bottom, color=colour, width=0.8)
            bottom += np.array(values)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=STEPS))
        axes.set_xlim(numbers[0] - 0.8, numbers[-1] + 0.8)
        axes.set_xlabel("trial")
        axes.set_ylabel("seconds")

    return plot("Time of each trial", list(parts), draw)
