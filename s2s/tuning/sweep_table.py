"""The trials of a sweep on a terminal: a live table, or lines where there is no terminal."""

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from s2s.console import printable
from s2s.tuning.budget import Budget, describe_seconds
from s2s.tuning.space import value_text
from s2s.tuning.sweep_run import SweepRun, best_trial
from s2s.tuning.trials import Trial

_ROWS = 10  # of trials that do not run, the best ones
_LINE_SECONDS = 30.0  # between two lines about the sweep as a whole


class SweepTable:
    """A live table of the running and the best trials; elsewhere a line when a trial ends.

    Args:
        objective: name of what trials are compared by.
    """

    def __init__(self, objective: str) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._objective = objective.replace("_", " ")
        self._sweep: SweepRun | None = None
        self._live = Live(console=self._console, refresh_per_second=2, get_renderable=self._render)
        self._next_line = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> "SweepTable":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, sweep: SweepRun, budget: Budget, limit: int | None, *, maximised: bool) -> None:
        """Show a sweep from now on.

        Args:
            limit: of the number of trials, if there is one.
            maximised: whether a greater score is better.
        """
        self._sweep, self._budget, self._limit = sweep, budget, limit
        self._maximised = maximised

    def show(self, trial: Trial) -> None:
        """Show a trial that has changed."""
        if self._console.is_terminal:
            return  # the live table reads the sweep by itself
        if trial.status != "running":
            settings = "  ".join(
                f"{name.rpartition('.')[2]} {value_text(value)}"
                for name, value in trial.settings.items()
            )
            score = "" if trial.score is None else f"  {self._objective} {trial.score:.4f}"
            reason = "" if trial.reason is None else f": {trial.reason}"
            self.log(
                f"trial {trial.number}  {settings}  epoch {trial.epochs}{score}  "
                f"{trial.status}{reason}"
            )
        self.tick()

    def tick(self) -> None:
        """Print a line about the sweep every half a minute, where there is no terminal."""
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            self.log(self._summary())

    def log(self, text: str) -> None:
        """Print a line that stays, above the table."""
        lines = "\n".join(map(printable, text.split("\n")))
        self._console.print(lines, markup=False, emoji=False)

    def _summary(self) -> str:
        """Return one line about the sweep as a whole."""
        if self._sweep is None:
            return ""
        trials, spent = list(self._sweep.trials.values()), self._sweep.spent
        best = best_trial(trials, maximised=self._maximised)
        states = [trial.status for trial in trials]
        of = "" if self._limit is None else f" of {self._limit}"
        parts = [
            f"{len(trials)}{of} trials",
            *(
                f"{states.count(state)} {state}"
                for state in ("running", "finished", "stopped", "failed")
                if state in states
            ),
            f"{describe_seconds(spent.seconds)} elapsed",
        ]
        if left := self._budget.describe_left(spent):
            parts.append(left)
        if best is not None:
            parts.append(f"best {self._objective} {best.score:.4f} (trial {best.number})")
        return ", ".join(parts)

    def _render(self) -> Group:
        """Return the table as it is now."""
        if self._sweep is None:
            return Group()
        trials = list(self._sweep.trials.values())
        running = [trial for trial in trials if trial.status == "running"]
        others = [trial for trial in trials if trial.status != "running"]
        sign = -1 if self._maximised else 1
        others.sort(key=lambda each: (not each.is_compared, sign * (each.score or 0)))
        table = Table()
        names = sorted({name for trial in trials for name in trial.settings})
        shown = [name.rpartition(".")[2] for name in names]
        for heading in ("trial", "state", *shown, "epoch", self._objective, "valid loss"):
            table.add_column(heading, justify="left" if heading == "state" else "right")
        for trial in [*running, *others[:_ROWS]]:
            table.add_row(*_row(trial, names))
        return Group(table, Text(self._summary()))


def _row(trial: Trial, names: Sequence[str]) -> list[str]:
    best = trial.best
    return [
        str(trial.number),
        trial.status,
        *(value_text(trial.settings[name]) if name in trial.settings else "" for name in names),
        str(trial.epochs or ""),
        "" if trial.score is None else f"{trial.score:.4f}",
        "" if best is None else f"{best.valid_loss:.4f}",
    ]
