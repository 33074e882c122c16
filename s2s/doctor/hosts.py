"""A host as the checks see it, and the workers that it is to hold."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s2s.doctor.facts import HostFacts, Versions
from s2s.doctor.findings import Finding, Severity


@dataclass(frozen=True)
class Host:
    """A host of a cluster, or this machine."""

    label: str  # its name, or more where several have the same
    address: str = ""  # of its Ray node; empty for a machine without Ray
    facts: HostFacts | None = None  # None where they could not be had
    versions: Versions | None = None  # None where not even they could
    trouble: str = ""  # why facts are missing
    cpus: float = 0  # as Ray counts them, or as there are without Ray
    gpus: float = 0
    object_store: float = 0  # bytes of Ray's object store


@dataclass(frozen=True)
class Demand:
    """The workers that a user wants to start."""

    workers: int
    cpus: int = 1  # of each
    gpu: bool = False  # whether each has one

    def room(self, host: Host) -> int:
        """Return how many of the workers a host can hold."""
        by_cpus = int(host.cpus // self.cpus)
        return min(by_cpus, int(host.gpus)) if self.gpu else by_cpus


def with_facts(hosts: Sequence[Host]) -> Iterable[tuple[Host, HostFacts]]:
    """Yield the hosts whose facts are known, with these."""
    return ((host, host.facts) for host in hosts if host.facts is not None)


def labels_of(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Return the labels of hosts."""
    return tuple(host.label for host in hosts)


def is_loopback(address: str) -> bool:
    """Return whether an address is loopback."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def well(check: str, hosts: Iterable[Host], found: str) -> Finding:
    """Return the finding that a check has found no fault."""
    return Finding(check, labels_of(hosts), Severity.OK, found)
