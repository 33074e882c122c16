"""The stages of a preparation: each a function of the job and one item.

    read → clean → group → select → learn → encode → join

An item is a source, a piece of rows, a range of hashes, a side or a shard. A stage leaves files in
the job's folder and returns what it found out. Nothing but counts and hashes of held-out rows
crosses pieces, so memory stays flat however large the corpus.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2s.corpus.directory import COLUMNS, PARTS, SIDES
from s2s.files import new_file, sha256
from s2s.preparation.clean import Cleaner
from s2s.preparation.job import EXAMPLES, Job, Outcome
from s2s.preparation.readers import read
from s2s.preparation.sentence_keys import bounds, hashes
from s2s.preparation.tables import (
    cut,
    first_rows,
    histogram,
    left_out,
    load,
    save,
    words_column,
    words_of,
)
from s2s.text.normalise import Splitter
from s2s.text.ragged import Ragged
from s2s.text.vocabulary import EOS, SPECIALS, UNK, Vocabulary

_TRAIN, _VALID, _TEST = range(len(PARTS))
_NOWHERE = -1  # the part of a row that is left out
_SOURCE, _TARGET, _PAIR, _ROW = range(4)  # what `clean` keeps of its rows, each in an array
_DROPPED = np.dtype([("piece", "u4"), ("row", "u4"), ("rule", "u1")])
_LATE_RULES = ("duplicate", "target_leak")


def _read(job: Job, number: int) -> Outcome:
    """The rows of an origin as pieces."""
    origin = job.origins[number]
    limit = job.config.corpus.rows if not origin.part else None
    rows: list[int] = []
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=job.folder) as unpacked:
        tables = read(origin, job.source, Path(unpacked))
        for piece in cut(first_rows(tables, limit), job.piece_rows):
            with new_file(job.folder / "read" / f"{number:06}-{len(rows):06}.arrow") as file:
                save(file, piece)
            rows.append(piece.num_rows)
    return {"rows": rows}


def _clean(job: Job, number: int) -> Outcome:
    """The usable rows of a piece, split into words, and their hashes in the order of the first."""
    piece, text = job.pieces[number], job.config.text
    clean = Cleaner(job.config.corpus.clean, job.source.languages)
    rows = load(job.folder / "read" / piece.file).slice(0, piece.rows)
    table = clean(rows, given=bool(piece.part))
    words = {side: _splitter(text).split(table[side].combine_chunks()) for side in SIDES}
    wordless = np.zeros(table.num_rows, bool)
    for side in SIDES:
        wordless |= words[side].numbers.lengths == 0
    drop = table["drop"].to_numpy().astype(object)
    drop[(drop == "") & wordless] = "no_words"
    kept = np.flatnonzero(drop == "")
    columns = {side: table[side].take(kept) for side in SIDES}
    columns |= {f"{side}_words": words_column(words[side], kept) for side in SIDES}
    with new_file(job.at("clean", number, ".arrow")) as file:
        save(file, pa.table(columns))
    seed = job.config.corpus.seed
    pairs = pc.binary_join_element_wise(*(columns[side].combine_chunks() for side in SIDES), "\t")
    keys = np.empty((4, len(kept)), np.uint64)
    keys[_SOURCE] = hashes(table["source_key"].take(kept).combine_chunks(), seed)
    keys[_TARGET] = hashes(table["target_key"].take(kept).combine_chunks(), seed)
    keys[_PAIR] = hashes(pairs, seed)
    keys[_ROW] = np.arange(len(kept))
    with new_file(job.at("clean", number, ".npy")) as file, file.open("wb") as opened:
        np.save(opened, keys[:, np.argsort(keys[_SOURCE], kind="stable")])
    return {"rows": len(kept), **left_out(table, drop)}


def _group(job: Job, bucket: int) -> Outcome:
    """All rows of a range of source keys: which of them are left out, and what the others share."""
    low, high = ((edge << 64) // job.buckets for edge in (bucket, bucket + 1))
    found, places, parts = [], [], []
    for number in range(len(job.pieces)):
        keys = np.load(job.at("clean", number, ".npy"), mmap_mode="r")
        begin = int(np.searchsorted(keys[_SOURCE], np.uint64(low)))
        end = keys.shape[1]
        if high < 1 << 64:
            end = int(np.searchsorted(keys[_SOURCE], np.uint64(high)))
        found.append(np.array(keys[:, begin:end]))
        places.append(np.full(end - begin, number, np.uint32))
        parts.append(parts_of(job, number, found[-1]))
    source, target, pair, row = np.concatenate(found, axis=1)
    place, part = np.concatenate(places), np.concatenate(parts)
    given = np.array([bool(piece.part) for piece in job.pieces])[place]

    rule = np.zeros(len(row), np.uint8)  # 0, or the number of a late rule from 1
    if job.config.corpus.clean.duplicate:
        order = np.lexsort((row, place, pair, source))
        order = order[~given[order]]
        once, again = order[:-1], order[1:]
        rule[again[(pair[once] == pair[again]) & (source[once] == source[again])]] = 1
    held = np.load(job.folder / "held.npz")
    if job.config.corpus.split == "grouped":
        leaks = (part == _TRAIN) & np.isin(target, held["split_valid"])
        leaks |= (part != _TEST) & np.isin(target, held["split_test"])
        rule[leaks & ~given & (rule == 0)] = 2

    out = rule > 0
    dropped = np.empty(int(out.sum()), _DROPPED)
    dropped["piece"], dropped["row"], dropped["rule"] = place[out], row[out], rule[out]
    with new_file(job.at("group", bucket, ".npy")) as file, file.open("wb") as opened:
        np.save(opened, np.sort(dropped, order=["piece", "row"]))
    by_part = {name: source[~out & (part == code)] for code, name in enumerate(PARTS)}
    common = np.intersect1d(target[~out & (part == _TRAIN)], held["all"])
    with new_file(job.at("group", bucket, ".shared.npy")) as file, file.open("wb") as opened:
        np.save(opened, common)
    return {
        "references": {
            name: histogram(np.unique(mine, return_counts=True)[1])
            for name, mine in by_part.items()
        },
        "shared_sources": {
            name: int(np.isin(mine, by_part["train"]).sum())
            for name, mine in by_part.items()
            if name != "train"
        },
    }


def _select_rows(job: Job, number: int) -> Outcome:
    """The part of each row of a piece, and how often each word occurs in each part."""
    keys = np.load(job.at("clean", number, ".npy"))
    order = np.argsort(keys[_ROW])
    part, target = parts_of(job, number, keys)[order], keys[_TARGET][order]
    drop = np.full(len(part), "", object)
    for bucket in range(job.buckets):
        dropped = np.load(job.at("group", bucket, ".npy"), mmap_mode="r")
        mine = slice(*np.searchsorted(dropped["piece"], [number, number + 1]))
        drop[dropped["row"][mine]] = np.array(["", *_LATE_RULES], object)[dropped["rule"][mine]]
    part[drop != ""] = _NOWHERE
    with new_file(job.at("select", number, ".npy")) as file, file.open("wb") as opened:
        np.save(opened, part)

    table = load(job.at("clean", number, ".arrow"))
    for side in SIDES:
        words = words_of(table[f"{side}_words"])
        counts: dict[str, Any] = {"word": pa.array(words.distinct, pa.string())}
        for code, name in enumerate(PARTS):
            taken = words.numbers.take(np.flatnonzero(part == code))
            counts[name] = np.bincount(taken.values, minlength=len(words.distinct))
        with new_file(job.at("select", number, f".{side}.arrow")) as file:
            save(file, pa.table(counts))
    shared = np.concatenate(
        [np.load(job.at("group", b, ".shared.npy")) for b in range(job.buckets)]
    )
    told = pa.table({side: table[side] for side in SIDES})
    return {
        "rows": {name: int((part == code).sum()) for code, name in enumerate(PARTS)},
        "shared_targets": {
            name: int(np.isin(target[part == code], shared).sum())
            for code, name in enumerate(PARTS)
            if name != "train"
        },
        **left_out(told, drop),
    }


def _learn(job: Job, number: int) -> Outcome:
    """The vocabulary of a side, or of both, and how much of each part it knows."""
    sides = SIDES if job.config.text.shared else (SIDES[number],)
    counts = {name: _word_counts(job, name) for name in sides}
    total: Counter[str] = Counter()
    for table in counts.values():
        learned = PARTS if job.config.corpus.vocabulary_from == "all" else ("train",)
        times = sum(table[part].to_numpy() for part in learned)
        seen = np.flatnonzero(times)
        words = table["word"].take(seen).to_pylist()
        total.update(dict(zip(words, times[seen].tolist(), strict=True)))
    if job.vocabularies is not None:
        vocabulary = Vocabulary.load(job.vocabularies / f"{sides[0]}.json")
    else:
        vocabulary = Vocabulary.of(total, job.config.text)
    for name in sides:
        with new_file(job.corpus / f"{name}.json") as file:
            vocabulary.save(file)
    return {
        "vocabulary": dict.fromkeys(sides, len(vocabulary) - len(SPECIALS)),
        "known": {
            part: {name: _known(vocabulary, counts[name], part) for name in sides} for part in PARTS
        },
    }


def _encode(job: Job, number: int) -> Outcome:
    """The rows of a piece as they will stand in the shards, part by part."""
    table = load(job.at("clean", number, ".arrow"))
    part = np.load(job.at("select", number, ".npy"))
    ids = {}
    for side in SIDES:
        words = words_of(table[f"{side}_words"])
        parts_of_words = Ragged.of(_vocabulary(job.corpus / f"{side}.json").ids(words.distinct))
        ids[side] = words.numbers.joined(parts_of_words)
    ids["target"] = ids["target"].closed(EOS)
    outcome: Outcome = {"bytes": {}, "lengths": {}}
    for code, name in enumerate(PARTS):
        rows = np.flatnonzero(part == code)
        if not len(rows):
            continue
        mine = {side: ids[side].take(rows) for side in SIDES}
        columns = {side: table[side].take(rows).combine_chunks() for side in SIDES}
        columns |= {f"{side}_ids": mine[side].to_arrow() for side in SIDES}
        with new_file(job.at("encode", number, f".{name}.arrow")) as file:
            save(file, pa.table(columns).cast(COLUMNS.arrow_schema))
            outcome["bytes"][name] = file.stat().st_size
        outcome["lengths"][name] = {side: histogram(mine[side].lengths) for side in SIDES}
    return outcome


def _join(job: Job, number: int) -> Outcome:
    """A shard, of consecutive pieces."""
    part, pieces = job.shards[number]
    of_part = [shard for shard in job.shards if shard[0] == part]
    name = f"data-{of_part.index(job.shards[number]):05}-of-{len(of_part):05}.arrow"
    target = job.corpus / part / name
    with (
        new_file(target) as file,
        pa.OSFile(str(file), "wb") as sink,
        pa.ipc.new_stream(sink, COLUMNS.arrow_schema) as writer,
    ):
        for piece in pieces:
            for batch in load(job.at("encode", piece, f".{part}.arrow")).to_batches():
                writer.write_batch(batch)
    return {"part": part, "file": f"{part}/{name}", "sha256": sha256(target)}


STAGES: dict[str, Callable[[Job, int], Outcome]] = {
    "read": _read,
    "clean": _clean,
    "group": _group,
    "select": _select_rows,
    "learn": _learn,
    "encode": _encode,
    "join": _join,
}


def hold_out(job: Job) -> None:
    """The target hashes of held-out rows: of those that are split off by part, and of all."""
    split: dict[str, list[Any]] = {"valid": [], "test": []}
    given: list[Any] = []
    for number, piece in enumerate(job.pieces):
        keys = np.load(job.at("clean", number, ".npy"))
        parts = parts_of(job, number, keys)
        for name in split:
            mine = np.unique(keys[_TARGET][parts == PARTS.index(name)])
            (given if piece.part else split[name]).append(mine)
    empty = np.empty(0, np.uint64)
    valid, test = (np.unique(np.concatenate([empty, *split[name]])) for name in split)
    every = np.unique(np.concatenate([valid, test, *given]))
    with new_file(job.folder / "held.npz") as file, file.open("wb") as opened:
        np.savez(opened, split_valid=valid, split_test=test, all=every)


def parts_of(job: Job, number: int, keys: Any) -> Any:
    """The part of each row of a piece, before rules that look at several rows, by their keys."""
    piece = job.pieces[number]
    if piece.part:
        return np.full(keys.shape[1], PARTS.index(piece.part), np.int8)
    if job.config.corpus.split == "random":
        before = sum(
            n
            for n, other in zip(job.kept[:number], job.pieces[:number], strict=True)
            if not other.part
        )
        return np.load(job.folder / "random.npy", mmap_mode="r")[before + keys[_ROW].astype(int)]
    test, valid = bounds(*job.shares)
    part = np.zeros(keys.shape[1], np.int8)
    part[keys[_SOURCE] < np.uint64(valid)] = _VALID
    part[keys[_SOURCE] < np.uint64(test)] = _TEST
    return part


def _word_counts(job: Job, side: str) -> pa.Table:
    """How often each word of a side occurs in each part."""
    merged = None
    for first in range(0, len(job.pieces), 16):
        numbers = range(first, min(first + 16, len(job.pieces)))
        tables = [load(job.at("select", number, f".{side}.arrow")) for number in numbers]
        grouped = pa.concat_tables([*([merged] if merged else []), *tables]).group_by("word")
        summed = grouped.aggregate([(part, "sum") for part in PARTS])
        merged = summed.select(["word", *(f"{p}_sum" for p in PARTS)]).rename_columns(
            ["word", *PARTS]
        )
    return merged


def _known(vocabulary: Vocabulary, counts: pa.Table, part: str) -> Outcome:
    """What `s2s.corpus.directory.Known` tells of a part."""
    times = counts[part].to_numpy()
    seen = np.flatnonzero(times)
    words, times = counts["word"].take(seen).to_pylist(), times[seen]
    ids = Ragged.of(vocabulary.ids(words))
    unknown = np.zeros(len(words), bool)
    unknown[np.repeat(np.arange(len(ids)), ids.lengths)[ids.values == UNK]] = True
    frequent = sorted(
        ((-int(times[at]), words[at]) for at in np.flatnonzero(unknown)),
    )[: 2 * EXAMPLES]
    total = int(times.sum())
    return {
        "tokens": int((times * ids.lengths).sum()),
        "words": total,
        "distinct": len(words),
        "coverage": 1 - float(unknown.mean()) if len(words) else 1.0,
        "unknown_rate": float(times[unknown].sum()) / total if total else 0.0,
        "frequent_unknown": {word: -n for n, word in frequent},
    }


@lru_cache(maxsize=2)
def _splitter(config: Any) -> Splitter:
    return Splitter(config)


def _vocabulary(path: Path) -> Vocabulary:
    """A vocabulary, kept by the process for the next piece; a file written anew is another one."""
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _loaded(path: Path, written: int) -> Vocabulary:  # noqa: ARG001
    return Vocabulary.load(path)
