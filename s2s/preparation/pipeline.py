"""Preparation of a corpus directory from sources of sentence pairs.

The work is divided into stages (`s2s.preparation.stages`), and each stage into items. An item
leaves its files in the run folder, the outcome last. So a stage may run in this process or as tasks
on a cluster, an interrupted preparation resumes with what is done, and neither affects the result.

Every row read is accounted for: it is in a split of the corpus or counted under a rule.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import datasets
import tokenizers

from s2s import __version__
from s2s.config import DataConfig
from s2s.corpus.directory import (
    MANIFEST,
    NOISES,
    SIDES,
    SPLITS,
    CorpusWarning,
    Leak,
    LostLetters,
    Manifest,
    Noise,
    write_split_metadata,
)
from s2s.corpus.warnings import corpus_warnings, drops_in_words
from s2s.errors import BadInput
from s2s.files import sha256, write_text
from s2s.preparation.discovery import describe_origins, find_origins
from s2s.preparation.execution import Executor, Progress, SilentProgress, in_process
from s2s.preparation.job import BUCKET_ROWS, CHUNK_ROWS, SHARD_BYTES, Chunk, Job, Shard
from s2s.preparation.outcomes import (
    CleanOutcome,
    EncodeOutcome,
    GroupOutcome,
    LearnOutcome,
    LeftOut,
    ReadOutcome,
    SelectOutcome,
)
from s2s.preparation.row_keys import HeldOutTargets, draw_random_splits, grouped_bounds
from s2s.preparation.source_notes import SourceNotes, note_sources
from s2s.preparation.sources import Source
from s2s.preparation.spelling import LOSSY, check_spelling, spelling_warnings
from s2s.preparation.stages import (
    CLEAN,
    ENCODE,
    GROUP,
    JOIN,
    LEARN,
    READ,
    SELECT,
    STAGES,
    OutcomeT,
    Stage,
)
from s2s.preparation.tables import sum_histograms
from s2s.runs import claim_folder
from s2s.text.languages import canonical_code
from s2s.text.normalise import Side

# Version of the files in a run folder; a run of another one is refused.
_RUN_LAYOUT = 4
_SILENT = SilentProgress()


@dataclass(frozen=True)
class DryRun:
    """What a preparation would do."""

    rows_read: int
    left_out: LeftOut
    split_rows: dict[str, int]
    """Rows of each split."""

    warnings: tuple[CorpusWarning, ...] = ()
    """What is odd about the sources."""

    refusal: str | None = None
    """Why `prepare` would refuse, or None."""


def prepare(
    source: Source,
    config: DataConfig,
    out: Path,
    progress: Progress = _SILENT,
    execute: Executor = in_process,
    *,
    vocabularies: Path | None = None,
    restart: bool = False,
    chunk_rows: int = CHUNK_ROWS,
) -> Manifest:
    """Read sentence pairs and write the corpus directory `out`.

    What is done so far is kept in `OUT.run`; a run that is there already is resumed if it has the
    same sources and settings.

    Args:
        execute: runs the items of a stage; the result does not depend on it.
        vocabularies: model or corpus directory whose vocabularies are used instead of learned ones;
            it must have been made with the text settings of `config`.
        restart: start over, and replace `out` if it exists.
        chunk_rows: rows that a task holds at once; the result depends on it, as shards are made of
            whole chunks.

    Raises:
        BadInput: a source is missing, unreadable or without a usable pair; `out` exists.
    """
    source, config = _with_canonical_codes(source, config)
    run: dict[str, object] = {
        "layout": _RUN_LAYOUT,
        "source": source.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "chunk_rows": chunk_rows,
        "versions": _versions(),
    }
    if vocabularies is not None:
        run["vocabularies"] = [sha256(vocabularies / f"{side}.json") for side in SIDES]
    if "::" in str(out.resolve()):
        raise BadInput(f"--out {out}: the path must not contain ::, which chains file systems")
    folder = claim_folder(out, MANIFEST, run, restart)
    out = out.resolve()
    is_new = not _origins_file(folder).exists()
    runner = _Runner(execute, progress)
    try:
        job = _open_job(source, config, folder, chunk_rows, progress)
        selection = _select_rows(job, runner)
        selection.require_rows()
        manifest = _write_corpus(selection, vocabularies, runner)
    except BadInput:
        if is_new:  # the same input would fail again
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(out, ignore_errors=True)  # which exists only if `restart` is given
    selection.job.corpus_folder.replace(out)
    shutil.rmtree(folder, ignore_errors=True)
    return manifest


def dry_run(
    source: Source,
    config: DataConfig,
    progress: Progress = _SILENT,
    execute: Executor = in_process,
    scratch: Path | None = None,
) -> DryRun:
    """Return what `prepare` would read, leave out and keep, and whether it would refuse.

    Args:
        scratch: directory for temporary files, which tasks on other nodes must see.

    Raises:
        BadInput: a source is missing or unreadable.
    """
    source, config = _with_canonical_codes(source, config)
    with tempfile.TemporaryDirectory(prefix=".s2s-dry-run-", dir=scratch) as folder:
        job = _open_job(source, config, Path(folder), CHUNK_ROWS, progress)
        selection = _select_rows(job, _Runner(execute, progress), refuse_early=False)
        return DryRun(
            selection.rows_read,
            selection.left_out,
            selection.split_rows,
            selection.notes.warnings,
            selection.refusal,
        )


def _with_canonical_codes(source: Source, config: DataConfig) -> tuple[Source, DataConfig]:
    """Return both with the codes of the languages in the form that a corpus keeps."""

    def codes(of: Source | DataConfig) -> dict[str, str]:
        names = ("source_language", "target_language")
        return {name: canonical_code(getattr(of, name)) for name in names}

    return (
        source.model_copy(update=codes(source)),
        config.model_copy(update=codes(config)),
    )


@dataclass(frozen=True)
class _Runner:
    """Runs stages and shows their progress."""

    execute: Executor
    progress: Progress

    def run(self, job: Job, stage: Stage[OutcomeT], items: int) -> list[OutcomeT]:
        """Run a stage for the items that are not done yet, and return the outcomes of all."""
        (job.folder / stage.name).mkdir(exist_ok=True)
        todo = [item for item in range(items) if not stage.is_done(job, item)]
        done = items - len(todo)
        self.progress.show_stage(stage.name, done, items)
        for _ in self.execute(partial(stage.run_item, job), todo):
            self.progress.show_stage(stage.name, done := done + 1, items)
        return [stage.load_outcome(job, item) for item in range(items)]


# ---- from sources to the splits of all rows -----------------------------------------------------


@dataclass(frozen=True)
class _Selection:
    """The splits of all rows, which are in the job's folder."""

    job: Job
    left_out: LeftOut
    cleaned: list[CleanOutcome]
    lost_letters: dict[Side, LostLetters]
    grouped: list[GroupOutcome]
    selected: list[SelectOutcome]
    notes: SourceNotes

    @property
    def rows_read(self) -> int:
        return sum(chunk.rows for chunk in self.job.chunks)

    @property
    def left_out_of_provided(self) -> dict[str, tuple[int, ...]]:
        """Numbers, from 1, of the rows left out of each split that the user provides."""
        numbers: dict[str, list[int]] = {}
        read = Counter[str]()
        for chunk, outcome in zip(self.job.chunks, self.cleaned, strict=True):
            if chunk.split:
                own = (read[chunk.split] + place + 1 for place in outcome.unusable)
                numbers.setdefault(chunk.split, []).extend(own)
                read[chunk.split] += chunk.rows
        return {split: tuple(rows) for split, rows in numbers.items()}

    @property
    def split_rows(self) -> dict[str, int]:
        """Rows of each split that the corpus is to have."""
        has_test = self.job.held_out_shares[0] or any(c.split == "test" for c in self.job.chunks)
        return {
            split: sum(outcome.split_rows[split] for outcome in self.selected)
            for split in SPLITS
            if split != "test" or has_test
        }

    @property
    def refusal(self) -> str | None:
        """Why no corpus can be made of these rows, or None."""
        label, usable = self.job.label, sum(self.job.usable_rows)
        if self.notes.refusal:
            return self.notes.refusal
        if not usable:
            reasons = drops_in_words(self.left_out.drops) or "it is empty"
            return f"{label}: no usable pair in {self.rows_read:,} rows ({reasons})"
        empty = [split for split, rows in self.split_rows.items() if not rows]
        if not empty:
            return None
        why = f" ({drops_in_words(self.left_out.drops)})" if self.left_out.drops else ""
        missing = " and ".join(map(repr, empty))
        return (
            f"{label}: {usable:,} usable {'pair is' if usable == 1 else 'pairs are'} too few{why}: "
            f"no pair left for {missing}; a corpus needs different sentences for each split "
            "(--corpus.valid 0.1 --corpus.test 0.1 hold out more, --corpus.test 0 makes no test "
            "split)"
        )

    def require_rows(self) -> None:
        """Refuse rows of which no corpus can be made.

        Raises:
            BadInput: no corpus can be made.
        """
        if (reason := self.refusal) is not None:
            raise BadInput(reason)


