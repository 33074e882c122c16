"""Greedy decoding on a GPU: several steps in one start, and one copy back.

Which sentences go on is known to the card alone; the CPU asks after every few steps. Batches are
padded to few shapes, for each of which encoding and stepping are recorded (`s2s.graphs`); once most
sentences have ended, the others move to a batch of a smaller shape.

Shapes: B sentences, S source tokens, T target tokens, R rows of a batch, at least B.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from s2s.choice import forbid, likeliest
from s2s.config import DecodeConfig
from s2s.graphs import Graphs
from s2s.model import Seq2Seq, State
from s2s.text import EOS, PAD, SOS

# Steps of a start. A sentence that ends in the first of them takes the others for nothing.
STEPS = 4

_LEAST_ROWS, _LEAST_TOKENS = 8, 8


@dataclass
class Room:
    """The tensors of a batch that a recording reads and writes."""

    source: Tensor  # (R, S)
    lengths: Tensor  # (R,)
    shortest: Tensor  # (R,) words before which a sentence does not end
    longest: Tensor  # (R,) words after which it is cut; 0 where there is none
    words: Tensor  # (R,) the last ones
    said: Tensor  # (R, T)
    looked: Tensor  # (R, T) the source word that weighed most for each, with attention
    done: Tensor  # (R,) bool
    at: Tensor  # (1,) words so far
    state: State | None = None

    @classmethod
    def of(cls, rows: int, size: int, steps: int, device: torch.device) -> "Room":
        """Room for so many sentences, source tokens and target tokens."""

        def numbers(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        return cls(
            source=numbers(rows, size),
            lengths=numbers(rows) + 1,
            shortest=numbers(rows),
            longest=numbers(rows),
            words=numbers(rows),
            said=numbers(rows, steps),
            looked=numbers(rows, steps),
            done=numbers(rows) > 0,
            at=numbers(1),
        )

    def take(self, other: "Room", rows: Tensor) -> None:
        """Take over some rows of another room, in the first places."""
        assert self.state is not None and other.state is not None  # noqa: S101
        mine = [self.shortest, self.longest, self.words, self.said, self.looked]
        theirs = [other.shortest, other.longest, other.words, other.said, other.looked]
        for new, old in zip(mine + _by_row(self.state), theirs + _by_row(other.state), strict=True):
            new[: len(rows)] = old[rows]
        self.done.fill_(True)
        self.done[: len(rows)] = False
        self.at.copy_(other.at)


class GreedyOnCard:
    """Decodes with one model on one GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._graphs = device, Graphs(device)
        self._rooms: dict[tuple[int, int, int], Room] = {}

    @torch.inference_mode()
    def decode(
        self,
        model: Seq2Seq,
        source: Tensor,
        lengths: Tensor,
        shortest: Tensor,
        longest: Tensor,
        settings: DecodeConfig,
    ) -> tuple[Tensor, Tensor]:
        """The words (B, T) of each sentence, EOS after its last, and what each looked at, (B, T).

        Args:
            source: (B, S) tokens; PAD, as `lengths` (B,) say, at their ends.
            shortest: (B,) words before which a sentence does not end.
            longest: (B,) words after which it is cut.
        """
        count = len(source)
        rows, size = _power(count, _LEAST_ROWS), _power(source.shape[1], _LEAST_TOKENS)
        steps = _power(settings.max_length, STEPS)
        room = self._room(rows, size, steps)
        wide = (0, size - source.shape[1], 0, rows - count)
        room.source.copy_(nn.functional.pad(source, wide, value=PAD))
        for mine, given, filler in (
            (room.lengths, lengths, 1),
            (room.shortest, shortest, 0),
            (room.longest, longest, 0),
        ):
            mine.copy_(nn.functional.pad(given, (0, rows - count), value=filler))
        forbids = (settings.unknown, settings.min_ratio > 0)
        self._graphs.run(("encode", rows, size, steps), lambda: self._encode(model, room))
        made = room.said.new_full((2, rows, steps), EOS)
        owners = torch.arange(rows, device=self._device)  # of the first rows of the room
        most = int(longest.max())
        for begin in range(0, most, STEPS):
            key = ("step", *room.source.shape, steps, *forbids)
            self._graphs.run(key, lambda room=room: self._step(model, room, settings))  # type: ignore[misc]
            if begin + STEPS >= most:
                break
            left = (~room.done[: len(owners)]).nonzero()[:, 0]
            if not len(left):
                break
            smaller = _power(len(left), _LEAST_ROWS)
            if smaller <= len(room.source) // 2:
                self._keep(made, owners, room)
                owners = owners[left]
                other = self._room(smaller, size, steps)
                if other.state is None:
                    assert room.state is not None  # noqa: S101
                    other.state = room.state.taken(left[:1].expand(smaller))
                other.take(room, left)
                room = other
        self._keep(made, owners, room)
        return made[0, :count], made[1, :count]

    def _keep(self, made: Tensor, owners: Tensor, room: Room) -> None:
        made[0][owners] = room.said[: len(owners)]
        made[1][owners] = room.looked[: len(owners)]

    def _room(self, rows: int, size: int, steps: int) -> Room:
        shape = (rows, size, steps)
        if shape not in self._rooms:
            self._rooms[shape] = Room.of(*shape, self._device)
        return self._rooms[shape]

    def _encode(self, model: Seq2Seq, room: Room) -> None:
        state = model.encode(room.source, room.lengths)
        if room.state is None:
            room.state = state.taken(torch.arange(len(room.source), device=self._device))
        for mine, new in zip(_by_row(room.state), _by_row(state), strict=True):
            mine.copy_(new)
        room.words.fill_(SOS)
        room.said.fill_(EOS)
        room.at.zero_()
        room.done.copy_(room.longest == 0)

    def _step(self, model: Seq2Seq, room: Room, settings: DecodeConfig) -> None:
        """Take `STEPS` steps."""
        assert room.state is not None  # noqa: S101
        for _ in range(STEPS):
            logits, weights, state = model.step(room.words, room.state)
            forbid(logits, room.at < room.shortest if settings.min_ratio else None, settings)
            words = likeliest(logits).masked_fill(room.done, EOS)  # (R,)
            room.words.copy_(words)
            room.said.index_copy_(1, room.at, words[:, None])
            if weights is not None:
                room.looked.index_copy_(1, room.at, weights.max(dim=1).indices[:, None])
            for mine, new in zip(_changing(room.state), _changing(state), strict=True):
                mine.copy_(new)
            room.at += 1
            room.done |= (words == EOS) | (room.longest <= room.at)


_BY_MODEL: WeakKeyDictionary[Seq2Seq, GreedyOnCard] = WeakKeyDictionary()


def on_card(model: Seq2Seq, device: torch.device) -> GreedyOnCard:
    """The recordings of a model, which live as long as the model does."""
    if model not in _BY_MODEL:
        _BY_MODEL[model] = GreedyOnCard(device)
    return _BY_MODEL[model]


def _power(number: int, least: int) -> int:
    """The power of two from a number up, at least `least`."""
    return max(least, 1 << (number - 1).bit_length())


def _changing(state: State) -> list[Tensor]:
    """What a step makes anew."""
    return [*state.cells, *([] if state.fed is None else [state.fed])]


def _by_row(state: State) -> list[Tensor]:
    """All tensors of a state, as views whose first dimension is the row's."""
    parts = [part.transpose(0, 1) for part in state.cells]
    if state.fed is not None:
        parts.append(state.fed)
    if state.memory is not None:
        parts += [state.memory.values, state.memory.keys, state.memory.padding]
    return parts
