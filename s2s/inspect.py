"""What a corpus or model directory holds, told in a page: on a terminal, as JSON, or as HTML."""

import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from s2s.bundle import Bundle
from s2s.corpus import Corpus
from s2s.corpus.clean import RULES
from s2s.corpus.directory import MANIFEST, SIDES
from s2s.errors import BadInput
from s2s.text import SPECIALS

SAMPLES = 5  # rows shown of each part
_BARS = 24  # bars of a histogram on a terminal
_WIDTH = 40  # characters of its longest bar


@dataclass(frozen=True)
class Table:
    """A table with a heading for each column."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]


@dataclass(frozen=True)
class Histogram:
    """How many rows have so many tokens, for some series."""

    title: str
    unit: str
    series: dict[str, dict[int, int]]


@dataclass(frozen=True)
class Curves:
    """Values over the epochs."""

    title: str
    epochs: list[int]
    series: dict[str, list[float]]


@dataclass(frozen=True)
class Page:
    """What is told of a directory, in order."""

    title: str
    blocks: list[Table | Histogram | Curves] = field(default_factory=list)


def inspect(path: Path) -> Page:
    """The page of a corpus directory or a model directory.

    Raises:
        BadInput: `path` is neither, or broken.
    """
    if (path / MANIFEST).is_file():
        return _corpus(Corpus.open(path))
    if (path / "config.json").is_file():
        return _model(path, Bundle.load(path))
    raise BadInput(f"{path} is neither a corpus directory ({MANIFEST}) nor a model directory")


def _corpus(corpus: Corpus) -> Page:
    manifest, page = corpus.manifest, Page(str(corpus.path))
    say = page.blocks.append
    config = manifest.config
    say(
        Table(
            "Corpus",
            ("what", "value"),
            [
                ("languages", f"{config.source_language} → {config.target_language}"),
                *(("source", source) for source in manifest.sources),
                ("text", f"{config.text.normaliser}, tokens are of kind {config.text.units}"),
                ("split", f"{config.corpus.split}, seed {config.corpus.seed}"),
                *((f"{side} vocabulary", f"{manifest.vocabulary[side]:,}") for side in SIDES),
            ],
        )
    )
    kept = [(part, rows, f"{rows / manifest.read:.2%}", "") for part, rows in manifest.rows.items()]
    left_out = [
        (rule, rows, f"{rows / manifest.read:.2%}", RULES.get(rule, ""))
        for rule, rows in manifest.drops.items()
    ]
    total = ("read", manifest.read, "100.00%", "")
    say(Table("Rows", ("part, or rule", "rows", "share", "left out"), [*kept, *left_out, total]))
    say(
        Table(
            "Leak: rows whose sentence is in train, too",
            ("part", "shared sources", "shared targets"),
            [(p, leak.shared_sources, leak.shared_targets) for p, leak in manifest.leak.items()],
        )
    )
    counts = [1, 2, 3, 4]
    say(
        Table(
            "References: sources by their number of targets",
            ("part", *map(str, counts), "5 or more"),
            [
                (
                    part,
                    *(sources.get(n, 0) for n in counts),
                    sum(rows for n, rows in sources.items() if n > counts[-1]),
                )
                for part, sources in manifest.references.items()
            ],
        )
    )
    say(
        Table(
            "What the vocabularies know",
            ("part", "side", "words", "different", "of these known", "unknown words"),
            [
                (part, side, k.words, k.distinct, f"{k.coverage:.2%}", f"{k.unknown_rate:.2%}")
                for part, sides in manifest.known.items()
                for side, k in sides.items()
            ],
        )
    )
    say(
        Table(
            "Most frequent unknown words",
            ("part", "side", "words"),
            [
                (part, side, ", ".join(f"{w} {n}" for w, n in k.frequent_unknown.items()) or "none")
                for part, sides in manifest.known.items()
                for side, k in sides.items()
            ],
        )
    )
    for side in SIDES:
        series = {part: sides[side] for part, sides in manifest.lengths.items()}
        say(Histogram(f"Lengths of the {side}", "tokens", series))
    for part, count in manifest.rows.items():
        rows = corpus.part(part).select(np.linspace(0, count - 1, min(count, SAMPLES), dtype=int))
        samples = list(zip(rows["source"][:], rows["target"][:], strict=True))
        say(Table(f"Samples of {part}", SIDES, samples))
    return page


def _model(path: Path, bundle: Bundle) -> Page:
    page = Page(str(path))
    say = page.blocks.append
    config, metrics = bundle.config, _metrics(path)
    parameters = sum(weights.numel() for weights in bundle.model.parameters())
    say(
        Table(
            "Model",
            ("what", "value"),
            [
                ("languages", f"{config.source_language} → {config.target_language}"),
                ("parameters", f"{parameters:,}"),
                ("source vocabulary", f"{len(bundle.source) - len(SPECIALS):,}"),
                ("target vocabulary", f"{len(bundle.target) - len(SPECIALS):,}"),
                *config.model.model_dump().items(),
                *((f"train.{name}", value) for name, value in config.train.model_dump().items()),
                ("trained on", ", ".join(metrics.get("corpus", {}).get("sources", []))),
                *((f"version of {name}", n) for name, n in metrics.get("versions", {}).items()),
            ],
        )
    )
    if scores := metrics.get("scores"):
        rows = [(s["name"], f"{s['score']:.2f}", s["references"], s["signature"]) for s in scores]
        say(Table("Scores on valid", ("score", "value", "references", "signature"), rows))
    if epochs := metrics.get("epochs"):
        numbers = [epoch["epoch"] for epoch in epochs]
        for title, names in {
            "Loss, nats per token": ("train_loss", "valid_loss"),
            "Accuracy on valid": ("valid_token_accuracy", "valid_padded_accuracy"),
        }.items():
            series = {name: [epoch[name] for epoch in epochs] for name in names}
            say(Curves(title, numbers, series))
    return page


def _metrics(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((path / "metrics.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path / 'metrics.json'}: {error}") from None
    return told


# ---- showing ------------------------------------------------------------------------------------


def show(page: Page, console: Console) -> None:
    """Print a page on a terminal."""
    console.rule(page.title)
    for block in page.blocks:
        table = RichTable(title=block.title, title_justify="left", title_style="bold")
        for number, heading in enumerate(_headings(block)):
            cells = [row[number] for row in _rows(block)]
            numeric = isinstance(block, Table) and all(isinstance(cell, int) for cell in cells)
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        for row in _rows(block):
            table.add_row(*map(_text, row))
        console.print(table)


def as_json(page: Page) -> str:
    """A page as JSON: its blocks by their titles."""
    told = {
        block.title: [dict(zip(_headings(block), row, strict=True)) for row in block.rows]
        if isinstance(block, Table)
        else block.series
        for block in page.blocks
    }
    return json.dumps({"path": page.title, **told}, indent=2, ensure_ascii=False)


def as_html(page: Page) -> str:
    """A page as one HTML file that needs no other."""
    blocks = "".join(
        f"<section><h2>{html.escape(block.title)}</h2>{_html_of(block)}</section>"
        for block in page.blocks
    )
    title = html.escape(page.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{blocks}</body></html>\n"
    )


def _headings(block: Table | Histogram | Curves) -> tuple[str, ...]:
    if isinstance(block, Table):
        return block.headings
    return ("epoch" if isinstance(block, Curves) else block.unit, *block.series)


def _rows(block: Table | Histogram | Curves) -> Sequence[tuple[object, ...]]:
    """The rows of a block; a histogram's as bars of text."""
    if isinstance(block, Table):
        return block.rows
    if isinstance(block, Curves):
        return [
            (epoch, *(f"{values[row]:.4f}" for values in block.series.values()))
            for row, epoch in enumerate(block.epochs)
        ]
    edges, heights = _binned(block, _BARS)
    return [
        (
            f"{low}" if high == low + 1 else f"{low}–{high - 1}",
            *(_bar(heights[name][row], max(heights[name])) for name in heights),
        )
        for row, (low, high) in enumerate(pairwise(edges))
    ]


