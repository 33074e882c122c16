"""The references of a split: which translations of a sentence count as right."""

from dataclasses import dataclass
from typing import Self

from s2s.config import DataConfig
from s2s.corpus import Corpus
from s2s.errors import BadInput
from s2s.evaluation.scores import Tokenize, tokenizer_of
from s2s.text.languages import canonical_code


@dataclass(frozen=True)
class References:
    """The distinct sources of a split, in the order of their first rows, with their targets."""

    split: str
    sources: list[str]
    targets: list[list[str]]  # of each source, the targets of all its rows, as read
    source_of_row: list[int]  # of each row of the split, the index of its source
    left_out: tuple[int, ...]  # numbers, from 1, of rows that were read for the split and left out
    tokenize: Tokenize  # how BLEU splits the targets into words

    @classmethod
    def of(cls, corpus: Corpus, split: str) -> Self:
        """Return the references of the split `train`, `valid` or `test`.

        Raises:
            BadInput: the corpus has no such split.
        """
        rows = corpus.split(split)
        index: dict[str, int] = {}
        source_of_row = [index.setdefault(source, len(index)) for source in rows["source"][:]]
        targets: list[list[str]] = [[] for _ in index]
        for source, target in zip(source_of_row, rows["target"][:], strict=True):
            targets[source].append(target)
        config = corpus.manifest.config
        tokenised = config.text.normaliser == "tokenised"
        tokenize = "none" if tokenised else tokenizer_of(config.target_language)
        left_out = corpus.manifest.left_out.get(split, ())
        return cls(split, list(index), targets, source_of_row, left_out, tokenize)


def check_languages(model: DataConfig, corpus: Corpus, name: str = "the model") -> None:
    """Check that a model translates between the languages of a corpus.

    Args:
        model: the model's config.
        name: what the error calls the model.

    Raises:
        BadInput: the languages differ.
    """
    translates, holds = (
        "-".join(map(canonical_code, (config.source_language, config.target_language)))
        for config in (model, corpus.manifest.config)
    )
    if translates != holds:
        raise BadInput(f"{name} translates {translates}, {corpus.path} holds {holds}")
