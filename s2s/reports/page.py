"""Pages of tables and plots: on a terminal, as JSON, or as one HTML file that needs no other."""

import html
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

_BARS = 24  # bars of a histogram on a terminal
_WIDTH = 40  # characters of its longest bar


class Html(str):
    """Text that is HTML already; all other text is escaped when an element takes it in."""

    __slots__ = ()


def element(name: str, *inside: object, **attributes: object) -> Html:
    """An element of HTML.

    Args:
        inside: what it holds, escaped unless it is `Html`.
        attributes: by name, without the `_` that keeps one from being a word of Python; None gives
            no attribute.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{told}>{joined(inside)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    """Parts side by side, escaped unless they are `Html`."""
    return Html(
        "".join(part if isinstance(part, Html) else html.escape(_text(part)) for part in parts)
    )


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


# ---- blocks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table with a heading for each column."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]

    def lines(self) -> Sequence[tuple[object, ...]]:
        """The rows for a terminal."""
        return self.rows

    def plain(self) -> object:
        """The rows for JSON."""
        return [dict(zip(self.headings, row, strict=True)) for row in self.rows]

    def html(self) -> Html:
        """A table; columns of numbers are set to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headings)
        classes = ["number" if c and all(map(_numeric, c)) else None for c in columns]
        head = (
            element("th", heading, class_=kind, scope="col")
            for heading, kind in zip(self.headings, classes, strict=True)
        )
        body = (
            element("tr", *(element("td", v, class_=c) for v, c in zip(row, classes, strict=True)))
            for row in self.rows
        )
        table = element("table", element("thead", element("tr", *head)), element("tbody", *body))
        return element("div", table, class_="scroll")


def _numeric(value: object) -> bool:
    return re.fullmatch(r"[-−]?[\d.,]+ ?%?", _text(value)) is not None


@dataclass(frozen=True)
class Histogram:
    """How many rows have so many tokens, for some series."""

    title: str
    unit: str
    series: dict[str, dict[int, int]]

    @property
    def headings(self) -> tuple[str, ...]:
        """What the columns of `lines` are."""
        return (self.unit, *self.series)

    def lines(self) -> Sequence[tuple[object, ...]]:
        """The bars for a terminal."""
        edges, heights = self._binned(_BARS)
        return [
            (
                f"{low}" if high == low + 1 else f"{low}–{high - 1}",
                *(_bar(heights[name][row], max(heights[name])) for name in heights),
            )
            for row, (low, high) in enumerate(pairwise(edges))
        ]

    def plain(self) -> object:
        """The counts for JSON."""
        return self.series

    def html(self) -> Html:
        """A plot of the share of rows, so that series of different sizes can be compared."""

        def draw(axes: Any) -> None:
            edges, heights = self._binned(60)
            for number, rows in enumerate(heights.values()):
                shares = [n / (sum(rows) or 1) for n in rows]
                axes.stairs(shares, edges, fill=True, color=_COLOURS[number], alpha=0.12)
                axes.stairs(shares, edges, color=_COLOURS[number], linewidth=1.6)
            axes.set_xlim(0, edges[-1])
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter("{x:.0%}")
            axes.set_xlabel(self.unit)
            axes.set_ylabel("share of rows")

        return _plot(self.title, list(self.series), draw)

    def _binned(self, bars: int) -> tuple[list[int], dict[str, list[int]]]:
        """Edges of at most so many bars of equal width, and each series' rows between them."""
        longest = max(max(histogram) for histogram in self.series.values())
        width = -(-(longest + 1) // bars)
        edges = list(range(0, longest + width + 1, width))
        return edges, {
            name: np.histogram(list(h), bins=edges, weights=list(h.values()))[0]
            .astype(int)
            .tolist()
            for name, h in self.series.items()
        }


def _bar(height: int, highest: int) -> str:
    return f"{'█' * round(_WIDTH / 3 * height / (highest or 1))} {height:,}"


@dataclass(frozen=True)
class Curves:
    """Values over the epochs; one epoch may be marked as the best, and a plot begin at zero."""

    title: str
    epochs: list[int]
    series: dict[str, list[float]]
    best: int | None = None
    zero: bool = False

    @property
    def headings(self) -> tuple[str, ...]:
        """What the columns of `lines` are."""
        return ("epoch", *self.series)

    def lines(self) -> Sequence[tuple[object, ...]]:
        """A row for each epoch."""
        return [
            (epoch, *(f"{values[row]:.4f}" for values in self.series.values()))
            for row, epoch in enumerate(self.epochs)
        ]

    def plain(self) -> object:
        """The values for JSON."""
        return self.series

    def html(self) -> Html:
        """A plot of a line for each series."""

        def draw(axes: Any) -> None:
            from matplotlib.ticker import MaxNLocator

            for number, values in enumerate(self.series.values()):
                axes.plot(
                    self.epochs, values, color=_COLOURS[number], linestyle=_DASHES[number],
                    linewidth=1.8, marker="o", markersize=3.2 if len(values) < 40 else 0,
                )  # fmt: skip
            if self.best is not None:
                axes.axvline(self.best, color=_MUTED, linewidth=1, linestyle=(0, (1, 2)))
            if self.zero:
                axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.set_xlabel("epoch")

        names = [name.replace("_", " ") for name in self.series]
        note = "" if self.best is None else f"best epoch: {self.best} (dotted)"
        return _plot(self.title, names, draw, note)


Block = Table | Histogram | Curves


# ---- pages --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """What is told of a directory, in order."""

    title: str
    blocks: list[Block] = field(default_factory=list)


def show(page: Page, console: Console) -> None:
    """Print a page on a terminal."""
    console.rule(page.title)
    for block in page.blocks:
        table = RichTable(title=block.title, title_justify="left", title_style="bold")
        rows = block.lines()
        for number, heading in enumerate(block.headings):
            numeric = isinstance(block, Table) and all(isinstance(row[number], int) for row in rows)
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(_text, row))
        console.print(table)


