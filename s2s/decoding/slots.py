"""Continuous batching: decoding of sentences that come and go at every step.

A batch takes as long as its longest sentence, and sentences that come meanwhile wait for its end. A
decoder whose state is of fixed size needs neither: sentences are admitted to free slots before any
step, and leave after the step in which they end. This is iteration-level scheduling (Yu et al.,
2022, Orca, https://www.usenix.org/conference/osdi22/presentation/yu), for recurrent networks.

A sentence has a row for each of its hypotheses: one where it is decoded greedily
(`s2s.decoding.greedy_lane`), up to its beam otherwise (`s2s.decoding.beam_lane`). Both kinds share
the steps of the model while they have few rows and about as many. Otherwise they take turns, so
that neither waits longer for the other's steps than its own take.

Shapes: N rows, B sentences, S source tokens.
"""

from typing import Generic

import torch

from s2s.config import DecodeConfig
from s2s.decoding.beam_lane import BeamLane
from s2s.decoding.constraints import length_limits
from s2s.decoding.greedy_lane import GreedyLane
from s2s.decoding.network import Network
from s2s.decoding.shortlisted import ShortlistedNetwork
from s2s.decoding.slot import Owner, Search, Slot
from s2s.decoding.slot_state import joined, rows_of
from s2s.model.seq2seq import Groups
from s2s.text.vocabulary import PAD

# What a step costs besides its rows, in rows: reading the weights, and starting each operation.
_STEP_COST = 8

# Rows up to which both kinds of sentences share a step, for which their memory is copied.
_SHARED_ROWS = 32

# Source tokens whose encoding costs as much as a row of a step.
_ENCODED = 2


