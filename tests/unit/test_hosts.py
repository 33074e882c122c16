"""What a cluster's hosts can hold, and what the user is informed of when one stops answering."""

import socket

import pytest

from s2s.distributed.cluster import WorkerResources
from s2s.distributed.hosts import Host, HostMonitor, answering, list_hosts


def host(number: int, **facts: object) -> Host:
    fixed = {"id": str(number), "name": f"h{number}", "address": f"10.0.0.{number}", "port": 1}
    return Host(**{**fixed, **facts})  # type: ignore[arg-type]


def hosts_of(*resources: dict[str, float]) -> list[Host]:
    return [host(number, resources=each) for number, each in enumerate(resources, 1)]


def test_a_host_is_named_with_its_address() -> None:
    assert list_hosts([host(3)]) == "host h3 (10.0.0.3)"
    assert list_hosts([host(2), host(3)]) == "hosts h2 (10.0.0.2), h3 (10.0.0.3)"
    assert str(host(1, name="10.0.0.1")) == "10.0.0.1"


def test_a_host_answers_while_its_node_manager_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = host(1, address="127.0.0.1", port=server.getsockname()[1])
        assert there.answers()
        assert answering([there, host(2, address="127.0.0.1", port=1)]) == {"1"}
    assert not there.answers()


# ---- what hosts can hold ------------------------------------------------------------------------

NONE: dict[str, float] = {}


@pytest.mark.parametrize(
    ("workers", "resources", "lack"),
    [
        (WorkerResources(2), [NONE, {"CPU": 1.0}, {"CPU": 1.0}], None),
        (WorkerResources(5, gpu=True), [{"CPU": 8.0, "GPU": 5.0}], None),
        (
            WorkerResources(1, cpus=2),
            [NONE, {"CPU": 1.0}, {"CPU": 1.0}],
            "a worker needs 2 CPUs on one host, and the largest, h2 (10.0.0.2), has 1 CPU",
        ),
        (
            WorkerResources(1, gpu=True),
            [{"CPU": 8.0}, {"CPU": 0.0, "GPU": 1.0}],
            "a worker needs 1 CPU and 1 GPU on one host, and the largest, h2 (10.0.0.2), has "
            "0 CPUs and 1 GPU",
        ),
        (
            WorkerResources(4),
            [{"CPU": 1.0}, {"CPU": 2.0}],
            "4 workers need 1 CPU more than the cluster has",
        ),
        (
            WorkerResources(3, cpus=2),
            [{"CPU": 3.0}, {"CPU": 3.0}],
            "3 workers need 2 CPUs each on one host, and the hosts have room for 2",
        ),
    ],
)
def test_workers_are_compared_with_each_host(
    workers: WorkerResources, resources: list[dict[str, float]], lack: str | None
) -> None:
    assert workers.lack(hosts_of(*resources)) == lack


@pytest.mark.parametrize(
    ("workers", "free", "awaited"),
    [
        (WorkerResources(2), [{"CPU": 1.0}, {"CPU": 1.0}], None),
        (WorkerResources(2), [{"CPU": 1.0}, NONE], "2 CPUs, 1 CPU free"),
        (
            WorkerResources(2, cpus=2),
            [{"CPU": 1.0}, {"CPU": 3.0}],
            "2 times 2 CPUs on one host, 4 CPUs free",
        ),
        (
            WorkerResources(1, gpu=True),
            [{"CPU": 1.0}],
            "1 CPU and 1 GPU on one host, 1 CPU and 0 GPUs free",
        ),
    ],
)
def test_what_is_awaited_is_what_others_use(
    workers: WorkerResources, free: list[dict[str, float]], awaited: str | None
) -> None:
    assert workers.awaited(workers.number, free) == awaited


# ---- hosts that stop answering ------------------------------------------------------------------


@pytest.fixture
def lines() -> list[str]:
    return []


def test_a_host_that_misses_three_looks_is_reported_once(lines: list[str]) -> None:
    monitor = HostMonitor(lines.append, "its trials wait")
    everyone = [host(1), host(2)]
    monitor.look(everyone, {"1", "2"})
    for _ in range(2):
        monitor.look(everyone, {"1"})
    monitor.look(everyone, {"1", "2"})  # it was only slow
    assert lines == []
    for _ in range(5):
        monitor.look(everyone, {"1"})
    assert lines == ["host h2 (10.0.0.2) does not answer: waiting until Ray gives it up"]
    monitor.look(everyone, {"1", "2"})
    assert lines[1:] == ["host h2 (10.0.0.2) answers again"]


def test_a_host_that_ray_gives_up_is_reported(lines: list[str]) -> None:
    monitor = HostMonitor(lines.append, "its trials wait")
    long_gone = host(4, is_alive=False)
    monitor.look([host(1), host(2), host(3), long_gone], {"1", "2", "3"})
    removed = host(3, is_alive=False, was_removed=True)
    for _ in range(2):
        monitor.look([host(1), host(2, is_alive=False), removed, long_gone], {"1"})
    assert lines == ["host h2 (10.0.0.2) does not answer: its trials wait"]


def test_after_a_host_that_did_not_answer_ray_has_the_last_word(lines: list[str]) -> None:
    monitor = HostMonitor(lines.append, "its trials wait")
    for _ in range(3):
        monitor.look([host(2)], ())
    monitor.look([host(2, is_alive=False)], ())
    assert lines[1:] == ["host h2 (10.0.0.2) is lost: its trials wait"]


def test_one_who_is_informed_otherwise_hears_only_of_silence(lines: list[str]) -> None:
    monitor = HostMonitor(lines.append, None)
    monitor.look([host(2)], {"2"})
    monitor.look([host(2, is_alive=False)], ())
    assert lines == []
