"""A trial of a sweep, as Ray Tune runs it.

A trial of one worker trains in the process that Tune starts for it, which then takes the next trial
without starting again. A trial of several workers is a Ray Train run for each seed.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import ray.tune
import torch
from ray.tune.integration.ray_train import TuneReportCallback

from s2s.config import Config
from s2s.corpus import Corpus
from s2s.devices import find_device
from s2s.distributed import ray_internals
from s2s.distributed.cluster import WorkerResources
from s2s.distributed.metrics import TrainMetrics
from s2s.distributed.train import make_trainer
from s2s.locations import Location, absolute, name_of
from s2s.mirrors import local_copy
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.training.host import SilentHost
from s2s.training.job import Job, RunFailed, RunFinished, RunOutcome, RunRefused, take_part
from s2s.training.run import TrainOptions, run_checkpoints
from s2s.training.trackers.tracker import Tracker
from s2s.tuning.decoding_rate import words_per_second
from s2s.tuning.objective import Objective, value_of
from s2s.tuning.records import Records
from s2s.tuning.space import Point, Space
from s2s.tuning.sweep_run import TrialReport

EPOCH, SCORE = "epoch", "score"  # what Tune's schedulers read in a result
REPORT = "report"


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of a sweep share. All paths are absolute, on storage that all nodes share."""

    corpus: Location
    space: Space
    objective: Objective
    seeds: int  # that each point is trained with
    workers: WorkerResources  # of each trial
    records: Records
    options: TrainOptions  # of each run

    def jobs(self, number: int, point: Point) -> Iterator[Job]:
        """Yield the runs of a trial, one for each seed."""
        config = self.space.config_of(point)
        for index in range(self.seeds):
            yield Job(
                self.corpus,
                with_seed(config, config.train.seed + index),
                absolute(self.records.trial_folder(number, index)),
                self.workers.cpus,
                self.options,
                point,
            )

    def name_of(self, job: Job) -> str:
        """Return the name of a trial's run, with that of the sweep."""
        return f"{self.records.folder.name.removesuffix('.run')}-{name_of(job.folder)}"


def with_seed(config: Config, seed: int) -> Config:
    """Return a config whose training has another seed."""
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})


def trainable(setup: TrialSetup) -> Any:
    """Return what Tune runs for each trial, with the resources that it needs."""
    if setup.workers.number == 1:
        bundles = [setup.workers.each]
        kind: Any = ray.tune.with_parameters(OneWorkerTrial, setup=setup)
        return ray.tune.with_resources(kind, ray.tune.PlacementGroupFactory(bundles))
    # The process of such a trial only waits for its workers. Any share of a CPU that it held would
    # be missing for them: two trials of one worker each would not fit on two CPUs.
    waiting = {ray_internals.HEAD_NODE: 0.001}
    kind = ray.tune.with_parameters(_train_with_workers, setup=setup)
    return ray.tune.with_resources(kind, waiting)


class OneWorkerTrial(ray.tune.Trainable):
    """A process that trains one trial after the other, an epoch with each step."""

    def setup(self, config: dict[str, Any], setup: TrialSetup) -> None:
        """Begin the first trial."""
        self._setup = setup
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial; the one before has ended."""
        self.cleanup()
        self._reports = _reports(self._setup, new_config["number"], new_config["settings"])
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch, or end the trial."""
        return _result(self._setup, next(self._reports))

    def cleanup(self) -> None:
        """End the trial, after an epoch."""
        if hasattr(self, "_reports"):
            self._reports.close()


def _reports(setup: TrialSetup, number: int, point: Point) -> Generator[TrialReport, None, None]:
    """Train a trial in this process, and yield what it reports."""
    device = find_device("cuda" if setup.workers.gpu else "cpu")
    for index, job in enumerate(setup.jobs(number, point)):
        run = take_part(
            job,
            device,
            SilentHost(),
            make_trackers=partial(_trackers, setup.name_of(job)),
            # The trial may be ended as soon as it has reported an epoch.
            background=False,
        )
        outcome = None
        while outcome is None:
            try:
                metrics = next(run)
            except StopIteration as end:
                outcome = end.value
            else:
                yield TrialReport(index, metrics.epochs)
        report = _end_of_run(setup, job, index, outcome, device)
        yield report
        if report.is_last:
            return


def _trackers(name: str, resumed_from: int) -> list[Tracker]:
    return [TrainMetrics(name, resumed_from)]


def _train_with_workers(config: Mapping[str, Any], setup: TrialSetup) -> None:
    """Train a trial as Ray Train runs, which report to Tune."""
    for index, job in enumerate(setup.jobs(config["number"], config["settings"])):
        # A trial that is stopped loses its workers first. A trainer that may restart them then does
        # so as it dies itself, and Ray 2.60 keeps the resources of the new ones for ever: two such
        # stops, and a cluster of two CPUs has none left. So Tune tries a failed trial again.
        trainer = make_trainer(
            job,
            setup.workers,
            callbacks=[TuneReportCallback()],
            max_failures=0,
            report=partial(_epoch_result, setup, index),
        )
        outcome = trainer.fit().return_value
        report = _end_of_run(setup, job, index, outcome, torch.device("cpu"))
        ray.tune.report(_result(setup, report))
        if report.is_last:
            return


def _end_of_run(
    setup: TrialSetup, job: Job, index: int, outcome: RunOutcome, device: torch.device
) -> TrialReport:
    """Return the report of a run that has ended."""
    match outcome:
        case RunFinished(metrics):
            rate, begin = None, time.perf_counter()
            if index == 0:
                torch.set_num_threads(job.threads)
                store = run_checkpoints(job.folder, job.config.train)
                rate = words_per_second(store, Corpus.open(local_copy(job.corpus)), device)
            return TrialReport(
                index, metrics.epochs, rate, time.perf_counter() - begin,
                is_last=index + 1 == setup.seeds,
            )  # fmt: skip
        case RunFailed(reason) | RunRefused(reason):
            return TrialReport(index, (), failure=reason, is_last=True)
        case _:
            raise RuntimeError("a trial was requested to stop, which nothing does")


def _epoch_result(setup: TrialSetup, index: int, metrics: RunMetrics) -> dict[str, Any]:
    """Return the report of an epoch as Tune takes it."""
    return _result(setup, TrialReport(index, metrics.epochs))


def _result(setup: TrialSetup, report: TrialReport) -> dict[str, Any]:
    """Return a report as Tune takes it."""
    result: dict[str, Any] = {REPORT: asdict(report), "done": report.is_last}
    if report.seed_index == 0 and report.epochs and not report.is_last:
        # Schedulers look at the first seed alone, and pass over results without these.
        result |= {
            EPOCH: len(report.epochs),
            SCORE: value_of(setup.objective, report.epochs[-1]),
        }
    return result


def read_report(result: Mapping[str, Any]) -> TrialReport:
    """Return the report of a result."""
    found = dict(result[REPORT])
    found["epochs"] = tuple(EpochRecord(**each) for each in found["epochs"])
    return TrialReport(**found)
