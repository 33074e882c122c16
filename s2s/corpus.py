"""From a source of sentence pairs to a corpus directory, on Hugging Face datasets.

    read → drop what cannot be used → split → learn vocabularies → encode → Arrow shards

Every row read is accounted for: it is in a part of the corpus or counted under a drop reason.
"""

import hashlib
import re
import shutil
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import datasets
import numpy as np
import tokenizers
from datasets import Dataset, DatasetInfo, Features, List, Value

from s2s import __version__
from s2s.config import Config, CorpusConfig, DataConfig, Section
from s2s.errors import BadInput
from s2s.text import EOS, Vocabulary

DEMO = "demo"
MANIFEST = "corpus.json"

_COLUMNS = Features(
    {
        "source": Value("string"),
        "target": Value("string"),
        "source_ids": List(Value("int32")),
        "target_ids": List(Value("int32")),
    }
)


class Manifest(Section):
    """What `corpus.json` says of a corpus directory."""

    format_version: Literal[1] = 1
    """Version of the layout of corpus directories."""

    source: str
    """Where the pairs were read from, as the user named it."""

    read: int
    """Rows read from the source; the rows of all parts and all drops add up to it."""

    drops: dict[str, int]
    """Rows left out, by reason."""

    rows: dict[str, int]
    """Rows of each part."""

    words: dict[str, int]
    """Words in the vocabulary of `source` and `target`, the four specials not counted."""

    longest: dict[str, int]
    """Tokens of the longest `source` and `target` of any part; the target's `<eos>` counts."""

    sha256: dict[str, str]
    """Hash of each file of tokens or words, by its path in the directory."""

    versions: dict[str, str]
    """Versions of the libraries that wrote the directory."""

    config: DataConfig
    """The exact settings."""


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

    def part(self, name: str) -> Dataset:
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


