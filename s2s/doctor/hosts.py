"""A host as the checks see it, and the workers that it is to hold."""

from dataclasses import dataclass

from s2s.doctor.facts import HostFacts, Versions


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
