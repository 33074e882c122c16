"""The checks of `s2s.doctor` on every host of a Ray cluster, by a task on each of them.

Tasks are functions of modules, which Ray pickles by their names, since one that is pickled by value
is nonsense to another version of Python. So the versions of a host are found whatever it runs.
"""

import platform
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from s2s.distributed import ray_internals
from s2s.distributed.address import VARIABLE, Setting
from s2s.distributed.cluster import cluster
from s2s.distributed.hosts import Host as ClusterHost
from s2s.distributed.hosts import all_hosts
from s2s.doctor.capacity import check_demand, check_number
from s2s.doctor.checks import check_hosts
from s2s.doctor.facts import COMPARED, REQUIRED, HostFacts, Versions, host_facts
from s2s.doctor.findings import Finding, Severity
from s2s.doctor.hosts import Demand, Host
from s2s.doctor.network import Target, answer, dismiss, reach
from s2s.doctor.shared_storage import Written, remove_marker, seen_markers, write_marker
from s2s.doctor.together import check_clocks, check_ports, check_storage

_SECONDS = 60.0  # in which a task on each host must have ended
_GPU_SECONDS = 30.0  # to wait for GPUs that others may use


@dataclass(frozen=True)
class _Node:
    """A node of a Ray cluster."""

    id: str
    label: str
    address: str
    port: int  # of its raylet
    resources: Mapping[str, float]

    @property
    def is_head(self) -> bool:
        """Whether the cluster's control service runs there."""
        return ray_internals.HEAD_NODE in self.resources


@dataclass(frozen=True)
class _Failure:
    """A task that has not ended well."""

    reason: str
    was_silent: bool = False  # the host did not answer


def examine_cluster(
    locations: Sequence[str],
    demand: Demand | None,
    expected: int | None,
    log: Callable[[str], None],
    setting: Setting = VARIABLE,
) -> list[Finding]:
    """Return what the checks find on the hosts of the cluster of RAY_ADDRESS.

    Args:
        locations: folders, and URIs of object stores, that all hosts are to see.
        demand: workers that the cluster is to hold, or None.
        expected: number of hosts that it should have, or None.
        log: called with a line at once.
        setting: where the user has named the cluster.

    Raises:
        Failed: no cluster answers there, or it has another version of Python or Ray.
    """
    with cluster(log, setting=setting):
        nodes, lost = _nodes()
        log(f"asking {len(nodes)} host{'s' * (len(nodes) != 1)}")
        hosts = _hosts(nodes)
        findings = [*check_number(hosts, expected, lost), *check_hosts(hosts)]
        if demand:
            findings += check_demand(hosts, demand, grows=_has_autoscaler(nodes[0]))
        able = [node for node, each in zip(nodes, hosts, strict=True) if each.facts]
        with_torch = [
            node
            for node, each in zip(nodes, hosts, strict=True)
            if each.facts and "torch" in each.facts.versions.packages
        ]
        for location in locations:
            findings += _examine_storage(able, location)
        closed = False
        if len(able) > 1:
            network = _examine_network(able)
            findings += network
            if any(each.check == "ports" and each.severity == Severity.ERROR for each in network):
                closed = True
        if len(with_torch) > 1:
            findings += _examine_collectives(with_torch, "gloo", closed=closed)
        gpus = [node for node in with_torch if node.resources.get("GPU", 0) >= 1]
        if gpus:
            findings += _examine_collectives(gpus, "nccl", closed=closed)
        return findings


# ---- nodes --------------------------------------------------------------------------------------


def _nodes() -> tuple[list[_Node], list[str]]:
    """Return the nodes that are alive, the head first, and the hosts that were lost."""
    found = all_hosts()
    alive = [host for host in found if host.is_alive]
    names = Counter(host.name for host in alive)
    addresses = Counter(host.address for host in alive)

    def label(host: ClusterHost) -> str:
        if names[host.name] == 1:
            return host.name
        port = "" if addresses[host.address] == 1 else f":{host.port}"
        return f"{host.name} ({host.address}{port})"

    nodes = [_Node(each.id, label(each), each.address, each.port, each.resources) for each in alive]
    nodes.sort(key=lambda node: (not node.is_head, node.label))
    lost = sorted(
        {
            f"{host.name} ({host.address})"
            for host in found
            if not host.is_alive and not host.was_removed and host.address not in addresses
        }
    )
    return nodes, lost


