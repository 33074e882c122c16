"""Translations of `valid` by a model that is being trained: a few samples, and scores of all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.devices import allow_tf32
from s2s.evaluation.references import References
from s2s.evaluation.scores import score
from s2s.model.directory import ModelDirectory
from s2s.training.trackers.tracker import Log, ValidSample

_GREEDY = {"beam": 1, "n_best": 1, "temperature": None, "shortlist": None}


@dataclass(frozen=True)
class TranslationScores:
    """Corpus scores of translations, 0 to 100; None if nothing was translated."""

    bleu: float | None = None
    chrf: float | None = None


class ValidTranslations:
    """Greedy translations of `valid` by the current weights of a model.

    Neither the weights nor the random state is changed. Where the memory of a GPU is full, a line
    says so and nothing is translated.

    Args:
        directory: its model is in evaluation mode whenever it translates.
        log: called with a line for the user.
    """

    def __init__(self, corpus: Corpus, directory: ModelDirectory, log: Log) -> None:
        self._corpus, self._directory = corpus, directory
        self._log = log

    def samples(self, number: int) -> list[ValidSample]:
        """Return evenly spaced rows of the split with their translations, always the same rows."""
        valid = self._corpus.split("valid")
        places = np.linspace(0, len(valid) - 1, min(number, len(valid)), dtype=int)
        rows = valid.select(places)
        sources, references = rows["source"][:], rows["target"][:]
        translations = self._translate(sources)
        # Without translations, there are no samples.
        return list(map(ValidSample, sources, references, translations))

    def scores(self) -> TranslationScores:
        """Return scores of all sources of the split against all of their references, as read."""
        references = self._references
        if not (translations := self._translate(references.sources)):
            return TranslationScores()
        bleu, chrf = score(
            translations, references.targets, "as read",
            measures=("BLEU", "chrF"), tokenize=references.tokenize,
        )  # fmt: skip
        return TranslationScores(bleu.score, chrf.score)

    @cached_property
    def _references(self) -> References:
        return References.of(self._corpus, "valid")

    def _translate(self, sources: list[str]) -> list[str]:
        decode = self._directory.config.decode.model_copy(update=_GREEDY)
        try:
            with _same_tf32():
                # A new one each time: it has a copy of the output layer's weights.
                return Translator(self._directory, decode).translate_rows(sources)
        except torch.OutOfMemoryError:
            self._log("the memory of the GPU is full: valid is not translated after this epoch")
            return []


@contextmanager
def _same_tf32() -> Iterator[None]:
    """Set the products of this process's GPUs back at the end: a translator sets them its way."""
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        allow_tf32(before)


def describe_samples(samples: Sequence[ValidSample]) -> str:
    """Return samples as lines for the user, with an empty line after each."""
    return "\n".join(
        f"  source       {each.source}\n"
        f"  reference    {each.reference}\n"
        f"  translation  {each.translation}\n"
        for each in samples
    )
