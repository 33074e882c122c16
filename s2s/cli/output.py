"""What the verbs print: tables for people, and files that are complete or absent."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.table import Table

from s2s.console import printable
from s2s.files import new_file

if TYPE_CHECKING:
    from s2s.bulk.blocks import Tally
    from s2s.corpus.directory import CorpusWarning
    from s2s.evaluation.compare import Comparison
    from s2s.evaluation.evaluate import Evaluation
    from s2s.preparation.pipeline import DryRun


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


def tell_incomplete(lines: "Tally", max_length: int, label: str = "") -> None:
    """Say on standard error which lines have a translation that is not the whole one, if any.

    Args:
        label: name of the file, if there are several.
    """
    if not lines.count:
        return
    subject = "1 translation was" if lines.count == 1 else f"{lines.count:,} translations were"
    where = f"{printable(label)}: " if label else ""
    print(
        f"s2s: {where}{subject} cut off, at {max_length} tokens (decode.max_length) or because of "
        f"repeating the same words; {'line' if lines.count == 1 else 'lines'}: {lines.numbers}",
        file=sys.stderr,
    )


def tell_faults(label: str, faults: "Mapping[str, Tally]") -> None:
    """Say on standard error which rows of a file could not be translated, if any.

    Args:
        label: name of the file.
        faults: the rows, by the reason.
    """
    for reason, rows in faults.items():
        subject = "1 line has" if rows.count == 1 else f"{rows.count:,} lines have"
        print(
            f"s2s: {printable(label)}: {subject} no translation, as "
            f"{'it' if rows.count == 1 else 'each'} {printable(reason)}; "
            f"{'line' if rows.count == 1 else 'lines'}: {rows.numbers}",
            file=sys.stderr,
        )


def tell_warnings(warnings: "Sequence[CorpusWarning]") -> None:
    """Print warnings on standard error, a line for each."""
    for warning in warnings:
        print(f"warning: {printable(warning.text)}", file=sys.stderr)


def print_dry_run(planned: "DryRun") -> None:
    """Print what a preparation would leave out, with examples."""
    from s2s.corpus.rules import RULES

    table = Table(title=f"{planned.rows_read:,} rows read; nothing is written")
    table.add_column("rows", justify="right")
    table.add_column("left out by", overflow="fold")
    table.add_column("because of", overflow="fold")
    for rule, count in Counter(planned.left_out.drops).most_common():
        table.add_row(f"{count:,}", rule, RULES[rule])
    for split, count in planned.split_rows.items():
        table.add_row(f"{count:,}", "", f"kept in {split}")
    Console(highlight=False).print(table)
    for rule, examples in planned.left_out.examples.items():
        print(f"\n{rule}:")
        for source, target in examples:
            print(f"  {printable(source)}\t{printable(target)}")
    for warning in planned.warnings:
        print(f"\nwarning: {printable(warning.text)}")


def print_evaluation(model: str, evaluation: "Evaluation") -> None:
    """Print the scores of a model, its breakdowns and its worst sentences."""
    console, model = _console(), printable(model)
    size = f"{evaluation.pairs:,} pairs ({evaluation.sentences:,} sources)"
    console.print(_scores(f"{model} on {size} of {evaluation.split}", evaluation))
    if evaluation.breakdowns is not None:
        for criterion, groups in evaluation.breakdowns.sentences.items():
            console.print(_numbers(f"by {criterion}", [group.as_json() for group in groups]))
        tokens = [asdict(group) for group in evaluation.breakdowns.tokens]
        console.print(_numbers("by frequency of the token in train", tokens, decimals=4))
    for number, sentence in enumerate(evaluation.worst, start=1):
        console.print(f"{number}. chrF2 {sentence.score:.2f}: {printable(sentence.source)}")
        console.print(f"   translation: {printable(sentence.translation)}")
        for reference in sentence.references:
            console.print(f"   reference:   {printable(reference)}")


def print_comparison(comparison: "Comparison") -> None:
    """Print the scores of two systems, and which differences are significant."""
    console = _console()
    differing = f"{comparison.different:,} of {comparison.sentences:,} sentences"
    table = Table(title=f"{differing} of {comparison.split} are translated differently")
    for heading in ("measure", "A", "B", "B - A", "p", "better", "how"):
        text = heading in ("measure", "better", "how")
        table.add_column(heading, justify="left" if text else "right", overflow="fold")
    for row in comparison.differences:
        values = (f"{row.a:.2f}", f"{row.b:.2f}", f"{row.difference:+.2f}")
        better = row.better.upper() if row.better else "neither, at p < 0.05"
        table.add_row(row.name, *values, f"{row.p_value:.4f}", better, row.signature)
    names = (printable(comparison.a), printable(comparison.b))
    console.print("A: {}\nB: {}".format(*names), soft_wrap=True)
    console.print(table)


def _console() -> Console:
    # Sentences may hold brackets: nothing is markup.
    return Console(highlight=False, markup=False, emoji=False)


def _scores(title: str, evaluation: "Evaluation") -> Table:
    table = Table(title=title)
    for heading in ("measure", "value", "how"):
        number = heading == "value"
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    table.add_row("loss", f"{evaluation.loss:.4f}", "nats per real token, teacher forcing")
    table.add_row("perplexity", f"{evaluation.perplexity:.2f}", "of real tokens")
    table.add_row("token accuracy", f"{evaluation.token_accuracy:.4f}", "real tokens")
    table.add_row("padded accuracy", f"{evaluation.padded_accuracy:.4f}", "the Keras metric")
    for score in evaluation.scores:
        value = f"{score.score:.2f}"
        if score.low is not None:
            value += f" ({score.low:.2f} to {score.high:.2f})"
        how = f"{evaluation.decoding}, references {score.references}; {score.signature}"
        table.add_row(score.name, value, how)
    return table


def _numbers(title: str, rows: Sequence[Mapping[str, object]], decimals: int = 2) -> Table:
    """Return a table of rows with the same keys: a label, then numbers."""
    table = Table(title=title)
    for number, heading in enumerate(rows[0] if rows else ()):
        table.add_column(heading if number else "", justify="right" if number else "left")
    for row in rows:
        label, *values = row.values()
        cells = (f"{v:.{decimals}f}" if isinstance(v, float) else f"{v:,}" for v in values)
        table.add_row(str(label), *cells)
    return table