def _bar(height: int, highest: int) -> str:
    return f"{'█' * round(_WIDTH / 3 * height / (highest or 1))} {height:,}"


def _binned(block: Histogram, bars: int) -> tuple[list[int], dict[str, list[int]]]:
    """Edges of at most so many bars of equal width, and the rows of each series between them."""
    longest = max(max(histogram) for histogram in block.series.values())
    width = -(-(longest + 1) // bars)
    edges = list(range(0, longest + width + 1, width))
    return edges, {
        name: np.histogram(list(h), bins=edges, weights=list(h.values()))[0].astype(int).tolist()
        for name, h in block.series.items()
    }


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _html_of(block: Table | Histogram | Curves) -> str:
    if isinstance(block, Table):
        firsts = block.rows[0] if block.rows else [""] * len(block.headings)
        head = "".join(
            f"<th{_class(value)}>{html.escape(heading)}</th>"
            for heading, value in zip(block.headings, firsts, strict=True)
        )
        body = "".join(
            "<tr>" + "".join(f"<td{_class(v)}>{html.escape(_text(v))}</td>" for v in row) + "</tr>"
            for row in block.rows
        )
        return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    if isinstance(block, Curves):

        def curves(axes: Any) -> None:
            for name, values in block.series.items():
                axes.plot(block.epochs, values, label=name.replace("_", " "), marker=".")
            axes.set_xlabel("epoch")

        return _plot(curves)

    def histogram(axes: Any) -> None:
        edges, heights = _binned(block, 60)
        for name, rows in heights.items():
            axes.stairs([n / (sum(rows) or 1) for n in rows], edges, label=name)
        axes.set_xlabel(block.unit)
        axes.set_ylabel("share of rows")

    return _plot(histogram)


def _class(value: object) -> str:
    return ' class="number"' if isinstance(value, int) or str(value).endswith("%") else ""


def _plot(draw: Callable[[Any], None]) -> str:
    """A plot as SVG, in greys that read on light and dark alike."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    grey = "#808080"
    style: dict[Any, Any] = {
        "svg.fonttype": "none", "font.family": "sans-serif", "text.color": grey,
        "axes.labelcolor": grey, "axes.edgecolor": grey, "xtick.color": grey, "ytick.color": grey,
        "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "s2s",
    }  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(8, 3), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.legend(frameon=False)
        box = io.StringIO()
        figure.savefig(box, format="svg", transparent=True, metadata={"Date": None})
    return box.getvalue()[box.getvalue().index("<svg") :]


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
section > div { overflow-x: auto; }
table { border-collapse: collapse; } svg { max-width: 100%; height: auto; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #8888; } td { border-bottom: 1px solid #8883; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
"""
