"""Blocks of a page: tables, histograms and curves, each as lines, as JSON and as HTML."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from s2s.reports.elements import Html, as_text, element, scrollable
from s2s.reports.plots import plot_curves, plot_shares

_PROSE = 32  # characters of a cell that may be broken into lines
_BARS = 24  # bars of a histogram on a terminal
_BAR_WIDTH = 40 / 3  # characters of its longest bar; there are up to three series
_BINS = 60  # of a plotted histogram
_PLOTTED = 0.995  # share of the rows that it shows at least


@dataclass(frozen=True)
class Table:
    """A table with a heading for each column."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]

    def lines(self) -> Sequence[tuple[object, ...]]:
        """Return the rows for a terminal."""
        return self.rows

    def plain(self) -> object:
        """Return the rows for JSON."""
        return [dict(zip(self.headings, row, strict=True)) for row in self.rows]

    def html(self) -> Html:
        """Return a table whose columns of numbers are aligned to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headings)
        classes = [_kind(column) for column in columns]
        head = (
            element("th", heading, class_=kind, scope="col")
            for heading, kind in zip(self.headings, classes, strict=True)
        )
        body = (
            element("tr", *(element("td", v, class_=c) for v, c in zip(row, classes, strict=True)))
            for row in self.rows
        )
        table = element("table", element("thead", element("tr", *head)), element("tbody", *body))
        return scrollable(table, self.title)


def _kind(column: tuple[object, ...]) -> str | None:
    """Return the CSS class of a column, some cells of which may be empty."""
    filled = [value for value in column if value != ""]
    if filled and all(map(_is_numeric, filled)):
        return "number"
    return "prose" if any(len(_visible(value)) > _PROSE for value in column) else None


def _visible(value: object) -> str:
    """Return the text of a cell without its markup."""
    return re.sub(r"<[^>]*>", "", value) if isinstance(value, Html) else as_text(value)


def _is_numeric(value: object) -> bool:
    return re.fullmatch(r"[-−]?[\d.,]+ ?%?", as_text(value)) is not None


@dataclass(frozen=True)
class Histogram:
    """The number of rows by their number of tokens, for each series."""

    title: str
    unit: str
    series: dict[str, dict[int, int]]

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings of the columns of `lines`."""
        return (self.unit, *self.series)

    def lines(self) -> Sequence[tuple[object, ...]]:
        """Return the bars for a terminal."""
        edges, counts = self._bin(_BARS, self._longest)
        return [
            (
                f"{low}" if high == low + 1 else f"{low}–{high - 1}",
                *(_bar(rows[number], max(rows)) for rows in counts.values()),
            )
            for number, (low, high) in enumerate(pairwise(edges))
        ]

    def plain(self) -> object:
        """Return the counts for JSON."""
        return self.series

    def html(self) -> Html:
        """Return a plot of the shares of rows; where a few rows are much longer, without them."""
        shown = max(quantile(histogram, _PLOTTED) for histogram in self.series.values())
        if 2 * shown > self._longest:
            shown = self._longest
        edges, counts = self._bin(_BINS, shown)
        totals = {name: sum(histogram.values()) for name, histogram in self.series.items()}
        shares = {name: [n / (totals[name] or 1) for n in rows] for name, rows in counts.items()}
        beyond = f"the longest row: {self._longest:,} {self.unit}" if shown < self._longest else ""
        return plot_shares(self.title, self.unit, edges, shares, beyond)

    @property
    def _longest(self) -> int:
        return max(max(histogram, default=0) for histogram in self.series.values())

    def _bin(self, most: int, longest: int) -> tuple[list[int], dict[str, list[int]]]:
        """Return the edges of at most `most` bins of equal width, and each series' rows in them.

        Args:
            longest: the number of tokens that the last bin holds; longer rows are in none.
        """
        width = -(-(longest + 1) // most)
        edges = list(range(0, longest + width + 1, width))
        return edges, {
            name: np.histogram(list(h), bins=edges, weights=list(h.values()))[0]
            .astype(int)
            .tolist()
            for name, h in self.series.items()
        }


def quantile(histogram: Mapping[int, int], share: float) -> int:
    """Return the least length that a share of the rows do not exceed, given rows by length."""
    rows, wanted = 0, share * sum(histogram.values())
    for length, count in sorted(histogram.items()):
        rows += count
        if rows >= wanted:
            return length
    return 0


def _bar(height: int, highest: int) -> str:
    return f"{'█' * round(_BAR_WIDTH * height / (highest or 1))} {height:,}"


@dataclass(frozen=True)
class Curves:
    """Values over the epochs, for each series."""

    title: str
    epochs: list[int]
    series: dict[str, list[float]]
    best: int | None = None  # epoch that a plot marks
    from_zero: bool = False  # whether a plot begins at zero
    unit: str = ""  # of the values, for the vertical axis of a plot

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings of the columns of `lines`."""
        return ("epoch", *self.series)

    def lines(self) -> Sequence[tuple[object, ...]]:
        """Return a row for each epoch."""
        return [
            (epoch, *(f"{values[row]:.4f}" for values in self.series.values()))
            for row, epoch in enumerate(self.epochs)
        ]

    def plain(self) -> object:
        """Return the values for JSON."""
        return self.series

    def html(self) -> Html:
        """Return a plot with a line for each series."""
        return plot_curves(
            self.title, self.unit, self.epochs, self.series,
            best=self.best, from_zero=self.from_zero,
        )  # fmt: skip


Block = Table | Histogram | Curves


def titled(block: Block) -> Html:
    """Return a block as HTML, under its title."""
    return element("div", element("h3", block.title), block.html(), class_="block")
