"""Data-parallel training on Ray Train: Ray starts the workers, `s2s.loop` trains."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from s2s.bundle import write_metrics
from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.corpus import Corpus
from s2s.distributed.cluster import Workers, cluster, pin_address
from s2s.errors import BadInput, Failed
from s2s.evaluate import evaluate
from s2s.files import new_directory
from s2s.loop import STATE, Epoch, Run
from s2s.loop import train as train_loop
from s2s.progress import EpochBar
from s2s.runs import claim, interruptible

Step = tuple[int, int, int]  # epoch, step, steps of the epoch


def train(
    corpus: Path,
    out: Path,
    model: ModelConfig,
    settings: TrainConfig,
    decode: DecodeConfig,
    *,
    workers: Workers,
    restart: bool = False,
) -> None:
    """Train on a corpus directory and make the model directory `out` of the best epoch.

    Checkpoints live in `OUT.run` beside it. A run found there is gone on with, if it is the same.

    Raises:
        BadInput: the corpus is broken, `out` is there already, `OUT.run` holds another run, or the
            cluster can never hold the workers.
        Failed: training ended early by an error.
        Stopped: training was interrupted and can go on.
    """
    begin = time.perf_counter()
    opened = Corpus.open(corpus.resolve())
    config = make_config(opened, model, settings, decode)
    run = {"corpus": opened.sha256, "config": config.model_dump(mode="json")}
    with cluster(), EpochBar() as bar:
        workers.require(bar.line)
        folder = claim(out, "model.safetensors", run, restart)
        out = out.resolve()
        bar.line(f"checkpoints: {folder}")
        with _shown(bar, settings.epochs) as board:
            result = _fit(make_trainer(opened.path, config, workers, folder, board=board))
        outcome: dict[str, Any] = result.return_value
        if "failed" in outcome:
            raise Failed(outcome["failed"])
        bar.line("scoring the best epoch on valid")
        checkpoint = result.get_best_checkpoint("valid_loss", "min")
        metrics = export(checkpoint, outcome, opened.path, out, time.perf_counter() - begin)
    best, scores = metrics["best"], metrics["scores"]
    told = ", ".join(f"{s['name']} {s['score']:.2f} (references {s['references']})" for s in scores)
    bar.line(f"best epoch {best['epoch']}: valid loss {best['valid_loss']:.4f}, {told}")
    bar.line(f"model directory: {out}")


def make_config(
    corpus: Corpus, model: ModelConfig, settings: TrainConfig, decode: DecodeConfig
) -> Config:
    """The config of a model: the corpus' own settings, and those of the run.

    Raises:
        BadInput: the shards of the corpus cannot be read.
    """
    for part in ("train", "valid"):
        corpus.part(part)
    return Config(**dict(corpus.manifest.config), model=model, train=settings, decode=decode)


def make_trainer(
    corpus: Path,
    config: Config,
    workers: Workers,
    folder: Path,
    *,
    board: Any = None,
    callbacks: list[Any] | None = None,
    max_failures: int = 2,
) -> TorchTrainer:
    """The Ray trainer of one run, whose checkpoints go to `folder`.

    Args:
        max_failures: times that a group of workers is started anew when one of it has gone.
    """
    pin_address()
    return TorchTrainer(
        _worker,
        train_loop_config={"corpus": str(corpus), "config": config.to_json(), "board": board},
        scaling_config=ScalingConfig(num_workers=workers.number, use_gpu=workers.gpu),
        torch_config=TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            # The best epoch for the model directory; Ray keeps the latest too, to go on from.
            checkpoint_config=CheckpointConfig(
                num_to_keep=1,
                checkpoint_score_attribute="valid_loss",
                checkpoint_score_order="min",
            ),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=callbacks or [],
        ),
    )


def export(
    checkpoint: Checkpoint, outcome: dict[str, Any], corpus: Path, out: Path, seconds: float
) -> dict[str, Any]:
    """Make the model directory `out` of a run's best checkpoint, scored on `valid`.

    Args:
        outcome: what the run's `metrics.json` says so far.
        seconds: wall time that the run took.

    Returns:
        What the `metrics.json` of `out` says.
    """
    with new_directory(out) as scratch:
        with checkpoint.as_directory() as saved:
            shutil.copytree(
                saved, scratch, dirs_exist_ok=True, ignore=shutil.ignore_patterns(STATE, ".*")
            )
        metrics = {
            **outcome,
            "scores": evaluate(scratch, corpus, "valid")["scores"],
            "total_seconds": seconds,
            "versions": {**outcome["versions"], "ray": ray.__version__},
        }
        write_metrics(scratch, metrics)
    return metrics


def _worker(settings: dict[str, Any]) -> dict[str, Any]:
    """The run as one of its workers: returns what `metrics.json` says, or why the run failed."""
    config = Config.from_json(settings["config"], "config")
    rank = ray.train.get_context().get_world_rank()
    pin = _Pin(settings["board"] if rank == 0 else None)

    def on_epoch(run: Run) -> None:
        record = asdict(run.epochs[-1])
        pin.line(_told(run.epochs[-1], config.train.epochs))
        if rank:
            ray.train.report(record)
            return
        with tempfile.TemporaryDirectory(prefix="s2s-checkpoint-") as folder:
            run.save(Path(folder))
            ray.train.report(record, checkpoint=Checkpoint.from_directory(folder))

    with ExitStack() as stack:
        resume = None
        if (checkpoint := ray.train.get_checkpoint()) is not None:
            resume = Path(stack.enter_context(checkpoint.as_directory()))
            pin.line("going on from the run's last checkpoint")
        try:
            corpus = Corpus.open(Path(settings["corpus"]))
            return train_loop(corpus, config, get_device(), on_epoch, pin.step, resume)
        except (BadInput, Failed) as error:
            # All workers meet this together. Raised, it would be tried again in vain.
            return {"failed": str(error)}


def _fit(trainer: TorchTrainer) -> Result:
    """Run a trainer to its end.

    Raises:
        Failed: a worker raised an error, or went away more often than is forgiven.
        Stopped: the run was interrupted.
    """
    with interruptible():
        try:
            return trainer.fit()
        except ray.train.TrainingFailedError as error:
            failures = getattr(error, "worker_failures", None) or {0: error}
            raise Failed(f"training failed: {last_line(next(iter(failures.values())))}") from None
        except ray.exceptions.RayError as error:
            raise Failed(
                f"training could not go on: {last_line(error)}; --restart begins anew"
            ) from None


def last_line(error: BaseException) -> str:
    """What happened, without the traceback that Ray quotes before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _told(record: Epoch, epochs: int) -> str:
    return (
        f"epoch {record.epoch}/{epochs}  train loss {record.train_loss:.4f}  "
        f"valid loss {record.valid_loss:.4f}  token accuracy {record.valid_token_accuracy:.4f}  "
        f"padded accuracy {record.valid_padded_accuracy:.4f}  "
        f"{record.pairs_per_second:,.0f} pairs/s  {record.seconds:.1f} s"
    )


