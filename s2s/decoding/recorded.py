"""Greedy decoding and beam search on a GPU: several steps in one start, and one copy back.

Which sentences go on is known to the card alone; the CPU asks after every few steps. Batches are
padded to few shapes, for each of which encoding and stepping are recorded (`s2s.gpu.graphs`), in a
room of tensors that stay where they are. Once most sentences of a greedy batch have ended, the
others move to a smaller room.

Shapes: B sentences, K hypotheses of each, S source tokens, T target tokens, R rows of a room, at
least B.
"""

import threading
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from s2s.config import DecodeConfig
from s2s.decoding.choice import IMPOSSIBLE, forbid, likeliest, penalty
from s2s.gpu.graphs import Graphs, power_of_two
from s2s.model.seq2seq import Seq2Seq, State
from s2s.text.vocabulary import EOS, PAD, SOS

# Steps of a start. A sentence that ends in the first of them takes the others for nothing.
STEPS = 4

_LEAST_ROWS, _LEAST_TOKENS = 8, 8

# Rooms and graphs of a model, after which all are given up: shapes and settings may be anybody's.
_MOST_ROOMS, _MOST_GRAPHS = 64, 256


Room = TypeVar("Room")


@dataclass(frozen=True)
class Sentences:
    """What is decoded together."""

    source: Tensor  # (B, S) tokens, PAD at their ends
    lengths: Tensor  # (B,) true lengths, each at least 1
    shortest: Tensor  # (B,) words before which a sentence does not end
    longest: Tensor  # (B,) words after which it is cut


