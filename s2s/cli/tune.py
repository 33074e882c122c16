"""`s2s tune`."""

from dataclasses import dataclass
from pathlib import Path

from s2s.cli.config_file import config_text
from s2s.cli.verb import Verb
from s2s.config import DecodeConfig, ModelConfig, TrainConfig
from s2s.provenance import Invocation


@dataclass(frozen=True)
class Tune(Verb):
    """Sweep hidden and embedding sizes on Ray Tune; OUT/best is the best model."""

    corpus: Path
    """Corpus directory to train on."""

    out: Path
    """Directory to create, with sweep.json and the model directory `best`."""

    model: ModelConfig
    train: TrainConfig
    decode: DecodeConfig

    hidden_sizes: tuple[int, ...] = (64, 128, 256)
    """Values of model.hidden_size to try."""

    embedding_sizes: tuple[int, ...] = (32, 64, 128)
    """Values of model.embedding_size to try."""

    trials: int = 4
    """Combinations to try, drawn without replacement by train.seed."""

    workers: int = 1
    """Ray workers of each trial."""

    gpu: bool = False
    """Give each worker a GPU."""

    gpu_share: float = 1.0
    """Fraction of a GPU for each trial: with 0.25, four trials share one. Needs --gpu, and one
    worker a trial. Ray does not divide the memory of the GPU: the trials must fit together."""

    track: tuple[str, ...] = ("tensorboard",)
    """Trackers to record each trial with, as `s2s train` takes them."""

    restart: bool = False
    """Start over: discard the trials of an earlier sweep, and replace OUT if it exists."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the workers of one trial."""

    def run(self) -> None:
        """Sweep, and write the best model directory."""
        from s2s.distributed.cluster import WorkerResources, parse_workers
        from s2s.distributed.tune import SweepOptions, tune

        workers = WorkerResources(
            *parse_workers(str(self.workers)),
            gpu=self.gpu,
            gpu_share=self.gpu_share,
            wait=self.wait,
        )
        sizes = [(h, e) for h in self.hidden_sizes for e in self.embedding_sizes]
        options = SweepOptions(sizes, self.trials, self.track, self.restart)
        invocation = Invocation(config_text(self))
        tune(
            self.corpus, self.out, self.model, self.train, self.decode, workers, options, invocation
        )