def _hosts(nodes: Sequence[_Node]) -> list[Host]:
    """Return what the nodes tell of their hosts."""
    folder = ray.get_runtime_context().get_temp_dir()
    answers = _on_each(nodes, host_facts, lambda node: (folder,))
    hosts = []
    for node, told in zip(nodes, answers, strict=True):
        failed = isinstance(told, _Failure)
        hosts.append(
            Host(
                node.label,
                node.address,
                None if failed else told,
                _versions(node, told),
                told.reason if failed else "",
                node.resources.get("CPU", 0),
                node.resources.get("GPU", 0),
                node.resources.get("object_store_memory", 0),
            )
        )
    return hosts


def _has_autoscaler(head: _Node) -> bool:
    """Return whether the cluster can add hosts, as far as its head says so."""
    port = ray.get_runtime_context().gcs_address.rpartition(":")[2]
    [answer] = _on_each([head], ray_internals.has_autoscaler, lambda node: (port,))
    return answer is True


def _versions(node: _Node, told: HostFacts | _Failure) -> Versions | None:
    """Return the versions of a host, also if it runs no function of s2s; None if it runs none.

    Args:
        told: the host's facts, or why it told none.
    """
    if not isinstance(told, _Failure):
        return told.versions
    if told.was_silent:
        return None
    [python] = _on_each([node], platform.python_version)
    if isinstance(python, _Failure):
        return None
    names = list(dict.fromkeys((*COMPARED, *REQUIRED)))
    answers = _ended([_task(metadata.version, node).remote(name) for name in names], _SECONDS)
    found = {
        name: version
        for name, version in zip(names, answers, strict=True)
        if not isinstance(version, _Failure)
    }
    missing = tuple(name for name in REQUIRED if name not in found)
    return Versions(python, {k: v for k, v in found.items() if k in COMPARED}, missing)


# ---- tasks --------------------------------------------------------------------------------------


def _task(function: Callable[..., Any], node: _Node, **options: object) -> Any:
    """Return a function as a task of a node."""
    # It is no decorator: what that makes of a function is pickled by value.
    return ray.remote(num_cpus=0, max_retries=0)(function).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False), **options
    )


def _on_each(
    nodes: Sequence[_Node],
    function: Callable[..., Any],
    arguments: Callable[[_Node], tuple[object, ...]] = lambda node: (),
    seconds: float = _SECONDS,
) -> list[Any]:
    """Run a function on nodes at once.

    Returns:
        What it returned on each of them, or a `_Failure`.
    """
    return _ended([_task(function, node).remote(*arguments(node)) for node in nodes], seconds)


def _ended(tasks: list[Any], seconds: float) -> list[Any]:
    """Return what tasks returned, or a `_Failure` for each that failed or did not end in time."""
    if not tasks:
        return []
    done, _ = ray.wait(tasks, num_returns=len(tasks), timeout=seconds)
    ended = set(done)
    return [_result(task) if task in ended else _silent(seconds) for task in tasks]


def _silent(seconds: float) -> _Failure:
    return _Failure(f"no answer in {seconds:.0f} s", was_silent=True)


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except ray.exceptions.TaskUnschedulableError:
        return _Failure("its Ray node has just gone", was_silent=True)
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return _Failure(lines[-1] if lines else type(error).__name__)


# ---- storage ------------------------------------------------------------------------------------


def _examine_storage(nodes: Sequence[_Node], location: str) -> list[Finding]:
    run = secrets.token_hex(4)
    keys = {node.id: str(number) for number, node in enumerate(nodes)}
    labels = {keys[node.id]: node.label for node in nodes}
    answers = _on_each(nodes, write_marker, lambda node: (location, run, keys[node.id]))
    written = {
        node.label: Written(trouble=each.reason, was_tried=False)
        if isinstance(each, _Failure)
        else each
        for node, each in zip(nodes, answers, strict=True)
    }
    able = [node for node in nodes if written[node.label].succeeded]
    marked = [keys[node.id] for node in able]
    looks = _on_each(able, seen_markers, lambda node: (location, run, marked))
    seen = {
        node.label: [] if isinstance(each, _Failure) else [labels[key] for key in each]
        for node, each in zip(able, looks, strict=True)
    }
    _on_each(able, remove_marker, lambda node: (location, run, keys[node.id]))
    return check_storage(location, written, seen)


# ---- network ------------------------------------------------------------------------------------


