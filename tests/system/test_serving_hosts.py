"""The service on three hosts: who is reached where, and what is lost when a part dies."""

import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.support.cluster import BIN, REPOSITORY, s2s
from tests.support.hosts import Host, HostCluster, hosts, ray_on, reason_for_none
from tests.support.load import Answered
from tests.support.recipe import exported

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(reason_for_none() is not None, reason=str(reason_for_none())),
]

TOKEN = "5" * 64
SECONDS = 240.0  # generous: the machine may be busy
SAID = "je vois les arbres."

# What HAProxy says of the servers of the application, by its admin socket.
_STATISTICS = """
import csv, json, socket
from pathlib import Path
admins = Path("/tmp/haproxy-serve").glob("*/admin.sock")
admin = max(admins, key=lambda path: path.stat().st_mtime)  # a head started again has two
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(str(admin))
    asked.sendall(b"show stat\\n")
    told = b"".join(iter(lambda: asked.recv(65536), b"")).decode()
rows = csv.DictReader(told.removeprefix("# ").splitlines())
print(json.dumps({row["svname"]: row["status"] for row in rows if row["pxname"] == "http-s2s"}))
"""


# Who listens on a host.
_LISTENING = """
import json, psutil
print(json.dumps([
    (process.name(), " ".join(process.cmdline()), *place.laddr)
    for process in psutil.process_iter()
    for place in process.net_connections("tcp")
    if place.status == psutil.CONN_LISTEN
]))
"""


@dataclass(frozen=True)
class Listener:
    """A row of the table in docs/network.md: a process and where it listens."""

    process: str
    address: str
    port: str


@dataclass
class Serving:
    """The service on a cluster of hosts."""

    cluster: HostCluster
    shared: Path  # the folder that all hosts see
    key: str
    _loads: int = field(default=0, init=False)

    def status(self, host: Host, path: str = "http://127.0.0.1:8000/health") -> int:
        """Return the status of an answer to a host, 0 if there is none."""
        done = host.run("curl", "--silent", "--max-time", 20, "--output", "/dev/null",
                        "--write-out", "%{http_code}", path)  # fmt: skip
        return int(done.out or 0)

    def answers(self, host: Host) -> bool:
        """Return whether the service answers on a host."""
        return self.status(host) == 200

    def replicas_seen(self, host: Host) -> dict[str, str]:
        """Return the state that HAProxy of a host gives each replica."""
        done = host.run(sys.executable, "-c", _STATISTICS)
        told = json.loads(done.out) if done.code == 0 else {}  # HAProxy may not have begun yet
        return {name: state for name, state in told.items() if name.startswith("SERVE_REPLICA")}

    def listeners(self, host: Host) -> dict[Listener, int]:
        """Return what listens on a host as the documentation puts it, each with its port."""
        found = {}
        done = host.run(sys.executable, "-c", _LISTENING)
        for name, command, ip, port in json.loads(done.out):
            found[listener(host, name, command, ip, port)] = port
        return found

    @contextmanager
    def load(self, host: Host) -> Iterator[list[Answered]]:
        """Ask the service on a host while this lasts; the answers are there when it has ended."""
        self._loads += 1
        ended = self.shared / f"ended-{self._loads}"
        process = host.start(
            sys.executable, "-m", "tests.support.load", "http://127.0.0.1:8000",
            "--key", self.key, "--until", ended,
        )  # fmt: skip
        answers: list[Answered] = []
        try:
            time.sleep(15)  # it has begun, and goes on for a while
            yield answers
        finally:
            ended.touch()
            out, _ = process.communicate(timeout=SECONDS)
        answers += [Answered(**each) for each in json.loads(out)]


