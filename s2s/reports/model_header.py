"""The header of a model report: what the model is, and its most important numbers."""

from s2s.corpus import Corpus
from s2s.evaluation.evaluate import Evaluation
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.reports.page import Header, Tile
from s2s.reports.scores import interval, measures, scores_of
from s2s.text.vocabulary import SPECIALS


def model_header(
    name: str,
    model: ModelDirectory,
    metrics: RunMetrics,
    evaluation: Evaluation | None,
    corpus: Corpus | None,
) -> Header:
    """Return the header of a report.

    Args:
        evaluation: of the model on a split of `corpus`, if there is one.
    """
    parameters = sum(weights.numel() for weights in model.model.parameters())
    scores = scores_of(evaluation, metrics)
    tiles = [
        *(
            Tile(score.name, f"{score.score:.1f}", interval(score))
            for score in scores
            if score.references == scores[0].references
        ),
        *(Tile(each.name, each.value, each.unit) for each in measures(evaluation, metrics)),
        Tile("parameters", _abbreviate(parameters), f"{parameters:,}"),
    ]
    note = _describe_measurement(evaluation, corpus, metrics)
    return Header("Model", name, model.config, _describe_model(model), tiles, note)


def _describe_model(directory: ModelDirectory) -> str:
    model, units = directory.config.model, directory.config.text.units
    layers = "one layer" if model.layers == 1 else f"{model.layers} layers"
    encoder = "bidirectional" if model.bidirectional else "unidirectional"
    attention = "no attention" if model.attention == "none" else f"{model.attention} attention"
    source, target = (len(v) - len(SPECIALS) for v in (directory.source, directory.target))
    tokens = "words" if units == "word" else f"subwords ({units})"
    return (
        f"{model.cell.upper()} encoder and decoder with {layers} of {model.hidden_size} units "
        f"each, embeddings of size {model.embedding_size}, a {encoder} encoder and {attention}. "
        f"The vocabularies have {source:,} source and {target:,} target {tokens}."
    )


def _abbreviate(number: int) -> str:
    """Return a number with three digits and a metric prefix."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return str(number)


def _describe_measurement(
    evaluation: Evaluation | None, corpus: Corpus | None, metrics: RunMetrics
) -> str:
    """Return which sentences the numbers were measured on, and with which weights."""
    weights = f"Its weights are {metrics.weights}." if metrics.weights else ""
    if evaluation is None or corpus is None:
        return f"Measured on the valid split when the model was trained. {weights}"
    wordless = evaluation.wordless
    without = f", {wordless:,} of them without a word that the model reads" if wordless else ""
    return (
        f"Measured on the {evaluation.split} split of {corpus.path.resolve().name}: "
        f"{evaluation.sentences:,} distinct sources in {evaluation.pairs:,} pairs{without}. "
        f"Decoding: {evaluation.decoding}. {weights}"
    )