class Slots(Generic[Owner]):
    """Sentences that are translated together, each for as many steps as it takes.

    A translation does not depend on which other sentences share its steps, up to the rounding of
    floats: it is that of `s2s.decoding.search.decode`.

    Args:
        settings: those of sentences that are admitted without settings of their own.
        slots: greatest number of sentences at a time that are decoded greedily, and of those that
            are searched by a beam. The latter have as many rows together as so many sentences of
            the given settings.
    """

    def __init__(
        self, model: Network, settings: DecodeConfig, slots: int, device: torch.device
    ) -> None:
        self._model, self._device, self._size = model, device, slots
        self._search = Search(settings)
        self._most_rows = slots * settings.beam
        self._greedy: GreedyLane[Owner] = GreedyLane(model, settings, slots, device)
        self._beams: BeamLane[Owner] = BeamLane(slots, device)
        # A GPU starts recorded steps of greedy decoding as a whole, whatever else there is.
        self._turns = _LaneTurns(shared_rows=0 if device.type == "cuda" else _SHARED_ROWS)
        self._stepped: list[Slot[Owner]] = []

    def __len__(self) -> int:
        """Return the number of active slots."""
        return len(self._greedy.slots) + len(self._beams.slots)

    @property
    def active(self) -> list[Slot[Owner]]:
        """The sentences that are being translated."""
        return self._greedy.slots + self._beams.slots

    @property
    def beams(self) -> list[Slot[Owner]]:
        """The active sentences that are searched by beams."""
        return self._beams.slots

    @property
    def stepped(self) -> list[Slot[Owner]]:
        """The sentences that the last step has extended, also those that ended in it."""
        return self._stepped

    @property
    def grown(self) -> list[Slot[Owner]]:
        """The sentences that the last step has extended, whose translations begin as they do now.

        These are decoded greedily, and have not ended.
        """
        stepped = set(self._stepped)
        return [slot for slot in self._greedy.slots if slot in stepped]

    def count(self, *, greedy: bool) -> int:
        """Return the number of active sentences of a kind."""
        return len((self._greedy if greedy else self._beams).slots)

    @property
    def free(self) -> int:
        """Number of sentences with the usual settings that can be admitted."""
        settings = self._search.settings
        if self._search.is_greedy:
            return self._size - len(self._greedy.slots)
        rows = self._most_rows - self._beams.reserved
        return max(0, min(self._size - len(self._beams.slots), rows // settings.beam))

    def fits(self, searches: list[Search]) -> bool:
        """Return whether sentences that are searched so can be admitted together.

        One with a beam wider than all rows can be while it is the only one with a beam.
        """
        beams = [search.settings.beam for search in searches if not search.is_greedy]
        if len(searches) - len(beams) > self._size - len(self._greedy.slots):
            return False
        if not beams:
            return True
        if len(beams) > self._size - len(self._beams.slots):
            return False
        is_only = len(beams) == 1 and not self._beams.slots
        return is_only or sum(beams) <= self._most_rows - self._beams.reserved

    @torch.inference_mode()
    def admit(
        self,
        sentences: list[list[int]],
        owners: list[Owner],
        searches: list[Search] | None = None,
    ) -> None:
        """Encode sentences of at least one token together, into free slots.

        Args:
            searches: how each is searched; None: all with the usual settings.

        Raises:
            ValueError: there are more sentences than free slots.
        """
        searches = searches or [self._search] * len(sentences)
        if not self.fits(searches):
            raise ValueError(f"{len(sentences)} sentences are more than there is room for")
        size = max(map(len, sentences))
        padded = [ids + [PAD] * (size - len(ids)) for ids in sentences]
        source = torch.tensor(padded)  # (B, S)
        lengths = torch.tensor([len(ids) for ids in sentences])  # (B,)
        if isinstance(self._model, ShortlistedNetwork):
            self._model.keep(slot.candidates for slot in self.active)
        new = self._model.encode(source.to(self._device), lengths)
        limits = {
            search: [limit.tolist() for limit in length_limits(lengths, search.settings)]
            for search in set(searches)
        }
        slots = [
            Slot(owner, ids, search, *(limit[place] for limit in limits[search]))
            for place, (owner, ids, search) in enumerate(
                zip(owners, sentences, searches, strict=True)
            )
        ]
        if new.candidates is not None:
            for slot, number in zip(slots, new.candidates.sets.tolist(), strict=True):
                slot.candidates = number
        for lane, greedy in ((self._greedy, True), (self._beams, False)):
            own = [n for n, search in enumerate(searches) if search.is_greedy is greedy]
            if own:
                every = len(own) == len(slots)
                state = new if every else new.select(torch.tensor(own, device=self._device))
                lane.admit(state, [slots[n] for n in own])
                self._turns.charge(greedy, sum(len(sentences[n]) for n in own) // _ENCODED)

    @torch.inference_mode()
    def step(self) -> list[Slot[Owner]]:
        """Take a step of the model; return the slots of sentences that ended, which are freed.

        It extends the translations of both kinds, or of the kind whose turn it is.
        """
        greedy, beams = self._greedy, self._beams
        self._stepped = []
        if not len(self):
            return []
        with_greedy, with_beams = self._turns.next(greedy.rows, beams.rows)
        if with_greedy:
            self._stepped += greedy.slots
        if with_beams:
            self._stepped += beams.slots
        if with_greedy and with_beams:
            return self._step_together()
        if with_greedy and greedy.can_record():
            return greedy.step_recorded()
        lane: GreedyLane[Owner] | BeamLane[Owner] = greedy if with_greedy else beams
        return lane.extend(*self._model.step(*lane.inputs()))

    def cancel(self, slots: set[Slot[Owner]]) -> None:
        """Free the slots of sentences whose translations are not wanted any more."""
        with torch.inference_mode():
            self._greedy.remove(slots & set(self._greedy.slots))
            self._beams.remove(slots & set(self._beams.slots))

    def evict_stepped(self) -> list[Slot[Owner]]:
        """Free the slots of the sentences in the last step; return them.

        Then the others can go on if the step has failed.
        """
        stepped, self._stepped = self._stepped, []
        self.cancel(set(stepped))
        return stepped

    def _step_together(self) -> list[Slot[Owner]]:
        """Extend the translations of both kinds by one step of the model."""
        beams, greedy = self._beams, self._greedy
        tokens, state = beams.inputs()
        other_tokens, other_state = greedy.inputs()
        groups = None
        if state.memory is not None:
            sizes = torch.cat([beams.sizes, torch.ones(greedy.rows, dtype=torch.long)])
            groups = Groups.of_sizes(sizes).to(self._device)
        logits, weights, new = self._model.step(
            torch.cat([tokens, other_tokens]), joined(state, other_state, groups)
        )
        ended = []
        rows = beams.rows
        for lane, own in ((beams, slice(0, rows)), (greedy, slice(rows, len(logits)))):
            own_weights = None if weights is None else weights[own, : lane.longest]
            ended += lane.extend(logits[own], own_weights, rows_of(new, own))
        return ended


class _LaneTurns:
    """Turns of the two kinds of sentences, of which each is to get half of the time.

    Times are estimated by rows: what does not depend on the machine can be tested.

    Args:
        shared_rows: rows up to which both kinds share a step.
    """

    def __init__(self, shared_rows: int) -> None:
        self._shared_rows = shared_rows
        self._spent = {True: 0, False: 0}  # by whether it is the greedy kind

    def charge(self, greedy: bool, cost: int) -> None:
        """Add a cost, in rows, to what a kind has spent."""
        self._spent[greedy] += cost

    def next(self, greedy: int, beams: int) -> tuple[bool, bool]:
        """Return whether the next step has the greedy rows, and whether it has those of beams.

        Args:
            greedy: number of the first; at least one is not 0.
            beams: number of the second.
        """
        rows = {True: greedy, False: beams}
        if greedy and beams:
            # A shared step costs neither kind more than twice as much as a step of its own.
            is_even = abs(greedy - beams) <= _STEP_COST
            if is_even and greedy + beams <= self._shared_rows:
                self._spent = {True: 0, False: 0}
                return True, True
            turn = self._spent[True] <= self._spent[False]
        else:
            # Who was absent did not save anything up, but need not wait for more than this step.
            turn = greedy > 0
            self._spent = {turn: 0, not turn: 0}
        self._spent[turn] += rows[turn] + _STEP_COST
        least = min(self._spent.values())
        self._spent = {kind: spent - least for kind, spent in self._spent.items()}
        return turn, not turn
