"""A sweep over hidden and embedding sizes on Ray Tune; each trial is a Ray Train run."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import ray
import ray.tune
from pydantic import ValidationError
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler

from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig, describe
from s2s.console import SweepTable, TrialProgress
from s2s.corpus import Corpus
from s2s.corpus.warnings import run_warnings
from s2s.distributed import ray_internals
from s2s.distributed.cluster import WorkerResources, cluster
from s2s.distributed.sweep import Sweep, Trial
from s2s.distributed.train import make_trainer
from s2s.errors import BadInput, Failed, last_line
from s2s.files import new_directory
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.provenance import Invocation
from s2s.runs import claimed_folder, interruptible
from s2s.text.language_pairs import describe_direction
from s2s.training.checkpoints import Checkpoints
from s2s.training.export import export
from s2s.training.job import Job, RunFailed, RunRefused
from s2s.training.run import TrainOptions, Watch, run_checkpoints, run_config

Sizes = tuple[int, int]  # hidden, embedding


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep tries."""

    sizes: list[Sizes]  # to draw from
    trials: int  # how many of them are drawn, by the seed
    track: tuple[str, ...] = ("tensorboard",)  # trackers of each trial
    restart: bool = False  # drop what an earlier sweep has left


@dataclass(frozen=True)
class _Setup:
    """What all trials of a sweep share."""

    corpus: Path
    config: Config  # with the sizes of the command line, which each trial replaces
    workers: WorkerResources  # of each trial
    folder: Path  # of the sweep's run
    options: TrainOptions  # of each trial


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
    model: ModelConfig,
    settings: TrainConfig,
    decode: DecodeConfig,
    workers: WorkerResources,
    options: SweepOptions,
    invocation: Invocation,
) -> None:
    """Train models of several sizes, ending the poor ones early (ASHA, Li et al., 2020).

    Makes `out` with `sweep.json` and the model directory `best`. The trials' runs are in `OUT.run`.
    If that holds the same sweep already, it is resumed.

    Raises:
        BadInput: as `train`, or there is nothing to try, or no model has such a size.
        Failed: every trial failed.
        Stopped: the sweep was interrupted and can be resumed.
    """
    begin = time.perf_counter()
    watch = Watch(options.track)
    watch.check()
    opened = Corpus.open(corpus.resolve())
    config = run_config(opened, model, settings, decode)
    tried = _drawn(options, config)
    description = {
        "corpus": opened.sha256,
        "config": config.model_dump(mode="json"),
        "sizes": tried,
    }
    warnings = (*opened.manifest.warnings, *run_warnings(opened.manifest, config))
    direction = describe_direction(config.source_language, config.target_language)
    with ExitStack() as stack:
        table = stack.enter_context(SweepTable())
        table.log(f"from {direction}")
        stack.enter_context(cluster(table.log))
        for warning in warnings:
            table.log(f"warning: {warning.text}")
        workers.require(table.log)
        out = out.resolve()
        folder = stack.enter_context(
            claimed_folder(out, "sweep.json", description, options.restart)
        )
        table.log(f"{len(tried)} trials in {folder}")
        _Watcher.table = table
        setup = _Setup(opened.path, config, workers, folder, TrainOptions(watch=watch))
        tuner = _make_tuner(setup, tried)
        invocation.record(folder, {"path": str(opened.path), "sha256": opened.sha256})
        with interruptible():
            grid = tuner.fit()
        table.log("scoring the best trial on valid")
        sweep = _export(grid, setup, out, time.perf_counter() - begin)
    best = sweep.trials[sweep.best]
    table.log(f"best: hidden {best.hidden_size}, embedding {best.embedding_size}")
    for warning in warnings:
        table.log(f"warning: {warning.text}")
    table.log(f"model directory: {out / 'best'}")


def _drawn(options: SweepOptions, config: Config) -> list[Sizes]:
    """Return the sizes that are tried.

    Raises:
        BadInput: there are none, or no model has such a size.
    """
    if not options.sizes or options.trials < 1:
        raise BadInput("a sweep needs at least one trial")
    for sizes in options.sizes:
        _resized(config, sizes)
    order = np.random.default_rng(config.train.seed).permutation(len(options.sizes))
    return [options.sizes[i] for i in sorted(order[: options.trials])]


