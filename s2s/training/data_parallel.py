"""What the workers of a run share in every step: gradients, and a few numbers.

Dense gradients go through torch's DistributedDataParallel. Those of the embeddings are zero but for
the words that the global batch reads, and every worker knows these without asking, since batches
depend on nothing but seed, epoch and position: only their rows are summed, in one exchange with the
numbers. Alone, a worker exchanges nothing.

Shapes: E embedding size, W different words of a global batch.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from s2s.config import TrainConfig
from s2s.corpus.batches import GlobalBatch
from s2s.model.loss import TrainingLoss

# Megabytes of gradients that are sent at once. A model of the sizes that LSTMs have fits into a few
# of these; small buckets cost a latency each (measured: docs/scaling.md).
BUCKET_MB = 25


class Workers:
    """The worker that runs here, among all those of the process group."""

    def __init__(self, objective: TrainingLoss, settings: TrainConfig) -> None:
        self.rank, self.world = 0, 1
        self.network: nn.Module = objective
        model = objective.model
        embeddings = {
            "source_ids": model.encoder.embedding.weight,
            "target_ids": model.decoder.embedding.weight,
        }
        # One that is also the output layer's has a dense gradient, which DDP takes.
        self._embeddings: dict[str, Tensor] = {
            words: weight
            for words, weight in embeddings.items()
            if weight is not model.decoder.output.weight
        }
        if not dist.is_initialized():
            return
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        if self.world == 1:
            return
        ours = {id(weight) for weight in self._embeddings.values()}
        ignored = [n for n, weight in objective.named_parameters() if id(weight) in ours]
        # Buffers are constants: DDP would send them in every step.
        ignored += [name for name, _ in objective.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
            objective, ignored
        )
        self.network = DistributedDataParallel(
            objective,
            bucket_cap_mb=BUCKET_MB,
            gradient_as_bucket_view=True,  # no copy between gradients and what is sent
            # A first backward pass that sends nothing is more than a static graph can bear.
            static_graph=settings.accumulate == 1,
        )
        if settings.compress_gradients:
            self.network.register_comm_hook(self.world, _in_bf16)

    def adding(self, *, last: bool) -> AbstractContextManager[None]:
        """The context of a backward pass; before the last one of a step nothing is sent."""
        if last or self.world == 1:
            return nullcontext()
        waiting: AbstractContextManager[None] = self.network.no_sync()  # type: ignore[operator]
        return waiting

    def exchange(self, step: GlobalBatch, numbers: Tensor) -> Tensor:
        """Sum the numbers of all workers, and the gradients that DDP has left to us.

        Args:
            numbers: (any,) float32, on the device of the model.

        Returns:
            The summed numbers.
        """
        if self.world == 1:
            return numbers
        words = [getattr(step, name).to(numbers.device) for name in self._embeddings]
        gradients = [weight.grad for weight in self._embeddings.values() if weight.grad is not None]
        rows = [grad[read] for grad, read in zip(gradients, words, strict=True)]  # (W, E)
        flat = torch.cat([numbers, *(part.flatten() for part in rows)])
        dist.all_reduce(flat)
        numbers, *sums = torch.split(flat, [len(numbers), *(part.numel() for part in rows)])
        for gradient, read, total in zip(gradients, words, sums, strict=True):
            # DDP divides what it sums by the number of workers, so these are, too.
            gradient[read] = total.view(len(read), -1) / self.world
        return numbers


def _in_bf16(world: int, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients over all workers, sent as bf16 (torch's own: NCCL alone)."""
    whole = bucket.buffer()
    half = whole.to(torch.bfloat16).div_(world)
    sent = dist.all_reduce(half, async_op=True).get_future()
    done: torch.futures.Future[Tensor] = sent.then(lambda f: whole.copy_(f.value()[0]))
    return done
