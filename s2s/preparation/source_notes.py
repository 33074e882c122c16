"""What is odd about the sources as a whole: sides that are swapped, columns that were guessed."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from s2s.corpus.directory import SIDES, CorpusWarning
from s2s.extras import install_command
from s2s.preparation.clean import script_class
from s2s.preparation.job import Job
from s2s.preparation.outcomes import ReadOutcome
from s2s.preparation.sources import Origin
from s2s.preparation.table_layout import TableLayout
from s2s.preparation.tables import load_table
from s2s.text.languages import language_name

if TYPE_CHECKING:  # it needs py3langid, which not everyone has
    from s2s.preparation.sides import Finding

_FILES = 10  # of the sources, those whose sides are judged
_KEEP = "--corpus.no-check-languages takes the rows as they are"

# What to do, by format, where a file calls each side by the language of the other.
_EXCHANGE = {
    "moses": "exchange the names of its two files",
    "jsonl": "--columns takes its columns in the other order",
    "parquet": "--columns takes its columns in the other order",
    "saved": "--columns takes its columns in the other order",
    "hub": "--columns takes its columns in the other order",
    "tmx": "exchange the languages in the file",
    "po": "exchange msgid and msgstr in the file",
}

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class SourceNotes:
    """What is odd about the sources."""

    warnings: tuple[CorpusWarning, ...] = ()

    refusal: str | None = None
    """Why no corpus is to be made of them, or None."""


def note_sources(job: Job, read: list[ReadOutcome]) -> SourceNotes:
    """Return what is odd about sources, given the outcomes of reading them."""
    notes = dict.fromkeys(each.layout.note for each in read if each.layout and each.layout.note)
    warnings = [CorpusWarning(kind="columns_found", text=note) for note in notes]
    hints = dict.fromkeys(origin.hint for origin in job.origins if origin.hint)
    warnings += [CorpusWarning(kind="encoding", text=hint) for hint in hints]
    if held := sum(outcome.carriage_returns for outcome in read):
        rows = "1 row holds" if held == 1 else f"{held:,} rows hold"
        text = f"{rows} a carriage return, which ends no line: it is read as a space"
        warnings.append(CorpusWarning(kind="carriage_returns", text=text))
    if not job.config.corpus.check_languages:
        return SourceNotes(tuple(warnings))
    try:
        from s2s.preparation.sides import SAMPLE_ROWS, judge_sides
    except ModuleNotFoundError:
        why = "the languages of the sides are not checked, which needs py3langid"
        text = f"{why}: {install_command('serve')}"
        return SourceNotes((*warnings, CorpusWarning(kind="languages_unchecked", text=text)))
    findings = {
        number: judge_sides(rows, job.source.languages)
        for number, rows in _samples(job, SAMPLE_ROWS)
    }
    kinds = {finding and finding.kind for finding in findings.values()}
    for number, finding in findings.items():
        if finding is None:
            continue
        text = _message(job, job.origins[number], read[number].layout, finding, len(kinds) == 1)
        if _is_refused(job, finding):
            return SourceNotes(tuple(warnings), f"{text}; {_KEEP}")
        warnings.append(CorpusWarning(kind=f"sides_{finding.kind}", text=text))
    return SourceNotes(tuple(warnings))


def _samples(job: Job, rows_of_all: int) -> Iterator[tuple[int, Rows]]:
    """Yield evenly spread rows of each file, or of some of many, with the number of its origin."""
    chunks: dict[str, list[int]] = {}
    for number, chunk in enumerate(job.chunks):
        chunks.setdefault(job.origins[chunk.origin].label, []).append(number)
    labels = list(chunks)
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), _FILES), dtype=int))
    for label in (labels[number] for number in chosen):
        numbers = chunks[label]
        ends = np.cumsum([job.chunks[number].rows for number in numbers])
        wanted = min(int(ends[-1]), rows_of_all // len(chosen))
        rows = np.unique(np.linspace(0, ends[-1] - 1, wanted, dtype=int))
        begin, sample = 0, []
        for number, end in zip(numbers, ends.tolist(), strict=True):
            within = rows[(rows >= begin) & (rows < end)] - begin
            if len(within):
                table = load_table(job.folder / "read" / job.chunks[number].file)
                sample += _pairs(table.select(SIDES).take(pa.array(within)))
            begin = end
        yield job.chunks[numbers[0]].origin, sample


def _pairs(table: pa.Table) -> Rows:
    """Return rows as pairs of valid text; strings of a binary file may not be."""
    source, target = (
        [raw.decode("utf-8", "replace") for raw in table[side].cast(pa.binary()).to_pylist()]
        for side in SIDES
    )
    return list(zip(source, target, strict=True))


def _is_refused(job: Job, finding: "Finding") -> bool:
    by_script = job.config.corpus.clean.script
    scripts = [script_class(code) for code in job.source.languages]
    if finding.kind == "mixed" and by_script and None not in scripts and scripts[0] != scripts[1]:
        return False  # such rows are left out, and counted, by the rule of scripts
    if finding.kind == "other" and not by_script:
        # A language may be written in letters of another, which are then kept on purpose.
        return finding.is_sure and scripts == [script_class(code) for code in finding.languages]
    return finding.is_sure


def _message(
    job: Job, origin: Origin, layout: TableLayout | None, finding: "Finding", is_everywhere: bool
) -> str:
    """Return what is wrong with the sides of a file, and the options that mend it.

    Args:
        is_everywhere: whether all files are alike in it, so that an option can mend it.
    """
    one, two = (language_name(code) for code in finding.languages)
    named = "-".join(job.source.languages)
    if finding.kind == "mixed":
        return (
            f"{origin.label}: {finding.share:.0%} of the rows look the other way round, with {one} "
            f"as the source and {two} as the target, though --languages is {named}: exchange "
            "their sides in the file"
        )
    if finding.kind == "swapped":
        exchange = _EXCHANGE.get(origin.format, "exchange its columns")
        if layout is not None and is_everywhere:
            columns = " ".join(map(shlex.quote, reversed(layout.columns)))
            exchange = f"--columns {columns} exchanges them"
        languages = "-".join(finding.languages)
        other = f", --languages {languages} trains {one} to {two}" if is_everywhere else ""
        return (
            f"{origin.label}: the two sides look swapped: the source reads as {one}, the target as "
            f"{two}, though --languages is {named}: {exchange}{other}"
        )
    wrong = [
        f"the {side} reads as {language_name(reads)}, not as {language_name(code)}"
        for side, reads, code in zip(SIDES, finding.languages, job.source.languages, strict=True)
        if reads != code
    ]
    same = finding.languages[0] == finding.languages[1]
    mend = (
        "name two columns of different languages with --columns"
        if same
        else f"use --languages {'-'.join(finding.languages)}, or other columns with --columns"
    )
    return f"{origin.label}: {' and '.join(wrong)}: {mend}"
