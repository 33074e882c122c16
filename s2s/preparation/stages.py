"""The stages of a preparation: each a function of the job and one item.

    read → clean → group → select → learn → encode → join

An item is an origin, a chunk of rows, a range of source hashes, a side or a shard. A stage leaves
files in the job's folder and returns an outcome. Nothing but counts and hashes of held-out rows is
known beyond a chunk, so memory does not grow with the corpus.

What the stage `learn` does is in `s2s.preparation.vocabularies`.
"""

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2s.config import TextConfig
from s2s.corpus.directory import COLUMNS, SIDES, SPLITS, Noise
from s2s.files import new_file, sha256
from s2s.preparation.clean import Cleaner
from s2s.preparation.execution import Stage
from s2s.preparation.job import Job
from s2s.preparation.noise import NoisyWords
from s2s.preparation.outcomes import (
    CleanOutcome,
    EncodeOutcome,
    GroupOutcome,
    JoinOutcome,
    LearnOutcome,
    ReadOutcome,
    SelectOutcome,
)
from s2s.preparation.readers import read_origin
from s2s.preparation.row_keys import (
    LEFT_OUT,
    TEST,
    TRAIN,
    HeldOutTargets,
    RowKeys,
    SplitCodes,
    load_keys,
    splits_before_rules,
)
from s2s.preparation.spelling import LOSSY, find_lost_letters
from s2s.preparation.table_layout import TableLayout
from s2s.preparation.tables import (
    first_rows,
    histogram,
    left_out_rows,
    load_table,
    rechunk,
    save_array,
    save_table,
    words_column,
    words_of_column,
)
from s2s.preparation.vocabularies import learn_vocabulary
from s2s.text.normalise import Side, SplitWords, WordSplitter
from s2s.text.ragged import Ints, Ragged
from s2s.text.sentences import split_sentences
from s2s.text.vocabulary import EOS, Vocabulary

# ---- read ---------------------------------------------------------------------------------------


def _read(job: Job, number: int) -> ReadOutcome:
    """Write the rows of an origin as chunks."""
    origin = job.origins[number]
    limit = job.config.corpus.rows if not origin.split else None
    chunk_rows: list[int] = []
    carriage_returns = 0
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=job.folder) as scratch:
        tables = read_origin(origin, job.source, Path(scratch))
        for chunk in rechunk(first_rows(tables, limit), job.chunk_rows):
            save_table(job.folder / "read" / f"{number:06}-{len(chunk_rows):06}.arrow", chunk)
            chunk_rows.append(chunk.num_rows)
            held = pc.or_(*(pc.match_substring(chunk[side], "\r") for side in SIDES))
            carriage_returns += pc.sum(held).as_py() or 0
        layout = TableLayout.load(Path(scratch))
    return ReadOutcome(chunk_rows=chunk_rows, carriage_returns=carriage_returns, layout=layout)


# ---- clean --------------------------------------------------------------------------------------


def _clean(job: Job, number: int) -> CleanOutcome:
    """Write the usable rows of a chunk, split into words, and their hashes."""
    chunk, text = job.chunks[number], job.config.text
    rows = load_table(job.folder / "read" / chunk.file).slice(0, chunk.rows)
    cleaner = Cleaner(job.config.corpus.clean, job.source.languages)
    table = cleaner.check(rows, unusable_only=bool(chunk.split))
    words = {side: _splitter(text, side).split_many(table[side].combine_chunks()) for side in SIDES}
    drop = table["drop"].to_numpy().astype(object)
    readable = np.flatnonzero(drop == "")
    for side in SIDES:
        has_words = words[side].indices.lengths > 0 if chunk.split else _has_letters(words[side])
        drop[(drop == "") & ~has_words] = "no_words"
    usable = np.flatnonzero(drop == "")
    columns: dict[str, pa.Array] = {side: table[side].take(usable) for side in SIDES}
    columns |= {f"{side}_words": words_column(words[side], usable) for side in SIDES}
    save_table(job.file("clean", number, ".arrow"), pa.table(columns))
    keys = RowKeys.from_table(table.take(usable), job.config.corpus.seed)
    keys.save(job.file("clean", number, ".npy"))
    return CleanOutcome(
        usable_rows=len(usable),
        left_out=left_out_rows(table, drop),
        unusable=np.flatnonzero(drop != "").tolist() if chunk.split else [],
        lost_letters={
            side: find_lost_letters(table[side].take(readable), _splitter(text, side).split)
            for side in SIDES
            if text.normaliser_of(side) in LOSSY
        },
    )


def _has_letters(words: SplitWords) -> Any:
    """Return which sentences have a word with a letter, (sentences,) bool."""
    has_letter = pc.match_substring_regex(pa.array(words.distinct, pa.string()), r"\p{L}")
    of_words = has_letter.to_numpy(zero_copy_only=False)[words.indices.values]
    before = np.concatenate([[0], np.cumsum(of_words)])[words.indices.offsets]
    return before[1:] > before[:-1]


