"""The checks of what hosts report of themselves.

Each check returns a finding for each fault, or else one that says that all is well. Hosts are
compared with the first one, which is the head of a cluster.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from s2s.doctor.facts import COMPARED, HostFacts
from s2s.doctor.findings import Finding, Severity
from s2s.doctor.hosts import Demand, Host
from s2s.extras import install_command

_GB = 1e9
_WORKER_MEMORY = 1e9  # of a worker with torch and a small model: 0.7 to 0.9 GB were measured
_LEAST_SHARED_MEMORY = 1e9  # Docker's default is 64 MB
_LEAST_OPEN_FILES = 4096
_HAPROXY_OPEN_FILES = 21_000  # for the 8192 connections that it accepts by default
_SHM = "/dev/shm"  # noqa: S108
_FULL, _NEARLY_FULL = 0.95, 0.9  # Ray stores nothing more on a disk that is fuller than the first

# What must be the same everywhere; of other libraries, files and pickled objects mostly still fit.
_MUST_AGREE = ("s2s", "ray", "torch")

_SERVE_ADVICE = (
    "set the same variables on each host, before `ray start` (cluster/README.md, Plain hosts)"
)


def check_hosts(hosts: Sequence[Host]) -> list[Finding]:
    """Check the facts of each host, and that hosts agree where they must."""
    several = len(hosts) > 1
    return [
        *_check_answers(hosts),
        *check_versions(hosts),
        *check_dependencies(hosts),
        *check_resources(hosts),
        *check_names(hosts),
        *check_limits(hosts),
        *check_shared_memory(hosts),
        *check_disks(hosts),
        *check_token(hosts, several=several),
        *check_gpus(hosts),
        *check_haproxy(hosts),
    ]


def _check_answers(hosts: Sequence[Host]) -> list[Finding]:
    findings = []
    for host in hosts:
        if host.facts is None and host.versions:
            found = f"only the versions can be checked: {host.trouble}"
            findings.append(Finding("hosts", (host.label,), Severity.SKIPPED, found))
        elif host.facts is None:
            advice = "look at its network, and at the logs in /tmp/ray/session_latest/logs there"
            found = f"nothing can be checked: {host.trouble}"
            findings.append(Finding("hosts", (host.label,), Severity.ERROR, found, advice))
    return findings


# ---- versions -----------------------------------------------------------------------------------


def check_versions(hosts: Sequence[Host]) -> list[Finding]:
    """Check that all hosts run the same versions."""
    known = [host for host in hosts if host.versions]
    if not known:
        return []
    first, *others = known
    faults = [fault for host in others for fault in _differences(first, host)]
    return faults or [_well("versions", known, _described(first))]


def _differences(first: Host, host: Host) -> Iterable[Finding]:
    """Yield what differs between the versions of two hosts."""
    ours, theirs = first.versions, host.versions
    if ours is None or theirs is None:
        return
    if theirs.python != ours.python:
        minor = _minor(theirs.python) != _minor(ours.python)
        yield Finding(
            "versions",
            (host.label,),
            Severity.ERROR if minor else Severity.WARNING,
            f"Python {theirs.python}, but {ours.python} on {first.label}",
            f"install Python {ours.python} there and start Ray with it"
            + ("; until then tasks on that host fail" if minor else ""),
        )
    for name in ("s2s", *COMPARED):
        version, expected = theirs.packages.get(name), ours.packages.get(name)
        if version == expected or name in theirs.missing:
            continue
        must = name in _MUST_AGREE
        yield Finding(
            "versions",
            (host.label,),
            Severity.ERROR if must else Severity.WARNING,
            f"{name} {version or 'is not installed'}, but {expected or 'none'} on {first.label}",
            "install requirements.lock and the same s2s on every host",
        )
    same = theirs.packages.get("s2s") == ours.packages.get("s2s")
    if same and ours.s2s_files and theirs.s2s_files and theirs.s2s_files != ours.s2s_files:
        yield Finding(
            "versions",
            (host.label,),
            Severity.ERROR,
            f"s2s {theirs.packages['s2s']} has other files there than on {first.label}",
            "install the same build of s2s on every host",
        )


def _described(host: Host) -> str:
    versions = host.versions
    if versions is None:
        return ""
    packages = {name: versions.packages.get(name) for name in _MUST_AGREE}
    named = (f"{name} {version or 'not installed'}" for name, version in packages.items())
    return ", ".join([f"Python {versions.python}", *named])


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def check_dependencies(hosts: Sequence[Host]) -> list[Finding]:
    """Check that each host has the packages that s2s needs."""
    known = [(host, host.versions) for host in hosts if host.versions]
    faults = [
        Finding(
            "dependencies",
            (host.label,),
            Severity.ERROR,
            f"not installed: {', '.join(versions.missing)}",
            f"{install_command('all')}, or -r requirements.lock",
        )
        for host, versions in known
        if versions.missing
    ]
    if faults or not known:
        return faults
    return [_well("dependencies", [host for host, _ in known], "all packages are installed")]


# ---- resources ----------------------------------------------------------------------------------


def check_resources(hosts: Sequence[Host]) -> list[Finding]:
    """Check CPUs and memory, and that Ray counts no more of them than there are."""
    known = [(host, facts) for host, facts in _known(hosts)]
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
                    f"{_size(memory)} of memory are free",
                    "end other programs, or add memory: a worker takes about 1 GB",
                )
            )
    return faults or [_well("resources", hosts, _sum(hosts))] if known else []


def _sum(hosts: Sequence[Host]) -> str:
    memory = sum(facts.memory or 0 for _, facts in _known(hosts))
    cpus, gpus = sum(host.cpus for host in hosts), sum(host.gpus for host in hosts)
    total = f"{_count(cpus, 'CPU')}, {_count(gpus, 'GPU')}, {_size(memory)} of memory"
    if len(hosts) == 1:
        return total
    largest = max(hosts, key=lambda host: host.cpus)
    return f"{total}; the most on one host: {_count(largest.cpus, 'CPU')} ({largest.label})"


def check_demand(hosts: Sequence[Host], demand: Demand, *, grows: bool = False) -> list[Finding]:
    """Check that workers fit on the hosts, each of them on one host.

    Args:
        grows: whether the cluster has an autoscaler that can add hosts.
    """
    labels = _labels(hosts)
    room = sum(demand.room(host) for host in hosts)
    each = f"{_count(demand.cpus, 'CPU')}{' and a GPU' if demand.gpu else ''}"
    wanted = f"{_count(demand.workers, 'worker')} with {each} each"
    if room < demand.workers:
        most = max(host.cpus for host in hosts)
        reason = (
            f"no host has {_count(demand.cpus, 'CPU')}, the largest has {most:g}"
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
    for host, facts in _known(hosts):
        here = min(demand.room(host), demand.workers)
        memory = facts.available_memory
        if memory is not None and memory < here * _WORKER_MEMORY:
            found = f"{_size(memory)} of memory are free, with room for {_count(here, 'worker')}"
            advice = "start fewer workers, or give each more CPUs: a worker takes about 1 GB"
            faults.append(Finding("workers", (host.label,), Severity.WARNING, found, advice))
    return faults or [_well("workers", hosts, f"{wanted}: there is room for {room}")]


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
    on_loopback = [host for host in hosts if _is_loopback(host.address)]
    if on_loopback and max(expected or 1, len(hosts)) > 1:
        found = f"Ray listens on {on_loopback[0].address}, where no other host reaches it"
        advice = "start it with --node-ip-address=ADDRESS, the address of the host in the network"
        faults.append(Finding("hosts", _labels(on_loopback), Severity.ERROR, found, advice))
    if expected is not None and len(hosts) < expected:
        faults.append(
            Finding(
                "hosts",
                _labels(hosts),
                Severity.ERROR,
                f"the cluster has {len(hosts)} of {expected} hosts",
                "run `ray start --address=…` on the others; Ray refuses it where Python or Ray has "
                "another version, and `s2s doctor --address …` says so there",
            )
        )
    if faults:
        return faults
    found = _count(len(hosts), "host")
    if on_loopback:
        found += ", and no other can join: Ray listens on loopback alone"
    return [_well("hosts", hosts, found)]


# ---- names and limits ---------------------------------------------------------------------------


def check_names(hosts: Sequence[Host]) -> list[Finding]:
    """Check that the hosts' names lead to addresses that other hosts can use."""
    known = list(_known(hosts))
    if not known:
        return []
    if len(hosts) == 1:
        [(host, facts)] = known
        leads = ", ".join(facts.name_addresses) or "no address"
        return [_well("names", hosts, f"{facts.name} leads to {leads}")]
    faults = []
    for host, facts in known:
        if not facts.name_addresses:
            found = f"{facts.name} leads to no address"
        elif all(map(_is_loopback, facts.name_addresses)):
            found = f"{facts.name} leads to {', '.join(facts.name_addresses)}, which is loopback"
        else:
            continue
        faults.append(
            Finding(
                "names",
                (host.label,),
                Severity.WARNING,
                found,
                f"write `{host.address} {facts.name}` into /etc/hosts there in its place: s2s uses "
                "the address of Ray's node and works, but other programs may connect to themselves",
            )
        )
    return faults or [_well("names", hosts, "each name leads to an address of the network")]


