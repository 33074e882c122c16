"""A sweep on Ray Tune, from a corpus directory to the best model directory."""

import shutil
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import ray
import ray.tune

from s2s import extras
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.corpus.directory import MANIFEST
from s2s.corpus.warnings import run_warnings
from s2s.distributed.cluster import WorkerResources, cluster
from s2s.distributed.hosts import monitored_hosts
from s2s.distributed.shared_storage import SharedPath, require_shared
from s2s.distributed.sweep_hooks import rungs
from s2s.distributed.sweep_options import SweepOptions
from s2s.distributed.sweep_trainer import SweepTrainer
from s2s.distributed.trial import with_seed
from s2s.errors import BadInput, Failed
from s2s.files import new_directory, write_text
from s2s.interruption import interruptible
from s2s.locations import Location, absolute, extended
from s2s.mirrors import local_copy
from s2s.model.metrics import RunMetrics
from s2s.provenance import Invocation
from s2s.reports.sweep_report import sweep_report
from s2s.runs import claimed_folder, mark_finished
from s2s.text.language_pairs import describe_direction
from s2s.training.export import export
from s2s.training.run import TrainOptions, Watch, run_checkpoints, run_config
from s2s.tuning.dimension import Dimension
from s2s.tuning.objective import is_maximised, needs_translations
from s2s.tuning.records import Records
from s2s.tuning.space import Space, describe_point
from s2s.tuning.study import JOURNAL, importances
from s2s.tuning.sweep_run import best_trial
from s2s.tuning.sweep_table import SweepTable
from s2s.tuning.trials import SWEEP, Axis, Sweep, Trial

CSV, PAGE = "sweep.csv", "report.html"

_OF_A_LOST_HOST = "its trials are started again from their checkpoints when there is room"
_MOST_SIZED = 256  # models whose weights are counted before anything starts


def tune(
    corpus: Location,
    out: Path,
    workers: WorkerResources,
    options: SweepOptions,
    invocation: Invocation,
) -> None:
    """Train a model at each point that the search chooses, ending poor ones early.

    Makes `out` with `sweep.json`, a table, a page, Optuna's storage and the model directory `best`.
    The trials' runs are in `OUT.run`. If that holds the same sweep already, it is resumed, or
    extended by further trials, seeds, epochs or values of settings.

    Raises:
        BadInput: as `train`.
        Failed: no trial reached the end of an epoch.
        Stopped: the sweep was interrupted and can be resumed.
    """
    opened = Corpus.open(local_copy(absolute(corpus)))
    base, out = options.space.config, out.resolve()
    config = run_config(opened, base.model, base.train, base.decode)
    options = replace(options, space=replace(options.space, config=config))
    watch = Watch(
        options.track, samples=0, bleu_every=1 if needs_translations(options.objective) else None
    )
    watch.check()
    trainer = SweepTrainer(opened, absolute(corpus), workers, TrainOptions(watch=watch))
    for point in options.space.corners(_MOST_SIZED):
        trainer.parameters(options.space, point)
    description = {
        "corpus": opened.sha256,
        "config": config.model_dump(mode="json"),
        "objective": options.objective,
        "search": options.changeable(),
    }
    warnings = (*opened.manifest.warnings, *run_warnings(opened.manifest, config))
    with interruptible(), ExitStack() as stack:
        table = stack.enter_context(SweepTable(options.objective))
        table.log(f"from {describe_direction(config.source_language, config.target_language)}")
        for warning in warnings:
            table.log(f"warning: {warning.text}")
        folder = stack.enter_context(
            claimed_folder(
                out,
                SWEEP,
                description,
                options.restart,
                extensible="config.train.epochs",
                free="search",
                extends="more --trials, a greater --budget or other values of --search extend it",
            )
        )
        records = Records(folder)  # whose clock begins now
        # Trials of one worker are no Ray Train runs, whose clean-up needs the dashboard.
        try:
            stack.enter_context(cluster(table.log, dashboard=workers.number > 1))
            workers.require(table.log)
            shared = [
                SharedPath("corpus", extended(absolute(corpus), f"/{MANIFEST}")),
                SharedPath("folder of the sweep", absolute(folder), is_folder=True),
            ]
            require_shared(shared, workers.hosts())
        except (BadInput, Failed):
            if not records.load():
                shutil.rmtree(folder)  # nothing is begun there
            raise
        invocation.record(folder, {"path": absolute(corpus), "sha256": opened.sha256})
        table.log(f"trials in {folder / 'trials'}")
        stack.enter_context(monitored_hosts(table.log, _OF_A_LOST_HOST))
        sweep = _sweep(trainer, options, records, out, table)
        mark_finished(folder)
    for warning in warnings:
        table.log(f"warning: {warning.text}")
    best = sweep.best_trial
    table.log(f"best: trial {best.number}, {describe_point(best.settings)}")
    table.log(f"model directory: {out / 'best'}")
    if (out / PAGE).is_file():
        table.log(f"page: {out / PAGE}")
    table.log(f"serve it with: s2s serve --local {out / 'best'}")


