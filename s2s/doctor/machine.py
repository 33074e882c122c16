"""The checks of this machine alone, without Ray."""

import secrets
import tempfile
from collections.abc import Sequence

from s2s.doctor.capacity import check_demand
from s2s.doctor.checks import check_hosts
from s2s.doctor.facts import HostFacts, host_facts
from s2s.doctor.findings import Finding
from s2s.doctor.hosts import Demand, Host
from s2s.doctor.shared_storage import remove_marker, seen_markers, write_marker
from s2s.doctor.together import check_storage


def examine_machine(locations: Sequence[str], demand: Demand | None) -> list[Finding]:
    """Return what the checks find on this machine.

    Args:
        locations: folders, and URIs of object stores, that it is to use.
        demand: workers that it is to hold, or None.
    """
    facts = host_facts(tempfile.gettempdir())
    host = this_host(facts)
    findings = check_hosts([host])
    if demand:
        findings += check_demand([host], demand)
    for location in locations:
        findings += _examine_storage(location, host.label)
    return findings


def this_host(facts: HostFacts) -> Host:
    """Return this machine as a host, with all that it has."""
    return Host(
        facts.name,
        facts=facts,
        versions=facts.versions,
        cpus=facts.cpus,
        gpus=len(facts.gpus.names),
    )


def _examine_storage(location: str, label: str) -> list[Finding]:
    run = secrets.token_hex(4)
    written = write_marker(location, run, "0")
    seen = []
    if written.succeeded:
        seen = seen_markers(location, run, ["0"])
        remove_marker(location, run, "0")
    return check_storage(location, {label: written}, {label: [label] if seen else []})
