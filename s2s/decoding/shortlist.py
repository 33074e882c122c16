"""Lexical shortlists: decoding with the target tokens alone that a source makes likely.

The output layer costs as much as all else in a step, and more with a large vocabulary, though most
target tokens have nothing to do with a sentence. Jean et al. (2015, https://arxiv.org/abs/1412.2007,
section 3.3) let it compute only the frequent tokens and the likely translations of the source
tokens.

Shapes: I source vocabulary, V target vocabulary.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from s2s.errors import BadInput
from s2s.files import new_file
from s2s.text.vocabulary import SPECIALS, Vocabulary

SHORTLIST = "shortlist.safetensors"

# Likely target tokens that a file holds of each source token, at most.
STORED = 200

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Shortlist:
    """The likely target tokens of each source token, and those that are frequent.

    Likely ones of source token i are `likely[offsets[i] : offsets[i + 1]]`, the likeliest first.
    """

    likely: Ids
    offsets: NDArray[np.int64]  # (I + 1,)
    frequent: Ids  # (V - specials,) all target tokens, the most frequent first
    vocabularies: str  # hash of the vocabularies that the tokens are of

    def usual_tokens(self, size: int) -> Ids:
        """Return the tokens that all translations may have: special and `size` frequent ones."""
        special = np.arange(len(SPECIALS), dtype=np.int32)
        return np.concatenate([special, self.frequent[:size]])

    def likely_tokens(self, sentence: list[int], size: int) -> Ids:
        """Return the likely tokens of a sentence's tokens, `size` of each, some several times."""
        starts = self.offsets[sentence]
        ends = np.minimum(starts + size, self.offsets[1:][sentence])
        likely = self.likely
        return np.concatenate([likely[a:b] for a, b in zip(starts, ends, strict=True)])

    def save(self, path: Path) -> None:
        """Write the file of a model directory."""
        tensors: dict[str, NDArray[Any]] = {
            "likely": self.likely,
            "offsets": self.offsets,
            "frequent": self.frequent,
        }
        with new_file(path / SHORTLIST) as file:
            file.write_bytes(save(tensors, {"vocabularies": self.vocabularies}))

    @classmethod
    def load(cls, path: Path | None, vocabularies: str) -> Self:
        """Load the shortlist of a model directory.

        Args:
            vocabularies: hash of the model's vocabularies.

        Raises:
            BadInput: the directory has no shortlist, or that of other vocabularies.
        """
        if path is None:
            raise BadInput("decode.shortlist needs a model directory with a shortlist")
        file = path / SHORTLIST
        remedy = f"`s2s shortlist {path} --corpus CORPUS` makes one"
        if not file.is_file():
            raise BadInput(f"decode.shortlist: {path} has no {SHORTLIST}; {remedy}")
        try:
            with safe_open(file, "numpy") as content:
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
                found = cls(vocabularies=content.metadata()["vocabularies"], **tensors)
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise BadInput(f"{file} cannot be loaded: {error}; {remedy}") from None
        if found.vocabularies != vocabularies:
            raise BadInput(f"{file} is of other vocabularies than the model's; {remedy}")
        return found


def vocabularies_hash(source: Vocabulary, target: Vocabulary) -> str:
    """Return the SHA-256 of the tokens of two vocabularies, in the order of their ids."""
    return hashlib.sha256(json.dumps([source.tokens, target.tokens]).encode()).hexdigest()
