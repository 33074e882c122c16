"""What the verbs print: tables for people, and files that are complete or absent."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table

from s2s.files import new_file

if TYPE_CHECKING:
    from s2s.preparation.job import Tally


@contextmanager
def opened(path: Path | None) -> Iterator[TextIO]:
    """Give standard output, or a file that takes its name once all of it is written."""
    if path is None:
        yield sys.stdout
    elif path.exists() and not path.is_file():  # a device or a pipe
        with path.open("w", encoding="utf-8") as file:
            yield file
    else:
        with new_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
            yield file


def print_dry_run(read: int, tally: "Tally", rows: Mapping[str, int]) -> None:
    """Print what a preparation would leave out, with examples.

    Args:
        read: rows read.
        tally: rows that each rule leaves out, and some of them.
        rows: those that each split would keep.
    """
    from s2s.preparation.clean import RULES

    table = Table(title=f"{read:,} rows read; nothing is written")
    table.add_column("rows", justify="right")
    table.add_column("left out by", overflow="fold")
    table.add_column("because of", overflow="fold")
    for rule, count in tally.drops.most_common():
        table.add_row(f"{count:,}", rule, RULES[rule])
    for split, count in rows.items():
        table.add_row(f"{count:,}", "", f"kept in {split}")
    Console(highlight=False).print(table)
    for rule, examples in tally.examples.items():
        print(f"\n{rule}:")
        for source, target in examples:
            print(f"  {source}\t{target}")


def print_evaluation(model: str, result: Mapping[str, Any]) -> None:
    """Print the scores of a model, its breakdowns and its worst sentences."""
    console = _console()
    size = f"{result['pairs']:,} pairs ({result['sentences']:,} sources)"
    console.print(_scores(f"{model} on {size} of {result['part']}", result))
    for name, rows in result["breakdowns"].items():
        console.print(_numbers(f"by {name}", rows))
    title = "by frequency of the token in train"
    console.print(_numbers(title, result["token_accuracies"], decimals=4))
    for number, row in enumerate(result.get("worst", []), start=1):
        console.print(f"{number}. chrF2 {row['score']:.2f}: {row['source']}")
        console.print(f"   translation: {row['translation']}")
        for reference in row["references"]:
            console.print(f"   reference:   {reference}")


def print_comparison(result: Mapping[str, Any]) -> None:
    """Print the scores of two systems, and which differences are significant."""
    console = _console()
    differing = f"{result['different']:,} of {result['sentences']:,}"
    table = Table(title=f"{differing} sentences of {result['part']} are translated differently")
    for heading in ("measure", "A", "B", "B - A", "p", "better", "how"):
        text = heading in ("measure", "better", "how")
        table.add_column(heading, justify="left" if text else "right", overflow="fold")
    for row in result["scores"]:
        values = (f"{row['a']:.2f}", f"{row['b']:.2f}", f"{row['difference']:+.2f}")
        better = row["better"].upper() if row["better"] else "neither, at p < 0.05"
        table.add_row(row["name"], *values, f"{row['p_value']:.4f}", better, row["signature"])
    console.print(f"A: {result['a']}\nB: {result['b']}", soft_wrap=True)
    console.print(table)


def _console() -> Console:
    # Sentences may hold brackets: nothing is markup.
    return Console(highlight=False, markup=False)


def _scores(title: str, result: Mapping[str, Any]) -> Table:
    table = Table(title=title)
    for heading in ("measure", "value", "how"):
        number = heading == "value"
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    table.add_row("loss", f"{result['loss']:.4f}", "nats per real token, teacher forcing")
    table.add_row("perplexity", f"{result['perplexity']:.2f}", "of real tokens")
    table.add_row("token accuracy", f"{result['token_accuracy']:.4f}", "real tokens")
    table.add_row("padded accuracy", f"{result['padded_accuracy']:.4f}", "the Keras metric")
    for score in result["scores"]:
        value = f"{score['score']:.2f}"
        if score["low"] is not None:
            value += f" ({score['low']:.2f} to {score['high']:.2f})"
        how = f"{result['decoding']}, references {score['references']}; {score['signature']}"
        table.add_row(score["name"], value, how)
    return table


def _numbers(title: str, rows: Sequence[Mapping[str, Any]], decimals: int = 2) -> Table:
    """Return a table of rows with the same keys: a label, then numbers."""
    table = Table(title=title)
    for number, heading in enumerate(rows[0] if rows else ()):
        table.add_column(heading if number else "", justify="right" if number else "left")
    for row in rows:
        label, *values = row.values()
        cells = (f"{v:.{decimals}f}" if isinstance(v, float) else f"{v:,}" for v in values)
        table.add_row(label, *cells)
    return table
