"""The training loop. It needs torch and torch.distributed only.

The loop finds other workers through torch.distributed. It does not know who started them (Ray,
torchrun), and only talks to its `Host`. All workers make the same decisions, since these depend
only on the cursor and on sums over all workers.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from s2s import __version__
from s2s.collectives import all_or_raise, broadcast_decision
from s2s.config import Config, TrainConfig
from s2s.corpus import Corpus
from s2s.corpus.batches import Batches, GlobalBatch
from s2s.errors import Failed
from s2s.evaluation.teacher_forcing import validate
from s2s.model.directory import ModelDirectory
from s2s.model.loss import TokenSums, TrainingLoss
from s2s.model.metrics import EpochRecord, RunMetrics, TrainedOn
from s2s.training.checkpoints import CheckpointManifest, Checkpoints
from s2s.training.data_parallel import DataParallel
from s2s.training.failures import LossGuard
from s2s.training.host import Host, SilentHost
from s2s.training.precision import Precision, choose_precision
from s2s.training.run import Watch
from s2s.training.schedule import learning_rate, stops_early
from s2s.training.signals import RunSignals
from s2s.training.state import Cursor, TrainingState
from s2s.training.step import make_optimizer, make_stepper
from s2s.training.step_log import StepLog
from s2s.training.trackers.tracker import SampleTracker, Tracker, Trackers
from s2s.training.valid_translations import (
    TranslationScores,
    ValidTranslations,
    describe_samples,
)
from s2s.training.window import epoch_values

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a run that did not fail."""

    metrics: RunMetrics
    stopped_at: int | None  # steps of the run that was stopped; None if it is complete


def exhaust(epochs: Generator[RunMetrics, None, Outcome]) -> Outcome:
    """Train all epochs of a generator, and return the outcome of the run."""
    while True:
        try:
            next(epochs)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome


class Training:
    """A training run, as one of the workers of the current process group, or alone.

    Args:
        checkpoints: of the run, which resumes from the newest one that is complete.
        folder: for `bad-batch.json`, if the loss explodes.
        start: a model whose weights the run begins with, instead of random ones.
        watch: which sentences of `valid` are translated after each epoch; None translates none.
        make_tracker: called by the first worker alone, with the step that the run resumes from.
        after_step: called after every step.
        after_epoch: called after every epoch.
        shares_memory: whether workers on one host may sum gradients in shared memory.

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
        watch: Watch | None = None,
        make_tracker: Callable[[int], Tracker] = lambda resumed_from: Trackers(()),
        after_step: Callable[[], None] = lambda: None,
        after_epoch: Callable[[], None] = lambda: None,
        shares_memory: bool = True,
    ) -> None:
        settings = self._settings = config.train
        self._corpus, self._checkpoints = corpus, checkpoints
        self._host: Host = host or SilentHost()
        self._after_step, self._after_epoch = after_step, after_epoch
        self._precision = choose_precision(settings.precision, device)

        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        torch.manual_seed(settings.seed)
        directory = ModelDirectory.new(config, corpus.source, corpus.target)
        if start is not None:
            directory.model.load_weights(start.model.named_weights())
        self.model = directory.model.to(device)
        objective = TrainingLoss(self.model, settings.label_smoothing)
        parallel = DataParallel(objective, settings, shares_memory=shares_memory)
        self._parallel, is_first = parallel, parallel.rank == 0
        self.batches, self._valid_batches = all_or_raise(
            lambda: tuple(
                _make_batches(corpus, split, settings, parallel) for split in ("train", "valid")
            )
        )
        self._state = TrainingState(
            directory,
            make_optimizer(self.model, settings.learning_rate, device),
            self._precision.scaler(),
            _conditions(corpus, settings, self._precision, self.batches),
        )
        self._resume()
        self._watch = watch or Watch(samples=0)
        self._translations = ValidTranslations(corpus, directory, self._host.log)
        self.stepper = make_stepper(config, self._state, parallel, self._precision)

        self._tracker = all_or_raise(
            lambda: make_tracker(self._cursor.steps) if is_first else Trackers(())
        )
        self._signals = RunSignals(settings, parallel.rank, self._cursor.steps)
        self._guard = LossGuard(
            folder / "bad-batch.json", corpus.split("train"), len(corpus.target), dumps=is_first
        )
        reports_to = self._host if is_first else SilentHost()
        self._log = StepLog(
            settings, self._state, self._signals, self._guard, self._tracker, reports_to
        )

    @property
    def steps_done(self) -> int:
        """Steps of the run whose results are known."""
        return self._log.steps_read

    @property
    def _cursor(self) -> Cursor:
        return self._state.cursor

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

    def run(self) -> TrainingResult:
        """Train to the end, or until a host requests to stop.

        Raises:
            Failed: the loss exploded, or the last checkpoint could not be written.
            RuntimeError: among other things, the memory is full (`is_out_of_memory`).
        """
        return exhaust(self.epochs())

    def epochs(self) -> Generator[RunMetrics, None, TrainingResult]:
        """Train as `run`, and yield the metrics of the run so far after each epoch.

        A generator that is closed after an epoch leaves a run that can be resumed.
        """
        self._host.log(_describe_setup(self._precision, self._parallel))
        finished = False
        try:
            while not (self._has_ended or self._signals.stop) and self._train_epoch():
                self._end_epoch()
                self._after_epoch()
                yield self._state.metrics
            if (reason := self._checkpoints.wait()) is not None:
                raise Failed(
                    f"the last checkpoint could not be written ({reason}); "
                    "run the same command again to resume from the one before"
                )
            finished = self._has_ended
        finally:
            self._tracker.close(finished)
        # Not after an error: the host is to hear of it from this worker, before all others fail.
        self._parallel.close()
        return TrainingResult(self._state.metrics, None if finished else self._cursor.steps)

    @property
    def _has_ended(self) -> bool:
        settings, epoch = self._settings, self._cursor.epoch
        return epoch > settings.epochs or stops_early(settings, self._state.valid_losses)

    def _train_epoch(self) -> bool:
        """Do the remaining steps of an epoch; return False if the run is to stop within it."""
        cursor, log, signals = self._cursor, self._log, self._signals
        steps = self.batches.steps_per_epoch(cursor.epoch)
        batches = self.stepper.global_batches(self.batches, cursor.epoch, cursor.step)
        self.model.train()
        log.start_clock()
        while cursor.step < steps:
            batch = self._fetch(batches)
            rate = self._learning_rate(steps)
            requests = signals.of_step(self._host.signals())
            log.add(self.stepper.step(batch, cursor.steps + 1, rate, requests))
            cursor.step += 1
            cursor.steps += 1
            log.count_time()
            self._after_step()
            # Results are read when the next step has been started: a GPU never waits for the CPU.
            log.read(steps, unread=self.stepper.lag if cursor.step < steps else 0)
            if cursor.step < steps and signals.wants_checkpoint(cursor.steps):
                log.read(steps)
                log.count_time()
                self._save()
                log.start_clock()
                if signals.stop:
                    return False
        log.count_time()
        return True

    def _fetch(self, batches: Iterator[GlobalBatch]) -> GlobalBatch:
        """Return the next batch, and count the time that it takes."""
        begin = time.perf_counter()
        batch = next(batches)
        self._log.window.wait_seconds += time.perf_counter() - begin
        return batch

    def _learning_rate(self, steps: int) -> float:
        """Return the learning rate of the next step, in an epoch of so many."""
        cursor, settings = self._cursor, self._settings
        fraction = (cursor.epoch - 1 + cursor.step / steps) / settings.epochs
        return learning_rate(settings, cursor.steps + 1, fraction, self._state.valid_losses)

    def _end_epoch(self) -> None:
        """Validate, record the epoch, and begin to write a checkpoint."""
        begin = time.perf_counter()
        sums = validate(self.model, self._valid_batches)
        scores = self._score_translations(self._cursor.epoch)
        seconds, longest = time.perf_counter() - begin, self._corpus.manifest.longest["target"]
        record = _epoch_record(self._cursor, self.batches, sums, longest, seconds, scores)
        self._guard.check_valid(record.valid_loss, record.steps, record.epoch)
        self._state.epochs.append(record)
        self._state.cursor = Cursor(epoch=record.epoch + 1, steps=record.steps)
        self._save(record)
        self._tracker.log(record.steps, epoch_values(record))
        self._host.report_epoch(self._state.metrics)
        if self._parallel.rank == 0 and self._watch.samples:
            self._record_samples(record)

    def _score_translations(self, epoch: int) -> TranslationScores:
        """Return scores on `valid` after an epoch whose translations are to be scored."""
        every = self._watch.bleu_every
        if every is None or epoch % every:
            return TranslationScores()
        # The first worker translates while the others wait.
        return broadcast_decision(self._translations.scores)

    def _record_samples(self, record: EpochRecord) -> None:
        """Translate the samples, for the trackers and if wanted for the user."""
        samples = self._translations.samples(self._watch.samples)
        if isinstance(self._tracker, SampleTracker):
            self._tracker.log_samples(record.steps, samples)
        if self._watch.print_samples:
            self._host.log(describe_samples(samples))

    def _save(self, ended: EpochRecord | None = None) -> None:
        """Copy the state and begin to write it as a checkpoint.

        Within an epoch, a requested checkpoint is waited for: the host may end this worker next.

        Args:
            ended: the record of the epoch that has just ended, if one has.
        """
        begin, cursor = time.perf_counter(), self._cursor
        if self._parallel.rank == 0:
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


def _make_batches(
    corpus: Corpus, split: str, settings: TrainConfig, parallel: DataParallel
) -> Batches:
    """Return this worker's batches of a split."""
    return Batches(
        corpus.split(split),
        settings.batch_size,
        settings.seed,
        parallel.rank,
        parallel.world_size,
        batch_tokens=settings.batch_tokens,
        accumulate=settings.accumulate if split == "train" else 1,
    )


