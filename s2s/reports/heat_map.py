"""The heat map of a sweep: the best score for each pair of values of two settings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s2s.reports.attention_map import STRONG
from s2s.reports.elements import Html, element, join, scrollable
from s2s.reports.ranking import goodness, score
from s2s.reports.sweep_values import objective_name, score_text, setting_text, short_names
from s2s.tuning.dimension import Value
from s2s.tuning.trials import Axis, Sweep, Trial

SIZES = ("model.hidden_size", "model.embedding_size")

_MOST = 10  # values of a range that each have a row or a column
_INTERVALS = 6  # into which a range of more values is divided
_FAINTEST = 0.06  # weight of the colour of the worst score


@dataclass(frozen=True)
class _Bands:
    """The rows or columns of a heat map."""

    labels: list[str]
    band_of: dict[int, int]  # index of the label of each trial that has the setting, by its number


def heat_map(sweep: Sweep) -> Html:
    """Return a table over the two sizes, or the two most important settings, if two vary."""
    axes = _two_axes(sweep)
    if axes is None:
        return Html("")
    rows, columns = (_bands(axis, sweep.trials) for axis in axes)
    down, across = short_names([axis.setting for axis in axes]).values()
    cells: dict[tuple[int, int], list[Trial]] = {}
    for trial in sweep.trials:
        if trial.number in rows.band_of and trial.number in columns.band_of:
            place = (rows.band_of[trial.number], columns.band_of[trial.number])
            cells.setdefault(place, []).append(trial)
    weights = goodness(sweep)
    head = element(
        "thead",
        element("tr", element("td"), element("th", f"{across} →", colspan=len(columns.labels))),
        element(
            "tr",
            element("th", f"{down} ↓", scope="col"),
            *(element("th", label, scope="col") for label in columns.labels),
        ),
    )
    body = (
        element(
            "tr",
            element("th", label, scope="row"),
            *(
                _cell(sweep, cells.get((row, column), []), weights)
                for column in range(len(columns.labels))
            ),
        )
        for row, label in enumerate(rows.labels)
    )
    table = element("table", head, element("tbody", *body), class_="map heat")
    note = (
        f"The best {objective_name(sweep.objective)} of the trials in each cell; the stronger the "
        "colour, the better. No trial has the values of a hatched cell."
    )
    label = f"best {objective_name(sweep.objective)} by {down} and {across}"
    return join([element("p", note, class_="note"), scrollable(table, label)])


def _two_axes(sweep: Sweep) -> tuple[Axis, Axis] | None:
    """Return the axes of the two sizes if both vary, or else of the most important settings."""
    axes = {axis.setting: axis for axis in sweep.axes}
    if not axes.keys() >= set(SIZES):
        shares = sweep.importances or {}
        axes = dict(sorted(axes.items(), key=lambda each: -shares.get(each[0], 0.0))[:2])
    else:
        axes = {name: axes[name] for name in SIZES}
    if len(axes) < 2:
        return None
    first, second = axes.values()
    return first, second


def _bands(axis: Axis, trials: Sequence[Trial]) -> _Bands:
    """Return a band for each value of an axis, or for intervals of a range of many values."""
    values = {t.number: t.settings[axis.setting] for t in trials if axis.setting in t.settings}
    distinct = list(dict.fromkeys([*axis.choices, *values.values()]))
    numbers = {number: value for number, value in values.items() if _is_number(value)}
    if len(numbers) == len(values) and all(map(_is_number, axis.choices)):
        distinct.sort(key=float)  # type: ignore[arg-type]
        if not axis.choices and len(distinct) > _MOST:
            return _intervals(numbers, log=axis.log)
    return _Bands(
        [setting_text(value) for value in distinct],
        {number: distinct.index(value) for number, value in values.items()},
    )


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _intervals(values: dict[int, Value], *, log: bool) -> _Bands:
    numbers = np.array(list(values.values()), dtype=float)
    low, high = numbers.min(), numbers.max()
    space = np.geomspace if log and low > 0 else np.linspace
    edges = space(low, high, _INTERVALS + 1)[:-1]
    if all(isinstance(value, int) for value in values.values()):
        edges = np.unique(np.ceil(edges))
    edges[0] = low  # which rounding may have moved
    found = np.searchsorted(edges, numbers, side="right") - 1
    labels = [f"≥ {edge:.3g}" for edge in edges]
    return _Bands(labels, dict(zip(values, map(int, found), strict=True)))


def _cell(sweep: Sweep, trials: list[Trial], weights: dict[int, float]) -> Html:
    """Return the best score of some trials as a shaded cell."""
    scored = [trial for trial in trials if trial.number in weights]
    if not trials:
        return element("td", "–", class_="untried", title="not tried")
    if not scored:
        return element("td", trials[0].status, class_="untried")
    best = max(scored, key=lambda trial: (weights[trial.number], -trial.number))
    weight = _FAINTEST + (1 - _FAINTEST) * weights[best.number]
    classes = ["strong"] * (weight > STRONG) + ["best"] * (best.number == sweep.best)
    of = "" if len(trials) == 1 else f", best of {len(trials)}"
    return element(
        "td",
        score_text(sweep.objective, score(best)).removesuffix("%"),
        style=f"--weight: {weight:.4f}",
        title=f"trial {best.number}{of}",
        class_=" ".join(classes) or None,
    )
