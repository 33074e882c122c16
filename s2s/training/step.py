"""An optimizer step, on a CPU and on a GPU: forward, backward, exchange, update.

On a GPU a step of a small model is far too short to be started kernel by kernel. A worker that is
alone records the whole step as a CUDA graph for each shape of batch, and its batches are put
together on the card (`s2s.training.card`): then a step is one small copy and one start.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from s2s.config import Config
from s2s.corpus.batches import Batch, Batches, GlobalBatch, LocalBatch, prefetch
from s2s.gpu.graphs import GraphCache
from s2s.training.card import Card, DeviceBatch, Shape
from s2s.training.data_parallel import Workers
from s2s.training.precision import Precision
from s2s.training.state import State

# Steps that are prepared ahead for a GPU: as many as a pool has, so that the next one is there.
_AHEAD = 20


class Numbers(NamedTuple):
    """What a step says of itself, summed over all workers but for the norm."""

    loss: float  # nats
    stop: float  # workers that were asked to stop
    save: float  # workers that were asked to save
    due: float  # workers that find that it is time for a checkpoint
    norm: float  # of the gradient, where it is clipped; else 0


@dataclass(frozen=True)
class Reading:
    """The numbers of a step, on their way to the CPU."""

    step: GlobalBatch
    rate: float
    values: Tensor  # (5,) float32, on the CPU
    ready: torch.cuda.Event | None = None

    def read(self) -> Numbers:
        """The numbers, waited for."""
        if self.ready is not None:
            self.ready.synchronize()
        return Numbers(*self.values.tolist())


class Stepper(Protocol):
    """Whatever takes the steps of a run."""

    lag: int
    """Steps that are taken before the numbers of one are looked at."""

    def steps(self, batches: Batches, epoch: int, skip: int) -> Iterator[GlobalBatch]:
        """The steps of an epoch, without the first `skip`."""

    def take(
        self, step: GlobalBatch, number: int, rate: float, wishes: tuple[bool, ...]
    ) -> Reading:
        """Take one of these steps.

        Args:
            number: of the step in the run, from 1.
            rate: learning rate.
            wishes: what this worker says to `stop`, `save` and `due` of the numbers.
        """


def stepper(config: Config, state: State, workers: Workers, precision: Precision) -> Stepper:
    """What takes the steps on a device."""
    kind = OnCard if precision.device.type == "cuda" else OnCpu
    return kind(config, state, workers, precision)


def optimizer(model: torch.nn.Module, rate: float, device: torch.device) -> torch.optim.Adam:
    """Adam in one kernel; on a GPU its learning rate is on the card, where a graph reads it."""
    if device.type != "cuda":
        return torch.optim.Adam(model.parameters(), rate, fused=True)
    first = torch.tensor(rate, device=device)
    adam = torch.optim.Adam(model.parameters(), first, fused=True, capturable=True)
    # The first step of each shape is not recorded: no reason for a warning.
    adam._warned_capturable_if_run_uncaptured = True
    return adam


class _Stepper:
    def __init__(
        self, config: Config, state: State, workers: Workers, precision: Precision
    ) -> None:
        self._settings, self._state, self._workers = config.train, state, workers
        self._precision, self._device = precision, precision.device
        self._random = config.model.dropout > 0 or config.model.word_dropout > 0

    def _seed(self, number: int) -> int:
        """Random numbers depend on where the run stands, so there is no stream of them to save."""
        key = np.random.SeedSequence((self._settings.seed, number, self._workers.rank))
        return int(key.generate_state(1, np.uint64)[0])

    def _gradients(self, batch: Batch, scale: float | Tensor, *, last: bool) -> Tensor:
        """Add the gradients of a share, its loss times `scale`; returns the loss (1,), in nats."""
        with self._workers.adding(last=last):
            with record_function("s2s forward"), self._precision.autocast():
                loss: Tensor = self._workers.network(batch)
            with record_function("s2s backward"):
                self._state.scaler.scale(loss * scale).backward()  # type: ignore[no-untyped-call]
        return loss.detach()[None]

    def _scale(self, step: GlobalBatch) -> float:
        """DDP divides the summed gradient by the number of workers.

        The scale makes it that of the mean over the global batch's real tokens.
        """
        return self._workers.world / step.tokens

    def _update(self, numbers: Tensor) -> Tensor:
        """Update the weights; returns the numbers (4,) with the norm of the gradient, (5,)."""
        with record_function("s2s optimizer"):
            state, norm = self._state, numbers.new_zeros(1)
            if self._settings.clip_norm is not None:
                state.scaler.unscale_(state.optimizer)
                parameters = state.directory.model.parameters()
                norm = torch.nn.utils.clip_grad_norm_(
                    parameters, self._settings.clip_norm, foreach=True
                )[None]
            state.scaler.step(state.optimizer)
            state.scaler.update()
            return torch.cat([numbers, norm.to(numbers)])


class OnCpu(_Stepper):
    """Takes steps on a CPU, whose numbers are there at once."""

    lag = 0

    def steps(self, batches: Batches, epoch: int, skip: int) -> Iterator[GlobalBatch]:
        """The steps of an epoch; a CPU has no core to spare for making them ahead (docs/log.md)."""
        return batches.epoch(epoch, skip)

    def take(
        self, step: GlobalBatch, number: int, rate: float, wishes: tuple[bool, ...]
    ) -> Reading:
        """Take a step."""
        assert isinstance(step, LocalBatch)  # noqa: S101
        torch.manual_seed(self._seed(number))
        for group in self._state.optimizer.param_groups:
            group["lr"] = rate
        self._state.optimizer.zero_grad()
        loss = torch.zeros(1)
        for left, batch in zip(
            range(len(step.micro_batches))[::-1], step.micro_batches, strict=True
        ):
            loss += self._gradients(batch, self._scale(step), last=left == 0)
        with record_function("s2s exchange"):
            numbers = self._workers.exchange(step, torch.cat([loss, torch.tensor(wishes).float()]))
        return Reading(step, rate, self._update(numbers))


class OnCard(_Stepper):
    """Takes steps on a GPU, whose numbers are looked at a step later, so that it never waits."""

    lag = 1

    def __init__(
        self, config: Config, state: State, workers: Workers, precision: Precision
    ) -> None:
        super().__init__(config, state, workers, precision)
        self._card = Card(self._device)
        self._numbers = torch.zeros(5, device=self._device)
        # Several workers exchange in the middle of a step, several shares are for models so large
        # that starting kernels is no matter, and what is packed is not known before it is read.
        alone = workers.world == 1 and config.train.accumulate == 1
        recorded = alone and config.model.cell != "rnn"
        # A scaler that was in the middle of a step cannot begin it anew.
        retry = not state.scaler.is_enabled()
        self._graphs = GraphCache(self._device, retry=retry) if recorded else None

    def steps(self, batches: Batches, epoch: int, skip: int) -> Iterator[GlobalBatch]:
        """The steps of an epoch, made ahead by a thread of their own."""
        if self._card.hold(batches) and self._graphs is not None:
            self._graphs.clear()
        return prefetch(self._card.steps(batches, epoch, skip), _AHEAD)

    def take(
        self, step: GlobalBatch, number: int, rate: float, wishes: tuple[bool, ...]
    ) -> Reading:
        """Take a step; returns before the card has."""
        assert isinstance(step, DeviceBatch)  # noqa: S101
        if self._random:
            # Of the card alone: torch.manual_seed takes half as long as a step.
            index = torch.cuda.current_device()
            torch.cuda.default_generators[index].manual_seed(self._seed(number))
        if self._card.load(step.pool) and self._graphs is not None:
            self._graphs.clear()
        told = (self._scale(step), rate, *wishes)
        if self._graphs is not None:
            [share] = step.micro_batches
            self._card.point(share, *told)
            with record_function("s2s recorded step"):
                self._graphs.run(share.shape, lambda: self._work(share.shape))
        else:
            self._work_apart(step, told)
        values = self._numbers.to("cpu", non_blocking=True, copy=True)
        ready = None
        if self._device.type == "cuda":
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
        return Reading(step, rate, values, ready)

    def _work(self, shape: Shape) -> None:
        """Take a step on the current batch, without any number that the CPU must know."""
        batch = self._card.batch(shape)
        scale, rate, *_ = told = self._card.told
        self._begin(rate)
        loss = self._gradients(batch, scale, last=True)
        self._numbers.copy_(self._update(torch.cat([loss, told[2:]])))

    def _work_apart(self, step: DeviceBatch, told: tuple[float, ...]) -> None:
        """Take a step share by share, with other workers."""
        losses: list[Tensor] = []
        for left, share in zip(
            range(len(step.micro_batches))[::-1], step.micro_batches, strict=True
        ):
            self._card.point(share, *told)
            scale, rate, *_ = numbers = self._card.told
            if not losses:
                self._begin(rate)
            batch = self._card.batch(share.shape, share.stride)
            losses.append(self._gradients(batch, scale, last=left == 0))
        with record_function("s2s exchange"):
            loss = torch.stack(losses).sum(0)
            exchanged = self._workers.exchange(step, torch.cat([loss, numbers[2:]]))
        self._numbers.copy_(self._update(exchanged))

    def _begin(self, rate: Tensor) -> None:
        """Forget the gradients of the step before; set the learning rate."""
        self._state.optimizer.zero_grad()
        for group in self._state.optimizer.param_groups:
            group["lr"].copy_(rate)
