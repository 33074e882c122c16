"""The options of a sweep."""

from dataclasses import asdict, dataclass, field

from s2s.distributed.sweep_hooks import Scheduler
from s2s.errors import BadInput
from s2s.tuning.budget import Budget
from s2s.tuning.objective import Objective, is_maximised
from s2s.tuning.search import ListedSearch, PointSearch, Searcher, grid, random_points
from s2s.tuning.space import Space
from s2s.tuning.study import Cost, Goals, OptunaSearch


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep tries, compares and spends.

    Raises:
        BadInput: a number is out of range, or options do not go with each other.
    """

    space: Space
    searcher: Searcher = "random"
    scheduler: Scheduler = "asha"
    objective: Objective = "token_accuracy"
    cost: Cost | None = None  # second objective
    trials: int | None = None  # None for no limit
    budget: Budget = field(default_factory=Budget)
    seeds: int = 1  # that each point is trained with
    retrain: int = 0  # seeds that the best point is trained with again
    retrain_epochs: int | None = None  # None for as many as a trial has
    concurrent: int | None = None  # trials at a time; None for as many as the cluster holds
    track: tuple[str, ...] = ("tensorboard",)  # as of `s2s.training.run.Watch`
    restart: bool = False  # drop what an earlier sweep has left

    def __post_init__(self) -> None:
        for name, number, least in (
            ("trials", self.trials, 1), ("seeds", self.seeds, 1), ("retrain", self.retrain, 0),
            ("retrain-epochs", self.retrain_epochs, 1), ("concurrent", self.concurrent, 1),
        ):  # fmt: skip
            if number is not None and number < least:
                raise BadInput(f"--{name} {number}: at least {least} is needed")
        if self.cost is not None and self.searcher != "optuna":
            raise BadInput(f"--cost {self.cost} needs --searcher optuna")
        if self.retrain_epochs is not None and not self.retrain:
            raise BadInput(f"--retrain-epochs {self.retrain_epochs} needs --retrain")
        if self.seeds > 1 and "train.seed" in self.space.names:
            raise BadInput(f"--seeds {self.seeds} does not go with a search over train.seed")
        if self.searcher == "grid":
            self.space.points()

    @property
    def goals(self) -> Goals:
        """What the sweep optimises."""
        return Goals(maximised=is_maximised(self.objective), cost=self.cost)

    def search(self) -> PointSearch:
        """Return what chooses the points."""
        seed = self.space.config.train.seed
        match self.searcher:
            case "grid":
                return ListedSearch(self.space, grid(self.space))
            case "random":
                return ListedSearch(self.space, random_points(self.space, seed))
            case "optuna":
                return OptunaSearch(self.space, self.goals, seed)

    def changeable(self) -> dict[str, object]:
        """Return all options with which a sweep may be extended, for JSON."""
        names = (
            "searcher", "scheduler", "cost", "trials", "seeds", "retrain", "retrain_epochs",
        )  # fmt: skip
        space = [str(asdict(dimension)) for dimension in self.space.dimensions]
        budget = {name: str(limit) for name, limit in asdict(self.budget).items()}
        return {name: getattr(self, name) for name in names} | {"space": space, "budget": budget}
