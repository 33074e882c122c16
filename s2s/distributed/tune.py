"""A sweep on Ray Tune; each trial is a Ray Train run."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ray
import ray.tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler

from s2s.config import Config
from s2s.console import SweepTable, TrialProgress
from s2s.corpus import Corpus
from s2s.corpus.warnings import run_warnings
from s2s.distributed import ray_internals
from s2s.distributed.cluster import WorkerResources, cluster
from s2s.distributed.train import make_trainer
from s2s.errors import Failed, Stopped, last_line
from s2s.files import new_directory, write_text
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.provenance import Invocation
from s2s.runs import claimed_folder, interruptible
from s2s.text.language_pairs import describe_direction
from s2s.training.checkpoints import Checkpoints
from s2s.training.export import export
from s2s.training.job import Job, RunFailed, RunRefused
from s2s.training.run import TrainOptions, Watch, run_checkpoints, run_config
from s2s.training.schedule import stops_early
from s2s.tuning.space import Point, Space, describe_point
from s2s.tuning.trials import Sweep, Trial

_REASON = "failed.txt"  # in the folder of a trial that failed for a reason of its own


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep tries, and how its trials are tracked."""

    space: Space
    points: list[Point]  # of the trials, in their order
    track: tuple[str, ...] = ("tensorboard",)  # as of `s2s.training.run.Watch`
    restart: bool = False  # drop what an earlier sweep has left


@dataclass(frozen=True)
class _Setup:
    """What all trials of a sweep share."""

    corpus: Path
    configs: list[Config]  # of the trials, by their numbers
    points: list[Point]  # what each of them differs in
    workers: WorkerResources  # of each trial
    folder: Path  # of the sweep's run
    options: TrainOptions  # of each trial

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial's run."""
        return self.folder / "trials" / f"{number:04}"


@dataclass(frozen=True)
class _Run:
    """A trial that has trained for an epoch or more."""

    number: int  # of the trial
    checkpoints: Checkpoints
    metrics: RunMetrics  # of its best checkpoint
    best: EpochRecord


def tune(
    corpus: Path,
    out: Path,
    workers: WorkerResources,
    options: SweepOptions,
    invocation: Invocation,
) -> None:
    """Train a model at each point, ending the poor ones early (ASHA, Li et al., 2020).

    Makes `out` with `sweep.json` and the model directory `best`. The trials' runs are in `OUT.run`.
    If that holds the same sweep already, it is resumed.

    Raises:
        BadInput: as `train`.
        Failed: every trial failed.
        Stopped: the sweep was interrupted and can be resumed.
    """
    begin = time.perf_counter()
    watch = Watch(options.track)
    watch.check()
    opened, space, points = Corpus.open(corpus.resolve()), options.space, options.points
    chosen = [space.config_of(point) for point in points]
    configs = [run_config(opened, each.model, each.train, each.decode) for each in chosen]
    description = {
        "corpus": opened.sha256,
        "config": run_config(
            opened, space.config.model, space.config.train, space.config.decode
        ).model_dump(mode="json"),
        "points": points,
    }
    warnings = (*opened.manifest.warnings, *run_warnings(opened.manifest, configs[0]))
    config = configs[0]
    with ExitStack() as stack:
        table = stack.enter_context(SweepTable(space.names))
        table.log(f"from {describe_direction(config.source_language, config.target_language)}")
        for warning in warnings:
            table.log(f"warning: {warning.text}")
        out = out.resolve()
        folder = stack.enter_context(
            claimed_folder(out, "sweep.json", description, options.restart)
        )
        stack.enter_context(cluster(table.log))
        workers.require(table.log)
        table.log(f"{len(points)} trials in {folder}")
        _Watcher.table, _Watcher.points = table, points
        setup = _Setup(opened.path, configs, points, workers, folder, TrainOptions(watch=watch))
        tuner = _make_tuner(setup)
        invocation.record(folder, {"path": str(opened.path), "sha256": opened.sha256})
        grid = _fit(tuner, len(points))
        table.log("scoring the best trial on valid")
        sweep = _export(grid, setup, out, time.perf_counter() - begin)
    table.log(f"best: {describe_point(points[sweep.best])}")
    for warning in warnings:
        table.log(f"warning: {warning.text}")
    table.log(f"model directory: {out / 'best'}")


def _fit(tuner: ray.tune.Tuner, trials: int) -> ray.tune.ResultGrid:
    """Run the trials to their end.

    Raises:
        Stopped: Ctrl-C was pressed, or SIGTERM sent.
    """
    # Tune's own handler would end the sweep as if it were complete.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    try:
        with interruptible():
            return tuner.fit()
    except Stopped:
        ended = len(_Watcher.ended)
        raise Stopped(
            f"stopped: {ended} of {trials} trials have ended; run the same command again to resume"
        ) from None


