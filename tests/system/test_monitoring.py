"""What watches a cluster: the metrics of runs, and the probes of Kubernetes."""

import secrets
import time
from functools import partial
from pathlib import Path

import httpx
import pytest
import ray

from s2s.distributed.metrics import TrainMetrics
from tests.support.cluster import Cluster
from tests.support.hosts import hosts, ray_on, reason_for_none
from tests.support.manifests import Tree, pod_templates, read
from tests.support.serving import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@ray.remote(num_cpus=0)
class Run:
    """A run that has logged once."""

    def __init__(self) -> None:
        self.metrics = TrainMetrics("model.run", 0)
        self.metrics.log(7, {"valid/loss": 0.5})

    def close(self) -> None:
        self.metrics.close(True)


def test_a_run_has_gauges_as_long_as_it_lasts(cluster: Cluster) -> None:
    def value(name: str) -> list[str]:
        lines = httpx.get(cluster.metrics, timeout=30).text.splitlines()
        return [line.split()[-1] for line in lines if line.startswith(f"ray_s2s_{name}{{")]

    run = Run.remote()
    for _ in range(30):  # Ray would have forgotten it after a third of that
        until(lambda: value("valid_loss") == ["0.5"], every=0.5)
        time.sleep(1)
    ray.get(run.close.remote())
    until(lambda: value("valid_loss") == [], every=0.5)
    assert value("train_steps_total") == ["7.0"]


@pytest.mark.skipif(reason_for_none() is not None, reason=str(reason_for_none()))
def test_nodes_answer_the_probes_of_the_manifests(tmp_path: Path) -> None:
    """Without a token, of nodes that need one."""
    head, worker = (
        template["spec"]["containers"][0]
        for template in pod_templates(read("kubernetes/base/raycluster.yaml"))
    )
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with hosts(2, tmp_path / "hosts", []) as two, ray_on(two, **token):

        def answers(number: int, container: Tree, probe: str) -> bool:
            # KubeRay starts the dashboard on all addresses of the head.
            dashboard = f"{two[0].address}:8265"
            command = container[probe]["exec"]["command"]
            parts = [part.replace("127.0.0.1:8265", dashboard) for part in command]
            return two[number].run(*parts).code == 0

        for number, container in enumerate((head, worker)):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                until(partial(answers, number, container, probe), every=1)
        two[0].kill()
        until(lambda: not answers(1, head, "livenessProbe"), every=1)
