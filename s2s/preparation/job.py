"""What the stages of a preparation know of it, and what they tell."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from s2s.config import DataConfig
from s2s.preparation.sources import Origin, Source

# What one task holds in memory. The result depends on the first two, so they are no settings.
PIECE_ROWS, PIECE_BYTES = 32_768, 16 << 20
BUCKET_ROWS = 250_000
SHARD_BYTES = 64 << 20

EXAMPLES = 10  # shown of the rows that a rule leaves out

Outcome = dict[str, Any]
"""What an item of a stage found out, as JSON holds it."""

Execute = Callable[[Callable[[int], None], Sequence[int]], Iterator[int]]
"""Runs a function for every item, in any order, and yields the items that are done."""


class Watch(Protocol):
    """Told how far a preparation is."""

    def line(self, text: str) -> None:
        """A line that stays."""

    def stage(self, name: str, done: int, total: int) -> None:
        """So many items of a stage are done."""


class Silent:
    """A watch that nobody looks at."""

    def line(self, text: str) -> None:
        """Say nothing."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Show nothing."""


@dataclass(frozen=True)
class Piece:
    """Some consecutive rows of an origin."""

    file: str
    rows: int
    part: str  # that the origin is given as, or ""


@dataclass(frozen=True)
class Job:
    """All that a stage needs to know; later stages know more."""

    source: Source
    config: DataConfig
    folder: Path
    origins: tuple[Origin, ...]
    piece_rows: int = PIECE_ROWS
    vocabularies: Path | None = None  # directory whose vocabularies are taken instead of learned
    pieces: tuple[Piece, ...] = ()
    kept: tuple[int, ...] = ()  # rows of each piece that cleaning keeps
    buckets: int = 1
    shards: tuple[tuple[str, tuple[int, ...]], ...] = ()  # part and pieces of each shard

    def at(self, stage: str, item: int, suffix: str) -> Path:
        """A file of a stage's item."""
        return self.folder / stage / f"{item:06}{suffix}"

    @property
    def shares(self) -> tuple[float, float]:
        """Shares of rows that a hash holds out for `test` and `valid`."""
        given = {origin.part for origin in self.origins}
        corpus = self.config.corpus
        return 0.0 if "test" in given else corpus.test, 0.0 if "valid" in given else corpus.valid

    @property
    def corpus(self) -> Path:
        """Where the corpus directory grows."""
        return self.folder / "corpus"


@dataclass
class Tally:
    """What the stages found out about rows left out."""

    drops: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[list[str]]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count what an outcome tells."""
        self.drops.update(outcome["drops"])
        for rule, rows in outcome["examples"].items():
            shown = self.examples.setdefault(rule, [])
            shown += rows[: EXAMPLES - len(shown)]
