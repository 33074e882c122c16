"""Sentences in slots that are decoded greedily, one row each.

Shapes: N sentences, S source tokens, V target vocabulary.
"""

from typing import Generic

import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.constraints import constrained_step, mask_logits
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.network import Network
from s2s.decoding.repetition import LOOK_EVERY, find_end
from s2s.decoding.scoring import argmax, length_penalty, token_log_probabilities
from s2s.decoding.slot import Owner, Slot
from s2s.decoding.slot_state import SlotState
from s2s.decoding.translation import FinishReason
from s2s.gpu.graphs import GraphCache, next_power_of_two
from s2s.model.seq2seq import DecoderState, Seq2Seq
from s2s.text.vocabulary import EOS, SOS


class GreedyLane(Generic[Owner]):
    """Sentences that grow by their likeliest token at every step.

    Active sentences are always the first rows: a row that becomes free is filled by the last one.

    Args:
        settings: those of most sentences, with which steps are recorded on a GPU.
        size: greatest number of sentences at a time.
    """

    def __init__(
        self, model: Network, settings: DecodeConfig, size: int, device: torch.device
    ) -> None:
        self._model, self._settings, self._device, self._size = model, settings, device, size
        self.slots: list[Slot[Owner]] = []
        self._state = SlotState(size)
        # (N, 2) the last token of each row, and the source token of greatest weight for it
        self._outputs = torch.full((size, 2), SOS, device=device)
        self._last_tokens = self._outputs[:, 0]  # (N,)
        # (N, 2) tokens so far, and tokens before which a translation does not end, where that is
        # limited
        self._lengths = torch.zeros(size, 2, dtype=torch.int64, device=device)
        self._limited = False  # whether some sentence has a least length
        self._known_only: Tensor | bool = False  # (N,) or all: whether unknown tokens are avoided
        self._detailed: list[int] = []  # rows of which details are wanted
        self._scores: dict[Slot[Owner], list[float]] = {}  # of their tokens, nats
        self._attention: dict[Slot[Owner], list[list[float]]] = {}
        # A step on a GPU is started as a whole, for one of few numbers of rows and source tokens.
        records = device.type == "cuda" and isinstance(model, Seq2Seq)
        self._graphs = GraphCache(device) if records else None

    @property
    def rows(self) -> int:
        """Number of rows that a step computes."""
        return len(self.slots)

    @property
    def longest(self) -> int:
        """Source tokens of the longest sentence."""
        return max(len(slot.source) for slot in self.slots)

    def admit(self, new: DecoderState, slots: list[Slot[Owner]]) -> None:
        """Take encoded sentences."""
        first = len(self.slots)
        rows = slice(first, first + len(slots))
        if self._state.write(new, first, first) and self._graphs is not None:
            self._graphs.clear()
        self._last_tokens[rows] = SOS
        self._lengths[rows] = torch.tensor([(0, slot.min_length) for slot in slots]).to(
            self._device
        )
        for slot in slots:
            if self._state.attends:
                slot.alignment = []
            if slot.search.details:
                self._scores[slot], self._attention[slot] = [], []
        self.slots += slots
        self._note_settings()

    def inputs(self) -> tuple[Tensor, DecoderState]:
        """Return the last tokens (N,) and the state that the next step continues."""
        rows = self.rows
        return self._last_tokens[:rows], self._state.view(rows, rows, self.longest)

    def can_record(self) -> bool:
        """Whether the next step is one that can be recorded: on a GPU, with the usual settings."""
        usual = self._settings.unknown == "avoid"
        return (
            self._graphs is not None
            and not self._detailed
            and self._known_only is usual
            and self._limited == (self._settings.min_ratio > 0)
        )

    def step_recorded(self) -> list[Slot[Owner]]:
        """Extend all sentences by a token; return those that end, which leave."""
        assert self._graphs is not None  # noqa: S101
        # Without attention the lengths of sources do not matter.
        rows = min(next_power_of_two(self.rows), self._size)
        shape = (rows, next_power_of_two(self.longest) if self._state.attends else 0)

        def work() -> None:
            too_short = self._count_tokens(rows)
            logits, weights, new = constrained_step(
                self._model,
                self._last_tokens[:rows],
                self._state.view(rows, rows, shape[1]),
                too_short,
                self._settings,
            )
            self._write(argmax(logits), weights, new)

        self._graphs.run(shape, work)
        return self._grow()

    def extend(
        self, logits: Tensor, weights: Tensor | None, new: DecoderState
    ) -> list[Slot[Owner]]:
        """Extend all sentences by their likeliest token; return those that end, which leave.

        Args:
            logits: (N, V), which are overwritten.
            weights: (N, S) of attention.
            new: state after the last tokens.
        """
        mask_logits(logits, self._count_tokens(self.rows), self._known_only)
        places = argmax(logits)  # (N,)
        self._write(new.tokens_of(places), weights, new)
        if self._detailed:
            self._keep_details(places, logits, weights)
        return self._grow()

    def remove(self, slots: set[Slot[Owner]]) -> None:
        """Take away some sentences."""
        rows = [row for row, slot in enumerate(self.slots) if slot in slots]
        if not rows:
            return
        left = len(self.slots) - len(rows)
        freed = set(rows)
        last = [row for row in range(left, len(self.slots)) if row not in freed]
        holes = rows[: len(last)]  # those below `left` come first, and are as many
        if last:
            to = torch.tensor(holes, device=self._device)
            origin = torch.tensor(last, device=self._device)
            self._state.copy_rows(origin, to)
            self._state.copy_memory(origin, to)
            for part in (self._last_tokens, self._lengths):
                part[to] = part[origin]
            for hole, row in zip(holes, last, strict=True):
                self.slots[hole] = self.slots[row]
        del self.slots[left:]
        for slot in slots:
            self._scores.pop(slot, None)
            self._attention.pop(slot, None)
        self._note_settings()

    def _note_settings(self) -> None:
        """Note what the sentences' settings ask of a step."""
        self._limited = any(slot.min_length for slot in self.slots) or self._settings.min_ratio > 0
        self._detailed = [row for row, slot in enumerate(self.slots) if slot.search.details]
        known_only = [slot.search.settings.unknown == "avoid" for slot in self.slots]
        if any(known_only) and not all(known_only):
            self._known_only = torch.tensor(known_only, device=self._device)
        else:
            self._known_only = any(known_only)

    def _count_tokens(self, rows: int) -> Tensor | None:
        """Count a token of each of the first rows; return which may not end yet (N,), if any."""
        if not self._limited:
            return None
        too_short = self._lengths[:rows, 0] < self._lengths[:rows, 1]  # (N,)
        self._lengths[:rows, 0] += 1
        return too_short

    def _write(self, tokens: Tensor, weights: Tensor | None, new: DecoderState) -> None:
        """Write what a step has chosen and computed."""
        self._last_tokens[: len(tokens)] = tokens
        if weights is not None:
            self._outputs[: len(tokens), 1] = weights.max(dim=1).indices
        self._state.continue_from(new)

    def _keep_details(self, places: Tensor, logits: Tensor, weights: Tensor | None) -> None:
        """Keep the scores of the tokens, and the weights, of sentences that want details.

        Args:
            places: (N,) of the tokens among the logits.
        """
        rows = torch.tensor(self._detailed, device=self._device)
        scores = token_log_probabilities(logits[rows], places[rows]).tolist()
        attended = None if weights is None else weights[rows].tolist()
        for place, row in enumerate(self._detailed):
            slot = self.slots[row]
            self._scores[slot].append(scores[place])
            if attended is not None:
                self._attention[slot].append(attended[place][: len(slot.source)])

    def _grow(self) -> list[Slot[Owner]]:
        """Give the sentences the tokens that a step has chosen; return those that end."""
        outputs = self._outputs[: self.rows].cpu()  # one copy from a GPU
        tokens: list[int] = outputs[:, 0].tolist()
        heaviest: list[int] = outputs[:, 1].tolist()
        ended = []
        for row, token in enumerate(tokens):
            slot = self.slots[row]
            if token != EOS:
                slot.ids.append(token)
                if slot.alignment is not None:
                    slot.alignment.append(heaviest[row])
            length = len(slot.ids)
            if (
                token == EOS
                or length == slot.max_length
                or (slot.looks and length % LOOK_EVERY == 0 and _found_end(slot)[1] == "repetition")
            ):
                self._end(slot, heaviest[row])
                ended.append(slot)
        self.remove(set(ended))
        return ended

    def _end(self, slot: Slot[Owner], heaviest: int) -> None:
        """End a translation, and cut it back if it loops.

        Args:
            heaviest: the source token of greatest weight for its last token.
        """
        if slot.search.details:
            slot.end([self._hypothesis(slot, heaviest)])
            return
        size, slot.finish_reason = _found_end(slot)
        del slot.ids[size:]
        if slot.alignment is not None:
            del slot.alignment[size:]

    def _hypothesis(self, slot: Slot[Owner], heaviest: int) -> Hypothesis:
        """Return the hypothesis that a sentence has come to, with all details."""
        scores, alignment, attention = self._scores[slot], None, None
        if slot.alignment is not None:
            ended = len(scores) > len(slot.ids)  # in `<eos>`
            alignment = [*slot.alignment, heaviest] if ended else slot.alignment
            attention = self._attention[slot]
        settings = slot.search.settings
        score = sum(scores) / length_penalty(len(scores), settings.length_penalty)
        found = Hypothesis(slot.ids, scores, score, alignment, attention)
        return found.ended(slot.source, slot.min_length, slot.max_length, settings)


def _found_end(slot: Slot[Owner]) -> tuple[int, FinishReason]:
    return find_end(
        slot.ids,
        slot.source,
        cut=slot.is_cut,
        min_length=slot.min_length,
        settings=slot.search.settings,
    )
