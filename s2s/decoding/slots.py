"""Continuous batching: greedy decoding of sentences that come and go at every step.

A batch takes as long as its longest sentence, and sentences that come meanwhile wait for its end. A
decoder whose state is of fixed size needs neither: sentences are admitted to free slots before any
step, and leave after the step in which they end. This is iteration-level scheduling (Yu et al.,
2022, Orca, https://www.usenix.org/conference/osdi22/presentation/yu), for recurrent networks.

Shapes: N slots, of which the first n are active, B sentences that are admitted together, S source
tokens, L layers, H hidden size.
"""

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import torch

from s2s.config import DecodeConfig
from s2s.decoding.constraints import constrained_step, length_limits
from s2s.decoding.network import Network
from s2s.decoding.repetition import LOOK_EVERY, find_end, looks_for_loops
from s2s.decoding.scoring import argmax
from s2s.decoding.translation import FinishReason
from s2s.gpu.graphs import GraphCache, next_power_of_two
from s2s.model.seq2seq import DecoderState, Memory
from s2s.text.vocabulary import EOS, PAD, SOS

Owner = TypeVar("Owner")


@dataclass(eq=False)
class Slot(Generic[Owner]):
    """A sentence that is being translated."""

    owner: Owner  # what the caller knows the sentence by
    source: list[int]  # tokens of the sentence
    min_length: int  # tokens before which the translation does not end
    max_length: int  # tokens after which it is cut
    ids: list[int] = field(default_factory=list)  # so far, never `<eos>`
    alignment: list[int] | None = None  # of each id, the source token of greatest weight
    finish_reason: FinishReason = "stop"  # once it has ended

    @property
    def is_cut(self) -> bool:
        """Whether the translation has come to its greatest length."""
        return len(self.ids) == self.max_length


