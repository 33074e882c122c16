"""Batches: every row once, the same for any number of workers, and the tensors' form."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, load_from_disk
from hypothesis import given
from hypothesis import strategies as st

from s2s.corpus.batches import BATCHES_PER_POOL, Batch, Batches, LocalBatch, prefetch
from s2s.text.vocabulary import EOS, PAD, SOS
from tests.support.rows import rows_of

# What a global batch is cut by: a number of sentences, or one of target tokens.
BUDGETS = st.one_of(st.none(), st.integers(1, 60))


def seen(batch: Batch) -> list[int]:
    """The rows of a batch that count."""
    return [int(word) - 4 for word in batch.source[: batch.sentences, 0]]


def whole(step: LocalBatch) -> Batch:
    """The global batch of a step of one worker that takes it at once."""
    [share] = step.micro_batches
    return share


def told(step: LocalBatch) -> list[object]:
    """What a step says of its whole global batch."""
    words = step.source_ids.tolist(), step.target_ids.tolist()
    return [step.rows.tolist(), step.tokens, *words]


def assert_same(one: LocalBatch, other: LocalBatch) -> None:
    assert told(one) == told(other)
    for mine, yours in zip(one.micro_batches, other.micro_batches, strict=True):
        assert torch.equal(mine.source, yours.source)
        assert torch.equal(mine.source_lengths, yours.source_lengths)
        assert torch.equal(mine.target_in, yours.target_in)
        assert torch.equal(mine.target_out, yours.target_out)
        assert mine.sentences == yours.sentences


@given(count=st.integers(1, 120), size=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_an_epoch_has_every_row_once(count: int, size: int, seed: int) -> None:
    batches = Batches(rows_of(count), size, seed)
    for epoch in (0, 1):
        rows = [row for step in batches.epoch(epoch) for row in seen(whole(step))]
        assert sorted(rows) == list(range(count))


@given(count=st.integers(1, 120), size=st.integers(1, 40))
def test_an_epoch_has_the_fewest_batches_possible(count: int, size: int) -> None:
    batches = Batches(rows_of(count), size)
    sizes = [whole(step).sentences for step in batches.epoch(1)]
    assert len(sizes) == batches.steps_per_epoch(1) == -(-count // size)
    assert max(sizes) <= size


def test_seed_and_epoch_decide_all() -> None:
    rows = rows_of(100)
    first, second = (list(Batches(rows, 8, seed=3).epoch(2)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("budget", [None, 40])
@pytest.mark.parametrize(("seed", "epoch"), [(3, 3), (4, 2)])
def test_another_seed_or_epoch_gives_another_order(
    seed: int, epoch: int, budget: int | None
) -> None:
    rows = rows_of(100)
    orders = [
        [seen(whole(step)) for step in Batches(rows, 8, s, batch_tokens=budget).epoch(e)]
        for s, e in ((3, 2), (seed, epoch))
    ]
    assert orders[0] != orders[1]
    assert [set(batch) for batch in orders[0]] != [set(batch) for batch in orders[1]]


def test_every_epoch_mixes_other_rows_into_its_batches() -> None:
    batches = Batches(rows_of(120), 2)
    one, other = ({frozenset(step.rows.tolist()) for step in batches.epoch(e)} for e in (1, 2))
    assert len(one & other) < len(one) / 2


def test_every_epoch_takes_the_lengths_in_another_order() -> None:
    batches = Batches(rows_of(120), 6)  # one pool: the same lengths, whatever the rows
    one, other = ([whole(step).target_out.shape for step in batches.epoch(e)] for e in (1, 2))
    assert sorted(one) == sorted(other)
    assert one != other


# ---- skipping -------------------------------------------------------------------------------


@given(
    count=st.integers(1, 120),
    size=st.integers(1, 8),
    budget=BUDGETS,
    skip=st.integers(0, 130),
    seed=st.integers(0, 9),
)
def test_a_run_that_skips_steps_takes_exactly_those_after_them(
    count: int, size: int, budget: int | None, skip: int, seed: int
) -> None:
    batches = Batches(rows_of(count), size, seed, batch_tokens=budget)
    every, rest = list(batches.epoch(3)), list(batches.epoch(3, skip))
    assert batches.steps_per_epoch(3) == len(every)
    assert len(rest) == max(0, len(every) - skip)
    for one, other in zip(every[skip:], rest, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("budget", [None, 20])
def test_steps_are_skipped_across_pools(budget: int | None) -> None:
    batches = Batches(rows_of(120), 2, batch_tokens=budget)
    every = list(batches.epoch(1))
    assert len(every) > BATCHES_PER_POOL  # else this tests less than it says
    for skip in range(len(every) + 2):
        rest = batches.epoch(1, skip)
        assert [told(step) for step in rest] == [told(step) for step in every[skip:]]


# ---- batches by tokens ----------------------------------------------------------------------


@given(count=st.integers(1, 120), budget=st.integers(1, 80), seed=st.integers(0, 99))
def test_no_batch_is_over_its_budget_of_tokens(count: int, budget: int, seed: int) -> None:
    batches = Batches(rows_of(count, seed % 3), 999, seed, batch_tokens=budget)
    steps = list(batches.epoch(1))
    assert batches.steps_per_epoch(1) == len(steps)
    for step in steps:
        assert whole(step).target_out.numel() <= budget or len(step.rows) == 1
    assert sorted(row for step in steps for row in seen(whole(step))) == list(range(count))


def test_a_batch_may_have_exactly_its_budget_of_tokens() -> None:
    rows = Dataset.from_dict({"source_ids": [[4]] * 24, "target_ids": [[4, 4, 4, 4, EOS]] * 24})
    steps = list(Batches(rows, 1, batch_tokens=20).epoch(1))
    assert [len(step.rows) for step in steps] == [4] * 6


def test_batches_by_tokens_are_well_filled() -> None:
    steps = list(Batches(rows_of(400), 1, batch_tokens=100).epoch(1))
    places = [whole(step).target_out.numel() for step in steps]
    assert sum(places) > 0.75 * 100 * len(places)


# ---- shares ---------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize(("count", "budget"), [(97, None), (100, None), (100, 70)])
def test_the_shares_make_up_the_global_batch(
    world: int, accumulate: int, count: int, budget: int | None
) -> None:
    rows = rows_of(count)
    alone = list(Batches(rows, 16, 5, batch_tokens=budget).epoch(1))
    workers = [
        list(Batches(rows, 16, 5, rank, world, batch_tokens=budget, accumulate=accumulate).epoch(1))
        for rank in range(world)
    ]
    for step, *parts in zip(alone, *workers, strict=True):
        for part in parts:
            assert told(part) == told(step)
            assert len(part.micro_batches) == accumulate
        shares = [share for part in parts for share in part.micro_batches]
        together = [row for share in shares for row in seen(share)]
        assert sorted(together) == sorted(seen(whole(step)))
        assert sum(int((share.target_out != PAD).sum()) for share in shares) == step.tokens
        sizes = [share.sentences for share in shares]
        assert max(sizes) - min(sizes) <= 1


@given(world=st.integers(1, 4), accumulate=st.integers(1, 3), size=st.integers(1, 20))
def test_rows_are_dealt_out_in_turn_and_each_stays_as_it_is(
    world: int, accumulate: int, size: int
) -> None:
    rows = rows_of(60)
    workers = [
        Batches(rows, size, 1, rank, world, accumulate=accumulate).epoch(1) for rank in range(world)
    ]
    for parts in zip(*workers, strict=True):
        # Share after share, worker after worker: as cards are dealt.
        turns = [part.micro_batches[turn] for turn in range(accumulate) for part in parts]
        for place, share in enumerate(turns):
            dealt = parts[0].rows[place :: len(turns)].tolist()
            assert seen(share) == dealt
            for i, row in enumerate(dealt):
                length = int(share.source_lengths[i])
                assert share.source[i, :length].tolist() == rows[row]["source_ids"]
                said = share.target_out[i]
                assert said[said != PAD].tolist() == rows[row]["target_ids"]


def test_a_worker_without_rows_gets_a_share_without_targets() -> None:
    rows = rows_of(1)
    steps = [next(Batches(rows, 8, 0, rank, 3).epoch(1)) for rank in range(3)]
    assert [whole(step).sentences for step in steps] == [1, 0, 0]
    for step in steps[1:]:
        batch = whole(step)
        assert (batch.target_out == PAD).all()
        assert batch.source_lengths.min() >= 1
        assert len(batch.source) == len(batch.target_in) == 1
    assert len({step.tokens for step in steps}) == 1


@given(
    world=st.integers(1, 3), accumulate=st.integers(1, 2), size=st.integers(1, 9), budget=BUDGETS
)
def test_the_words_are_those_of_the_global_batch(
    world: int, accumulate: int, size: int, budget: int | None
) -> None:
    rows = rows_of(50)
    for rank in range(world):
        batches = Batches(rows, size, 2, rank, world, batch_tokens=budget, accumulate=accumulate)
        for step in batches.epoch(1):
            read, said = (rows[step.rows][f"{side}_ids"] for side in ("source", "target"))
            assert step.source_ids.dtype == step.target_ids.dtype == torch.int64
            assert step.source_ids.tolist() == sorted(set(chain(*read)))
            assert step.target_ids.tolist() == sorted({SOS, *chain(*said)})
            # No share has others, not even one without rows: their gradients would be lost.
            for share in step.micro_batches:
                assert set(share.source.flatten().tolist()) <= {PAD, *step.source_ids.tolist()}
                assert set(share.target_in.flatten().tolist()) <= {PAD, *step.target_ids.tolist()}


def test_the_tensors_hold_the_rows_as_documented() -> None:
    rows = rows_of(50)
    for step in Batches(rows, 7).epoch(1):
        batch = whole(step)
        assert batch.source.dtype == batch.target_in.dtype == torch.int64
        assert batch.target_in.shape == batch.target_out.shape
        assert seen(batch) == step.rows.tolist()
        for i, row in enumerate(seen(batch)):
            source, target = rows[row]["source_ids"], rows[row]["target_ids"]
            length = int(batch.source_lengths[i])
            assert batch.source[i, :length].tolist() == source
            assert (batch.source[i, length:] == PAD).all()
            assert batch.target_out[i, : len(target)].tolist() == target
            assert target[-1] == EOS
            assert (batch.target_out[i, len(target) :] == PAD).all()
            assert batch.target_in[i, : len(target)].tolist() == [SOS, *target[:-1]]
        assert batch.source.shape[1] == batch.source_lengths.max()
        assert step.tokens == (batch.target_out != PAD).sum()


# ---- where the rows lie ---------------------------------------------------------------------


def test_a_part_of_a_dataset_is_read_like_a_dataset_of_its_own() -> None:
    rows = rows_of(40)
    for part in (rows.select(range(10, 25)), rows.select([30, 2, 17])):
        steps = list(Batches(part, 4).epoch(1))
        wanted = sorted(row["source_ids"][0] - 4 for row in part)
        assert sorted(row for step in steps for row in seen(whole(step))) == wanted
        for step in steps:  # numbers of rows are those in the part
            assert part[step.rows]["source_ids"] == rows[seen(whole(step))]["source_ids"]


def in_chunks(file: Path, sizes: list[int]) -> None:
    """Write an Arrow file anew, in chunks of these sizes."""
    with pa.memory_map(str(file)) as opened:
        table = pa.ipc.open_stream(opened).read_all().combine_chunks()
    ends = np.cumsum([0, *sizes]).tolist()
    assert ends[-1] == len(table)
    batches = [
        pa.RecordBatch.from_arrays(
            [column[start:end].combine_chunks() for column in table.columns], schema=table.schema
        )
        for start, end in pairwise(ends)
    ]
    scratch = file.with_suffix(".new")
    with pa.ipc.new_stream(scratch, table.schema) as out:
        for batch in batches:
            out.write_batch(batch)
    scratch.replace(file)


@pytest.mark.parametrize("budget", [None, 40])
@pytest.mark.parametrize("part", [None, range(20, 70), [80, 3, 41, 42, 7, 3]])
def test_rows_in_files_of_many_chunks_are_read_like_those_in_memory(
    tmp_path: Path, budget: int | None, part: range | list[int] | None
) -> None:
    memory = rows_of(90)
    memory.save_to_disk(tmp_path, num_shards=3)
    first, second, third = sorted(tmp_path.glob("*.arrow"))
    in_chunks(first, [0, 1, 20, 0, 9])
    in_chunks(second, [30, 0])
    in_chunks(third, [0, 0, 17, 13])
    mapped = load_from_disk(tmp_path)
    assert mapped.cache_files
    assert [len(chunk) for chunk in mapped.data.column("source_ids").chunks].count(0) >= 1
    if part is not None:
        memory, mapped = memory.select(part), mapped.select(part)
    one, other = (Batches(rows, 8, 4, batch_tokens=budget) for rows in (memory, mapped))
    assert one.pairs == other.pairs
    assert one.target_tokens == other.target_tokens
    assert one.longest_target == other.longest_target
    for mine, yours in zip(one.epoch(1), other.epoch(1), strict=True):
        assert_same(mine, yours)


def test_counts_are_those_of_all_workers() -> None:
    rows = rows_of(30)
    batches = Batches(rows, 4, rank=1, world_size=3)
    assert batches.pairs == 30
    assert batches.target_tokens == sum(len(ids) for ids in rows["target_ids"])
    assert batches.longest_target == max(len(ids) for ids in rows["target_ids"])


def test_batches_of_like_lengths_have_less_padding_than_random_ones() -> None:
    rows = rows_of(400)
    places = sum(whole(step).target_out.numel() for step in Batches(rows, 16).epoch(1))
    lengths = np.array([len(ids) for ids in rows["target_ids"]])
    shuffled = np.random.default_rng(0).permutation(lengths).reshape(-1, 16)
    assert places < 0.8 * (shuffled.max(axis=1) * 16).sum()


# ---- ahead ----------------------------------------------------------------------------------


def within(seconds: float, reached: Callable[[], bool]) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def makers(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that were not there before."""
    return [thread for thread in threading.enumerate() if thread not in before]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 100])
