"""Several hosts on one machine, made of Linux namespaces, for tests of real clusters.

Each host has a network card, a table of processes, a name, `/etc/hosts`, `/tmp`, `/dev/shm` and a
home of its own. A switch, in a further namespace, joins the cards; nothing of it touches the
machine's own network. Hosts share the repository, the virtual environment and the folders that a
test names.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from tests.support.cluster import BIN, REPOSITORY, Done

# Settings of Ray's head in the recipes of `cluster/`: it gives up a host that has not answered for
# half a minute.
HEALTH_CHECKS = {
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
}

_TOOLS = ("ip", "mount", "nsenter", "setpriv", "unshare")
_NETWORK = "10.77.0"

# What a host runs before its processes: it holds the namespaces as long as it lives.
_INIT = """
set -e
hostname {name}
mount --bind {folder}/hosts /etc/hosts
mount -t tmpfs -o size=2g tmpfs /dev/shm
for shared in {shared}; do
    mkdir -p {folder}/tmp"${{shared#/tmp}}"
    mount --bind "$shared" {folder}/tmp"${{shared#/tmp}}"
done
mount --rbind {folder}/tmp /tmp
ip link set lo up
echo ready
# As the first process it also reaps those whose parents have ended, as every system does.
while true; do sleep 3600 & wait "$!" || true; done
"""


def reason_for_none() -> str | None:
    """Why this machine can hold no hosts, or None if it can."""
    if sys.platform != "linux":
        return "network namespaces are a part of Linux"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} of iproute2 and util-linux is not installed"
    made = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "ip", "link", "add", "br0",
         "type", "bridge"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"network namespaces need root: {made.stderr.strip()}" if made.returncode else None


@dataclass
class Host:
    """A host, and the commands that run on it."""

    name: str
    address: str
    folder: Path = field(repr=False)  # its /tmp, home and logs
    pid: int = field(repr=False)  # of the process that holds its namespaces

    def command(self, *arguments: object, **environment: str) -> list[str]:
        """Return the command line that runs a command on this host, with a bare environment."""
        variables = {
            "HOME": "/tmp/home",
            "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "180",  # a busy machine starts many hosts at once
            **environment,
        }
        return [
            "nsenter", "--target", str(self.pid), "--net", "--mount", "--uts", "--pid",
            f"--wdns={REPOSITORY}", "env", "--ignore-environment",
            *(f"{name}={value}" for name, value in variables.items()),
            *map(str, arguments),
        ]  # fmt: skip

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Start a command; its output is one stream."""
        return subprocess.Popen(
            self.command(*arguments, **environment),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *arguments: object, timeout: float = 240, **environment: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            self.command(*arguments, **environment),
            capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def daemon(self, log: str, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command whose output goes to a log in the host's folder."""
        with (self.folder / log).open("wb") as file:
            return subprocess.Popen(
                self.command(*arguments, **environment), stdout=file, stderr=subprocess.STDOUT
            )

    def log(self, name: str) -> str:
        """Return what a log has so far."""
        return (self.folder / name).read_text("utf-8", errors="replace")

    def kill(self) -> None:
        """End everything on this host at once, as a power cut does."""
        os.kill(self.pid, 9)  # the kernel ends the rest of the namespace

    def crash(self) -> None:
        """End every process on this host at once; the host itself stays."""
        space = Path(f"/proc/{self.pid}/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                if int(process.name) != self.pid and (process / "ns/pid").readlink() == space:
                    os.kill(int(process.name), 9)


@dataclass
class Hosts(Sequence[Host]):
    """Hosts on one switch."""

    _hosts: list[Host]
    _switch: int  # the process that holds its namespace

    @overload
    def __getitem__(self, index: int) -> Host: ...
    @overload
    def __getitem__(self, index: slice) -> "Hosts": ...
    def __getitem__(self, index: int | slice) -> "Host | Hosts":
        if isinstance(index, slice):
            return Hosts(self._hosts[index], self._switch)
        return self._hosts[index]

    def __len__(self) -> int:
        return len(self._hosts)

    def cut(self, host: Host) -> None:
        """Take the cable of a host out."""
        _ip(self._switch, "link", "set", host.name, "down")

    def join(self, host: Host) -> None:
        """Put the cable of a host in again."""
        _ip(self._switch, "link", "set", host.name, "up")


@contextmanager
def hosts(
    count: int, folder: Path, shared: Sequence[Path] = (), *, debian: bool = True
) -> Iterator[Hosts]:
    """Make hosts `h1`, `h2` … at 10.77.0.1 and up, and end them and all that runs on them.

    Args:
        folder: for what each host has for itself.
        shared: folders that all hosts see.
        debian: let the hosts' names lead to 127.0.1.1, as Debian and Ubuntu do.
    """
    needed = [REPOSITORY, Path(sys.prefix), *shared]
    if data := os.environ.get("S2S_DATA"):
        needed.append(Path(data))
    common = [path for path in needed if path.is_relative_to("/tmp")]
    with ExitStack() as stack:
        switch = stack.enter_context(_held(["unshare", "--net"], "echo ready; exec sleep infinity"))
        _ip(switch, "link", "add", "br0", "type", "bridge")
        _ip(switch, "link", "set", "br0", "up")
        made = []
        for number in range(1, count + 1):
            name, address = f"h{number}", f"{_NETWORK}.{number}"
            own = folder / name
            (own / "tmp/home").mkdir(parents=True)
            line = f"127.0.1.1 {name}" if debian else f"{address} {name}"
            (own / "hosts").write_text(f"127.0.0.1 localhost\n{line}\n", "utf-8")
            init = _INIT.format(name=name, folder=own, shared=shlex.join(map(str, common)))
            spaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc"]
            pid = stack.enter_context(
                _held(["unshare", *spaces, "--propagation", "private", "--kill-child"], init)
            )
            _ip(switch, "link", "add", name, "type", "veth", "peer", "eth0", "netns", str(pid))
            _ip(switch, "link", "set", name, "master", "br0", "up")
            _ip(pid, "address", "add", f"{address}/24", "dev", "eth0")
            _ip(pid, "link", "set", "eth0", "up")
            made.append(Host(name, address, own, pid))
        yield Hosts(made, switch)


@contextmanager
def _held(unshare: list[str], init: str) -> Iterator[int]:
    """Start a process that holds new namespaces, and end it; yields its pid."""
    # It ends with this process, however that ends.
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *unshare, "bash", "-c", init],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    said = holder.stdout.readline()
    if said != "ready\n":
        raise RuntimeError(f"no host: {said}{holder.stdout.read()}")
    try:
        yield _inner(holder.pid) if "--fork" in unshare else holder.pid
    finally:
        holder.kill()
        holder.wait()


def _inner(pid: int) -> int:
    """Return the only child of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8"))


def _ip(pid: int, *arguments: str) -> None:
    subprocess.run(["nsenter", "--target", str(pid), "--net", "ip", *arguments], check=True)


@dataclass
class HostCluster:
    """A Ray cluster on hosts: the first is the head and has no CPUs."""

    hosts: Hosts
    environment: Mapping[str, str]  # of every Ray process and command
    address: str
    dashboard: str
    head_options: Sequence[str] = ()  # of `ray start --head`

    @property
    def head(self) -> Host:
        """The host of the head node, where commands run."""
        return self.hosts[0]

    def run(self, *arguments: object, timeout: float = 240, **environment: str) -> Done:
        """Run a command on the head to its end."""
        given = {**self.environment, "RAY_ADDRESS": self.address, **environment}
        return self.head.run(*arguments, timeout=timeout, **given)

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Start a command on the head."""
        given = {**self.environment, "RAY_ADDRESS": self.address, **environment}
        return self.head.start(*arguments, **given)

    def start_head(self) -> None:
        """Start the head node."""
        self._start(self.head, 0, "--head", "--port=6379",
                    f"--dashboard-host={self.head.address}", *self.head_options)  # fmt: skip

    def add(self, host: Host, cpus: int = 1) -> None:
        """Start a worker node on a host, and return when the cluster has it."""
        before = self.alive()
        self._start(host, cpus, f"--address={self.address}")
        self.wait_for(before + 1)

    def _start(self, host: Host, cpus: int, *options: str) -> None:
        """Start Ray on a host; again if that took longer than Ray's 30 s, on a busy machine."""
        for _ in range(4):
            process = host.daemon("ray.log", *_ray_start(host, cpus), *options, **self.environment)
            while process.poll() is None:
                if "Ray runtime started" in host.log("ray.log"):
                    return
                time.sleep(0.5)
            host.crash()  # what it has left
        raise AssertionError(host.log("ray.log"))

    def alive(self) -> int:
        """Return how many nodes the cluster counts as alive."""
        code = (
            "import ray; ray.init(log_to_driver=False, logging_level='ERROR'); "
            "print('alive:', sum(node['Alive'] for node in ray.nodes()))"
        )
        done = self.run(sys.executable, "-c", code)
        # Ray may print there, too, that a host has gone.
        found = re.search(r"^alive: (\d+)$", done.out, re.MULTILINE)
        return int(found[1]) if found else 0

    def wait_for(self, nodes: int, seconds: float = 600) -> None:
        """Return when so many nodes are alive."""
        end = time.monotonic() + seconds
        while (found := self.alive()) != nodes:
            assert time.monotonic() < end, f"{found} nodes instead of {nodes}"
            time.sleep(1)


@contextmanager
def ray_on(
    hosts: Hosts, cpus: int = 1, head_options: Sequence[str] = (), **environment: str
) -> Iterator[HostCluster]:
    """Start Ray on all hosts, the first being the head without CPUs.

    Args:
        cpus: of each other host.
        head_options: further options of `ray start --head`.
        environment: of every process of the cluster, and of commands; with RAY_AUTH_MODE=token, for
            instance, all hosts have the same token.
    """
    head = hosts[0]
    given = {"RAY_AUTH_MODE": "disabled", **HEALTH_CHECKS, **environment}
    cluster = HostCluster(
        hosts, given, f"{head.address}:6379", f"http://{head.address}:8265", head_options
    )
    cluster.start_head()
    cluster.wait_for(1)
    for host in hosts[1:]:
        cluster.add(host, cpus)
    yield cluster  # Ray ends with its hosts


def _ray_start(host: Host, cpus: int) -> list[object]:
    return [
        BIN / "ray", "start", "--block", f"--node-ip-address={host.address}",
        f"--num-cpus={cpus}", "--object-store-memory=200000000",
    ]  # fmt: skip
