"""Data-parallel training on Ray Train: Ray starts the workers, `s2s.training.loop` trains.

Checkpoints are the loop's own (`s2s.training.checkpoints`): a worker group that Ray restarts,
and a run whose driver is gone, both continue from what they find there. Ray Train gets none.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from s2s.console import EpochBar
from s2s.corpus.directory import MANIFEST
from s2s.distributed import ray_internals
from s2s.distributed.board import display, is_reachable, request_stop
from s2s.distributed.cluster import WorkerResources, cluster, set_address_for_train
from s2s.distributed.elastic import GroupRestarts
from s2s.distributed.hosts import monitored_hosts
from s2s.distributed.rendezvous import listen_on_node_address, open_store
from s2s.distributed.shared_storage import SharedPath, require_shared
from s2s.distributed.worker import Report, last_epoch, work
from s2s.errors import BadInput, Failed, Stopped, last_line
from s2s.files import write_text
from s2s.interruption import interruptible, requests_to_stop
from s2s.leases import has_lost
from s2s.locations import Location, absolute, extended, is_uri
from s2s.mirrors import remove, work_folder
from s2s.storage import filesystem
from s2s.training.job import Job, RunOutcome, RunRefused
from s2s.training.train import Plan, TrainedModel

_RAY = "ray"  # name of Ray's own folder in that of a run
_SAVE_SECONDS = 300.0  # that a run which is to stop has for its checkpoint


def train_on_ray(plan: Plan, workers: WorkerResources) -> TrainedModel:
    """Carry out a plan with workers on the cluster of RAY_ADDRESS, or else on a local one.

    Raises:
        BadInput: as `Plan.carry_out`, or the cluster can never hold the workers.
        Failed: as `Plan.carry_out`.
        Stopped: as `Plan.carry_out`.
    """
    with interruptible(), EpochBar() as bar:
        bar.log(f"from {plan.direction}")
        with cluster(bar.log):
            workers.require(bar.log)
            run = partial(_run, workers=workers, bar=bar)
            return plan.carry_out(run, workers.cpus, bar.log, {"ray": ray.__version__})


def make_trainer(
    job: Job,
    workers: WorkerResources,
    *,
    board: Any = None,
    callbacks: Sequence[Any] = (),
    max_failures: int = 10,
    report: Report = last_epoch,
) -> TorchTrainer:
    """Return the Ray trainer of a run.

    Args:
        board: where the workers post their progress; None if nobody watches.
        callbacks: of Ray Train, besides our own.
        max_failures: times that a group of workers is restarted after one of it has gone; those
            of preempted nodes are not counted.
        report: returns what Ray Train, and so the callbacks, get after each epoch.
    """
    set_address_for_train()
    elastic = workers.most is not None
    # What Ray keeps of a run (its own checkpoints) would only mislead a later one.
    remove(extended(job.folder, f"/{_RAY}"))
    listener = GroupRestarts(board, workers)
    return TorchTrainer(
        partial(work, job, board, report),
        scaling_config=ScalingConfig(
            num_workers=(workers.number, workers.most or 0) if elastic else workers.number,
            use_gpu=workers.gpu,
            resources_per_worker=workers.each,
            elastic_resize_monitor_interval_s=workers.resize,
        ),
        torch_config=ray_internals.torch_config(
            "nccl" if workers.gpu else "gloo", listen_on_node_address, open_store
        ),
        run_config=RunConfig(
            name=_RAY,
            **_storage(job.folder),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=[ray_internals.worker_group_callback(listener), *callbacks],
        ),
    )


def _storage(folder: Location) -> dict[str, Any]:
    """Return where Ray Train keeps its own files, as options of its `RunConfig`."""
    if not is_uri(folder):
        return {"storage_path": folder}
    system, path = filesystem(folder)
    return {"storage_path": path, "storage_filesystem": system}


def _run(job: Job, workers: WorkerResources, bar: EpochBar) -> RunOutcome:
    """Run a job to its end, its progress shown on the bar."""
    try:
        require_shared(_shared_paths(job), workers.hosts())
    except BadInput as error:
        return RunRefused(str(error))
    with display(bar) as board, monitored_hosts(bar.log):
        trainer = make_trainer(job, workers, board=board)
        with _reservation_cancelled(trainer, work_folder(job.folder)):
            return _fit(trainer, board, bar.log)


def _shared_paths(job: Job) -> list[SharedPath]:
    """Return what the workers of a run share."""
    paths = [
        SharedPath("corpus", extended(job.corpus, f"/{MANIFEST}")),
        SharedPath("folder of the run", job.folder, is_folder=True),
    ]
    checkpoints = job.options.checkpoints
    if checkpoints is not None:
        paths.append(SharedPath("--checkpoints", absolute(checkpoints), is_folder=True))
    return paths


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
    with requests_to_stop(has_lost) as requests:
        thread.start()
        requested = False
        while thread.is_alive():
            thread.join(0.1)
            if requests and not requested:
                log("stopping: saving a checkpoint first (again to stop at once)")
                request_stop(board)
                requested = True
            late = bool(requests) and time.monotonic() - requests[0] > _SAVE_SECONDS
            if late or (requests and not is_reachable(board)):
                raise Stopped(
                    "stopped without saving; run the same command again to resume from the last "
                    "checkpoint"
                )
    [result] = results
    if isinstance(result, ray.train.TrainingFailedError):
        failures = getattr(result, "worker_failures", None) or {0: result}
        raise Failed(f"training failed: {last_line(next(iter(failures.values())))}") from None
    if isinstance(result, ray.exceptions.RayError):
        raise Failed(f"training could not continue: {last_line(result)}") from None
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