def check_limits(hosts: Sequence[Host]) -> list[Finding]:
    """Check how many files a process may have open."""
    known = list(_known(hosts))
    faults = []
    for host, facts in known:
        proxies = facts.haproxy.settings.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
        least = _HAPROXY_OPEN_FILES if proxies else _LEAST_OPEN_FILES
        if facts.open_files is not None and facts.open_files < least:
            faults.append(
                Finding(
                    "open files",
                    (host.label,),
                    Severity.WARNING,
                    f"a process may have {facts.open_files:,} open",
                    f"raise the hard limit to {least:,} or more before `ray start` (`ulimit -Hn`, "
                    "LimitNOFILE in systemd, --ulimit nofile in Docker)",
                )
            )
    if faults or not known:
        return faults
    limits = [facts.open_files for _, facts in known if facts.open_files is not None]
    found = f"a process may have {min(limits):,} open" if limits else "without limit"
    return [_well("open files", [host for host, _ in known], found)]


def check_shared_memory(hosts: Sequence[Host]) -> list[Finding]:
    """Check that /dev/shm holds Ray's object store, and what NCCL exchanges."""
    known = [(h, f, f.shared_memory) for h, f in _known(hosts) if f.shared_memory is not None]
    faults = [
        Finding(
            _SHM,
            (host.label,),
            Severity.WARNING,
            f"{_size(size)}, and {_size(needed)} are needed",
            f"enlarge it (--shm-size in Docker, a memory volume on Kubernetes), or start Ray with "
            f"--object-store-memory={int(size * 0.9)}: Ray falls back to a slow disk",
        )
        for host, facts, size in known
        if size < (needed := max(host.object_store, _LEAST_SHARED_MEMORY * bool(facts.gpus.names)))
        or size < _LEAST_SHARED_MEMORY / 10
    ]
    if faults or not known:
        return faults
    least = min(size for *_, size in known)
    return [_well(_SHM, [host for host, *_ in known], _size(least))]


