"""Batches: every row once, the same for any number of workers, and the tensors' form."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from s2s.batches import Batch, Batches
from s2s.text import EOS, PAD, SOS


def rows_of(count: int, seed: int = 0) -> Dataset:
    """Rows of random lengths; the first source word of each row tells which one it is."""
    random = np.random.default_rng(seed)

    def words(row: int) -> list[int]:
        return [row + 4, *random.integers(4, 99, random.integers(0, 7)).tolist()]

    return Dataset.from_dict(
        {
            "source_ids": [words(row) for row in range(count)],
            "target_ids": [[*words(row), EOS] for row in range(count)],
        }
    )


def seen(batch: Batch) -> list[int]:
    """The rows of a batch that count."""
    return [int(word) - 4 for word in batch.source[: batch.sentences, 0]]


@given(count=st.integers(1, 120), size=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_an_epoch_has_every_row_once(count: int, size: int, seed: int) -> None:
    batches = Batches(rows_of(count), size, seed)
    for epoch in (0, 1):
        rows = [row for batch, _ in batches.epoch(epoch) for row in seen(batch)]
        assert sorted(rows) == list(range(count))


@given(count=st.integers(1, 120), size=st.integers(1, 40))
def test_an_epoch_has_the_fewest_batches_possible(count: int, size: int) -> None:
    batches = Batches(rows_of(count), size)
    sizes = [batch.sentences for batch, _ in batches.epoch(1)]
    assert len(sizes) == len(batches) == -(-count // size)
    assert max(sizes) <= size


def test_seed_and_epoch_decide_all() -> None:
    rows = rows_of(100)
    first, second = (list(Batches(rows, 8, seed=3).epoch(2)) for _ in range(2))
    for (one, tokens), (other, same_tokens) in zip(first, second, strict=True):
        assert torch.equal(one.source, other.source)
        assert torch.equal(one.target_out, other.target_out)
        assert tokens == same_tokens


@pytest.mark.parametrize(("seed", "epoch"), [(3, 3), (4, 2)])
def test_another_seed_or_epoch_gives_another_order(seed: int, epoch: int) -> None:
    rows = rows_of(100)
    orders = [
        [seen(batch) for batch, _ in Batches(rows, 8, s).epoch(e)]
        for s, e in ((3, 2), (seed, epoch))
    ]
    assert orders[0] != orders[1]
    assert [set(batch) for batch in orders[0]] != [set(batch) for batch in orders[1]]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [97, 100])
def test_the_workers_shares_make_up_the_global_batch(world: int, count: int) -> None:
    rows = rows_of(count)
    whole = [(set(seen(batch)), tokens) for batch, tokens in Batches(rows, 16, 5).epoch(1)]
    shares = [list(Batches(rows, 16, 5, rank, world).epoch(1)) for rank in range(world)]
    for (members, tokens), *parts in zip(whole, *shares, strict=True):
        together = [row for batch, _ in parts for row in seen(batch)]
        assert len(together) == len(members)
        assert set(together) == members
        assert {total for _, total in parts} == {tokens}
        assert sum(int((batch.target_out != PAD).sum()) for batch, _ in parts) == tokens


def test_a_worker_without_rows_gets_a_share_without_targets() -> None:
    rows = rows_of(1)
    shares = [next(Batches(rows, 8, 0, rank, 3).epoch(1)) for rank in range(3)]
    assert [batch.sentences for batch, _ in shares] == [1, 0, 0]
    for batch, _ in shares[1:]:
        assert (batch.target_out == PAD).all()
        assert batch.source_lengths.min() >= 1
        assert len(batch.source) == len(batch.target_in) == 1
    assert len({tokens for _, tokens in shares}) == 1


def test_the_tensors_hold_the_rows_as_documented() -> None:
    rows = rows_of(50)
    for batch, tokens in Batches(rows, 7).epoch(1):
        assert batch.source.dtype == batch.target_in.dtype == torch.int64
        assert batch.target_in.shape == batch.target_out.shape
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
        assert tokens == (batch.target_out != PAD).sum()


def test_a_part_of_a_dataset_is_read_like_a_dataset_of_its_own() -> None:
    rows = rows_of(40)
    for part in (rows.select(range(10, 25)), rows.select([30, 2, 17])):
        wanted = sorted(row["source_ids"][0] - 4 for row in part)
        assert sorted(r for b, _ in Batches(part, 4).epoch(1) for r in seen(b)) == wanted


def test_counts_are_those_of_all_workers() -> None:
    rows = rows_of(30)
    batches = Batches(rows, 4, rank=1, world=3)
    assert batches.pairs == 30
    assert batches.tokens == sum(len(ids) for ids in rows["target_ids"])
    assert batches.longest_target == max(len(ids) for ids in rows["target_ids"])


def test_batches_of_like_lengths_have_less_padding_than_random_ones() -> None:
    rows = rows_of(400)
    places = sum(batch.target_out.numel() for batch, _ in Batches(rows, 16).epoch(1))
    lengths = np.array([len(ids) for ids in rows["target_ids"]])
    shuffled = np.random.default_rng(0).permutation(lengths).reshape(-1, 16)
    assert places < 0.8 * (shuffled.max(axis=1) * 16).sum()
