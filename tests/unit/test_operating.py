"""What an operator sees of a service: its access log and its metrics."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from s2s.errors import BadInput
from s2s.serving.engine.models import Models
from s2s.serving.http.access_log import AccessLog
from s2s.serving.metrics import PrometheusMetrics, Publisher
from tests.support.monitoring import asked, exported
from tests.support.serving import client_of, keys_of, models_of, until

BODY = {"q": "I see trees.", "source": "en", "target": "fr"}
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?P<client>\S+) (?P<key>\S+) (?P<method>[A-Z]+) "
    r"(?P<path>\S+) (?P<status>\d{3}|-) \d+\.\d (?P<sentences>\d+)"
)


# ---- the access log ------------------------------------------------------------------------------


def logged(path: Path, lines: int) -> list[tuple[str, ...]]:
    """The last lines of a log: client, key, method, path, status and sentences."""
    until(lambda: len(path.read_text("ascii").splitlines()) >= lines)
    found = [LINE.fullmatch(line) for line in path.read_text("ascii").splitlines()[-lines:]]
    assert all(found)
    return [line.groups() for line in found if line]


WANTED = [
    ("127.0.0.1", "ann", "POST", "/translate", "200", "2"),
    ("127.0.0.1", "ann", "POST", "/translate", "200", "1"),
    ("127.0.0.1", "ann", "GET", "/translate", "200", "1"),
    ("127.0.0.1", "ann", "POST", "/translate", "200", "1"),
    ("127.0.0.1", "ann", "POST", "/v1/translate", "200", "3"),
    ("127.0.0.1", "ann", "POST", "/v1/translate/stream", "200", "1"),
    ("127.0.0.1", "-", "POST", "/translate", "403", "0"),
    ("127.0.0.1", "-", "POST", "/translate", "403", "0"),
    ("127.0.0.1", "-", "GET", "other", "404", "0"),
    ("127.0.0.1", "-", "GET", "/health", "200", "0"),
    ("127.0.0.1", "-", "POST", "/translate", "400", "0"),
]


def test_each_request_is_a_line_without_texts_and_keys(models: Models, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    keys, told = keys_of(tmp_path, ann=600)
    secret = {"authorization": f"Bearer {told['ann']}"}
    with client_of(models, keys=keys, access_log=AccessLog(path)) as client:
        client.post("/translate", json={**BODY, "q": ["I see trees.", "you want bread?"]},
                    headers=secret)  # fmt: skip
        client.post("/translate/", json={**BODY, "api_key": told["ann"]})
        client.get("/translate", params={**BODY, "api_key": told["ann"]})
        packed = gzip.compress(json.dumps(BODY).encode())
        headers = {**secret, "content-encoding": "gzip", "content-type": "application/json"}
        client.post("/translate", content=packed, headers=headers)
        client.post("/v1/translate", json={**BODY, "beam": 3}, headers=secret)
        client.post("/v1/translate/stream", json=BODY, headers=secret)
        client.post("/translate", json=BODY)
        client.post("/translate", json=BODY, headers={"authorization": "Bearer wrong"})
        client.get("/I%20see%20trees.%0AForged")
        client.get("/health")
        client.post("/translate", content=b"{", headers={**secret, "content-type": "text/json"})
    # A line may follow that of the next request, as a stream ends after its last piece is read.
    assert sorted(logged(path, 11)) == sorted(WANTED)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_that_was_moved_away_is_made_again(models: Models, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with client_of(models, access_log=AccessLog(path)) as client:
        client.get("/health")
        logged(path, 1)
        path.rename(tmp_path / "access.log.1")
        client.get("/languages")
        until(path.exists)
        assert logged(path, 1)[0][3] == "/languages"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("forwarded", "peer", "behind_proxy", "client"),
    [
        ([b"192.0.2.7"], "127.0.0.1", False, "192.0.2.7"),  # a proxy on this host is believed
        ([b"192.0.2.7, 2001:DB8::1"], "::1", False, "2001:db8::1"),  # the last one is its own word
        ([b"192.0.2.7", b"192.0.2.8"], "127.0.0.1", False, "192.0.2.8"),
        ([b"somebody else"], "127.0.0.1", False, "127.0.0.1"),
        ([b"192.0.2.7\tann POST"], "127.0.0.1", False, "127.0.0.1"),
        ([b"192.0.2.9"], "192.0.2.1", False, "192.0.2.1"),
        ([b"192.0.2.9"], "192.0.2.1", True, "192.0.2.9"),
        ([], "192.0.2.1", True, "192.0.2.1"),
    ],
)
def test_a_client_is_named_by_the_proxy_that_is_believed(
    forwarded: list[bytes], peer: str, behind_proxy: bool, client: str, tmp_path: Path
) -> None:
    headers = [(b"x-forwarded-for", each) for each in forwarded]
    scope = {"client": (peer, 9), "headers": headers, "method": "GET"}
    AccessLog(tmp_path / "log", behind_proxy).write(scope, "/health", 200, 0.0)
    assert logged(tmp_path / "log", 1)[0][0] == client


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Is a directory"):
        AccessLog(tmp_path)


# ---- /metrics ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counted(model_dir: Path) -> Iterator[tuple[Models, PrometheusMetrics, Publisher]]:
    """Models whose counts nobody else takes."""
    with models_of(model_dir) as models:
        metrics = PrometheusMetrics()
        publisher = Publisher(models, metrics, 0.01)
        yield models, metrics, publisher
        publisher.close()


def test_metrics_have_what_was_counted(
    counted: tuple[Models, PrometheusMetrics, Publisher],
) -> None:
    models, metrics, publisher = counted

    def read() -> str:
        publisher.publish()
        return metrics.text()

    with client_of(models, metrics=read, open_metrics=True) as client:
        for _ in range(2):
            assert client.post("/translate", json=BODY).status_code == 200
        until(lambda: "\ns2s_serve_sentences_total 2.0\n" in client.get("/metrics").text)
        response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    assert 's2s_serve_requests_total{path="/translate",status="200"} 2.0' in lines
    assert 's2s_serve_queue_seconds_bucket{le="30.0"} 2.0' in lines
    [model] = models.all
    assert (
        f's2s_serve_model_info{{model="model",source="en",target="fr",version="{model.version}"}}'
        " 1.0"
    ) in lines
    assert "_created" not in response.text
    # As Prometheus of cluster/compose.yaml renames them, and as nodes of Ray call them.
    assert len(asked("ray_s2s_serve_")) > 10
    assert asked("ray_s2s_serve_") <= {f"ray_{name}" for name in exported(response.text)}


def test_a_model_that_is_served_no_longer_is_0(
    counted: tuple[Models, PrometheusMetrics, Publisher],
) -> None:
    _, metrics, publisher = counted
    label = ("gone", "0", "en", "de")
    publisher._published.add(label)
    publisher.publish()
    assert 'model="gone",source="en",target="de",version="0"} 0.0' in metrics.text()


def status(client: httpx.Client, **headers: str) -> int:
    return client.get("/metrics", headers=headers).status_code


def test_metrics_are_told_to_who_has_a_key(models: Models, tmp_path: Path) -> None:
    keys, told = keys_of(tmp_path, ann=1)
    bearer = f"Bearer {told['ann']}"
    for is_open in (False, True):
        with client_of(models, keys=keys, metrics=lambda: "", open_metrics=is_open) as client:
            assert status(client) == 403
            assert status(client, authorization="Bearer no") == 403
            assert [status(client, authorization=bearer) for _ in range(3)] == [200] * 3
            assert client.get("/metrics", params={"api_key": told["ann"]}).status_code == 200


def test_a_service_without_keys_tells_its_metrics_on_loopback_alone(models: Models) -> None:
    with client_of(models, metrics=lambda: "", open_metrics=True) as client:
        assert status(client) == 200
    with client_of(models, metrics=lambda: "") as client:  # as with `--open --host 0.0.0.0`
        response = client.get("/metrics")
        assert response.status_code == 403
        assert "no keys" in response.json()["error"]
    with client_of(models) as client:
        assert status(client) == 404
