"""Data-parallel training on Ray Train: Ray starts the workers, `s2s.training.loop` trains.

Checkpoints are the loop's own (`s2s.training.checkpoints`): a worker group that Ray starts anew,
and a run whose driver is gone, both go on from what they find there. Ray Train is told of none.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.console import EpochBar
from s2s.corpus import Corpus
from s2s.distributed.board import answers, ask_to_stop, shown
from s2s.distributed.cluster import Workers, cluster, pin_address
from s2s.distributed.elastic import GroupKeeper, release
from s2s.distributed.worker import checkpoints_of, work
from s2s.errors import BadInput, Failed, Stopped
from s2s.evaluation.evaluate import evaluate
from s2s.files import new_directory, write_text
from s2s.model.directory import ModelDirectory, read_config, write_metrics
from s2s.model.metrics import RunMetrics
from s2s.runs import claim, held, interruptible, run_folder
from s2s.training.checkpoints import Checkpoints

_SAVING = 300.0  # seconds that a run which was asked to stop has for its checkpoint


def train(
    corpus: Path,
    out: Path,
    model: ModelConfig,
    settings: TrainConfig,
    decode: DecodeConfig,
    *,
    workers: Workers,
    start: Path | None = None,
    checkpoints: str | None = None,
    mlflow: str | None = None,
    profile: bool = False,
    restart: bool = False,
) -> None:
    """Train on a corpus directory and make the model directory `out`.

    The run lives in `OUT.run` beside it. A run found there is gone on with, if it is the same.

    Args:
        start: model directory whose weights the run begins with.
        checkpoints: folder or URI for the checkpoints, instead of `OUT.run/checkpoints`.
        mlflow: tracking server that is told of the run.
        profile: record some steps and tell where their time goes.

    Raises:
        BadInput: the corpus is broken, `out` is there already, `OUT.run` holds another run, or the
            cluster can never hold the workers.
        Failed: training ended early by an error.
        Stopped: training was interrupted and can go on.
    """
    begin = time.perf_counter()
    opened = Corpus.open(corpus.resolve())
    if start is not None:
        model = model_of(start, opened)
    config = make_config(opened, model, settings, decode)
    run = {
        "corpus": opened.sha256,
        "config": config.model_dump(mode="json"),
        "start": start and str(start.resolve()),
        "checkpoints": checkpoints,
    }
    with interruptible(), cluster(), EpochBar() as bar:
        workers.require(bar.line)
        # A place that cannot be used is told of before anything is made or dropped.
        store = checkpoints_of(run_folder(out), config.train, checkpoints, bar.line)
        store.all()
        folder = claim(out, "model.safetensors", run, restart)
        out = out.resolve()
        with held(folder):
            if restart:
                store.clear()
            bar.line(f"checkpoints: {store.root}")
            with shown(bar, settings.epochs) as board:
                trainer = make_trainer(
                    opened.path,
                    config,
                    workers,
                    folder,
                    board=board,
                    start=start and str(start.resolve()),
                    checkpoints=checkpoints and store.root,
                    mlflow=mlflow,
                    profile=profile,
                )
                with _released(trainer, folder):
                    outcome = _fit(trainer, board, bar.line)
            if "refused" in outcome:
                if not store.all():
                    shutil.rmtree(folder, ignore_errors=True)  # the same input will fail again
                raise BadInput(outcome["refused"])
            if "failed" in outcome:
                raise Failed(outcome["failed"])
            if "stopped" in outcome:
                raise Stopped(
                    f"stopped after step {outcome['stopped']:,}, which is saved; "
                    "the same command goes on from there"
                )
            bar.line("scoring the model on valid")
            seconds = time.perf_counter() - begin
            metrics = export(store, outcome, config.train, opened.path, out, seconds, bar.line)
    scores = metrics["scores"]
    told = ", ".join(f"{s['name']} {s['score']:.2f} (references {s['references']})" for s in scores)
    told = f"{metrics['decoding']}: {told}"
    bar.line(f"{metrics['weights']}: valid loss {metrics['valid']['valid_loss']:.4f}, {told}")
    bar.line(f"model directory: {out}")


def make_config(
    corpus: Corpus, model: ModelConfig, settings: TrainConfig, decode: DecodeConfig
) -> Config:
    """The config of a model: the corpus' own settings, and those of the run.

    Raises:
        BadInput: the shards of the corpus cannot be read.
    """
    for part in ("train", "valid"):
        corpus.split(part)
    return Config(**dict(corpus.manifest.config), model=model, train=settings, decode=decode)


def model_of(start: Path, corpus: Corpus) -> ModelConfig:
    """The settings of a model that training is to begin with.

    Raises:
        BadInput: it is no model directory, or the corpus was not prepared with its vocabularies.
    """
    config = read_config(start)
    for side in ("source", "target"):
        if (start / f"{side}.json").read_bytes() != (corpus.path / f"{side}.json").read_bytes():
            raise BadInput(
                f"{corpus.path} has another {side} vocabulary than {start}; "
                f"prepare the corpus with --vocabularies {start}"
            )
    return config.model


def make_trainer(
    corpus: Path,
    config: Config,
    workers: Workers,
    folder: Path,
    *,
    board: Any = None,
    callbacks: Sequence[Any] = (),
    max_failures: int = 10,
    **others: Any,
) -> TorchTrainer:
    """The Ray trainer of the run in `folder`.

    Args:
        max_failures: times that a group of workers is started anew when one of it has gone; that
            of preempted nodes are not counted.
        others: `start`, `checkpoints`, `mlflow` and `profile` as `train` takes them.
    """
    pin_address()
    elastic = workers.most is not None
    # What Ray keeps of a run (its own checkpoints) would only mislead a later one.
    shutil.rmtree(folder / "ray", ignore_errors=True)
    return TorchTrainer(
        work,
        train_loop_config={
            "corpus": str(corpus),
            "config": config.to_json(),
            "folder": str(folder),
            "threads": workers.cpus,
            "board": board,
            **others,
        },
        scaling_config=ScalingConfig(
            num_workers=(workers.number, workers.most or 0) if elastic else workers.number,
            use_gpu=workers.gpu,
            resources_per_worker=workers.each,
            elastic_resize_monitor_interval_s=workers.resize,
        ),
        torch_config=TorchConfig(backend="nccl" if workers.gpu else "gloo"),
        run_config=RunConfig(
            name="ray",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=[GroupKeeper(board, elastic=elastic), *callbacks],
        ),
    )


def export(
    checkpoints: Checkpoints,
    outcome: dict[str, Any],
    settings: TrainConfig,
    corpus: Path,
    out: Path,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make the model directory `out` of a run's checkpoints, scored on `valid`.

    Args:
        outcome: what the run's `metrics.json` says so far.
        seconds: wall time that the run took.
        say: told of checkpoints that are left out since they are damaged.

    Returns:
        What the `metrics.json` of `out` says.

    Raises:
        Failed: no checkpoint of the end of an epoch is whole.
    """
    ended = [kept for kept in checkpoints.all() if kept.valid_loss is not None]
    wanted = 1 if settings.average == "none" else settings.average_epochs
    candidates = ended[::-1] if settings.average == "last" else checkpoints.best(len(ended))
    with new_directory(out) as scratch, ExitStack() as opened:
        chosen: dict[int, Path] = {}  # by epoch
        for kept in candidates:
            if len(chosen) < wanted:
                try:
                    chosen[kept.epoch] = opened.enter_context(checkpoints.open(kept))
                except BadInput as error:
                    say(f"{error}; it is left out")
        if not chosen:
            raise Failed(f"{checkpoints.root} has no whole checkpoint of the end of an epoch")
        epochs = ", ".join(map(str, sorted(chosen)))
        run = RunMetrics.model_validate(outcome)
        ModelDirectory.mean(list(chosen.values())).save(scratch, run)
        scores = evaluate(ModelDirectory.load(scratch), Corpus.open(corpus), "valid")
        metrics = {
            **outcome,
            "weights": f"{'the mean' if len(chosen) > 1 else 'those'} of epoch {epochs}",
            "valid": {
                "valid_loss": scores.loss,
                "valid_token_accuracy": scores.token_accuracy,
                "valid_padded_accuracy": scores.padded_accuracy,
            },
            "decoding": scores.decoding,
            "scores": [asdict(score) for score in scores.scores],
            "total_seconds": seconds,
            "versions": {**outcome["versions"], "ray": ray.__version__},
        }
        write_metrics(scratch, RunMetrics.model_validate(metrics))
    return metrics


