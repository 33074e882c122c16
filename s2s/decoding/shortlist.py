"""Lexical shortlists: decoding with the target tokens alone that a source makes likely.

The output layer costs as much as all else in a step, and more with a large vocabulary, though most
target tokens have nothing to do with a sentence. Jean et al. (2015, https://arxiv.org/abs/1412.2007,
section 3.3) let it compute only the frequent tokens and the likely translations of the source
tokens.

Shapes: N hypotheses, R features of a hidden vector, C candidates, I source vocabulary, V target
vocabulary.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.network import Network
from s2s.decoding.output_layer import OutputLayer
from s2s.errors import BadInput
from s2s.files import new_file
from s2s.model.seq2seq import DecoderState, Seq2Seq
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

    def candidates(self, sentences: Iterable[list[int]], size: int) -> Tensor:
        """Return the tokens (C,) that translations of sentences may have, in rising order.

        Special tokens are always among them, at their own places.

        Args:
            size: likely tokens of each source token, and frequent tokens, at most.
        """
        sources = {token for sentence in sentences for token in sentence}
        chosen = [np.arange(len(SPECIALS), dtype=np.int32), self.frequent[:size]]
        for token in sources:
            start = self.offsets[token]
            chosen.append(self.likely[start : min(start + size, self.offsets[token + 1])])
        return torch.from_numpy(np.unique(np.concatenate(chosen)).astype(np.int64))

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


def full_output(model: Seq2Seq) -> nn.Linear:
    """Return the output layer of a model, from which those of candidates can be made.

    Raises:
        BadInput: it is an adaptive one, whose words cannot be computed without their cluster.
    """
    output = model.decoder.output
    if not isinstance(output, nn.Linear):
        raise BadInput("decode.shortlist needs a model that was trained with model.output full")
    return output


@dataclass(frozen=True)
class RestrictedNetwork:
    """A network whose target tokens are the places of candidates in their order.

    Special tokens are candidates at their own places, so that searches know them.
    """

    network: Network  # whose steps return hidden vectors (N, R) instead of logits
    candidates: Tensor  # (C,)
    output: OutputLayer  # of the candidates alone

    @classmethod
    def of(cls, network: Network, output: nn.Linear, candidates: Tensor) -> Self:
        """Return a network of candidates (C,), by the output layer of all tokens."""
        restricted = nn.Linear(output.in_features, len(candidates), device="meta")
        restricted.weight = nn.Parameter(output.weight.detach()[candidates], requires_grad=False)
        restricted.bias = nn.Parameter(output.bias.detach()[candidates], requires_grad=False)
        return cls(network, candidates, OutputLayer(restricted, torch.float32))

    def encode(self, source: Tensor, source_lengths: Tensor) -> DecoderState:
        """Return the decoder's initial state, as `Network` has it."""
        return self.network.encode(source, source_lengths)

    def step(
        self, tokens: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Read one token (N,) of each hypothesis, and return logits (N, C), as `Network` has it."""
        hidden, weights, state = self.network.step(self.candidates[tokens], state)
        return self.output(hidden), weights, state

    def in_vocabulary(self, hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
        """Return hypotheses of candidates' places as ones of target tokens."""
        ids = self.candidates.tolist()
        return [replace(each, ids=[ids[place] for place in each.ids]) for each in hypotheses]