def check_disks(hosts: Sequence[Host]) -> list[Finding]:
    """Check the disk of the temporary folder, where Ray keeps logs and spilled objects."""
    known = list(_known(hosts))
    faults = []
    for host, facts in known:
        used = 1 - facts.temporary_free / max(1, facts.temporary_size)
        if used > _NEARLY_FULL:
            full = used > _FULL
            faults.append(
                Finding(
                    "disk",
                    (host.label,),
                    Severity.ERROR if full else Severity.WARNING,
                    f"{facts.temporary} is {used:.0%} full, {_size(facts.temporary_free)} are free",
                    "remove old sessions of Ray there, or give it another folder (--temp-dir): "
                    f"Ray stores no more objects from {_FULL:.0%} on",
                )
            )
    if faults or not known:
        return faults
    host, facts = min(known, key=lambda each: each[1].temporary_free)
    found = f"{_size(facts.temporary_free)} are free in {facts.temporary}"
    return [_well("disk", [host for host, _ in known], found)]


# ---- tokens -------------------------------------------------------------------------------------


def check_token(hosts: Sequence[Host], *, several: bool) -> list[Finding]:
    """Check that Ray asks for a token, and that nobody else can read it.

    Args:
        several: whether the cluster has several hosts, so that its ports are open to others.
    """
    known = list(_known(hosts))
    faults = []
    for host, facts in known:
        if facts.token.file and facts.token.permissions & 0o077:
            faults.append(
                Finding(
                    "token",
                    (host.label,),
                    Severity.ERROR,
                    f"others can read {facts.token.file} (mode {facts.token.permissions:04o})",
                    f"chmod 600 {facts.token.file}",
                )
            )
        if several and facts.token.mode != "token":
            faults.append(
                Finding(
                    "token",
                    (host.label,),
                    Severity.WARNING,
                    "Ray asks for no token: whoever reaches its ports can run code there",
                    "start Ray with RAY_AUTH_MODE=token and the same ~/.ray/auth_token everywhere",
                )
            )
    if faults or not known:
        return faults
    if several:
        found = "Ray asks for a token"
    else:
        file = known[0][1].token.file
        found = f"only its owner can read {file}" if file else "there is none yet"
    return [_well("token", [host for host, _ in known], found)]


