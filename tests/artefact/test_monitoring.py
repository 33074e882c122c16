"""The alerts, the dashboards, and what shows them on one host.

tests/unit/test_operating.py compares the names of metrics with a service's own.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from s2s.corpus import Corpus
from tests.support.cluster import s2s
from tests.support.manifests import CLUSTER, parse, read
from tests.support.monitoring import ALERTS, BOARDS, asked

MONITORING = CLUSTER / "monitoring"
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool, of the package prometheus, is not installed"
)


def rules() -> dict[str, dict[str, Any]]:
    [file] = parse(ALERTS.read_text())
    return {rule["alert"]: rule for group in file["groups"] for rule in group["rules"]}


# ---- metrics -------------------------------------------------------------------------------------


def test_a_training_has_the_metrics_that_are_asked_for(corpus: Corpus, tmp_path: Path) -> None:
    done = s2s(
        "train", "demo", "--corpus", corpus.path, "--out", tmp_path / "model", "--bleu-every", 1,
        "--train.epochs", 1, "--train.log-steps", 5, "--train.batch-size", 16,
        "--train.clip-norm", 1,
        "--model.hidden-size", 8, "--model.embedding-size", 8, "--decode.max-length", 5,
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = (tmp_path / "model.run" / "metrics.jsonl").read_text().splitlines()
    values = {name for line in lines for name in json.loads(line) if "/" in name}
    names = {"ray_s2s_" + name.replace("/", "_") for name in values}
    # What `TrainMetrics` adds; tests/system/test_train.py compares all of them with a run on Ray.
    names |= {"ray_s2s_train_steps_total", "ray_s2s_train_step_seconds_histogram_bucket"}
    training = asked("ray_s2s_") - asked("ray_s2s_serve_")
    assert len(training) > 10
    assert training <= names


# ---- alerts --------------------------------------------------------------------------------------

WELL = {
    'ray_s2s_serve_model_info{model="a",version="1",instance="x"}': "1x120",
    'ray_s2s_serve_model_info{model="a",version="1",instance="y"}': "1x120",
    'ray_s2s_serve_requests_total{status="200"}': "0+600x120",
    'ray_s2s_serve_requests_total{status="500"}': "0+1x120",
    "ray_s2s_serve_refused_total": "0+1x120",
    'ray_s2s_serve_request_seconds_bucket{le="1"}': "0+600x120",
    'ray_s2s_serve_request_seconds_bucket{le="5"}': "0+600x120",
    'ray_s2s_serve_request_seconds_bucket{le="+Inf"}': "0+600x120",
    "ray_s2s_serve_words_total": "0+6000x120",
    "ray_s2s_serve_unknown_words_total": "0+60x120",
    'ray_s2s_train_steps_total{run="model.run"}': "0+300x120",
    'ray_s2s_train_loss{run="model.run"}': "1x120",
    'ray_s2s_train_steps_total{run="ended.run"}': "0+300x20 6000x100",
    'ray_s2s_train_loss{run="ended.run"}': "1x20 stale",
    'ray_s2s_train_data_wait_share{run="model.run"}': "0.01x120",
    'up{job="s2s-ray",instance="x"}': "1x120",
    'up{job="s2s-ray",instance="removed"}': "1x40 stale",
    'up{job="s2s-ray",instance="exchanged"}': "_x80 1x20 stale",
    'ray_node_mem_used{instance="x"}': "1000x120",
    'ray_node_mem_total{instance="x"}': "4000x120",
    'ray_node_disk_free{instance="x"}': "2000x120",
    'ray_node_disk_usage{instance="x"}': "2000x120",
}
ILL: dict[str, dict[str, str]] = {
    "S2sNoModelServed": {
        'ray_s2s_serve_model_info{model="a",version="1",instance="x"}': "1x60 stale",
        'ray_s2s_serve_model_info{model="a",version="1",instance="y"}': "1x60 0x60",
    },
    "S2sErrors": {'ray_s2s_serve_requests_total{status="500"}': "0+30x120"},
    "S2sRefuses": {"ray_s2s_serve_refused_total": "0+60x120"},
    "S2sSlow": {'ray_s2s_serve_request_seconds_bucket{le="1"}': "0+300x120"},
    "S2sModelsDiffer": {
        'ray_s2s_serve_model_info{model="a",version="2",instance="y"}': "0x30 1x90",
    },
    "S2sUnknownWords": {"ray_s2s_serve_unknown_words_total": "0+900x120"},
    "S2sTrainingStalled": {'ray_s2s_train_steps_total{run="model.run"}': "0+300x60 18000x60"},
    "S2sTrainingWaitsForData": {'ray_s2s_train_data_wait_share{run="model.run"}': "0.5x120"},
    "S2sNodeDown": {'up{job="s2s-ray",instance="x"}': "1x60 0x60"},
    # Ray lists only nodes that are alive: the series of one that has gone ends.
    "S2sNodeGone": {'up{job="s2s-ray",instance="y"}': "1x90 stale"},
    "S2sMemoryShort": {'ray_node_mem_used{instance="x"}': "3800x120"},
    "S2sDiskFull": {'ray_node_disk_free{instance="x"}': "100x120"},
}


def test_every_alert_is_explained_and_every_explanation_has_its_alert() -> None:
    page = (CLUSTER.parent / "docs" / "operations.md").read_text()
    assert set(re.findall(r"\bS2s[A-Z]\w+", page)) == rules().keys() == ILL.keys()
    for rule in rules().values():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"].endswith(".")


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_promtool
def test_prometheus_takes_the_rules_and_the_settings(tmp_path: Path) -> None:
    assert promtool("check", "rules", ALERTS).returncode == 0
    done = promtool("check", "config", "--syntax-only", MONITORING / "prometheus.yaml")
    assert done.returncode == 0, done.stderr
    wrong = tmp_path / "alerts.yaml"
    wrong.write_text(ALERTS.read_text().replace("sum by (run) (", "sum by run (", 1))
    assert promtool("check", "rules", wrong).returncode == 1


@needs_promtool
def test_each_alert_fires_when_it_should_and_no_other(tmp_path: Path) -> None:
    def case(name: str, series: dict[str, str], firing: list[str]) -> dict[str, Any]:
        query = 'count by (alertname) (ALERTS{alertstate="firing"})'
        samples = [{"labels": f'{{alertname="{each}"}}', "value": 1} for each in firing]
        return {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": key, "values": series[key]} for key in series],
            "promql_expr_test": [{"expr": query, "eval_time": "115m", "exp_samples": samples}],
        }

    cases = [case("well", WELL, [])]
    cases += [case(alert, {**WELL, **ILL[alert]}, [alert]) for alert in ILL]
    file = tmp_path / "tests.yaml"
    tests = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": cases}
    file.write_text(yaml.safe_dump(tests))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_makes_a_resource_of_the_rules() -> None:
    """With the Prometheus operator, rules are a resource; kubectl is left out here."""
    readme = (CLUSTER / "README.md").read_text()
    [command] = re.findall(r"(?s)(\(printf 'apiVersion: monitoring.*?) \| kubectl", readme)
    done = subprocess.run(
        ["bash", "-c", command], cwd=CLUSTER.parent, capture_output=True, text=True, check=True
    )
    [resource] = parse(done.stdout)
    assert (resource["kind"], resource["spec"]) == ("PrometheusRule", parse(ALERTS.read_text())[0])


# ---- dashboards ----------------------------------------------------------------------------------


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_a_dashboard_has_its_panels_side_by_side(board: Path) -> None:
    tree = json.loads(board.read_text())
    panels = tree["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)


def test_dashboards_are_told_apart() -> None:
    trees = [json.loads(board.read_text()) for board in BOARDS]
    assert len({tree["uid"] for tree in trees}) == len({tree["title"] for tree in trees}) == 2


# ---- one host ------------------------------------------------------------------------------------


def volumes_of(service: str, **variables: str) -> dict[str, str]:
    """What compose.yaml mounts into a service, by the path inside."""
    [compose] = read("compose.yaml")

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        return variables.get(name, rest if kind == "-" else "/named")

    volumes = [
        re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, each)
        for each in compose["services"][service]["volumes"]
    ]
    return dict(each.removesuffix(":ro").split(":")[::-1] for each in volumes)


def test_grafana_is_given_both_dashboards_and_prometheus_its_rules() -> None:
    [compose] = read("compose.yaml")
    services = compose["services"]
    mounts = {name: volumes_of(name) for name in services}
    for each in mounts.values():
        for source in each.values():
            assert not source.startswith("./") or (CLUSTER / source).is_file(), source
    [provider] = read("monitoring/dashboards.yaml")[0]["providers"]
    folder = provider["options"]["path"]
    shown = {source for at, source in mounts["grafana"].items() if at.startswith(folder)}
    assert shown == {f"./{board.name}" for board in BOARDS}
    [source] = read("monitoring/datasource.yaml")[0]["datasources"]
    # Prometheus shares the network of the proxy, and no port of it is published.
    assert services["prometheus"]["network_mode"] == "service:proxy"
    assert "ports" not in services["prometheus"]
    assert source["url"] == "http://proxy:9090"
    [settings] = read("monitoring/prometheus.yaml")
    inside = mounts["prometheus"]
    assert all(inside[file] == "./alerts.yaml" for file in settings["rule_files"])
    [config] = [part for part in services["prometheus"]["command"] if "--config" in part]
    assert inside[config.partition("=")[2]] == "./monitoring/prometheus.yaml"
    service, ray = settings["scrape_configs"]
    assert service["authorization"]["credentials_file"] in inside
    assert all(job["job_name"].startswith("s2s") for job in (service, ray))
    [file] = ray["file_sd_configs"][0]["files"]
    assert str(Path(file).parent) in inside
    assert all(port.startswith("127.0.0.1:") for port in services["grafana"]["ports"])


@pytest.mark.parametrize("folder", ["/tmp/ray", "/srv/ray"])
def test_prometheus_reads_the_file_that_ray_keeps(folder: str, tmp_path: Path) -> None:
    from ray._private.metrics_agent import PrometheusServiceDiscoveryWriter
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    class Writer(PrometheusServiceDiscoveryWriter):  # type: ignore[misc]
        def get_file_discovery_content(self) -> str:
            return "[]"  # it would ask the cluster

    session = tmp_path / "session_a"
    session.mkdir()
    Writer("127.0.0.1:1", str(tmp_path), str(session)).write()
    link = (tmp_path / PROMETHEUS_SERVICE_DISCOVERY_FILE).readlink()
    on_host = folder / link.relative_to(tmp_path)
    [settings] = read("monitoring/prometheus.yaml")
    [file] = settings["scrape_configs"][1]["file_sd_configs"][0]["files"]
    mounts = volumes_of("prometheus", S2S_RAY_DIR=folder)
    assert Path(file).name == PROMETHEUS_SERVICE_DISCOVERY_FILE
    assert mounts[str(Path(file).parent)] == folder
    # The link is read inside, where its path must be the same.
    assert [each for each in on_host.parents if mounts.get(str(each)) == str(each)]


def test_without_the_folder_of_ray_prometheus_has_an_empty_volume() -> None:
    [compose] = read("compose.yaml")
    mounts = volumes_of("prometheus")
    assert mounts["/ray"] == mounts["/tmp/ray"] == "no-ray"
    assert "no-ray" in compose["volumes"]
