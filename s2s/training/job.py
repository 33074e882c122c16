"""A training run as its workers get it, and how one of them takes part in it."""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist

from s2s.collectives import all_or_raise
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.devices import is_out_of_memory
from s2s.errors import BadInput, Failed
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.training.failures import FullMemory
from s2s.training.host import Host
from s2s.training.loop import Training
from s2s.training.profiler import StepProfiler
from s2s.training.run import TrainOptions, run_checkpoints
from s2s.training.trackers.choice import begin_trackers
from s2s.training.trackers.tracker import TrackedRun, Tracker


@dataclass(frozen=True)
class Job:
    """A run as its workers get it. All paths are absolute, on storage that all workers share."""

    corpus: Path
    config: Config
    folder: Path  # of the run
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
    profile = StepProfiler(job.folder / "profile", host.log) if profiled else None
    start = job.options.init_from

    def make_tracker(resumed_from: int) -> Tracker:
        name, parameters = job.folder.name.removesuffix(".run"), _parameters(job.config)
        run = TrackedRun(name, job.folder, parameters, resumed_from, job.chosen)
        further = make_trackers(resumed_from)
        return begin_trackers(job.options.watch.track, run, host.log, further)

    training = None
    try:
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
            all_or_raise(lambda: Corpus.open(job.corpus)),
            job.config,
            device,
            checkpoints,
            job.folder,
            host=host,
            start=all_or_raise(lambda: ModelDirectory.load(start) if start else None),
            watch=job.options.watch,
            make_tracker=make_tracker,
            after_step=profile.step if profile else lambda: None,
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
