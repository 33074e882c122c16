"""Hashes of the rows of a corpus: what is known of rows beyond their own chunk."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2s.corpus.directory import SPLITS
from s2s.files import new_file
from s2s.preparation.job import Job
from s2s.preparation.sentence_keys import Hashes, hash_texts, held_out_bounds
from s2s.preparation.tables import save_array

TRAIN, VALID, TEST = range(len(SPLITS))
LEFT_OUT = -1  # instead of the split of a row that breaks a rule

SplitCodes = np.ndarray[Any, np.dtype[np.int8]]


@dataclass(frozen=True)
class RowKeys:
    """Hashes of the usable rows of a chunk, (rows,) each, in ascending order of `source`."""

    source: Hashes  # of the source's key
    target: Hashes  # of the target's key
    pair: Hashes  # of source and target as they are
    row: Hashes  # number of the row in the chunk

    @classmethod
    def from_table(cls, table: pa.Table, seed: int) -> Self:
        """Return the hashes of a table with the columns that `Cleaner.check` returns."""
        source, target, source_key, target_key = (
            table[name].combine_chunks()
            for name in ("source", "target", "source_key", "target_key")
        )
        source_hashes = hash_texts(source_key, seed)
        order = np.argsort(source_hashes, kind="stable")
        return cls(
            source_hashes[order],
            hash_texts(target_key, seed)[order],
            hash_texts(pc.binary_join_element_wise(source, target, "\t"), seed)[order],
            order.astype(np.uint64),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the hashes that `save` wrote, memory-mapped."""
        return cls(*np.load(path, mmap_mode="r"))

    @classmethod
    def concatenate(cls, parts: Iterable["RowKeys"]) -> Self:
        """Return the hashes of several chunks, one after the other."""
        return cls(*map(np.concatenate, zip(*(part._columns for part in parts), strict=True)))

    def save(self, path: Path) -> None:
        """Write the hashes."""
        save_array(path, np.stack(self._columns))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row)

    def in_bucket(self, bucket: int, buckets: int) -> Self:
        """Return a copy of the rows whose source hash is in one of `buckets` equal ranges."""
        begin, end = (
            len(self) if edge == buckets else np.searchsorted(self.source, _bound(edge, buckets))
            for edge in (bucket, bucket + 1)
        )
        return type(self)(*(np.array(column[begin:end]) for column in self._columns))

    @property
    def _columns(self) -> tuple[Hashes, Hashes, Hashes, Hashes]:
        return self.source, self.target, self.pair, self.row

    def in_row_order(self) -> Self:
        """Return the rows in the order of the chunk."""
        order = np.argsort(self.row)
        return type(self)(*(column[order] for column in self._columns))


def _bound(edge: int, buckets: int) -> np.uint64:
    return np.uint64((edge << 64) // buckets)


@dataclass(frozen=True)
class HeldOutTargets:
    """Hashes of the targets of held-out rows, the only ones that every task knows; sorted."""

    valid: Hashes  # of rows that the preparation splits off for `valid`
    test: Hashes  # of rows that the preparation splits off for `test`
    all: Hashes  # of these, and of the rows of splits that the user provides

    @classmethod
    def collect(cls, job: Job) -> Self:
        """Return the hashes of all chunks."""
        split: dict[int, list[Hashes]] = {VALID: [], TEST: []}
        provided: list[Hashes] = []
        for number, chunk in enumerate(job.chunks):
            keys = load_keys(job, number)
            codes = splits_before_rules(job, number, keys)
            for code, hashes in split.items():
                (provided if chunk.split else hashes).append(np.unique(keys.target[codes == code]))
        empty = np.empty(0, np.uint64)
        valid, test = (np.unique(np.concatenate([empty, *hashes])) for hashes in split.values())
        return cls(valid, test, np.unique(np.concatenate([valid, test, *provided])))

    @classmethod
    def load(cls, job: Job) -> Self:
        """Return the hashes that `save` wrote."""
        arrays = np.load(job.folder / "held.npz")
        return cls(arrays["valid"], arrays["test"], arrays["all"])

    def save(self, job: Job) -> None:
        """Write the hashes to the run folder."""
        with new_file(job.folder / "held.npz") as file, file.open("wb") as opened:
            np.savez(opened, valid=self.valid, test=self.test, all=self.all)


def load_keys(job: Job, chunk: int) -> RowKeys:
    """Return the hashes of the usable rows of a chunk."""
    return RowKeys.load(job.file("clean", chunk, ".npy"))


# Usable rows of a corpus up to which a split that would be empty gets a source. In larger ones,
# only shares of nearly nothing leave a split empty.
_FEW_ROWS = 20_000


def grouped_bounds(job: Job) -> tuple[int, int]:
    """Return the hashes of source keys below which a row is in `test`, and below which in `valid`.

    They follow from the shares alone, so that rows that are added move no others. Only where that
    would leave a split of a small corpus without rows, they are raised to the next sources.
    """
    test_share, valid_share = job.held_out_shares
    test, valid = held_out_bounds(test_share, valid_share)
    if sum(job.usable_rows) > _FEW_ROWS:
        return test, valid
    rows = sorted(
        {
            (source, target)
            for number, chunk in enumerate(job.chunks)
            if not chunk.split
            for keys in [load_keys(job, number)]
            for source, target in zip(keys.source.tolist(), keys.target.tolist(), strict=True)
        }
    )
    held_out: set[int] = set()  # targets
    if test_share:
        if rows and rows[0][0] >= test:
            test = rows[0][0] + 1
        held_out = {target for source, target in rows if source < test}
    # A row of `valid` whose target is in `test` is left out, so it does not count.
    rest = (source for source, target in rows if source >= test and target not in held_out)
    if valid_share and (first := next(rest, None)) is not None:
        valid = max(valid, first + 1)
    return test, max(test, valid)


def draw_random_splits(job: Job) -> None:
    """Write the split of every usable row, drawn as the tutorial does.

    Rows of splits that the user provides are not counted.
    """
    rows = _splittable_rows(job, len(job.chunks))
    # At least one row for each split that is asked for.
    test, valid = (max(1, round(rows * share)) if share else 0 for share in job.held_out_shares)
    order = np.random.default_rng(job.config.corpus.seed).permutation(rows)
    codes = np.full(rows, TRAIN, np.int8)
    codes[order[:test]] = TEST
    codes[order[test : test + valid]] = VALID
    save_array(job.folder / "random.npy", codes)


def splits_before_rules(job: Job, chunk: int, keys: RowKeys) -> SplitCodes:
    """Return the split of each row, (rows,), before the rules that look at several rows."""
    if split := job.chunks[chunk].split:
        return np.full(len(keys), SPLITS.index(split), np.int8)
    if job.config.corpus.split == "random":
        drawn = np.load(job.folder / "random.npy", mmap_mode="r")
        codes: SplitCodes = drawn[_splittable_rows(job, chunk) + keys.row.astype(int)]
        return codes
    test, valid = job.bounds
    codes = np.full(len(keys), TRAIN, np.int8)
    codes[keys.source < np.uint64(valid)] = VALID
    codes[keys.source < np.uint64(test)] = TEST
    return codes


def _splittable_rows(job: Job, chunks: int) -> int:
    """Return the number of usable rows in the first chunks, without those of provided splits."""
    first = zip(job.usable_rows[:chunks], job.chunks[:chunks], strict=True)
    return sum(rows for rows, chunk in first if not chunk.split)
