"""Training and validation: torch and torch.distributed only.

The loop asks torch.distributed whether there are other workers; who started them (Ray, torchrun)
it does not know, but for what it tells its `Host`. Everything that it decides on is the same on all
workers: it is a function of the cursor, or has been summed over all of them.
"""

import json
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from s2s import __version__
from s2s.collectives import all_or_raise, broadcast_decision
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.corpus.batches import Batches
from s2s.errors import Failed
from s2s.evaluation.teacher_forcing import validate
from s2s.files import write_text
from s2s.model.directory import ModelDirectory
from s2s.model.loss import TokenSums, TrainingLoss
from s2s.model.metrics import EpochRecord
from s2s.training import precision
from s2s.training.checkpoints import Checkpoints, Kept
from s2s.training.data_parallel import Workers
from s2s.training.host import Alone, Host, Progress
from s2s.training.schedule import exhausted, learning_rate
from s2s.training.state import Cursor, State
from s2s.training.step import Reading, optimizer, stepper
from s2s.training.trackers import Several, Tracker

# A step whose loss is so many times that of guessing blindly has lost its way.
_EXPLODED = 3.0


@dataclass
class _Window:
    """What was measured since it was last told of."""

    loss: float = 0.0
    tokens: int = 0
    pairs: int = 0
    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0  # seconds for batches
    norm: float = 0.0  # largest norm of a gradient


