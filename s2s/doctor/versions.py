"""The checks of versions and packages.

Hosts are compared with the first one, which is the head of a cluster.
"""

from collections.abc import Iterable, Sequence

from s2s.doctor.facts import COMPARED
from s2s.doctor.findings import Finding, Severity
from s2s.doctor.hosts import Host, well
from s2s.extras import install_command

# What must be the same everywhere; of other libraries, files and pickled objects mostly still fit.
_MUST_AGREE = ("s2s", "ray", "torch")


def check_versions(hosts: Sequence[Host]) -> list[Finding]:
    """Check that all hosts run the same versions."""
    known = [host for host in hosts if host.versions]
    if not known:
        return []
    first, *others = known
    faults = [fault for host in others for fault in _differences(first, host)]
    return faults or [well("versions", known, _described(first))]


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
    return [well("dependencies", [host for host, _ in known], "all packages are installed")]