class Slots(Generic[Owner]):
    """Sentences that are translated together, each for as many steps as it takes.

    Active slots are always the first rows, so that a step computes nothing for free ones: a row
    that becomes free is filled by the last one. A translation does not depend on which other
    sentences share its steps, up to the rounding of floats.

    Args:
        slots: greatest number of sentences at a time.
    """

    def __init__(
        self, model: Network, settings: DecodeConfig, slots: int, device: torch.device
    ) -> None:
        self._model, self._settings, self._device = model, settings, device
        self._size = slots
        self._looks = looks_for_loops(settings)
        self._active: list[Slot[Owner]] = []
        self._state: DecoderState | None = None  # of all slots, allocated by the first sentence
        # (N, 2) the last token of each slot, and the source token of greatest weight for it
        self._outputs = torch.full((slots, 2), SOS, device=device)
        self._last_tokens = self._outputs[:, 0]  # (N,)
        # (N, 2) tokens so far, and tokens before which a translation does not end, where that is
        # limited
        self._lengths = torch.zeros(slots, 2, dtype=torch.int64, device=device)
        # A step on a GPU is started as a whole, for one of few numbers of rows and source tokens.
        self._graphs = GraphCache(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        """Return the number of active slots."""
        return len(self._active)

    @property
    def free(self) -> int:
        """Number of slots that are not active."""
        return self._size - len(self._active)

    @property
    def active(self) -> list[Slot[Owner]]:
        """The sentences that are being translated."""
        return self._active

    @torch.inference_mode()
    def admit(self, sentences: list[list[int]], owners: list[Owner]) -> None:
        """Encode sentences of at least one token together, into free slots.

        Raises:
            ValueError: there are more sentences than free slots.
        """
        if len(sentences) > self.free:
            raise ValueError(f"{len(sentences)} sentences for {self.free} free slots")
        size = max(map(len, sentences))
        padded = [ids + [PAD] * (size - len(ids)) for ids in sentences]
        source = torch.tensor(padded)  # (B, S)
        lengths = torch.tensor([len(ids) for ids in sentences])  # (B,)
        new = self._model.encode(source.to(self._device), lengths)
        rows = slice(len(self._active), len(self._active) + len(sentences))
        self._write(new, self._reserve(new), rows, size)
        self._last_tokens[rows] = SOS
        min_lengths, max_lengths = length_limits(lengths, self._settings)
        if self._settings.min_ratio:
            self._lengths[rows, 0] = 0
            self._lengths[rows, 1] = min_lengths.to(self._device)
        attends = new.memory is not None
        self._active += [
            Slot(owner, ids, shortest, longest, alignment=[] if attends else None)
            for owner, ids, shortest, longest in zip(
                owners, sentences, min_lengths.tolist(), max_lengths.tolist(), strict=True
            )
        ]

    @torch.inference_mode()
    def step(self) -> list[Slot[Owner]]:
        """Extend every translation by a token; return the slots that ended, which are freed."""
        if self._state is None or not self._active:
            return []
        active, size = len(self._active), max(len(slot.source) for slot in self._active)
        if self._graphs is None:
            self._advance(active, size)
        else:
            # Without attention the lengths of sources do not matter.
            attends = self._state.memory is not None
            rows = min(next_power_of_two(active), self._size)
            shape = (rows, next_power_of_two(size) if attends else 0)
            self._graphs.run(shape, lambda: self._advance(*shape))
        outputs = self._outputs[:active].cpu()  # one copy from a GPU
        tokens: list[int] = outputs[:, 0].tolist()
        heaviest: list[int] = outputs[:, 1].tolist() if self._state.memory is not None else []
        ended = []
        for row, token in enumerate(tokens):
            slot = self._active[row]
            if token != EOS:
                slot.ids.append(token)
                if slot.alignment is not None:
                    slot.alignment.append(heaviest[row])
            length = len(slot.ids)
            if (
                token == EOS
                or length == slot.max_length
                or (self._looks and length % LOOK_EVERY == 0 and self._loops(slot))
            ):
                self._end(slot)
                ended.append(row)
        freed = [self._active[row] for row in ended]
        self._free_rows(ended)
        return freed

    def cancel(self, slots: set[Slot[Owner]]) -> None:
        """Free the slots of sentences whose translations are not wanted any more."""
        self._free_rows([row for row, slot in enumerate(self._active) if slot in slots])

    def evict_all(self) -> list[Slot[Owner]]:
        """Free all slots; return those that were active."""
        evicted, self._active = self._active, []
        return evicted

    def _loops(self, slot: Slot[Owner]) -> bool:
        """Return whether a translation has come to loop."""
        return self._found_end(slot)[1] == "repetition"

    def _end(self, slot: Slot[Owner]) -> None:
        """End a translation, and cut it back if it loops."""
        size, slot.finish_reason = self._found_end(slot)
        del slot.ids[size:]
        if slot.alignment is not None:
            del slot.alignment[size:]

    def _found_end(self, slot: Slot[Owner]) -> tuple[int, FinishReason]:
        return find_end(
            slot.ids,
            slot.source,
            cut=slot.is_cut,
            min_length=slot.min_length,
            settings=self._settings,
        )

    def _advance(self, rows: int, size: int) -> None:
        """Take a step of the first rows, whose sources have up to `size` tokens."""
        too_short = None
        if self._settings.min_ratio:
            too_short = self._lengths[:rows, 0] < self._lengths[:rows, 1]  # (rows,)
            self._lengths[:rows, 0] += 1
        logits, weights, new = constrained_step(
            self._model, self._last_tokens[:rows], self._view(rows, size), too_short, self._settings
        )
        self._last_tokens[:rows] = argmax(logits)
        if weights is not None:
            self._outputs[:rows, 1] = weights.max(dim=1).indices
        assert self._state is not None  # noqa: S101
        for part, new_part in zip(self._state.step_tensors(), new.step_tensors(), strict=True):
            part[:rows] = new_part

    @torch.inference_mode()
    def _free_rows(self, rows: list[int]) -> None:
        """Free some rows, in rising order, and fill them by the last active rows."""
        if not rows or self._state is None:
            return
        left = len(self._active) - len(rows)
        freed = set(rows)
        last = [row for row in range(left, len(self._active)) if row not in freed]
        holes = rows[: len(last)]  # those below `left` come first, and are as many
        if last:
            to = torch.tensor(holes, device=self._device)
            origin = torch.tensor(last, device=self._device)
            parts = [self._last_tokens, *self._state.tensors()]
            if self._settings.min_ratio:
                parts.append(self._lengths)
            for part in parts:
                part[to] = part[origin]
            for hole, row in zip(holes, last, strict=True):
                self._active[hole] = self._active[row]
        del self._active[left:]

    # ---- the state of all slots ----

    def _view(self, rows: int, size: int) -> DecoderState:
        """Return the state of the first rows, and of so many source tokens, without copying."""
        assert self._state is not None  # noqa: S101
        state, memory = self._state, self._state.memory
        if memory is not None:
            memory = memory.map(lambda part: part[:rows, :size])
        input_feed = None if state.input_feed is None else state.input_feed[:rows]
        return DecoderState(tuple(part[:, :rows] for part in state.recurrent), memory, input_feed)

    def _write(self, new: DecoderState, state: DecoderState, rows: slice, size: int) -> None:
        """Copy the state of encoded sentences, of so many source tokens, into some rows."""
        for part, new_part in zip(state.step_tensors(), new.step_tensors(), strict=True):
            part[rows] = new_part
        if state.memory is not None and new.memory is not None:
            for part, new_part in zip(state.memory.tensors(), new.memory.tensors(), strict=True):
                part[rows, :size] = new_part
            state.memory.padding[rows, size:] = True

    def _reserve(self, new: DecoderState) -> DecoderState:
        """Return the state of all slots, enlarged where the sources of a new state are longer."""
        if self._state is None:
            recurrent = tuple(part.new_zeros(part.shape[0], self._size, part.shape[2])
                              for part in new.recurrent)  # fmt: skip
            input_feed = None
            if new.input_feed is not None:
                input_feed = new.input_feed.new_zeros(self._size, new.input_feed.shape[1])
            self._state = DecoderState(recurrent, None, input_feed)
        old, memory = self._state.memory, new.memory
        reserved = 0 if old is None else old.values.shape[1]
        if memory is not None and memory.values.shape[1] > reserved:
            self._state = replace(self._state, memory=self._enlarge(old, memory))
            if self._graphs is not None:
                self._graphs.clear()
        return self._state

    def _enlarge(self, old: Memory | None, new: Memory) -> Memory:
        """Return a memory of all slots for sources as long as a new one's, with the old content."""
        # To the next power of two, so that memory is seldom enlarged.
        shape = (self._size, next_power_of_two(new.values.shape[1]))
        memory = new.map(lambda part: part.new_zeros(*shape, *part.shape[2:]))
        memory.padding.fill_(True)
        if old is not None:
            for part, old_part in zip(memory.tensors(), old.tensors(), strict=True):
                part[:, : old_part.shape[1]] = old_part
        return memory
