"""From sources of sentence pairs to a corpus directory.

The work is cut into stages (`s2s.preparation.stages`), and each stage into items. An item leaves
its files in the run folder, the one that tells of it last. So a stage may run in this process or as
tasks on a cluster, an interrupted preparation goes on with what is done, and neither shows in the
result.

Every row read is accounted for: it is in a part of the corpus or counted under a rule.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import tokenizers

from s2s import __version__
from s2s.config import DataConfig
from s2s.corpus.directory import MANIFEST, PARTS, SIDES, Manifest, describe_part
from s2s.errors import BadInput
from s2s.files import new_file, sha256, write_text
from s2s.preparation.job import (
    BUCKET_ROWS,
    PIECE_ROWS,
    SHARD_BYTES,
    Execute,
    Job,
    Outcome,
    Piece,
    Silent,
    Tally,
    Watch,
)
from s2s.preparation.sources import Source, find
from s2s.preparation.stages import STAGES, hold_out
from s2s.runs import claim_folder

_ORIGINS = "origins.json"
_SILENT = Silent()


def in_process(function: Callable[[int], None], items: Sequence[int]) -> Iterator[int]:
    """Runs stages here, one item after the other."""
    for item in items:
        function(item)
        yield item


def prepare(
    source: Source,
    config: DataConfig,
    out: Path,
    watch: Watch = _SILENT,
    execute: Execute = in_process,
    *,
    vocabularies: Path | None = None,
    restart: bool = False,
    piece_rows: int = PIECE_ROWS,
) -> Manifest:
    """Read pairs and write the corpus directory `out`.

    What is done so far lives in `OUT.run`; a run found there is gone on with, if it is the same.

    Args:
        execute: how the stages are run; the result does not depend on it.
        vocabularies: model or corpus directory whose vocabularies are taken instead of learned; it
            must have been made with the text settings of `config`.
        restart: begin anew, and replace `out` if it is there.
        piece_rows: rows that a task holds at once; part of the result, as shards follow it.

    Raises:
        BadInput: a source is missing, unreadable or without a usable pair; `out` exists.
    """
    described = {
        "source": source.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "piece_rows": piece_rows,
        "versions": _versions(),
    }
    if vocabularies is not None:
        described["vocabularies"] = [sha256(vocabularies / f"{side}.json") for side in SIDES]
    if "::" in str(out.resolve()):
        raise BadInput(f"--out {out}: a path with :: is taken for a chain of file systems")
    folder = claim_folder(out, MANIFEST, described, restart)
    out = out.resolve()
    fresh = not (folder / _ORIGINS).exists()
    try:
        job, tally = _select(_start(source, config, folder, piece_rows, watch), execute, watch)
        manifest = _write(replace(job, vocabularies=vocabularies), tally, execute, watch)
    except BadInput:
        if fresh:  # the same input will fail again
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(out, ignore_errors=True)  # there only where `restart` was given
    job.corpus.replace(out)
    shutil.rmtree(folder, ignore_errors=True)
    return manifest


def dry_run(
    source: Source,
    config: DataConfig,
    watch: Watch = _SILENT,
    execute: Execute = in_process,
    near: Path | None = None,
) -> tuple[int, Tally, dict[str, int]]:
    """What `prepare` would leave out.

    Args:
        near: directory for files that are gone at the end; tasks on other nodes must see it.

    Returns:
        Rows read, rows left out with examples, and rows of each part.

    Raises:
        BadInput: as for `prepare`.
    """
    with tempfile.TemporaryDirectory(prefix=".s2s-dry-run-", dir=near) as folder:
        started = _start(source, config, Path(folder), PIECE_ROWS, watch)
        job, tally = _select(started, execute, watch)
        rows = _rows(job)
        return sum(piece.rows for piece in job.pieces), tally, rows


def _start(source: Source, config: DataConfig, folder: Path, piece_rows: int, watch: Watch) -> Job:
    origins = tuple(find(source, folder / "fetched"))
    known = folder / _ORIGINS
    stamps = json.dumps([origin.as_json() for origin in origins])
    if known.exists() and known.read_text(encoding="utf-8") != stamps:
        raise BadInput(f"{folder}: the sources have changed since that run; --restart begins anew")
    write_text(known, stamps)
    if any((folder / stage).is_dir() for stage in STAGES):
        watch.line(f"going on with what is done in {folder}")
    return Job(source, config, folder, origins, piece_rows)


def _select(job: Job, execute: Execute, watch: Watch) -> tuple[Job, Tally]:
    """The stages up to the parts of all rows."""
    label = ", ".join(dict.fromkeys(origin.label for origin in job.origins))
    run = partial(_run, execute=execute, watch=watch)
    outcomes = run(job, "read", range(len(job.origins)))
    read = Counter[str]()
    for origin, outcome in zip(job.origins, outcomes, strict=True):
        read[origin.label] += sum(outcome["rows"])
    for empty in (name for name, count in read.items() if not count):
        watch.line(f"no rows in {empty}")
    job = replace(job, pieces=tuple(_pieces(job, outcomes)))
    tally = Tally()
    cleaned = run(job, "clean", range(len(job.pieces)))
    for outcome in cleaned:
        tally.add(outcome)
    rows, usable = sum(p.rows for p in job.pieces), sum(outcome["rows"] for outcome in cleaned)
    if not usable:
        reasons = ", ".join(f"{n} {rule}" for rule, n in tally.drops.items()) or "it is empty"
        raise BadInput(
            f"{label}: no usable pair in {rows:,} rows ({reasons}); a row is: source, tab, target"
        )
    watch.line(f"read {rows:,} rows of {label}, {usable:,} of them usable")

    buckets = -(-usable // BUCKET_ROWS)
    job = replace(job, kept=tuple(outcome["rows"] for outcome in cleaned), buckets=buckets)
    _draw(job)
    hold_out(job)
    run(job, "group", range(buckets))
    for outcome in run(job, "select", range(len(job.pieces))):
        tally.add(outcome)
    for part, count in _rows(job).items():
        if not count:
            raise BadInput(
                f"{label}: {usable:,} usable pairs are too few: no pair left for {part!r}"
            )
    return job, tally


def _write(job: Job, tally: Tally, execute: Execute, watch: Watch) -> Manifest:
    """The stages from the parts of all rows to the corpus directory."""
    run = partial(_run, execute=execute, watch=watch)
    rows = _rows(job)
    for part in rows:
        (job.corpus / part).mkdir(parents=True, exist_ok=True)
    learned = run(job, "learn", range(1 if job.config.text.shared else 2))
    vocabulary = {side: n for outcome in learned for side, n in outcome["vocabulary"].items()}
    watch.line(
        ("learned " if job.vocabularies is None else "took ")
        + ", ".join(f"{vocabulary[side]:,} {side} {_units(job.config)}" for side in SIDES)
    )
    encoded = run(job, "encode", range(len(job.pieces)))
    job = replace(job, shards=tuple(_shards(encoded, rows)))
    joined = run(job, "join", range(len(job.shards)))
    for part in rows:
        describe_part(
            job.corpus / part, [Path(o["file"]).name for o in joined if o["part"] == part]
        )
    watch.line("wrote " + ", ".join(f"{n:,} {part} pairs" for part, n in rows.items()))

    grouped, selected = _outcomes(job, "group"), _outcomes(job, "select")
    manifest = Manifest(
        sources=tuple(
            dict.fromkeys(
                f"{origin.part}: {origin.label}" if origin.part else origin.label
                for origin in job.origins
            )
        ),
        read=sum(piece.rows for piece in job.pieces),
        drops={rule: n for rule, n in sorted(tally.drops.items()) if n},
        rows=rows,
        leak={
            part: {
                "shared_sources": sum(o["shared_sources"].get(part, 0) for o in grouped),
                "shared_targets": sum(o["shared_targets"].get(part, 0) for o in selected),
            }
            for part in rows
            if part != "train"
        },
        references={part: _summed(o["references"].get(part, {}) for o in grouped) for part in rows},
        vocabulary=vocabulary,
        known={
            part: {side: known for o in learned for side, known in o["known"][part].items()}
            for part in rows
        },
        lengths={
            part: {
                side: _summed(o["lengths"][part][side] for o in encoded if part in o["lengths"])
                for side in SIDES
            }
            for part in rows
        },
        sha256={o["file"]: o["sha256"] for o in joined}
        | {f"{side}.json": sha256(job.corpus / f"{side}.json") for side in SIDES},
        versions=_versions(),
        config=DataConfig(**{key: getattr(job.config, key) for key in DataConfig.model_fields}),
    )
    write_text(job.corpus / MANIFEST, manifest.to_json())
    return manifest


def _run(
    job: Job, stage: str, items: Sequence[int], *, execute: Execute, watch: Watch
) -> list[Outcome]:
    """Run a stage for the items that are not done yet, and return what all of them tell."""
    (job.folder / stage).mkdir(exist_ok=True)
    todo = [item for item in items if not job.at(stage, item, ".json").exists()]
    done = len(items) - len(todo)
    watch.stage(stage, done, len(items))
    for _ in execute(partial(_do, job, stage), todo):
        watch.stage(stage, done := done + 1, len(items))
    return [json.loads(job.at(stage, item, ".json").read_bytes()) for item in items]


def _do(job: Job, stage: str, item: int) -> None:
    """One item of a stage, its outcome written last."""
    write_text(job.at(stage, item, ".json"), json.dumps(STAGES[stage](job, item)))


def _outcomes(job: Job, stage: str) -> list[Outcome]:
    return [json.loads(file.read_bytes()) for file in sorted((job.folder / stage).glob("*.json"))]


def _pieces(job: Job, outcomes: list[Outcome]) -> Iterator[Piece]:
    """The pieces of all origins, up to the rows asked for."""
    left = job.config.corpus.rows
    for number, (origin, outcome) in enumerate(zip(job.origins, outcomes, strict=True)):
        for piece, rows in enumerate(outcome["rows"]):
            used = rows if origin.part or left is None else min(rows, left)
            if left is not None and not origin.part:
                left -= used
            if used:
                yield Piece(f"{number:06}-{piece:06}.arrow", used, origin.part)


def _draw(job: Job) -> None:
    """For a random split, the part of every row that is to be split: the tutorial's shuffling."""
    if job.config.corpus.split != "random":
        return
    rows = sum(n for n, piece in zip(job.kept, job.pieces, strict=True) if not piece.part)
    test, valid = (round(rows * share) for share in job.shares)
    order = np.random.default_rng(job.config.corpus.seed).permutation(rows)
    part = np.zeros(rows, np.int8)
    part[order[:test]] = PARTS.index("test")
    part[order[test : test + valid]] = PARTS.index("valid")
    with new_file(job.folder / "random.npy") as file, file.open("wb") as opened:
        np.save(opened, part)