def as_json(page: Page) -> str:
    """A page as JSON: its blocks by their titles."""
    told = {block.title: block.plain() for block in page.blocks}
    return json.dumps({"path": page.title, **told}, indent=2, ensure_ascii=False)


def as_html(page: Page) -> str:
    """A page as one HTML file that needs no other."""
    sections = (section(block.title, block.html()) for block in page.blocks)
    return document(page.title, element("header", element("h1", page.title)), *sections)


def section(title: str, *inside: object, anchor: str | None = None) -> Html:
    """A part of a page under a heading, which `anchor` links to."""
    return element("section", element("h2", title), *inside, id=anchor)


def document(title: str, *inside: Html, style: str = "") -> str:
    """A whole HTML file. It asks browsers to load nothing, and to run no script.

    Args:
        style: rules of CSS beside those of all pages.
    """
    head = joined(
        [
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            element("title", title),
            element("style", Html(_STYLE + style)),
        ]
    )
    page = element("html", element("head", head), element("body", *inside), lang="en")
    return f"<!doctype html>\n{page}\n"


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

# Stand-ins that the plots are drawn with, for the variables of the style that take their places:
# so a plot is drawn once, and follows light and dark.
_MUTED, _LINE, *_COLOURS = (f"#00000{n}" for n in range(1, 9))
_VARIABLES = {_MUTED: "--muted", _LINE: "--line"} | {
    colour: f"--series-{n}" for n, colour in enumerate(_COLOURS)
}
_DASHES = ["-", (0, (4, 1.6)), (0, (1, 1.2)), "-.", "-", "-"]  # paper may have no colours


def _plot(title: str, names: list[str], draw: Callable[[Any], None], note: str = "") -> Html:
    """A plot as SVG with a legend for the series of these names."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11,
        "text.color": _MUTED, "axes.labelcolor": _MUTED, "axes.edgecolor": _LINE,
        "xtick.color": _LINE, "ytick.color": _LINE, "grid.color": _LINE, "grid.linewidth": 0.6,
        "xtick.labelcolor": _MUTED, "ytick.labelcolor": _MUTED, "xtick.major.size": 0,
        "ytick.major.size": 0, "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "svg.hashsalt": "s2s",
    }  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        draw(figure.add_subplot())
        box = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(box, format="svg", transparent=True, metadata=nothing)
    svg = box.getvalue()[box.getvalue().index("<svg") :]
    # Several plots share a page: names that nobody refers to go, and so do rules for all of it.
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"|(?<=<g) id="[^"]*"', "", svg)
    size = re.search(r' viewBox="[^"]*"', svg)
    label = html.escape(title)
    svg = f'<svg{size[0] if size else ""} role="img" aria-label="{label}"{svg[svg.index(">") :]}'
    svg = re.sub(r"#00000[1-8]", lambda found: f"var({_VARIABLES[found[0]]})", svg)
    keys = [
        element("span", name, class_="key", style=f"--key: var(--series-{number})")
        for number, name in enumerate(names)
    ]
    legend = element("figcaption", *keys, element("span", note))
    return element("figure", legend, Html(svg))


_STYLE = """
:root {
  color-scheme: light dark;
  --page: #fff; --panel: #f5f6f8; --ink: #1a1e26; --muted: #5c6573; --line: #dfe3e8;
  --accent: #1f56c3; --heat: 31 86 195; --series-0: #1f56c3; --series-1: #c4540f;
  --series-2: #17795e; --series-3: #8a3ea8; --series-4: #5c6573; --series-5: #a33a3a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11141a; --panel: #191e27; --ink: #e6e9ef; --muted: #9aa4b4; --line: #2c333f;
    --accent: #86b0ff; --heat: 104 156 255; --series-0: #7aa8ff; --series-1: #ffa25f;
    --series-2: #5fd0ac; --series-3: #d49bee; --series-4: #9aa4b4; --series-5: #f28b8b;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem;
  background: var(--page); color: var(--ink);
}
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; margin: 0; }
h1, p, dd, td:last-child { overflow-wrap: anywhere; }
td:where(:last-child:not(:first-child, .number)) { min-width: 6rem; }
h2 { font-size: 1.25rem; letter-spacing: -.01em; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
section { margin-top: 3rem; scroll-margin-top: 1rem; }
a { color: var(--accent); text-underline-offset: .15em; }
code { font: .86em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
figure { margin: 0; min-width: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .87rem; }
figcaption, figcaption .key { color: var(--muted); }
.key::before {
  content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  border-radius: .2em; background: var(--key); vertical-align: -.05em;
}
svg { display: block; width: 100%; max-width: 36rem; height: auto; margin-top: .5rem; }
svg * { stroke-linejoin: round; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; padding: .38rem 1.2rem .38rem 0; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
th { color: var(--muted); font-weight: 500; font-size: .85rem; }
tr { border-bottom: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; }
@media (max-width: 40rem) { body { padding-top: 1.5rem; } h1 { font-size: 1.6rem; } }
@media print {
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  section { margin-top: 1.8rem; } h2, h3, thead { break-after: avoid; }
  figure, tr, article { break-inside: avoid; } .scroll { overflow: visible; }
}
"""
