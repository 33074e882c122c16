"""Data-parallel training on Ray Train: Ray starts the workers, `s2s.training.loop` trains.

Checkpoints are the loop's own (`s2s.training.checkpoints`): a worker group that Ray starts anew,
and a run whose driver is gone, both go on from what they find there. Ray Train gets none.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from s2s.config import DecodeConfig, ModelConfig, TrainConfig
from s2s.console import EpochBar
from s2s.corpus import Corpus
from s2s.corpus.warnings import decoding_warnings
from s2s.distributed import ray_internals
from s2s.distributed.board import display, is_reachable, request_stop
from s2s.distributed.cluster import WorkerResources, cluster, set_address_for_train
from s2s.distributed.elastic import GroupRestarts
from s2s.distributed.rendezvous import listen_on_loopback, open_store
from s2s.distributed.worker import (
    Job,
    RunFailed,
    RunFinished,
    RunOutcome,
    RunRefused,
    RunStopped,
    work,
)
from s2s.errors import BadInput, Failed, Stopped, last_line
from s2s.files import write_text
from s2s.runs import claim_folder, interruptible, lock, run_folder
from s2s.training.checkpoints import Checkpoints
from s2s.training.export import export
from s2s.training.run import TrainOptions, initial_model_config, run_checkpoints, run_config

_SAVE_SECONDS = 300.0  # that a run which is to stop has for its checkpoint


def train(
    corpus: Path,
    out: Path,
    model: ModelConfig,
    settings: TrainConfig,
    decode: DecodeConfig,
    workers: WorkerResources,
    options: TrainOptions,
) -> None:
    """Train on a corpus directory and make the model directory `out`.

    The run is in the folder `OUT.run` beside it. If that holds the same run already, it goes on.

    Args:
        model: settings of the network; those of `options.init_from` take precedence.

    Raises:
        BadInput: the corpus is broken, `out` is there already, `OUT.run` holds another run, or the
            cluster can never hold the workers.
        Failed: training ended early by an error.
        Stopped: training was interrupted and can go on.
    """
    begin = time.perf_counter()
    opened = Corpus.open(corpus.resolve())
    if options.init_from is not None:
        model = initial_model_config(options.init_from, opened)
    config = run_config(opened, model, settings, decode)
    start = options.init_from and options.init_from.resolve()
    description = {
        "corpus": opened.sha256,
        "config": config.model_dump(mode="json"),
        "start": start and str(start),
        "checkpoints": options.checkpoints,
    }
    warnings = (*opened.manifest.warnings, *decoding_warnings(opened.manifest, config.decode))
    with interruptible(), cluster(), EpochBar() as bar:
        for warning in warnings:
            bar.log(f"warning: {warning.text}")
        workers.require(bar.log)
        # A place that cannot be used is reported before anything is made or dropped.
        store = run_checkpoints(run_folder(out), config.train, options.checkpoints, bar.log)
        store.all()
        folder = claim_folder(out, "model.safetensors", description, options.restart)
        out = out.resolve()
        with lock(folder):
            if options.restart:
                store.clear()
            bar.log(f"checkpoints: {store.root}")
            root = options.checkpoints and store.root
            options = replace(options, init_from=start, checkpoints=root)
            job = Job(opened.path, config, folder, workers.cpus, options)
            finished = _finished(_run(job, workers, bar), store, folder)
            bar.log("scoring the model on valid")
            metrics = export(
                store, finished.metrics, config.train, opened.path, out,
                time.perf_counter() - begin, versions={"ray": ray.__version__}, log=bar.log,
            )  # fmt: skip
    scores = ", ".join(
        f"{score.name} {score.score:.2f} (references {score.references})"
        for score in metrics.scores
    )
    loss = f"valid loss {metrics.valid.valid_loss:.4f}" if metrics.valid else ""
    bar.log(f"{metrics.weights}: {loss}, {metrics.decoding}: {scores}")
    for warning in warnings:
        bar.log(f"warning: {warning.text}")
    bar.log(f"model directory: {out}")


def make_trainer(
    job: Job,
    workers: WorkerResources,
    *,
    callbacks: Sequence[Any] = (),
    max_failures: int = 10,
) -> TorchTrainer:
    """Return the Ray trainer of a run.

    Args:
        callbacks: of Ray Train, beside our own.
        max_failures: times that a group of workers is started anew after one of it has gone; those
            of preempted nodes are not counted.
    """
    set_address_for_train()
    elastic = workers.most is not None
    # What Ray keeps of a run (its own checkpoints) would only mislead a later one.
    shutil.rmtree(job.folder / "ray", ignore_errors=True)
    listener = GroupRestarts(job.board, elastic=elastic)
    return TorchTrainer(
        partial(work, job),
        scaling_config=ScalingConfig(
            num_workers=(workers.number, workers.most or 0) if elastic else workers.number,
            use_gpu=workers.gpu,
            resources_per_worker=workers.each,
            elastic_resize_monitor_interval_s=workers.resize,
        ),
        torch_config=ray_internals.torch_config(
            "nccl" if workers.gpu else "gloo", listen_on_loopback, open_store
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(job.folder),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=[ray_internals.worker_group_callback(listener), *callbacks],
        ),
    )


def _run(job: Job, workers: WorkerResources, bar: EpochBar) -> RunOutcome:
    """Run a job to its end, its progress shown on the bar."""
    with display(bar, job.config.train.epochs) as board:
        trainer = make_trainer(replace(job, board=board), workers)
        with _reservation_cancelled(trainer, job.folder):
            return _fit(trainer, board, bar.log)


def _finished(outcome: RunOutcome, store: Checkpoints, folder: Path) -> RunFinished:
    """Return the outcome of a run that has finished.

    Raises:
        BadInput: the run was refused; its folder is removed if it has nothing to go on from.
        Failed: it failed.
        Stopped: it was stopped.
    """
    match outcome:
        case RunRefused(reason):
            if not store.all():
                shutil.rmtree(folder, ignore_errors=True)  # the same input will fail again
            raise BadInput(reason)
        case RunFailed(reason):
            raise Failed(reason)
        case RunStopped(steps):
            raise Stopped(
                f"stopped after step {steps:,}, which is saved; "
                "run the same command again to resume"
            )
        case RunFinished():
            return outcome


def _fit(trainer: TorchTrainer, board: Any, log: Callable[[str], None]) -> RunOutcome:
    """Run a trainer to its end, or until Ctrl-C or SIGTERM, which let it save first.

    Raises:
        Failed: a worker raised an error, or went away more often than is forgiven.
        Stopped: the run was interrupted and did not save in time.
    """
    results: list[RunOutcome | BaseException] = []

    def fit() -> None:
        try:
            results.append(trainer.fit().return_value)
        except BaseException as error:  # it is raised in the main thread
            results.append(error)

    # Not in the main thread: there Ray would handle Ctrl-C itself, by ending the workers unsaved.
    thread = threading.Thread(target=fit, name="s2s-fit", daemon=True)
    signals: list[float] = []  # when each came
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: signals.append(time.monotonic()))
    try:
        thread.start()
        requested = False
        while thread.is_alive():
            thread.join(0.1)
            if signals and not requested:
                log("stopping: saving a checkpoint first (again to stop at once)")
                request_stop(board)
                requested = True
            late = bool(signals) and time.monotonic() - signals[0] > _SAVE_SECONDS
            if len(signals) > 1 or late or (signals and not is_reachable(board)):
                raise Stopped(
                    "stopped without saving; run the same command again to resume from the last "
                    "checkpoint"
                )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    [result] = results
    if isinstance(result, ray.train.TrainingFailedError):
        failures = getattr(result, "worker_failures", None) or {0: result}
        raise Failed(f"training failed: {last_line(next(iter(failures.values())))}") from None
    if isinstance(result, ray.exceptions.RayError):
        raise Failed(f"training could not go on: {last_line(result)}") from None
    if isinstance(result, BaseException):
        raise result
    return result


@contextmanager
def _reservation_cancelled(trainer: TorchTrainer, folder: Path) -> Iterator[None]:
    """Give back what a run has reserved for growing, at the end of the block.

    A run that was killed before, whose id is in the folder, gave nothing back: this does.
    """
    file = folder / "ray-run"
    if file.exists():
        ray_internals.cancel_reservation(file.read_text("utf-8"))
    run = ray_internals.run_id(trainer)
    write_text(file, run)
    try:
        yield
    finally:
        ray_internals.cancel_reservation(run)