class _OnCard(Generic[Room]):
    """The rooms and graphs of a model on a GPU, for one thread at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._graphs = device, Graphs(device)
        self._rooms: dict[tuple[int, ...], Room] = {}
        self._lock = threading.Lock()

    def _bound(self) -> None:
        """Give up all rooms if there are many."""
        if len(self._rooms) > _MOST_ROOMS or len(self._graphs) > _MOST_GRAPHS:
            self._rooms.clear()
            self._graphs.clear()


@dataclass
class GreedyRoom:
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
    def of(cls, rows: int, size: int, steps: int, device: torch.device) -> "GreedyRoom":
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

    def take(self, other: "GreedyRoom", rows: Tensor) -> None:
        """Take over some rows of another room, in the first places."""
        assert self.state is not None and other.state is not None  # noqa: S101
        mine = [self.shortest, self.longest, self.words, self.said, self.looked]
        theirs = [other.shortest, other.longest, other.words, other.said, other.looked]
        for new, old in zip(mine + _by_row(self.state), theirs + _by_row(other.state), strict=True):
            new[: len(rows)] = old[rows]
        self.done.fill_(True)
        self.done[: len(rows)] = False
        self.at.copy_(other.at)


class GreedyOnCard(_OnCard[GreedyRoom]):
    """Decodes on one GPU with one model, the same in all calls."""

    @torch.inference_mode()
    def decode(
        self, model: Seq2Seq, sentences: Sentences, settings: DecodeConfig
    ) -> tuple[Tensor, Tensor]:
        """The words (B, T) of each sentence, then EOS, and what each looked at (B, T)."""
        with self._lock:
            self._bound()
            return self._decode(model, sentences, settings)

    def _decode(
        self, model: Seq2Seq, sentences: Sentences, settings: DecodeConfig
    ) -> tuple[Tensor, Tensor]:
        count, longest_source = sentences.source.shape
        rows, size = power_of_two(count, _LEAST_ROWS), power_of_two(longest_source, _LEAST_TOKENS)
        steps = power_of_two(settings.max_length, STEPS)
        room = self._room(rows, size, steps)
        _fill(room, sentences)
        forbids = (settings.unknown, settings.min_ratio > 0)
        self._graphs.run(("encode", rows, size, steps), lambda: self._encode(model, room))
        made = room.said.new_full((2, rows, steps), EOS)
        owners = torch.arange(rows, device=self._device)  # of the first rows of the room
        most = int(sentences.longest.max())
        for begin in range(0, most, STEPS):
            key = ("step", *room.source.shape, steps, *forbids)
            self._graphs.run(key, lambda room=room: self._step(model, room, settings))  # type: ignore[misc]
            if begin + STEPS >= most:
                break
            left = (~room.done[: len(owners)]).nonzero()[:, 0]
            if not len(left):
                break
            smaller = power_of_two(len(left), _LEAST_ROWS)
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

    def _keep(self, made: Tensor, owners: Tensor, room: GreedyRoom) -> None:
        made[0][owners] = room.said[: len(owners)]
        made[1][owners] = room.looked[: len(owners)]

    def _room(self, rows: int, size: int, steps: int) -> GreedyRoom:
        shape = (rows, size, steps)
        if shape not in self._rooms:
            self._rooms[shape] = GreedyRoom.of(*shape, self._device)
        return self._rooms[shape]

    def _encode(self, model: Seq2Seq, room: GreedyRoom) -> None:
        state = model.encode(room.source, room.lengths)
        if room.state is None:
            room.state = state.taken(torch.arange(len(room.source), device=self._device))
        for mine, new in zip(_by_row(room.state), _by_row(state), strict=True):
            mine.copy_(new)
        room.words.fill_(SOS)
        room.said.fill_(EOS)
        room.at.zero_()
        room.done.copy_(room.longest == 0)

    def _step(self, model: Seq2Seq, room: GreedyRoom, settings: DecodeConfig) -> None:
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


@dataclass
class BeamRoom:
    """The same for a beam search.

    The last of the K + 1 places for ended hypotheses takes what is written for others, and is never
    read.
    """

    source: Tensor  # (R, S)
    lengths: Tensor  # (R,)
    shortest: Tensor  # (R,)
    longest: Tensor  # (R,)
    words: Tensor  # (R K,) the last ones
    total: Tensor  # (R, K) log-probabilities of the beginnings, nats
    said: Tensor  # (T, R, K)
    parents: Tensor  # (T, R, K) whose beginning was continued
    scores: Tensor  # (T, R, K) nats, of the words
    looked: Tensor  # (T, R, K)
    ended: Tensor  # (R, K + 1) score over penalty
    ends: Tensor  # (2, R, K + 1) last step, and place in its beam
    done: Tensor  # (R,) how many have ended
    going: Tensor  # (R,) bool
    at: Tensor  # (1,)
    state: State | None = None

    @classmethod
    def of(cls, rows: int, size: int, steps: int, width: int, device: torch.device) -> "BeamRoom":
        """Room for so many sentences, source tokens, target tokens and hypotheses."""

        def numbers(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        return cls(
            source=numbers(rows, size),
            lengths=numbers(rows) + 1,
            shortest=numbers(rows),
            longest=numbers(rows),
            words=numbers(rows * width),
            total=numbers(rows, width).float(),
            said=numbers(steps, rows, width),
            parents=numbers(steps, rows, width),
            scores=numbers(steps, rows, width).float(),
            looked=numbers(steps, rows, width),
            ended=numbers(rows, width + 1).float(),
            ends=numbers(2, rows, width + 1),
            done=numbers(rows),
            going=numbers(rows) > 0,
            at=numbers(1),
        )


@dataclass(frozen=True)
class Found:
    """All that a beam search remembers, on the CPU."""

    said: Tensor  # (T, B, K) words
    parents: Tensor  # (T, B, K) the hypothesis whose beginning each continues
    scores: Tensor  # (T, B, K) nats
    looked: Tensor  # (T, B, K) the source word that weighed most, with attention
    ended: Tensor  # (B, K) the ended hypotheses' scores over penalty; minus infinity for none
    ends: Tensor  # (2, B, K) the last step of each, and its place in the beam


class BeamOnCard(_OnCard[BeamRoom]):
    """Searches on one GPU with one model, the same in all calls."""

    @torch.inference_mode()
    def search(self, model: Seq2Seq, sentences: Sentences, settings: DecodeConfig) -> Found:
        """What a search as that of `s2s.decoding.search.beam` finds."""
        with self._lock:
            self._bound()
            room = self._search(model, sentences, settings)
            # Copied before somebody else's search comes into the room.
            count, width = len(sentences.source), settings.beam
            return Found(
                said=room.said[:, :count].cpu(),
                parents=room.parents[:, :count].cpu(),
                scores=room.scores[:, :count].cpu(),
                looked=room.looked[:, :count].cpu(),
                ended=room.ended[:count, :width].cpu(),
                ends=room.ends[:, :count, :width].cpu(),
            )

    def _search(self, model: Seq2Seq, sentences: Sentences, settings: DecodeConfig) -> BeamRoom:
        count, longest_source = sentences.source.shape
        rows, size = power_of_two(count), power_of_two(longest_source, _LEAST_TOKENS)
        shape = (rows, size, power_of_two(settings.max_length, STEPS), settings.beam)
        if shape not in self._rooms:
            self._rooms[shape] = BeamRoom.of(*shape, self._device)
        room = self._rooms[shape]
        _fill(room, sentences)
        self._graphs.run(("encode", *shape), lambda: self._encode(model, room))
        how = (settings.unknown, settings.min_ratio > 0, settings.n_best, settings.length_penalty)
        most = int(sentences.longest.max())
        for begin in range(0, most, STEPS):
            self._graphs.run(("step", *shape, *how), lambda: self._step(model, room, settings))
            if begin + STEPS >= most or not room.going.any():
                break
        return room

    def _encode(self, model: Seq2Seq, room: BeamRoom) -> None:
        state = model.encode(room.source, room.lengths)
        width = room.total.shape[1]
        each = torch.arange(len(room.source), device=self._device).repeat_interleave(
            width, output_size=len(room.words)
        )
        state = state.moved(each)
        if room.state is None:
            rows = torch.arange(len(room.source), device=self._device)
            room.state = state.taken(rows, width)
        for mine, new in zip(_by_row(room.state), _by_row(state), strict=True):
            mine.copy_(new)
        room.words.fill_(SOS)
        room.total.fill_(IMPOSSIBLE)
        room.total[:, 0] = 0.0  # the beginnings are all the same yet
        room.ended.fill_(IMPOSSIBLE)
        room.done.zero_()
        room.going.copy_(room.longest > 0)
        room.at.zero_()

    def _step(self, model: Seq2Seq, room: BeamRoom, settings: DecodeConfig) -> None:
        """Take `STEPS` steps."""
        assert room.state is not None  # noqa: S101
        width, alpha = settings.beam, settings.length_penalty
        ranks = torch.arange(width, device=self._device)
        firsts = width * torch.arange(len(room.source), device=self._device)[:, None]  # (R, 1)
        farthest = penalty(room.longest.double(), alpha).float()
        for _ in range(STEPS):
            logits, weights, state = model.step(room.words, room.state)
            early = None
            if settings.min_ratio:
                early = (room.at < room.shortest)[:, None].expand(-1, width).flatten()
            forbid(logits, early, settings)
            kept = min(width, logits.shape[1])
            values, candidates = logits.topk(kept, dim=1)  # (R K, K')
            highest = values[:, :1]
            values = values - highest - logits.sub_(highest).exp_().sum(1, keepdim=True).log()
            sums = (room.total.flatten()[:, None] + values).view(len(firsts), -1)  # (R, K K')
            best, places = sums.topk(width, dim=1)  # (R, K)
            parent = places // kept
            word = candidates.view(len(firsts), -1).gather(1, places)
            moved = (parent + firsts).flatten()
            score = values.view(len(firsts), -1).gather(1, places)
            for made, new in ((room.said, word), (room.parents, parent), (room.scores, score)):
                made.index_copy_(0, room.at, new[None])
            if weights is not None:
                heaviest = weights.max(dim=1).indices[moved].view_as(word)
                room.looked.index_copy_(0, room.at, heaviest[None])
            real = (best > IMPOSSIBLE) & (ranks < (width - room.done)[:, None])
            real &= room.going[:, None]
            last = (room.longest == room.at + 1)[:, None]
            ending = real & ((word == EOS) | last)
            free = room.done[:, None] + ending.cumsum(1) - 1
            place = torch.where(ending, free, width)  # (R, K)
            room.ended.scatter_(1, place, best / penalty((room.at + 1).double(), alpha).float())
            room.ends[0].scatter_(1, place, room.at.expand_as(place))
            room.ends[1].scatter_(1, place, ranks.expand_as(place))
            room.done += ending.sum(1)
            room.total.copy_(best.masked_fill(~real | ending, IMPOSSIBLE))
            hope = room.total.max(1).values / farthest
            worst = room.ended[:, :width].topk(min(settings.n_best, width)).values[:, -1]
            room.going &= hope > worst
            for mine, new in zip(_changing(room.state), _changing(state.moved(moved)), strict=True):
                mine.copy_(new)
            room.words.copy_(word.flatten())
            room.at += 1


_BY_MODEL: WeakKeyDictionary[Seq2Seq, tuple[GreedyOnCard, BeamOnCard]] = WeakKeyDictionary()
_MAKING = threading.Lock()


def on_card(model: Seq2Seq, device: torch.device) -> tuple[GreedyOnCard, BeamOnCard]:
    """The recordings of a model, which live as long as the model does."""
    with _MAKING:
        if model not in _BY_MODEL:
            _BY_MODEL[model] = GreedyOnCard(device), BeamOnCard(device)
        return _BY_MODEL[model]


def _fill(room: GreedyRoom | BeamRoom, sentences: Sentences) -> None:
    """Copy sentences into a room, whose other rows are done from the start."""
    rows, size = room.source.shape
    count, longest = sentences.source.shape
    wide = (0, size - longest, 0, rows - count)
    room.source.copy_(nn.functional.pad(sentences.source, wide, value=PAD))
    for mine, given, filler in (
        (room.lengths, sentences.lengths, 1),
        (room.shortest, sentences.shortest, 0),
        (room.longest, sentences.longest, 0),
    ):
        mine.copy_(nn.functional.pad(given, (0, rows - count), value=filler))


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
