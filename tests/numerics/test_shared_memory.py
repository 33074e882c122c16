"""Sums in shared memory, by real processes: those of gloo, the same bits everywhere, no hang."""

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from s2s.shared_memory import SharedMemory, share_memory
from tests.support.training import PROCESSES

# Shapes of gradients: some are cut between processes, some are smaller than a cache line.
SHAPES = [(4,), (300, 64), (1,), (70,), (0, 5), (2_000, 33)]
NUMBERS = sum(torch.Size(shape).numel() for shape in SHAPES)
Task = Callable[[int, int, Path], None]


def in_group(task: Task, rank: int, world: int, folder: Path) -> None:
    """Run a task as one process of a group."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
    try:
        task(rank, world, folder)
    finally:
        dist.destroy_process_group()


def run_group(task: Task, world: int, folder: Path) -> list[int | None]:
    """Run a task by several processes; return their exit codes."""
    processes = [
        PROCESSES.Process(target=in_group, args=(task, rank, world, folder))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def opened(numbers: int = NUMBERS) -> SharedMemory:
    """The shared memory of this group, which is on one host."""
    memory = share_memory(numbers)
    assert memory is not None
    return memory


def sum_by_both(rank: int, world: int, folder: Path) -> None:
    """Leave the sums of gloo and of shared memory, of several steps in a row."""
    memory, sums = opened(), []
    torch.manual_seed(rank)
    meet = memory.barrier

    def meet_and_sleep() -> None:
        meet()
        time.sleep(0.02)

    # With more and fewer numbers, shares are at other places in each step.
    steps = [
        [torch.randn(shape) for shape in SHAPES[: len(SHAPES) - step % 2]] for step in range(9)
    ]
    theirs = [[tensor.clone() for tensor in ours] for ours in steps]
    for tensors in theirs:
        for tensor in tensors:
            dist.all_reduce(tensor)
    for step, ours in enumerate(steps):
        # One process is late after every barrier, when the others may have begun the next sum.
        memory.barrier = meet_and_sleep if step // 3 % world == rank else meet  # type: ignore[method-assign]
        memory.all_reduce(ours)
        sums.append((ours, theirs[step]))
    memory.close()
    torch.save(sums, folder / f"{rank}.pt")


@pytest.mark.parametrize("world", [2, 3])
def test_sums_are_those_of_gloo_and_equal_to_the_bit(world: int, tmp_path: Path) -> None:
    assert run_group(sum_by_both, world, tmp_path) == [0] * world
    first, *others = (torch.load(tmp_path / f"{rank}.pt") for rank in range(world))
    for ours, theirs in first:
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0 if world == 2 else 1e-6)
    for other in others:
        for (expected, _), (actual, _) in zip(first, other, strict=True):
            assert all(map(torch.equal, expected, actual))


def sum_until_one_is_killed(rank: int, world: int, folder: Path) -> None:
    """Sum on and on; the process whose rank the folder names kills itself, the others fail."""
    memory = opened()
    # It has no name in a file system, under which it could outlive the processes.
    [mapped] = [line for line in Path("/proc/self/maps").read_text().splitlines() if "s2s" in line]
    assert mapped.endswith("/memfd:s2s-sums (deleted)")
    tensors = [torch.ones(shape) for shape in SHAPES]
    for step in range(100):
        if step == 50 and folder.name.endswith(str(rank)):
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            memory.all_reduce(tensors)
        except RuntimeError as error:
            assert "lost another worker on this host" in str(error)
            (folder / f"{rank}.lost").write_text(f"{step}")
            os._exit(7)  # gloo, too, would wait for the one that is killed


@pytest.mark.parametrize("victim", [0, 1])
def test_the_others_fail_at_once_when_one_is_killed(victim: int, tmp_path: Path) -> None:
    folder = tmp_path / f"kills-{victim}"
    folder.mkdir()
    expected: list[int | None] = [7, 7, 7]
    expected[victim] = -signal.SIGKILL
    assert run_group(sum_until_one_is_killed, 3, folder) == expected
    assert {(folder / f"{rank}.lost").read_text() for rank in {0, 1, 2} - {victim}} == {"50"}


def look_for_memory(rank: int, world: int, folder: Path) -> None:
    """Leave whether there is shared memory, though the last process can open no socket."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if rank == world - 1:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    found = share_memory(NUMBERS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    (folder / f"{rank}.found").write_text(str(found))


def test_without_a_way_between_all_processes_none_shares_memory(tmp_path: Path) -> None:
    assert run_group(look_for_memory, 3, tmp_path) == [0, 0, 0]
    assert [(tmp_path / f"{rank}.found").read_text() for rank in range(3)] == ["None"] * 3
