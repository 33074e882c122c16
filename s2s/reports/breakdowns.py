"""The sections of a model report on lengths, and on groups of sentences and tokens."""

from collections import Counter

from s2s.evaluation.evaluate import Evaluation
from s2s.model.directory import ModelDirectory
from s2s.reports.blocks import Histogram, Table, titled
from s2s.reports.elements import Html, element, join, value_bar
from s2s.text.vocabulary import Vocabulary

# Headings of the groups where the name of the criterion does not fit.
_HEADINGS = {"rarest reference word": "occurrences in train"}


def lengths_section(evaluation: Evaluation, model: ModelDirectory) -> Html:
    """Return histograms of the lengths of translations, references and sources."""
    targets = [target for group in evaluation.references.targets for target in group]
    translations = _count_lengths(model.target, evaluation.translations)
    references = _count_lengths(model.target, targets)
    sources = _count_lengths(model.source, evaluation.references.sources)
    ours, theirs = _mean_length(translations), _mean_length(references)
    note = (
        f"A translation has {ours:.1f} tokens on average, a reference {theirs:.1f}: a ratio of "
        f"{ours / (theirs or 1):.2f}. Tokens are those of the model."
    )
    plots = [
        Histogram(
            "Translations and references",
            "tokens",
            {"translations": translations, "references": references},
        ),
        Histogram("Sources", "tokens", {"sources": sources}),
    ]
    grid = element("div", *map(titled, plots), class_="grid")
    return join([grid, element("p", note, class_="note")])


def _count_lengths(vocabulary: Vocabulary, texts: list[str]) -> dict[int, int]:
    """Return how many texts there are of each number of tokens."""
    return dict(Counter(map(len, vocabulary.encode(texts))))


def _mean_length(counts: dict[int, int]) -> float:
    return sum(length * texts for length, texts in counts.items()) / sum(counts.values())


def breakdowns_section(evaluation: Evaluation) -> Html:
    """Return tables of the scores of groups of sentences, and the accuracy on groups of tokens."""
    breakdowns = evaluation.breakdowns
    if breakdowns is None:
        return Html("")
    tables = [
        Table(
            f"By {criterion}",
            (_HEADINGS.get(criterion, criterion), "sentences", "BLEU", "chrF2"),
            [(_label(g.label), g.sentences, value_bar(g.bleu), value_bar(g.chrf2)) for g in groups],
        )
        for criterion, groups in breakdowns.sentences.items()
    ]
    tables.append(
        Table(
            "By how often the target token occurs",
            ("occurrences in train", "tokens", "token accuracy, %"),
            [(_label(g.label), g.tokens, value_bar(100 * g.accuracy)) for g in breakdowns.tokens],
        )
    )
    note = (
        "BLEU and chrF of groups of sentences, and accuracy on groups of tokens under teacher "
        "forcing. Rare words and tokens are those that occur seldom in the targets of train."
    )
    blocks = (titled(table) for table in tables if table.rows)
    return join([element("p", note, class_="note"), element("div", *blocks, class_="grid bars")])


def _label(label: str) -> Html:
    return element("span", label.replace("-", "–"))
