"""The training section of a model report: curves over the epochs, and their numbers."""

from collections.abc import Sequence

from s2s.config import Config, TrainConfig
from s2s.model.metrics import EpochRecord, RunMetrics
from s2s.reports.blocks import Curves, Table, titled
from s2s.reports.elements import Html, element, join
from s2s.training.schedule import learning_rate
from s2s.training.trackers.tracker import ValidSample


def training_section(
    config: Config, metrics: RunMetrics, samples: Sequence[tuple[int, ValidSample]] = ()
) -> Html:
    """Return plots and a table of the epochs, or nothing before the first one has ended.

    Args:
        samples: sentences of `valid` as they were translated while the model was trained, each with
            its step.
    """
    epochs = metrics.epochs
    if not epochs:
        return Html("")
    best = metrics.best.epoch if metrics.best else None
    rates = _learning_rates(config.train, epochs)
    plots = element("div", *map(titled, _curves(epochs, rates, best)), class_="grid")
    translated = _samples(config, epochs, samples)
    return join([plots, _note(config), _numbers(epochs, rates, best), translated])


def _curves(epochs: tuple[EpochRecord, ...], rates: list[float], best: int | None) -> list[Curves]:
    def curves(title: str, series: dict[str, list[float]], *, from_zero: bool = False) -> Curves:
        return Curves(title, [epoch.epoch for epoch in epochs], series, best, from_zero)

    scored = [epoch for epoch in epochs if epoch.valid_bleu is not None]
    bleu = {"BLEU": [epoch.valid_bleu or 0.0 for epoch in scored]}
    numbers = [epoch.epoch for epoch in scored]
    return [
        curves(
            "Loss, nats per token",
            {
                "train": [epoch.train_loss for epoch in epochs],
                "valid": [epoch.valid_loss for epoch in epochs],
            },
        ),
        curves(
            "Accuracy on valid, teacher forcing",
            {
                "real tokens": [epoch.valid_token_accuracy for epoch in epochs],
                "padded (Keras)": [epoch.valid_padded_accuracy for epoch in epochs],
            },
        ),
        curves("Learning rate at the end of the epoch", {"learning rate": rates}, from_zero=True),
        curves(
            "Speed",
            {"target tokens per second": [epoch.target_tokens_per_second for epoch in epochs]},
            from_zero=True,
        ),
        *([Curves("BLEU on valid, greedy", numbers, bleu, best, True)] if scored else []),
    ]


def _note(config: Config) -> Html:
    """Return what makes the loss on `train` and on `valid` differ, if anything does."""
    notes = []
    if config.train.label_smoothing:
        notes.append("The loss on train includes label smoothing, the loss on valid does not.")
    if config.model.word_dropout:
        notes.append("Word dropout hides some of the words in training, and none in validation.")
    return element("p", " ".join(notes), class_="note") if notes else Html("")


def _numbers(epochs: tuple[EpochRecord, ...], rates: list[float], best: int | None) -> Html:
    """Return a table of the epochs, folded up."""
    headings = (
        "epoch", "steps", "train loss", "valid loss", "token accuracy", "padded accuracy",
        *(["BLEU"] if any(epoch.valid_bleu is not None for epoch in epochs) else []),
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
            *([_score(epoch.valid_bleu)] if "BLEU" in headings else []),
            f"{rate:.3g}",
            round(epoch.pairs_per_second),
            f"{epoch.seconds:,.1f}",
        )
        for epoch, rate in zip(epochs, rates, strict=True)
    ]
    summary = element("summary", f"All {len(epochs)} epochs in numbers")
    return element("details", summary, Table("", headings, rows).html())


def _score(bleu: float | None) -> str:
    return "" if bleu is None else f"{bleu:.2f}"


def _samples(
    config: Config, epochs: tuple[EpochRecord, ...], samples: Sequence[tuple[int, ValidSample]]
) -> Html:
    """Return tables of the samples after each epoch, folded up, or nothing if there are none."""
    epoch_of = {epoch.steps: epoch.epoch for epoch in epochs}
    rows: dict[tuple[str, str], list[tuple[object, ...]]] = {}
    for step, sample in samples:
        if step in epoch_of:
            row = (epoch_of[step], _text(sample.translation, config.target_language))
            rows.setdefault((sample.source, sample.reference), []).append(row)
    if not rows:
        return Html("")
    summary = element("summary", f"{len(rows)} sentences of valid after each epoch")
    return element("details", summary, *(_sample(config, *each) for each in rows.items()))


def _sample(config: Config, pair: tuple[str, str], translations: list[tuple[object, ...]]) -> Html:
    """Return a sentence with its translations after each epoch and, last, its reference."""
    source, reference = pair
    last = ("reference", _text(reference, config.target_language))
    table = Table("", ("epoch", "translation"), [*translations, last])
    title = element("h3", _text(source, config.source_language))
    return element("div", title, table.html(), class_="block")


def _text(text: str, language: str) -> Html:
    return element("span", text, lang=language, dir="auto")


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