@contextmanager
def served(folder: Path, model: Path, **environment: str) -> Iterator[Serving]:
    """Start Ray on three hosts as cluster/README.md says, and deploy cluster/serve.yaml.

    A fourth runs Redis, if RAY_REDIS_ADDRESS names it.
    """
    shared = folder / "shared"
    shared.mkdir()
    shutil.copytree(model, shared / "model")
    made = s2s("key", "alice", "--file", shared / "keys.tsv")
    config = yaml.safe_load((REPOSITORY / "cluster" / "serve.yaml").read_text("utf-8"))
    [application] = config["applications"]
    application["args"]["keys"] = str(shared / "keys.tsv")
    [deployment] = application["deployments"]
    deployment["user_config"]["models"] = [str(shared / "model")]
    # One on each host that has a CPU.
    del deployment["autoscaling_config"]
    deployment["num_replicas"] = 2
    (shared / "serve.yaml").write_text(yaml.safe_dump(config), "utf-8")
    given = {**exported(), "RAY_AUTH_TOKEN": TOKEN, **environment}
    with hosts(4, folder / "hosts", [shared]) as four:
        three, options = four[:3], []
        if address := given.get("RAY_REDIS_ADDRESS"):
            host, _, port = address.partition(":")
            four[3].daemon("redis.log", "redis-server", "--bind", host, "--port", port,
                           "--requirepass", TOKEN, "--save", "")  # fmt: skip
            options = [f"--redis-password={TOKEN}"]
        with ray_on(three, head_options=options, **given) as cluster:
            serving = Serving(cluster, shared, made.out.strip())
            deploy = (BIN / "serve", "deploy", shared / "serve.yaml", "--address")
            # On a busy machine Ray's dashboard gives up waiting for Serve's controller.
            wait_for(lambda: cluster.run(*deploy, cluster.dashboard).code == 0)
            for each in three:
                wait_for(lambda each=each: serving.answers(each))
                wait_for(lambda each=each: is_complete(serving.replicas_seen(each)))
            yield serving


_FIXED = {6379, 8000, 8265, 8404, 8500, 9101, 10001, 44217, 44227, 52365}


def listener(host: Host, name: str, command: str, ip: str, port: int) -> Listener:
    """Return a socket as the documentation puts it."""
    for script in ("dashboard.py", "monitor.py", "ray.util.client.server"):
        if re.search(rf"[/ ]{script} ", command):
            name = script
    name = re.sub(r"^(ray::\w+)\b.*", r"\1", name)
    ip = ip.removeprefix("::ffff:")
    if name.startswith("ray") and name != "raylet" and ip == "::":
        name = "ray::…"
    address = "cluster" if ip == host.address else ip
    if (name, port) == ("dashboard.py", 8265):
        address = "--dashboard-host"
    if (name, port, ip) == ("haproxy", 8000, "127.0.0.1"):
        address = "S2S_HAPROXY_HOST"
    between = "30000–31000" if 30_000 <= port <= 31_000 else "random"
    return Listener(name, address, str(port) if port in _FIXED else between)


def documented(*hosts: str) -> set[Listener]:
    """Return the rows of the table in docs/network.md for some kinds of host."""
    text = (REPOSITORY / "docs" / "network.md").read_text("utf-8")
    section = text.partition("\n## A service on several hosts\n")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| `(.+?)`.*? \| (.+?) \| (.+?) \| (.+?) \|", section)
    return {
        Listener(process, address, port)
        for process, host, addresses, ports in rows
        if host in hosts
        for address in addresses.replace("`", "").split(" and ")
        for port in ports.split(", ")
    }


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + SECONDS
    while not reached():
        assert time.monotonic() < end, f"not reached in {SECONDS:.0f} s"
        time.sleep(0.5)


def is_complete(replicas: dict[str, str]) -> bool:
    """Return whether two replicas are up."""
    return [*replicas.values()] == ["UP", "UP"]


@pytest.fixture
def serving(tmp_path: Path, model_dir: Path) -> Iterator[Serving]:
    with served(tmp_path, model_dir) as it:
        yield it


