"""A sweep over hidden and embedding sizes on Ray Tune; each trial is a Ray Train run."""

import json
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import ray
import ray.tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler

from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.console import SweepTable
from s2s.corpus import Corpus
from s2s.distributed.cluster import Workers, cluster
from s2s.distributed.train import export, last_line, make_config, make_trainer
from s2s.distributed.worker import checkpoints_of
from s2s.errors import BadInput, Failed
from s2s.files import new_directory
from s2s.runs import claim, held, interruptible
from s2s.training.checkpoints import Checkpoints

Sizes = tuple[int, int]  # hidden, embedding


def tune(
    corpus: Path,
    out: Path,
    model: ModelConfig,
    settings: TrainConfig,
    decode: DecodeConfig,
    *,
    sizes: list[Sizes],
    trials: int,
    workers: Workers,
    restart: bool = False,
) -> None:
    """Train models of several sizes, ending the poor ones early (ASHA, Li et al., 2020).

    Makes `out` with `sweep.json` and the model directory `best`. The trials' runs live in
    `OUT.run`; a sweep found there is gone on with, if it is the same.

    Args:
        sizes: hidden and embedding sizes to choose from.
        trials: how many of them are tried, drawn by the seed.

    Raises:
        BadInput: as `train`, or there is nothing to try.
        Failed: every trial failed.
        Stopped: the sweep was interrupted and can go on.
    """
    begin = time.perf_counter()
    opened = Corpus.open(corpus.resolve())
    config = make_config(opened, model, settings, decode)
    if not sizes or trials < 1 or min(map(min, sizes)) < 1:
        raise BadInput("a sweep needs at least one trial, and sizes of at least 1")
    order = np.random.default_rng(settings.seed).permutation(len(sizes))
    tried = [sizes[i] for i in sorted(order[:trials])]
    run = {"corpus": opened.sha256, "config": config.model_dump(mode="json"), "sizes": tried}
    with cluster(), SweepTable() as table:
        workers.require(table.line)
        folder = claim(out, "sweep.json", run, restart)
        out = out.resolve()
        table.line(f"{len(tried)} trials in {folder}")
        _Watcher.table = table
        tuner = _make_tuner(opened.path, config, workers, folder, tried)
        with held(folder), interruptible():
            grid = tuner.fit()
        table.line("scoring the best trial on valid")
        sweep = _export(grid, config, opened.path, out, folder, time.perf_counter() - begin)
    best = sweep["trials"][sweep["best"]]
    table.line(f"best: hidden {best['hidden_size']}, embedding {best['embedding_size']}")
    table.line(f"model directory: {out / 'best'}")


def _make_tuner(
    corpus: Path,
    config: Config,
    workers: Workers,
    folder: Path,
    sizes: list[Sizes],
) -> ray.tune.Tuner:
    trainable = ray.tune.with_resources(
        ray.tune.with_parameters(
            _trial, corpus=corpus, config=config.to_json(), workers=workers, folder=folder
        ),
        # A trial's own process only waits for its workers. Any share of a CPU that it held would
        # be missing for them: two trials of one worker each would not fit on two CPUs. Every
        # cluster's head has this resource, which stands for no hardware.
        {"node:__internal_head__": 0.001},
    )
    if ray.tune.Tuner.can_restore(folder / "tune"):
        return ray.tune.Tuner.restore(str(folder / "tune"), trainable, resume_errored=True)
    has = ray.cluster_resources()
    at_once = min(
        int(has.get(kind, 0) / (workers.number * each) + 1e-6)  # five fifths are one
        for kind, each in workers.each.items()
    )
    return ray.tune.Tuner(
        trainable,
        param_space={"sizes": ray.tune.grid_search(sizes)},
        tune_config=ray.tune.TuneConfig(
            metric="valid_loss",
            mode="min",
            scheduler=ASHAScheduler(time_attr="epoch", max_t=config.train.epochs),
            max_concurrent_trials=max(1, at_once),
        ),
        run_config=ray.tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            failure_config=ray.tune.FailureConfig(max_failures=2),
            callbacks=[_Watcher()],
            verbose=0,
        ),
    )


def _trial(
    choice: dict[str, Any], corpus: Path, config: str, workers: Workers, folder: Path
) -> None:
    """One trial: a Ray Train run with its own folder, which it resumes after a restart."""
    base = Config.from_json(config, "config")
    hidden, embedding = choice["sizes"]
    sized = base.model.model_copy(update={"hidden_size": hidden, "embedding_size": embedding})
    own = folder / "trials" / ray.tune.get_context().get_trial_id()
    trial = base.model_copy(update={"model": sized})
    # A trial that is stopped loses its workers first. A trainer that may start them anew then does
    # so as it dies itself, and Ray 2.60 keeps the places of the new ones for ever: two such stops,
    # and a cluster of two CPUs has none left. So a failed trial is tried again by Tune instead.
    trainer = make_trainer(
        corpus, trial, workers, own, callbacks=[TuneReportCallback()], max_failures=0
    )
    outcome = trainer.fit().return_value
    for told in ("refused", "failed"):
        if told in outcome:
            raise RuntimeError(outcome[told])


def _export(
    grid: ray.tune.ResultGrid,
    config: Config,
    corpus: Path,
    out: Path,
    folder: Path,
    seconds: float,
) -> dict[str, Any]:
    """Make `out` from the trials' runs, and return what `sweep.json` says.

    Raises:
        Failed: no trial reached the end of an epoch.
    """
    trials: list[dict[str, Any]] = []
    runs: list[tuple[float, int, Checkpoints, dict[str, Any]]] = []
    for result in grid:
        hidden, embedding = result.config["sizes"]
        row: dict[str, Any] = {"hidden_size": hidden, "embedding_size": embedding}
        if result.error is None and result.metrics and "trial_id" in result.metrics:
            run = checkpoints_of(folder / "trials" / result.metrics["trial_id"], config.train, None)
            if not (found := run.best(1)):
                trials.append({**row, "error": "it has left no checkpoint"})
                continue
            with run.open(found[0]) as path:
                outcome = json.loads((path / "metrics.json").read_bytes())
            record = {f"best_{key}": value for key, value in outcome["best"].items()}
            row |= {"epochs": result.metrics["epoch"], **record}
            runs.append((outcome["best"]["valid_loss"], len(trials), run, outcome))
        trials.append({**row, "error": last_line(result.error) if result.error else None})
    if not runs:
        raise Failed(f"every trial failed; the first: {trials[0]['error']}")
    _, number, run, outcome = min(runs, key=lambda found: found[:2])

    with new_directory(out) as scratch:
        export(run, outcome, config.train, corpus, scratch / "best", seconds)
        sweep = {"trials": trials, "best": number, "total_seconds": seconds}
        (scratch / "sweep.json").write_text(json.dumps(sweep, indent=2) + "\n", encoding="utf-8")
    return sweep


class _Watcher(ray.tune.Callback):
    """Shows the trials on the driver, where Tune calls it.

    Tune saves its callbacks with the sweep and brings the saved ones back with it, so the table of
    the process cannot be theirs: it is the class's.
    """

    table: ClassVar[SweepTable]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.table.show(trial.trial_id, trial.config["sizes"], "running")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self.table.show(trial.trial_id, trial.config["sizes"], "running", result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.table.show(trial.trial_id, trial.config["sizes"], "ended")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.table.show(trial.trial_id, trial.config["sizes"], "failed")
