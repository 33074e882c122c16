"""The decoder's state of sentences that come and go, in tensors that stay where they are.

Shapes: N rows, a row for each hypothesis, B sentences, S source tokens, L layers, H hidden size.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from s2s.gpu.graphs import next_power_of_two
from s2s.model.seq2seq import Candidates, DecoderState, Groups, Memory


class SlotState:
    """The state of hypotheses in the first rows, and the memory of their sentences.

    A step computes nothing for other rows, and reads no memory of other sentences. The tensors grow
    when they are too small; only then they move.
    """

    def __init__(self, sentences: int) -> None:
        self._sentences = sentences  # that there is memory for
        self._state: DecoderState | None = None  # allocated by the first sentence

    @property
    def attends(self) -> bool:
        """Whether there is a memory, which attention reads."""
        return self._state is not None and self._state.memory is not None

    def write(self, new: DecoderState, row: int, sentence: int) -> bool:
        """Write encoded sentences, of one hypothesis each, from a row and a sentence on.

        Returns:
            Whether the tensors have moved.
        """
        count = new.recurrent[0].shape[1]
        moved = self._reserve(new, row + count)
        state = self._allocated
        for part, new_part in zip(state.step_tensors(), new.step_tensors(), strict=True):
            part[row : row + count] = new_part
        if state.memory is not None and new.memory is not None:
            places, size = slice(sentence, sentence + count), new.memory.values.shape[1]
            for part, new_part in zip(state.memory.tensors(), new.memory.tensors(), strict=True):
                part[places, :size] = new_part
            state.memory.padding[places, size:] = True
        return moved

    def view(
        self, rows: int, sentences: int, size: int, groups: Groups | None = None
    ) -> DecoderState:
        """Return the state of the first rows and sentences, without copying.

        Args:
            size: source tokens of the longest of the sentences.
            groups: the rows of each sentence, unless all have as many.
        """
        state, memory = self._allocated, self._allocated.memory
        if memory is not None:
            memory = memory.map(lambda part: part[:sentences, :size])
        input_feed = None if state.input_feed is None else state.input_feed[:rows]
        recurrent = tuple(part[:, :rows] for part in state.recurrent)
        candidates = _sets(state.candidates, lambda sets: sets[:rows])
        return DecoderState(recurrent, memory, input_feed, groups, candidates)

    def continue_from(self, new: DecoderState, parents: Tensor | None = None) -> None:
        """Write what a step has computed into the first rows.

        Args:
            parents: the row of the new state that each continues; None: its own.
        """
        count = new.recurrent[0].shape[1] if parents is None else len(parents)
        self._reserve(new, count)
        for part, new_part in zip(self._allocated.step_tensors(), new.step_tensors(), strict=True):
            part[:count] = new_part if parents is None else new_part[parents]

    def keep_rows(self, rows: Tensor) -> None:
        """Bring some rows (any,) to the first places, and forget the others."""
        for part in self._allocated.step_tensors():
            part[: len(rows)] = part[rows]

    def copy_rows(self, origin: Tensor, to: Tensor) -> None:
        """Copy some rows (any,) to other ones."""
        for part in self._allocated.step_tensors():
            part[to] = part[origin]

    def copy_memory(self, origin: Tensor, to: Tensor) -> None:
        """Copy the memory of some sentences (any,) to the places of other ones."""
        if self._allocated.memory is not None:
            for part in self._allocated.memory.tensors():
                part[to] = part[origin]

    @property
    def _allocated(self) -> DecoderState:
        assert self._state is not None  # noqa: S101
        return self._state

    def _reserve(self, new: DecoderState, rows: int) -> bool:
        """Have room for so many rows, and for sources as long as those of a new state.

        Returns:
            Whether the tensors have moved.
        """
        old = self._state
        if old is None:
            old = replace(new.select(torch.arange(0, device=new.recurrent[0].device)), memory=None)
        state = old
        if rows > old.recurrent[0].shape[1]:
            count = max(next_power_of_two(rows), self._sentences)
            missing = count - old.recurrent[0].shape[1]
            padded = [nn.functional.pad(part, (0, 0, 0, missing)) for part in old.recurrent]
            input_feed = old.input_feed
            if input_feed is not None:
                input_feed = nn.functional.pad(input_feed, (0, 0, 0, missing))
            candidates = _sets(old.candidates, lambda sets: nn.functional.pad(sets, (0, missing)))
            state = replace(
                state, recurrent=tuple(padded), input_feed=input_feed, candidates=candidates
            )
        memory = new.memory
        reserved = 0 if old.memory is None else old.memory.values.shape[1]
        if memory is not None and memory.values.shape[1] > reserved:
            state = replace(state, memory=self._enlarge(old.memory, memory))
        moved, self._state = state is not self._state, state
        return moved

    def _enlarge(self, old: Memory | None, new: Memory) -> Memory:
        """Return a memory for sources as long as a new one's, with the old content."""
        # To the next power of two, so that memory is seldom enlarged.
        shape = (self._sentences, next_power_of_two(new.values.shape[1]))
        memory = new.map(lambda part: part.new_zeros(*shape, *part.shape[2:]))
        memory.padding.fill_(True)
        if old is not None:
            for part, old_part in zip(memory.tensors(), old.tensors(), strict=True):
                part[:, : old_part.shape[1]] = old_part
        return memory


def joined(first: DecoderState, second: DecoderState, groups: Groups | None) -> DecoderState:
    """Return the state of the rows and sentences of one state and then those of another.

    Args:
        groups: the rows of each of all sentences; None without attention.
    """
    recurrent = tuple(map(_cat_rows, first.recurrent, second.recurrent))
    input_feed = None
    if first.input_feed is not None and second.input_feed is not None:
        input_feed = torch.cat([first.input_feed, second.input_feed])
    memory = None
    if first.memory is not None and second.memory is not None:
        size = max(first.memory.values.shape[1], second.memory.values.shape[1])
        one, other = _padded(first.memory, size), _padded(second.memory, size)
        values = torch.cat([one.values, other.values])
        keys = values
        if one.keys is not one.values:
            keys = torch.cat([one.keys, other.keys])
        memory = Memory(values, keys, torch.cat([one.padding, other.padding]))
    candidates = first.candidates
    if candidates is not None and second.candidates is not None:
        others = second.candidates.sets
        candidates = replace(candidates, sets=torch.cat([candidates.sets, others]))
    return DecoderState(recurrent, memory, input_feed, groups, candidates)


def rows_of(state: DecoderState, rows: slice) -> DecoderState:
    """Return what a step has computed for some rows, without the memory."""
    input_feed = None if state.input_feed is None else state.input_feed[rows]
    recurrent = tuple(part[:, rows] for part in state.recurrent)
    candidates = _sets(state.candidates, lambda sets: sets[rows])
    return DecoderState(recurrent, None, input_feed, candidates=candidates)


def _sets(candidates: Candidates | None, change: Callable[[Tensor], Tensor]) -> Candidates | None:
    """Return candidates with changed numbers of sets (N,)."""
    return None if candidates is None else replace(candidates, sets=change(candidates.sets))


def _cat_rows(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second], dim=1)


def _padded(memory: Memory, size: int) -> Memory:
    """Return a memory with padding up to so many source tokens."""
    missing = size - memory.values.shape[1]
    if not missing:
        return memory
    padded = memory.map(
        lambda part: nn.functional.pad(
            part, (0, 0, 0, missing) if part.dim() == 3 else (0, missing)
        )
    )
    padded.padding[:, -missing:] = True
    return padded