def _open_job(
    source: Source, config: DataConfig, folder: Path, chunk_rows: int, progress: Progress
) -> Job:
    """Find the origins, and check that a run to be resumed had the same."""
    origins = tuple(find_origins(source, folder / "fetched"))
    file, content = _origins_file(folder), json.dumps([asdict(origin) for origin in origins])
    if file.exists() and file.read_text(encoding="utf-8") != content:
        raise BadInput(
            f"{folder}: the sources have changed since that run; use --restart to start over"
        )
    write_text(file, content)
    if any((folder / stage.name).is_dir() for stage in STAGES):
        progress.log(f"resuming the run in {folder}")
    return Job(source, config, folder, origins, chunk_rows)


def _select_rows(job: Job, runner: _Runner, refuse_early: bool = True) -> _Selection:
    """Run the stages that read and clean the rows, and assign them to splits.

    Args:
        refuse_early: raise what is wrong with the sources before the rows are cleaned.

    Raises:
        BadInput: a source cannot be read to its end, or its sides are not what they are called.
    """
    read = runner.run(job, READ, len(job.origins))
    for empty in _origins_without_rows(job, read):
        runner.progress.log(f"no rows in {empty}")
    job = replace(job, chunks=tuple(_chunks(job, read)))
    notes = note_sources(job, read)
    if refuse_early and notes.refusal:
        raise BadInput(notes.refusal)
    cleaned = runner.run(job, CLEAN, len(job.chunks))
    lost_letters = {
        side: LostLetters.merge(outcome.lost_letters[side] for outcome in cleaned)
        for side in SIDES
        if job.config.text.normaliser_of(side) in LOSSY
    }
    if refuse_early:
        check_spelling(lost_letters, job.config)
    usable = sum(outcome.usable_rows for outcome in cleaned)
    rows = sum(chunk.rows for chunk in job.chunks)
    recognised = describe_origins(job.origins)
    runner.progress.log(f"read {rows:,} rows of {recognised}, {usable:,} of them usable")
    warnings = (*notes.warnings, *spelling_warnings(lost_letters, job.config))
    notes = replace(notes, warnings=warnings)

    job = replace(job, usable_rows=tuple(outcome.usable_rows for outcome in cleaned))
    if not usable:
        left_out = LeftOut.merge(outcome.left_out for outcome in cleaned)
        return _Selection(job, left_out, cleaned, lost_letters, [], [], notes)
    job = replace(job, buckets=-(-usable // BUCKET_ROWS))
    if job.config.corpus.split == "random":
        draw_random_splits(job)
    else:
        job = replace(job, bounds=grouped_bounds(job))
    HeldOutTargets.collect(job).save(job)
    grouped = runner.run(job, GROUP, job.buckets)
    selected = runner.run(job, SELECT, len(job.chunks))
    left_out = LeftOut.merge(
        [*(each.left_out for each in cleaned), *(each.left_out for each in selected)]
    )
    return _Selection(job, left_out, cleaned, lost_letters, grouped, selected, notes)


def _origins_without_rows(job: Job, read: list[ReadOutcome]) -> list[str]:
    rows = Counter[str]()
    for origin, outcome in zip(job.origins, read, strict=True):
        rows[origin.label] += sum(outcome.chunk_rows)
    return [label for label, count in rows.items() if not count]


def _chunks(job: Job, read: list[ReadOutcome]) -> Iterator[Chunk]:
    """Yield the chunks of all origins, up to the number of rows that the config asks for."""
    left = job.config.corpus.rows
    for number, (origin, outcome) in enumerate(zip(job.origins, read, strict=True)):
        for index, rows in enumerate(outcome.chunk_rows):
            used = rows if origin.split or left is None else min(rows, left)
            if left is not None and not origin.split:
                left -= used
            if used:
                yield Chunk(f"{number:06}-{index:06}.arrow", used, origin.split, number)


# ---- from the splits of all rows to the corpus directory ----------------------------------------


def _write_corpus(selection: _Selection, vocabularies: Path | None, runner: _Runner) -> Manifest:
    """Run the stages that learn vocabularies and write the corpus directory."""
    job = replace(selection.job, vocabularies=vocabularies)
    split_rows = selection.split_rows
    for split in split_rows:
        (job.corpus_folder / split).mkdir(parents=True, exist_ok=True)
    learned = runner.run(job, LEARN, 1 if job.config.text.shared else 2)
    vocabulary = {side: size for each in learned for side, size in each.vocabulary.items()}
    runner.progress.log(
        ("learned " if vocabularies is None else "reused ")
        + ", ".join(f"{vocabulary[side]:,} {side} {_units(job.config)}" for side in SIDES)
    )
    encoded = runner.run(job, ENCODE, len(job.chunks))
    job = replace(
        job, shards=tuple(shard for split in split_rows for shard in _shards(split, encoded))
    )
    joined = runner.run(job, JOIN, len(job.shards))
    for split in split_rows:
        names = [shard.name for shard in job.shards if shard.split == split]
        write_split_metadata(job.corpus_folder / split, names)
    runner.progress.log(
        "wrote " + ", ".join(f"{rows:,} {split} pairs" for split, rows in split_rows.items())
    )
    noise = _noise(job.config, encoded)
    if noise:
        runner.progress.log(
            "of the train pairs, "
            + ", ".join(f"{rows:,} {_OF_NOISE[kind]}" for kind, rows in noise.items())
        )
    hashes = {shard.path: outcome.sha256 for shard, outcome in zip(job.shards, joined, strict=True)}
    hashes |= {f"{side}.json": sha256(job.corpus_folder / f"{side}.json") for side in SIDES}
    manifest = _manifest(selection, vocabulary, learned, encoded, hashes)
    warnings = (*selection.notes.warnings, *corpus_warnings(manifest))
    manifest = manifest.model_copy(update={"warnings": warnings})
    write_text(job.corpus_folder / MANIFEST, manifest.to_json())
    return manifest


def _shards(split: str, encoded: list[EncodeOutcome]) -> list[Shard]:
    """Return the shards of a split: consecutive chunks of `SHARD_BYTES` at most."""
    groups: list[list[int]] = [[]]
    size = 0
    for number, outcome in enumerate(encoded):
        chunk_bytes = outcome.file_bytes.get(split, 0)
        if groups[-1] and size + chunk_bytes > SHARD_BYTES:
            groups.append([])
            size = 0
        if chunk_bytes:
            groups[-1].append(number)
            size += chunk_bytes
    return [Shard(split, index, len(groups), tuple(chunks)) for index, chunks in enumerate(groups)]


def _manifest(
    selection: _Selection,
    vocabulary: dict[str, int],
    learned: list[LearnOutcome],
    encoded: list[EncodeOutcome],
    hashes: dict[str, str],
) -> Manifest:
    config, split_rows = selection.job.config, selection.split_rows
    return Manifest(
        sources=tuple(
            dict.fromkeys(
                f"{origin.split}: {origin.label}" if origin.split else origin.label
                for origin in selection.job.origins
            )
        ),
        read=selection.rows_read,
        drops={rule: count for rule, count in sorted(selection.left_out.drops.items()) if count},
        left_out=selection.left_out_of_provided,
        rows=split_rows,
        several_sentences={
            split: sum(each.several_sentences.get(split, 0) for each in encoded)
            for split in split_rows
        },
        noise=_noise(config, encoded),
        leak={
            split: Leak(
                shared_sources=sum(each.shared_sources[split] for each in selection.grouped),
                shared_targets=sum(each.shared_targets[split] for each in selection.selected),
            )
            for split in split_rows
            if split != "train"
        },
        references={
            split: sum_histograms(each.references[split] for each in selection.grouped)
            for split in split_rows
        },
        vocabulary=vocabulary,
        known={
            split: {
                side: coverage
                for each in learned
                for side, coverage in each.coverage[split].items()
            }
            for split in split_rows
        },
        lost_letters=selection.lost_letters,
        lengths={
            split: {
                side: sum_histograms(
                    each.lengths[split][side] for each in encoded if split in each.lengths
                )
                for side in SIDES
            }
            for split in split_rows
        },
        sha256=hashes,
        versions=_versions(),
        # Of a whole `Config`, the data half alone.
        config=DataConfig(**{name: getattr(config, name) for name in DataConfig.model_fields}),
    )


_OF_NOISE: dict[Noise, str] = {
    "typos": "have a typo in the source",
    "unknown_words": "share a word that is read as unknown",
}


def _noise(config: DataConfig, encoded: list[EncodeOutcome]) -> dict[Noise, int]:
    """Return how many rows of `train` each kind of noise changed that the settings ask for."""
    return {
        kind: sum(each.noise.get(kind, 0) for each in encoded)
        for kind in NOISES
        if getattr(config.corpus, kind)
    }


def _origins_file(folder: Path) -> Path:
    return folder / "origins.json"


def _units(config: DataConfig) -> str:
    return "words" if config.text.units == "word" else "subwords"


def _versions() -> dict[str, str]:
    return {
        "s2s": __version__,
        "datasets": datasets.__version__,
        "tokenizers": tokenizers.__version__,
    }
