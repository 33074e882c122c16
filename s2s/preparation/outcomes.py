"""What the stages find out, in the form in which a run folder keeps it: a JSON file for each item.

Only counts, names and a few examples are here; rows are in files beside it.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Self

from s2s.config import Section
from s2s.corpus.directory import LostLetters, Noise, VocabularyCoverage
from s2s.preparation.table_layout import TableLayout
from s2s.text.normalise import Side

EXAMPLES = 10  # rows shown for each rule

Histogram = dict[int, int]
"""How often each number occurs."""


class LeftOut(Section):
    """Rows that are left out."""

    drops: dict[str, int]
    """Number of rows that break each rule."""

    examples: dict[str, list[tuple[str, str]]]
    """The first of these rows, source and target, shortened."""

    @classmethod
    def merge(cls, parts: Iterable["LeftOut"]) -> Self:
        """Return the sum of the numbers, with the first examples."""
        drops, examples = Counter[str](), dict[str, list[tuple[str, str]]]()
        for part in parts:
            drops.update(part.drops)
            for rule, rows in part.examples.items():
                examples[rule] = (examples.get(rule, []) + rows)[:EXAMPLES]
        return cls(drops=dict(drops), examples=examples)


class ReadOutcome(Section):
    """Outcome of reading an origin."""

    chunk_rows: list[int]
    """Rows of each chunk of the origin."""

    carriage_returns: int = 0
    """Rows that hold a carriage return, which is read as a space and ends no line."""
    layout: TableLayout | None = None
    """Of a table, which columns were read."""


class CleanOutcome(Section):
    """Outcome of cleaning a chunk."""

    usable_rows: int
    left_out: LeftOut

    unusable: list[int]
    """Places of the rows that are left out, in a chunk of a split that the user provides."""
    lost_letters: dict[Side, LostLetters]
    """Letters of each side that the normaliser loses, in rows that break no rule but `no_words`."""


class GroupOutcome(Section):
    """Outcome of grouping a range of source hashes."""

    references: dict[str, Histogram]
    """For each split, how many sources have one target, two, and so on."""

    shared_sources: dict[str, int]
    """For each held-out split, the rows whose source also occurs in `train`."""


class SelectOutcome(Section):
    """Outcome of assigning the rows of a chunk to splits."""

    split_rows: dict[str, int]
    """Rows of each split."""

    shared_targets: dict[str, int]
    """For each held-out split, the rows whose target also occurs in `train`."""

    left_out: LeftOut


class LearnOutcome(Section):
    """Outcome of learning a vocabulary."""

    vocabulary: dict[str, int]
    """Size of the vocabulary of each side that it is for, without the special tokens."""

    coverage: dict[str, dict[str, VocabularyCoverage]]
    """How much of the text it covers, by split and side."""


class EncodeOutcome(Section):
    """Outcome of encoding a chunk."""

    file_bytes: dict[str, int]
    """Size of the encoded rows, by split; splits without rows are missing."""

    lengths: dict[str, dict[str, Histogram]]
    """Numbers of rows by their length in tokens, by split and side."""

    several_sentences: dict[str, int]
    """Rows whose source holds more than one sentence, by split."""

    noise: dict[Noise, int]
    """Rows of `train` with noise, by kind."""


class JoinOutcome(Section):
    """Outcome of writing a shard."""

    sha256: str
