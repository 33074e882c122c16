"""The training loop. It needs torch and torch.distributed only.

The loop finds other workers through torch.distributed. It does not know who started them (Ray,
torchrun), and only talks to its `Host`. All workers make the same decisions, since these depend
only on the cursor and on sums over all workers.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from s2s import __version__
from s2s.collectives import all_or_raise, broadcast_decision
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.corpus.batches import Batches, GlobalBatch
from s2s.errors import Failed
from s2s.evaluation.teacher_forcing import validate
from s2s.model.directory import ModelDirectory
from s2s.model.loss import Objective
from s2s.model.metrics import EpochRecord, RunMetrics, TrainedOn
from s2s.training.checkpoints import CheckpointManifest, Checkpoints
from s2s.training.data_parallel import DataParallel
from s2s.training.failures import (
    DUMP,
    dump_batches,
    has_exploded,
    loss_exploded,
    out_of_memory,
)
from s2s.training.host import Host, Progress, SilentHost
from s2s.training.precision import choose_precision
from s2s.training.schedule import learning_rate, stops_early
from s2s.training.signals import RunSignals
from s2s.training.state import Cursor, TrainingState
from s2s.training.step import PendingStep, make_optimizer, make_stepper
from s2s.training.trackers import Tracker, Trackers
from s2s.training.window import Window


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a run that did not fail."""

    metrics: RunMetrics
    stopped_at: int | None  # steps of the run that was stopped; None if it is complete


