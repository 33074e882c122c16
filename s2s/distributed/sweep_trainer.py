"""What trains the trials of a sweep on Ray Tune."""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray.tune
import torch

from s2s.corpus import Corpus
from s2s.distributed.cluster import WorkerResources
from s2s.distributed.sweep_hooks import BudgetStopper, Recorder, Search, make_scheduler
from s2s.distributed.sweep_options import SweepOptions
from s2s.distributed.trial import TrialSetup, trainable
from s2s.errors import Stopped
from s2s.interruption import interruptible
from s2s.locations import Location
from s2s.model.directory import ModelDirectory
from s2s.training.run import TrainOptions
from s2s.tuning.objective import is_maximised
from s2s.tuning.records import Records
from s2s.tuning.space import Point, Space
from s2s.tuning.study import StudyLog
from s2s.tuning.sweep_run import SweepRun, is_unfinished
from s2s.tuning.sweep_table import SweepTable
from s2s.tuning.trials import Trial

_ENVIRONMENT = {
    # Tune's own handler would end the sweep as if it were complete.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The records have all that these would write.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The reason of a failure is one line of ours.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # By default the process of the second trial starts only when that of the first has.
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    # Seconds until a trial that is ended within an epoch, as the budget is used up, is killed.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "1",
}


@dataclass(frozen=True)
class SweepTrainer:
    """What trains the trials of a sweep, and its best point again."""

    corpus: Corpus
    corpus_location: Location
    workers: WorkerResources  # of each trial
    runs: TrainOptions

    def parameters(self, space: Space, point: Point) -> int:
        """Return the number of weights of a point's model.

        Raises:
            BadInput: the corpus does not have what the model needs.
        """
        with torch.device("meta"):  # without memory, and without drawing random numbers
            directory = ModelDirectory.new(
                space.config_of(point), self.corpus.source, self.corpus.target
            )
        return sum(weight.numel() for weight in directory.model.parameters())

    def concurrency(self, options: SweepOptions) -> int:
        """Return the number of trials at the same time, at most."""
        room = max(1, self.workers.groups())
        return room if options.concurrent is None else min(room, options.concurrent)

    def train(
        self, options: SweepOptions, records: Records, journal: Path, table: SweepTable
    ) -> list[Trial]:
        """Run trials to their end, and return them with the trials of earlier sessions.

        Raises:
            Stopped: Ctrl-C was pressed, or SIGTERM sent.
        """
        past = records.load()
        ended = [trial for trial in past if not is_unfinished(options.space, trial, options.seeds)]
        sweep = SweepRun(
            options.space, options.search(), options.objective, records,
            seeds=options.seeds, trials=options.trials, budget=options.budget,
            log=StudyLog(journal, options.space, options.goals, ended),
            parameters_of=lambda point: self.parameters(options.space, point),
            changed=table.show,
        )  # fmt: skip
        table.begin(
            sweep, options.budget, options.trials, maximised=is_maximised(options.objective)
        )
        tuner = self._make_tuner(options, sweep, records, past, table)
        os.environ.update(_ENVIRONMENT)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the table has all of it
        try:
            with interruptible():
                tuner.fit()
        except Stopped:
            sweep.close()
            states = [trial.status for trial in sweep.trials.values()]
            unfinished = states.count("running")
            raise Stopped(
                f"stopped: {len(states) - unfinished} trials have ended, {unfinished} have not; "
                "run the same command again to resume"
            ) from None
        if reason := sweep.budget_used_up:
            interrupted = "; a greater one resumes the interrupted trials" if sweep.running else ""
            table.log(f"{reason}{interrupted}")
        sweep.close()
        shutil.rmtree(_scratch(records), ignore_errors=True)
        return list(sweep.trials.values())

    def _make_tuner(
        self,
        options: SweepOptions,
        sweep: SweepRun,
        records: Records,
        past: Sequence[Trial],
        table: SweepTable,
    ) -> ray.tune.Tuner:
        """Return what runs the trials of a sweep.

        Args:
            past: all trials of earlier sessions.
        """
        scratch = _scratch(records)
        shutil.rmtree(scratch, ignore_errors=True)
        setup = TrialSetup(
            self.corpus_location, options.space, options.objective, options.seeds, self.workers,
            records, self.runs,
        )  # fmt: skip
        return ray.tune.Tuner(
            trainable(setup),
            tune_config=ray.tune.TuneConfig(
                search_alg=Search(sweep, self.workers, options.concurrent),
                scheduler=make_scheduler(
                    options.scheduler,
                    options.space,
                    maximised=is_maximised(options.objective),
                    past=past,
                ),
                num_samples=-1,  # until the search ends
                # A process that waits for its workers cannot be stopped for another trial.
                reuse_actors=self.workers.number == 1,
            ),
            run_config=ray.tune.RunConfig(
                name=scratch.name,
                storage_path=str(scratch.parent),
                failure_config=ray.tune.FailureConfig(max_failures=2),
                # The runs have checkpoints of their own.
                checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Recorder(sweep, options.scheduler, table.log, table.tick)],
                stop=BudgetStopper(sweep),
                verbose=0,
            ),
        )


def _scratch(records: Records) -> Path:
    """Return the folder of what Tune writes, which nothing reads."""
    return records.folder / "tune"
