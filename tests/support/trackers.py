"""A tracker of one's own, as a user would write it."""

from collections.abc import Mapping, Sequence

from s2s.training.trackers.tracker import TrackedRun, ValidSample


class Lines:
    """A file `lines.txt` in the folder of the run."""

    def __init__(self, run: TrackedRun) -> None:
        self.path = run.folder / "lines.txt"
        self.write(run.name, run.parameters["train.epochs"], run.resumed_from)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if "valid/loss" in values:
            self.write(step, *(name for name in ("valid/loss", "valid/bleu") if name in values))

    def log_samples(self, step: int, samples: Sequence[ValidSample]) -> None:
        self.write(step, len(samples), samples[0].source)

    def close(self, finished: bool) -> None:
        self.write(finished)

    def write(self, *words: object) -> None:
        with self.path.open("a") as file:
            print(*words, file=file)
