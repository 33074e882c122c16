"""Translations that repeat themselves end at the same place, whatever the way of decoding."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s2s.config import DecodeConfig
from s2s.decoding.beam import beam_search
from s2s.decoding.greedy import greedy
from s2s.decoding.hypothesis import Hypothesis
from s2s.decoding.recorded_beam import RecordedBeam
from s2s.decoding.recorded_greedy import RecordedGreedy
from s2s.decoding.repetition import LoopsOfBeams, find_end, most_repetitions
from s2s.decoding.search import decode
from s2s.decoding.slots import Slots
from s2s.decoding.translator import Translator
from s2s.model.directory import ModelDirectory
from s2s.model.seq2seq import Seq2Seq
from s2s.text.vocabulary import EOS, UNK
from tests.support.networks import KINDS, made, output_bias, reluctant, some_sources

CPU = torch.device("cpu")
PLAIN = [4, 5, 6]  # a source that does not repeat itself
Ids = list[int]


def end(ids: Ids, source: Ids = PLAIN, *, cut: bool = False, **how: bool) -> tuple[int, str]:
    return find_end(ids, source, cut=cut, min_length=0, settings=DecodeConfig.model_validate(how))


def repetitions(ids: Ids, *, known: bool) -> int:
    """How often an n-gram, or one of known tokens, occurs in a row, at most; the slow way."""
    return max(
        (
            times
            for begin in range(len(ids))
            for size in range(1, 9)
            for times in range(1, len(ids) // size + 1)
            if ids[begin : begin + size * times] == ids[begin : begin + size] * times
            and not (known and UNK in ids[begin : begin + size])
        ),
        default=1,
    )


def plain_loop(ids: Ids, source: Ids) -> tuple[int, int] | None:
    """Where a loop is first seen, and what is kept without it; the slow way."""
    excuses = [repetitions(source, known=known) for known in (True, False)]
    for stop in range(1, len(ids) + 1):
        for size in range(1, 9):
            allowed = excuses[UNK in ids[max(0, stop - size) : stop]]
            times = max(4, allowed + 1)
            begin = stop - size * times
            if begin >= 0 and ids[begin:stop] == ids[begin : begin + size] * times:
                return stop, begin + size * allowed
    return None


# ---- where a translation ends -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "kept", "reason"),
    [
        ([], 0, "stop"),
        ([4, 5, 6], 3, "stop"),
        ([4, 4, 4], 3, "stop"),  # "no, no, no"
        ([9, 4, 4, 4, 4], 2, "repetition"),
        ([9, 4, 5, 4, 5, 4, 5], 7, "stop"),
        ([9, 4, 5, 4, 5, 4, 5, 4, 5], 3, "repetition"),
        ([9, 4, 5, 4, 5, 4, 5, 4, 5, 7, 8], 3, "repetition"),  # and what follows
        ([4, 5, 6, 7, 8, 9, 10, 11] * 4, 8, "repetition"),
        ([4, 5, 6, 7, 8, 9, 10, 11, 12] * 4, 36, "stop"),  # is longer than what is looked for
    ],
)
def test_a_loop_is_cut_back_to_its_first_occurrence(ids: Ids, kept: int, reason: str) -> None:
    assert end(ids) == (kept, reason)
    assert end(ids, cut=True) == (kept, "length" if reason == "stop" else reason)
    assert end(ids, stop_on_repetition=False) == (len(ids), reason)


def test_a_source_that_repeats_itself_may_be_followed() -> None:
    assert end([4] * 6, [7] * 6) == (6, "stop")
    assert end([4] * 30, [7] * 6) == (6, "repetition")
    assert end([9, 4, 5] + [4, 5] * 8, [7, 8] * 4) == (9, "repetition")
    assert end([4, 4, 4, 4, 4], [7, 7]) == (2, "repetition")


def test_unknown_words_of_the_source_excuse_unknown_words_alone() -> None:
    assert end([UNK, 9, UNK, 9, UNK, 9, UNK, 9, UNK], [UNK, 9, UNK, 9, UNK, 9, UNK, 9]) == (
        9,
        "stop",
    )
    assert end([UNK] * 9, [UNK] * 5) == (5, "repetition")
    assert end([4] * 9, [UNK] * 5) == (1, "repetition")
    assert end([UNK] * 9) == (1, "repetition")


def test_a_translation_keeps_its_least_length() -> None:
    how = DecodeConfig()
    assert find_end([4] * 9, PLAIN, cut=False, min_length=6, settings=how) == (6, "repetition")
    assert find_end([4] * 5, PLAIN, cut=False, min_length=6, settings=how) == (5, "repetition")


few = st.lists(st.sampled_from([UNK, 4, 5]), max_size=30)
sources = st.lists(st.sampled_from([UNK, 4, 5]), min_size=1, max_size=12)


@given(ids=few, source=sources)
@example(ids=[4] * 7 + [5] * 7, source=[4, 5] * 3)
@settings(max_examples=100)
def test_the_end_is_where_the_plain_rule_has_it(ids: Ids, source: Ids) -> None:
    found = plain_loop(ids, source)
    wanted = (len(ids), "stop") if found is None else (found[1], "repetition")
    assert end(ids, source) == wanted
    # Three times in a row excuse nothing.
    most = [max(3, repetitions(source, known=known)) for known in (True, False)]
    assert most_repetitions([source]).clamp_min(3).tolist() == [most]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@given(ids=few.filter(bool), source=sources)
@settings(max_examples=100)
def test_a_beam_sees_a_loop_when_the_plain_rule_does(kind: str, ids: Ids, source: Ids) -> None:
    """The hypotheses change their places at every step. A GPU has arrays of torch."""
    loops = LoopsOfBeams.allocate(1, 2, CPU)
    if kind == "torch":
        arrays = (torch.from_numpy(each) for each in (loops.ends, loops.wanted, loops.rows))
        loops = LoopsOfBeams(*arrays)
    loops.reset(most_repetitions([source]))
    seen = None
    for step, token in enumerate(ids, start=1):
        tokens, parents = torch.tensor([[token, 99 + step]]), torch.tensor([[0, 1]])
        if step % 2:
            tokens, parents = tokens.flip(1), torch.tensor([[1, 0]])
        elif step > 1:
            parents = parents.flip(1)
        found_now = loops.extend(tokens, parents)
        looping = [False, False] if found_now is None else found_now[0].tolist()
        assert not looping[0 if step % 2 else 1]
        if seen is None and looping[1 if step % 2 else 0]:
            seen = step
    found = plain_loop(ids, source)
    assert seen == (None if found is None else found[0])


# ---- the same end in every way of decoding ------------------------------------------------------

LONG = DecodeConfig(max_length=60)


def ended(hypotheses: list[Hypothesis]) -> list[tuple[Ids, str]]:
    return [(hypothesis.ids, hypothesis.finish_reason) for hypothesis in hypotheses]


def by_slots(
    model: Seq2Seq, source: torch.Tensor, lengths: torch.Tensor, how: DecodeConfig
) -> list[tuple[Ids, str]]:
    """Translations by continuous batching, three at a time."""
    slots: Slots[int] = Slots(model, how, 3, CPU)
    own = [ids[:n] for ids, n in zip(source.tolist(), lengths.tolist(), strict=True)]
    waiting: Iterator[tuple[int, Ids]] = iter(enumerate(own))
    found: dict[int, tuple[Ids, str]] = {}
    while True:
        if coming := list(islice(waiting, slots.free)):
            slots.admit([ids for _, ids in coming], [owner for owner, _ in coming])
        if not len(slots):
            return [found[row] for row in range(len(own))]
        found |= {slot.owner: (slot.ids, slot.finish_reason) for slot in slots.step()}


@pytest.mark.parametrize("name", KINDS)
def test_loops_end_alike_in_every_way(name: str) -> None:
    model = reluctant(name)
    source, lengths = some_sources(24)
    wanted = []
    off = LONG.changed(stop_on_repetition=False)
    for whole, own, n in zip(greedy(model, source, lengths, off), source, lengths, strict=True):
        size, reason = end(whole.ids, own[:n].tolist(), cut=len(whole.ids) == 60)
        wanted.append((whole.ids[:size], reason))
        assert whole.finish_reason == reason
    assert {"repetition"} < {reason for _, reason in wanted} | {"stop"}
    alone = [greedy(model, source[n, None, : lengths[n]], lengths[n, None], LONG)[0]
             for n in range(len(source))]  # fmt: skip
    detailed = greedy(model, source, lengths, LONG, details=True)
    assert ended(alone) == ended(greedy(model, source, lengths, LONG)) == ended(detailed) == wanted
    assert by_slots(model, source, lengths, LONG) == wanted
    recorded = RecordedGreedy(CPU).decode(model, source, lengths, LONG)
    assert ended([best for [best] in recorded]) == wanted
    beam = beam_search(model, source, lengths, LONG, details=True)
    assert ended([best for [best] in beam]) == wanted
    for [one], other in zip(beam, detailed, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        for each in (one, other):
            parts = (each.alignment, each.attention, each.scores)
            kept = len(each.ids) + (each.finish_reason == "stop")
            assert {len(part) for part in parts if part is not None} == {kept}


@pytest.mark.parametrize(("name", "n_best"), [("none", 1), ("general", 4), ("tied", 1)])
def test_a_beam_prefers_what_does_not_loop(name: str, n_best: int) -> None:
    model = reluctant(name)
    source, lengths = some_sources(24)
    how = LONG.changed(beam=4, n_best=n_best)
    found = beam_search(model, source, lengths, how)
    assert {h.finish_reason for hypotheses in found for h in hypotheses} >= {"repetition"}
    for hypotheses in found:
        loops = [h.finish_reason == "repetition" for h in hypotheses]
        assert loops == sorted(loops)
        for each, loop in zip(hypotheses, loops, strict=True):
            assert len(each.ids) < 60 or not loop
    recorded = RecordedBeam(CPU).decode(model, source, lengths, how)
    assert [ended(each) for each in recorded] == [ended(each) for each in found]
    for row, hypotheses in enumerate(found):
        own = source[row, None, : lengths[row]], lengths[row, None]
        assert ended(decode(model, *own, how)[0]) == ended(hypotheses)


def test_a_loop_is_not_searched_to_the_greatest_length() -> None:
    model, taken = reluctant("none"), 0
    step = model.step

    def counted(*arguments: torch.Tensor) -> object:
        nonlocal taken
        taken += 1
        return step(*arguments)

    model.step = counted  # type: ignore[method-assign, assignment]
    source, lengths = some_sources(1)
    for width in (1, 3):
        taken, how = 0, DecodeConfig(max_length=1000, beam=width)
        [[best]] = decode(model, source, lengths, how)
        assert best.finish_reason == "repetition"
        assert taken < 100


@pytest.mark.parametrize("name", KINDS)
def test_what_does_not_loop_stays_as_it_is(name: str) -> None:
    model = made(name)
    with torch.no_grad():
        output_bias(model)[EOS] += 6
    source, lengths = some_sources(40)
    for how in (LONG, LONG.changed(beam=3), LONG.changed(temperature=1.0, max_length=3)):
        without = decode(model, source, lengths, how.changed(stop_on_repetition=False))
        assert {best.finish_reason for [best] in without} <= {"stop", "length"}
        assert decode(model, source, lengths, how) == without


def test_samples_without_loops_come_first() -> None:
    model = reluctant("general")
    source, lengths = some_sources(8)
    how = LONG.changed(temperature=3.0, n_best=12)
    reasons = [[h.finish_reason for h in each] for each in decode(model, source, lengths, how)]
    loops = [[reason == "repetition" for reason in each] for each in reasons]
    assert loops == [sorted(each) for each in loops]
    assert {reason for each in reasons for reason in each} >= {"repetition", "stop"}


# ---- of texts -----------------------------------------------------------------------------------


@pytest.fixture
def stuttering(model_dir: Path) -> Translator:
    """A translator that says `<unk>` again and again."""
    directory = ModelDirectory.load(model_dir)
    with torch.no_grad():
        directory.model.decoder.output.bias[UNK] = 99
    return Translator(directory)


def test_a_loop_is_told_and_is_short(stuttering: Translator) -> None:
    texts = ["I see trees.", "trees", "trees trees", "I I I I I I"]
    translations = stuttering.translate(texts)
    assert [each.count("<unk>") for each in translations] == [1, 1, 2, 6]
    assert translations.incomplete == [0, 1, 2, 3]
    assert {best.finish_reason for [best] in stuttering.hypotheses(texts)} == {"repetition"}
    as_it_is = stuttering.with_settings(stop_on_repetition=False)
    assert as_it_is.translate(texts[:1])[0].count("<unk>") == as_it_is.config.decode.max_length
