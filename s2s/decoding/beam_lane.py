"""Sentences in slots that are searched by beams, each with as many rows as it has hypotheses.

The search is that of `s2s.decoding.beam`, and finds the same. There all sentences of a batch began
together, and have the same settings; here each has its own age and settings, and no row for a
hypothesis that does not exist: it begins with one, and hypotheses that end give up theirs.

Only the model's step is computed for rows of the vocabulary's size. What remains is chosen from a
few candidates of each row, for all sentences at once, in numpy: on so few numbers its functions
take a third of the time of torch's.

Shapes: B sentences, N rows grouped by sentence, Q greatest number of rows of a sentence, C greatest
number of hypotheses that are chosen of a sentence, E hypotheses that are chosen of all, S source
tokens, V target vocabulary, L sizes of n-grams.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2s.decoding.constraints import IMPOSSIBLE, mask_logits
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.repetition import (
    LOOP_COST,
    are_loops,
    empty_ends,
    extend_ends,
    most_repetitions,
    repeated_in_loops,
)
from s2s.decoding.scoring import length_penalty, top_log_probabilities
from s2s.decoding.slot import Owner, Slot
from s2s.decoding.slot_state import SlotState
from s2s.model.seq2seq import DecoderState, Groups
from s2s.text.vocabulary import EOS, SOS

# More repeated tokens than any translation has: what is never a loop.
_NEVER = 1 << 40

# What is known of each sentence.
_SENTENCE = np.dtype(
    [
        ("left", np.int64),  # hypotheses that have not ended, at most: the beam's remaining places
        ("rows", np.int64),  # hypotheses that continue
        ("begin", np.int64),  # number of its first step
        ("length", np.int64),  # tokens of its hypotheses
        ("shortest", np.int64),  # tokens before which none ends
        ("longest", np.int64),  # tokens after which all are cut
        ("alpha", np.float64),  # exponent of the length penalty
        ("max_penalty", np.float64),  # length penalty at the greatest length
        ("worst", np.float64),  # score of the n-best ended hypothesis, which others must exceed
        ("known_only", np.bool_),  # whether unknown tokens are avoided
        ("repeated", np.int64, repeated_in_loops(torch.ones(1, 2, dtype=torch.long)).shape[1:]),
    ]
)


@dataclass(frozen=True)
class _Step:
    """Hypotheses that a step has chosen, and where attention lay."""

    tokens: NDArray[np.int64]  # (E,)
    parents: NDArray[np.int64]  # (E,) among those of the step before; -1 in a sentence's first step
    scores: NDArray[np.float32]  # (E,) nats, log-probability of the token
    rows: NDArray[np.int64]  # (E,) that each was computed in
    heaviest: NDArray[np.int64] | None  # (N,) source token of greatest weight
    weights: NDArray[np.float32] | None  # (N, S), where details are wanted


@dataclass(frozen=True)
class _Ended:
    """A hypothesis that has ended."""

    score: float
    step: int  # its last
    place: int  # among the hypotheses of that step
    size: int  # tokens, with `<eos>`


class BeamLane(Generic[Owner]):
    """Sentences that are searched by beams of their own settings.

    Active sentences are always the first ones, and their rows in the same order: the place of one
    that leaves is filled by the last one.

    Args:
        size: greatest number of sentences at a time.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._device = device
        self.slots: list[Slot[Owner]] = []
        self._state = SlotState(size)
        self._table = np.zeros(size, _SENTENCE)
        self._ended: dict[Slot[Owner], list[_Ended]] = {}
        self._steps: deque[_Step] = deque()  # those that unfinished sentences have taken
        self._step = 0  # number of the next one
        self._excuses = False  # whether unknown tokens excuse loops of some sentence
        self._has_details = False  # whether details of some sentence are wanted
        # Of rows.
        self._last_tokens = torch.zeros(0, dtype=torch.long)  # (N,)
        self._totals: NDArray[np.float32] = np.zeros(0, np.float32)  # (N,) log-probability, nats
        self._places: NDArray[np.int64] = np.zeros(0, np.int64)  # (N,) in the last step
        self._ends: Any = empty_ends(0)  # (N, 2 L) what they repeat

    @property
    def rows(self) -> int:
        """Number of rows that a step computes."""
        return len(self._totals)

    @property
    def reserved(self) -> int:
        """Number of rows that the sentences may come to have."""
        return int(self._sentences["left"].sum())

    @property
    def longest(self) -> int:
        """Source tokens of the longest sentence."""
        return max(len(slot.source) for slot in self.slots)

    @property
    def sizes(self) -> Tensor:
        """Number of rows of each sentence (B,)."""
        return torch.from_numpy(self._sentences["rows"].copy())

    @property
    def _sentences(self) -> Any:
        return self._table[: len(self.slots)]

    def admit(self, new: DecoderState, slots: list[Slot[Owner]]) -> None:
        """Take encoded sentences."""
        first, count = len(self.slots), len(slots)
        self._state.write(new, self.rows, first)
        self.slots += slots
        repeated = repeated_in_loops(most_repetitions([slot.source for slot in slots])).numpy()
        for row, slot in zip(self._table[first : first + count], slots, strict=True):
            settings = slot.search.settings
            row["left"], row["rows"] = settings.beam, 1
            row["begin"], row["length"] = self._step, 0
            row["shortest"], row["longest"] = slot.min_length, slot.max_length
            row["alpha"] = settings.length_penalty
            row["max_penalty"] = length_penalty(slot.max_length, settings.length_penalty)
            row["worst"], row["known_only"] = IMPOSSIBLE, settings.unknown == "avoid"
            self._ended[slot] = []
        looking = np.array([slot.looks for slot in slots])[:, None, None]
        self._table["repeated"][first : first + count] = np.where(looking, repeated, _NEVER)
        start = torch.full((count,), SOS, dtype=torch.long)
        self._last_tokens = torch.cat([self._last_tokens, start])
        self._totals = np.concatenate([self._totals, np.zeros(count, np.float32)])
        self._places = np.concatenate([self._places, np.full(count, -1)])
        self._ends = np.concatenate([self._ends, empty_ends(count)])
        self._note_settings()

    def inputs(self) -> tuple[Tensor, DecoderState]:
        """Return the last tokens (N,) and the state that the next step continues."""
        groups = Groups.of_sizes(self.sizes).to(self._device) if self._state.attends else None
        state = self._state.view(self.rows, len(self.slots), self.longest, groups)
        return self._last_tokens.to(self._device), state

    def extend(
        self, logits: Tensor, weights: Tensor | None, new: DecoderState
    ) -> list[Slot[Owner]]:
        """Extend all sentences by their best continuations; return those that end, which leave.

        Args:
            logits: (N, V), which are overwritten.
            weights: (N, S) of attention.
            new: state after the last tokens.
        """
        table = self._sentences
        self._mask(logits)
        parents, tokens, scores, totals = self._best_continuations(logits, new)  # (B, C) each
        table["length"] += 1
        ranks = np.arange(totals.shape[1])  # (C,)
        in_beam = (totals > IMPOSSIBLE) & (ranks < table["left"][:, None])
        over = (tokens == EOS) | (table["length"] == table["longest"])[:, None]
        ends = self._ends[parents]  # (B, C, 2 L)
        extend_ends(ends, ends.copy(), tokens)
        looping = are_loops(ends, table["repeated"][:, None], excuses=self._excuses)
        ending = in_beam & (over | looping)
        going = in_beam & ~ending
        places = in_beam.cumsum().reshape(in_beam.shape) - 1  # in this step
        self._record(parents[in_beam], tokens[in_beam], scores[in_beam], weights)
        self._end_hypotheses(ending, places, totals, looping)
        bounds = np.where(going, totals, IMPOSSIBLE).max(1) / table["max_penalty"]  # (B,)
        left = bounds > table["worst"]  # (B,) where a hypothesis may become one of the n best
        order = _filled(left)
        kept = going[order]  # (B, C)
        # Hypotheses that continue, sentence by sentence, the best first.
        rows = parents[order][kept]  # (N,)
        self._last_tokens = torch.from_numpy(tokens[order][kept])
        self._totals = totals[order][kept]
        self._places, self._ends = places[order][kept], ends[order][kept]
        self._state.continue_from(new, torch.from_numpy(rows).to(self._device))
        table["rows"] = going.sum(1)
        decided = [self.slots[row] for row in np.flatnonzero(~left).tolist()]
        for slot in decided:
            slot.end(self._hypotheses(slot))
        self._keep(order)
        return decided

    def remove(self, slots: set[Slot[Owner]]) -> None:
        """Take away some sentences."""
        left = np.array([slot not in slots for slot in self.slots], dtype=bool)
        if left.all():
            return
        order = _filled(left)
        sizes = self._sentences["rows"]
        starts = sizes.cumsum() - sizes
        rows = np.concatenate(
            [np.arange(starts[n], starts[n] + sizes[n]) for n in order] or [np.zeros(0, np.int64)]
        )
        self._totals, self._places = self._totals[rows], self._places[rows]
        self._ends, kept = self._ends[rows], torch.from_numpy(rows)
        self._last_tokens = self._last_tokens[kept]
        self._state.keep_rows(kept.to(self._device))
        self._keep(order)

    # ---- the parts of a step ----

    def _mask(self, logits: Tensor) -> None:
        """Mask the tokens that may not be chosen, by logits (N, V)."""
        table = self._sentences
        too_short = table["length"] < table["shortest"]  # (B,)
        mask_logits(
            logits,
            self._of_rows(too_short) if too_short.any() else None,
            self._of_rows(table["known_only"]) if table["known_only"].any() else False,
        )

    def _of_rows(self, values: NDArray[np.bool_]) -> Tensor:
        """Return the values (N,) of each row's sentence, of values (B,)."""
        return torch.from_numpy(np.repeat(values, self._sentences["rows"])).to(self._device)

    def _best_continuations(self, logits: Tensor, new: DecoderState) -> tuple[Any, Any, Any, Any]:
        """Return the best continuations of each sentence, best first, by logits (N, V).

        Returns:
            Rows that they continue, their tokens, the log-probabilities of these and of the
            hypotheses with them, nats; each (B, C). Where there are fewer, the last is
            `IMPOSSIBLE`.
        """
        table = self._sentences
        count = int(table["left"].max())
        found, places = top_log_probabilities(logits, count)  # (N, C') each
        scores, candidates = found.cpu().numpy(), new.tokens_of(places).cpu().numpy()
        sums = self._totals[:, None] + scores  # (N, C')
        sizes = table["rows"]
        starts, width = sizes.cumsum() - sizes, int(sizes.max())
        each = sums.shape[1]
        padded = np.full((len(sizes), width, each), IMPOSSIBLE, np.float32)  # (B, Q, C')
        padded[np.arange(width) < sizes[:, None]] = sums
        flat = torch.from_numpy(padded.reshape(len(sizes), -1))  # (B, Q C')
        best, which = flat.topk(min(count, flat.shape[1]), dim=1)  # (B, C)
        ranks, choices = np.divmod(which.numpy(), each)
        parents = np.minimum(
            starts[:, None] + ranks, self.rows - 1
        )  # of what is no hypothesis, any
        return (
            parents,
            candidates[parents, choices],
            scores[parents, choices],
            best.numpy(),
        )

    def _record(self, rows: Any, tokens: Any, scores: Any, weights: Tensor | None) -> None:
        """Add a step of the chosen hypotheses (E,) to the history, with the weights (N, S)."""
        heaviest = None if weights is None else weights.max(dim=1).indices.cpu().numpy()
        kept = None
        if weights is not None and self._has_details:
            kept = weights.float().cpu().numpy()
        self._steps.append(_Step(tokens, self._places[rows], scores, rows, heaviest, kept))
        self._step += 1

    def _end_hypotheses(self, ending: Any, places: Any, totals: Any, looping: Any) -> None:
        """Keep the hypotheses that end; each (B, C)."""
        table = self._sentences
        penalties = length_penalty(table["length"], table["alpha"])  # (B,)
        sentences, ranks = ending.nonzero()
        # In float32, as `s2s.decoding.beam` has them: then loops are ranked alike, too.
        scores = (totals[sentences, ranks] / penalties[sentences]).astype(np.float32)
        scores -= np.float32(LOOP_COST) * looping[sentences, ranks]
        for sentence, place, score in zip(
            sentences.tolist(), places[sentences, ranks].tolist(), scores.tolist(), strict=True
        ):
            slot = self.slots[sentence]
            ended = self._ended[slot]
            size = int(table["length"][sentence])
            ended.append(_Ended(score, self._step - 1, place, size))
            n_best = slot.search.settings.n_best
            if len(ended) >= n_best:
                table["worst"][sentence] = sorted(each.score for each in ended)[-n_best]
        table["left"] -= ending.sum(1)

    def _hypotheses(self, slot: Slot[Owner]) -> list[Hypothesis]:
        """Return the `n_best` ended hypotheses of a sentence, traced back from their ends."""
        settings = slot.search.settings
        best = sorted(self._ended.pop(slot), key=lambda ended: -ended.score)[: settings.n_best]
        return [
            self._trace_back(slot, ended).ended(
                slot.source, slot.min_length, slot.max_length, settings
            )
            for ended in best
        ]

    def _trace_back(self, slot: Slot[Owner], ended: _Ended) -> Hypothesis:
        """Return an ended hypothesis, whose tokens are found from the last to the first."""
        ids: list[int] = []
        scores: list[float] = []
        alignment: list[int] = []
        attention: list[list[float]] = []
        place, newest = ended.place, len(self._steps) - (self._step - ended.step)
        for number in range(newest, newest - ended.size, -1):
            step = self._steps[number]
            ids.append(int(step.tokens[place]))
            scores.append(float(step.scores[place]))
            if step.heaviest is not None:
                row = step.rows[place]
                alignment.append(int(step.heaviest[row]))
                if slot.search.details and step.weights is not None:
                    attention.append(step.weights[row, : len(slot.source)].tolist())
            place = int(step.parents[place])
        for parts in (ids, scores, alignment, attention):
            parts.reverse()
        return Hypothesis(
            ids=ids[:-1] if ids[-1] == EOS else ids,
            scores=scores,
            score=ended.score,
            alignment=alignment if self._state.attends else None,
            attention=attention if self._state.attends and slot.search.details else None,
        )

    # ---- sentences that leave ----

    def _keep(self, order: NDArray[np.int64]) -> None:
        """Keep some sentences, in a new order, whose rows have it already."""
        moved = np.flatnonzero(order != np.arange(len(order)))
        if len(moved):
            to = torch.from_numpy(moved).to(self._device)
            self._state.copy_memory(torch.from_numpy(order[moved]).to(self._device), to)
        self._table[: len(order)] = self._table[order]
        remaining = [self.slots[row] for row in order.tolist()]
        if len(remaining) < len(self.slots):
            for slot in set(self.slots) - set(remaining):
                self._ended.pop(slot, None)
            self.slots = remaining
            self._note_settings()
            self._forget_steps()

    def _note_settings(self) -> None:
        """Note what the sentences' settings ask of a step."""
        self._has_details = any(slot.search.details for slot in self.slots)
        excuses = self._sentences["repeated"][:, 1]
        self._excuses = bool(((excuses > 0) & (excuses < _NEVER)).any())

    def _forget_steps(self) -> None:
        """Forget the steps before the first one of all sentences."""
        begin = int(self._sentences["begin"].min()) if self.slots else self._step
        while self._step - len(self._steps) < begin:
            self._steps.popleft()


def _filled(left: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the order in which those that are left fill the places of the others from the end."""
    count = int(left.sum())
    order = np.arange(count)
    order[~left[:count]] = count + np.flatnonzero(left[count:])
    return order
