"""An optimizer step, on a CPU and on a GPU: forward, backward, all-reduce, update.

A step of a small model is too short for a GPU to start it kernel by kernel. A single worker records
the whole step as a CUDA graph for each shape of batch, and its batches are collated on the GPU
(`s2s.training.device_batches`): a step is then one small copy and one launch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from s2s.config import Config
from s2s.corpus.batches import (
    BATCHES_PER_POOL,
    Batch,
    Batches,
    GlobalBatch,
    LocalBatch,
    prefetch,
)
from s2s.gpu.graphs import GraphCache
from s2s.training.data_parallel import DataParallel
from s2s.training.device_batches import BatchShape, DeviceBatch, DeviceCorpus
from s2s.training.precision import Precision
from s2s.training.signals import StepSignals
from s2s.training.state import TrainingState


class StepResult(NamedTuple):
    """The result of a step."""

    loss: float  # nats, summed over the global batch
    signals: StepSignals  # of any worker
    gradient_norm: float  # before clipping; 0 if gradients are not clipped


@dataclass(frozen=True)
class PendingStep:
    """A step that has been started, and whose result is on its way to the CPU."""

    batch: GlobalBatch
    learning_rate: float
    scalars: Tensor  # (5,) float32, on the CPU: loss, stop, save, due, norm of the gradient
    ready: torch.cuda.Event | None = None  # of the copy to the CPU, if that is asynchronous

    def read(self) -> StepResult:
        """Wait for the result and return it."""
        if self.ready is not None:
            self.ready.synchronize()
        loss, stop, save, due, norm = self.scalars.tolist()
        return StepResult(loss, StepSignals(stop > 0, save > 0, due > 0), norm)


class Stepper(Protocol):
    """The optimizer steps of a run on one kind of device."""

    lag: int
    """Steps to start before the result of one is read."""

    def global_batches(self, batches: Batches, epoch: int, skip: int) -> Iterator[GlobalBatch]:
        """Yield the global batches of an epoch, without the first `skip`."""

    def step(
        self, batch: GlobalBatch, number: int, learning_rate: float, signals: StepSignals
    ) -> PendingStep:
        """Do one optimizer step.

        Args:
            batch: from `global_batches`.
            number: of the step in the run, from 1.
            signals: of this worker.
        """


def make_stepper(
    config: Config, state: TrainingState, parallel: DataParallel, precision: Precision
) -> Stepper:
    """Return the stepper for the device of a precision."""
    kind = GpuStepper if precision.device.type == "cuda" else CpuStepper
    return kind(config, state, parallel, precision)


def make_optimizer(
    model: torch.nn.Module, learning_rate: float, device: torch.device
) -> torch.optim.Adam:
    """Return fused Adam; on a GPU with its learning rate in GPU memory, where a graph reads it."""
    if device.type != "cuda":
        return torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    on_device = torch.tensor(learning_rate, device=device)
    adam = torch.optim.Adam(model.parameters(), on_device, fused=True, capturable=True)
    # The first step of each shape runs without a graph on purpose: do not warn about it.
    adam._warned_capturable_if_run_uncaptured = True
    return adam


class _BaseStepper:
    def __init__(
        self, config: Config, state: TrainingState, parallel: DataParallel, precision: Precision
    ) -> None:
        self._settings, self._state, self._parallel = config.train, state, parallel
        self._precision, self._device = precision, precision.device
        self._has_dropout = config.model.dropout > 0 or config.model.word_dropout > 0

    def _seed(self, number: int) -> int:
        """Return the seed of a step: with one for each, there is no random state to save."""
        key = np.random.SeedSequence((self._settings.seed, number, self._parallel.rank))
        return int(key.generate_state(1, np.uint64)[0])

    def _loss_scale(self, batch: GlobalBatch) -> float:
        """Return the factor that makes summed losses the mean over the global batch's real tokens.

        DDP divides the summed gradients by the number of workers; the factor makes up for that.
        """
        return self._parallel.divisor / batch.tokens

    def _backward(self, batch: Batch, scale: float | Tensor, *, last: bool) -> Tensor:
        """Accumulate the gradients of a micro-batch, whose loss is multiplied by `scale`.

        Args:
            last: whether the micro-batch is the last of its step.

        Returns:
            The loss (1,), in nats.
        """
        with self._parallel.no_sync(last=last):
            with record_function("s2s forward"), self._precision.autocast():
                loss: Tensor = self._parallel.network(batch)
            with record_function("s2s backward"):
                self._state.scaler.scale(loss * scale).backward()  # type: ignore[no-untyped-call]
        return loss.detach()[None]

    def _update(self, scalars: Tensor) -> Tensor:
        """Update the weights.

        Args:
            scalars: (4,) loss, stop, save and due.

        Returns:
            The scalars with the norm of the gradient, (5,).
        """
        with record_function("s2s optimizer"):
            state, norm = self._state, scalars.new_zeros(1)
            if self._settings.clip_norm is not None:
                state.scaler.unscale_(state.optimizer)
                parameters = state.directory.model.parameters()
                norm = torch.nn.utils.clip_grad_norm_(
                    parameters, self._settings.clip_norm, foreach=True
                )[None]
            state.scaler.step(state.optimizer)
            state.scaler.update()
            return torch.cat([scalars, norm.to(scalars)])


class CpuStepper(_BaseStepper):
    """Steps on a CPU, whose results are there at once."""

    lag = 0

    def global_batches(self, batches: Batches, epoch: int, skip: int) -> Iterator[GlobalBatch]:
        """Yield the batches of an epoch; a CPU has no core to spare to prefetch (docs/log.md)."""
        return batches.epoch(epoch, skip)

    def step(
        self, batch: GlobalBatch, number: int, learning_rate: float, signals: StepSignals
    ) -> PendingStep:
        """Do one optimizer step."""
        assert isinstance(batch, LocalBatch)  # noqa: S101
        torch.manual_seed(self._seed(number))
        for group in self._state.optimizer.param_groups:
            group["lr"] = learning_rate
        self._state.optimizer.zero_grad()
        loss = torch.zeros(1)
        last = len(batch.micro_batches) - 1
        for index, micro_batch in enumerate(batch.micro_batches):
            loss += self._backward(micro_batch, self._loss_scale(batch), last=index == last)
        with record_function("s2s exchange"):
            scalars = torch.cat([loss, torch.tensor(signals).float()])
            scalars = self._parallel.all_reduce(batch, scalars)
        return PendingStep(batch, learning_rate, self._update(scalars))


class GpuStepper(_BaseStepper):
    """Steps on a GPU, whose results are read one step later so that the GPU never waits."""

    lag = 1

    def __init__(
        self, config: Config, state: TrainingState, parallel: DataParallel, precision: Precision
    ) -> None:
        super().__init__(config, state, parallel, precision)
        self._corpus = DeviceCorpus(self._device)
        self._results = torch.zeros(5, device=self._device)
        # Not recorded are: an all-reduce in the middle of a step; micro-batches, whose models are
        # so large that launching kernels does not matter; packed sequences, whose lengths the CPU
        # must know; an adaptive output layer, whose clusters have any number of targets.
        alone = parallel.world_size == 1 and config.train.accumulate == 1
        fixed = config.model.cell != "rnn" and config.model.output == "full"
        recorded = alone and fixed
        # A scaler that was interrupted in the middle of a step cannot repeat it.
        retry = not state.scaler.is_enabled()
        self._graphs = GraphCache(self._device, retry=retry) if recorded else None

    def global_batches(self, batches: Batches, epoch: int, skip: int) -> Iterator[GlobalBatch]:
        """Yield the batches of an epoch, which a thread prepares in advance."""
        if self._corpus.cache_tokens(batches) and self._graphs is not None:
            self._graphs.clear()
        prepared = self._corpus.global_batches(batches, epoch, skip)
        # A whole pool ahead, so that the next pool is there when it begins.
        return prefetch(prepared, BATCHES_PER_POOL)

    def step(
        self, batch: GlobalBatch, number: int, learning_rate: float, signals: StepSignals
    ) -> PendingStep:
        """Start one optimizer step; the GPU finishes it later."""
        assert isinstance(batch, DeviceBatch)  # noqa: S101
        if self._has_dropout:
            # Seeds this GPU alone: torch.manual_seed takes half as long as a step.
            index = torch.cuda.current_device()
            torch.cuda.default_generators[index].manual_seed(self._seed(number))
        if self._corpus.load_pool(batch.pool) and self._graphs is not None:
            self._graphs.clear()
        scalars = (self._loss_scale(batch), learning_rate, *signals)
        if self._graphs is not None:
            [micro_batch] = batch.micro_batches
            self._corpus.select(micro_batch, *scalars)
            with record_function("s2s recorded step"):
                shape = micro_batch.shape
                self._graphs.run(shape, lambda: self._step_on_device(shape))
        else:
            self._step_eagerly(batch, scalars)
        results = self._results.to("cpu", non_blocking=True, copy=True)
        ready = None
        if self._device.type == "cuda":
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
        return PendingStep(batch, learning_rate, results, ready)

    def _step_on_device(self, shape: BatchShape) -> None:
        """Do a step on the selected micro-batch without any number from the CPU: recordable."""
        batch = self._corpus.batch(shape)
        scale, learning_rate, *_ = scalars = self._corpus.scalars
        self._reset_optimizer(learning_rate)
        loss = self._backward(batch, scale, last=True)
        self._results.copy_(self._update(torch.cat([loss, scalars[2:]])))

    def _step_eagerly(self, batch: DeviceBatch, scalars: tuple[float, ...]) -> None:
        """Do a step kernel by kernel: micro-batch by micro-batch, then with the other workers."""
        losses: list[Tensor] = []
        last = len(batch.micro_batches) - 1
        for index, micro_batch in enumerate(batch.micro_batches):
            self._corpus.select(micro_batch, *scalars)
            scale, learning_rate, *_ = on_device = self._corpus.scalars
            if index == 0:
                self._reset_optimizer(learning_rate)
            padded = self._corpus.batch(micro_batch.shape, micro_batch.stride)
            losses.append(self._backward(padded, scale, last=index == last))
        with record_function("s2s exchange"):
            loss = torch.stack(losses).sum(0)
            summed = self._parallel.all_reduce(batch, torch.cat([loss, on_device[2:]]))
        self._results.copy_(self._update(summed))

    def _reset_optimizer(self, learning_rate: Tensor) -> None:
        """Clear the gradients and set the learning rate."""
        self._state.optimizer.zero_grad()
        for group in self._state.optimizer.param_groups:
            group["lr"].copy_(learning_rate)
