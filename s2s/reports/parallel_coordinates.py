"""The parallel coordinates of a sweep: a line for each trial, across its settings and score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from s2s.reports.elements import Html
from s2s.reports.plots import COLOURS, LINE, MUTED, STEPS, plot
from s2s.reports.ranking import goodness, has_far_worse, plotted_range, score, scored
from s2s.reports.sweep_values import objective_name, setting_text, short_names, tick_text
from s2s.tuning.dimension import Value
from s2s.tuning.trials import Axis, Sweep, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 56  # characters of all labels of an axis together
_LONGEST = 18  # characters of a label
_UNSET = 0.14  # share of an axis for trials that do not have the setting


@dataclass(frozen=True)
class _Scale:
    """An axis from 0 to 1."""

    name: str
    places: dict[int, float]  # of the trials by their numbers
    ticks: list[tuple[float, str]]


def plot_parallel_coordinates(sweep: Sweep) -> Html:
    """Return a plot with a horizontal axis for each setting, and for the score at the bottom.

    The axes are horizontal so that their labels fit a narrow window, however many there are.
    """
    trials = scored(sweep)
    if not trials:
        return Html("")
    names = short_names([axis.setting for axis in sweep.axes])
    scales = [_setting_scale(axis, names[axis.setting], trials) for axis in sweep.axes]
    scales.append(_score_scale(sweep, trials))
    weights = goodness(sweep)

    def draw(axes: "Axes") -> None:
        thinning = min(1.0, 60 / len(trials)) ** 0.5
        rows = [-row for row in range(len(scales))]
        for row in rows:
            axes.plot([0, 1], [row, row], color=LINE, linewidth=2, solid_capstyle="round")
        for trial in reversed(trials):
            number, best = trial.number, trial.number == sweep.best
            axes.plot(
                [scale.places[number] for scale in scales], rows,
                color=COLOURS[1 if best else 0], linewidth=2.4 if best else 1.1,
                alpha=1 if best else (0.08 + 0.62 * weights[number] ** 3) * thinning,
                marker="o" if best else "", markersize=5, zorder=3 if best else 2,
            )  # fmt: skip
        for row, scale in zip(rows, scales, strict=True):
            axes.text(0, row + 0.16, scale.name, weight="bold", va="bottom", color=MUTED, zorder=4)
            for place, label in scale.ticks:
                axes.plot(place, row, "|", color=MUTED, markersize=7, zorder=4)
                side = "left" if place < 0.05 else "right" if place > 0.95 else "center"
                axes.text(place, row - 0.14, label, ha=side, va="top", size=11, zorder=4)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(rows[-1] - 0.42, 0.5)
        axes.set_axis_off()

    note = "the stronger a line, the better its trial"
    if any("–" in dict(scale.ticks).values() for scale in scales):
        note += "; –: the trial does not have the setting"
    if has_far_worse([score(trial) for trial in trials], maximised=sweep.maximised):
        note += "; far worse scores are at the left end"
    return plot(
        "Settings and scores of the trials", ["trial", f"trial {sweep.best}, the best"], draw, note,
        height=0.7 * len(scales),
    )  # fmt: skip


def _setting_scale(axis: Axis, name: str, trials: Sequence[Trial]) -> _Scale:
    values = {t.number: t.settings[axis.setting] for t in trials if axis.setting in t.settings}
    unset = [trial.number for trial in trials if trial.number not in values]
    start = _UNSET if unset else 0.0
    numbers = {n: float(v) for n, v in values.items() if isinstance(v, int | float)}
    if axis.choices or len(numbers) < len(values):
        places, ticks = _choices(axis, values)
    else:
        places, ticks = _range(numbers, log=axis.log and min(numbers.values(), default=0) > 0)
    return _Scale(
        name,
        {n: start + (1 - start) * place for n, place in places.items()} | dict.fromkeys(unset, 0.0),
        [(0.0, "–")] * bool(unset)
        + [(start + (1 - start) * place, label) for place, label in _thinned(ticks)],
    )


def _choices(
    axis: Axis, values: dict[int, Value]
) -> tuple[dict[int, float], list[tuple[float, str]]]:
    """Return the places of values that have equal distances, and their labels."""
    distinct = list(dict.fromkeys([*axis.choices, *values.values()]))
    places = np.linspace(0, 1, len(distinct)) if len(distinct) > 1 else np.array([0.5])
    return (
        {number: float(places[distinct.index(value)]) for number, value in values.items()},
        [
            (float(place), _cut(setting_text(value)))
            for place, value in zip(places, distinct, strict=True)
        ],
    )


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"


def _range(
    values: dict[int, float], *, log: bool
) -> tuple[dict[int, float], list[tuple[float, str]]]:
    """Return the places of values between the least and the greatest, and round ticks."""
    if not values:
        return {}, []
    low, high = min(values.values()), max(values.values())
    if low == high:
        return dict.fromkeys(values, 0.5), [(0.5, setting_text(low))]

    def place(value: float) -> float:
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    ticks = [(place(value), f"{value:.4g}") for value in _round_values(low, high, log=log)]
    return {number: place(value) for number, value in values.items()}, ticks


def _round_values(low: float, high: float, *, log: bool) -> list[float]:
    """Return round values in a range."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if log and high / low > 4:
        subs = (1.0,) if high / low > 1e3 else (1.0, 3.0) if high / low > 20 else (1.0, 2.0, 5.0)
        found = LogLocator(subs=subs, numticks=12).tick_values(low, high)
    else:
        found = MaxNLocator(5, steps=STEPS).tick_values(low, high)
    reach = 1e-9 * (high - low)
    return [float(value) for value in found if low - reach <= value <= high + reach]


def _thinned(ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return every n-th tick, so that the labels do not touch."""
    longest = max((len(label) for _, label in ticks), default=0) + 2
    return ticks[:: math.ceil(longest * len(ticks) / _WIDTH) or 1]


def _score_scale(sweep: Sweep, trials: Sequence[Trial]) -> _Scale:
    """Return the axis of the score, whose better end is on the right."""
    low, high = plotted_range([score(trial) for trial in trials], maximised=sweep.maximised)

    def place(value: float) -> float:
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return share if sweep.maximised else 1 - share

    ticks = [
        (place(value), tick_text(sweep.objective, value))
        for value in _round_values(low, high, log=False)
    ]
    places = {trial.number: place(score(trial)) for trial in trials}
    return _Scale(objective_name(sweep.objective), places, _thinned(ticks))