def _rows(job: Job) -> dict[str, int]:
    """Rows of each part that the corpus is to have."""
    rows = Counter[str]()
    for outcome in _outcomes(job, "select"):
        rows.update(outcome["rows"])
    test = job.shares[0] or any(piece.part == "test" for piece in job.pieces)
    return {part: rows[part] for part in PARTS if part != "test" or test}


def _shards(encoded: list[Outcome], rows: dict[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Consecutive pieces that make a shard together."""
    for part in rows:
        pieces: list[int] = []
        size = 0
        for number, outcome in enumerate(encoded):
            mine = outcome["bytes"].get(part, 0)
            if pieces and size + mine > SHARD_BYTES:
                yield part, tuple(pieces)
                pieces, size = [], 0
            if mine:
                pieces.append(number)
                size += mine
        yield part, tuple(pieces)


def _summed(histograms: Iterable[dict[str, int]]) -> dict[int, int]:
    """Histograms added up; JSON made their numbers strings."""
    total = Counter[int]()
    for histogram in histograms:
        total.update({int(value): n for value, n in histogram.items()})
    return dict(sorted(total.items()))


def _units(config: DataConfig) -> str:
    return "words" if config.text.units == "word" else "parts of words"


def _versions() -> dict[str, str]:
    return {
        "s2s": __version__,
        "datasets": datasets.__version__,
        "tokenizers": tokenizers.__version__,
    }
