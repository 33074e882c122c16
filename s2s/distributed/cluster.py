"""The Ray cluster that a command uses, and whether it can hold the command's workers."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from s2s.distributed import ray_internals
from s2s.distributed.address import VARIABLE, Setting, require_cluster
from s2s.distributed.hosts import Host, living_hosts
from s2s.distributed.local_cluster import local_cluster
from s2s.errors import BadInput, Failed


@contextmanager
def cluster(
    log: Callable[[str], None] = lambda line: None,
    *,
    dashboard: bool = True,
    setting: Setting = VARIABLE,
) -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS, or else start a local one and end it.

    A connection that the process has already is used and left as it is.

    Args:
        log: called with a line at once, as Ray takes its time.
        dashboard: start a local cluster with one; tasks alone do without.
        setting: where the user has named the address that is now in RAY_ADDRESS.

    Raises:
        BadInput: RAY_ADDRESS is no address of a cluster, or this process cannot use that cluster.
        Failed: RAY_ADDRESS names no cluster that answers, or a local one does not start.
    """
    address = os.environ.get("RAY_ADDRESS")
    connection: AbstractContextManager[None]
    if ray.is_initialized():
        connection = nullcontext()
    elif address and address != "local":
        log(f"connecting to the Ray cluster at {address}")
        connection = _connected(address, setting)
    else:
        log("starting Ray on this machine")
        # Ray's clean-up of ended trials asks the dashboard which have ended: without one, a sweep
        # stands still once the first trials have taken all CPUs.
        connection = local_cluster(dashboard=dashboard)
    with connection:
        try:
            yield
        finally:
            _set_address(address)


