"""Data parallelism: the sums over all workers in every step, of gradients and of a few scalars.

Dense gradients go through torch's DistributedDataParallel. The gradient of an embedding is zero
except in the rows of the tokens that the global batch reads. Every worker knows these tokens, since
batches depend on seed, epoch and position alone, so only these rows are summed, in one all-reduce
with the scalars. A single worker exchanges nothing.

Shapes: E embedding size, W unique tokens of a global batch.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from s2s.config import TrainConfig
from s2s.corpus.batches import GlobalBatch
from s2s.model.loss import TrainingLoss

# Megabytes of gradients in one message. Models of the usual LSTM sizes fit into a few of them, and
# every bucket costs a latency (measured: docs/scaling.md).
BUCKET_MB = 25


class DataParallel:
    """A worker's model among those of all workers in the process group.

    Attributes:
        rank: of the worker, from 0.
        world_size: number of workers.
        network: the objective, wrapped so that its backward pass sums dense gradients.
    """

    def __init__(self, objective: TrainingLoss, settings: TrainConfig) -> None:
        self.rank, self.world_size = 0, 1
        self.network: nn.Module = objective
        model = objective.model
        embeddings = {
            "source_ids": model.encoder.embedding.weight,
            "target_ids": model.decoder.embedding.weight,
        }
        # A matrix shared with the output layer has a dense gradient, which is left to DDP.
        dense = {id(weight) for weight in model.decoder.output.parameters()}
        self._embeddings: dict[str, Tensor] = {
            ids: weight for ids, weight in embeddings.items() if id(weight) not in dense
        }
        if not dist.is_initialized():
            return
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        if self.world_size == 1:
            return
        ours = {id(weight) for weight in self._embeddings.values()}
        ignored = [n for n, weight in objective.named_parameters() if id(weight) in ours]
        # Buffers are constants, which DDP would broadcast in every step.
        ignored += [name for name, _ in objective.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
            objective, ignored
        )
        self.network = DistributedDataParallel(
            objective,
            bucket_cap_mb=BUCKET_MB,
            gradient_as_bucket_view=True,  # no copy between gradients and buckets
            # DDP's static graph does not support a first backward pass under no_sync.
            static_graph=settings.accumulate == 1,
        )
        if settings.compress_gradients:
            self.network.register_comm_hook(self.world_size, _average_in_bf16)

    def no_sync(self, *, last: bool) -> AbstractContextManager[None]:
        """Return a context for a backward pass: only the last one of a step sums gradients."""
        if last or self.world_size == 1:
            return nullcontext()
        no_sync: AbstractContextManager[None] = self.network.no_sync()  # type: ignore[operator]
        return no_sync

    def all_reduce(self, batch: GlobalBatch, scalars: Tensor) -> Tensor:
        """Sum scalars over all workers, and average the embedding gradients that DDP leaves out.

        Args:
            batch: the global batch of the step.
            scalars: (any,) float32, on the device of the model.

        Returns:
            The summed scalars, of the same shape.
        """
        if self.world_size == 1:
            return scalars
        ids = [getattr(batch, name).to(scalars.device) for name in self._embeddings]
        gradients = [weight.grad for weight in self._embeddings.values() if weight.grad is not None]
        rows = [grad[read] for grad, read in zip(gradients, ids, strict=True)]  # (W, E)
        flat = torch.cat([scalars, *(part.flatten() for part in rows)])
        dist.all_reduce(flat)
        scalars, *sums = torch.split(flat, [len(scalars), *(part.numel() for part in rows)])
        for gradient, read, total in zip(gradients, ids, sums, strict=True):
            # DDP divides the gradients that it sums by the number of workers: do the same here.
            gradient[read] = total.view(len(read), -1) / self.world_size
        return scalars


def _average_in_bf16(world_size: int, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients over all workers in bf16 (torch's own hook needs NCCL)."""
    full = bucket.buffer()
    half = full.to(torch.bfloat16).div_(world_size)
    reduced = dist.all_reduce(half, async_op=True).get_future()
    done: torch.futures.Future[Tensor] = reduced.then(lambda f: full.copy_(f.value()[0]))
    return done
