"""The hosts of a Ray cluster: what each has, and which of them answer."""

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import ray

_PROBE_SECONDS = 4.0  # between two looks at every host
_ANSWER_SECONDS = 3.0  # for a host to answer
_MISSED = 3  # looks without an answer after which the user is informed
_REMOVED = {1, 4}  # Ray's reasons: the node was stopped, or the autoscaler found it idle


@dataclass(frozen=True)
class Host:
    """A node of the cluster, even if Ray runs several of them on one host."""

    id: str  # Ray's, another one each time that Ray starts on the host
    name: str
    address: str
    port: int  # of Ray's node manager
    is_alive: bool = True  # as far as Ray knows
    was_removed: bool = False  # on purpose
    # Whoever uses them now.
    resources: Mapping[str, float] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        """Return the name and the address."""
        return self.name if self.name == self.address else f"{self.name} ({self.address})"

    def answers(self) -> bool:
        """Return whether the host can be reached from this one."""
        address = (self.address, self.port)
        with suppress(OSError), socket.create_connection(address, _ANSWER_SECONDS):
            return True
        return False


def all_hosts() -> list[Host]:
    """Return all hosts that are, or were, in the cluster, those that are alive first."""
    found = [
        Host(
            node["NodeID"],
            node["NodeManagerHostname"],
            node["NodeManagerAddress"],
            node["NodeManagerPort"],
            node["Alive"],
            node["DeathReason"] in _REMOVED,
            node["Resources"],
        )
        for node in ray.nodes()
    ]
    return sorted(found, key=lambda host: not host.is_alive)


def living_hosts() -> list[Host]:
    """Return the hosts that Ray counts as alive."""
    return [host for host in all_hosts() if host.is_alive]


def list_hosts(hosts: Sequence[Host]) -> str:
    """Return hosts for a message, such as `host h3 (10.77.0.3)` or `hosts h2 (…), h3 (…)`."""
    return f"host{'s' * (len(hosts) != 1)} {', '.join(map(str, hosts))}"


def answering(hosts: Sequence[Host]) -> set[str]:
    """Return the ids of the hosts that answer."""
    with ThreadPoolExecutor(16, "s2s-hosts") as pool:
        answers = pool.map(Host.answers, hosts)
        return {host.id for host, answer in zip(hosts, answers, strict=True) if answer}


class HostMonitor:
    """Informs the user of hosts that stop answering, and of what becomes of them.

    By itself Ray takes a minute to find out that a cable is out, and does not say so.

    Args:
        log: called with a line for the user.
        effect: what happens to the work of a host that is lost, for a line; None if something else
            informs the user of it.
    """

    def __init__(self, log: Callable[[str], None], effect: str | None) -> None:
        self._log, self._effect = log, effect
        self._living: set[str] = set()  # at the last look
        self._missed: dict[str, int] = {}  # looks without an answer, of hosts that are alive

    def look(self, hosts: Sequence[Host], answering: Collection[str]) -> None:
        """Compare hosts with what they were before, and log what has changed.

        Args:
            hosts: all of them, dead or alive.
            answering: ids of those that answer.
        """
        for host in hosts:
            missed = self._missed.pop(host.id, 0)
            if host.is_alive and host.id in answering:
                if missed >= _MISSED:
                    self._log(f"host {host} answers again")
            elif host.is_alive:
                self._missed[host.id] = missed + 1
                if missed + 1 == _MISSED:
                    self._log(f"host {host} does not answer: waiting until Ray gives it up")
            elif host.id in self._living and not host.was_removed and self._effect is not None:
                what = "is lost" if missed >= _MISSED else "does not answer"
                self._log(f"host {host} {what}: {self._effect}")
        self._living = {host.id for host in hosts if host.is_alive}


@contextmanager
def monitored_hosts(log: Callable[[str], None], effect: str | None = None) -> Iterator[None]:
    """Inform the user of hosts of the cluster that stop answering while the block runs.

    Args:
        log: as of `HostMonitor`; it is called in a thread.
        effect: as of `HostMonitor`.
    """
    monitor, ended = HostMonitor(log, effect), threading.Event()
    own = ray.get_runtime_context().get_node_id()

    def watch() -> None:
        while not ended.wait(_PROBE_SECONDS):
            with suppress(Exception):  # the head has gone: the command fails by itself
                hosts = [host for host in all_hosts() if host.id != own]
                monitor.look(hosts, answering([host for host in hosts if host.is_alive]))

    watcher = threading.Thread(target=watch, name="s2s-hosts", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join(2 * _ANSWER_SECONDS)  # before the connection to the cluster ends
