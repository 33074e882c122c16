"""The service on Ray Serve, as a cluster runs it: under load, while things die and change."""

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from s2s.decoding.translator import Translator
from s2s.distributed.local_serve import local_settings
from s2s.distributed.ports import LOOPBACK
from s2s.serving.engine.models import version
from tests.support.cluster import REPOSITORY, Cluster, s2s, start, start_head
from tests.support.corpora import Pairs
from tests.support.monitoring import asked, exported
from tests.support.ports import free_port
from tests.support.sockets import listening, reachable_by_others

SECONDS = 90.0  # for a deployment to become what it was told


@dataclass
class Service:
    """A cluster with Serve behind HAProxy, and the application's configuration."""

    cluster: Cluster
    port: int
    config: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(self, model: Path | None = None, replicas: int = 0, **arguments: Any) -> None:
        """Tell Serve what to run, as `serve deploy` does: what it was told before, and this."""
        [application] = self.config["applications"]
        application["args"].update(arguments)
        if model is not None:
            application["deployments"][0]["user_config"] = {"models": [str(model)]}
        if replicas:
            application["deployments"][0]["num_replicas"] = replicas
        url = f"{self.cluster.dashboard}/api/serve/applications/"
        httpx.put(url, json=self.config, timeout=30).raise_for_status()

    def replicas(self) -> dict[str, int]:
        """The process of each replica that runs."""
        url = f"{self.cluster.dashboard}/api/serve/applications/"
        told = httpx.get(url, timeout=30).json()["applications"].get("s2s", {})
        deployments = told.get("deployments", {})
        found = deployments.get("Translation", {}).get("replicas", [])
        return {r["replica_id"]: r["pid"] for r in found if r["state"] == "RUNNING"}

    def ask(self, text: str) -> httpx.Response:
        body = {"q": text, "source": "en", "target": "fr"}
        return httpx.post(f"{self.url}/translate", json=body, timeout=30)

    def wait(self, reached: Callable[[], bool]) -> None:
        wait_for(reached)


