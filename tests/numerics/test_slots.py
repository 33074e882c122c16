"""Sentences that come and go in slots, against the same sentences translated alone."""

from functools import cache
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.config import DecodeConfig
from s2s.decoding.greedy import greedy
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.network import Network
from s2s.decoding.search import decode
from s2s.decoding.slot import Search, Slot
from s2s.decoding.slots import Slots
from s2s.text.vocabulary import EOS
from tests.support.networks import KINDS, made, reluctant, shortlisted, some_sources


@cache  # many examples have the same sentences
def alone(name: str, ids: tuple[int, ...], how: DecodeConfig) -> tuple[list[int], list[int] | None]:
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
    assert found == {owner: alone(name, tuple(ids), how) for owner, ids in enumerate(sentences(20))}


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
    wanted = {n: alone("general", tuple(ids[n]), how)[0] for n in range(6) if n in found}
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
    with pytest.raises(ValueError, match="3 sentences are more"):
        slots.admit([[5], [6], [7]], [1, 2, 3])
    assert slots.step() == []


def test_evicted_slots_can_be_filled_again() -> None:
    how = DecodeConfig(max_length=7)
    slots: Slots[int] = Slots(made("tied"), how, 3, torch.device("cpu"))
    slots.admit(sentences(3), [0, 1, 2])
    left = {0, 1, 2} - {slot.owner for slot in slots.step()}
    assert {slot.owner for slot in slots.evict_stepped()} == left
    assert len(slots) == 0
    slots.admit([sentences(4)[3]], [3])
    words: list[int] = []
    while len(slots):
        for slot in slots.step():
            words = slot.ids
    assert words == alone("tied", tuple(sentences(4)[3]), how)[0]


# ---- beams ---------------------------------------------------------------------------------------

CPU = torch.device("cpu")
USUAL = DecodeConfig(beam=3, max_length=9, max_ratio=3.0)
SEARCHES = [
    Search(USUAL),
    Search(USUAL.changed(n_best=3, min_ratio=0.5), details=True),
    Search(USUAL.changed(beam=1)),
    Search(USUAL.changed(beam=1, unknown="avoid", length_penalty=0.3), details=True),
    Search(USUAL.changed(beam=5, n_best=2, unknown="copy"), details=True),
    Search(USUAL.changed(beam=2, length_penalty=0.0, unknown="avoid", max_length=4)),
    Search(USUAL.changed(beam=8, length_penalty=2.0, max_ratio=1.5, n_best=8)),
    Search(USUAL.changed(beam=4, max_length=40)),
    Search(USUAL.changed(beam=2, max_length=40, stop_on_repetition=False, max_ratio=1000.0)),
]


def network_of(way: str, name: str) -> Network:
    """A network of a kind, plain, reluctant or shortlisted."""
    model = reluctant(name) if way == "reluctant" else made(name)
    return shortlisted(model) if way == "shortlisted" else model


def wanted(network: Network, ids: list[int], search: Search) -> list[Hypothesis]:
    """What the usual search finds for a sentence alone."""
    source, lengths = torch.tensor([ids]), torch.tensor([len(ids)])
    [found] = decode(network, source, lengths, search.settings, details=True)
    return found


def assert_same(slot: Slot[int], found: list[Hypothesis]) -> None:
    """The slot of a sentence that has ended has the hypotheses that were found."""
    best = found[0]
    attends = best.alignment is not None
    assert (slot.ids, slot.finish_reason) == (best.ids, best.finish_reason)
    assert slot.alignment == (best.alignment[: len(best.ids)] if attends else None)
    if slot.search.is_greedy and not slot.search.details:
        return
    assert len(slot.hypotheses) == len(found)
    for own, other in zip(slot.hypotheses, found, strict=True):
        assert (own.ids, own.finish_reason) == (other.ids, other.finish_reason)
        assert own.alignment == other.alignment
        assert own.score == pytest.approx(other.score, abs=1e-4)
        assert own.scores == pytest.approx(other.scores, abs=1e-4)
        if slot.search.details and attends:
            for weights, others in zip(own.attention or [], other.attention or [], strict=True):
                assert weights == pytest.approx(others, abs=1e-5)
        else:
            assert own.attention is None


# An adaptive output layer has no shortlists.
WAYS = {"plain": KINDS, "reluctant": KINDS, "shortlisted": [n for n in KINDS if n != "adaptive"]}


