"""The checks of what hosts do together: reach each other, and share folders."""

from collections.abc import Mapping, Sequence

from s2s.doctor.findings import Finding, Severity
from s2s.doctor.network import Reached
from s2s.doctor.shared_storage import Written

_SKEW, _LARGE_SKEW = 1.0, 60.0  # seconds


def check_ports(reached: Mapping[str, Sequence[Reached]]) -> list[Finding]:
    """Check that the hosts reach each other's ports.

    Args:
        reached: by the label of the host that tried.
    """
    faults = []
    for host, attempts in reached.items():
        for attempt in attempts:
            if attempt.trouble:
                target = attempt.target
                what = "a free port" if target.answers else "Ray's port"
                faults.append(
                    Finding(
                        "ports",
                        (host,),
                        Severity.ERROR,
                        f"does not reach {target.host} at {target.address}:{target.port} "
                        f"({what}): {attempt.trouble}",
                        "open all TCP ports between the cluster's hosts (firewall, security group, "
                        "network policy): Ray, gloo and NCCL choose theirs at random",
                    )
                )
    if faults:
        return faults
    return [Finding("ports", tuple(reached), Severity.OK, "all hosts reach each other")]


def check_clocks(host: str, reached: Sequence[Reached]) -> list[Finding]:
    """Check that the clocks of hosts agree.

    Args:
        host: label of the one that asked the others for their time.
        reached: what they answered.
    """
    faults, asked = [], []
    for attempt in reached:
        if attempt.skew is None:
            continue
        asked.append(attempt.target.host)
        skew = abs(attempt.skew) - attempt.uncertainty
        if skew > _SKEW:
            direction = "ahead of" if attempt.skew > 0 else "behind"
            faults.append(
                Finding(
                    "clock",
                    (attempt.target.host,),
                    Severity.ERROR if skew > _LARGE_SKEW else Severity.WARNING,
                    f"{abs(attempt.skew):.0f} s {direction} that of {host}",
                    "synchronise it (chrony or systemd-timesyncd): object stores refuse keys, and "
                    "the times of logs mislead",
                )
            )
    if faults or not asked:
        return faults
    return [Finding("clock", (host, *asked), Severity.OK, "they agree to a second")]


def check_storage(
    location: str, written: Mapping[str, Written], seen: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Check that all hosts see the same folder, or object store, at a location, and can write.

    Args:
        location: path or URI.
        written: what each host wrote, by its label.
        seen: hosts whose markers each host saw, by its label.
    """
    check = f"storage {location}"
    tried = {host: each for host, each in written.items() if each.was_tried}
    missing = [host for host, each in tried.items() if not each.exists]
    having = [host for host, each in tried.items() if each.exists]
    faults = [
        Finding(check, (host,), Severity.SKIPPED, f"cannot be checked: {each.trouble}")
        for host, each in written.items()
        if not each.was_tried
    ]
    if missing:
        elsewhere = f"; it does on {', '.join(having)}" if having else ""
        advice = "mount it there" if having else "create it, or mount it on every host"
        found = f"does not exist{elsewhere}"
        faults.append(Finding(check, tuple(missing), Severity.ERROR, found, advice))
    faults += [
        Finding(
            check,
            (host,),
            Severity.ERROR,
            f"cannot be written to: {each.trouble}",
            "correct its rights, or the keys and the address of the store, on that host",
        )
        for host, each in tried.items()
        if each.exists and each.trouble
    ]
    writers = [host for host, each in tried.items() if each.succeeded]
    for host in writers:
        unseen = [other for other in writers if other not in seen.get(host, ())]
        if unseen:
            found = f"what {', '.join(unseen)} writes is not there: it is another folder"
            advice = "mount the same folder on every host, or use an object store"
            faults.append(Finding(check, (host,), Severity.ERROR, found, advice))
    if faults:
        return faults
    found = "the same on every host, and writable" if len(written) > 1 else "writable"
    return [Finding(check, tuple(written), Severity.OK, found)]