def test_all_items_come_in_order_from_a_thread_that_ends(count: int) -> None:
    before = set(threading.enumerate())
    assert list(prefetch(iter(range(count)))) == list(range(count))
    assert within(5, lambda: not makers(before))


def test_items_may_be_none() -> None:
    assert list(prefetch(iter([None, 1, None]))) == [None, 1, None]


def test_an_error_comes_where_its_item_would_have_been() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("the third")

    before, got = set(threading.enumerate()), []
    with pytest.raises(ValueError, match="the third"):
        got.extend(prefetch(items()))
    got = []
    with pytest.raises(ValueError, match="the third"):
        for item in prefetch(items()):
            got.append(item)
    assert got == [1, 2]
    assert within(5, lambda: not makers(before))


def test_items_are_made_ahead_but_not_without_bound() -> None:
    made: list[int] = []
    gate = threading.Event()

    def items() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            yield item

    taken = prefetch(items(), depth=3)
    assert next(taken) == 0
    assert within(5, lambda: len(made) >= 4)
    gate.wait(0.3)
    assert len(made) <= 1 + 3 + 1  # taken, waiting, and in hand
    taken.close()


@pytest.mark.parametrize("taken", [1, 3])
def test_a_caller_that_stops_early_ends_the_thread(taken: int) -> None:
    before, closed = set(threading.enumerate()), threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    source = prefetch(items(), depth=2)
    for _ in range(taken):
        next(source)
    assert makers(before)
    source.close()
    assert within(5, lambda: not makers(before))
    assert closed.wait(5)


def test_a_caller_that_fails_ends_the_thread() -> None:
    before = set(threading.enumerate())

    def use() -> None:
        for _ in prefetch(iter(range(100))):
            raise KeyError("the caller's own")

    with pytest.raises(KeyError):
        use()
    assert within(5, lambda: not makers(before))