@lru_cache(maxsize=2)
def _splitter(config: TextConfig, side: Side) -> WordSplitter:
    return WordSplitter(config, side)


# ---- group --------------------------------------------------------------------------------------

_LATE_RULES = ("duplicate", "target_leak")  # which look at several rows
_DROPPED = np.dtype([("chunk", "u4"), ("row", "u4"), ("rule", "u1")])


@dataclass(frozen=True)
class _Bucket:
    """All rows of a range of source hashes, from all chunks; (rows,) each."""

    keys: RowKeys
    chunk: Any  # number of the row's chunk
    split: SplitCodes
    provided: Any  # whether the row is of a split that the user provides

    @classmethod
    def load(cls, job: Job, bucket: int) -> "_Bucket":
        keys = [load_keys(job, n).in_bucket(bucket, job.buckets) for n in range(len(job.chunks))]
        splits = [splits_before_rules(job, n, each) for n, each in enumerate(keys)]
        chunk = np.repeat(np.arange(len(keys), dtype=np.uint32), [len(each) for each in keys])
        provided = np.array([bool(each.split) for each in job.chunks])[chunk]
        return cls(RowKeys.concatenate(keys), chunk, np.concatenate(splits), provided)

    def duplicates(self) -> Any:
        """Return which rows equal an earlier one; those of provided splits are not compared."""
        keys = self.keys
        order = np.lexsort((keys.row, self.chunk, keys.pair, keys.source))
        order = order[~self.provided[order]]
        one, next_one = order[:-1], order[1:]
        equal = (keys.pair[one] == keys.pair[next_one]) & (
            keys.source[one] == keys.source[next_one]
        )
        duplicates = np.zeros(len(keys), bool)
        duplicates[next_one[equal]] = True
        return duplicates

    def target_leaks(self, held_out: HeldOutTargets) -> Any:
        """Return which rows of `train` have a held-out target, and of `valid` one of `test`."""
        leaks = (self.split == TRAIN) & np.isin(self.keys.target, held_out.valid)
        leaks |= (self.split != TEST) & np.isin(self.keys.target, held_out.test)
        return leaks & ~self.provided


def _group(job: Job, number: int) -> GroupOutcome:
    """Write which rows of a range of source hashes break a rule that looks at several rows."""
    bucket, held_out = _Bucket.load(job, number), HeldOutTargets.load(job)
    keys = bucket.keys
    rule = np.zeros(len(keys), np.uint8)  # 0, or the number of a late rule, from 1
    if job.config.corpus.split == "grouped":
        rule[bucket.target_leaks(held_out)] = 2
    if job.config.corpus.clean.duplicate:
        rule[bucket.duplicates()] = 1
    out = rule > 0
    dropped = np.empty(int(out.sum()), _DROPPED)
    dropped["chunk"], dropped["row"], dropped["rule"] = bucket.chunk[out], keys.row[out], rule[out]
    save_array(job.file("group", number, ".npy"), np.sort(dropped, order=["chunk", "row"]))

    in_train = ~out & (bucket.split == TRAIN)
    shared_targets = np.intersect1d(keys.target[in_train], held_out.all)
    save_array(job.file("group", number, ".shared.npy"), shared_targets)
    sources = {
        split: keys.source[~out & (bucket.split == code)] for code, split in enumerate(SPLITS)
    }
    return GroupOutcome(
        references={
            split: histogram(np.unique(hashes, return_counts=True)[1])
            for split, hashes in sources.items()
        },
        shared_sources={
            split: int(np.isin(hashes, sources["train"]).sum())
            for split, hashes in sources.items()
            if split != "train"
        },
    )


# ---- select -------------------------------------------------------------------------------------


def _select(job: Job, number: int) -> SelectOutcome:
    """Write the split of each row of a chunk, and how often each word occurs in each split."""
    keys = load_keys(job, number).in_row_order()
    codes = splits_before_rules(job, number, keys)
    drop = _late_drops(job, number, len(keys))
    codes[drop != ""] = LEFT_OUT
    save_array(job.file("select", number, ".npy"), codes)

    table = load_table(job.file("clean", number, ".arrow"))
    for side in SIDES:
        words = words_of_column(table[f"{side}_words"])
        counts: dict[str, Any] = {"word": pa.array(words.distinct, pa.string())}
        for code, split in enumerate(SPLITS):
            rows = words.indices.select(np.flatnonzero(codes == code))
            counts[split] = np.bincount(rows.values, minlength=len(words.distinct))
        save_table(job.file("select", number, f".{side}.arrow"), pa.table(counts))
    shared = np.concatenate(
        [np.load(job.file("group", bucket, ".shared.npy")) for bucket in range(job.buckets)]
    )
    return SelectOutcome(
        split_rows={split: int((codes == code).sum()) for code, split in enumerate(SPLITS)},
        shared_targets={
            split: int(np.isin(keys.target[codes == code], shared).sum())
            for code, split in enumerate(SPLITS)
            if split != "train"
        },
        left_out=left_out_rows(table.select(SIDES), drop),
    )


