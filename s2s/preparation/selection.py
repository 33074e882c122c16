"""Selection of rows: the stages from the sources to the splits of all rows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from s2s.corpus.directory import SIDES, SPLITS, LostLetters
from s2s.corpus.warnings import drops_in_words
from s2s.errors import BadInput
from s2s.preparation.discovery import describe_origins
from s2s.preparation.execution import Runner
from s2s.preparation.job import BUCKET_ROWS, Chunk, Job
from s2s.preparation.outcomes import (
    CleanOutcome,
    GroupOutcome,
    LeftOut,
    ReadOutcome,
    SelectOutcome,
)
from s2s.preparation.row_keys import HeldOutTargets, draw_random_splits, grouped_bounds
from s2s.preparation.source_notes import SourceNotes, note_sources
from s2s.preparation.spelling import LOSSY, check_spelling, spelling_warnings
from s2s.preparation.stages import CLEAN, GROUP, READ, SELECT
from s2s.text.normalise import Side


@dataclass(frozen=True)
class Selection:
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
        """Rows that are read of all origins."""
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


def select_rows(job: Job, runner: Runner, refuse_early: bool = True) -> Selection:
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
        return Selection(job, left_out, cleaned, lost_letters, [], [], notes)
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
    return Selection(job, left_out, cleaned, lost_letters, grouped, selected, notes)


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
