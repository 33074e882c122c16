"""When a run stops and saves: requests of hosts, the clock, and a number of steps."""

import pytest

from s2s.config import TrainConfig
from s2s.training.signals import RunSignals, Signals, StepSignals

NONE = StepSignals(stop=False, save=False, due=False)


def signals(rank: int = 0, steps: int = 0, **settings: object) -> RunSignals:
    values = {"checkpoint_minutes": None, "checkpoint_steps": None, **settings}
    return RunSignals(TrainConfig.model_validate(values), rank, steps)


def test_without_requests_no_checkpoint_is_wanted() -> None:
    run = signals()
    assert run.of_step(Signals()) == NONE
    run.update(NONE)
    assert not any(run.wants_checkpoint(steps) for steps in range(100))
    assert not run.stop
    assert not run.requested


def test_a_request_to_save_lasts_until_the_next_checkpoint() -> None:
    run = signals()
    run.update(StepSignals(stop=False, save=True, due=False))
    run.update(NONE)
    assert run.requested
    assert run.wants_checkpoint(5)
    assert not run.stop
    run.checkpoint_begun(5)
    assert not run.requested
    assert not run.wants_checkpoint(6)


def test_a_request_to_stop_outlasts_the_checkpoint() -> None:
    run = signals()
    run.update(StepSignals(stop=True, save=False, due=False))
    assert run.wants_checkpoint(5)
    run.checkpoint_begun(5)
    assert run.stop


def test_requests_of_the_host_travel_with_the_step() -> None:
    run = signals()
    assert run.of_step(Signals(stop=True)) == StepSignals(stop=True, save=False, due=False)
    assert run.of_step(Signals(save=True)) == StepSignals(stop=False, save=True, due=False)
    assert not run.requested  # before the other workers know of them


@pytest.mark.parametrize(("rank", "due"), [(0, True), (1, False)])
def test_the_clock_of_the_first_worker_decides_when_a_checkpoint_is_due(
    rank: int, due: bool
) -> None:
    run = signals(rank, checkpoint_minutes=1e-12)
    assert run.of_step(Signals()) == StepSignals(stop=False, save=False, due=due)
    assert not signals(rank, checkpoint_minutes=60.0).of_step(Signals()).due


def test_a_checkpoint_that_is_due_is_wanted_and_not_requested() -> None:
    run = signals()
    run.update(StepSignals(stop=False, save=False, due=True))
    assert run.wants_checkpoint(5)
    assert not run.requested  # nobody waits for it
    run.checkpoint_begun(5)
    assert not run.wants_checkpoint(6)


def test_a_checkpoint_is_wanted_every_so_many_steps_and_only_once() -> None:
    run = signals(steps=10, checkpoint_steps=5)  # resumed from step 10
    assert [steps for steps in range(10, 22) if run.wants_checkpoint(steps)] == [15, 20]
    run.checkpoint_begun(15)
    assert not run.wants_checkpoint(15)
    assert run.wants_checkpoint(20)