def _late_drops(job: Job, number: int, rows: int) -> Any:
    """Return the late rule that each row of a chunk breaks, (rows,), or empty strings."""
    names = np.array(["", *_LATE_RULES], object)
    drop = np.full(rows, "", object)
    for bucket in range(job.buckets):
        dropped = np.load(job.file("group", bucket, ".npy"), mmap_mode="r")
        of_chunk = slice(*np.searchsorted(dropped["chunk"], [number, number + 1]))
        drop[dropped["row"][of_chunk]] = names[dropped["rule"][of_chunk]]
    return drop


# ---- encode -------------------------------------------------------------------------------------


def _encode(job: Job, number: int) -> EncodeOutcome:
    """Write the rows of a chunk as they will be in the shards, split by split."""
    table = load_table(job.file("clean", number, ".arrow"))
    codes = np.load(job.file("select", number, ".npy"))
    words, noise = _with_noise(job, number, table, np.flatnonzero(codes == TRAIN))
    ids = {}
    for side in SIDES:
        ids_of_word = Ragged.from_lists(
            _vocabulary(job.corpus_folder / f"{side}.json").encode_words(words[side].distinct)
        )
        ids[side] = words[side].indices.substitute(ids_of_word)
    ids["target"] = ids["target"].append_to_each(EOS)
    file_bytes, lengths, several = {}, {}, {}
    language = job.source.languages[0]
    for code, split in enumerate(SPLITS):
        rows = np.flatnonzero(codes == code)
        if not len(rows):
            continue
        split_ids = {side: ids[side].select(rows) for side in SIDES}
        columns: dict[str, pa.Array] = {
            side: table[side].take(rows).combine_chunks() for side in SIDES
        }
        columns |= {f"{side}_ids": split_ids[side].to_arrow() for side in SIDES}
        file = job.file("encode", number, f".{split}.arrow")
        save_table(file, pa.table(columns).cast(COLUMNS.arrow_schema))
        file_bytes[split] = file.stat().st_size
        lengths[split] = {side: histogram(split_ids[side].lengths) for side in SIDES}
        several[split] = sum(
            len(split_sentences(text, language)) > 1 for text in columns["source"].to_pylist()
        )
    return EncodeOutcome(
        file_bytes=file_bytes, lengths=lengths, several_sentences=several, noise=noise
    )


def _with_noise(
    job: Job, number: int, table: pa.Table, train: Ints
) -> tuple[dict[Side, SplitWords], dict[Noise, int]]:
    """Return the words of a chunk, and how many rows of `train` each kind of noise changed."""
    words: dict[Side, SplitWords] = {
        side: words_of_column(table[f"{side}_words"]) for side in SIDES
    }
    settings = job.config.corpus
    if not settings.typos and not settings.unknown_words:
        return words, {}
    # The same rows whatever the number of tasks.
    random = np.random.default_rng((settings.seed, number))
    noisy = NoisyWords(words["source"], words["target"], random)
    changed = noisy.add(train, settings)
    return noisy.words, changed


def _vocabulary(path: Path) -> Vocabulary:
    """Return a vocabulary, cached for the next chunk until its file is written again."""
    return _cached_vocabulary(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _cached_vocabulary(path: Path, modified: int) -> Vocabulary:  # noqa: ARG001
    return Vocabulary.load(path)


# ---- join ---------------------------------------------------------------------------------------


def _join(job: Job, number: int) -> JoinOutcome:
    """Write a shard."""
    shard = job.shards[number]
    target = job.corpus_folder / shard.path
    with (
        new_file(target) as file,
        pa.OSFile(str(file), "wb") as sink,
        pa.ipc.new_stream(sink, COLUMNS.arrow_schema) as writer,
    ):
        for chunk in shard.chunks:
            table = load_table(job.file("encode", chunk, f".{shard.split}.arrow"))
            for batch in table.to_batches():
                writer.write_batch(batch)
    return JoinOutcome(sha256=sha256(target))


READ = Stage("read", _read, ReadOutcome)
CLEAN = Stage("clean", _clean, CleanOutcome)
GROUP = Stage("group", _group, GroupOutcome)
SELECT = Stage("select", _select, SelectOutcome)
LEARN = Stage("learn", learn_vocabulary, LearnOutcome)
ENCODE = Stage("encode", _encode, EncodeOutcome)
JOIN = Stage("join", _join, JoinOutcome)
STAGES: tuple[Stage[Any], ...] = (READ, CLEAN, GROUP, SELECT, LEARN, ENCODE, JOIN)
"""All stages, in the order in which they run."""
