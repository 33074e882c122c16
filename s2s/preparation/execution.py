"""How the items of a stage are run, and how progress is shown."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol


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
