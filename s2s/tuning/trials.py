"""The content of `sweep.json`: the trials of a sweep, and what they are compared by."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from s2s.config import Section
from s2s.errors import BadInput
from s2s.model.metrics import EpochRecord
from s2s.tuning.dimension import Value

SWEEP = "sweep.json"

Status = Literal["running", "finished", "stopped", "failed"]


class SeedScore(Section):
    """The score of a model that was trained with one seed."""

    seed: int
    """Random seed of the run."""

    score: float
    """Score of its best epoch."""

    epochs: int
    """Epochs that were trained."""


class Trial(Section):
    """A point of the search space, and the model that was trained there."""

    number: int
    """Number of the trial, from 1."""

    settings: dict[str, Value]
    """Settings that the sweep chose, by dotted names; one whose condition does not hold is
    absent."""

    status: Status
    """`running`, `finished` with all of its epochs, `stopped` early, or `failed`."""

    reason: str | None = None
    """Why it was stopped or failed, in words."""

    epochs: int = 0
    """Epochs that it has trained, of the first seed."""

    curve: tuple[float, ...] = ()
    """Value of the objective after each epoch, of the first seed."""

    best: EpochRecord | None = None
    """Record of its epoch of least loss on `valid`, from which its model comes."""

    score: float | None = None
    """Value of the objective at that epoch; with several seeds, the mean over them."""

    spread: float | None = None
    """Standard deviation of the score over the seeds, if there are several."""

    seeds: tuple[SeedScore, ...] = ()
    """Score of each seed that was trained."""

    parameters: int | None = None
    """Weights of the model."""

    words_per_second: float | None = None
    """Words that the finished model translates in a second, greedily, on one CPU thread or, in a
    trial of one worker with a GPU, there."""

    tokens: int = 0
    """Target tokens that it was trained on."""

    train_seconds: float = 0.0
    """Time of training steps."""

    valid_seconds: float = 0.0
    """Time of validation, and of measuring how fast the model translates."""

    overhead_seconds: float = 0.0
    """All other time from its start to its end: of starting it, of checkpoints, and of waiting."""

    may_be_retried: bool = False
    """Whether the next session tries the failed trial again: its worker was lost."""

    @property
    def is_compared(self) -> bool:
        """Whether the trial has a score and has not failed: others are never the best."""
        return self.score is not None and self.status != "failed"

    @property
    def all_epochs(self) -> int:
        """Epochs that it has trained, of all seeds."""
        return max(self.epochs, sum(seed.epochs for seed in self.seeds))


class Axis(Section):
    """A setting that varies in a sweep, as plots show it."""

    setting: str
    """Dotted name."""

    choices: tuple[Value, ...] = ()
    """Values; empty for a range."""

    log: bool = False
    """Whether a range is searched evenly in its logarithm."""


class Sweep(Section):
    """The content of `sweep.json`."""

    axes: tuple[Axis, ...]
    """Settings that vary."""

    objective: str
    """What trials are compared by: `token_accuracy`, `loss`, `bleu` or `chrf`."""

    maximised: bool
    """Whether a greater value of the objective is better."""

    searcher: str
    """What chose the points: `grid`, `random` or `optuna`."""

    scheduler: str
    """What stopped poor trials: `none`, `asha` or `median`."""

    rungs: tuple[int, ...] = ()
    """Epochs after which ASHA compared the trials."""

    trials: tuple[Trial, ...]
    """All trials, in the order of their numbers."""

    best: int
    """Number of the trial of the best score."""

    importances: dict[str, float] | None = None
    """Share of each setting in the variation of the score among the better trials (PED-ANOVA,
    Watanabe et al., 2023); None if there are too few trials."""

    retrained: Trial | None = None
    """The best point trained again, if that was requested."""

    concurrency: int
    """Trials that ran at the same time, at most."""

    train_seconds: float
    """Sum over the trials and `retrained`."""

    valid_seconds: float
    """Sum over the trials and `retrained`."""

    overhead_seconds: float
    """Sum over the trials and `retrained`."""

    total_seconds: float
    """Wall time of the sweep, over all of its sessions."""

    @property
    def best_trial(self) -> Trial:
        """The trial of the best score."""
        return next(trial for trial in self.trials if trial.number == self.best)

    @classmethod
    def load(cls, directory: Path) -> "Sweep":
        """Return the sweep of a directory that `s2s tune` has made.

        Raises:
            BadInput: `sweep.json` is absent or cannot be read.
        """
        file = directory / SWEEP
        try:
            return cls.from_json(file.read_bytes(), str(file))
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror}") from None

    def to_json(self) -> str:
        """Return the text of `sweep.json`."""
        return json.dumps(self.model_dump(), indent=2) + "\n"

    def to_csv(self) -> str:
        """Return a table with a row for each trial."""
        text = io.StringIO()
        names = [axis.setting for axis in self.axes]
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["trial", *names, *_COLUMNS, *_BEST])
        for trial in self.trials:
            best = {} if trial.best is None else asdict(trial.best)
            rows.writerow(
                [trial.number]
                + [trial.settings.get(name, "") for name in names]
                + [getattr(trial, name) for name in _COLUMNS]
                + [best.get(name.removeprefix("best_"), "") for name in _BEST]
            )
        return text.getvalue()


_COLUMNS = (
    "status", "reason", "score", "spread", "epochs", "parameters", "words_per_second", "tokens",
    "train_seconds", "valid_seconds", "overhead_seconds",
)  # fmt: skip
_BEST = ("best_epoch", "best_valid_loss", "best_valid_token_accuracy")


def pareto_front(trials: Sequence[Trial], gain: str, *, maximised: bool) -> list[Trial]:
    """Return the trials that no other one beats in both the score and another number.

    Trials that have failed do not count.

    Args:
        gain: name of the other number: `words_per_second`, more of which are better, or
            `parameters`, fewer of which are better.
        maximised: whether a greater score is better.

    Returns:
        Trials of the best score first. Of equal ones the first.
    """
    sign, other = (-1 if maximised else 1), (-1 if gain == "words_per_second" else 1)
    scored = [
        (sign * trial.score, other * value, trial.number, trial)
        for trial in trials
        if trial.is_compared
        and trial.score is not None
        and (value := getattr(trial, gain)) is not None
    ]
    front: list[Trial] = []
    least = float("inf")
    for _, cost, _, trial in sorted(scored, key=lambda each: each[:3]):
        if cost < least:
            least = cost
            front.append(trial)
    return front
