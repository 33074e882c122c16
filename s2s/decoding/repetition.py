"""Translations that come to repeat themselves: how they are found, and where they are cut.

A translation loops once an n-gram occurs several times in a row at its end, and more often than any
does in its source. It is cut back to the first occurrence (`find_end`), which depends on its tokens
alone, and so is the same whatever the way of decoding. Searches look for loops as well, so that no
sentence loops up to the greatest length, and a beam prefers hypotheses without loops.

Unknown tokens may be different words. So those of a source excuse a translation that repeats
unknown tokens, but no other repetition.

Shapes: B sentences, R of them that are searched, K hypotheses of each, S source tokens, T target
tokens, L sizes of n-grams.
"""

from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor

from s2s.config import DecodeConfig
from s2s.decoding.translation import FinishReason
from s2s.text.vocabulary import UNK

# The longest n-gram that is looked for, and how often it occurs in a row in a loop: "no, no, no"
# may be meant, and weak models say "est-ce que ce que ce que" and find their way again.
_LONGEST_NGRAM = 8  # L
_TIMES = 4

# What a score loses by a loop: a hypothesis without one always comes first.
LOOP_COST = 1e4

# Tokens after which greedy decoding and slots look for a loop, again and again. It only saves steps
# to find one early.
LOOK_EVERY = 16


# ---- of a whole translation ---------------------------------------------------------------------


def find_end(
    ids: list[int], source: list[int], *, cut: bool, min_length: int, settings: DecodeConfig
) -> tuple[int, FinishReason]:
    """Return how many of its tokens a translation keeps, and why it ended.

    Args:
        ids: tokens of the translation, without `<eos>`.
        source: tokens of the sentence.
        cut: whether the translation had come to its greatest length.
        min_length: tokens that it keeps at least, if it has as many.
    """
    # In a loop at least so many tokens have occurred before; most translations are done here.
    if len(ids) - len(set(ids)) >= _TIMES - 1:
        kept = _find_loop(ids, source)
        if kept is not None:
            kept = max(kept, min_length) if settings.stop_on_repetition else len(ids)
            return min(kept, len(ids)), "repetition"
    return len(ids), "length" if cut else "stop"


def _find_loop(ids: list[int], source: list[int]) -> int | None:
    """Return how many tokens a translation has without its loop; None if it does not loop.

    As many of the repeated n-grams are kept as an n-gram occurs in a row in the source.
    """
    if _first_loop(ids, (1, 1)) is None:
        return None
    repetitions = _most_repetitions(source)
    found = _first_loop(ids, repetitions)
    if found is None:
        return None
    end, ngram = found
    own = repetitions[UNK in ngram]
    return end - len(ngram) * (_times(own) - own)


def _times(repetitions: int) -> int:
    """Return how often an n-gram occurs in a row in a loop, by how often one does in the source."""
    return max(_TIMES, repetitions + 1)


