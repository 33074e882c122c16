"""Sentences that come and go in slots, against the same sentences translated alone."""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.config import DecodeConfig
from s2s.decoding.greedy import greedy
from s2s.decoding.slots import Slots
from s2s.text.vocabulary import EOS
from tests.support.networks import KINDS, made, some_sources

WORDS = 12


def alone(name: str, ids: list[int], how: DecodeConfig) -> tuple[list[int], list[int] | None]:
    """The ids that translate a sentence alone, and their alignment."""
    [found] = greedy(made(name), torch.tensor([ids]), torch.tensor([len(ids)]), how, details=True)
    alignment = None if found.alignment is None else found.alignment[: len(found.ids)]
    return found.ids, alignment


def sentences(count: int) -> list[list[int]]:
    source, lengths = some_sources(count)
    return [row[:length].tolist() for row, length in zip(source, lengths.tolist(), strict=True)]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=8)
@given(size=st.integers(1, 9), seed=st.integers(0, 1000))
def test_who_shares_the_slots_changes_nothing(name: str, size: int, seed: int) -> None:
    random = Random(seed)
    how = DecodeConfig(max_length=7, min_ratio=0.5, max_ratio=3.0)
    waiting = list(enumerate(sentences(20)))
    slots: Slots[int] = Slots(made(name), how, size, torch.device("cpu"))
    found: dict[int, tuple[list[int], list[int] | None]] = {}
    while waiting or len(slots):
        coming = min(slots.free, random.randint(0, 4), len(waiting))
        admitted, waiting = waiting[:coming], waiting[coming:]
        if admitted:
            slots.admit([ids for _, ids in admitted], [owner for owner, _ in admitted])
        for slot in slots.step():
            found[slot.owner] = (slot.ids, slot.alignment)
    assert found == {owner: alone(name, ids, how) for owner, ids in enumerate(sentences(20))}


def test_a_cancelled_sentence_frees_its_slot_and_disturbs_nobody() -> None:
    how = DecodeConfig(max_length=7)
    ids = sentences(6)
    slots: Slots[int] = Slots(made("general"), how, 6, torch.device("cpu"))
    slots.admit(ids, list(range(6)))
    found = {slot.owner: slot.ids for slot in slots.step()}
    cancelled = {slot for slot in slots.active if slot.owner % 2}
    assert cancelled
    slots.cancel(cancelled)
    assert not cancelled & set(slots.active)
    while len(slots):
        found.update((slot.owner, slot.ids) for slot in slots.step())
    wanted = {n: alone("general", ids[n], how)[0] for n in range(6) if n in found}
    assert found == wanted
    assert {0, 2, 4} <= set(found)


def test_a_long_sentence_delays_no_short_one() -> None:
    """A short one is admitted after a long one began, and ends before it."""
    model = made("none")
    with torch.no_grad():
        model.decoder.output.bias[EOS] = -1e4  # nothing ends by itself: the lengths decide
    how = DecodeConfig(max_length=60, max_ratio=5.0, stop_on_repetition=False)
    slots: Slots[str] = Slots(model, how, 2, torch.device("cpu"))
    slots.admit([[5] * 12], ["long"])
    left: list[str] = []
    for _ in range(3):
        slots.step()
    slots.admit([[6]], ["short"])
    steps = 0
    while len(slots):
        steps += 1
        left += [slot.owner for slot in slots.step()]
    assert left == ["short", "long"]
    assert steps == 57


def test_more_than_the_free_slots_is_refused() -> None:
    slots: Slots[int] = Slots(made("none"), DecodeConfig(), 2, torch.device("cpu"))
    with pytest.raises(ValueError, match="3 sentences for 2 free"):
        slots.admit([[5], [6], [7]], [1, 2, 3])
    assert slots.step() == []


def test_evicted_slots_can_be_filled_again() -> None:
    how = DecodeConfig(max_length=7)
    slots: Slots[int] = Slots(made("tied"), how, 3, torch.device("cpu"))
    slots.admit(sentences(3), [0, 1, 2])
    assert {slot.owner for slot in slots.evict_all()} == {0, 1, 2}
    assert len(slots) == 0
    slots.admit([sentences(4)[3]], [3])
    words: list[int] = []
    while len(slots):
        for slot in slots.step():
            words = slot.ids
    assert words == alone("tied", sentences(4)[3], how)[0]
