"""What a tracker is, the run that it records, and several trackers as one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

Log = Callable[[str], None]  # shows a line of text to the user


@dataclass(frozen=True)
class TrackedRun:
    """A training run as its trackers get it, when it begins and when it is resumed."""

    name: str  # of the model directory that the run makes
    folder: Path  # of the run, OUT.run, in which a tracker may keep files of its own
    parameters: Mapping[str, object]  # all settings by dotted names, such as `train.epochs`
    resumed_from: int = 0  # optimizer step; 0 for a new run
    # Of a trial of a sweep: the settings that the sweep has chosen, by dotted names.
    chosen: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidSample:
    """A sentence pair of `valid`, with a translation of its source."""

    source: str
    reference: str
    translation: str


class Tracker(Protocol):
    """A place that records the metrics of a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values after an optimizer step of the run, by names such as `train/loss`."""

    def close(self, finished: bool) -> None:
        """Finish recording; a second call does nothing.

        Args:
            finished: whether the run is complete. A run that failed or was stopped can be resumed.
        """


@runtime_checkable
class SampleTracker(Protocol):
    """A tracker that records samples, too."""

    def log_samples(self, step: int, samples: Sequence[ValidSample]) -> None:
        """Record how the model translates the samples after an optimizer step."""


class Trackers:
    """Several trackers as one.

    A tracker that fails, because its disk is full or its server is gone, is logged once and then
    left out.

    Args:
        log: called with a line of text when a tracker is left out.
    """

    def __init__(self, trackers: Sequence[Tracker], log: Log = lambda line: None) -> None:
        self._trackers, self._log = list(trackers), log

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Pass the values to each tracker, in order."""
        self._each(lambda tracker: tracker.log(step, values))

    def log_samples(self, step: int, samples: Sequence[ValidSample]) -> None:
        """Pass the samples to each tracker that records samples, in order."""

        def pass_on(tracker: Tracker) -> None:
            if isinstance(tracker, SampleTracker):
                tracker.log_samples(step, samples)

        self._each(pass_on)

    def close(self, finished: bool) -> None:
        """Close each tracker, the last one first."""
        self._trackers.reverse()
        self._each(lambda tracker: tracker.close(finished))
        self._trackers.clear()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        """Call each tracker, and leave out those that raise an error."""
        kept = []
        for tracker in self._trackers:
            try:
                call(tracker)
            except Exception as error:  # of HTTP, of a server, of a class that is not ours
                self._log(left_out(type(tracker).__name__, error))
            else:
                kept.append(tracker)
        self._trackers = kept


def left_out(name: str, error: Exception) -> str:
    """Return a line for the user about a tracker that has failed."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{name}: {reason}; training continues without it"


def markdown_table(samples: Sequence[ValidSample]) -> str:
    """Return samples as a table in Markdown."""
    rows = [
        ("source", "reference", "translation"),
        ("---", "---", "---"),
        *((each.source, each.reference, each.translation) for each in samples),
    ]
    return "".join(f"| {' | '.join(map(_escaped, row))} |\n" for row in rows)


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
