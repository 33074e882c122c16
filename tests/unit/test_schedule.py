"""Learning rates at points where they are known, and when a run ends early."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.config import TrainConfig
from s2s.training.schedule import learning_rate, plateaus, stops_early

RATE = 0.08


def settings(schedule: str = "constant", **others: Any) -> TrainConfig:
    return TrainConfig(schedule=schedule, learning_rate=RATE, **others)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
def test_the_first_step_has_the_whole_rate_without_a_warmup(schedule: str) -> None:
    assert learning_rate(settings(schedule), 1, 0.0, []) == RATE


@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse_sqrt", "plateau"])
def test_a_warmup_rises_evenly_from_zero_to_the_whole_rate(schedule: str) -> None:
    config = settings(schedule, warmup_steps=4)
    rates = [learning_rate(config, step, 0.0, []) for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([RATE / 4, RATE / 2, RATE * 3 / 4, RATE])


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_warmup_knows_nothing_of_what_comes_after_it(schedule: str) -> None:
    config = settings(schedule, warmup_steps=10)
    assert learning_rate(config, 5, 0.9, [1.0, 2.0, 3.0]) == RATE / 2


@given(step=st.integers(1, 10**9), fraction=st.floats(0, 1))
def test_a_constant_rate_never_falls(step: int, fraction: float) -> None:
    assert learning_rate(settings("constant"), step, fraction, [1.0, 2.0, 3.0]) == RATE


def test_a_cosine_falls_to_half_in_the_middle_and_zero_at_the_end() -> None:
    wanted = {0.0: 1.0, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1.0: 0.0}
    for fraction, factor in wanted.items():
        rate = learning_rate(settings("cosine"), 7, fraction, [])
        assert rate == pytest.approx(factor * RATE, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_a_cosine_never_rises(fractions: list[float]) -> None:
    rates = [learning_rate(settings("cosine"), 1, point, []) for point in sorted(fractions)]
    assert all(later <= sooner for sooner, later in pairwise(rates))


def test_inverse_sqrt_halves_when_the_steps_are_four_times_as_many() -> None:
    config = settings("inverse_sqrt", warmup_steps=100)
    for step, factor in ((100, 1.0), (400, 0.5), (1600, 0.25), (10_000, 0.1)):
        assert learning_rate(config, step, 0.5, []) == pytest.approx(factor * RATE)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse_sqrt", "plateau"])
def test_the_end_of_a_warmup_is_no_jump(schedule: str) -> None:
    config = settings(schedule, warmup_steps=1000)
    before, after = (learning_rate(config, step, 0.01, []) for step in (999, 1000))
    assert after == pytest.approx(before, rel=0.002)


# Losses, patience, and how often it had run out after each of them.
WALKS = [
    ([5, 4, 3, 2], 1, [0, 0, 0, 0]),
    ([3, 3, 3, 3], 1, [0, 1, 2, 3]),  # an equal loss is no new best one
    ([5, 4, 6, 6, 3, 7, 7, 7], 2, [0, 0, 0, 1, 1, 1, 2, 2]),
    ([2, 3, 1, 3, 0], 2, [0, 0, 0, 0, 0]),  # a new best one starts the count anew
    ([1, 9, 8, 7, 6], 2, [0, 0, 1, 1, 2]),  # falling, but not below the best
    ([1, 2, 3, 4, 5, 6, 7], 3, [0, 0, 0, 1, 1, 1, 2]),
    ([4, math.nan, math.nan, 3], 1, [0, 1, 2, 2]),
]


@pytest.mark.parametrize(("losses", "patience", "found"), WALKS)
def test_plateaus_are_counted_loss_by_loss(
    losses: list[float], patience: int, found: list[int]
) -> None:
    seen = [plateaus(losses[: end + 1], patience) for end in range(len(losses))]
    assert seen == found
    assert plateaus([], patience) == 0


@pytest.mark.parametrize(("losses", "patience", "found"), WALKS)
def test_each_plateau_cuts_the_rate_by_the_factor(
    losses: list[float], patience: int, found: list[int]
) -> None:
    config = settings("plateau", plateau_patience=patience, plateau_factor=0.25, warmup_steps=2)
    rates = [learning_rate(config, 9, 0.5, losses[: end + 1]) for end in range(len(losses))]
    assert rates == pytest.approx([RATE * 0.25**falls for falls in found])


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0]), max_size=12), st.integers(1, 4))
def test_a_plateau_once_found_stays_found(losses: list[float], patience: int) -> None:
    # A resumed run counts them anew and must come to the same.
    counts = [plateaus(losses[:end], patience) for end in range(len(losses) + 1)]
    assert all(later - sooner in (0, 1) for sooner, later in pairwise(counts))


@pytest.mark.parametrize(
    ("losses", "patience", "ends"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 3.0], 1, True),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 1.9, 2.5], 2, False),
        ([3.0, 4.0, 5.0, 6.0, 7.0], None, False),
    ],
)
def test_a_run_ends_early_once_its_patience_has_run_out(
    losses: list[float], patience: int | None, ends: bool
) -> None:
    assert stops_early(settings(patience=patience), losses) is ends


def test_the_patience_of_the_run_and_of_its_plateaus_are_two() -> None:
    config = settings("plateau", plateau_patience=1, patience=3, plateau_factor=0.5)
    losses = [1.0, 2.0, 2.0]
    assert not stops_early(config, losses)
    assert learning_rate(config, 5, 0.5, losses) == pytest.approx(RATE / 4)
    assert stops_early(config, [*losses, 2.0])
