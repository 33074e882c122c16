"""Continuous batching: greedy decoding of sentences that come and go at every step.

A batch is as slow as its longest sentence, and who comes while it runs waits for its end. A decoder
whose state is of fixed size needs neither: before any step sentences can take free rows, and after
it the ones that ended leave theirs. This is iteration-level scheduling (Yu et al., 2022, Orca,
https://www.usenix.org/conference/osdi22/presentation/yu), for recurrent networks.

Shapes: N slots, of which n are taken, S source tokens, L layers, H hidden size.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.choice import forbid, likeliest
from s2s.decoding.search import bounds
from s2s.gpu.graphs import Graphs, power_of_two
from s2s.model.seq2seq import Memory, Seq2Seq, State
from s2s.text.vocabulary import EOS, PAD, SOS

Owner = TypeVar("Owner")


@dataclass(eq=False)
class Slot(Generic[Owner]):
    """A sentence on its way."""

    owner: Owner
    shortest: int  # words before which it does not end
    longest: int  # words after which it is cut
    source_length: int
    words: list[int] = field(default_factory=list)  # so far, `<eos>` never
    looked: list[int] | None = None  # the heaviest source word of each, if there is attention


class Slots(Generic[Owner]):
    """Sentences that are translated together, as long as each of them takes.

    The taken rows are always the first ones, so a step computes nothing for free ones: a row that
    is left is filled by the last one. What a sentence becomes does not depend on who shares the
    steps with it, up to the rounding of floats.

    Args:
        slots: sentences at a time.
    """

    def __init__(
        self, model: Seq2Seq, settings: DecodeConfig, slots: int, device: torch.device
    ) -> None:
        self._model, self._settings, self._device = model, settings, device
        self._size = slots
        self._taken: list[Slot[Owner]] = []
        self._state: State | None = None  # room for all slots, made when the first sentence comes
        # (N, 2) of each sentence the last word, and the source word that weighed most for it
        self._said = torch.full((slots, 2), SOS, device=device)
        self._words = self._said[:, 0]  # (N,)
        # (N, 2) words so far, and those before which a sentence does not end, where that is limited
        self._counts = torch.zeros(slots, 2, dtype=torch.int64, device=device)
        # A step on a GPU is started as a whole, for one of few numbers of rows and source tokens.
        self._graphs = Graphs(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        """Slots that are taken."""
        return len(self._taken)

    @property
    def free(self) -> int:
        """Slots that are not."""
        return self._size - len(self._taken)

    @property
    def taken(self) -> list[Slot[Owner]]:
        """The sentences on their way."""
        return self._taken

    @torch.inference_mode()
    def enter(self, sentences: list[list[int]], owners: list[Owner]) -> None:
        """Encode sentences of at least one token together, into free slots."""
        if len(sentences) > self.free:
            raise ValueError(f"{len(sentences)} sentences for {self.free} free slots")
        size = max(map(len, sentences))
        padded = [ids + [PAD] * (size - len(ids)) for ids in sentences]
        source = torch.tensor(padded)  # (B, S)
        lengths = torch.tensor([len(ids) for ids in sentences])  # (B,)
        state = self._model.encode(source.to(self._device), lengths)
        rows = slice(len(self._taken), len(self._taken) + len(sentences))
        room = self._room(state)
        for mine, new in zip(_rows_first(room), _rows_first(state), strict=True):
            mine[rows] = new
        if room.memory is not None and state.memory is not None:
            room.memory.values[rows, :size] = state.memory.values
            if room.memory.keys is not room.memory.values:
                room.memory.keys[rows, :size] = state.memory.keys
            room.memory.padding[rows, :size] = state.memory.padding
            room.memory.padding[rows, size:] = True
        self._words[rows] = SOS
        shortest, longest = bounds(lengths, self._settings)
        if self._settings.min_ratio:
            self._counts[rows, 0] = 0
            self._counts[rows, 1] = shortest.to(self._device)
        looks = state.memory is not None
        self._taken += [
            Slot(owner, least, most, length, looked=[] if looks else None)
            for owner, least, most, length in zip(
                owners, shortest.tolist(), longest.tolist(), lengths.tolist(), strict=True
            )
        ]

    @torch.inference_mode()
    def step(self) -> list[Slot[Owner]]:
        """A word more for each sentence; those that ended are given, and leave."""
        if self._state is None or not self._taken:
            return []
        taken, size = len(self._taken), max(slot.source_length for slot in self._taken)
        if self._graphs is None:
            self._advance(taken, size)
        else:
            # Without attention the sources' sizes are no matter.
            attends = self._state.memory is not None
            shape = (min(power_of_two(taken), self._size), power_of_two(size) if attends else 0)
            self._graphs.run(shape, lambda: self._advance(*shape))
        said = self._said[:taken].cpu()  # one copy from a GPU
        words: list[int] = said[:, 0].tolist()
        heaviest: list[int] = said[:, 1].tolist() if self._state.memory is not None else []
        ended = []
        for row, word in enumerate(words):
            slot = self._taken[row]
            if word != EOS:
                slot.words.append(word)
                if slot.looked is not None:
                    slot.looked.append(heaviest[row])
            if word == EOS or len(slot.words) == slot.longest:
                ended.append(row)
        left = [self._taken[row] for row in ended]
        self._vacate(ended)
        return left

    def _advance(self, rows: int, size: int) -> None:
        """Say a word more in the first rows, whose sources have up to `size` tokens."""
        assert self._state is not None  # noqa: S101
        logits, weights, state = self._model.step(self._words[:rows], self._view(rows, size))
        early = None
        if self._settings.min_ratio:
            early = self._counts[:rows, 0] < self._counts[:rows, 1]  # (rows,)
            self._counts[:rows, 0] += 1
        forbid(logits, early, self._settings)
        self._words[:rows] = likeliest(logits)
        if weights is not None:
            self._said[:rows, 1] = weights.max(dim=1).indices
        for mine, new in zip(_rows_first(self._state), _rows_first(state), strict=True):
            mine[:rows] = new

    def drop(self, gone: set[Slot[Owner]]) -> None:
        """Free the slots of sentences that nobody waits for any more."""
        self._vacate([row for row, slot in enumerate(self._taken) if slot in gone])

    def clear(self) -> list[Slot[Owner]]:
        """Free all slots; who had them is given."""
        left, self._taken = self._taken, []
        return left

    @torch.inference_mode()
    def _vacate(self, rows: list[int]) -> None:
        """Fill some rows, in rising order, by the last ones that are none of them."""
        if not rows or self._state is None:
            return
        left = len(self._taken) - len(rows)
        gone = set(rows)
        movers = [row for row in range(left, len(self._taken)) if row not in gone]
        holes = rows[: len(movers)]  # those below `left` come first, and are as many
        if movers:
            to = torch.tensor(holes, device=self._device)
            origin = torch.tensor(movers, device=self._device)
            parts = [self._words, *_rows_first(self._state)]
            if self._settings.min_ratio:
                parts.append(self._counts)
            if self._state.memory is not None:
                memory = self._state.memory
                parts += [memory.values, memory.padding]
                if memory.keys is not memory.values:
                    parts.append(memory.keys)
            for part in parts:
                part[to] = part[origin]
            for hole, mover in zip(holes, movers, strict=True):
                self._taken[hole] = self._taken[mover]
        del self._taken[left:]

    def _view(self, rows: int, size: int) -> State:
        """The state of the first rows, and of so many source tokens."""
        assert self._state is not None  # noqa: S101
        state = self._state
        memory = state.memory
        if memory is not None:
            values = memory.values[:rows, :size]
            keys = values if memory.keys is memory.values else memory.keys[:rows, :size]
            memory = Memory(values, keys, memory.padding[:rows, :size])
        fed = None if state.fed is None else state.fed[:rows]
        return State(tuple(part[:, :rows] for part in state.cells), memory, fed)

    def _room(self, like: State) -> State:
        """The state of all rows, with room for sources as long as those of another state."""
        memory = like.memory
        have, state = 0, self._state
        if state is not None and state.memory is not None:
            have = state.memory.values.shape[1]
        if state is not None and (memory is None or memory.values.shape[1] <= have):
            return state
        if state is None:
            cells = tuple(part.new_zeros(part.shape[0], self._size, part.shape[2])
                          for part in like.cells)  # fmt: skip
            fed = None if like.fed is None else like.fed.new_zeros(self._size, like.fed.shape[1])
            state = State(cells, None, fed)
        if memory is not None:
            # To the next power of two, so that room is made seldom.
            size = 1 << (memory.values.shape[1] - 1).bit_length()
            shape = (self._size, size, memory.values.shape[2])
            values = memory.values.new_zeros(shape)
            keys = values if memory.keys is memory.values else memory.keys.new_zeros(shape)
            padding = memory.padding.new_ones(shape[:2])
            if state.memory is not None:
                values[:, :have] = state.memory.values
                padding[:, :have] = state.memory.padding
                if keys is not values:
                    keys[:, :have] = state.memory.keys
            state = State(state.cells, Memory(values, keys, padding), state.fed)
        self._state = state
        if self._graphs is not None:
            self._graphs.clear()
        return state


def _rows_first(state: State) -> list[Tensor]:
    """What is written anew in every step, as views whose first dimension is the row's."""
    fed = [] if state.fed is None else [state.fed]
    return [part.transpose(0, 1) for part in state.cells] + fed
