"""The corpus directory: its manifest, its parts, and how it is opened."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import datasets
from datasets import Dataset, DatasetInfo, Features, List, Value

from s2s.config import DataConfig, Section
from s2s.errors import BadInput
from s2s.text.vocabulary import Vocabulary

MANIFEST = "corpus.json"
PARTS = ("train", "valid", "test")
SIDES = ("source", "target")

COLUMNS = Features(
    {
        "source": Value("string"),
        "target": Value("string"),
        "source_ids": List(Value("int32")),
        "target_ids": List(Value("int32")),
    }
)


class Known(Section):
    """How much of a part's text one vocabulary knows."""

    tokens: int
    """Tokens, `<unk>` among them; the target's `<eos>` is not counted."""

    words: int
    """Words before they become tokens."""

    distinct: int
    """Different words."""

    coverage: float
    """Share of the different words that are known whole or in parts."""

    unknown_rate: float
    """Share of the words that hold an unknown token."""

    frequent_unknown: dict[str, int]
    """The most frequent unknown words, each with its count."""


class Leak(Section):
    """What a held-out part shares with `train`, blind to case, marks and spaces."""

    shared_sources: int
    """Rows whose source is also one of `train`."""

    shared_targets: int
    """Rows whose target is also one of `train`."""


class Manifest(Section):
    """What `corpus.json` says of a corpus directory."""

    format_version: Literal[1] = 1
    """Version of the layout of corpus directories."""

    sources: tuple[str, ...]
    """What the rows were read from."""

    read: int
    """Rows read from the sources; the rows of all parts and all drops add up to it."""

    drops: dict[str, int]
    """Rows left out, by the rule that they broke (`s2s.preparation.clean.RULES`)."""

    rows: dict[str, int]
    """Rows of each part."""

    leak: dict[str, Leak]
    """What each held-out part shares with `train`."""

    references: dict[str, dict[int, int]]
    """For each part, how many sources have one target, two, and so on; spellings of a source are
    one."""

    vocabulary: dict[str, int]
    """Entries of the vocabularies of `source` and `target`, the four specials not counted."""

    known: dict[str, dict[str, Known]]
    """How much the vocabularies know of each part, by part and side."""

    lengths: dict[str, dict[str, dict[int, int]]]
    """Rows by their number of tokens, by part and side; the target's `<eos>` counts."""

    sha256: dict[str, str]
    """Hash of each file of tokens or words, by its path in the directory."""

    versions: dict[str, str]
    """Versions of the libraries that wrote the directory."""

    config: DataConfig
    """The exact settings."""

    @property
    def longest(self) -> dict[str, int]:
        """Tokens of the longest `source` and `target` of any part; `<eos>` counts."""
        return {
            side: max(max(histogram[side]) for histogram in self.lengths.values()) for side in SIDES
        }


@dataclass(frozen=True)
class Corpus:
    """An opened corpus directory."""

    path: Path
    manifest: Manifest
    source: Vocabulary
    target: Vocabulary

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a corpus directory.

        Raises:
            BadInput: `path` is no complete corpus directory of this version.
        """
        try:
            text = (path / MANIFEST).read_bytes()
        except OSError:
            raise BadInput(f"{path} is no corpus directory: it has no {MANIFEST}") from None
        manifest = Manifest.from_json(text, str(path / MANIFEST))
        source = Vocabulary.load(path / "source.json")
        return cls(path, manifest, source, Vocabulary.load(path / "target.json"))

    @property
    def sha256(self) -> str:
        """Hash of the manifest, and so of all that the manifest hashes."""
        return hashlib.sha256((self.path / MANIFEST).read_bytes()).hexdigest()

    def split(self, name: str) -> Dataset:
        """The rows of `train`, `valid` or `test`, memory-mapped.

        Raises:
            BadInput: the corpus has no such part, or its shards cannot be read.
        """
        if name not in self.manifest.rows:
            parts = ", ".join(self.manifest.rows)
            raise BadInput(f"{self.path} has no part {name!r}; it has {parts}")
        try:
            return datasets.load_from_disk(str(self.path / name))
        except Exception as error:  # Arrow, JSON and OS errors alike mean a broken directory
            raise BadInput(f"{self.path / name} cannot be read: {error}") from None


def describe_part(folder: Path, shards: list[str]) -> None:
    """Write what `datasets.load_from_disk` wants to know of a folder of Arrow shards."""
    DatasetInfo(features=COLUMNS).write_to_directory(str(folder))
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in shards],
        "_fingerprint": hashlib.sha256("".join(shards).encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