def _resized(config: Config, sizes: Sizes) -> Config:
    """Return the config with these sizes.

    Raises:
        BadInput: no model has them.
    """
    hidden, embedding = sizes
    settings = {
        **config.model.model_dump(), "hidden_size": hidden, "embedding_size": embedding
    }  # fmt: skip
    try:
        model = ModelConfig.model_validate(settings)
    except ValidationError as error:
        raise BadInput(
            f"--hidden-sizes {hidden} with --embedding-sizes {embedding}: {describe(error)}"
        ) from None
    return config.model_copy(update={"model": model})


def _make_tuner(setup: _Setup, sizes: list[Sizes]) -> ray.tune.Tuner:
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
        param_space={"sizes": ray.tune.grid_search(sizes)},
        tune_config=ray.tune.TuneConfig(
            metric="valid_loss",
            mode="min",
            scheduler=ASHAScheduler(time_attr="epoch", max_t=setup.config.train.epochs),
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
    folder = setup.folder / "trials" / ray.tune.get_context().get_trial_id()
    config = _resized(setup.config, choice["sizes"])
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
        raise RuntimeError(outcome.reason)


def _export(grid: ray.tune.ResultGrid, setup: _Setup, out: Path, seconds: float) -> Sweep:
    """Make `out` from the trials' runs, and return what `sweep.json` says.

    Raises:
        Failed: no trial reached the end of an epoch.
    """
    trials: list[Trial] = []
    runs: list[_Run] = []
    for result in grid:
        trial, run = _result(result, setup, len(trials))
        trials.append(trial)
        if run is not None:
            runs.append(run)
    if not runs:
        raise Failed(f"every trial failed; the first: {trials[0].error}")
    best = min(runs, key=lambda run: (run.best.valid_loss, run.number))
    sweep = Sweep(trials=trials, best=best.number, total_seconds=seconds)
    with new_directory(out) as scratch:
        export(
            best.checkpoints, best.metrics, setup.config.train, setup.corpus, scratch / "best",
            seconds, versions={"ray": ray.__version__},
        )  # fmt: skip
        (scratch / "sweep.json").write_text(sweep.to_json(), encoding="utf-8")
    return sweep


def _result(result: ray.tune.Result, setup: _Setup, number: int) -> tuple[Trial, _Run | None]:
    """Return what became of a trial, and its run if that has a checkpoint."""
    hidden, embedding = result.config["sizes"]
    trial = Trial(
        hidden_size=hidden,
        embedding_size=embedding,
        error=last_line(result.error) if result.error else None,
    )
    if result.error is not None or not result.metrics or "trial_id" not in result.metrics:
        return trial, None
    folder = setup.folder / "trials" / result.metrics["trial_id"]
    checkpoints = run_checkpoints(folder, setup.config.train)
    if not (best := checkpoints.best(1)):
        return trial.model_copy(update={"error": "it has left no checkpoint"}), None
    with checkpoints.open(best[0]) as path:
        metrics = RunMetrics.load(path)
    record = metrics.best
    if record is None:
        return trial.model_copy(update={"error": "it has finished no epoch"}), None
    measured = {"epochs": result.metrics["epoch"], "best": record}
    return trial.model_copy(update=measured), _Run(number, checkpoints, metrics, record)


class _Watcher(ray.tune.Callback):
    """Shows the trials on the driver, where Tune calls it.

    Tune saves its callbacks with the sweep and restores the saved ones with it, so they cannot hold
    the table of the process: the class does.
    """

    table: ClassVar[SweepTable]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.table.show(trial.trial_id, trial.config["sizes"], "running")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        progress = TrialProgress(
            epoch=result["epoch"],
            valid_loss=result["valid_loss"],
            valid_token_accuracy=result["valid_token_accuracy"],
            pairs_per_second=result["pairs_per_second"],
        )
        self.table.show(trial.trial_id, trial.config["sizes"], "running", progress)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.table.show(trial.trial_id, trial.config["sizes"], "ended")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.table.show(trial.trial_id, trial.config["sizes"], "failed")