def _fit(trainer: TorchTrainer, board: Any, say: Callable[[str], None]) -> dict[str, Any]:
    """Run a trainer to its end, or until Ctrl-C or SIGTERM, which let it save first.

    Raises:
        Failed: a worker raised an error, or went away more often than is forgiven.
        Stopped: the run was interrupted and did not save in time.
    """
    ended: list[Any] = []

    def fit() -> None:
        try:
            ended.append(trainer.fit().return_value)
        except BaseException as error:  # it is raised in the main thread
            ended.append(error)

    # Not in the main thread: there Ray would answer Ctrl-C itself, by ending the workers unsaved.
    thread = threading.Thread(target=fit, name="s2s-fit", daemon=True)
    asked: list[float] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: asked.append(time.monotonic()))
    try:
        thread.start()
        told = False
        while thread.is_alive():
            thread.join(0.1)
            if asked and not told:
                say("stopping: saving a checkpoint first (again to stop at once)")
                ask_to_stop(board)
                told = True
            late = bool(asked) and time.monotonic() - asked[0] > _SAVING
            if len(asked) > 1 or late or (asked and not answers(board)):
                raise Stopped(
                    "stopped without saving; the same command goes on from the last checkpoint"
                )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    [outcome] = ended
    if isinstance(outcome, ray.train.TrainingFailedError):
        failures = getattr(outcome, "worker_failures", None) or {0: outcome}
        raise Failed(f"training failed: {last_line(next(iter(failures.values())))}") from None
    if isinstance(outcome, ray.exceptions.RayError):
        raise Failed(f"training could not go on: {last_line(outcome)}") from None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome  # type: ignore[no-any-return]


@contextmanager
def _released(trainer: TorchTrainer, folder: Path) -> Iterator[None]:
    """Give back what this run, or one before it that was killed, has reserved for growing."""
    file = folder / "ray-run"
    if file.exists():
        release(file.read_text("utf-8"))
    write_text(file, trainer.train_run_context.run_id)
    try:
        yield
    finally:
        release(trainer.train_run_context.run_id)


def last_line(error: BaseException) -> str:
    """What happened, without the traceback that Ray quotes before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
