"""Training and validation: torch and torch.distributed only.

The loop asks torch.distributed whether there are other workers; who started them (Ray, torchrun)
it does not know. Everything that it decides on is summed over all workers first.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from s2s import __version__
from s2s.batches import Batch, Batches
from s2s.bundle import Bundle
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.errors import BadInput, Failed
from s2s.loss import Sums, cross_entropy, totals
from s2s.text import PAD

STATE = "train_state.pt"


@dataclass(frozen=True)
class Epoch:
    """The record of one pass over the training part."""

    epoch: int  # from 1
    train_loss: float  # nats per real target token, while the weights were moving
    valid_loss: float  # nats per real target token
    valid_token_accuracy: float
    valid_padded_accuracy: float
    pairs_per_second: float  # of training, over all workers
    target_tokens_per_second: float  # of training, real tokens, over all workers
    seconds: float  # of training, first batch fetched to last optimizer step
    valid_seconds: float


@dataclass(frozen=True)
class Run:
    """A training run at the end of an epoch, which can be saved and gone on from."""

    bundle: Bundle
    optimizer: torch.optim.Optimizer
    epochs: list[Epoch]
    facts: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` says of the run."""
        best = min(self.epochs, key=lambda record: record.valid_loss)
        return {
            "epochs": [asdict(record) for record in self.epochs],
            "best": asdict(best),
            **self.facts,
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint: a model directory with `train_state.pt` in it."""
        self.bundle.save(path, self.metrics)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "epochs": [asdict(record) for record in self.epochs],
        }
        torch.save(state, path / STATE)

    def restore(self, path: Path) -> None:
        """Take over weights, optimizer and record of a checkpoint.

        Raises:
            BadInput: `path` holds no complete checkpoint.
        """
        saved = Bundle.load(path)
        try:
            # weights_only: a checkpoint can hold tensors and numbers, never code.
            state = torch.load(path / STATE, map_location="cpu", weights_only=True)
        except Exception as error:  # zip, pickle and OS errors alike mean a broken file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise BadInput(
                f"{path / STATE} cannot be loaded ({reason}); --restart begins anew"
            ) from None
        self.bundle.model.load_state_dict(saved.model.state_dict())
        self.optimizer.load_state_dict(state["optimizer"])
        self.epochs[:] = [Epoch(**record) for record in state["epochs"]]


def train(
    corpus: Corpus,
    config: Config,
    device: torch.device,
    on_epoch: Callable[[Run], None],
    on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    resume: Path | None = None,
) -> dict[str, Any]:
    """Train a model on a corpus, as one of the workers of the current process group, or alone.

    Args:
        on_epoch: called by every worker after every epoch.
        on_step: called after every step with the epoch, the step and the steps of the epoch.
        resume: checkpoint to go on from.

    Returns:
        What `metrics.json` says of the run.

    Raises:
        Failed: the loss is no number any more.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    settings = config.train

    def batches(part: str) -> Batches:
        return Batches(corpus.part(part), settings.batch_size, settings.seed, rank, world)

    train_batches, valid_batches = batches("train"), batches("valid")
    torch.manual_seed(settings.seed)
    bundle = Bundle.new(config, corpus.source, corpus.target)
    bundle.model.to(device)
    optimizer = torch.optim.Adam(bundle.model.parameters(), settings.learning_rate, fused=True)
    facts = {
        "workers": world,
        "device": device.type,
        "seed": settings.seed,
        "corpus": {"sources": corpus.manifest.sources, "pairs": train_batches.pairs},
        "versions": {"s2s": __version__, "torch": str(torch.__version__)},
    }
    run = Run(bundle, optimizer, [], facts)
    if resume is not None:
        run.restore(resume)
    # The wrapper, not the model, must be called: it meets the other workers in the backward pass.
    network: nn.Module = DistributedDataParallel(bundle.model) if world > 1 else bundle.model

    for epoch in range(len(run.epochs) + 1, settings.epochs + 1):
        start = time.perf_counter()
        bundle.model.train()
        summed = torch.zeros((), dtype=torch.float64, device=device)
        for step, (batch, tokens) in enumerate(train_batches.epoch(epoch), start=1):
            loss, _, _ = _forward(network, batch.to(device))
            optimizer.zero_grad()
            # DDP divides the summed gradient by the number of workers; this makes it the gradient
            # of the mean over the global batch's real tokens.
            (loss * (world / tokens)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            summed += loss.detach()
            on_step(epoch, step, len(train_batches))
        train_loss = _over_workers(summed).item() / train_batches.tokens
        seconds = time.perf_counter() - start
        valid = validate(bundle.model, valid_batches.epoch(0), device)
        run.epochs.append(
            Epoch(
                epoch=epoch,
                train_loss=train_loss,
                valid_loss=valid.mean_loss,
                valid_token_accuracy=valid.token_accuracy,
                valid_padded_accuracy=valid.padded_accuracy(corpus.manifest.longest["target"]),
                pairs_per_second=train_batches.pairs / seconds,
                target_tokens_per_second=train_batches.tokens / seconds,
                seconds=seconds,
                valid_seconds=time.perf_counter() - start - seconds,
            )
        )
        if not math.isfinite(train_loss + valid.mean_loss):
            raise Failed(
                f"the loss is no number any more in epoch {epoch} (train {train_loss}, valid "
                f"{valid.mean_loss}); a smaller --train.learning-rate may help"
            )
        on_epoch(run)
    return run.metrics


@torch.inference_mode()
def validate(model: nn.Module, batches: Iterator[tuple[Batch, int]], device: torch.device) -> Sums:
    """The sums of all workers' batches under teacher forcing."""
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    for batch, _ in batches:
        sums += totals(*_forward(model, batch.to(device)), batch.sentences)
    return Sums.of(_over_workers(sums))


def _forward(network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Summed loss of a batch, a scalar, with the logits (N, V) and targets (N,) it is of."""
    predicted = batch.target_out != PAD  # (B, T)
    targets = batch.target_out[predicted]  # (N,)
    logits = network(batch.source, batch.source_lengths, batch.target_in, predicted)  # (N, V)
    return cross_entropy(logits, targets), logits, targets


def _over_workers(sums: torch.Tensor) -> torch.Tensor:
    if dist.is_initialized():
        dist.all_reduce(sums)
    return sums
