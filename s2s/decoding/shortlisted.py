"""The network with an output layer of the target tokens that are likely, for changing sentences.

The weights of all tokens that some sentence may have lie side by side, so that a step has one
product. Each sentence has its own set of them, and all others are impossible for its hypotheses:
its translation does not depend on the sentences beside it. Special tokens have their usual places
among the logits.

The weights are not packed for oneDNN: that costs as much as it saves in a whole batch
(docs/decisions/0042-shortlists.md).

Shapes: B sentences, N hypotheses, S source tokens, R features of a hidden vector, C tokens that
some sentence may have, M sets of tokens, V target vocabulary.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from s2s.decoding.constraints import IMPOSSIBLE
from s2s.decoding.network import Network
from s2s.decoding.shortlist import Ids, Shortlist, vocabularies_hash
from s2s.errors import BadInput
from s2s.model.directory import ModelDirectory
from s2s.model.seq2seq import Candidates, DecoderState, Seq2Seq

# The number of the set with the tokens that all sentences may have.
_USUAL = 0

# Growth of the tokens since they were gathered, from which those of sentences that have left are
# dropped: each costs its share of every product, and to gather them all as much as a few steps.
_GROWTH = 1.5


class ShortlistedNetwork:
    """A network whose steps return logits (N, C) of the tokens that shortlists allow.

    It is for one batch, or for slots that tell it by `keep` which sentences have left.

    Args:
        network: one whose steps return hidden vectors (N, R) instead of logits.
        output: the layer of all tokens.
        size: likely tokens of each source token, and frequent tokens, at most.
    """

    def __init__(
        self, network: Network, output: nn.Linear, shortlist: Shortlist, size: int
    ) -> None:
        self._network, self._shortlist, self._size = network, shortlist, size
        self._all_weights, self._all_biases = output.weight.detach(), output.bias.detach()
        self._taken = {_USUAL}  # numbers of sets in use
        # (M, room for C) what is added to logits: 0 where a set has the token, else IMPOSSIBLE
        self._masks = self._all_biases.new_zeros(1, 0)
        self._gather(shortlist.usual_tokens(size))
        self._masks[_USUAL, : self._gathered] = 0.0

    def encode(self, source: Tensor, source_lengths: Tensor) -> DecoderState:
        """Return the decoder's initial state for source tokens (B, S) of lengths (B,)."""
        state = self._network.encode(source, source_lengths)
        rows, lengths = source.tolist(), source_lengths.tolist()
        sets = self._add([row[:size] for row, size in zip(rows, lengths, strict=True)])
        return replace(state, candidates=Candidates(sets, self._tokens))

    def step(
        self, tokens: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Read one token (N,) of each hypothesis, as `Network` has it."""
        assert state.candidates is not None  # noqa: S101
        sets, count = state.candidates.sets, len(self._tokens)
        hidden, weights, new = self._network.step(tokens, state)
        logits = nn.functional.linear(hidden, self._weights[:count], self._biases[:count])  # (N, C)
        logits += self._masks[:, :count].index_select(0, sets)
        return logits, weights, replace(new, candidates=Candidates(sets, self._tokens))

    def keep(self, sets: Iterable[int | None]) -> None:
        """Forget the sets of sentences but for some, and now and then the tokens of theirs."""
        self._taken = {_USUAL, *(number for number in sets if number is not None)}
        if len(self._tokens) > _GROWTH * self._gathered:
            masks = self._masks[:, : len(self._tokens)]
            used = (masks[sorted(self._taken)] == 0).any(0)  # (C,)
            self._gather(self._tokens[used].cpu().numpy())
            self._masks[:, : self._gathered] = masks[:, used]

    def _gather(self, tokens: Ids) -> None:
        """Start over with some tokens (C,), which no set has yet."""
        device = self._all_biases.device
        self._gathered = len(tokens)
        self._places = np.full(len(self._all_biases), -1)  # (V,) of each token, -1 without one
        self._tokens = torch.zeros(0, dtype=torch.long, device=device)  # (C,)
        self._weights = self._all_weights[:0]  # (room for C, R)
        self._biases = self._all_biases[:0]  # (room for C,)
        self._masks = self._masks[:, :0]
        self._make_room(int(_GROWTH * len(tokens)))
        self._append(tokens)

    def _make_room(self, count: int) -> None:
        """Enlarge the tensors for so many tokens."""
        missing = count - len(self._biases)
        self._weights = nn.functional.pad(self._weights, (0, 0, 0, missing))
        self._biases = nn.functional.pad(self._biases, (0, missing))
        self._masks = nn.functional.pad(self._masks, (0, missing), value=IMPOSSIBLE)

    def _append(self, tokens: Ids) -> None:
        """Append tokens (any,) that are not there, which no set has yet."""
        first, count = len(self._tokens), len(self._tokens) + len(tokens)
        self._places[tokens] = np.arange(first, count)
        new = torch.from_numpy(tokens).long().to(self._tokens.device)
        self._tokens = torch.cat([self._tokens, new])
        if count > len(self._biases):
            self._make_room(count)
        self._weights[first:count] = self._all_weights[new]
        self._biases[first:count] = self._all_biases[new]

    def _add(self, sentences: list[list[int]]) -> Tensor:
        """Return the numbers (B,) of new sets, of the tokens that sentences may have."""
        likely = [self._shortlist.likely_tokens(each, self._size) for each in sentences]
        tokens = np.concatenate(likely)
        self._append(np.unique(tokens[self._places[tokens] < 0]))
        numbers = self._take_numbers(len(sentences))
        self._masks[numbers] = self._masks[_USUAL].clone()
        owners = np.repeat(numbers, [len(each) for each in likely])
        self._masks[torch.from_numpy(owners), torch.from_numpy(self._places[tokens])] = 0.0
        return torch.tensor(numbers, device=self._masks.device)

    def _take_numbers(self, count: int) -> list[int]:
        """Return numbers for so many sets."""
        free = [number for number in range(len(self._masks)) if number not in self._taken]
        missing = max(0, count - len(free))
        if missing:
            free += range(len(self._masks), len(self._masks) + missing)
            self._masks = nn.functional.pad(self._masks, (0, 0, 0, missing), value=IMPOSSIBLE)
        self._taken.update(free[:count])
        return free[:count]


def full_output(model: Seq2Seq) -> nn.Linear:
    """Return the output layer of a model, of which single tokens can be computed.

    Raises:
        BadInput: it is an adaptive one, whose words cannot be computed without their cluster.
    """
    output = model.decoder.output
    if not isinstance(output, nn.Linear):
        raise BadInput("decode.shortlist needs a model that was trained with model.output full")
    return output


def load_shortlist(directory: ModelDirectory) -> Shortlist:
    """Load the shortlist of a model directory.

    Raises:
        BadInput: the directory has none, or that of other vocabularies; or its model cannot use it.
    """
    full_output(directory.model)
    hashed = vocabularies_hash(directory.source, directory.target)
    return Shortlist.load(directory.path, hashed)
