"""The corpus directory: its manifest, its splits and its vocabularies."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import datasets
from datasets import Dataset, DatasetInfo, Features, List, Value
from pydantic import Field

from s2s.config import DataConfig, Section
from s2s.errors import BadInput
from s2s.files import describe_directory
from s2s.text.normalise import Side
from s2s.text.vocabulary import Vocabulary

MANIFEST = "corpus.json"
SPLITS = ("train", "valid", "test")
SIDES: tuple[Side, ...] = ("source", "target")
Noise = Literal["typos", "unknown_words"]
NOISES: tuple[Noise, ...] = ("typos", "unknown_words")

COLUMNS = Features(
    {
        "source": Value("string"),
        "target": Value("string"),
        "source_ids": List(Value("int32")),
        "target_ids": List(Value("int32")),
    }
)


class VocabularyCoverage(Section):
    """How much of one side of a split a vocabulary covers."""

    tokens: int
    """Tokens, including `<unk>`, but not the target's `<eos>`."""

    words: int
    """Running words, before they are split into tokens."""

    distinct: int
    """Different words."""

    coverage: float
    """Share of the different words that are encoded without `<unk>`."""

    unknown_rate: float
    """Share of the running words that are encoded with `<unk>`."""

    frequent_unknown: dict[str, int]
    """The most frequent words that are encoded with `<unk>`, with their counts."""


class LostLetters(Section):
    """Letters of one side of a corpus that its normaliser loses."""

    letters: int
    """Letters of the sentences, as read."""

    lost: dict[str, int]
    """The letters that are in no word, the most frequent first, with their counts."""

    @property
    def share(self) -> float:
        """Share of the letters that are lost."""
        return sum(self.lost.values()) / self.letters if self.letters else 0.0

    @classmethod
    def merge(cls, parts: Iterable["LostLetters"]) -> Self:
        """Return the sum of the numbers."""
        letters, lost = 0, Counter[str]()
        for part in parts:
            letters += part.letters
            lost.update(part.lost)
        return cls(letters=letters, lost=dict(lost.most_common()))


class Leak(Section):
    """Overlap of a held-out split with `train`, ignoring case, punctuation and spaces."""

    shared_sources: int
    """Rows whose source also occurs in `train`."""

    shared_targets: int
    """Rows whose target also occurs in `train`."""


class CorpusWarning(Section):
    """What is probably wrong with a corpus, though it can be used (`s2s.corpus.warnings`)."""

    kind: str
    """Its name, for programs."""

    text: str
    """What was found, and which option changes it, in one line."""


class Manifest(Section):
    """The content of `corpus.json`: what a corpus directory was made from, and what it holds."""

    format_version: Literal[1] = 1
    """Version of the layout of corpus directories."""

    sources: tuple[str, ...]
    """The files or datasets that the rows were read from."""

    read: int
    """Rows read from the sources: the sum of `rows` and `drops`."""

    drops: dict[str, int]
    """Rows left out, by the rule that they break (`s2s.corpus.rules.RULES`)."""

    left_out: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Numbers, from 1, of the rows that were left out of each split that the user provides; empty
    in older corpora."""

    rows: dict[str, int]
    """Rows of each split."""

    several_sentences: dict[str, int] = Field(default_factory=dict)
    """Rows of each split whose source holds more than one sentence; empty in older corpora."""

    noise: dict[Noise, int] = Field(default_factory=dict)
    """Rows of `train` with noise, by the setting that asks for it."""

    warnings: tuple[CorpusWarning, ...] = ()
    """What is probably wrong; empty in older corpora."""

    leak: dict[str, Leak]
    """Overlap of each held-out split with `train`."""

    references: dict[str, dict[int, int]]
    """For each split, how many sources have one target, two, and so on; sources that differ only in
    case, punctuation and spaces count as one."""

    vocabulary: dict[str, int]
    """Sizes of the vocabularies of `source` and `target`, without the four special tokens."""

    known: dict[str, dict[str, VocabularyCoverage]]
    """How much of the text the vocabularies cover, by split and side."""

    lost_letters: dict[Side, LostLetters] = Field(default_factory=dict)
    """The letters of each side that its normaliser loses, if it is one that loses any."""

    lengths: dict[str, dict[str, dict[int, int]]]
    """Numbers of rows by their length in tokens, by split and side; the target's `<eos>` counts."""

    sha256: dict[str, str]
    """SHA-256 of each shard and tokenizer file, by its path in the directory."""

    versions: dict[str, str]
    """Versions of s2s and of the libraries that wrote the directory."""

    config: DataConfig
    """The settings, complete."""

    @property
    def of_passages(self) -> bool:
        """Whether most sources of `train` hold more than one sentence."""
        return 2 * self.several_sentences.get("train", 0) > self.rows.get("train", 0)

    @property
    def longest(self) -> dict[str, int]:
        """Length in tokens of the longest `source` and `target` of all splits; `<eos>` counts."""
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
            BadInput: `path` is not a complete corpus directory of this version.
        """
        try:
            text = (path / MANIFEST).read_bytes()
        except OSError:
            reason = describe_directory(path, MANIFEST)
            raise BadInput(f"{path} is not a corpus directory: {reason}") from None
        manifest = Manifest.from_json(text, str(path / MANIFEST))
        source = Vocabulary.load(path / "source.json")
        return cls(path, manifest, source, Vocabulary.load(path / "target.json"))

    @property
    def sha256(self) -> str:
        """SHA-256 of the manifest, and so of everything that the manifest hashes."""
        return hashlib.sha256((self.path / MANIFEST).read_bytes()).hexdigest()

    def split(self, name: str) -> Dataset:
        """Return the rows of a split, memory-mapped, as a dataset with `COLUMNS`.

        Args:
            name: `train`, `valid` or `test`.

        Raises:
            BadInput: the corpus does not have the split, or its shards cannot be read.
        """
        if name not in self.manifest.rows:
            splits = ", ".join(self.manifest.rows)
            raise BadInput(f"{self.path} has no split {name!r}; it has {splits}")
        try:
            return datasets.load_from_disk(str(self.path / name))
        except Exception as error:  # Arrow, JSON and OS errors alike mean a broken directory
            raise BadInput(f"{self.path / name} cannot be read: {error}") from None


def write_split_metadata(folder: Path, shards: list[str]) -> None:
    """Write the files that `datasets.load_from_disk` needs beside the Arrow shards of a split.

    Args:
        folder: the folder of the split.
        shards: names of its shards, in order.
    """
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