def _examine_network(nodes: Sequence[_Node]) -> list[Finding]:
    """Have each host try to reach the others, at Ray's port and at a free one."""
    listening = [
        _task(answer, node, num_returns="streaming").remote(node.address) for node in nodes
    ]
    ports = {node.id: _next(each) for node, each in zip(nodes, listening, strict=True)}
    free = [
        Target(node.label, node.address, ports[node.id], answers=True)
        for node in nodes
        if isinstance(ports[node.id], int)
    ]
    targets = [*(Target(node.label, node.address, node.port) for node in nodes), *free]

    def others(node: _Node) -> tuple[list[Target]]:
        return ([each for each in targets if each.host != node.label],)

    attempts = _on_each(nodes, reach, others)
    opened = [node for node in nodes if isinstance(ports[node.id], int)]
    _on_each(opened, dismiss, lambda node: (node.address, ports[node.id]))
    findings, reached = [], {}
    for node, attempt in zip(nodes, attempts, strict=True):
        port = ports[node.id]
        if isinstance(port, _Failure):
            found = f"cannot listen on {node.address}: {port.reason}"
            advice = "start Ray with --node-ip-address=ADDRESS, an address that the host has"
            findings.append(Finding("ports", (node.label,), Severity.ERROR, found, advice))
        if isinstance(attempt, _Failure):
            found = f"not tried from there: {attempt.reason}"
            findings.append(Finding("ports", (node.label,), Severity.SKIPPED, found))
        else:
            reached[node.label] = attempt
    first = nodes[0].label
    return [*findings, *check_ports(reached), *check_clocks(first, reached.get(first, []))]


def _next(generator: Any, seconds: float = _SECONDS) -> Any:
    """Return the next value of a streaming task, or a `_Failure`."""
    ready, _ = ray.wait([generator], timeout=seconds)
    if not ready:
        return _silent(seconds)
    try:
        return _result(next(generator))
    except StopIteration:
        return _Failure("it ended early")


# ---- collectives --------------------------------------------------------------------------------


def _examine_collectives(nodes: Sequence[_Node], backend: str, *, closed: bool) -> list[Finding]:
    """Have a process on each host sum a number with the others, as workers sum gradients.

    Args:
        backend: `gloo`, or `nccl` for GPUs.
        closed: whether hosts do not reach each other.
    """
    # Imported here, as it needs torch: the command also runs where that is missing.
    from s2s.distributed.collective_check import open_and_reduce, reduce_with_others

    name = {"gloo": "gloo", "nccl": "NCCL"}[backend]
    labels = tuple(node.label for node in nodes)
    if closed:
        reason = "not tried, as hosts do not reach each other's ports"
        return [Finding(name, labels, Severity.SKIPPED, reason)]
    gpu = {"num_gpus": 1} if backend == "nccl" else {}
    seconds = _GPU_SECONDS if gpu else _SECONDS
    first, *others = nodes
    opened = _task(open_and_reduce, first, num_returns="streaming", **gpu).remote(
        first.address, len(nodes), backend
    )
    port = _next(opened, seconds)
    if isinstance(port, _Failure):
        if gpu and port.was_silent:
            return [Finding(name, labels, Severity.SKIPPED, _GPUS_IN_USE)]
        return [Finding(name, (first.label,), Severity.ERROR, port.reason, _ADVICE[backend])]
    tasks = [
        _task(reduce_with_others, node, **gpu).remote(
            node.address, rank, len(nodes), backend, (first.address, port)
        )
        for rank, node in enumerate(others, start=1)
    ]
    troubles = [*_ended(tasks, _SECONDS), _next(opened)]
    if gpu and any(isinstance(each, _Failure) and each.was_silent for each in troubles[:-1]):
        return [Finding(name, labels, Severity.SKIPPED, _GPUS_IN_USE)]
    faults = []
    for label, trouble in zip((*labels[1:], labels[0]), troubles, strict=True):
        reason = trouble.reason if isinstance(trouble, _Failure) else trouble
        if reason:
            faults.append(Finding(name, (label,), Severity.ERROR, reason, _ADVICE[backend]))
    if faults:
        return faults
    sizes = "a sum over all hosts" if len(nodes) > 1 else "a sum on one GPU"
    return [Finding(name, labels, Severity.OK, f"{sizes} is right")]


_GPUS_IN_USE = "not tried, as GPUs are in use"
_ADVICE = {
    "gloo": "open all TCP ports between the hosts, or name their network in GLOO_SOCKET_IFNAME "
    "before `ray start`",
    "nccl": "see NCCL_DEBUG=INFO; name the network in NCCL_SOCKET_IFNAME before `ray start`",
}