def _sweep(
    trainer: SweepTrainer, options: SweepOptions, records: Records, out: Path, table: SweepTable
) -> Sweep:
    """Run a sweep to its end, and make its directory.

    Raises:
        Failed: no trial reached the end of an epoch.
        Stopped: as `SweepTrainer.train`.
    """
    folder, maximised = records.folder, is_maximised(options.objective)
    trials = trainer.train(options, records, folder / JOURNAL, table)
    best = best_trial(trials, maximised=maximised)
    if best is None:
        reason = next((trial.reason for trial in trials if trial.reason), "none has begun")
        raise Failed(f"no trial has ended an epoch; the first: {reason}")
    config = options.space.config_of(best.settings)
    model, retrained = _Model(config, records, best, maximised=maximised), None
    if options.retrain:
        again = _retrain(trainer, options, model, folder / "retrained", table)
        model, retrained = again or (model, None)
    space = options.space
    trained = [*trials, *([retrained] if retrained else [])]
    sweep = Sweep(
        axes=_axes(space, trials),
        objective=options.objective,
        maximised=maximised,
        searcher=options.searcher,
        scheduler=options.scheduler,
        rungs=rungs(space) if options.scheduler == "asha" else (),
        trials=tuple(trials),
        best=best.number,
        importances=importances(space, trials, maximised=maximised),
        retrained=retrained,
        concurrency=trainer.concurrency(options),
        train_seconds=sum(trial.train_seconds for trial in trained),
        valid_seconds=sum(trial.valid_seconds for trial in trained),
        overhead_seconds=sum(trial.overhead_seconds for trial in trained),
        total_seconds=records.seconds,
    )
    table.log("scoring the best model on valid")
    with new_directory(out) as scratch:
        model.export(trainer.corpus.path, scratch / "best", sweep.total_seconds)
        (scratch / SWEEP).write_text(sweep.to_json(), encoding="utf-8")
        (scratch / CSV).write_text(sweep.to_csv(), encoding="utf-8")
        shutil.copyfile(folder / JOURNAL, scratch / JOURNAL)
        try:
            page = sweep_report(sweep, out.name, config)
        except Exception as error:  # the result of hours must not be lost by it
            lacks = isinstance(error, ModuleNotFoundError) and extras.advice("it", error)
            table.log(f"no page is made: {lacks or error}; s2s report {out} tries again")
        else:
            (scratch / PAGE).write_text(page, encoding="utf-8")
    return sweep


def _axes(space: Space, trials: Sequence[Trial]) -> tuple[Axis, ...]:
    """Return the settings that vary now, and those that varied in earlier sessions."""
    axes = [Axis(setting=d.setting, choices=d.choices, log=d.log) for d in space.dimensions]
    earlier = dict.fromkeys(name for trial in trials for name in trial.settings)
    for name in [name for name in earlier if name not in space.names]:
        tried = dict.fromkeys(t.settings[name] for t in trials if name in t.settings)
        axes.append(Axis(setting=name, choices=tuple(tried)))
    return tuple(axes)


class _Model:
    """The best model of some trials."""

    def __init__(self, config: Config, records: Records, trial: Trial, *, maximised: bool) -> None:
        scores = [each.score for each in trial.seeds]
        seed = trial.seeds[scores.index(max(scores) if maximised else min(scores))].seed
        self.trial = trial
        self.config = with_seed(config, seed)
        folder = records.trial_folder(trial.number, seed - config.train.seed)
        self._checkpoints = run_checkpoints(folder, self.config.train)

    def export(self, corpus: Path, out: Path, seconds: float) -> None:
        """Make the model directory `out`."""
        with self._checkpoints.open(self._checkpoints.best(1)[0]) as path:
            metrics = RunMetrics.load(path)
        export(
            self._checkpoints, metrics, self.config.train, corpus, out, seconds,
            versions={"ray": ray.__version__},
        )  # fmt: skip


def _retrain(
    trainer: SweepTrainer, options: SweepOptions, best: _Model, folder: Path, table: SweepTable
) -> tuple[_Model, Trial] | None:
    """Train the best point again, with several seeds and the whole budget of epochs.

    Returns:
        The best model, and all seeds as one trial; None if every run failed.
    """
    train = best.config.train
    epochs = options.retrain_epochs or train.epochs
    first = options.space.config.train.seed
    config = best.config.model_copy(
        update={"train": train.model_copy(update={"epochs": epochs, "seed": first})}
    )
    description = config.to_json()
    if not (folder / _POINT).is_file() or (folder / _POINT).read_text("utf-8") != description:
        shutil.rmtree(folder, ignore_errors=True)  # of another best point
        folder.mkdir(parents=True)
        write_text(folder / _POINT, description)
    seeds = tuple(range(first, first + options.retrain))
    again = SweepOptions(
        Space.of(config, [Dimension("train.seed", seeds)]), "grid", "none", options.objective,
        concurrent=options.concurrent,
    )  # fmt: skip
    table.log(f"training the best point again: {options.retrain} seeds, {epochs} epochs")
    records = Records(folder)
    trials = trainer.train(again, records, folder / JOURNAL, table)
    # There may be others, of an earlier session with more seeds.
    trials = [trial for trial in trials if trial.settings["train.seed"] in seeds]
    chosen = best_trial(trials, maximised=is_maximised(options.objective))
    if chosen is None:
        table.log(f"warning: {trials[0].reason}; the best model is that of the sweep")
        return None
    scored = [trial for trial in trials if trial.status != "failed" and trial.seeds]
    scores = [trial.seeds[0].score for trial in scored]
    together = chosen.model_copy(
        update={
            "settings": best.trial.settings,
            "score": statistics.fmean(scores),
            "spread": statistics.stdev(scores) if len(scores) > 1 else None,
            "seeds": tuple(trial.seeds[0] for trial in scored),
            "tokens": sum(trial.tokens for trial in trials),
            "train_seconds": sum(trial.train_seconds for trial in trials),
            "valid_seconds": sum(trial.valid_seconds for trial in trials),
            "overhead_seconds": sum(trial.overhead_seconds for trial in trials),
        }
    )
    config = again.space.config_of(chosen.settings)
    return _Model(config, records, chosen, maximised=is_maximised(options.objective)), together


_POINT = "config.json"  # of the point that is trained again
