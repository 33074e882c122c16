"""Shortlists of a model: learning one from its corpus, and what decoding with it changes."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from s2s.corpus import Corpus
from s2s.decoding.lexicon import learn_shortlist
from s2s.decoding.shortlist import Shortlist
from s2s.decoding.shortlisted import full_output
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.compare import System, compare
from s2s.evaluation.references import References, check_languages
from s2s.evaluation.scores import Difference
from s2s.model.directory import ModelDirectory
from s2s.text.ragged import Ragged

# Pairs of `train` to read, evenly spaced.
_ROWS = 1_000_000


@dataclass(frozen=True)
class ShortlistEffect:
    """What decoding with a shortlist changes in the translations of a split."""

    size: int | None  # as `decode.shortlist` has it; None: all tokens
    sentences: int
    different: int  # of them, those with another translation than with all tokens
    bleu: Difference  # of all tokens (a) and the shortlist (b)
    seconds: float  # of translating the split

    @property
    def share(self) -> float:
        """Share of the sentences with another translation."""
        return self.different / self.sentences


def shortlist_of(model: ModelDirectory, corpus: Corpus) -> Shortlist:
    """Return the shortlist of a model, learned from the `train` split of its corpus.

    Raises:
        BadInput: the corpus is of other languages or vocabularies than the model, or this has an
            adaptive output layer.
    """
    full_output(model.model)
    check_languages(model.config, corpus)
    pairs = (("source", corpus.source, model.source), ("target", corpus.target, model.target))
    for side, theirs, own in pairs:
        if theirs.tokens != own.tokens:
            raise BadInput(
                f"{corpus.path} has another {side} vocabulary than the model: "
                "name the corpus that the model was trained on"
            )
    rows = corpus.split("train")
    rows = rows.select(range(0, len(rows), -(-len(rows) // _ROWS)))
    columns = rows.with_format("arrow")[:]
    sources, targets = (_ragged(columns[f"{side}_ids"]) for side in ("source", "target"))
    return learn_shortlist(sources, targets, model.source, model.target)


def shortlist_effects(
    model: ModelDirectory,
    corpus: Corpus,
    sizes: Sequence[int],
    on_batch: Callable[[int], None] = lambda sentences: None,
) -> Iterator[ShortlistEffect]:
    """Yield the effect of each size on the `valid` split, that of all tokens first.

    Args:
        model: loaded from a directory with a shortlist.
    """
    references = References.of(corpus, "valid")
    decode = model.config.decode.model_copy(update={"shortlist": None})
    everything = Translator(model, decode)
    wanted: list[str] | None = None
    for size in (None, *sizes):
        translator = everything.with_settings(shortlist=size)
        start = time.perf_counter()
        found = list(translator.translate_rows(references.sources, on_batch))
        seconds = time.perf_counter() - start
        wanted = wanted or found
        comparison = compare(System("all", wanted), System("shortlist", found), references)
        bleu = next(each for each in comparison.differences if each.name == "BLEU")
        yield ShortlistEffect(size, comparison.sentences, comparison.different, bleu, seconds)


def _ragged(lists: pa.ChunkedArray) -> Ragged:
    """Return a column of lists of tokens."""
    parts = [Ragged.from_arrow(chunk) for chunk in lists.chunks]
    lengths = np.concatenate([part.lengths for part in parts])
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    return Ragged(np.concatenate([part.values for part in parts]), offsets)