def _make_tuner(setup: _Setup) -> ray.tune.Tuner:
    trainable = ray.tune.with_resources(
        ray.tune.with_parameters(_trial, setup=setup),
        # A trial's own process only waits for its workers. Any share of a CPU that it held would
        # be missing for them: two trials of one worker each would not fit on two CPUs.
        {ray_internals.HEAD_NODE: 0.001},
    )
    if ray.tune.Tuner.can_restore(setup.folder / "tune"):
        return ray.tune.Tuner.restore(str(setup.folder / "tune"), trainable, resume_errored=True)
    total, workers = ray.cluster_resources(), setup.workers
    at_once = min(
        int(total.get(kind, 0) / (workers.number * each) + 1e-6)  # five fifths are one
        for kind, each in workers.each.items()
    )
    return ray.tune.Tuner(
        trainable,
        param_space={"number": ray.tune.grid_search(list(range(len(setup.points))))},
        tune_config=ray.tune.TuneConfig(
            metric="valid_loss",
            mode="min",
            scheduler=ASHAScheduler(
                time_attr="epoch", max_t=max(each.train.epochs for each in setup.configs)
            ),
            max_concurrent_trials=max(1, at_once),
        ),
        run_config=ray.tune.RunConfig(
            name="tune",
            storage_path=str(setup.folder),
            failure_config=ray.tune.FailureConfig(max_failures=2),
            callbacks=[_Watcher()],
            verbose=0,
        ),
    )


def _trial(choice: dict[str, Any], setup: _Setup) -> None:
    """Run a trial: a Ray Train run with its own folder, which continues after a restart."""
    folder = setup.trial_folder(choice["number"])
    config = setup.configs[choice["number"]]
    # A trial that is stopped loses its workers first. A trainer that may restart them then does
    # so as it dies itself, and Ray 2.60 keeps the resources of the new ones for ever: two such
    # stops, and a cluster of two CPUs has none left. So Tune tries a failed trial again instead.
    trainer = make_trainer(
        Job(setup.corpus, config, folder, setup.workers.cpus, setup.options),
        setup.workers,
        callbacks=[TuneReportCallback()],
        max_failures=0,
    )
    outcome = trainer.fit().return_value
    if isinstance(outcome, RunFailed | RunRefused):
        # Every other try would fail alike: not an error, after which Tune would try again.
        write_text(folder / _REASON, outcome.reason)


def _export(grid: ray.tune.ResultGrid, setup: _Setup, out: Path, seconds: float) -> Sweep:
    """Make `out` from the trials' runs, and return what `sweep.json` says.

    Raises:
        Failed: no trial reached the end of an epoch.
    """
    trials: list[Trial] = []
    runs: list[_Run] = []
    results = {result.config["number"]: result for result in grid}
    for number in range(len(setup.points)):
        trial, run = _result(results.get(number), setup, number)
        trials.append(trial)
        if run is not None:
            runs.append(run)
    if not runs:
        raise Failed(f"every trial failed; the first: {trials[0].reason}")
    best = min(runs, key=lambda run: (run.best.valid_loss, run.number))
    sweep = Sweep(trials=trials, best=best.number, total_seconds=seconds)
    with new_directory(out) as scratch:
        export(
            best.checkpoints, best.metrics, setup.configs[best.number].train, setup.corpus,
            scratch / "best", seconds, versions={"ray": ray.__version__},
        )  # fmt: skip
        (scratch / "sweep.json").write_text(sweep.to_json(), encoding="utf-8")
    return sweep


def _result(
    result: ray.tune.Result | None, setup: _Setup, number: int
) -> tuple[Trial, _Run | None]:
    """Return what became of a trial, and its run if that has a checkpoint."""
    folder, train = setup.trial_folder(number), setup.configs[number].train

    def failed(reason: str) -> tuple[Trial, None]:
        return Trial(settings=setup.points[number], status="failed", reason=reason), None

    if (folder / _REASON).exists():
        return failed((folder / _REASON).read_text("utf-8"))
    if result is None or result.error is not None:
        return failed("it was not run" if result is None else last_line(result.error))
    checkpoints = run_checkpoints(folder, train)
    if not (best := checkpoints.best(1)):
        return failed("it has left no checkpoint")
    with checkpoints.open(best[0]) as path:
        metrics = RunMetrics.load(path)
    with checkpoints.open(checkpoints.all()[-1]) as path:
        losses = [epoch.valid_loss for epoch in RunMetrics.load(path).epochs]
    record = metrics.best
    if record is None:
        return failed("it has finished no epoch")
    epochs = len(losses)
    ended = epochs >= train.epochs or stops_early(train, losses)
    trial = Trial(
        settings=setup.points[number],
        status="finished" if ended else "stopped",
        epochs=epochs,
        best=record,
    )
    return trial, _Run(number, checkpoints, metrics, record)


class _Watcher(ray.tune.Callback):
    """Shows the trials on the driver, where Tune calls it.

    Tune saves its callbacks with the sweep and restores the saved ones with it, so they cannot hold
    the table of the process: the class does.
    """

    table: ClassVar[SweepTable]
    points: ClassVar[list[Point]]
    ended: ClassVar[set[int]] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._show(trial, "running")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        progress = TrialProgress(
            epoch=result["epoch"],
            valid_loss=result["valid_loss"],
            valid_token_accuracy=result["valid_token_accuracy"],
            pairs_per_second=result["pairs_per_second"],
        )
        self._show(trial, "running", progress)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, "ended")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, "failed")

    def _end(self, trial: Any, state: str) -> None:
        self.ended.add(trial.config["number"])
        self._show(trial, state)

    def _show(self, trial: Any, state: str, progress: TrialProgress | None = None) -> None:
        number = trial.config["number"]
        self.table.show(number, self.points[number], state, progress)
