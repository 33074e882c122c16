"""The training section of a model report: curves over the epochs, and their numbers."""

from s2s.config import Config, TrainConfig
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.reports.blocks import Curves, Table, titled
from s2s.reports.elements import Html, element, join
from s2s.training.schedule import learning_rate


def training_section(config: Config, metrics: RunMetrics) -> Html:
    """Return plots and a table of the epochs, or nothing before the first one has ended."""
    epochs = metrics.epochs
    if not epochs:
        return Html("")
    best = metrics.best.epoch if metrics.best else None
    rates = _learning_rates(config.train, epochs)
    plots = element("div", *map(titled, _curves(epochs, rates, best)), class_="grid")
    return join([plots, _note(config), _numbers(epochs, rates, best)])


def _curves(epochs: tuple[EpochRecord, ...], rates: list[float], best: int | None) -> list[Curves]:
    def curves(
        title: str, unit: str, series: dict[str, list[float]], *, from_zero: bool = False
    ) -> Curves:
        return Curves(title, [epoch.epoch for epoch in epochs], series, best, from_zero, unit)

    return [
        curves(
            "Loss",
            "nats per token",
            {
                "train": [epoch.train_loss for epoch in epochs],
                "valid": [epoch.valid_loss for epoch in epochs],
            },
        ),
        curves(
            "Accuracy on valid, teacher forcing",
            "share of tokens",
            {
                "real tokens": [epoch.valid_token_accuracy for epoch in epochs],
                "padded (Keras)": [epoch.valid_padded_accuracy for epoch in epochs],
            },
        ),
        curves(
            "Learning rate at the end of the epoch",
            "learning rate",
            {"learning rate": rates},
            from_zero=True,
        ),
        curves(
            "Speed of training",
            "tokens per second",
            {"target tokens": [epoch.target_tokens_per_second for epoch in epochs]},
            from_zero=True,
        ),
    ]


def _note(config: Config) -> Html:
    """Return what makes the loss on `train` and on `valid` differ, if anything does."""
    if not config.model.word_dropout:
        return Html("")
    note = "Word dropout hides some of the words in training, and none in validation."
    return element("p", note, class_="note")


def _numbers(epochs: tuple[EpochRecord, ...], rates: list[float], best: int | None) -> Html:
    """Return a table of the epochs, folded up."""
    headings = (
        "epoch", "steps", "train loss", "valid loss", "token accuracy", "padded accuracy",
        "learning rate", "pairs/s", "seconds",
    )  # fmt: skip
    rows = [
        (
            element("b", f"{epoch.epoch} (best)") if epoch.epoch == best else epoch.epoch,
            epoch.steps,
            f"{epoch.train_loss:.4f}",
            f"{epoch.valid_loss:.4f}",
            f"{epoch.valid_token_accuracy:.4f}",
            f"{epoch.valid_padded_accuracy:.4f}",
            f"{rate:.3g}",
            round(epoch.pairs_per_second),
            f"{epoch.seconds:,.1f}",
        )
        for epoch, rate in zip(epochs, rates, strict=True)
    ]
    summary = element("summary", f"All {len(epochs)} epochs in numbers")
    return element("details", summary, Table("", headings, rows).html())


def _learning_rates(settings: TrainConfig, epochs: tuple[EpochRecord, ...]) -> list[float]:
    """Return the learning rate of the last step of each epoch, which the schedule decides."""
    losses = [epoch.valid_loss for epoch in epochs]
    rates = []
    before = 0
    for number, epoch in enumerate(epochs):
        steps = max(epoch.steps - before, 1)
        fraction = (epoch.epoch - 1 / steps) / settings.epochs
        rates.append(learning_rate(settings, epoch.steps, fraction, losses[:number]))
        before = epoch.steps
    return rates
