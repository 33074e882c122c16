"""What the checks find: a line each."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters, the most serious first."""

    ERROR = "error"  # s2s fails, or will, until somebody mends it
    WARNING = "warning"  # s2s works, but not in every case, or not as well
    SKIPPED = "skipped"  # the check could not be done
    OK = "ok"


@dataclass(frozen=True)
class Finding:
    """What a check has found, on which hosts, and what to do about it."""

    check: str
    hosts: tuple[str, ...]
    severity: Severity
    found: str
    advice: str = ""


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the most serious first, and one line for what several hosts share."""
    merged: dict[Finding, list[str]] = {}
    for each in findings:
        shared = Finding(each.check, (), each.severity, each.found, each.advice)
        merged.setdefault(shared, []).extend(each.hosts)
    joined = [
        Finding(each.check, tuple(dict.fromkeys(hosts)), each.severity, each.found, each.advice)
        for each, hosts in merged.items()
    ]
    ranks = list(Severity)
    return sorted(joined, key=lambda each: ranks.index(each.severity))


def as_json(findings: Sequence[Finding]) -> str:
    """Return findings as JSON: a list of objects."""
    return json.dumps([asdict(each) for each in findings], indent=2, ensure_ascii=False)


def size_text(size: float) -> str:
    """Return bytes for a message, such as `1.5 GB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def count_text(number: float, noun: str) -> str:
    """Return a number with its noun, such as `2 hosts`."""
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