@pytest.mark.parametrize(("way", "name"), [(way, name) for way in WAYS for name in WAYS[way]])
@settings(max_examples=5)
@given(size=st.integers(1, 9), seed=st.integers(0, 1000), shared=st.sampled_from([0, 6, 32]))
def test_beams_find_the_same_whoever_shares_their_steps(
    way: str, name: str, size: int, seed: int, shared: int
) -> None:
    """Sentences come, are given up and end at random; half of their steps have both kinds."""
    random = Random(seed)
    network = network_of(way, name)
    slots: Slots[int] = Slots(network, USUAL, size, CPU)
    slots._turns._shared_rows = shared
    ids = sentences(24)
    searches = [random.choice(SEARCHES) for _ in ids]
    waiting, cancelled, ended = list(range(len(ids))), set(), set()
    while waiting or len(slots):
        coming: list[int] = []
        for owner in list(waiting):
            if random.random() < 0.2 or len(coming) == 4:
                break
            if not slots.fits([searches[each] for each in [*coming, owner]]):
                break
            coming.append(owner)
            waiting.remove(owner)
        if coming:
            slots.admit([ids[n] for n in coming], coming, [searches[n] for n in coming])
        if random.random() < 0.1 and slots.active:
            given_up = random.choice(slots.active)
            slots.cancel({given_up})
            cancelled.add(given_up.owner)
        for slot in slots.step():
            assert slot not in slots.active
            ended.add(slot.owner)
            assert_same(slot, wanted(network, ids[slot.owner], searches[slot.owner]))
    assert ended | cancelled == set(range(24))
    assert not ended & cancelled
    assert slots._beams.rows == len(slots._beams._steps) == 0  # nothing is kept for ever


def test_greedy_sentences_take_turns_with_beams_and_do_not_wait_for_all_of_their_steps() -> None:
    """With 16 beams a step has far more rows than of one greedy sentence."""
    network = made("general")
    with torch.no_grad():
        network.decoder.output.bias[EOS] = -1e4  # nothing ends by itself: the lengths decide
    how = DecodeConfig(beam=5, max_length=60, stop_on_repetition=False)
    slots: Slots[str] = Slots(network, how, 16, CPU)
    slots.admit([[5, 6, 7]] * 16, [f"beam {n}" for n in range(16)])
    for _ in range(5):
        slots.step()
    short = Search(how.changed(beam=1, max_length=25))
    slots.admit([[6]], ["greedy"], [short])
    steps = {"greedy": 0, "beams": 0}
    while slots.count(greedy=True):
        slots.step()
        kinds = {slot.search.is_greedy for slot in slots.stepped}
        assert len(kinds) == 1
        steps["greedy" if kinds == {True} else "beams"] += 1
    assert steps["greedy"] == 25
    assert 1 <= steps["beams"] <= 3
    # The other way round: beams get their half beside greedy sentences that always come.
    taken = 0
    for _ in range(40):
        if not slots.count(greedy=True):
            slots.admit([[6]], ["greedy"], [short])
        slots.step()
        taken += not slots.stepped[0].search.is_greedy
    assert 3 <= taken <= 5  # of 80 rows each, where a greedy step has one


def test_a_beam_wider_than_all_rows_is_searched_alone() -> None:
    slots: Slots[int] = Slots(made("none"), USUAL, 2, CPU)  # 6 rows
    wide = Search(USUAL.changed(beam=40))
    assert slots.fits([wide])
    assert not slots.fits([wide, wide])
    assert not slots.fits([wide, Search(USUAL)])
    slots.admit([[5, 6]], [0], [wide])
    assert not slots.fits([Search(USUAL)])
    assert slots.fits([Search(USUAL.changed(beam=1))])
    ended: list[Slot[int]] = []
    while len(slots):
        ended += slots.step()
    assert_same(ended[0], wanted(made("none"), [5, 6], wide))


def test_hypotheses_that_end_give_up_their_rows() -> None:
    network = made("tied")
    slots: Slots[int] = Slots(network, USUAL, 6, CPU)
    slots.admit(sentences(6), list(range(6)))
    assert slots._beams.rows == 6  # one each, before the first step
    rows = []
    while len(slots):
        slots.step()
        rows.append(slots._beams.rows)
        assert slots._beams.rows <= slots._beams.reserved <= 3 * len(slots)
    assert any(0 < count < 18 for count in rows)