def wait_for(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            if reached():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not reached in {SECONDS:.0f} s")


@pytest.fixture(scope="module")
def other_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says other things."""
    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(model_dir, folder)
    weights = load_file(folder / "model.safetensors")
    weights["decoder.output.bias"] += torch.linspace(-3, 3, len(weights["decoder.output.bias"]))
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def service(model_dir: Path) -> Iterator[Service]:
    """Two replicas of a model on a cluster of its own."""
    with tempfile.TemporaryDirectory(prefix="s2s-ray-", ignore_cleanup_errors=True) as folder:
        proxy = Path(folder) / "proxy"
        proxy.mkdir()
        settings = local_settings(proxy) | LOOPBACK | {"PYTHONPATH": str(REPOSITORY)}
        if "RAY_SERVE_ENABLE_HA_PROXY" not in settings:
            pytest.skip("Ray's HAProxy is for Linux alone")
        cluster, head = start_head(Path(folder), 4, **settings)
        port = free_port()
        config = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": port, "request_timeout_s": 60},
            "logging_config": {"log_level": "WARNING", "enable_access_log": False},
            "applications": [
                {
                    "name": "s2s",
                    "route_prefix": "/",
                    "import_path": "serve_app:build",
                    "args": {"open": True},
                    "deployments": [
                        {
                            "name": "Translation",
                            "num_replicas": 2,
                            "max_surge_percent": 100,
                            "graceful_shutdown_timeout_s": 10,
                            "ray_actor_options": {"num_cpus": 0.5},
                        }
                    ],
                }
            ],
        }
        service = Service(cluster, port, config)
        try:
            service.deploy(model_dir)
            wait_for(lambda: service.ask("I see trees.").status_code == 200)
            wait_for(lambda: len(service.replicas()) == 2)
            yield service
        finally:
            head.stop()
            for process in psutil.process_iter(["cmdline"]):  # HAProxy outlives a killed head
                if any(str(proxy) in word for word in process.info["cmdline"] or []):
                    process.kill()


@dataclass
class Load:
    """What the answers to a steady load were."""

    answers: list[tuple[str, int, str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    sent_again: int = 0

    @property
    def statuses(self) -> Counter[int]:
        return Counter(status for _, status, _, _ in self.answers)


def model_of(replica: psutil.Process) -> psutil.Process:
    """The process that a replica's model runs in."""
    [model] = [p for p in replica.children() if "s2s.serving.engine.process" in p.cmdline()]
    return model


@contextmanager
def load(service: Service, texts: list[str], callers: int = 6) -> Iterator[Load]:
    """Callers that ask one question after the other while this lasts."""
    told, ended = Load(), threading.Event()

    def call(number: int) -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            for text in itertools.islice(itertools.cycle(texts), number, None):
                if ended.is_set():
                    return
                body = {"q": text, "source": "en", "target": "fr"}
                try:
                    try:
                        answer = client.post(f"{service.url}/translate", json=body)
                    except httpx.RemoteProtocolError:
                        # A proxy that is started anew may close a connection which has been used
                        # before just as a request comes. Browsers send it again by themselves.
                        told.sent_again += 1
                        answer = httpx.post(f"{service.url}/translate", json=body, timeout=60)
                except httpx.HTTPError as error:
                    told.errors.append(repr(error))
                    continue
                label = answer.headers.get("x-s2s-model", "")
                said = answer.json().get("translatedText", answer.text)
                told.answers.append((text, answer.status_code, said, label))
                ended.wait(0.02)  # what is tested needs the CPUs, too

    threads = [threading.Thread(target=call, args=(n,)) for n in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def check(told: Load, *models: Path) -> None:
    """Every request was answered, by what one of these models says, and none failed."""
    assert told.errors == []
    assert told.sent_again <= 0.01 * len(told.answers)
    assert set(told.statuses) == {200}
    texts = sorted({text for text, *_ in told.answers})
    wanted = {
        version(path): dict(zip(texts, Translator.load(path).translate(texts), strict=True))
        for path in models
    }
    for text, _, said, label in told.answers:
        assert said == wanted[label.split("@")[1]][text]


@pytest.fixture(scope="module")
def texts(pairs: Pairs) -> list[str]:
    return [source for source, _ in pairs]


@pytest.mark.parametrize("killed", ["replica", pytest.param("its model", marks=pytest.mark.slow)])
def test_a_replica_that_is_killed_loses_no_request(
    killed: str, service: Service, texts: list[str], model_dir: Path
) -> None:
    with load(service, texts) as told:
        time.sleep(1)
        before = service.replicas()
        replica = psutil.Process(next(iter(before.values())))
        (replica if killed == "replica" else model_of(replica)).kill()
        wait_for(lambda: len(service.replicas()) == 2 and service.replicas() != before)
        time.sleep(1)
    check(told, model_dir)
    assert len(told.answers) > 100


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_models_are_exchanged_without_a_failed_request(
    times: int, service: Service, texts: list[str], model_dir: Path, other_dir: Path
) -> None:
    wait_for(lambda: len(service.replicas()) == 2)  # one may still be on its way
    before = service.replicas()
    with load(service, texts) as told:
        for models in [other_dir, model_dir] * (times // 2):
            service.deploy(models)
            wanted = version(models)
            # Both replicas, whichever is asked.
            wait_for(
                lambda wanted=wanted: all(
                    wanted in service.ask("I see trees.").headers["x-s2s-model"] for _ in range(6)
                )
            )
    check(told, model_dir, other_dir)
    assert len({label for *_, label in told.answers}) == 2
    assert service.replicas() == before  # the same processes all the time


def test_a_broken_model_is_not_exchanged_for(
    service: Service, texts: list[str], model_dir: Path, tmp_path: Path
) -> None:
    with load(service, texts) as told:
        service.deploy(tmp_path / "none")
        wait_for(
            lambda: all(
                "none" in (httpx.get(f"{service.url}/v1/models").json()["failure"] or "")
                for _ in range(6)
            )
        )
        service.deploy(model_dir)
    check(told, model_dir)


@pytest.mark.slow
def test_new_code_is_deployed_without_a_failed_request(
    service: Service, texts: list[str], model_dir: Path
) -> None:
    before = set(service.replicas().values())
    with load(service, texts) as told:
        service.deploy(slots=17)  # an argument that makes new replicas, as new code does
        wait_for(lambda: len(now := service.replicas()) == 2 and not before & set(now.values()))
        time.sleep(1)
    check(told, model_dir)


@pytest.mark.slow
def test_replicas_come_and_go_without_a_failed_request(
    service: Service, texts: list[str], model_dir: Path
) -> None:
    with load(service, texts) as told:
        for replicas in (1, 3, 1, 2):
            service.deploy(replicas=replicas)
            wait_for(lambda replicas=replicas: len(service.replicas()) == replicas)
            time.sleep(2)
    check(told, model_dir)


@pytest.mark.slow
def test_replicas_follow_sentences_and_not_requests(service: Service, texts: list[str]) -> None:
    sentences: Any = list(itertools.islice(itertools.cycle(texts), 256))
    [deployment] = service.config["applications"][0]["deployments"]
    number = deployment.pop("num_replicas")
    scaling: dict[str, Any] = {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 32,
        "look_back_period_s": 12,
        "upscale_delay_s": 1,
        "downscale_delay_s": 1,
    }
    deployment["autoscaling_config"] = scaling
    try:
        with load(service, [sentences], callers=3) as told:
            service.deploy()
            wait_for(lambda: len(service.replicas()) == 1)  # enough for three requests
            time.sleep(15)  # a whole time to look back
            assert len(service.replicas()) == 1
            scaling["policy"] = {"policy_function": "s2s.distributed.autoscaling:by_sentences"}
            service.deploy()
            wait_for(lambda: len(service.replicas()) == 2)  # for their 768 sentences
        assert told.errors == []
        assert set(told.statuses) == {200}
    finally:
        del deployment["autoscaling_config"]
        service.deploy(replicas=number)
        wait_for(lambda: len(service.replicas()) == number)


def test_a_client_that_stalls_holds_up_nobody(
    service: Service, texts: list[str], model_dir: Path
) -> None:
    """Some send half a request and say no more; others leave before the answer."""
    stalled = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.sendall(b"POST /translate HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{")
        stalled.append(connection)
    with load(service, texts) as told:
        for text in texts[:20]:
            body = json.dumps({"q": text, "source": "en", "target": "fr"}).encode()
            request = b"POST /translate HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s"
            with socket.create_connection(("127.0.0.1", service.port)) as leaver:
                leaver.sendall(request % (len(body), body))
        time.sleep(1)
    for connection in stalled:
        connection.close()
    check(told, model_dir)


@pytest.mark.slow
def test_what_is_too_much_is_refused_at_once_and_nothing_breaks(
    service: Service, texts: list[str], model_dir: Path
) -> None:
    """More at one moment than two replicas take, and than may wait for them."""
    body = json.dumps({"q": " ".join(texts[:8]), "source": "en", "target": "fr"}).encode()
    request = b"POST /translate HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
    request += b"content-length: %d\r\n\r\n%s" % (len(body), body)

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer

    async def ask_all() -> list[bytes]:
        return await asyncio.gather(*(ask() for _ in range(3000)))

    answers = asyncio.run(ask_all())
    statuses = Counter(answer.split(b" ", 2)[1] for answer in answers)
    assert set(statuses) == {b"200", b"429"}, statuses
    assert statuses[b"200"] > 500
    refused = next(answer for answer in answers if b" 429 " in answer[:20])
    assert b"retry-after: 1" in refused.lower()
    assert json.loads(refused.partition(b"\r\n\r\n")[2]) == {
        "error": "too many requests are waiting"
    }
    with load(service, texts) as told:  # and soon all is as before
        time.sleep(2)
    check(told, model_dir)


def test_what_a_replica_counts_reaches_prometheus(service: Service) -> None:
    assert service.ask("I see trees.").status_code == 200
    # Ray exports a counter from its first event on.
    rare = {f"ray_s2s_serve_{name}_total" for name in ("dropped", "refused", "unknown_words")}

    def told() -> bool:
        text = httpx.get(service.cluster.metrics, timeout=10).text
        return exported(text) >= asked("ray_") - asked("ray_s2s_train_|ray_s2s_valid_") - rare

    wait_for(told)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_stays_flat_for_ten_minutes(
    service: Service, texts: list[str], model_dir: Path
) -> None:
    replicas = [psutil.Process(pid) for pid in service.replicas().values()]
    processes = [*replicas, *map(model_of, replicas)]

    def memory() -> int:
        return sum(process.memory_full_info().uss for process in processes)

    with load(service, texts) as told:
        time.sleep(120)
        begun = memory()
        time.sleep(480)
        ended = memory()
    check(told, model_dir)
    print(f"{len(told.answers)} answers, {begun / 1e6:.1f} to {ended / 1e6:.1f} MB")
    assert ended < begun * 1.03


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are listed on Linux")
def test_for_others_haproxy_alone_listens_and_answers_while_models_load(model_dir: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    port = free_port()
    server = start("serve", model_dir, "--host", "::", "--open", "--port", port, env=env)
    assert server.stdout is not None
    told: list[str] = []
    reading = threading.Thread(target=lambda: told.extend(server.stdout or ()), daemon=True)
    reading.start()
    answers: list[httpx.Response] = []
    try:

        def answers_well() -> bool:
            answers.append(httpx.get(f"http://[::1]:{port}/health"))
            return answers[-1].status_code == 200

        wait_for(answers_well)
        assert {answer.status_code for answer in answers} <= {200, 503}
        for answer in answers[:-1]:
            assert answer.json() == {"error": "no replica is ready; try again"}
            assert answer.headers["retry-after"] == "1"
        wait_for(
            lambda: any(
                f" on http://[::1]:{port} and from other machines," in line for line in told
            )
        )
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 403  # without keys
        outside = reachable_by_others(listening(server.pid))
        assert {(each.process, each.ip) for each in outside} == {("haproxy", "::")}
        bad = {"x-request-id": "<script>alert(1)</script>"}
        response = httpx.get(f"http://127.0.0.1:{port}/health", headers=bad)
        assert "script" not in response.headers["x-request-id"]
        assert len(response.headers.get_list("x-request-id")) == 1
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are listed on Linux")
def test_a_laptop_listens_on_loopback_alone(model_dir: Path, tmp_path: Path) -> None:
    """Ray's own ports, replicas, HAProxy and metrics included; and what its operator sees."""
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    port = free_port()
    log = tmp_path / "access.log"
    server = start("serve", model_dir, "--port", port, "--access-log", log, env=env)
    assert server.stdout is not None
    try:
        lines = iter(server.stdout)
        assert next(lines) == f"loading en-fr ({model_dir.name})\n"
        address = f"http://127.0.0.1:{port}"
        ready = f"serving en-fr ({model_dir.name}) on {address}, no keys needed, a page for people"
        assert any(ready in line for line in lines)
        found = listening(server.pid)
        names = " ".join(socket.process for socket in found)
        assert "haproxy" in names
        assert "ServeReplica" in names or "ray::" in names
        assert reachable_by_others(found) == set()
        page = httpx.get(f"{address}/")
        assert "text/html" in page.headers["content-type"]
        body = {"q": "I see trees.", "source": "en", "target": "fr"}
        assert httpx.post(f"{address}/translate", json=body).status_code == 200
        wait_for(lambda: "127.0.0.1 - POST /translate 200 " in log.read_text())
        # Ray exports what replicas count every few seconds.
        wait_for(lambda: has_counted_a_sentence(httpx.get(f"{address}/metrics")))
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    assert code == 0


def has_counted_a_sentence(metrics: httpx.Response) -> bool:
    assert metrics.status_code == 200
    lines = metrics.text.splitlines()
    assert all("s2s_serve_" in line for line in lines)
    comments = [line for line in lines if line.startswith("#")]
    assert len(set(comments)) == len(comments)
    return any(re.match(r"s2s_serve_sentences_total\{.*\} 1\.0", line) for line in lines)


def test_to_be_reached_by_others_needs_keys_or_a_word(model_dir: Path) -> None:
    done = s2s("serve", model_dir, "--host", "0.0.0.0")  # noqa: S104
    assert done.code == 2
    assert "--keys" in done.err
    assert "--open" in done.err
