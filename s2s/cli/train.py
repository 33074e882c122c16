"""`s2s train`."""

from dataclasses import dataclass
from pathlib import Path

from s2s.config import DecodeConfig, ModelConfig, TrainConfig


@dataclass(frozen=True)
class Train:
    """Train a model on a corpus directory, on Ray."""

    corpus: Path
    """Corpus directory to train on."""

    out: Path
    """Model directory to create. Checkpoints live beside it, in OUT.run."""

    model: ModelConfig
    train: TrainConfig
    decode: DecodeConfig

    workers: str = "1"
    """Ray workers that share each batch: a number, or MIN:MAX to grow and shrink with the
    cluster."""

    resize: float = 30.0
    """Seconds between two checks whether an elastic run can grow. Growing restarts all workers from
    a checkpoint."""

    cpus: int = 1
    """CPUs of each worker, and therefore the threads that it computes with."""

    gpu: bool = False
    """Give each worker a GPU."""

    init_from: Path | None = None
    """Model directory whose weights to start from. Its model settings apply, and the corpus must
    have been prepared with its vocabularies."""

    checkpoints: str | None = None
    """Folder or URI (of an object store, say) for the checkpoints, instead of OUT.run."""

    mlflow: str | None = None
    """MLflow tracking server to log the run to, such as http://localhost:5000."""

    profile: bool = False
    """Profile some steps and print where their time goes; the trace is in OUT.run/profile."""

    restart: bool = False
    """Start over: discard the checkpoints of an earlier run, and replace OUT if it exists."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the workers."""

    def run(self) -> None:
        """Train and write the model directory."""
        from s2s.distributed.cluster import WorkerResources, parse_workers
        from s2s.distributed.train import train
        from s2s.training.run import TrainOptions

        workers = WorkerResources(
            *parse_workers(self.workers, self.cpus),
            cpus=self.cpus,
            gpu=self.gpu,
            wait=self.wait,
            resize=self.resize,
        )
        options = TrainOptions(
            init_from=self.init_from,
            checkpoints=self.checkpoints,
            mlflow=self.mlflow,
            profile=self.profile,
            restart=self.restart,
        )
        train(self.corpus, self.out, self.model, self.train, self.decode, workers, options)
