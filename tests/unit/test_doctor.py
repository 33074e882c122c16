"""Checks of hosts: what each finds, from facts and from real sockets and folders."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from s2s import extras
from s2s.cli.main import main
from s2s.doctor.capacity import check_demand, check_number, check_resources
from s2s.doctor.checks import (
    check_disks,
    check_gpus,
    check_haproxy,
    check_hosts,
    check_int8,
    check_limits,
    check_names,
    check_shared_memory,
    check_token,
)
from s2s.doctor.facts import (
    Gpus,
    Haproxy,
    HostFacts,
    Token,
    Versions,
    host_facts,
    int8_instructions,
)
from s2s.doctor.findings import Finding, Severity, as_json, in_order
from s2s.doctor.hosts import Demand, Host
from s2s.doctor.network import Reached, Target, answer, dismiss, reach
from s2s.doctor.shared_storage import Written, remove_marker, seen_markers, write_marker
from s2s.doctor.together import check_clocks, check_ports, check_storage
from s2s.doctor.versions import check_dependencies, check_versions
from tests.support.hiding import HIDING
from tests.support.ports import free_port

GB = 10**9
VERSIONS = Versions("3.11.7", {"s2s": "0.1.0", "ray": "2.60.0", "torch": "2.13.0"}, (), "abc")
FACTS = HostFacts(
    versions=VERSIONS,
    name="h1",
    name_addresses=("10.0.0.1",),
    cpus=4,
    int8="VNNI",
    memory=16 * GB,
    available_memory=12 * GB,
    shared_memory=8 * GB,
    open_files=1_048_576,
    temporary="/tmp/ray",
    temporary_size=100 * GB,
    temporary_free=60 * GB,
    token=Token("token", "/root/.ray/auth_token", 0o600),
    gpus=Gpus(),
    haproxy=Haproxy(),
)


def host(name: str, **changed: object) -> Host:
    """Return a host with four CPUs; `changed` are facts that differ."""
    facts = replace(FACTS, name=name, **changed)  # type: ignore[arg-type]
    return Host(name, f"10.0.0.{name[1:]}", facts, facts.versions, cpus=4, object_store=GB)


def faults(findings: list[Finding]) -> list[tuple[Severity, tuple[str, ...], str]]:
    """Return what is not well."""
    return [(f.severity, f.hosts, f.found) for f in findings if f.severity != Severity.OK]


def test_healthy_hosts_have_one_line_for_each_check() -> None:
    findings = check_hosts([host("h1"), host("h2")])
    assert faults(findings) == []
    assert len({each.check for each in findings}) == len(findings) == 11
    assert {each.hosts for each in findings} == {("h1", "h2")}


def test_the_facts_of_this_machine_are_true(tmp_path: Path) -> None:
    facts = host_facts(str(tmp_path / "not" / "there"))
    assert facts.temporary == str(tmp_path)
    assert facts.versions.python == ".".join(map(str, sys.version_info[:3]))
    assert {"s2s", "ray", "torch"} <= facts.versions.packages.keys()
    assert facts.versions.missing == ()
    assert facts.cpus == len(os.sched_getaffinity(0))
    assert facts.memory and facts.available_memory and facts.available_memory < facts.memory


# ---- versions -----------------------------------------------------------------------------------


def test_another_minor_version_of_python_is_an_error_and_another_patch_a_warning() -> None:
    others = [
        host("h2", versions=replace(VERSIONS, python="3.12.1")),
        host("h3", versions=replace(VERSIONS, python="3.11.2")),
    ]
    assert faults(check_versions([host("h1"), *others])) == [
        (Severity.ERROR, ("h2",), "Python 3.12.1, but 3.11.7 on h1"),
        (Severity.WARNING, ("h3",), "Python 3.11.2, but 3.11.7 on h1"),
    ]


def test_packages_and_files_that_differ_are_found() -> None:
    packages = {**VERSIONS.packages, "ray": "2.59.0", "numpy": "2.1.0"}
    others = [
        host("h2", versions=replace(VERSIONS, packages=packages)),
        host("h3", versions=replace(VERSIONS, s2s_files="def")),
    ]
    assert faults(check_versions([host("h1"), *others])) == [
        (Severity.ERROR, ("h2",), "ray 2.59.0, but 2.60.0 on h1"),
        (Severity.WARNING, ("h2",), "numpy 2.1.0, but none on h1"),
        (Severity.ERROR, ("h3",), "s2s 0.1.0 has other files there than on h1"),
    ]


def test_missing_packages_are_reported_once() -> None:
    packages = {name: version for name, version in VERSIONS.packages.items() if name != "torch"}
    other = host("h2", versions=replace(VERSIONS, packages=packages, missing=("torch", "xxhash")))
    assert faults([*check_versions([host("h1"), other]), *check_dependencies([other])]) == [
        (Severity.ERROR, ("h2",), "not installed: torch, xxhash")
    ]


def test_a_host_without_facts_is_compared_by_what_is_known() -> None:
    bare = Versions("3.11.7", {"ray": "2.60.0"}, ("torch",))
    known = Host("h2", "10.0.0.2", versions=bare, trouble="No module named 's2s'")
    silent = Host("h3", "10.0.0.3", trouble="no answer in 60 s")
    assert faults(check_hosts([host("h1"), known, silent])) == [
        (Severity.SKIPPED, ("h2",), "only the versions can be checked: No module named 's2s'"),
        (Severity.ERROR, ("h3",), "nothing can be checked: no answer in 60 s"),
        (Severity.ERROR, ("h2",), "s2s is not installed, but 0.1.0 on h1"),
        (Severity.ERROR, ("h2",), "not installed: torch"),
    ]


# ---- resources ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("demand", "found"),
    [
        (Demand(8), None),
        (Demand(9), "9 workers with 1 CPU each: there is room for 8"),
        (Demand(3, cpus=3), "3 workers with 3 CPUs each: there is room for 2"),
        (Demand(1, 5), "1 worker with 5 CPUs each: no host has 5 CPUs, the largest has 4"),
        (Demand(1, gpu=True), "1 worker with 1 CPU and a GPU each: there is room for 0"),
    ],
)
def test_each_worker_must_fit_on_one_host(demand: Demand, found: str | None) -> None:
    told = faults(check_demand([host("h1"), host("h2")], demand))
    assert told == ([(Severity.ERROR, ("h1", "h2"), found)] if found else [])


def test_a_cluster_with_an_autoscaler_has_to_grow() -> None:
    [finding] = check_demand([host("h1")], Demand(5), grows=True)
    assert finding.severity == Severity.WARNING
    found = "5 workers with 1 CPU each: there is room for 4 now, so the cluster has to grow"
    assert finding.found == found
    assert faults(check_demand([host("h1")], Demand(4), grows=True)) == []


def test_the_option_is_named_to_whom_has_used_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    address = f"127.0.0.1:{free_port()}"
    assert main(["doctor", "--address", address]) == 1
    output = capsys.readouterr().out
    assert f"--address {address}: nothing answers there (Connection refused); leave out" in output
    assert "RAY_ADDRESS" not in output


def test_scarce_resources_are_found() -> None:
    small = replace(host("h1", available_memory=5 * 10**8), cpus=8)
    assert [found for *_, found in faults(check_resources([small]))] == [
        "Ray counts 8 CPUs, but processes may use 4",
        "500 MB of memory are free",
    ]
    few = host("h1", available_memory=2 * GB)
    assert [found for *_, found in faults(check_demand([few], Demand(4)))] == [
        "2.0 GB of memory are free, with room for 4 workers"
    ]


def test_hosts_that_are_missing_or_were_lost_are_found() -> None:
    assert faults(check_number([host("h1")], 1, [])) == []
    assert faults(check_number([host("h1")], 2, ["h3 (10.0.0.3)"])) == [
        (Severity.WARNING, ("h3 (10.0.0.3)",), "has left the cluster without being stopped"),
        (Severity.ERROR, ("h1",), "the cluster has 1 of 2 hosts"),
    ]
    [alone] = check_number([replace(host("h1"), address="127.0.0.1")], None, [])
    assert alone.found == "1 host, and no other can join: Ray listens on loopback alone"
    debian = replace(host("h2"), address="127.0.1.1")
    assert faults(check_number([host("h1"), debian], None, [])) == [
        (Severity.ERROR, ("h2",), "Ray listens on 127.0.1.1, where no other host reaches it")
    ]


# ---- names, limits, disks, tokens ----------------------------------------------------------------


def test_hosts_without_vnni_are_told_that_int8_is_slower_there() -> None:
    assert int8_instructions({"fpu", "avx2", "avx512_vnni"}) == "VNNI"
    assert int8_instructions({"avx2", "avx_vnni"}) == "VNNI"
    assert int8_instructions({"fp", "asimd", "asimddp"}) == "ARM dot products"
    assert int8_instructions({"fpu", "avx2"}) == "AVX2"
    assert int8_instructions({"fpu", "sse2"}) == ""
    new, old = check_int8([host("h1"), host("h2", int8="AVX2"), host("h3", int8="AVX2")])
    assert (new.hosts, new.found) == (("h1",), "VNNI")
    assert old.hosts == ("h2", "h3")
    assert re.search("AVX2 without VNNI: .* slower", old.found)
    assert new.severity == old.severity == Severity.OK


def test_a_name_that_leads_to_loopback_matters_where_there_are_several_hosts() -> None:
    debian, none = host("h2", name_addresses=("127.0.1.1",)), host("h3", name_addresses=())
    assert faults(check_names([debian])) == []
    findings = check_names([host("h1"), debian, none])
    assert faults(findings) == [
        (Severity.WARNING, ("h2",), "h2 leads to 127.0.1.1, which is loopback"),
        (Severity.WARNING, ("h3",), "h3 leads to no address"),
    ]
    assert "`10.0.0.2 h2`" in findings[0].advice


def test_low_limits_are_found() -> None:
    proxy = Haproxy({"RAY_SERVE_ENABLE_HA_PROXY": "1"})
    few, proxying = host("h1", open_files=1024), host("h2", open_files=10_000, haproxy=proxy)
    assert [hosts for _, hosts, _ in faults(check_limits([few, proxying]))] == [("h1",), ("h2",)]
    assert faults(check_limits([host("h1", open_files=10_000), host("h2", open_files=None)])) == []
    docker, enough = host("h1", shared_memory=64 * 2**20), host("h2", shared_memory=2 * GB)
    assert faults(check_shared_memory([docker, enough])) == [
        (Severity.WARNING, ("h1",), "67 MB, and 1.0 GB are needed")
    ]
    disks = [host(f"h{free}", temporary_free=free * GB) for free in (60, 8, 4)]
    assert [fault[:2] for fault in faults(check_disks(disks))] == [
        (Severity.WARNING, ("h8",)),
        (Severity.ERROR, ("h4",)),
    ]


def test_a_token_that_others_can_read_is_found() -> None:
    readable = host("h1", token=Token("token", "/root/.ray/auth_token", 0o644))
    assert faults(check_token([readable], several=True)) == [
        (Severity.ERROR, ("h1",), "others can read /root/.ray/auth_token (mode 0644)")
    ]
    without = host("h1", token=Token("disabled", ""))
    assert faults(check_token([without], several=False)) == []
    [(severity, _, found)] = faults(check_token([without], several=True))
    assert severity == Severity.WARNING
    assert "no token" in found


# ---- GPUs and Serve -----------------------------------------------------------------------------


def test_driver_torch_and_ray_must_agree_on_gpus() -> None:
    two = Gpus(("NVIDIA H100", "NVIDIA H100"), "570.1", "12.8")
    assert faults(check_gpus([replace(host("h1", gpus=two), gpus=2)])) == []
    assert [found for *_, found in faults(check_gpus([host("h1", gpus=two)]))] == [
        "Ray counts 0 of 2"
    ]
    for_cpus = replace(two, torch_cuda=None)
    assert [found for *_, found in faults(check_gpus([replace(host("h1", gpus=for_cpus), gpus=2)]))
    ] == ["2 GPUs, but torch was built without CUDA"]  # fmt: skip
    assert [found for *_, found in faults(check_gpus([replace(host("h1"), gpus=1)]))] == [
        "Ray counts 1, but the driver lists 0"
    ]
    broken = host("h1", gpus=Gpus(trouble="Driver/library version mismatch"))
    [(severity, _, found)] = faults(check_gpus([broken]))
    assert (severity, found.partition(": ")[2]) == (Severity.ERROR, broken.facts.gpus.trouble)


def test_haproxy_needs_its_binary_and_the_same_settings_everywhere() -> None:
    settings = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": "/bin/s2s-haproxy",
    }
    first = host("h1", haproxy=Haproxy(settings))
    elsewhere = {**settings, "RAY_SERVE_HAPROXY_BINARY_PATH": "/opt/bin/s2s-haproxy"}
    assert faults(check_haproxy([first, host("h2", haproxy=Haproxy(elsewhere))])) == []
    assert faults(check_haproxy([first, host("h2"), host("h3", haproxy=Haproxy(settings, "gone"))])
    ) == [
        (
            Severity.ERROR,
            ("h2",),
            "RAY_SERVE_ENABLE_HA_PROXY, RAY_SERVE_HAPROXY_BINARY_PATH: not as on h1",
        ),
        (Severity.ERROR, ("h3",), "gone"),
    ]  # fmt: skip
    bare = host("h1", haproxy=Haproxy({"RAY_SERVE_ENABLE_HA_PROXY": "1"}))
    assert [severity for severity, *_ in faults(check_haproxy([bare]))] == [Severity.WARNING]


# ---- network ------------------------------------------------------------------------------------


@contextmanager
def listening() -> Iterator[int]:
    """Give the port of a host that answers."""
    generator = answer("127.0.0.1")
    port = next(generator)
    thread = threading.Thread(target=lambda: list(generator))
    thread.start()
    yield port
    dismiss("127.0.0.1", port)
    thread.join(10)
    assert not thread.is_alive()


def test_hosts_that_answer_are_reached_and_tell_their_time() -> None:
    with listening() as port:
        [reached] = reach([Target("h2", "127.0.0.1", port, answers=True)])
    assert reached.trouble == ""
    assert reached.skew is not None
    assert abs(reached.skew) < 60
    assert faults([*check_ports({"h1": [reached]}), *check_clocks("h1", [reached])]) == []


def test_a_closed_port_is_found() -> None:
    with listening() as port:
        pass
    closed = Target("h2", "127.0.0.1", port, answers=True)
    assert faults(check_ports({"h1": reach([closed])})) == [
        (
            Severity.ERROR,
            ("h1",),
            f"does not reach h2 at 127.0.0.1:{port} (a free port): connection refused",
        )
    ]


def test_clocks_that_differ_are_found() -> None:
    def clock(host: str, skew: float, uncertainty: float = 0.01) -> Reached:
        return Reached(Target(host, "10.0.0.2", 1), "", skew, uncertainty)

    reached = [clock("h2", 0.4), clock("h3", -7), clock("h4", 90), clock("h5", 9, uncertainty=10)]
    assert faults(check_clocks("h1", reached)) == [
        (Severity.WARNING, ("h3",), "7 s behind that of h1"),
        (Severity.ERROR, ("h4",), "90 s ahead of that of h1"),
    ]


# ---- storage ------------------------------------------------------------------------------------


def look(folders: Mapping[str, object]) -> list[Finding]:
    """Check folders, or object stores, that hosts have under the same name."""
    written = {host: write_marker(str(folder), "run", host) for host, folder in folders.items()}
    able = [host for host in folders if written[host].succeeded]
    seen = {host: seen_markers(str(folders[host]), "run", able) for host in able}
    for host in able:
        remove_marker(str(folders[host]), "run", host)
    return check_storage("/data", written, seen)


def test_a_shared_folder_is_the_same_for_all_hosts_and_stays_clean(tmp_path: Path) -> None:
    assert faults(look({"h1": tmp_path, "h2": tmp_path, "h3": tmp_path})) == []
    assert list(tmp_path.iterdir()) == []


def test_an_object_store_needs_no_folder() -> None:
    assert faults(look({"h1": "memory://doctor/new", "h2": "memory://doctor/new"})) == []
    assert faults(look({"h1": "memory://doctor/a", "h2": "memory://doctor/b"})) != []
    [(severity, _, found)] = faults(look({"h1": "nothing://doctor/new"}))
    assert severity == Severity.ERROR
    assert "nothing" in found


def test_a_missing_mount_and_another_folder_are_found(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    own.mkdir()
    assert faults(look({"h1": shared, "h2": shared, "h3": tmp_path / "none"})) == [
        (Severity.ERROR, ("h3",), "does not exist; it does on h1, h2")
    ]
    assert faults(look({"h1": shared, "h2": own})) == [
        (Severity.ERROR, ("h1",), "what h2 writes is not there: it is another folder"),
        (Severity.ERROR, ("h2",), "what h1 writes is not there: it is another folder"),
    ]


def test_a_location_that_cannot_be_written_to_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert faults(look({"h1": tmp_path / "file"})) == [
        (Severity.ERROR, ("h1",), "cannot be written to: it is no folder")
    ]
    untried = Written(trouble="pyarrow is not installed", was_tried=False)
    assert faults(check_storage("/data", {"h1": untried}, {})) == [
        (Severity.SKIPPED, ("h1",), "cannot be checked: pyarrow is not installed")
    ]


# ---- findings and the command -------------------------------------------------------------------


def test_findings_are_in_order_and_one_line_for_what_hosts_share() -> None:
    def finding(host: str, severity: Severity, found: str) -> Finding:
        return Finding("disk", (host,), severity, found)

    findings = in_order(
        [
            finding("h1", Severity.OK, "free"),
            finding("h1", Severity.WARNING, "full"),
            finding("h2", Severity.ERROR, "fuller"),
            finding("h3", Severity.WARNING, "full"),
        ]
    )
    assert [(each.severity, each.hosts) for each in findings] == [
        (Severity.ERROR, ("h2",)),
        (Severity.WARNING, ("h1", "h3")),
        (Severity.OK, ("h1",)),
    ]
    assert json.loads(as_json(findings))[1] == {
        "check": "disk", "hosts": ["h1", "h3"], "severity": "warning", "found": "full",
        "advice": "",
    }  # fmt: skip


def test_the_command_checks_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    code = main(["doctor", "--path", ".", "--path", "none", "--json"])
    printed, complaint = capsys.readouterr()
    found = {each["check"]: each for each in json.loads(printed)}
    assert found[f"storage {tmp_path}"]["severity"] == "ok"
    assert found[f"storage {tmp_path}/none"]["found"] == "does not exist"
    assert code == 1
    assert re.fullmatch(r"s2s: \d+ errors? found\n", complaint)
    main(["doctor"])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {len(line) for line in lines} == {5}
    assert "versions" in {line[1] for line in lines}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workers", "0"], "--workers 0: at least 1 is needed"),
        (["--hosts", "3"], "--hosts is for a cluster: give --address, or set RAY_ADDRESS"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["doctor", *arguments]) == 2
    assert capsys.readouterr().err == f"s2s: {complaint}\n"


# What the command needs; it is to find out that the rest is missing.
NEEDED = {"docstring_parser", "pydantic", "yaml", "rich", "tyro"}


def test_the_command_runs_where_most_packages_are_missing() -> None:
    script = f"{HIDING}\nfrom s2s.cli.main import main\nsys.exit(main(['doctor', '--json']))"
    hidden = sorted(set(extras.REQUIRED) - NEEDED)
    done = subprocess.run(
        [sys.executable, "-c", script, ",".join(hidden)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    assert {"versions", "dependencies"} <= {each["check"] for each in json.loads(done.stdout)}
