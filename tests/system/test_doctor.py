"""`s2s doctor` on several hosts, with faults that are planted there."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from s2s.doctor.findings import Finding, Severity
from tests.support.cluster import BIN, Cluster, Done
from tests.support.hosts import HostCluster, hosts, ray_on, reason_for_none
from tests.support.pythons import interpreter, require_index

DOCTOR = (sys.executable, "-m", "s2s.cli", "doctor", "--json")

# Free ports of a host are in this range from now on, and no packet from them reaches h2: as a
# firewall that opens the ports of Ray alone. (Rules of routing need no module of the kernel.)
CLOSE_FREE_PORTS_TO_H2 = """
echo 61000 62000 > /proc/sys/net/ipv4/ip_local_port_range
ip rule add to 10.77.0.2 ipproto tcp sport 61000-62000 blackhole
"""

# Ray refuses to start a node with another Python. This one does not compare them.
JOIN_ANYWAY = """
import sys
from ray._private.node import Node
from ray.scripts.scripts import main

Node.check_version_info = lambda self: None
sys.argv[0] = "ray"
main()
"""


def findings(done: Done) -> list[Finding]:
    """Return what the command printed."""
    assert done.out, done
    return [
        Finding(**{**each, "hosts": tuple(each["hosts"]), "severity": Severity(each["severity"])})
        for each in json.loads(done.out)
    ]


def only(found: list[Finding], check: str) -> list[tuple[Severity, tuple[str, ...], str]]:
    """Return the findings of a check."""
    return [(each.severity, each.hosts, each.found) for each in found if each.check == check]


def test_a_cluster_of_one_host_is_checked(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.s2s("doctor", "--json", "--path", tmp_path, "--workers", 3, "--hosts", 2)
    assert done.code == 1
    found = findings(done)
    for check in ("versions", "dependencies", "names", f"storage {tmp_path}"):
        assert [severity for severity, *_ in only(found, check)] == [Severity.OK], check
    for check in ("hosts", "workers"):
        assert [severity for severity, *_ in only(found, check)] == [Severity.ERROR], check
    assert {"ports", "clock", "gloo"}.isdisjoint(each.check for each in found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_planted_faults_are_found(three_hosts: HostCluster, tmp_path: Path) -> None:
    shared, everywhere = tmp_path / "shared", ("h1", "h2", "h3")
    h1, h2, h3 = three_hosts.hosts
    done = three_hosts.run(*DOCTOR, "--path", shared, "--workers", 2, "--hosts", 3)
    well = findings(done)
    assert done.code == 0, done
    assert {each.check for each in well if each.severity == Severity.WARNING} == {"names", "token"}
    for check in (f"storage {shared}", "ports", "clock", "gloo", "workers", "versions"):
        assert [(severity, where) for severity, where, _ in only(well, check)] == [
            (Severity.OK, everywhere)
        ], check
    # Debian writes the name of a host for 127.0.1.1.
    assert only(well, "names") == [
        (Severity.WARNING, (host.name,), f"{host.name} leads to 127.0.1.1, which is loopback")
        for host in three_hosts.hosts
    ]

    (h1.folder / "hosts").write_text(f"127.0.0.1 localhost\n{h1.address} h1\n", "utf-8")
    (shared / "mount").mkdir()
    for host in (h1, h2):
        assert host.run("mkdir", "/tmp/mounted").code == 0
        assert host.run("mount", "--bind", shared / "mount", "/tmp/mounted").code == 0
    closed = h3.run("bash", "-c", CLOSE_FREE_PORTS_TO_H2)
    assert closed.code == 0, closed
    done = three_hosts.run(
        *DOCTOR, "--path", "/tmp/mounted", "--path", "/tmp/home", "--workers", 1, "--cpus", 2
    )
    assert done.code == 1, done
    hurt = findings(done)
    assert only(hurt, "storage /tmp/mounted") == [
        (Severity.ERROR, ("h3",), "does not exist; it does on h1, h2")
    ]
    assert only(hurt, "storage /tmp/home")[0] == (
        Severity.ERROR, ("h1",), "what h2, h3 writes is not there: it is another folder",
    )  # fmt: skip
    assert {where for _, where, _ in only(hurt, "names")} == {("h2",), ("h3",)}
    ports = only(hurt, "ports")
    assert {severity for severity, *_ in ports} == {Severity.ERROR}
    assert any(
        where == ("h2",) and found.startswith("does not reach h3 at 10.77.0.3:6")
        for _, where, found in ports
    )
    assert not any("h1" in where or "h1" in found for _, where, found in ports)
    assert [severity for severity, *_ in only(hurt, "gloo")] == [Severity.SKIPPED]
    assert only(hurt, "workers") == [
        (
            Severity.ERROR,
            everywhere,
            "1 worker with 2 CPUs each: no host has 2 CPUs, the largest has 1",
        )
    ]


@pytest.fixture
def python312() -> Iterator[Path]:
    """Python 3.12 with Ray, and with what the command `s2s` itself needs."""
    with tempfile.TemporaryDirectory(prefix="s2s-", dir="/tmp") as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([interpreter("3.12"), "-m", "venv", folder], check=True)
        require_index(python, Path(folder))
        needed = ["docstring-parser", "grpcio", "pydantic", "PyYAML", "rich", "tyro"]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", f"ray=={ray.__version__}", *needed],
            check=True,
        )
        yield python


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_another_python_is_found(tmp_path: Path, python312: Path) -> None:
    if reason := reason_for_none():
        pytest.skip(reason)
    ours, theirs = (
        subprocess.run(
            [python, "-c", "import platform; print(platform.python_version())"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for python in (sys.executable, python312)
    )  # fmt: skip
    environment = python312.parents[1]
    with hosts(3, tmp_path / "hosts", [environment]) as three, ray_on(three[:2]) as cluster:
        h3 = three[2]
        join = (
            "start", "--block", f"--address={cluster.address}", f"--node-ip-address={h3.address}",
            "--num-cpus=1", "--object-store-memory=200000000",
        )  # fmt: skip
        refused = h3.run(python312, environment / "bin" / "ray", *join, **cluster.environment)
        assert refused.code != 0
        assert "Version mismatch" in refused.err

        done = h3.run(python312, *DOCTOR[1:], "--address", cluster.address, **cluster.environment)
        assert done.code == 1, done
        [(severity, where, found)] = only(findings(done), "cluster")
        assert (severity, where) == (Severity.ERROR, ("h3",))
        assert cluster.address in found
        assert ours in found
        assert theirs in found
        assert "\n" not in found
        done = cluster.run(*DOCTOR, "--hosts", 3)
        assert (Severity.ERROR, ("h1", "h2"), "the cluster has 2 of 3 hosts") in only(
            findings(done), "hosts"
        )

        h3.daemon("ray.log", python312, "-c", JOIN_ANYWAY, *join,
                  **cluster.environment, PYTHONPATH="")  # fmt: skip
        cluster.wait_for(3)
        expected = (Severity.ERROR, ("h3",), f"Python {theirs}, but {ours} on h1")
        # Ray adds the folder in which a command runs to the import path of its tasks.
        done = cluster.run(*DOCTOR)
        assert done.code == 1, done
        assert expected in only(findings(done), "versions")
        assert only(findings(done), "ports")[0][:2] == (Severity.OK, ("h1", "h2", "h3"))
        done = cluster.run("env", "--chdir=/tmp", BIN / "s2s", *DOCTOR[3:])
        assert done.code == 1, done
        without = findings(done)
        assert expected in only(without, "versions")
        assert (Severity.ERROR, ("h3",), "s2s is not installed, but 0.1.0 on h1") in only(
            without, "versions"
        )
        [skipped] = [each for each in only(without, "hosts") if each[0] == Severity.SKIPPED]
        assert skipped[1] == ("h3",)