# ---- GPUs ---------------------------------------------------------------------------------------


def check_gpus(hosts: Sequence[Host]) -> list[Finding]:
    """Check that driver, torch and Ray agree on the GPUs of each host."""
    known = list(_known(hosts))
    faults = [fault for host, facts in known for fault in _gpu_faults(host, facts)]
    if faults or not known:
        return faults
    names = Counter(name for _, facts in known for name in facts.gpus.names)
    found = ", ".join(f"{count} x {name}" for name, count in names.items()) or "none"
    return [_well("GPU", [host for host, _ in known], found)]


def _gpu_faults(host: Host, facts: HostFacts) -> Iterable[Finding]:
    gpus, labels = facts.gpus, (host.label,)
    if gpus.trouble:
        yield Finding(
            "GPU", labels, Severity.ERROR, f"the driver does not answer: {gpus.trouble}",
            "install NVIDIA's driver, or reboot after its update",
        )  # fmt: skip
    if gpus.names and not gpus.torch_cuda:
        yield Finding(
            "GPU", labels, Severity.ERROR,
            f"{_count(len(gpus.names), 'GPU')}, but torch was built without CUDA",
            "install torch's build with CUDA (docs/gpu.md)",
        )  # fmt: skip
    if host.address and gpus.names and host.gpus < len(gpus.names):
        yield Finding(
            "GPU", labels, Severity.WARNING,
            f"Ray counts {host.gpus:g} of {len(gpus.names)}",
            f"start Ray with --num-gpus={len(gpus.names)}",
        )  # fmt: skip
    if host.gpus > len(gpus.names) and not gpus.trouble:
        yield Finding(
            "GPU", labels, Severity.ERROR,
            f"Ray counts {host.gpus:g}, but the driver lists {len(gpus.names)}",
            "start Ray without --num-gpus, or install the driver",
        )  # fmt: skip


# ---- Serve --------------------------------------------------------------------------------------


def check_haproxy(hosts: Sequence[Host]) -> list[Finding]:
    """Check that Serve's HAProxy can start, with the same settings on every host."""
    known = list(_known(hosts))
    enabled = [
        (host, facts.haproxy)
        for host, facts in known
        if facts.haproxy.settings.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
    ]
    if not enabled:
        return [_well("HAProxy", [host for host, _ in known], "not turned on")] if known else []
    faults = []
    (first, expected), *_ = enabled
    for host, facts in known:
        mine = facts.haproxy
        if mine.trouble:
            advice = f"{install_command('ray,serve')} there, and correct the variable if it is set"
            faults.append(Finding("HAProxy", (host.label,), Severity.ERROR, mine.trouble, advice))
        if differing := _differing(expected.settings, mine.settings):
            found = f"{', '.join(differing)}: not as on {first.label}"
            faults.append(Finding("HAProxy", (host.label,), Severity.ERROR, found, _SERVE_ADVICE))
        elif "RAY_SERVE_HAPROXY_BINARY_PATH" not in mine.settings:
            faults.append(
                Finding(
                    "HAProxy",
                    (host.label,),
                    Severity.WARNING,
                    "RAY_SERVE_HAPROXY_BINARY_PATH is not set: clients are not limited",
                    "set it to the path of s2s-haproxy before `ray start`",
                )
            )
    if faults:
        return faults
    return [_well("HAProxy", [host for host, _ in known], "the same settings on every host")]


def _differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return the variables that differ; a path may do so from host to host."""
    names = sorted(ours.keys() | theirs.keys())
    return [
        name
        for name in names
        if ours.get(name) != theirs.get(name)
        and not (name.endswith("_PATH") and name in ours and name in theirs)
    ]


# ---- helpers ------------------------------------------------------------------------------------


def _known(hosts: Sequence[Host]) -> Iterable[tuple[Host, HostFacts]]:
    """Yield the hosts whose facts are known, with these."""
    return ((host, host.facts) for host in hosts if host.facts is not None)


def _labels(hosts: Iterable[Host]) -> tuple[str, ...]:
    return tuple(host.label for host in hosts)


def _well(check: str, hosts: Iterable[Host], found: str) -> Finding:
    return Finding(check, _labels(hosts), Severity.OK, found)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _size(size: float) -> str:
    return f"{size / _GB:,.1f} GB" if size >= _GB else f"{size / 1e6:,.0f} MB"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
