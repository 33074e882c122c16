"""The scores section of a model report: scores of translations, and measures of teacher forcing."""

import math
from dataclasses import dataclass

from s2s.evaluation.evaluate import Evaluation
from s2s.model.metrics import RunMetrics, Score
from s2s.reports.blocks import Table
from s2s.reports.elements import Html, bar, element, join


@dataclass(frozen=True)
class Measure:
    """A number that was measured under teacher forcing, as text."""

    name: str
    value: str
    unit: str
    definition: str


def scores_section(evaluation: Evaluation | None, metrics: RunMetrics) -> Html:
    """Return tables of the scores and of the measures, with the signatures of the scores."""
    scores = scores_of(evaluation, metrics)
    tables = []
    if scores:
        intervals = any(map(interval, scores))
        rows = [
            (
                element("b", score.name),
                f"{score.score:.2f}",
                *([_interval_bar(score)] if intervals else []),
                score.references,
            )
            for score in scores
        ]
        spread = ["95 % interval"] if intervals else []
        tables.append(
            Table("Scores of translations", ("score", "value", *spread, "references"), rows).html()
        )
    if measured := measures(evaluation, metrics):
        definitions = [(measure.name, measure.value, measure.definition) for measure in measured]
        tables.append(
            Table("Under teacher forcing", ("measure", "value", "definition"), definitions).html()
        )
    return join([element("div", *tables, class_="grid"), _signatures(scores)])


def scores_of(evaluation: Evaluation | None, metrics: RunMetrics) -> tuple[Score, ...]:
    """Return the scores of an evaluation or, without one, those of the training run."""
    return metrics.scores if evaluation is None else evaluation.scores


def measures(evaluation: Evaluation | None, metrics: RunMetrics) -> list[Measure]:
    """Return loss, perplexity and accuracies of an evaluation or, without one, of the run.

    A finished run has those of its weights, a checkpoint those of its best epoch, if one has ended.
    """
    valid = metrics.valid or metrics.best
    if evaluation is not None:
        loss = evaluation.loss
        token, padded = evaluation.token_accuracy, evaluation.padded_accuracy
    elif valid is not None:
        loss = valid.valid_loss
        token, padded = valid.valid_token_accuracy, valid.valid_padded_accuracy
    else:
        return []
    perplexity = math.exp(min(loss, 700))
    return [
        Measure(
            "loss", f"{loss:.3f}", "nats per token", "nats per real token, under teacher forcing"
        ),
        Measure("perplexity", f"{perplexity:,.2f}", "per token", "exponential of the loss"),
        Measure(
            "token accuracy", f"{token:.1%}", "teacher forcing",
            "real tokens, under teacher forcing",
        ),
        Measure(
            "padded accuracy", f"{padded:.1%}", "the Keras metric",
            "all positions up to the longest target; those after the end count as right",
        ),
    ]  # fmt: skip


def interval(score: Score) -> str:
    """Return the confidence interval of a score as text, which is empty if there is none."""
    return "" if score.low is None or score.high is None else f"{score.low:.1f}–{score.high:.1f}"


def _interval_bar(score: Score) -> Html:
    """Return a confidence interval as text and as a bar."""
    if score.low is None or score.high is None:
        return Html("")
    return join([interval(score), bar(score.low, score.high)])


def _signatures(scores: tuple[Score, ...]) -> Html:
    if not scores:
        return Html("")
    signatures = {score.signature: score.name for score in scores}
    notes = (
        element("p", element("b", name), " ", element("code", signature), class_="note")
        for signature, name in signatures.items()
    )
    return element("div", element("h3", "sacreBLEU signatures"), *notes)
