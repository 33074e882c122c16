"""Failures of a training run that the user can act on: an exploded loss, and a full GPU."""

import json
import math
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import torch
from datasets import Dataset

from s2s.errors import BadInput, Failed
from s2s.files import write_text
from s2s.locations import absolute
from s2s.mirrors import read_file, remove_file, write_file
from s2s.runs import FULL_MEMORY
from s2s.training.step import PendingStep, StepResult

# A mean loss of so many times that of a uniform guess counts as exploded.
_EXPLODED = 3.0


class LossGuard:
    """A guard that ends a run whose loss explodes, and dumps the batches of its last two steps.

    Args:
        file: for the dump, `bad-batch.json` of the run.
        split: the rows of `train`.
        vocabulary_size: number of target tokens that the model can predict.
        dumps: whether this worker writes the dump; all workers fail at the same step.
    """

    def __init__(self, file: Path, split: Dataset, vocabulary_size: int, *, dumps: bool) -> None:
        self._file, self._split, self._dumps = file, split, dumps
        self._limit = _EXPLODED * math.log(vocabulary_size)  # nats per token
        self._recent: deque[PendingStep] = deque(maxlen=2)

    def check(self, step: PendingStep, result: StepResult, steps: int, epoch: int) -> None:
        """Check the loss of a step.

        Args:
            steps: of the run up to this one.

        Raises:
            Failed: the loss is not finite, or far above that of guessing.
        """
        self._recent.append(step)
        mean_loss = result.loss / step.batch.tokens
        if not mean_loss < self._limit:
            self._fail(mean_loss, steps, epoch)

    def check_valid(self, mean_loss: float, steps: int, epoch: int) -> None:
        """Check the loss on `valid` after so many steps.

        Raises:
            Failed: the loss is not finite.
        """
        if not math.isfinite(mean_loss):
            self._fail(mean_loss, steps, epoch)

    def _fail(self, mean_loss: float, steps: int, epoch: int) -> NoReturn:
        if self._dumps:
            # A full disk must not keep this worker from failing together with the others.
            with suppress(OSError):
                self._dump(mean_loss)
        raise Failed(
            f"the loss exploded at step {steps} (epoch {epoch}): {mean_loss:.4g} nats per token. "
            f"The batches of the last steps are in {self._file}; a lower --train.learning-rate, or "
            "--train.clip-norm or --train.warmup-steps, may help"
        )

    def _dump(self, mean_loss: float) -> None:
        steps = []
        for step in self._recent:
            rows, pairs = step.batch.rows, self._split.select(step.batch.rows)
            sides = zip(rows.tolist(), pairs["source"][:], pairs["target"][:], strict=True)
            steps.append(
                {
                    "learning_rate": step.learning_rate,
                    "tokens": step.batch.tokens,
                    "pairs": [{"row": row, "source": s, "target": t} for row, s, t in sides],
                }
            )
        write_text(self._file, json.dumps({"loss": mean_loss, "steps": steps}, indent=2) + "\n")


class FullMemory:
    """The memory of a worker that was full, noted in the folder of the run.

    With several workers, those that had enough wait for the one that had not, so an error ends them
    all, and they are started again. A worker that finds the note, and no checkpoint since, would
    fail in the same way.
    """

    def __init__(self, folder: str | Path, resumed_from: int) -> None:
        self._folder, self._resumed_from = absolute(folder), resumed_from

    def earlier(self) -> Failed | None:
        """Return the error of an earlier try that began at the same step, if there was one.

        A note that cannot be read counts as none.
        """
        try:
            note = json.loads(read_file(self._folder, FULL_MEMORY) or b"{}")
            is_same = note["resumed_from"] == self._resumed_from
            return Failed(note["reason"]) if is_same else None
        except (BadInput, ValueError, KeyError, TypeError):
            return None

    def note(self, device: torch.device, steps: int) -> Failed:
        """Note that the memory is full after so many steps of the run, and return the error."""
        memory = "the GPU" if device.type == "cuda" else "this machine"
        when = f"after step {steps:,}" if steps else "before the first step"
        reason = (
            f"{memory} ran out of memory {when}; use a smaller --train.batch-size or "
            "--train.batch-tokens, a larger --train.accumulate, or a smaller --model.hidden-size"
        )
        note = json.dumps({"resumed_from": self._resumed_from, "reason": reason})
        with suppress(BadInput):
            write_file(self._folder, FULL_MEMORY, note)
        return Failed(reason)

    @staticmethod
    def forget(folder: str | Path) -> None:
        """Remove the note of an earlier command: memory may have become free."""
        remove_file(absolute(folder), FULL_MEMORY)