def _first_loop(ids: list[int], repetitions: tuple[int, int]) -> tuple[int, list[int]] | None:
    """Return the number of tokens up to where a loop is first seen, and its n-gram.

    Args:
        repetitions: of the source, as `_most_repetitions` gives them.
    """
    wanted = [_times(each) - 1 for each in repetitions]
    first = None
    for size in range(1, min(_LONGEST_NGRAM, len(ids) // _TIMES) + 1):
        run = 0
        for end, (earlier, token) in enumerate(zip(ids, ids[size:], strict=False), size + 1):
            run = run + 1 if token == earlier else 0
            if run >= size * wanted[0]:
                ngram = ids[end - size : end]
                if run >= size * wanted[UNK in ngram]:
                    if first is None or end < first[0]:
                        first = end, ngram
                    break
    return first


def _most_repetitions(ids: list[int]) -> tuple[int, int]:
    """Return how often n-grams occur in a row, at most: those without unknown tokens, and any.

    Both numbers are at least 1.
    """
    known = either = 1
    for size in range(1, min(_LONGEST_NGRAM, len(ids) // 2) + 1):
        known_run = run = 0
        for earlier, token in zip(ids, ids[size:], strict=False):
            run = run + 1 if token == earlier else 0
            known_run = known_run + 1 if token == earlier != UNK else 0
            either, known = max(either, run // size + 1), max(known, known_run // size + 1)
    return known, either


# ---- of many at once ----------------------------------------------------------------------------


def looks_for_loops(settings: DecodeConfig) -> bool:
    """Return whether a search ends hypotheses that loop.

    With a least length a loop may be the only way to come to it: then it is cut afterwards alone.
    """
    return settings.stop_on_repetition and not settings.min_ratio


def most_repetitions(sources: list[list[int]]) -> Tensor:
    """Return how often n-grams occur in a row in each of some sentences, at most.

    It is 1 for sentences that repeat too little to excuse a loop.

    Returns:
        (B, 2) of n-grams without unknown tokens, and of any.
    """
    # Most sentences hardly repeat a token.
    return torch.tensor(
        [
            _most_repetitions(ids) if len(ids) - len(set(ids)) >= _TIMES - 1 else (1, 1)
            for ids in sources
        ]
    )


def _end_in_loop(tokens: Tensor) -> Tensor:
    """Return which rows of tokens (R, T) end in a loop, if their sources repeat nothing: (R,)."""
    looping = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    for size in range(1, min(_LONGEST_NGRAM, tokens.shape[1] // _TIMES) + 1):
        repeated = size * (_TIMES - 1)
        looping |= (tokens[:, -repeated:] == tokens[:, -repeated - size : -size]).all(1)
    return looping


class LoopsOfRows:
    """Loops of the rows of a batch that is decoded token by token.

    A row whose source repeats itself is left alone until its end.
    """

    def __init__(self, sources: list[list[int]], settings: DecodeConfig) -> None:
        self._sources = sources
        self._looks = looks_for_loops(settings)
        self._plain: Tensor | None = None  # (B,) bool, rows whose sources do not repeat themselves

    def are_due(self, step: int) -> bool:
        """Return whether loops are looked for after so many tokens."""
        return self._looks and step % LOOK_EVERY == 0

    def find(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Return which rows (R,) have come to loop by their tokens (R, T) so far, (R,) bool."""
        if self._plain is None:
            most = most_repetitions(self._sources)  # (B, 2)
            self._plain = (most[:, 1] < _TIMES).to(rows.device)
        return _end_in_loop(tokens) & self._plain[rows]


def repeated_in_loops(repetitions: Tensor) -> Tensor:
    """Return how many tokens at an end that equal the ones before them are a loop.

    Args:
        repetitions: (R, 2) of the sources, as `most_repetitions` gives them.

    Returns:
        (R, 2, L), by the size of n-grams: how many, and how many more if an unknown token is in it.
    """
    times = (repetitions + 1).clamp_min(_TIMES)  # (R, 2)
    wanted = (times[..., None] - 1) * torch.arange(1, _LONGEST_NGRAM + 1)  # (R, 2, L)
    wanted[:, 1] -= wanted[:, 0]
    return wanted


# What hypotheses repeat at their ends, (…, 2 L): their last L tokens, the latest first; then for
# each size of n-grams, how many tokens at the end equal the token that is so far before them. The
# arrays of these functions are of torch on a GPU, and on a CPU of numpy, which is faster at so few
# numbers.


def empty_ends(count: int) -> Any:
    """Return what so many hypotheses without tokens repeat, (R, 2 L)."""
    ends = np.zeros((count, 2 * _LONGEST_NGRAM), dtype=np.int64)
    ends[:, :_LONGEST_NGRAM] = -1
    return ends


def extend_ends(ends: Any, before: Any, tokens: Any) -> None:
    """Write what hypotheses repeat with one more token.

    Args:
        ends: (…, 2 L), which is overwritten.
        before: (…, 2 L) what they repeat without it.
        tokens: (…).
    """
    size = _LONGEST_NGRAM
    ends[..., 0] = tokens
    ends[..., 1:size] = before[..., : size - 1]
    ends[..., size:] = (before[..., size:] + 1) * (before[..., :size] == tokens[..., None])


def are_loops(ends: Any, wanted: Any, *, excuses: bool) -> Any:
    """Return which ends (…, 2 L) are loops, (…) bool.

    Args:
        wanted: (…, 2, L) as many repeated tokens are a loop, as `repeated_in_loops` has it.
        excuses: whether unknown tokens may excuse a loop.
    """
    size = _LONGEST_NGRAM
    repeated = wanted[..., 0, :]  # (…, L)
    if excuses:
        # (…, L) whether the n-gram has an unknown token
        unknown = (ends[..., :size] == UNK).cumsum(-1) > 0
        repeated = repeated + unknown * wanted[..., 1, :]
    return (ends[..., size:] >= repeated).any(-1)


@dataclass
class LoopsOfBeams:
    """What the hypotheses of the beams of a batch repeat at their ends."""

    ends: Any  # (R, K, 2 L)
    wanted: Any  # (R, 2, L) as `repeated_in_loops` has it
    rows: Any  # (R, 1) 0 to R - 1
    excuses: bool = True  # whether unknown tokens may excuse a loop

    @classmethod
    def allocate(cls, rows: int, width: int, device: torch.device) -> Self:
        """Return what so many hypotheses of each row repeat before the first step: nothing."""
        ends = torch.zeros(rows, width, 2 * _LONGEST_NGRAM, dtype=torch.long, device=device)
        wanted = ends.new_zeros(rows, 2, _LONGEST_NGRAM)
        numbers = torch.arange(rows, device=device)[:, None]
        if device.type == "cpu":
            loops = cls(ends.numpy(), wanted.numpy(), numbers.numpy())
        else:
            loops = cls(ends, wanted, numbers)
        loops.reset(torch.ones(rows, 2, dtype=torch.long))
        return loops

    def reset(self, repetitions: Tensor) -> None:
        """Start over, for sources with such `most_repetitions` (R, 2), on the CPU."""
        self.ends[..., :_LONGEST_NGRAM] = -1
        self.ends[..., _LONGEST_NGRAM:] = 0
        wanted = repeated_in_loops(repetitions)  # (R, 2, L)
        if isinstance(self.wanted, np.ndarray):
            self.wanted[:] = wanted.numpy()
            self.excuses = bool(self.wanted[:, 1].any())
        else:
            self.wanted.copy_(wanted)  # a recorded step must always ask for it

    def extend(self, tokens: Tensor, parents: Tensor) -> Tensor | None:
        """Add a step; return which hypotheses loop, (R, K) bool, or None if none does.

        Args:
            tokens: (R, K) that are added.
            parents: (R, K) rank of the hypothesis that each continues.
        """
        before = self.ends[self.rows, self._own(parents)]  # (R, K, 2 L)
        extend_ends(self.ends, before, self._own(tokens))
        looping = are_loops(self.ends, self.wanted[:, None], excuses=self.excuses)
        if not isinstance(looping, np.ndarray):
            return cast("Tensor", looping)
        return torch.from_numpy(looping) if looping.any() else None

    def select(self, rows: Tensor) -> Self:
        """Return what the hypotheses of some rows (any,) repeat."""
        kept = self._own(rows)
        rows_left = self.rows[: len(kept)]
        return type(self)(self.ends[kept], self.wanted[kept], rows_left, self.excuses)

    def _own(self, tensor: Tensor) -> Any:
        """Return a tensor as one of the arrays."""
        return tensor.numpy() if isinstance(self.ends, np.ndarray) else tensor
