"""Data parallelism: the sums over all workers in every step, of gradients and of a few scalars.

The gradient of an embedding is zero except in the rows of the tokens that the global batch reads.
Every worker knows these tokens, since batches depend on seed, epoch and position alone, so only
these rows are summed. A single worker exchanges nothing.

Workers that are all on one host, and compute on its CPU, sum everything in shared memory after the
backward pass. Otherwise dense gradients go through torch's DistributedDataParallel during it, and
the rows and scalars in one all-reduce after it.

Shapes: E embedding size, W unique tokens of a global batch.
"""

from collections.abc import Container, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from s2s.config import TrainConfig
from s2s.corpus.batches import GlobalBatch
from s2s.model.loss import TrainingLoss
from s2s.shared_memory import SharedMemory, share_memory

# Megabytes of gradients in one message. Models of the usual LSTM sizes fit into a few of them, and
# every bucket costs a latency (measured: docs/scaling.md).
BUCKET_MB = 25

_MOST_SCALARS = 16  # of a step


class DataParallel:
    """A worker's model among those of all workers in the process group.

    Args:
        shares_memory: whether workers on one host may sum in shared memory.

    Attributes:
        rank: of the worker, from 0.
        world_size: number of workers.
        network: the objective, wrapped if its backward pass is to sum dense gradients.
        divisor: what summed gradients are divided by: by DDP, the number of workers.
    """

    def __init__(
        self, objective: TrainingLoss, settings: TrainConfig, *, shares_memory: bool = True
    ) -> None:
        self.rank, self.world_size, self.divisor = 0, 1, 1
        self.network: nn.Module = objective
        self._memory: SharedMemory | None = None
        model = objective.model
        embeddings = {
            "source_ids": model.encoder.embedding.weight,
            "target_ids": model.decoder.embedding.weight,
        }
        # A matrix shared with the output layer has a dense gradient.
        dense = {id(weight) for weight in model.decoder.output.parameters()}
        self._embeddings: dict[str, Tensor] = {
            ids: weight for ids, weight in embeddings.items() if id(weight) not in dense
        }
        ours = {id(weight) for weight in self._embeddings.values()}
        self._dense = [weight for weight in objective.parameters() if id(weight) not in ours]
        if not dist.is_initialized():
            return
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        if self.world_size == 1:
            return
        if shares_memory and model.device.type == "cpu":
            numbers = sum(weight.numel() for weight in objective.parameters())
            self._memory = share_memory(numbers + _MOST_SCALARS)
        if self._memory is None:
            self.divisor = self.world_size
            self.network = _distributed(objective, ours, settings)

    def no_sync(self, *, last: bool) -> AbstractContextManager[None]:
        """Return a context for a backward pass: only the last one of a step sums gradients."""
        if last or not isinstance(self.network, DistributedDataParallel):
            return nullcontext()
        no_sync: AbstractContextManager[None] = self.network.no_sync()
        return no_sync

    def all_reduce(self, batch: GlobalBatch, scalars: Tensor) -> Tensor:
        """Sum scalars, and the gradients that the backward pass has not summed, over all workers.

        Args:
            batch: the global batch of the step.
            scalars: (any,) float32, on the device of the model.

        Returns:
            The summed scalars, of the same shape.

        Raises:
            RuntimeError: another worker has ended or failed.
        """
        if self.world_size == 1:
            return scalars
        ids = [getattr(batch, name).to(scalars.device) for name in self._embeddings]
        gradients = _gradients(self._embeddings.values())
        rows = [gradient[read] for gradient, read in zip(gradients, ids, strict=True)]  # (W, E)
        if self._memory is not None:
            self._memory.all_reduce([scalars, *rows, *_gradients(self._dense)])
        else:
            scalars, *rows = _all_reduce([scalars, *rows])
        for gradient, read, total in zip(gradients, ids, rows, strict=True):
            gradient[read] = total if self.divisor == 1 else total / self.divisor
        return scalars

    def close(self) -> None:
        """Leave the shared memory, if there is any: workers that wait for this one get an error."""
        if self._memory is not None:
            self._memory.close()


def _gradients(weights: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradients of weights; all weights of a model have one."""
    return [weight.grad for weight in weights if weight.grad is not None]


def _all_reduce(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the sums of tensors over all workers, by one message."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def _distributed(
    objective: TrainingLoss, ignored: Container[int], settings: TrainConfig
) -> DistributedDataParallel:
    """Return the objective, wrapped so that its backward pass averages dense gradients.

    Args:
        ignored: ids of the weights whose gradients it leaves alone.
    """
    names = [name for name, weight in objective.named_parameters() if id(weight) in ignored]
    # Buffers are constants, which DDP would broadcast in every step.
    names += [name for name, _ in objective.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        objective, names
    )
    network = DistributedDataParallel(
        objective,
        bucket_cap_mb=BUCKET_MB,
        gradient_as_bucket_view=True,  # no copy between gradients and buckets
        # DDP's static graph does not support a first backward pass under no_sync.
        static_graph=settings.accumulate == 1,
    )
    if settings.compress_gradients:
        network.register_comm_hook(dist.get_world_size(), _average_in_bf16)
    return network


def _average_in_bf16(world_size: int, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients over all workers in bf16 (torch's own hook needs NCCL)."""
    full = bucket.buffer()
    half = full.to(torch.bfloat16).div_(world_size)
    reduced = dist.all_reduce(half, async_op=True).get_future()
    done: torch.futures.Future[Tensor] = reduced.then(lambda f: full.copy_(f.value()[0]))
    return done