def test_every_host_answers_and_the_documentation_says_who_listens_where(serving: Serving) -> None:
    head, worker, other = serving.cluster.hosts
    for host in (head, worker, other):
        query = "q=I+see+trees.&source=en&target=fr"
        url = f"http://127.0.0.1:8000/translate?{query}"
        assert serving.status(host, f"{url}&api_key={serving.key}") == 200
        assert serving.status(host, url) == 403

    at_head, at_worker = serving.listeners(head), serving.listeners(worker)
    assert at_head.keys() == documented("head", "every")
    assert at_worker.keys() == documented("every", "with a replica")

    # Replicas are reached on the address of their node, and on no other one.
    [port] = [port for each, port in at_worker.items() if each.port == "30000–31000"][:1]
    worker.run("ip", "address", "add", "192.0.2.1/32", "dev", "eth0")
    assert serving.status(head, f"http://{worker.address}:{port}/-/healthz") == 200
    assert serving.status(worker, f"http://{worker.address}:{port}/-/healthz") == 200
    assert serving.status(worker, f"http://192.0.2.1:{port}/-/healthz") == 0

    # Without a token: metrics and health checks alone.
    metrics = Listener("ray::DashboardAgent", "0.0.0.0", "random")  # noqa: S104
    open_to_all = [
        f"http://{head.address}:{at_head[metrics]}/metrics",
        f"http://{worker.address}:{at_worker[metrics]}/metrics",
        f"http://{head.address}:44217/metrics",
        f"http://{head.address}:44227/metrics",
        f"http://{worker.address}:52365/api/local_raylet_healthz",
        f"http://{head.address}:8265/api/gcs_healthz",
        f"http://{head.address}:8265/",
        f"http://{worker.address}:{port}/health",
    ]
    assert {url: serving.status(other, url) for url in open_to_all} == dict.fromkeys(
        open_to_all, 200
    )
    assert serving.status(other, f"http://{head.address}:8265/api/jobs/") == 401
    assert serving.status(other, f"http://{worker.address}:52365/api/jobs/") == 401
    assert serving.status(other, f"http://{worker.address}:{port}/metrics") == 403


@pytest.mark.parametrize("lost", ["power", "cable"])
def test_a_worker_host_that_is_lost_loses_no_request(lost: str, serving: Serving) -> None:
    head, _, worker = serving.cluster.hosts
    with serving.load(head) as answers:
        at = time.time()
        if lost == "power":
            worker.kill()
        else:
            serving.cluster.hosts.cut(worker)
        wait_for(lambda: "DOWN" in serving.replicas_seen(head).values())
        down = time.time()
        time.sleep(30)
    print(f"{lost}: {told(answers, at)}; HAProxy has it as down after {down - at:.0f} s")
    assert Counter((each.status, each.said) for each in answers).keys() == {(200, SAID)}
    # Some were on their way when the host was lost, and others came long after.
    assert any(each.begun < at for each in answers)
    assert any(each.begun > down + 10 for each in answers)


def told(answers: list[Answered], at: float) -> str:
    """Return how many were answered how, and how long the slowest took around a moment."""
    statuses = dict(Counter(each.status for each in answers))
    slowest = max(each.seconds for each in answers if each.ended > at)
    return f"{statuses}, the slowest afterwards in {slowest:.1f} s"


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_head_that_is_started_again_finds_its_replicas_in_redis(
    tmp_path: Path, model_dir: Path
) -> None:
    redis = {"RAY_REDIS_ADDRESS": "10.77.0.4:6379", "RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
    with served(tmp_path, model_dir, **redis) as serving:
        head, worker, _ = serving.cluster.hosts
        before = serving.replicas_seen(worker)
        with serving.load(worker) as answers:
            head.crash()
            gone = time.time()
            time.sleep(75)  # longer than other hosts wait for a head by default
            started = time.time()
            serving.cluster.start_head()
            wait_for(lambda: serving.answers(head))
            back = time.time()
            time.sleep(20)
        print(f"{told(answers, gone)}; the head answers {back - started:.0f} s after its start")
        assert Counter((each.status, each.said) for each in answers).keys() == {(200, SAID)}
        for moment in (gone, started, back + 10):
            assert any(each.begun < moment < each.ended + 5 for each in answers)
        for host in (head, worker):
            wait_for(lambda host=host: is_complete(serving.replicas_seen(host)))
            assert serving.replicas_seen(host).keys() == before.keys()
        serving.cluster.wait_for(3)
