"""`s2s train`."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2s.cli.config_file import config_text
from s2s.cli.verb import Verb
from s2s.config import DecodeConfig, ModelConfig, TrainConfig
from s2s.errors import BadInput
from s2s.locations import Location
from s2s.provenance import Invocation

if TYPE_CHECKING:
    from s2s.training.train import Plan


@dataclass(frozen=True)
class Train(Verb):
    """Train a model on a corpus directory, in this process or on Ray."""

    corpus: Location
    """Corpus directory to train on, at a path or URI."""

    out: Location
    """Model directory to create, at a path or URI. Checkpoints are next to it, in OUT.run."""

    model: ModelConfig
    train: TrainConfig
    decode: DecodeConfig

    workers: str | None = None
    """Ray workers that share each batch: a number, or MIN:MAX to grow and shrink with the cluster.
    Without it, and without a cluster at RAY_ADDRESS, this process trains alone."""

    resize: float = 30.0
    """Seconds between two checks whether an elastic run can grow. Growing restarts all workers from
    a checkpoint."""

    cpus: int | None = None
    """Threads to compute with: of each Ray worker, which gets as many CPUs (1 by default), or of
    this process (all of its CPUs by default)."""

    gpu: bool = False
    """Give each Ray worker a GPU. This process takes one by itself if there is one, and with this
    flag fails if there is none."""

    init_from: Location | None = None
    """Model directory, at a path or URI, whose weights to start from. Its model settings apply, and
    the corpus must have been prepared with its vocabularies."""

    checkpoints: str | None = None
    """Folder or URI (of an object store, say) for the checkpoints, instead of OUT.run."""

    track: tuple[str, ...] = ("tensorboard",)
    """Trackers that record the run, besides OUT.run/metrics.jsonl: tensorboard; wandb or
    wandb:PROJECT; mlflow:URI (mlflow alone uses MLFLOW_TRACKING_URI); or your own class as
    package.module:Class. Give several after one --track; with none after it, all are off."""

    samples: int = 4
    """Sentences of `valid` to translate after each epoch, for the trackers and
    OUT.run/samples.jsonl."""

    print_samples: bool = False
    """Print these translations, too."""

    bleu_every: int | None = None
    """Score greedy translations of all of `valid` with BLEU after every so many epochs. Training
    waits for it. None scores the finished model only."""

    profile: bool = False
    """Profile some steps and print where their time goes; the trace is in OUT.run/profile."""

    restart: bool = False
    """Start over: discard the checkpoints of an earlier run, and replace OUT if it exists."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the workers."""

    def plan(self) -> "Plan":
        """Return the plan of the run.

        Raises:
            BadInput: as `Plan.of`.
        """
        from s2s.training.run import TrainOptions, Watch
        from s2s.training.train import Plan

        if self.cpus is not None and self.cpus < 1:
            raise BadInput(f"--cpus {self.cpus}: at least 1 is needed")
        options = TrainOptions(
            init_from=self.init_from,
            checkpoints=self.checkpoints,
            watch=Watch(self.track, self.samples, self.print_samples, self.bleu_every),
            profile=self.profile,
            restart=self.restart,
        )
        invocation = Invocation(config_text(self))
        return Plan.of(
            self.corpus, self.out, self.model, self.train, self.decode, options, invocation
        )

    def run(self) -> None:
        """Train and write the model directory."""
        import torch

        from s2s.training.train import train_in_process

        plan = self.plan()
        if self.workers is None and not os.environ.get("RAY_ADDRESS"):
            if self.gpu and not torch.cuda.is_available():
                raise BadInput("--gpu: torch sees no GPU here")
            train_in_process(plan, "auto", self.cpus)
            return
        from s2s.distributed.cluster import WorkerResources, parse_workers
        from s2s.distributed.train import train_on_ray

        cpus = 1 if self.cpus is None else self.cpus
        workers = WorkerResources(
            *parse_workers(self.workers or "1", cpus),
            cpus=cpus,
            gpu=self.gpu,
            wait=self.wait,
            resize=self.resize,
        )
        train_on_ray(plan, workers)
