"""The sections of a model report that show sentences: samples, and the worst ones."""

import re
from dataclasses import dataclass, field

import numpy as np

from s2s.evaluation.evaluate import Evaluation
from s2s.model.directory import ModelDirectory
from s2s.reports.cards import card, cards
from s2s.reports.elements import Html, element, join
from s2s.text.vocabulary import Vocabulary

SAMPLES = 8  # held-out sentences shown with their translations
_MAP_WIDTH = 18  # source tokens whose attention map still fits on a page


@dataclass(frozen=True)
class Sample:
    """A sentence with its translation and references."""

    source: str
    translation: str
    references: list[str] = field(default_factory=list)


def choose_samples(evaluation: Evaluation, vocabulary: Vocabulary) -> list[Sample]:
    """Return evenly spaced sentences of a split, if enough of them fit: of those whose map fits."""
    references = evaluation.references
    rows = zip(references.sources, evaluation.translations, references.targets, strict=True)
    samples = [Sample(*row) for row in rows]
    lengths = [len(ids) for ids in vocabulary.encode(references.sources)]
    readable = [s for s, length in zip(samples, lengths, strict=True) if length]
    fitting = [s for s, length in zip(samples, lengths, strict=True) if 2 < length <= _MAP_WIDTH]
    pool = fitting if len(fitting) >= SAMPLES else readable
    chosen = np.linspace(0, len(pool) - 1, min(len(pool), SAMPLES), dtype=int)
    return [pool[index] for index in chosen]


def samples_section(model: ModelDirectory, samples: list[Sample]) -> Html:
    """Return a card for each sample, or nothing if there are none."""
    if not samples:
        return Html("")
    note = "Words of a translation that are in none of its references are underlined."
    legend = element("p", note, class_="note") if any(s.references for s in samples) else Html("")
    return join([legend, cards(_card(model, sample) for sample in samples)])


def worst_section(model: ModelDirectory, evaluation: Evaluation) -> Html:
    """Return a card for each of the sentences of lowest chrF, or nothing if there are none."""
    if not evaluation.worst:
        return Html("")
    note = "The sentences of the split with the lowest chrF, the worst first."
    worst = cards(
        _card(
            model,
            Sample(sentence.source, sentence.translation, sentence.references),
            f"chrF {sentence.score:.1f}",
        )
        for sentence in evaluation.worst
    )
    return join([element("p", note, class_="note"), worst])


def _card(model: ModelDirectory, sample: Sample, note: str = "") -> Html:
    source_language, target_language = model.config.source_language, model.config.target_language
    # As the model spells them, too: it may know no case and no accents.
    spellings = [*sample.references, *map(model.target.normalise, sample.references)]
    translation = join(_underline(sample.translation, spellings))
    lines = [
        ("source", sample.source, source_language),
        ("translation", translation, target_language),
        *(("reference", text, target_language) for text in sample.references),
    ]
    return card(lines, note)


def _underline(translation: str, references: list[str]) -> list[object]:
    """Return the words of a translation, those that are in no reference underlined."""
    if not translation:
        return [element("i", "empty")]
    known = {_bare(word) for text in references for word in text.split()}
    content: list[object] = []
    for word in translation.split():
        differs = references and _bare(word) and _bare(word) not in known
        content += [element("u", word) if differs else word, " "]
    return content[:-1]


def _bare(word: str) -> str:
    """Return a word without its punctuation and case."""
    return re.sub(r"\W", "", word).casefold()