@ray.remote(num_cpus=0)
class _Board:
    """Where the worker of rank 0 pins what the driver shows."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._step: Step | None = None

    def pin_line(self, line: str) -> None:
        self._lines.append(line)

    def pin_step(self, step: Step) -> None:
        self._step = step

    def read(self) -> tuple[list[str], Step | None]:
        """The lines since the last reading, and the latest step."""
        lines, self._lines = self._lines, []
        return lines, self._step


class _Pin:
    """A worker's way to a board: lines at once, steps at most twice a second."""

    def __init__(self, board: Any) -> None:
        self._board, self._due = board, 0.0

    def line(self, text: str) -> None:
        if self._board is not None:
            self._board.pin_line.remote(text)

    def step(self, *step: int) -> None:
        if self._board is not None and (now := time.monotonic()) >= self._due:
            self._board.pin_step.remote(step)
            self._due = now + 0.5


@contextmanager
def _shown(bar: EpochBar, epochs: int) -> Iterator[Any]:
    """A board whose lines and steps are shown until the end of the block."""
    board, ended = _Board.remote(), threading.Event()

    def show() -> None:
        try:
            lines, step = ray.get(board.read.remote(), timeout=10)
        except ray.exceptions.RayError:
            return  # the board's node has gone; training goes on unseen
        for line in lines:
            bar.line(line)
        if step is not None:
            bar.step(step[0], epochs, *step[1:])

    def watch() -> None:
        while not ended.wait(0.5):
            show()

    watcher = threading.Thread(target=watch, name="s2s-progress", daemon=True)
    watcher.start()
    try:
        yield board
    finally:
        ended.set()
        watcher.join()
        show()
        ray.kill(board)
