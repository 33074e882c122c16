"""Preparation of a corpus directory from sources of sentence pairs.

The work is divided into stages (`s2s.preparation.stages`), and each stage into items. An item
leaves its files in the run folder, the outcome last. So a stage may run in this process or as tasks
on a cluster, an interrupted preparation resumes with what is done, and neither affects the result.

Every row read is accounted for: it is in a split of the corpus or counted under a rule.
"""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from s2s.config import DataConfig
from s2s.corpus.directory import MANIFEST, SIDES, CorpusWarning, Manifest
from s2s.errors import BadInput
from s2s.files import sha256, write_text
from s2s.locations import absolute
from s2s.mirrors import deliver
from s2s.preparation.discovery import find_origins
from s2s.preparation.execution import Executor, Progress, Runner, SilentProgress, in_process
from s2s.preparation.job import CHUNK_ROWS, Job
from s2s.preparation.outcomes import LeftOut
from s2s.preparation.selection import select_rows
from s2s.preparation.sources import Source
from s2s.preparation.stages import STAGES
from s2s.preparation.writing import library_versions, write_corpus
from s2s.provenance import Invocation
from s2s.runs import claimed_folder
from s2s.text.languages import canonical_code

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
    out: str | Path,
    progress: Progress = _SILENT,
    execute: Executor = in_process,
    *,
    vocabularies: Path | None = None,
    restart: bool = False,
    invocation: Invocation | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Manifest:
    """Read sentence pairs and write the corpus directory `out`, at a path or URI.

    What is done so far is kept in `OUT.run`; a run that is there already is resumed if it has the
    same sources and settings.

    Args:
        execute: runs the items of a stage; the result does not depend on it.
        vocabularies: model or corpus directory whose vocabularies are used instead of learned ones;
            it must have been made with the text settings of `config`.
        restart: start over, and replace `out` if it exists.
        invocation: kept in the corpus directory.
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
        "versions": library_versions(),
    }
    if vocabularies is not None:
        run["vocabularies"] = [sha256(vocabularies / f"{side}.json") for side in SIDES]
    out = absolute(out)
    if "::" in out:
        raise BadInput(f"--out {out}: the path must not contain ::, which chains file systems")
    with claimed_folder(out, MANIFEST, run, restart) as folder:
        is_new = not _origins_file(folder).exists()
        runner = Runner(execute, progress)
        try:
            job = _open_job(source, config, folder, chunk_rows, progress)
            selection = select_rows(job, runner)
            selection.require_rows()
            manifest = write_corpus(selection, vocabularies, runner)
        except BadInput:
            if is_new:  # the same input would fail again
                shutil.rmtree(folder, ignore_errors=True)
            raise
        made = selection.job.corpus_folder
        if invocation is not None:
            invocation.record(made, {"path": out, "sha256": sha256(made / MANIFEST)})
        deliver(made, out)  # in place of what exists only if `restart` is given
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
        selection = select_rows(job, Runner(execute, progress), refuse_early=False)
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


def _origins_file(folder: Path) -> Path:
    return folder / "origins.json"
