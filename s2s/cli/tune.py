"""`s2s tune`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from s2s.cli.config_file import config_text
from s2s.cli.verb import Verb
from s2s.config import Config, DecodeConfig, ModelConfig, TrainConfig
from s2s.errors import BadInput
from s2s.locations import Location, is_uri
from s2s.provenance import Invocation

if TYPE_CHECKING:
    from s2s.tuning.space import Space


_TRIALS = 10  # where nothing else says how many


@dataclass(frozen=True)
class Tune(Verb):
    """Sweep settings of the model and its training on Ray Tune; OUT/best is the best model."""

    corpus: Location
    """Corpus directory to train on, at a path or URI."""

    out: Location
    """Directory to create, with sweep.json and the model directory `best`."""

    model: ModelConfig
    train: TrainConfig
    decode: DecodeConfig

    search: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting to vary, and its values: model.hidden-size=32,64 (choices), model.dropout=0.1:0.5
    (a range), model.layers=1:3:1 (in steps), train.learning-rate=log:1e-4:1e-2 (evenly in its
    logarithm). Give it once for each setting."""

    space: Path | None = None
    """TOML file of settings to vary, in a table [search], which may also have conditions."""

    hidden_sizes: tuple[int, ...] = ()
    """Values of model.hidden_size to try; 64, 128 and 256 if nothing else is varied."""

    embedding_sizes: tuple[int, ...] = ()
    """Values of model.embedding_size to try; 32, 64 and 128 if nothing else is varied."""

    searcher: Literal["grid", "random", "optuna"] = "random"
    """How points are chosen: all of them (`grid`, in which ranges need steps), at random, or by
    Optuna from the results so far (the multivariate tree-structured Parzen estimator)."""

    scheduler: Literal["none", "asha", "median"] = "asha"
    """What stops poor trials early: successive halving (`asha`), the median of the others, or
    nothing."""

    objective: Literal["token_accuracy", "loss", "bleu", "chrf"] = "token_accuracy"
    """What trials are compared by, on `valid`. BLEU and chrF are of greedy translations, which each
    epoch waits for."""

    cost: Literal["parameters", "words_per_second"] | None = None
    """Second objective for `--searcher optuna`: a small model, or a fast one."""

    trials: int | None = None
    """Number of points to try, including points of earlier sessions. None is all of a grid, no
    limit with --budget, and otherwise 10."""

    budget: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Limit after which the sweep ends, over all of its sessions: a time such as 30m or 1h30m,
    200epochs or 50Mtokens of all trials together. May be repeated."""

    seeds: int = 1
    """Seeds that each point is trained with, one after the other; a score is the mean over them."""

    retrain: int = 0
    """Seeds to train the best point with again at the end; `best` is the best of them."""

    retrain_epochs: int | None = None
    """Epochs of --retrain; None is train.epochs."""

    concurrent: int | None = None
    """Trials at the same time, at most; None is as many as the cluster has room for. A greater
    number makes an autoscaling cluster grow."""

    workers: int = 1
    """Ray workers of each trial."""

    gpu: bool = False
    """Give each worker a GPU."""

    gpu_share: float = 1.0
    """Fraction of a GPU for each trial: with 0.25, four trials share one. Needs --gpu, and one
    worker a trial. Ray does not divide the memory of the GPU: the trials must fit together."""

    track: tuple[str, ...] = ("tensorboard",)
    """Trackers to record each trial with, as `s2s train` takes them."""

    restart: bool = False
    """Start over: discard the trials of an earlier sweep, and replace OUT if it exists."""

    wait: float = 600.0
    """Seconds to wait for an autoscaling cluster to grow to the workers of one trial."""

    def run(self) -> None:
        """Sweep, and write the best model directory."""
        if is_uri(self.out):
            raise BadInput(f"--out {self.out}: a sweep needs a folder that all nodes share, no URI")
        from s2s.distributed.cluster import WorkerResources
        from s2s.distributed.sweep_options import SweepOptions
        from s2s.distributed.tune import tune
        from s2s.tuning.budget import Budget

        workers = WorkerResources(
            self.workers,
            gpu=self.gpu,
            gpu_share=self.gpu_share,
            wait=self.wait,
        )
        trials, budget = self.trials, Budget.parse(self.budget)
        if trials is None and self.searcher != "grid" and not budget.is_limited:
            trials = _TRIALS
        options = SweepOptions(
            self._space(), self.searcher, self.scheduler, self.objective, self.cost, trials, budget,
            self.seeds, self.retrain, self.retrain_epochs, self.concurrent, self.track,
            self.restart,
        )  # fmt: skip
        tune(self.corpus, Path(self.out), workers, options, Invocation(config_text(self)))

    def _space(self) -> "Space":
        """Return the space of the sweep, every point of which is valid.

        Raises:
            BadInput: a setting is unknown or given twice, or a value is wrong.
        """
        from s2s.tuning.dimension import Dimension, parse_dimension, read_space
        from s2s.tuning.space import Space

        config = Config(model=self.model, train=self.train, decode=self.decode)
        dimensions = [parse_dimension(text, config) for text in self.search]
        if self.space is not None:
            dimensions += read_space(self.space, config)
        hidden, embedding = self.hidden_sizes, self.embedding_sizes
        if not (dimensions or hidden or embedding):
            hidden, embedding = (64, 128, 256), (32, 64, 128)
        for name, sizes in (("hidden_size", hidden), ("embedding_size", embedding)):
            if sizes:
                dimensions.append(Dimension(f"model.{name}", tuple(sizes)))
        return Space.of(config, dimensions)
