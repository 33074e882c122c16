"""A preparation as its stages see it: what to do, and where its files are."""

from dataclasses import dataclass
from pathlib import Path

from s2s.config import DataConfig
from s2s.preparation.sources import Origin, Source

# What one task holds in memory. The result depends on the first two, so they are not settings.
CHUNK_ROWS, CHUNK_BYTES = 32_768, 16 << 20
BUCKET_ROWS = 250_000
SHARD_BYTES = 64 << 20


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of an origin."""

    file: str  # in the folder of the stage `read`
    rows: int  # the first ones of the file
    split: str  # of its origin: `valid` or `test`, or "" if the rows are to be split
    origin: int = 0  # its number


@dataclass(frozen=True)
class Shard:
    """An Arrow file of a split, made of consecutive chunks."""

    split: str
    index: int  # among the shards of the split
    count: int  # of the shards of the split
    chunks: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"data-{self.index:05}-of-{self.count:05}.arrow"

    @property
    def path(self) -> str:
        """Path of the file in the corpus directory."""
        return f"{self.split}/{self.name}"


@dataclass(frozen=True)
class Job:
    """All that a stage needs to know; the fields from `chunks` on are filled in stage by stage."""

    source: Source
    config: DataConfig
    folder: Path  # the run folder
    origins: tuple[Origin, ...]
    chunk_rows: int = CHUNK_ROWS
    vocabularies: Path | None = None  # directory whose vocabularies are used; None learns them
    chunks: tuple[Chunk, ...] = ()
    usable_rows: tuple[int, ...] = ()  # of each chunk, after cleaning
    bounds: tuple[int, int] = (0, 0)  # hashes of sources below which a row is in `test`, `valid`
    buckets: int = 1  # ranges of source hashes
    shards: tuple[Shard, ...] = ()

    def file(self, stage: str, item: int, suffix: str) -> Path:
        """Return the path of a file that a stage writes for an item."""
        return self.folder / stage / f"{item:06}{suffix}"

    @property
    def label(self) -> str:
        """Names of the origins in messages."""
        return ", ".join(dict.fromkeys(origin.label for origin in self.origins))

    @property
    def corpus_folder(self) -> Path:
        """Where the corpus directory is written."""
        return self.folder / "corpus"

    @property
    def held_out_shares(self) -> tuple[float, float]:
        """Shares of the rows to hold out for `test` and `valid`; 0 if the user provides them."""
        provided = {origin.split for origin in self.origins}
        corpus = self.config.corpus
        return (
            0.0 if "test" in provided else corpus.test,
            0.0 if "valid" in provided else corpus.valid,
        )