def _conditions(
    corpus: Corpus, settings: TrainConfig, precision: Precision, batches: Batches
) -> RunMetrics:
    """Return the metrics of a run that are known before its first step."""
    return RunMetrics(
        epochs=(),
        best=None,
        workers=batches.world_size,
        device=precision.device.type,
        threads=torch.get_num_threads(),
        precision=precision.name,
        seed=settings.seed,
        corpus=TrainedOn(sources=corpus.manifest.sources, pairs=batches.pairs),
        versions={"s2s": __version__, "torch": str(torch.__version__)},
    )


def _describe_setup(precision: Precision, parallel: DataParallel) -> str:
    """Return a line with workers, threads, device and precision."""
    workers, threads = parallel.world_size, torch.get_num_threads()
    each = " each" if workers > 1 else ""
    return (
        f"{workers} worker{'s' * (workers > 1)} with {threads} thread{'s' * (threads > 1)}{each} "
        f"on {precision.device.type}, precision {precision.name} ({precision.reason})"
    )


def _epoch_record(
    cursor: Cursor,
    batches: Batches,
    valid: TokenSums,
    longest: int,
    valid_seconds: float,
    scores: TranslationScores,
) -> EpochRecord:
    """Return the record of an epoch.

    Args:
        batches: of `train`.
        valid: sums over `valid`.
        longest: length of the longest target in the corpus, in tokens.
        scores: of translations of `valid`, if they were scored.
    """
    return EpochRecord(
        epoch=cursor.epoch,
        steps=cursor.steps,
        train_loss=cursor.loss / batches.target_tokens,
        valid_loss=valid.mean_loss,
        valid_token_accuracy=valid.token_accuracy,
        valid_padded_accuracy=valid.padded_accuracy(longest),
        pairs_per_second=batches.pairs / cursor.seconds,
        target_tokens_per_second=batches.target_tokens / cursor.seconds,
        seconds=cursor.seconds,
        valid_seconds=valid_seconds,
        checkpoint_seconds=cursor.checkpoint_seconds,
        valid_bleu=scores.bleu,
        valid_chrf=scores.chrf,
    )
