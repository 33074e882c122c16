"""The checks of what hosts report of themselves.

Each check returns a finding for each fault, or else one that says that all is well. Hosts are
compared with the first one, which is the head of a cluster.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from s2s.doctor.capacity import check_resources
from s2s.doctor.facts import HostFacts
from s2s.doctor.findings import Finding, Severity, count_text, size_text
from s2s.doctor.hosts import Host, is_loopback, well, with_facts
from s2s.doctor.versions import check_dependencies, check_versions
from s2s.extras import install_command

_LEAST_SHARED_MEMORY = 1e9  # Docker's default is 64 MB
_LEAST_OPEN_FILES = 4096
_HAPROXY_OPEN_FILES = 21_000  # for the 8192 connections that it accepts by default
_SHM = "/dev/shm"  # noqa: S108
_FULL, _NEARLY_FULL = 0.95, 0.9  # Ray stores nothing more on a disk that is fuller than the first

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
        *check_int8(hosts),
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


# ---- names and limits ---------------------------------------------------------------------------


def check_names(hosts: Sequence[Host]) -> list[Finding]:
    """Check that the hosts' names lead to addresses that other hosts can use."""
    known = list(with_facts(hosts))
    if not known:
        return []
    if len(hosts) == 1:
        [(host, facts)] = known
        leads = ", ".join(facts.name_addresses) or "no address"
        return [well("names", hosts, f"{facts.name} leads to {leads}")]
    faults = []
    for host, facts in known:
        if not facts.name_addresses:
            found = f"{facts.name} leads to no address"
        elif all(map(is_loopback, facts.name_addresses)):
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
    return faults or [well("names", hosts, "each name leads to an address of the network")]


def check_int8(hosts: Sequence[Host]) -> list[Finding]:
    """Say by which instructions each host's CPU computes `decode.precision int8`."""
    alike: dict[str, list[Host]] = {}
    for host, facts in with_facts(hosts):
        alike.setdefault(facts.int8, []).append(host)
    said = {
        "AVX2": "AVX2 without VNNI: int8 works, but is slower than on a CPU with VNNI",
        "": "unknown instructions: measure whether int8 is faster than fp32",
    }
    return [well("int8", each, said.get(found, found)) for found, each in alike.items()]


def check_limits(hosts: Sequence[Host]) -> list[Finding]:
    """Check how many files a process may have open."""
    known = list(with_facts(hosts))
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
    return [well("open files", [host for host, _ in known], found)]


def check_shared_memory(hosts: Sequence[Host]) -> list[Finding]:
    """Check that /dev/shm holds Ray's object store, and what NCCL exchanges."""
    known = [(h, f, f.shared_memory) for h, f in with_facts(hosts) if f.shared_memory is not None]
    faults = [
        Finding(
            _SHM,
            (host.label,),
            Severity.WARNING,
            f"{size_text(size)}, and {size_text(needed)} are needed",
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
    return [well(_SHM, [host for host, *_ in known], size_text(least))]


def check_disks(hosts: Sequence[Host]) -> list[Finding]:
    """Check the disk of the temporary folder, where Ray keeps logs and spilled objects."""
    known = list(with_facts(hosts))
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
                    f"{facts.temporary} is {used:.0%} full, "
                    f"{size_text(facts.temporary_free)} are free",
                    "remove old sessions of Ray there, or give it another folder (--temp-dir): "
                    f"Ray stores no more objects from {_FULL:.0%} on",
                )
            )
    if faults or not known:
        return faults
    host, facts = min(known, key=lambda each: each[1].temporary_free)
    found = f"{size_text(facts.temporary_free)} are free in {facts.temporary}"
    return [well("disk", [host for host, _ in known], found)]


# ---- tokens -------------------------------------------------------------------------------------


def check_token(hosts: Sequence[Host], *, several: bool) -> list[Finding]:
    """Check that Ray asks for a token, and that nobody else can read it.

    Args:
        several: whether the cluster has several hosts, so that its ports are open to others.
    """
    known = list(with_facts(hosts))
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
    return [well("token", [host for host, _ in known], found)]


# ---- GPUs ---------------------------------------------------------------------------------------


def check_gpus(hosts: Sequence[Host]) -> list[Finding]:
    """Check that driver, torch and Ray agree on the GPUs of each host."""
    known = list(with_facts(hosts))
    faults = [fault for host, facts in known for fault in _gpu_faults(host, facts)]
    if faults or not known:
        return faults
    names = Counter(name for _, facts in known for name in facts.gpus.names)
    found = ", ".join(f"{count} x {name}" for name, count in names.items()) or "none"
    return [well("GPU", [host for host, _ in known], found)]


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
            f"{count_text(len(gpus.names), 'GPU')}, but torch was built without CUDA",
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
    known = list(with_facts(hosts))
    enabled = [
        (host, facts.haproxy)
        for host, facts in known
        if facts.haproxy.settings.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
    ]
    if not enabled:
        return [well("HAProxy", [host for host, _ in known], "not turned on")] if known else []
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
    return [well("HAProxy", [host for host, _ in known], "the same settings on every host")]


def _differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return the variables that differ; a path may do so from host to host."""
    names = sorted(ours.keys() | theirs.keys())
    return [
        name
        for name in names
        if ours.get(name) != theirs.get(name)
        and not (name.endswith("_PATH") and name in ours and name in theirs)
    ]
