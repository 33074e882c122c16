"""What is shown on a terminal: text that cannot control it, progress of long work.

Progress is live bars and tables on a terminal, and plain lines elsewhere.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

# Characters that do not belong to a line of text: control characters of C0 and C1, line and
# paragraph separators, those that override or embed a direction, and halves of surrogate pairs.
_UNPRINTABLE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


# Between two lines of progress in a file.
_LINE_SECONDS = 30.0


def printable(text: str) -> str:
    r"""Return text as a line for a terminal, which control sequences in it cannot reach.

    Control characters, and those that override the direction of text, are shown as escapes, such as
    `\x1b`.
    """
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(unprintable: re.Match[str]) -> str:
    return unprintable[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """Show a count of sentences on standard error, if that is a terminal and results go elsewhere.

    Yields:
        What to call with the number of further sentences.
    """
    with Progress(
        TextColumn("{task.description} {task.completed:,.0f} sentences"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty() or sys.stdout.isatty(),
        transient=True,
    ) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda sentences: bars.advance(bar, sentences)


def _wide_bars(console: Console) -> Progress:
    """Return bars as wide as the terminal, with a description before and a state after each."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        expand=True,
    )


class RowsBar:
    """A bar over the rows of files that are translated, above it lines that stay.

    It is on standard error. Where that is no terminal, the progress is a line every half a minute.
    """

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = _wide_bars(console)
        self._bar = self._bars.add_task("translating", total=1.0, state="")
        self._rows, self._share = 0, 0.0
        self._begin: tuple[int, float, float] | None = None  # rows, share and time at the beginning
        self._next_line = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> "RowsBar":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def log(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        self._bars.console.print(_printable_lines(text), markup=False, emoji=False)

    def begin(self, rows: int, share: float) -> None:
        """Show what is done already, as rows and as a share of the bytes of all files."""
        self._rows, self._share = rows, share
        self._bars.update(self._bar, completed=share, state="starting")

    def add_rows(self, rows: int) -> None:
        """Show that further rows are done."""
        self._rows += rows
        self._show()

    def set_share(self, share: float) -> None:
        """Show what share of the bytes of all files is done."""
        self._share = share
        # Before the first rows are done, translators start: that time tells nothing.
        self._begin = self._begin or (self._rows, share, time.monotonic())
        self._show()

    def _show(self) -> None:
        state, now = f"{self._rows:,} sentences", time.monotonic()
        if self._begin is not None:
            rows, share, begin = self._begin
            if self._rows > rows and now > begin:
                state += f"  {(self._rows - rows) / (now - begin):,.0f} sentences/s"
            if self._share > share:
                left = (now - begin) * (1 - self._share) / (self._share - share)
                state += f"  {_duration(max(0.0, left))} left"
        self._bars.update(self._bar, completed=self._share, state=state)
        if self._bars.disable and now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            self.log(f"translated {state}")


class EpochBar:
    """A bar over the steps of an epoch, above it lines that stay.

    Where there is no terminal, the progress is a line every half a minute.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        console = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self._bars = _wide_bars(console)
        self._bar = self._bars.add_task("starting", total=None, state="")
        self._next_line = time.monotonic() + _LINE_SECONDS
        # Steps of the run, and the time, when the progress was first shown.
        self._start: tuple[int, float] | None = None

    def __enter__(self) -> "EpochBar":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(
        self, epoch: int, epochs: int, step: int, steps: int, loss: float, pairs_per_second: float
    ) -> None:
        """Show the progress of an epoch, and how long epoch and run will still take.

        Args:
            epoch: number of the epoch, from 1.
            epochs: of the run.
            step: steps done in the epoch.
            steps: of the whole epoch.
            loss: nats per target token.
        """
        title = f"epoch {epoch}/{epochs}"
        state = f"{step:,}/{steps:,}  loss {loss:.4f}  {pairs_per_second:,.0f} pairs/s"
        now, done = time.monotonic(), (epoch - 1) * steps + step
        self._start = self._start or (done, now)
        if done > self._start[0]:
            seconds = (now - self._start[1]) / (done - self._start[0])  # of a step, all told
            left = [_duration(seconds * n) for n in (steps - step, epochs * steps - done)]
            state += f"  {left[0]} left, run {left[1]}"
        self._bars.update(self._bar, description=title, completed=step, total=steps, state=state)
        if self._bars.disable and now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            self.log(f"{title}  {state}")

    def log(self, text: str) -> None:
        """Print lines that stay, above the bar."""
        self._bars.console.print(_printable_lines(text), markup=False, emoji=False)


def _duration(seconds: float) -> str:
    """Return a time as people write it: 0:07, 12:30, 3:04:05."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class StageBars:
    """A bar for the stage that runs, above it lines that stay.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        console = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self._bars = Progress(
            TextColumn("{task.description:<6}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar = self._bars.add_task("", total=None)

    def __enter__(self) -> "StageBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show_stage(self, name: str, done: int, total: int) -> None:
        """Show how many items of a stage are done."""
        self._bars.update(self._bar, description=name, completed=done, total=total)

    def log(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        self._bars.console.print(_printable_lines(text), markup=False, emoji=False)
