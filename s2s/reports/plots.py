"""Plots as SVG inside HTML, drawn by matplotlib, which is an optional dependency.

Colours are CSS variables of `page.css`, so a plot is drawn once and follows light and dark.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from s2s.reports.elements import Html, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib knows no CSS variables: these colours stand in for them, and are replaced in the SVG.
MUTED, LINE, *COLOURS = (f"#00000{n}" for n in range(1, 9))
_VARIABLES = {MUTED: "--muted", LINE: "--line"} | {
    colour: f"--series-{n}" for n, colour in enumerate(COLOURS)
}
# A print may have no colours: lines differ in their dashes, too.
DASHES = ["-", (0, (4, 1.6)), (0, (1, 1.2)), "-.", "-", "-"]
STEPS = [1, 2, 2.5, 5, 10]  # between ticks of the vertical axis, times a power of ten
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 12,
    "text.color": MUTED, "axes.labelcolor": MUTED, "axes.edgecolor": LINE,
    "xtick.color": LINE, "ytick.color": LINE, "grid.color": LINE, "grid.linewidth": 0.6,
    "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "xtick.major.size": 0,
    "ytick.major.size": 0, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "svg.hashsalt": "s2s", "text.parse_math": False,
}  # fmt: skip


def plot_shares(
    title: str, unit: str, edges: Sequence[int], shares: Mapping[str, Sequence[float]], note: str
) -> Html:
    """Return histograms of the shares of rows, so that series of different sizes compare.

    Args:
        unit: of the horizontal axis.
        edges: of the bins, one more than there are bins.
        shares: of the rows in each bin, by the name of the series.
        note: for the legend.
    """

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator, PercentFormatter

        for number, heights in enumerate(shares.values()):
            colour = COLOURS[number]
            if number == 0:  # several areas on top of each other would be grey
                axes.stairs(heights, edges, fill=True, color=colour, alpha=0.14)
            axes.stairs(heights, edges, color=colour, linewidth=1.6, linestyle=DASHES[number])
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        decimals = 0 if axes.get_ylim()[1] > 0.04 else None  # None is as many as are needed
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals))
        axes.set_xlabel(unit)
        axes.set_ylabel("share of rows")

    return plot(title, list(shares), draw, note)


def plot_curves(
    title: str,
    unit: str,
    epochs: Sequence[int],
    series: Mapping[str, Sequence[float]],
    *,
    best: int | None = None,
    from_zero: bool = False,
) -> Html:
    """Return lines over the epochs, one for each series.

    Args:
        unit: of the vertical axis.
        best: epoch to mark.
        from_zero: whether the vertical axis begins at zero.
    """

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        for number, values in enumerate(series.values()):
            axes.plot(
                epochs, values, color=COLOURS[number], linestyle=DASHES[number],
                linewidth=1.8, marker="o", markersize=3.2 if len(values) < 40 else 0,
            )  # fmt: skip
        if best is not None:
            axes.axvline(best, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=STEPS))
        if axes.get_ylim()[1] >= 1000:
            axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(unit)

    names = [name.replace("_", " ") for name in series]
    return plot(title, names, draw, "" if best is None else f"best epoch: {best} (dotted)")


def plot(
    title: str,
    names: Sequence[str],
    draw: Callable[["Axes"], None],
    note: str = "",
    *,
    height: float = 3,
) -> Html:
    """Return a figure of HTML: a legend for the series of these names, and the plot as SVG.

    Args:
        draw: draws the plot; series are in the order of `COLOURS`.
        note: for the legend.
        height: in inches, of a plot that is 5.2 inches wide.
    """
    # Only a page with plots needs the extra that brings matplotlib.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(5.2, height), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    keys = [
        element("span", name, class_="key", style=f"--key: var(--series-{number})")
        for number, name in enumerate(names)
    ]
    legend = element("figcaption", *keys, element("span", note))
    return element("figure", legend, _inline(file.getvalue(), title))


def _inline(text: str, title: str) -> Html:
    """Return the SVG of a file as an element of HTML, with CSS variables for its colours."""
    svg = text[text.index("<svg") :]
    # Several plots share a page: rules for the whole page go, and so do names without a reference.
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"|(?<=<g) id="[^"]*"', "", svg)
    size = re.search(r' viewBox="[^"]*"', svg)
    label = html.escape(title)
    svg = f'<svg{size[0] if size else ""} role="img" aria-label="{label}"{svg[svg.index(">") :]}'
    return Html(re.sub(r"#00000[1-8]", lambda match: f"var({_VARIABLES[match[0]]})", svg))
