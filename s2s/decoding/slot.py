"""What slots know of a sentence: how it is searched, and what has been found."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from s2s.config import DecodeConfig
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.repetition import looks_for_loops
from s2s.decoding.translation import FinishReason

Owner = TypeVar("Owner")


@dataclass(frozen=True)
class Search:
    """How a sentence is searched in slots: greedily, or by a beam. Slots do not sample."""

    settings: DecodeConfig
    details: bool = False  # whether scores and the weights of attention are wanted

    @property
    def is_greedy(self) -> bool:
        """Whether the sentence has one hypothesis at any time."""
        return self.settings.beam == 1


@dataclass(eq=False)
class Slot(Generic[Owner]):
    """A sentence that is being translated."""

    owner: Owner  # what the caller knows the sentence by
    source: list[int]  # tokens of the sentence
    search: Search
    min_length: int  # tokens before which the translation does not end
    max_length: int  # tokens after which it is cut
    candidates: int | None = None  # with a shortlist, the number of its set of target tokens
    ids: list[int] = field(default_factory=list)  # never `<eos>`; of a beam once it has ended
    alignment: list[int] | None = None  # of each id, the source token of greatest weight
    finish_reason: FinishReason = "stop"  # once it has ended
    # Best first, once it has ended: of a beam, or where details are wanted
    hypotheses: list[Hypothesis] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.looks = looks_for_loops(self.search.settings)  # whether loops end its hypotheses

    @property
    def is_cut(self) -> bool:
        """Whether the translation has come to its greatest length."""
        return len(self.ids) == self.max_length

    def end(self, hypotheses: list[Hypothesis]) -> None:
        """Keep the hypotheses that have been found, best first."""
        self.hypotheses = hypotheses
        if hypotheses:
            best = hypotheses[0]
            self.ids, self.finish_reason = best.ids, best.finish_reason
            if best.alignment is not None:
                self.alignment = best.alignment[: len(best.ids)]