class Training:
    """A training run, as one of the workers of the current process group, or alone.

    Args:
        checkpoints: where the run keeps its own; the newest whole one is gone on from.
        folder: gets `bad-batch.json` if the loss explodes.
        start: a model to begin with, instead of fresh weights.
        track: makes the tracker, told after which step; called by one worker alone.
        after_step: called after every step.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: Config,
        device: torch.device,
        checkpoints: Checkpoints,
        folder: Path,
        *,
        host: Host | None = None,
        start: ModelDirectory | None = None,
        track: Callable[[int], Tracker] = lambda after: Several(()),
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._device, self._corpus = config.train, device, corpus
        self._checkpoints, self._folder = checkpoints, folder
        self._host: Host = host or Alone()
        self._after_step = after_step
        self._precision = precision.choose(config.train.precision, device)
        self._stopping = self._due = False

        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        torch.manual_seed(config.train.seed)
        directory = ModelDirectory.new(config, corpus.source, corpus.target)
        if start is not None:
            directory.model.load_weights(start.model.named_weights())
        self._model = directory.model.to(device)
        objective = TrainingLoss(self._model, config.train.label_smoothing)
        self._workers = Workers(objective, config.train)
        self._train, self._valid = all_or_raise(
            lambda: (self._batches("train"), self._batches("valid"))
        )
        facts = {
            "workers": self._workers.world,
            "device": device.type,
            "threads": torch.get_num_threads(),
            "precision": self._precision.name,
            "seed": config.train.seed,
            "corpus": {"sources": corpus.manifest.sources, "pairs": self._train.pairs},
            "versions": {"s2s": __version__, "torch": str(torch.__version__)},
        }
        adam = optimizer(self._model, config.train.learning_rate, device)
        self._state = State(directory, adam, self._precision.scaler(), facts)
        self._resume()
        self._stepper = stepper(config, self._state, self._workers, self._precision)
        self._first = self._workers.rank == 0
        self._tracker = all_or_raise(
            lambda: track(self._cursor.steps) if self._first else Several(())
        )
        self._window = _Window()
        self._taken: deque[Reading] = deque()  # steps whose numbers were not looked at yet
        self._recent: deque[Reading] = deque(maxlen=2)
        self._saved = time.monotonic()

    @property
    def _cursor(self) -> Cursor:
        return self._state.cursor

    def _batches(self, part: str) -> Batches:
        settings, workers = self._settings, self._workers
        return Batches(
            self._corpus.split(part),
            settings.batch_size,
            settings.seed,
            workers.rank,
            workers.world,
            batch_tokens=settings.batch_tokens,
            accumulate=settings.accumulate if part == "train" else 1,
        )

    def _resume(self) -> None:
        kept = broadcast_decision(self._checkpoints.newest)
        if kept is None:
            return

        def restore() -> str | None:
            with self._checkpoints.open(kept) as path:
                return self._state.restore(path)

        changed = all_or_raise(restore)
        self._host.line(f"going on from the {kept}")
        if changed:
            self._host.line(changed)

    # ---- the run ----

    def run(self) -> dict[str, Any]:
        """Train to the end, or until the host wants to stop.

        Returns:
            What `metrics.json` says of the run; if it has not ended, also the steps, `stopped`.

        Raises:
            Failed: the loss exploded, the memory of the GPU is full, or the last checkpoint could
                not be written.
        """
        used = f"{self._precision.name} ({self._precision.why})"
        world, threads = self._workers.world, torch.get_num_threads()
        self._host.line(
            f"{world} worker{'s' * (world > 1)} of {threads} thread{'s' * (threads > 1)} "
            f"on {self._device.type}, precision {used}"
        )
        finished = False
        try:
            while not (self._ended or self._stopping) and self._epoch():
                self._end_epoch()
            if (reason := self._checkpoints.wait()) is not None:
                raise Failed(
                    f"the last checkpoint could not be written ({reason}); "
                    "the same command goes on from the one before"
                )
            finished = self._ended
        except torch.OutOfMemoryError:
            if world > 1:  # the others would wait for this one
                raise
            raise memory_is_full(f"after step {self._looked}") from None
        finally:
            self._tracker.close(finished)
        told = self._state.metrics
        return told if finished else {**told, "stopped": self._cursor.steps}

    @property
    def _ended(self) -> bool:
        return self._cursor.epoch > self._settings.epochs or exhausted(
            self._settings, self._state.losses
        )

    def _epoch(self) -> bool:
        """Take the steps that are left of an epoch; returns whether all were taken."""
        cursor, settings = self._cursor, self._settings
        steps = self._train.steps(cursor.epoch)
        batches = self._stepper.steps(self._train, cursor.epoch, cursor.step)
        self._model.train()
        clock, begin = time.perf_counter(), cursor.step
        while True:
            # The numbers of a step are looked at when the next one has begun: a GPU never waits.
            wished = False
            while len(self._taken) > (self._stepper.lag if cursor.step < steps else 0):
                wished |= self._look(steps)
            due = cursor.step > begin and self._checkpoint_is_due()
            if cursor.step < steps and (wished or self._stopping or due):
                while self._taken:
                    wished |= self._look(steps)
                self._lap(clock)
                self._save(wished=wished or self._stopping)
                clock = time.perf_counter()
                if self._stopping:
                    return False
            if cursor.step == steps:
                self._lap(clock)
                return True
            fetched = time.perf_counter()
            step = next(batches)
            self._window.waited += time.perf_counter() - fetched
            fraction = (cursor.epoch - 1 + cursor.step / steps) / settings.epochs
            rate = learning_rate(settings, cursor.steps + 1, fraction, self._state.losses)
            self._taken.append(self._stepper.take(step, cursor.steps + 1, rate, self._wishes()))
            cursor.step += 1
            cursor.steps += 1
            clock = self._lap(clock)
            self._after_step()

    def _checkpoint_is_due(self) -> bool:
        every, steps = self._settings.checkpoint_steps, self._cursor.steps
        return self._due or (every is not None and steps % every == 0)

    def _wishes(self) -> tuple[bool, bool, bool]:
        """What this worker was asked for: to stop, to save, and that a checkpoint is due."""
        wish, minutes = self._host.wish(), self._settings.checkpoint_minutes
        due = minutes is not None and time.monotonic() - self._saved > 60 * minutes
        return wish.stop, wish.save, due and self._first

    def _look(self, steps: int) -> bool:
        """Take in the numbers of a step; returns whether a checkpoint was asked for."""
        taken = self._taken.popleft()
        numbers, tokens = taken.read(), taken.step.tokens
        self._recent.append(taken)
        if not numbers.loss / tokens < _EXPLODED * math.log(len(self._state.directory.target)):
            self._explode(numbers.loss / tokens)
        self._cursor.loss += numbers.loss
        self._window.loss += numbers.loss
        self._window.tokens += tokens
        self._window.pairs += len(taken.step.rows)
        self._window.steps += 1
        self._window.norm = max(self._window.norm, numbers.norm)
        self._stopping |= numbers.stop > 0
        self._due |= numbers.due > 0
        if self._looked % self._settings.log_steps == 0:
            self._log(steps)
        return numbers.save > 0

    @property
    def _looked(self) -> int:
        """Steps of the run whose numbers are known."""
        return self._cursor.steps - len(self._taken)

    def _lap(self, clock: float) -> float:
        """Count the time since then as training; returns the time now."""
        now = time.perf_counter()
        self._cursor.seconds += now - clock
        self._window.seconds += now - clock
        return now

    def _end_epoch(self) -> None:
        """Validate, record, save."""
        cursor, begin = self._cursor, time.perf_counter()
        valid = self._validate()
        record = EpochRecord(
            epoch=cursor.epoch,
            steps=cursor.steps,
            train_loss=cursor.loss / self._train.target_tokens,
            valid_loss=valid.mean_loss,
            valid_token_accuracy=valid.token_accuracy,
            valid_padded_accuracy=valid.padded_accuracy(self._corpus.manifest.longest["target"]),
            pairs_per_second=self._train.pairs / cursor.seconds,
            target_tokens_per_second=self._train.target_tokens / cursor.seconds,
            seconds=cursor.seconds,
            valid_seconds=time.perf_counter() - begin,
            checkpoint_seconds=cursor.checkpoint_seconds,
        )
        if not math.isfinite(record.valid_loss):
            self._explode(record.valid_loss)
        self._state.epochs.append(record)
        self._state.cursor = Cursor(epoch=cursor.epoch + 1, steps=cursor.steps)
        self._save(record)
        told = asdict(record)
        self._tracker.log(
            record.steps,
            {
                "valid/loss": record.valid_loss,
                "valid/token_accuracy": record.valid_token_accuracy,
                "valid/padded_accuracy": record.valid_padded_accuracy,
                **{f"epoch/{k}": v for k, v in told.items() if not k.startswith("valid_")},
            },
        )
        self._host.epoch(record)

    def _validate(self) -> TokenSums:
        return validate(self._model, self._valid, self._device)

    def _save(self, ended: EpochRecord | None = None, *, wished: bool = False) -> None:
        """Begin to write a checkpoint; training goes on as soon as there is a copy of the run.

        One that was wished for is waited for: who wished it may end this worker next.
        """
        begin = time.perf_counter()
        if self._first:
            kept = Kept(
                steps=self._cursor.steps,
                epoch=ended.epoch if ended else self._cursor.epoch,
                valid_loss=ended.valid_loss if ended else None,
            )
            self._checkpoints.save(kept, self._state.snapshot().save)
            if wished:
                self._checkpoints.wait()
                self._host.saved()
        self._saved, self._due = time.monotonic(), False
        self._cursor.checkpoint_seconds += time.perf_counter() - begin

    def _log(self, steps: int) -> None:
        """Tell tracker and host of the steps since the last time."""
        window, self._window = self._window, _Window()
        if not self._first or not window.tokens or not window.seconds:
            return
        cursor, rate = self._cursor, self._recent[-1].rate
        step = cursor.step - len(self._taken)
        per_second = window.pairs / window.seconds
        values = {
            "train/loss": window.loss / window.tokens,
            "train/learning_rate": rate,
            "train/epoch": cursor.epoch - 1 + step / steps,
            "train/pairs_per_second": per_second,
            "train/target_tokens_per_second": window.tokens / window.seconds,
            "train/step_seconds": window.seconds / window.steps,
            "train/data_wait_share": window.waited / window.seconds,
        }
        if self._settings.clip_norm is not None:
            values["train/gradient_norm"] = window.norm
        self._tracker.log(self._looked, values)
        self._host.progress(
            Progress(cursor.epoch, step, steps, window.loss / window.tokens, per_second)
        )

    def _explode(self, loss: float) -> None:
        """End the run, and keep the batches of its last steps.

        Raises:
            Failed: always; by all workers at the same step.
        """
        file = self._folder / "bad-batch.json"
        if self._first:
            rows = self._corpus.split("train")
            told = []
            for taken in self._recent:
                step = taken.step
                pairs = rows.select(step.rows)
                sides = zip(step.rows.tolist(), pairs["source"][:], pairs["target"][:], strict=True)
                told.append(
                    {
                        "learning_rate": taken.rate,
                        "tokens": step.tokens,
                        "pairs": [{"row": r, "source": s, "target": t} for r, s, t in sides],
                    }
                )
            with suppress(OSError):  # a full disk; the others must not be left alone
                write_text(file, json.dumps({"loss": loss, "steps": told}, indent=2) + "\n")
        raise Failed(
            f"the loss exploded at step {self._looked} (epoch {self._cursor.epoch}): "
            f"{loss:.4g} nats per token. The batches of the last steps are in {file}; a smaller "
            "--train.learning-rate, --train.clip-norm or --train.warmup-steps may help"
        )


def memory_is_full(when: str) -> Failed:
    """What to tell of a GPU that has not enough memory."""
    return Failed(
        f"the GPU's memory is full {when}; a smaller --train.batch-size or --train.batch-tokens, "
        "or a larger --train.accumulate, needs less"
    )
