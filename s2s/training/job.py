"""A training run as its workers get it, and how one of them takes part in it."""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from s2s.collectives import all_or_raise
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.devices import is_out_of_memory
from s2s.errors import BadInput, Failed
from s2s.leases import has_lost
from s2s.locations import Location, name_of
from s2s.mirrors import local_copy
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.runs import run_mirror
from s2s.training.failures import FullMemory
from s2s.training.host import Host
from s2s.training.loop import Training
from s2s.training.profiler import StepProfiler
from s2s.training.run import TrainOptions, run_checkpoints
from s2s.training.trackers.choice import begin_trackers
from s2s.training.trackers.tracker import TrackedRun, Tracker


@dataclass(frozen=True)
class Job:
    """A run as its workers get it.

    Locations are URIs, or absolute paths on storage that all workers share.
    """

    corpus: Location
    config: Config
    folder: Location  # of the run
    threads: int  # of each worker
    options: TrainOptions = field(default_factory=TrainOptions)
    chosen: Mapping[str, object] = field(default_factory=dict)  # settings, by a sweep


@dataclass(frozen=True)
class RunFinished:
    """The outcome of a run that has trained to its end."""

    metrics: RunMetrics


@dataclass(frozen=True)
class RunStopped:
    """The outcome of a run that was stopped on request, and has saved a checkpoint."""

    steps: int  # that are done


@dataclass(frozen=True)
class RunFailed:
    """The outcome of a run that ended early, as every other try would."""

    reason: str


@dataclass(frozen=True)
class RunRefused:
    """The outcome of a run whose input cannot be used."""

    reason: str


RunOutcome = RunFinished | RunStopped | RunFailed | RunRefused


def take_part(
    job: Job,
    device: torch.device,
    host: Host,
    *,
    make_trackers: Callable[[int], list[Tracker]] = lambda resumed_from: [],
    background: bool = True,
) -> Generator[RunMetrics, None, RunOutcome]:
    """Take part in a run: yield its metrics after each epoch, and return its outcome.

    The outcome is the same in all workers. Errors that every other try would end with are outcomes.

    Args:
        make_trackers: makes further trackers, given the step that the run resumes from. The first
            worker alone calls it.
        background: whether checkpoints may be written while training continues.
    """
    torch.set_num_threads(job.threads)
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    profiled = job.options.profile and is_first
    mirror = run_mirror(job.folder)
    folder = mirror.folder
    profile = StepProfiler(folder / "profile", host.log) if profiled else None
    start = job.options.init_from

    def make_tracker(resumed_from: int) -> Tracker:
        name, parameters = name_of(job.folder).removesuffix(".run"), _parameters(job.config)
        run = TrackedRun(name, folder, parameters, resumed_from, job.chosen)
        further = make_trackers(resumed_from)
        return begin_trackers(job.options.watch.track, run, host.log, further)

    def publish() -> None:
        """Copy what the first worker has written to the store, if the run is at a URI."""
        try:
            if is_first and not has_lost(job.folder):
                mirror.publish()
        except BadInput as error:
            host.log(f"{error}; the files of the run are published with the next epoch")

    training = None
    try:
        all_or_raise(mirror.fetch if is_first else lambda: None)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = run_checkpoints(
            job.folder,
            job.config.train,
            job.options.checkpoints,
            host.log,
            background=background,
        )
        newest = all_or_raise(lambda: max((one.steps for one in checkpoints.all()), default=0))
        memory = FullMemory(job.folder, newest)
        if (earlier := memory.earlier()) is not None:
            raise earlier
        training = Training(
            all_or_raise(lambda: Corpus.open(local_copy(job.corpus))),
            job.config,
            device,
            checkpoints,
            folder,
            host=host,
            start=all_or_raise(lambda: ModelDirectory.load(local_copy(start)) if start else None),
            watch=job.options.watch,
            make_tracker=make_tracker,
            after_step=profile.step if profile else lambda: None,
            after_epoch=publish,
        )
        result = yield from training.epochs()
    except BadInput as error:
        return RunRefused(str(error))
    except Failed as error:
        return RunFailed(str(error))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failed = memory.note(device, training.steps_done if training else newest)
        if dist.is_initialized() and dist.get_world_size() > 1:  # the others wait for this one
            raise failed from error
        return RunFailed(str(failed))
    finally:
        publish()
    if profile is not None:
        profile.close()
    if result.stopped_at is not None:
        return RunStopped(result.stopped_at)
    return RunFinished(result.metrics)


def _parameters(config: Config) -> dict[str, object]:
    """Return all settings by dotted names."""
    return _flatten(json.loads(config.to_json()))


def _flatten(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings by dotted names."""
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
