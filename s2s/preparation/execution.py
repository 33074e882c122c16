"""Execution of stages: what a stage is, how its items are run, and how progress is shown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from s2s.config import Section
from s2s.files import write_text
from s2s.preparation.job import Job

OutcomeT = TypeVar("OutcomeT", bound=Section)


@dataclass(frozen=True)
class Stage(Generic[OutcomeT]):
    """A stage, and how its outcomes are kept in the run folder."""

    name: str
    work: Callable[[Job, int], OutcomeT]
    outcome: type[OutcomeT]

    def run_item(self, job: Job, item: int) -> None:
        """Work on an item, and write its outcome last, which marks the item as done."""
        outcome = self.work(job, item)
        write_text(self._outcome_file(job, item), outcome.to_json())

    def is_done(self, job: Job, item: int) -> bool:
        """Return whether an item is done."""
        return self._outcome_file(job, item).exists()

    def load_outcome(self, job: Job, item: int) -> OutcomeT:
        """Return the outcome of an item that is done.

        Raises:
            BadInput: its file is broken.
        """
        file = self._outcome_file(job, item)
        return self.outcome.from_json(file.read_bytes(), str(file))

    def _outcome_file(self, job: Job, item: int) -> Path:
        return job.file(self.name, item, ".json")


class Executor(Protocol):
    """Runs a function for every item, in any order, and yields each item when it is done.

    `in_process` is one; `s2s.distributed.prepare.tasks` makes another, of Ray tasks.
    """

    def __call__(self, function: Callable[[int], None], items: Sequence[int], /) -> Iterator[int]:
        """Run the function for the items."""


def in_process(function: Callable[[int], None], items: Sequence[int]) -> Iterator[int]:
    """Run the items in this process, one after the other."""
    for item in items:
        function(item)
        yield item


class Progress(Protocol):
    """Shows how far a preparation has come; `s2s.console.StageBars` is one."""

    def log(self, text: str) -> None:
        """Show a line that stays."""

    def show_stage(self, name: str, done: int, total: int) -> None:
        """Show how many items of a stage are done."""


class SilentProgress:
    """Progress that is not shown."""

    def log(self, text: str) -> None:
        """Show nothing."""

    def show_stage(self, name: str, done: int, total: int) -> None:
        """Show nothing."""


@dataclass(frozen=True)
class Runner:
    """Runs stages and shows their progress."""

    execute: Executor
    progress: Progress

    def run(self, job: Job, stage: Stage[OutcomeT], items: int) -> list[OutcomeT]:
        """Run a stage for the items that are not done yet, and return the outcomes of all.

        Raises:
            BadInput: what an item works on is wrong, or the file of an outcome is broken.
        """
        (job.folder / stage.name).mkdir(exist_ok=True)
        todo = [item for item in range(items) if not stage.is_done(job, item)]
        done = items - len(todo)
        self.progress.show_stage(stage.name, done, items)
        for _ in self.execute(partial(stage.run_item, job), todo):
            self.progress.show_stage(stage.name, done := done + 1, items)
        return [stage.load_outcome(job, item) for item in range(items)]