class Training:
    """A training run, as one of the workers of the current process group, or alone.

    Args:
        checkpoints: of the run, which resumes from the newest one that is complete.
        folder: for `bad-batch.json`, if the loss explodes.
        start: a model whose weights the run begins with, instead of random ones.
        make_tracker: called by the first worker alone, with the step that the run resumes from.
        after_step: called after every step.

    Attributes:
        model: the model that is trained.
        batches: of the split `train`.
        stepper: of the device.

    Raises:
        BadInput: settings do not fit the device or the corpus, or no checkpoint can be read.
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
        make_tracker: Callable[[int], Tracker] = lambda resumed_from: Trackers(()),
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._device, self._corpus = config.train, device, corpus
        self._checkpoints, self._folder = checkpoints, folder
        self._host: Host = host or SilentHost()
        self._after_step = after_step
        self._precision = choose_precision(config.train.precision, device)

        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        torch.manual_seed(config.train.seed)
        directory = ModelDirectory.new(config, corpus.source, corpus.target)
        if start is not None:
            directory.model.load(start.model.weights())
        self.model = directory.model.to(device)
        objective = Objective(self.model, config.train.label_smoothing)
        self._parallel = DataParallel(objective, config.train)
        self.batches, self._valid_batches = all_or_raise(
            lambda: (self._batches("train"), self._batches("valid"))
        )
        optimizer = make_optimizer(self.model, config.train.learning_rate, device)
        scaler = self._precision.scaler()
        self._state = TrainingState(directory, optimizer, scaler, self._conditions())
        self._resume()
        self.stepper = make_stepper(config, self._state, self._parallel, self._precision)

        is_first = self._parallel.rank == 0
        self._is_first = is_first
        self._tracker = all_or_raise(
            lambda: make_tracker(self._cursor.steps) if is_first else Trackers(())
        )
        self._signals = RunSignals(config.train, self._parallel.rank, self._cursor.steps)
        self._window = Window()
        self._pending: deque[PendingStep] = deque()  # steps whose results have not been read
        self._recent: deque[PendingStep] = deque(maxlen=2)  # the last steps that have been read
        self._clock = time.perf_counter()  # until when time is counted as training

    @property
    def _cursor(self) -> Cursor:
        return self._state.cursor

    def _batches(self, split: str) -> Batches:
        settings = self._settings
        return Batches(
            self._corpus.split(split),
            settings.batch_size,
            settings.seed,
            self._parallel.rank,
            self._parallel.world_size,
            batch_tokens=settings.batch_tokens,
            accumulate=settings.accumulate if split == "train" else 1,
        )

    def _conditions(self) -> RunMetrics:
        """Return the metrics that are known before the first step."""
        sources = self._corpus.manifest.sources
        return RunMetrics(
            epochs=(),
            best=None,
            workers=self._parallel.world_size,
            device=self._device.type,
            threads=torch.get_num_threads(),
            precision=self._precision.name,
            seed=self._settings.seed,
            corpus=TrainedOn(sources=sources, pairs=self.batches.pairs),
            versions={"s2s": __version__, "torch": str(torch.__version__)},
        )

    def _resume(self) -> None:
        """Restore the newest checkpoint, if there is one."""
        newest = broadcast_decision(self._checkpoints.newest)
        if newest is None:
            return

        def restore() -> str | None:
            with self._checkpoints.open(newest) as path:
                return self._state.restore(path)

        warning = all_or_raise(restore)
        self._host.log(f"resuming from the {newest}")
        if warning:
            self._host.log(warning)

    # ---- the run ----

    def run(self) -> TrainingResult:
        """Train to the end, or until a host requests to stop.

        Raises:
            Failed: the loss exploded, the memory of the GPU is full, or the last checkpoint could
                not be written.
        """
        self._log_setup()
        finished = False
        try:
            while not (self._has_ended or self._signals.stop) and self._train_epoch():
                self._end_epoch()
            if (reason := self._checkpoints.wait()) is not None:
                raise Failed(
                    f"the last checkpoint could not be written ({reason}); "
                    "run the same command again to resume from the one before"
                )
            finished = self._has_ended
        except torch.OutOfMemoryError:
            if self._parallel.world_size > 1:  # the others would wait for this one
                raise
            raise out_of_memory(f"after step {self._steps_read}") from None
        finally:
            self._tracker.close(finished)
        return TrainingResult(self._state.metrics, None if finished else self._cursor.steps)

    def _log_setup(self) -> None:
        """Log workers, threads, device and precision to the host."""
        workers, threads = self._parallel.world_size, torch.get_num_threads()
        shown = f"{workers} worker{'s' * (workers > 1)} with {threads} thread{'s' * (threads > 1)}"
        each = " each" if workers > 1 else ""
        precision = f"{self._precision.name} ({self._precision.reason})"
        self._host.log(f"{shown}{each} on {self._device.type}, precision {precision}")

    @property
    def _has_ended(self) -> bool:
        settings, epoch = self._settings, self._cursor.epoch
        return epoch > settings.epochs or stops_early(settings, self._state.valid_losses)

    def _train_epoch(self) -> bool:
        """Do the remaining steps of an epoch; return False if the run is to stop within it."""
        cursor = self._cursor
        steps = self.batches.steps_per_epoch(cursor.epoch)
        batches = self.stepper.global_batches(self.batches, cursor.epoch, cursor.step)
        self.model.train()
        self._clock = time.perf_counter()
        while cursor.step < steps:
            batch = self._fetch(batches)
            rate = self._learning_rate(steps)
            signals = self._signals.of_step(self._host.signals())
            self._pending.append(self.stepper.step(batch, cursor.steps + 1, rate, signals))
            cursor.step += 1
            cursor.steps += 1
            self._count_time()
            self._after_step()
            # Results are read when the next step has been started: a GPU never waits for the CPU.
            self._read_results(steps, unread=self.stepper.lag if cursor.step < steps else 0)
            if cursor.step < steps and self._signals.wants_checkpoint(cursor.steps):
                self._read_results(steps, unread=0)
                self._count_time()
                self._save()
                self._clock = time.perf_counter()
                if self._signals.stop:
                    return False
        self._count_time()
        return True

    def _fetch(self, batches: Iterator[GlobalBatch]) -> GlobalBatch:
        """Return the next batch, and count the time that it takes."""
        begin = time.perf_counter()
        batch = next(batches)
        self._window.wait_seconds += time.perf_counter() - begin
        return batch

    def _learning_rate(self, steps: int) -> float:
        """Return the learning rate of the next step, in an epoch of so many."""
        cursor, settings = self._cursor, self._settings
        fraction = (cursor.epoch - 1 + cursor.step / steps) / settings.epochs
        return learning_rate(settings, cursor.steps + 1, fraction, self._state.valid_losses)

    def _count_time(self) -> None:
        """Count the time since the clock was set as training, and set it anew."""
        now = time.perf_counter()
        self._cursor.seconds += now - self._clock
        self._window.seconds += now - self._clock
        self._clock = now

    # ---- results of steps ----

    @property
    def _steps_read(self) -> int:
        """Steps of the run whose results have been read."""
        return self._cursor.steps - len(self._pending)

    def _read_results(self, steps: int, unread: int) -> None:
        """Read the results of steps, all but the newest `unread`, in an epoch of `steps`."""
        while len(self._pending) > unread:
            step = self._pending.popleft()
            result = step.read()
            self._recent.append(step)
            mean_loss = result.loss / step.batch.tokens
            if has_exploded(mean_loss, len(self._state.directory.target)):
                self._fail(mean_loss)
            self._cursor.loss += result.loss
            self._window.add(step, result)
            self._signals.update(result.signals)
            if self._steps_read % self._settings.log_steps == 0:
                self._log(steps)

    def _log(self, steps: int) -> None:
        """Log the window to tracker and host, and begin a new one, in an epoch of `steps`."""
        window, self._window = self._window, Window()
        if not self._is_first or window.is_empty:
            return
        epoch, step = self._cursor.epoch, self._cursor.step - len(self._pending)
        values = window.log_values(
            self._recent[-1].learning_rate,
            epoch - 1 + step / steps,
            clipped=self._settings.clip_norm is not None,
        )
        self._tracker.log(self._steps_read, values)
        self._host.report_progress(
            Progress(epoch, step, steps, window.mean_loss, window.pairs_per_second)
        )

    def _fail(self, mean_loss: float) -> None:
        """Dump the batches of the last steps, and end the run; all workers do at the same step.

        Raises:
            Failed: always.
        """
        file = self._folder / DUMP
        if self._is_first:
            dump_batches(file, mean_loss, self._recent, self._corpus.split("train"))
        raise loss_exploded(mean_loss, self._steps_read, self._cursor.epoch, file)

    # ---- ends of epochs, and checkpoints ----

    def _end_epoch(self) -> None:
        """Validate, record the epoch, and begin to write a checkpoint."""
        record = self._validated_epoch()
        if not math.isfinite(record.valid_loss):
            self._fail(record.valid_loss)
        self._state.epochs.append(record)
        self._state.cursor = Cursor(epoch=record.epoch + 1, steps=record.steps)
        self._save(record)
        training = {k: v for k, v in asdict(record).items() if not k.startswith("valid_")}
        self._tracker.log(
            record.steps,
            {
                "valid/loss": record.valid_loss,
                "valid/token_accuracy": record.valid_token_accuracy,
                "valid/padded_accuracy": record.valid_padded_accuracy,
                **{f"epoch/{name}": value for name, value in training.items()},
            },
        )
        self._host.report_epoch(record)

    def _validated_epoch(self) -> EpochRecord:
        """Compute the loss and accuracies on `valid`, and return the record of the epoch."""
        cursor, begin = self._cursor, time.perf_counter()
        valid = validate(self.model, self._valid_batches, self._device)
        return EpochRecord(
            epoch=cursor.epoch,
            steps=cursor.steps,
            train_loss=cursor.loss / self.batches.target_tokens,
            valid_loss=valid.mean_loss,
            valid_token_accuracy=valid.token_accuracy,
            valid_padded_accuracy=valid.padded_accuracy(self._corpus.manifest.longest["target"]),
            pairs_per_second=self.batches.pairs / cursor.seconds,
            target_tokens_per_second=self.batches.target_tokens / cursor.seconds,
            seconds=cursor.seconds,
            valid_seconds=time.perf_counter() - begin,
            checkpoint_seconds=cursor.checkpoint_seconds,
        )

    def _save(self, ended: EpochRecord | None = None) -> None:
        """Copy the state and begin to write it as a checkpoint.

        Within an epoch, a requested checkpoint is waited for: the host may end this worker next.

        Args:
            ended: the record of the epoch that has just ended, if one has.
        """
        begin, cursor = time.perf_counter(), self._cursor
        if self._is_first:
            manifest = CheckpointManifest(
                steps=cursor.steps,
                epoch=ended.epoch if ended else cursor.epoch,
                valid_loss=ended.valid_loss if ended else None,
            )
            self._checkpoints.save(manifest, self._state.snapshot().save)
            if self._signals.requested and ended is None:
                self._checkpoints.wait()
                self._host.checkpoint_saved()
        self._signals.checkpoint_begun(cursor.steps)
        cursor.checkpoint_seconds += time.perf_counter() - begin