@contextmanager
def _connected(address: str, setting: Setting) -> Iterator[None]:
    """Connect to a cluster that is there.

    Raises:
        BadInput: as `require_cluster`.
        Failed: as `require_cluster`.
    """
    require_cluster(address, setting)
    ray_internals.silence_driver_messages()
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Failed(f"{setting.prefix}{address}: no Ray cluster answers: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


def set_address_for_train() -> None:
    """Make Ray Train's helper actors connect to the cluster that this process is connected to.

    They look for a cluster by themselves, and take another one on the same host for theirs: a run
    then loses its workers' resources, or an ended trial keeps them for ever.
    """
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    ray_internals.propagate_to_train_workers("RAY_ADDRESS")


def _set_address(address: str | None) -> None:
    if address is None:
        os.environ.pop("RAY_ADDRESS", None)
    else:
        os.environ["RAY_ADDRESS"] = address


@dataclass(frozen=True)
class WorkerResources:
    """The number of a run's workers, and the resources of each.

    Raises:
        BadInput: a value is out of range, or does not go with another one.
    """

    number: int  # that the run begins with, or more if it is elastic
    most: int | None = None  # workers of an elastic run; None for one that is not elastic
    gpu: bool = False
    gpu_share: float = 1.0  # of a GPU, for each worker
    cpus: int = 1  # of each worker
    wait: float = 600.0  # seconds for an autoscaling cluster to grow
    resize: float = 30.0  # seconds between two checks of whether an elastic run can grow
    independent: bool = False  # whether workers do without NCCL, and several may share a GPU

    def __post_init__(self) -> None:
        elastic = self.most is not None
        if self.number < 1:
            raise BadInput(f"--workers {self.number}: at least 1 is needed")
        if not 0 < self.gpu_share <= 1:
            raise BadInput(f"--gpu-share {self.gpu_share}: more than 0 and at most 1 is needed")
        if (
            self.gpu_share < 1
            and not self.independent
            and (self.number > 1 or elastic or not self.gpu)
        ):
            raise BadInput(
                f"--gpu-share {self.gpu_share}: --gpu and one worker are needed, since NCCL "
                "connects no two workers on one GPU"
            )
        if self.resize <= 0:
            raise BadInput(f"--resize {self.resize}: seconds, more than 0, are needed")

    @property
    def each(self) -> dict[str, float]:
        """The resources of a worker, by Ray's names."""
        return {"CPU": float(self.cpus), **({"GPU": self.gpu_share} if self.gpu else {})}

    def groups(self) -> int:
        """Return how many groups of so many workers the whole cluster has room for."""
        return self.room(living_hosts()) // self.number

    def hosts(self) -> list[Host]:
        """Return the hosts of the cluster that can hold a worker, whoever uses them now."""
        return [host for host in living_hosts() if self.room([host])]

    def require(self, log: Callable[[str], None]) -> None:
        """Return once the cluster's hosts have the resources of the workers, whoever uses them now.

        Raises:
            BadInput: the cluster is of fixed size and too small.
            Failed: an autoscaling cluster did not grow in `wait` seconds.
        """
        if not (lack := self.lack(living_hosts())):
            return
        if not _autoscales():
            raise BadInput(f"{lack}; ask for fewer, or add nodes")
        log(f"waiting up to {self.wait:.0f} s for the cluster to grow: {lack}")
        request_resources(bundles=[self.each] * self.number)
        try:
            end = time.monotonic() + self.wait
            while lack := self.lack(living_hosts()):
                if time.monotonic() >= end:
                    raise Failed(
                        f"the cluster did not grow to {self.number} workers in {self.wait:.0f} s: "
                        f"{lack} (--wait says how long to wait)"
                    )
                time.sleep(1)
        finally:
            request_resources(bundles=[])  # from here on the workers themselves are the demand

    def room(self, hosts: Sequence[Host]) -> int:
        """Return how many workers some hosts have room for, each worker on one host."""
        return sum(_times(host.resources, self.each) for host in hosts)

    def lack(self, hosts: Sequence[Host]) -> str | None:
        """Return why some hosts can never hold the workers, or None if they can."""
        if (room := self.room(hosts)) >= self.number:
            return None
        if not room:
            kinds = list(reversed(self.each))  # GPUs, the scarcest, come first
            largest = max(hosts, key=lambda host: [host.resources.get(kind, 0) for kind in kinds])
            has = " and ".join(_amount(kind, largest.resources.get(kind, 0)) for kind in self.each)
            return f"a worker needs {self._one} on one host, and the largest, {largest}, has {has}"
        missing = {
            kind: self.number * amount - sum(host.resources.get(kind, 0) for host in hosts)
            for kind, amount in self.each.items()
        }
        if lacking := [_amount(kind, lack) for kind, lack in missing.items() if lack > 0]:
            return f"{self.number} workers need {', '.join(lacking)} more than the cluster has"
        return (
            f"{self.number} workers need {self._one} each on one host, and the hosts have room "
            f"for {room}"
        )

    def awaited(self, number: int, free: Sequence[Mapping[str, float]]) -> str | None:
        """Return what so many workers wait for, or None if there is room for them.

        Args:
            free: of each node, what nobody uses now.
        """
        if sum(_times(each, self.each) for each in free) >= number:
            return None
        there = " and ".join(
            _amount(kind, sum(each.get(kind, 0) for each in free)) for kind in self.each
        )
        if self.each == {"CPU": 1}:
            return f"{_amount('CPU', number)}, {there} free"
        times = f"{number} times " if number > 1 else ""
        return f"{times}{self._one} on one host, {there} free"

    @property
    def _one(self) -> str:
        """The resources of a worker, for a message."""
        return " and ".join(_amount(kind, amount) for kind, amount in self.each.items())


def _times(resources: Mapping[str, float], each: Mapping[str, float]) -> int:
    """Return how many times resources hold some others.

    A share of a GPU is on one GPU: two GPUs have room for four shares of 0.4, not for five.
    """
    return min(_room(resources.get(kind, 0), amount) for kind, amount in each.items())


def _room(total: float, amount: float) -> int:
    """Return how many times a resource holds an amount of it."""
    if amount >= 1:
        return int(total / amount + 1e-6)
    whole = int(total + 1e-6)
    rest = max(0.0, total - whole)  # free, of GPUs that others use in part
    return whole * int(1 / amount + 1e-6) + int(rest / amount + 1e-6)  # five fifths are one


def _amount(kind: str, number: float) -> str:
    return f"{number:g} {kind}{'s' * (number != 1)}"


def parse_workers(text: str, cpus: int = 1) -> tuple[int, int | None]:
    """Return the least and the most workers that `4`, or `1:4` for one to four, names.

    Args:
        cpus: of each, for the error.

    Raises:
        BadInput: the text is neither, or there are no CPUs.
    """
    try:
        least, *rest = map(int, text.split(":"))
        valid = least > 0 and cpus > 0 and (not rest or [least, *rest] == sorted([least, *rest]))
    except ValueError:
        valid = False
    if not valid or len(rest) > 1:
        raise BadInput(
            f"--workers {text} with {cpus} CPUs: at least 1, or MIN:MAX such as 1:4, is needed"
        )
    return least, rest[0] if rest else None


def _autoscales() -> bool:
    """Return whether the cluster has an autoscaler that can add nodes."""
    port = ray.get_runtime_context().gcs_address.rsplit(":", 1)[1]
    answer: bool = ray.get(_head_has_autoscaler.remote(port))
    return answer


@ray.remote(num_cpus=0, resources={ray_internals.HEAD_NODE: 0.001})
def _head_has_autoscaler(gcs_port: str) -> bool:
    return ray_internals.has_autoscaler(gcs_port)
