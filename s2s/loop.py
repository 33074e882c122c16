"""Training and validation: torch and torch.distributed only.

The loop asks torch.distributed whether there are other workers; who started them (Ray, torchrun)
it does not know, but for what it tells its `Host`. Everything that it decides on is the same on all
workers: it is a function of the cursor, or has been summed over all of them.
"""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from s2s import __version__, precision
from s2s.batches import Batches, Step, ahead
from s2s.bundle import Bundle
from s2s.checkpoints import Checkpoints, Kept
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.errors import Failed
from s2s.files import write_text
from s2s.host import Alone, Host, Progress
from s2s.loss import Objective, Sums, totals
from s2s.model import Seq2Seq
from s2s.schedule import exhausted, learning_rate
from s2s.state import Cursor, Epoch, State
from s2s.tracking import Several, Tracker
from s2s.workers import Workers, agreed, summed, together

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
    norm: Tensor | float = 0.0  # largest norm of a gradient


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
        start: Bundle | None = None,
        track: Callable[[int], Tracker] = lambda after: Several(()),
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._device, self._corpus = config.train, device, corpus
        self._checkpoints, self._folder = checkpoints, folder
        self._host: Host = host or Alone()
        self._after_step = after_step
        self._precision = precision.choose(config.train.precision, device)
        self._stopping = False

        torch.manual_seed(config.train.seed)
        bundle = Bundle.new(config, corpus.source, corpus.target)
        if start is not None:
            bundle.model.load(start.model.weights())
        self._model = bundle.model.to(device)
        optimizer = torch.optim.Adam(
            self._model.parameters(), config.train.learning_rate, fused=True
        )
        objective = Objective(self._model, config.train.label_smoothing)
        self._workers = Workers(objective, device, config.train)
        self._train, self._valid = together(
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
        self._state = State(bundle, optimizer, self._precision.scaler(), facts)
        self._resume()
        self._first = self._workers.rank == 0
        self._tracker = together(lambda: track(self._cursor.steps) if self._first else Several(()))
        self._window = _Window()
        self._recent: deque[tuple[Step, float]] = deque(maxlen=2)
        self._saved = time.monotonic()
        # Every combination of three flags, there already, so that a GPU need not wait for one.
        self._flags = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).to(device)  # (8, 3)

    @property
    def _cursor(self) -> Cursor:
        return self._state.cursor

    def _batches(self, part: str) -> Batches:
        settings, workers = self._settings, self._workers
        return Batches(
            self._corpus.part(part),
            settings.batch_size,
            settings.seed,
            workers.rank,
            workers.world,
            batch_tokens=settings.batch_tokens,
            accumulate=settings.accumulate if part == "train" else 1,
        )

    def _resume(self) -> None:
        kept = agreed(self._checkpoints.newest)
        if kept is None:
            return

        def restore() -> str | None:
            with self._checkpoints.open(kept) as path:
                return self._state.restore(path)

        changed = together(restore)
        self._host.line(f"going on from the {kept}")
        if changed:
            self._host.line(changed)

    # ---- the run ----

    def run(self) -> dict[str, Any]:
        """Train to the end, or until the host wants to stop.

        Returns:
            What `metrics.json` says of the run; if it has not ended, also the steps, `stopped`.

        Raises:
            Failed: the loss exploded, or the last checkpoint could not be written.
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
        batches = self._train.epoch(cursor.epoch, cursor.step)
        if self._device.type == "cuda":  # a CPU has no core to spare for it (docs/log.md)
            batches = ahead(_pinned(batches, self._device))
        self._model.train()
        numbers: Tensor | None = None
        clock = time.perf_counter()
        while True:
            # The numbers of a step are looked at one step later: a GPU need not be waited for.
            if numbers is not None:
                stop, wished, due = self._account(numbers)
                if cursor.steps % settings.log_steps == 0:
                    self._log(steps)
                self._stopping |= stop
                if cursor.step < steps and (stop or wished or due or self._checkpoint_is_due()):
                    self._lap(clock)
                    self._save(wished=stop or wished)
                    clock = time.perf_counter()
                if cursor.step < steps and stop:
                    return False
            if cursor.step == steps:
                self._lap(clock)
                return True
            fetched = time.perf_counter()
            step = next(batches)
            self._window.waited += time.perf_counter() - fetched
            numbers = self._step(step, cursor.steps + 1, (cursor.epoch - 1 + cursor.step / steps))
            cursor.step += 1
            cursor.steps += 1
            clock = self._lap(clock)
            self._after_step()

    def _checkpoint_is_due(self) -> bool:
        every = self._settings.checkpoint_steps
        return every is not None and self._cursor.steps % every == 0

    def _step(self, step: Step, number: int, epochs: float) -> Tensor:
        """Take an optimizer step.

        Args:
            number: of the step in the run, from 1.
            epochs: that lie before it, with the fraction of the current one.

        Returns:
            (4,) summed over all workers: loss in nats, and how many of them were asked to stop, to
            save, and find that minutes have passed since the last checkpoint.
        """
        state, workers, settings = self._state, self._workers, self._settings
        # Random numbers depend on where the run stands, so there is no stream of them to save.
        key = np.random.SeedSequence((settings.seed, number, workers.rank))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))
        rate = learning_rate(settings, number, epochs / settings.epochs, state.losses)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.zero_grad()
        loss = torch.zeros(1, device=self._device)
        for left, batch in zip(range(len(step.shares))[::-1], step.shares, strict=True):
            with workers.adding(last=left == 0):
                with record_function("s2s forward"), self._precision.autocast():
                    part = workers.network(batch.to(self._device))
                with record_function("s2s backward"):
                    # DDP divides the summed gradient by the number of workers; this makes it that
                    # of the mean over the global batch's real tokens.
                    state.scaler.scale(part * (workers.world / step.tokens)).backward()
            loss += part.detach()
        with record_function("s2s exchange"):
            numbers = workers.exchange(step, torch.cat([loss, self._flags[self._wishes()]]))
        with record_function("s2s optimizer"):
            if settings.clip_norm is not None:
                state.scaler.unscale_(state.optimizer)
                norm = torch.nn.utils.clip_grad_norm_(
                    self._model.parameters(), settings.clip_norm, foreach=True
                )
                self._window.norm = torch.maximum(norm, torch.as_tensor(self._window.norm).to(norm))
            state.scaler.step(state.optimizer)
            state.scaler.update()
        self._recent.append((step, rate))
        return numbers

    def _wishes(self) -> int:
        """The row of `_flags` that says what this worker was asked for."""
        wish, minutes = self._host.wish(), self._settings.checkpoint_minutes
        due = minutes is not None and time.monotonic() - self._saved > 60 * minutes
        return 4 * wish.stop + 2 * wish.save + (due and self._first)

    def _account(self, numbers: Tensor) -> tuple[bool, bool, bool]:
        """Take in the numbers of the step before; returns whether to stop, to save, and if due."""
        loss, stop, save, due = numbers.tolist()
        step, _ = self._recent[-1]
        if not loss / step.tokens < _EXPLODED * math.log(len(self._state.bundle.target)):
            self._explode(loss / step.tokens)
        self._cursor.loss += loss
        self._window.loss += loss
        self._window.tokens += step.tokens
        self._window.pairs += len(step.rows)
        self._window.steps += 1
        return stop > 0, save > 0, due > 0

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
        record = Epoch(
            epoch=cursor.epoch,
            steps=cursor.steps,
            train_loss=cursor.loss / self._train.tokens,
            valid_loss=valid.mean_loss,
            valid_token_accuracy=valid.token_accuracy,
            valid_padded_accuracy=valid.padded_accuracy(self._corpus.manifest.longest["target"]),
            pairs_per_second=self._train.pairs / cursor.seconds,
            target_tokens_per_second=self._train.tokens / cursor.seconds,
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

    def _validate(self) -> Sums:
        return validate(self._model, self._valid, self._device)

    def _save(self, ended: Epoch | None = None, *, wished: bool = False) -> None:
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
        self._saved = time.monotonic()
        self._cursor.checkpoint_seconds += time.perf_counter() - begin

    def _log(self, steps: int) -> None:
        """Tell tracker and host of the steps since the last time."""
        window, self._window = self._window, _Window()
        if not self._first or not window.tokens or not window.seconds:
            return
        cursor, (_, rate) = self._cursor, self._recent[-1]
        per_second = window.pairs / window.seconds
        values = {
            "train/loss": window.loss / window.tokens,
            "train/learning_rate": rate,
            "train/epoch": cursor.epoch - 1 + cursor.step / steps,
            "train/pairs_per_second": per_second,
            "train/target_tokens_per_second": window.tokens / window.seconds,
            "train/step_seconds": window.seconds / window.steps,
            "train/data_wait_share": window.waited / window.seconds,
        }
        if self._settings.clip_norm is not None:
            values["train/gradient_norm"] = float(window.norm)
        self._tracker.log(cursor.steps, values)
        self._host.progress(
            Progress(cursor.epoch, cursor.step, steps, window.loss / window.tokens, per_second)
        )

    def _explode(self, loss: float) -> None:
        """End the run, and keep the batches of its last steps.

        Raises:
            Failed: always; by all workers at the same step.
        """
        file = self._folder / "bad-batch.json"
        if self._first:
            rows = self._corpus.part("train")
            told = []
            for step, rate in self._recent:
                pairs = rows.select(step.rows)
                sides = zip(step.rows.tolist(), pairs["source"][:], pairs["target"][:], strict=True)
                told.append(
                    {
                        "learning_rate": rate,
                        "tokens": step.tokens,
                        "pairs": [{"row": r, "source": s, "target": t} for r, s, t in sides],
                    }
                )
            with suppress(OSError):  # a full disk; the others must not be left alone
                write_text(file, json.dumps({"loss": loss, "steps": told}, indent=2) + "\n")
        raise Failed(
            f"the loss exploded at step {self._cursor.steps} (epoch {self._cursor.epoch}): "
            f"{loss:.4g} nats per token. The batches of the last steps are in {file}; a smaller "
            "--train.learning-rate, --train.clip-norm or --train.warmup-steps may help"
        )


def _pinned(steps: Iterator[Step], device: torch.device) -> Iterator[Step]:
    with torch.cuda.device(device):  # the thread that makes them has a current one of its own
        for step in steps:
            yield step.pinned()


@torch.inference_mode()
def validate(model: Seq2Seq, batches: Batches, device: torch.device) -> Sums:
    """The sums of all workers' batches under teacher forcing, computed in float32."""
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    for step in batches.epoch(0):
        for batch in step.shares:
            sums += totals(model, batch.to(device))
    return Sums.of(summed(sums))