def prepare(
    source: str, config: Config | DataConfig, out: Path, say: Callable[[str], None] = print
) -> Manifest:
    """Read pairs from `source` and write the corpus directory `out`.

    Args:
        source: `demo`, or the path of a file of tab-separated pairs (source, target and perhaps
            an attribution), plain or as the one such file in a zip.
        say: told in a line what each step found.

    Raises:
        BadInput: the source is missing, unreadable, or has no usable pair; `out` exists.
    """
    if out.exists():
        raise BadInput(f"{out} exists already; name another directory, or remove it first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Written beside its final place and renamed, so a directory named `out` is always complete.
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise BadInput(f"{out} cannot be made: {error.strerror}") from None
    try:
        manifest = _prepare(source, config, scratch, say)
        scratch.chmod(0o755)
        scratch.replace(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def _prepare(source: str, config: DataConfig, out: Path, say: Callable[[str], None]) -> Manifest:
    with tempfile.TemporaryDirectory(prefix="s2s-prepare-") as cache:
        pairs = _read(source, config.corpus.rows, cache)
        read = len(pairs)
        drops: Counter[str] = Counter(reason for reason in pairs["drop"] if reason)
        pairs = pairs.select(
            [row for row, reason in enumerate(pairs["drop"]) if not reason]
        ).remove_columns("drop")
        if not len(pairs):
            reasons = ", ".join(f"{n} {reason}" for reason, n in drops.items()) or "it is empty"
            raise BadInput(
                f"{source}: no usable pair in {read:,} rows ({reasons}); "
                "a row is: source, tab, target"
            )
        say(f"read {read:,} rows of {source}, {len(pairs):,} of them usable")

        parts, leaks = split(pairs["source"][:], pairs["target"][:], config.corpus)
        drops["target_leak"] += leaks
        if not parts["train"]:
            raise BadInput(f"{source}: {len(pairs):,} usable pairs are too few to split")

        learned = range(len(pairs)) if config.corpus.vocabulary_from == "all" else parts["train"]
        seen = pairs.select(learned)
        vocabularies = {
            side: Vocabulary.learn(seen[side], config.text) for side in ("source", "target")
        }
        for side, vocabulary in vocabularies.items():
            vocabulary.save(out / f"{side}.json")
        say("learned " + ", ".join(f"{len(v) - 4:,} {s} words" for s, v in vocabularies.items()))

        rows, longest = {}, {"source": 0, "target": 0}
        for name, members in parts.items():
            if not members:
                raise BadInput(f"{source}: no pair left for the part {name!r}; give more rows")
            encoded = pairs.select(members).map(
                encode,
                batched=True,
                fn_kwargs=vocabularies,
                features=_COLUMNS,
                desc=f"encode {name}",
            )
            lengths = {side: _lengths(encoded, f"{side}_ids") for side in longest}
            # A sentence may have no word left once normalised ("123" under `tutorial`).
            spoken = np.flatnonzero((lengths["source"] > 0) & (lengths["target"] > 1))
            drops["no_words"] += len(encoded) - len(spoken)
            if not len(spoken):
                raise BadInput(f"{source}: no pair left for the part {name!r}; give more rows")
            # A fresh Dataset: the info of the loaded one tells of temporary files.
            table = encoded.select(spoken).flatten_indices().data
            Dataset(table, info=DatasetInfo(features=_COLUMNS)).save_to_disk(out / name)
            rows[name] = len(spoken)
            longest = {s: max(n, int(lengths[s][spoken].max())) for s, n in longest.items()}
        say("wrote " + ", ".join(f"{n:,} {name} pairs" for name, n in rows.items()))

    manifest = Manifest(
        source=source,
        read=read,
        drops={reason: n for reason, n in sorted(drops.items()) if n},
        rows=rows,
        words={side: len(v) - 4 for side, v in vocabularies.items()},
        longest=longest,
        sha256=_hashes(out),
        versions={
            "s2s": __version__,
            "datasets": datasets.__version__,
            "tokenizers": tokenizers.__version__,
        },
        config=DataConfig(**{key: getattr(config, key) for key in DataConfig.model_fields}),
    )
    (out / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def key(sentence: str) -> str:
    """What two spellings of one sentence have in common: NFKC, case-folded, marks as spaces."""
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip()


def split(
    sources: list[str], targets: list[str], config: CorpusConfig
) -> tuple[dict[str, list[int]], int]:
    """Assign rows to parts.

    A grouped split places a row by a hash of its source's key, so that adding rows moves none;
    then rows of `train` whose target's key is held out, and rows of `valid` whose target's key is
    in `test`, belong to no part.

    Returns:
        The row numbers of each part, ascending, and how many rows belong to none.
    """
    if config.split == "random":
        order = np.random.default_rng(config.seed).permutation(len(sources))
        test = round(len(order) * config.test)
        valid = test + round(len(order) * config.valid)
        cut = {"train": order[valid:], "valid": order[test:valid], "test": order[:test]}
        parts = {name: np.sort(rows).tolist() for name, rows in cut.items()}
    else:
        parts = {"train": [], "valid": [], "test": []}
        for row, sentence in enumerate(sources):
            share = _share(key(sentence), config.seed)
            held = share < config.test + config.valid
            parts["test" if share < config.test else "valid" if held else "train"].append(row)

    leaks = 0
    if config.split == "grouped":
        held_out: set[str] = set()
        for name in ("test", "valid", "train"):
            keys = [key(targets[row]) for row in parts[name]]
            clean = [row for row, k in zip(parts[name], keys, strict=True) if k not in held_out]
            leaks += len(keys) - len(clean)
            parts[name] = clean
            held_out.update(keys)
    if not config.test:
        del parts["test"]
    return parts, leaks


def _share(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on the text and the seed alone."""
    digest = hashlib.blake2b(f"{seed}\t{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _read(source: str, rows: int | None, cache: str) -> Dataset:
    """All rows with their columns `source`, `target` and `drop` (a reason, or empty)."""
    if source == DEMO:
        from s2s import demo  # pyrealb is needed here alone

        pairs = demo.load()[:rows]
        return Dataset.from_dict(
            {
                "source": [s for s, _ in pairs],
                "target": [t for _, t in pairs],
                "drop": [""] * len(pairs),
            }
        )
    try:
        lines = datasets.load_dataset(
            "text",
            data_files=str(_text_file(Path(source), Path(cache))),
            split="train",
            features=Features({"text": Value("string")}),
            cache_dir=cache,
            encoding="utf-8-sig",
            encoding_errors="replace",
        )
    except BadInput:
        raise
    except Exception as error:  # zip, Arrow and OS errors alike mean a broken file
        raise BadInput(f"{source} cannot be read: {_cause(error)}") from None
    if rows is not None:
        lines = lines.select(range(min(rows, len(lines))))
    return lines.map(
        lambda batch: _columns(batch["text"]),
        batched=True,
        remove_columns="text",
        desc="read",
    )


def _text_file(path: Path, cache: Path) -> Path:
    """The text file that `path` is, or the one that the zip at `path` holds, taken to `cache`."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if not path.stat().st_size:
        raise BadInput(f"{path}: the file is empty")
    # One plain name for all: datasets would read another as a pattern or a chain of file systems.
    text = cache / "pairs.txt"
    if not zipfile.is_zipfile(path):
        if path.suffix == ".zip":
            raise BadInput(f"{path}: not a readable zip file")
        text.symlink_to(path.resolve())
        return text
    with zipfile.ZipFile(path) as archive:
        members = [
            member
            for member in archive.infolist()
            if member.file_size
            and member.filename.endswith((".txt", ".tsv"))
            and not member.filename.startswith("__MACOSX/")
            and not Path(member.filename).name.startswith(("_", "."))
        ]
        if len(members) != 1:
            raise BadInput(f"{path}: one .txt or .tsv file expected, found {len(members)}")
        with archive.open(members[0]) as packed, text.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    return text


def _cause(error: BaseException) -> str:
    """The first fault of a chain of errors, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def _columns(lines: Iterable[str]) -> dict[str, list[str]]:
    """Lines cut into columns, each with the reason why it cannot be used, or none."""
    table: dict[str, list[str]] = {"source": [], "target": [], "drop": []}
    for line in lines:
        cells = [cell.strip() for cell in line.split("\t")]
        source, target = [*cells, "", ""][:2]
        if not any(cells):
            reason = "empty"
        elif len(cells) not in (2, 3):
            reason = "columns"
        elif "\ufffd" in line:
            reason = "encoding"
        else:
            reason = "" if source and target else "empty"
        for column, value in zip(table.values(), (source, target, reason), strict=True):
            column.append(value)
    return table


def encode(
    batch: dict[str, list[str]], source: Vocabulary, target: Vocabulary
) -> dict[str, list[list[int]]]:
    """The token columns of a batch of rows, as the shards have them."""
    return {
        "source_ids": source.encode(batch["source"]),
        "target_ids": [[*ids, EOS] for ids in target.encode(batch["target"])],
    }


def _lengths(rows: Dataset, column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.fromiter((len(ids) for ids in rows[column]), dtype=np.int64, count=len(rows))


def _hashes(directory: Path) -> dict[str, str]:
    """The sha256 of every vocabulary and Arrow file, by its path in the directory."""
    files = sorted([*directory.glob("*.json"), *directory.glob("*/*.arrow")])
    return {
        file.relative_to(directory).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
