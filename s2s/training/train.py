"""Training from a corpus directory to a model directory, whoever runs the workers."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.console import EpochBar
from s2s.corpus import Corpus
from s2s.corpus.warnings import run_warnings, score_warnings
from s2s.devices import find_device
from s2s.errors import BadInput, Failed, Stopped
from s2s.interruption import interruptible, requests_to_stop
from s2s.leases import has_lost
from s2s.locations import Location, absolute, is_uri
from s2s.mirrors import local_copy, marks, publish, remove, work_folder
from s2s.model.metrics import RunMetrics, Score
from s2s.provenance import Invocation
from s2s.runs import (
    claimed_folder,
    mark_finished,
    run_location,
    run_mirror,
)
from s2s.text.language_pairs import describe_direction
from s2s.training.checkpoints import Checkpoints
from s2s.training.export import export
from s2s.training.failures import FullMemory
from s2s.training.host import EpochTable, Progress, SilentHost
from s2s.training.job import (
    Job,
    RunFailed,
    RunFinished,
    RunOutcome,
    RunRefused,
    RunStopped,
    take_part,
)
from s2s.training.loop import exhaust
from s2s.training.run import TrainOptions, initial_model_config, run_checkpoints, run_config
from s2s.training.signals import Signals

_WEIGHTS = "model.safetensors"  # by which a directory is known as a model


@dataclass(frozen=True)
class TrainedModel:
    """The model directory that a run has made, and what its `metrics.json` says."""

    path: Path  # on this host, also of a model at a URI
    metrics: RunMetrics


@dataclass(frozen=True)
class Plan:
    """A run whose settings and corpus are checked, and of which nothing is made yet."""

    corpus: Corpus
    corpus_location: Location
    config: Config
    out: Location
    options: TrainOptions
    invocation: Invocation
    begin: float  # when it was planned, by the clock of `time.perf_counter`

    @classmethod
    def of(
        cls,
        corpus: Location,
        out: Location,
        model: ModelConfig,
        settings: TrainConfig,
        decode: DecodeConfig,
        options: TrainOptions,
        invocation: Invocation,
    ) -> "Plan":
        """Return the plan of a run.

        Args:
            corpus: corpus directory.
            out: model directory to make. The run is in the folder `OUT.run` next to it.
            model: settings of the network; those of `options.init_from` take precedence.
            invocation: kept in the folder of the run.

        Raises:
            BadInput: the corpus is broken, or does not fit the settings, or a tracker is unknown.
        """
        options.watch.check()
        begin = time.perf_counter()
        opened = Corpus.open(local_copy(absolute(corpus)))
        if options.init_from is not None:
            model = initial_model_config(options.init_from, opened)
        config = run_config(opened, model, settings, decode)
        return cls(opened, absolute(corpus), config, out, options, invocation, begin)

    @property
    def direction(self) -> str:
        """The direction of translation, in words and codes."""
        config = self.config
        return describe_direction(config.source_language, config.target_language)

    def carry_out(
        self,
        run: Callable[[Job], RunOutcome],
        threads: int,
        log: Callable[[str], None],
        versions: Mapping[str, str] | None = None,
    ) -> TrainedModel:
        """Train and make the model directory. A run that `OUT.run` holds already is resumed.

        Args:
            run: trains a job to its end.
            threads: of each worker.
            log: called with each line for the user.
            versions: versions of further libraries, which ran the workers.

        Raises:
            BadInput: `out` is there already, or `OUT.run` holds another run.
            Failed: training ended early by an error.
            Stopped: training was interrupted and can be resumed.
        """
        options, settings = self.options, self.config.train
        manifest = self.corpus.manifest
        warnings = (*manifest.warnings, *run_warnings(manifest, self.config))
        for warning in warnings:
            log(f"warning: {warning.text}")
        # A place that cannot be used is reported before anything is made or dropped.
        out, location = absolute(self.out), run_location(self.out)
        store = run_checkpoints(location, settings, options.checkpoints, log)
        store.all()
        start = options.init_from and absolute(options.init_from)
        root = options.checkpoints and store.root
        description = {
            "corpus": self.corpus.sha256,
            "config": self.config.model_dump(mode="json"),
            "start": start,
            "checkpoints": root,
        }
        with claimed_folder(
            out,
            _WEIGHTS,
            description,
            options.restart,
            extensible="config.train.epochs",
            extends="a greater --train.epochs trains it further",
        ) as folder:
            if options.restart:
                store.clear()
            elif marks(out, _WEIGHTS)[0] and not store.all():
                raise BadInput(
                    f"{store.root} has no checkpoint left to train {out} further; --restart starts "
                    "over and replaces it"
                )
            FullMemory.forget(location)
            corpus = {"path": self.corpus_location, "sha256": self.corpus.sha256}
            self.invocation.record(folder, corpus)
            mirror = run_mirror(location)
            mirror.publish()
            log(f"checkpoints: {store.root}")
            options = replace(options, init_from=start, checkpoints=root)
            job = Job(self.corpus_location, self.config, location, threads, options)
            finished = _finished(run(job), store, location)
            log("scoring the model on valid")
            made = work_folder(out)
            metrics = export(
                store, finished.metrics, settings, self.corpus.path, made,
                time.perf_counter() - self.begin, versions=versions, log=log,
            )  # fmt: skip
            if is_uri(out):
                publish(made, out)
            mark_finished(folder)
            mirror.publish()
        if (epochs := len(metrics.epochs)) < settings.epochs:
            patience = settings.patience
            log(
                f"stopped early after epoch {epochs}: no better valid loss in {patience} "
                f"epoch{'s' * (patience != 1)} (--train.patience)"
            )
        log(f"weights {metrics.weights}; on valid, {metrics.decoding}: {_describe(metrics.scores)}")
        sentences = sum(manifest.references["valid"].values())
        bleu = next(score.score for score in metrics.scores if score.name == "BLEU")
        for warning in (*warnings, *score_warnings(manifest, "valid", sentences, bleu)):
            log(f"warning: {warning.text}")
        log(f"model directory: {out}")
        return TrainedModel(made, metrics)


def _describe(scores: Sequence[Score]) -> str:
    """Return scores as text, with the references where there are several sets of them."""
    sets = {score.references for score in scores}
    return ", ".join(
        f"{score.name} {score.score:.2f}"
        + (f" (references {score.references})" if len(sets) > 1 else "")
        for score in scores
    )


def _finished(outcome: RunOutcome, store: Checkpoints, location: Location) -> RunFinished:
    """Return the outcome of a run that has finished.

    Raises:
        BadInput: the run was refused; its folder is removed unless it has a checkpoint.
        Failed: it failed.
        Stopped: it was stopped.
    """
    match outcome:
        case RunRefused(reason):
            if not store.all():  # the same input will fail again
                remove(location)
                shutil.rmtree(work_folder(location), ignore_errors=True)
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


# ---- in this process ----------------------------------------------------------------------------


def train_in_process(
    plan: Plan, device: str = "auto", threads: int | None = None, *, quiet: bool = False
) -> TrainedModel:
    """Carry out a plan in this process, with a bar on a terminal.

    Ctrl-C, or SIGTERM, lets the run save and then stop; a second one stops it at once. In another
    thread than the main one the run cannot be interrupted.

    Args:
        device: as `s2s.devices.find_device` takes it; `auto` is a GPU if there is one.
        threads: that torch computes with; None is all CPUs that the process may use.
        quiet: print nothing.

    Raises:
        BadInput: as `Plan.carry_out`, or there is no such device.
        Failed: as `Plan.carry_out`.
        Stopped: as `Plan.carry_out`.
    """
    chosen = find_device(device)
    before = torch.get_num_threads()
    devices = [chosen] if chosen.type == "cuda" else []
    try:
        # The random numbers of a program that trains are its own.
        with interruptible(), torch.random.fork_rng(devices), EpochBar(quiet=quiet) as bar:
            bar.log(f"from {plan.direction}")
            run = partial(_run, device=chosen, bar=bar)
            return plan.carry_out(run, threads or available_cpus(), bar.log)
    finally:
        torch.set_num_threads(before)


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(job: Job, device: torch.device, bar: EpochBar) -> RunOutcome:
    """Run a job to its end, its progress shown on the bar."""
    with requests_to_stop(has_lost) as requests:
        return exhaust(take_part(job, device, _Host(bar, job.config.train.epochs, requests)))


class _Host(SilentHost):
    """A terminal, as the training loop sees it.

    Args:
        epochs: of the run.
        requests: when each request to stop came, so far.
    """

    def __init__(self, bar: EpochBar, epochs: int, requests: list[float]) -> None:
        self._bar, self._table, self._requests = bar, EpochTable(epochs), requests
        self._announced = False

    def log(self, line: str) -> None:
        """Print the line above the bar."""
        self._bar.log(line)

    def report_progress(self, progress: Progress) -> None:
        """Show the progress on the bar."""
        self._bar.show(*astuple(progress))

    def report_epoch(self, metrics: RunMetrics) -> None:
        """Print a line with the results of the epoch."""
        self._bar.log(self._table.lines(metrics))

    def signals(self) -> Signals:
        """Return whether the user wants the run to stop."""
        if self._requests and not self._announced:
            self.log("stopping: saving a checkpoint first (again to stop at once)")
            self._announced = True
        return Signals(stop=bool(self._requests))
