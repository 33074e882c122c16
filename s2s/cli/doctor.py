"""`s2s doctor`."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from s2s.cli.verb import Verb
from s2s.errors import BadInput, Failed

if TYPE_CHECKING:
    from s2s.doctor.findings import Finding
    from s2s.doctor.hosts import Demand


@dataclass(frozen=True)
class Doctor(Verb):
    """Check this machine, or every host of a Ray cluster, and say what to mend.

    A cluster is checked with --address, or if RAY_ADDRESS is set. The exit code is 0 if there are
    no errors, and 1 otherwise; warnings do not count.
    """

    address: str | None = None
    """Address of the cluster, such as 10.0.0.1:6379, or auto for the one on this host; RAY_ADDRESS
    by default."""

    path: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Folder, or URI of an object store, that all hosts are to share; can be given several
    times."""

    hosts: int | None = None
    """Number of hosts that the cluster should have."""

    workers: int | None = None
    """Number of workers that are to fit."""

    cpus: int = 1
    """CPUs of each of these workers."""

    gpu: bool = False
    """Let each of these workers have a GPU."""

    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        """Print the findings."""
        from s2s.doctor.findings import Severity, as_json, in_order

        demand = self._demand()
        locations = [each if "://" in each else str(Path(each).absolute()) for each in self.path]
        findings = in_order(self._examine(locations, demand))
        if self.json:
            print(as_json(findings))
        else:
            _print(findings)
        errors = sum(each.severity == Severity.ERROR for each in findings)
        if errors:
            raise Failed(f"{errors} error{'s' * (errors != 1)} found")

    def _demand(self) -> "Demand | None":
        """Return the workers that are to fit, or None.

        Raises:
            BadInput: a number is out of range.
        """
        from s2s.doctor.hosts import Demand

        for name in ("hosts", "workers", "cpus"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise BadInput(f"--{name} {number}: at least 1 is needed")
        return Demand(self.workers, self.cpus, self.gpu) if self.workers else None

    def _examine(self, locations: Sequence[str], demand: "Demand | None") -> "list[Finding]":
        from s2s.doctor.machine import examine_machine

        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        if address == "local":
            if self.hosts is not None:
                raise BadInput("--hosts is for a cluster: give --address, or set RAY_ADDRESS")
            return examine_machine(locations, demand)
        from s2s.distributed.address import OPTION, VARIABLE
        from s2s.distributed.doctor import examine_cluster
        from s2s.doctor.findings import Finding, Severity

        try:
            with _ray_address(address):
                setting = OPTION if self.address else VARIABLE
                return examine_cluster(locations, demand, self.hosts, _tell, setting)
        except (BadInput, Failed) as error:  # there is no cluster for this host
            reason = " ".join(str(error).split())
            found = Finding("cluster", (os.uname().nodename,), Severity.ERROR, reason)
            return [found, *examine_machine(locations, None)]


@contextmanager
def _ray_address(address: str) -> Iterator[None]:
    """Have Ray connect to an address in the block."""
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = address
    try:
        yield
    finally:
        os.environ.pop("RAY_ADDRESS")
        if before is not None:
            os.environ["RAY_ADDRESS"] = before


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(findings: "Sequence[Finding]") -> None:
    """Print findings: as a table on a terminal, and else as lines with tabs."""
    from rich.console import Console
    from rich.table import Table

    from s2s.console import printable

    console = Console(highlight=False, markup=False, emoji=False)
    rows = [
        (
            str(each.severity),
            printable(each.check),
            printable(", ".join(each.hosts)),
            printable(each.found),
            printable(each.advice),
        )
        for each in findings
    ]
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = Table()
    for heading in ("", "check", "hosts", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
