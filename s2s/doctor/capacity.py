"""The checks of what hosts have for workers: CPUs, memory, and the hosts themselves."""

from collections.abc import Sequence

from s2s.doctor.findings import Finding, Severity, count_text, size_text
from s2s.doctor.hosts import Demand, Host, is_loopback, labels_of, well, with_facts

_WORKER_MEMORY = 1e9  # of a worker with torch and a small model: 0.7 to 0.9 GB were measured


def check_resources(hosts: Sequence[Host]) -> list[Finding]:
    """Check CPUs and memory, and that Ray counts no more of them than there are."""
    known = [(host, facts) for host, facts in with_facts(hosts)]
    faults = []
    for host, facts in known:
        if host.cpus > facts.cpus:
            faults.append(
                Finding(
                    "resources",
                    (host.label,),
                    Severity.WARNING,
                    f"Ray counts {host.cpus:g} CPUs, but processes may use {facts.cpus}",
                    f"start Ray with --num-cpus={facts.cpus}",
                )
            )
        memory = facts.available_memory
        if memory is not None and memory < _WORKER_MEMORY:
            faults.append(
                Finding(
                    "resources",
                    (host.label,),
                    Severity.WARNING,
                    f"{size_text(memory)} of memory are free",
                    "end other programs, or add memory: a worker takes about 1 GB",
                )
            )
    return faults or [well("resources", hosts, _sum(hosts))] if known else []


def _sum(hosts: Sequence[Host]) -> str:
    memory = sum(facts.memory or 0 for _, facts in with_facts(hosts))
    cpus, gpus = sum(host.cpus for host in hosts), sum(host.gpus for host in hosts)
    total = f"{count_text(cpus, 'CPU')}, {count_text(gpus, 'GPU')}, {size_text(memory)} of memory"
    if len(hosts) == 1:
        return total
    largest = max(hosts, key=lambda host: host.cpus)
    return f"{total}; the most on one host: {count_text(largest.cpus, 'CPU')} ({largest.label})"


def check_demand(hosts: Sequence[Host], demand: Demand, *, grows: bool = False) -> list[Finding]:
    """Check that workers fit on the hosts, each of them on one host.

    Args:
        grows: whether the cluster has an autoscaler that can add hosts.
    """
    labels = labels_of(hosts)
    room = sum(demand.room(host) for host in hosts)
    each = f"{count_text(demand.cpus, 'CPU')}{' and a GPU' if demand.gpu else ''}"
    wanted = f"{count_text(demand.workers, 'worker')} with {each} each"
    if room < demand.workers:
        most = max(host.cpus for host in hosts)
        reason = (
            f"no host has {count_text(demand.cpus, 'CPU')}, the largest has {most:g}"
            if most < demand.cpus
            else f"there is room for {room}"
        )
        if grows:
            found = f"{wanted}: {reason} now, so the cluster has to grow"
            advice = "check that the autoscaler may add so many hosts, and hosts large enough"
            return [Finding("workers", labels, Severity.WARNING, found, advice)]
        advice = "ask for fewer workers or CPUs, or add hosts"
        return [Finding("workers", labels, Severity.ERROR, f"{wanted}: {reason}", advice)]
    faults = []
    for host, facts in with_facts(hosts):
        here = min(demand.room(host), demand.workers)
        memory = facts.available_memory
        if memory is not None and memory < here * _WORKER_MEMORY:
            room_here = count_text(here, "worker")
            found = f"{size_text(memory)} of memory are free, with room for {room_here}"
            advice = "start fewer workers, or give each more CPUs: a worker takes about 1 GB"
            faults.append(Finding("workers", (host.label,), Severity.WARNING, found, advice))
    return faults or [well("workers", hosts, f"{wanted}: there is room for {room}")]


def check_number(hosts: Sequence[Host], expected: int | None, lost: Sequence[str]) -> list[Finding]:
    """Check that a cluster has the hosts that it should have.

    Args:
        expected: number of hosts; None if the user named none.
        lost: hosts that left the cluster without being stopped.
    """
    faults = [
        Finding(
            "hosts",
            (each,),
            Severity.WARNING,
            "has left the cluster without being stopped",
            "run `ray stop` and `ray start` there again if it is to come back",
        )
        for each in lost
    ]
    on_loopback = [host for host in hosts if is_loopback(host.address)]
    if on_loopback and max(expected or 1, len(hosts)) > 1:
        found = f"Ray listens on {on_loopback[0].address}, where no other host reaches it"
        advice = "start it with --node-ip-address=ADDRESS, the address of the host in the network"
        faults.append(Finding("hosts", labels_of(on_loopback), Severity.ERROR, found, advice))
    if expected is not None and len(hosts) < expected:
        faults.append(
            Finding(
                "hosts",
                labels_of(hosts),
                Severity.ERROR,
                f"the cluster has {len(hosts)} of {expected} hosts",
                "run `ray start --address=…` on the others; Ray refuses it where Python or Ray has "
                "another version, and `s2s doctor --address …` says so there",
            )
        )
    if faults:
        return faults
    found = count_text(len(hosts), "host")
    if on_loopback:
        found += ", and no other can join: Ray listens on loopback alone"
    return [well("hosts", hosts, found)]
