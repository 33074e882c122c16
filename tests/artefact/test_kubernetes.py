"""The manifests of cluster/kubernetes/: what an API server with KubeRay would say of them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.manifests import (
    CLUSTER,
    DEFINITIONS,
    NEWEST,
    OLDEST,
    Tree,
    changed,
    faults,
    kustomized,
    parse,
    pod_templates,
    read,
    reason_for_no_kustomize,
)

FOLDER = CLUSTER / "kubernetes"
FILES = [
    "base/shared.yaml",
    "base/raycluster.yaml",
    "base/rayservice.yaml",
    "job/rayjob.yaml",
    "components/redis/redis.yaml",
    "components/ingress/ingress.yaml",
]
# Of KubeRay and Kubernetes. To read them takes seconds: the slow tests check the older ones.
LATEST = ("1.7.0", NEWEST)
VERSIONS = [pytest.param(("1.6.0", OLDEST), marks=pytest.mark.slow, id="oldest"),
            pytest.param(LATEST, id="latest")]  # fmt: skip

needs_definitions = pytest.mark.skipif(
    not DEFINITIONS.is_dir(), reason="S2S_DATA has no kuberay-crds"
)
needs_kustomize = pytest.mark.skipif(
    reason_for_no_kustomize() is not None, reason=str(reason_for_no_kustomize())
)


def manifests(name: str) -> list[Tree]:
    return read(f"kubernetes/{name}")


def all_faults(resources: list[Tree], versions: tuple[str, str] = LATEST) -> list[str]:
    return [f"{each['kind']} {fault}" for each in resources for fault in faults(each, *versions)]


# ---- schemas -------------------------------------------------------------------------------------


@needs_definitions
@pytest.mark.parametrize("versions", VERSIONS)
def test_manifests_have_only_fields_that_exist_and_all_that_must(versions: tuple[str, str]) -> None:
    found = {name: all_faults(manifests(name), versions) for name in FILES}
    assert {name: each for name, each in found.items() if each} == {}


def test_every_manifest_is_checked() -> None:
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")}
    patches = {"overlays/gpu/training.yaml", "overlays/gpu/serving.yaml"}
    rest = {name for name in there - patches if Path(name).name != "kustomization.yaml"}
    # The definition of PodMonitor, of the Prometheus operator, is not at hand.
    assert rest == {*FILES, "components/monitoring/podmonitor.yaml"}


POD: list[str | int] = ["spec", "workerGroupSpecs", 0, "template", "spec"]
WRONG: list[tuple[list[str | int], Any, str]] = [
    (["spec", "workerGroupSpec"], [], "workerGroupSpec"),
    (["spec", "authOptions", "mode"], "tokens", "tokens"),
    (["spec", "workerGroupSpecs", 0, "minReplicas"], "2", "minReplicas"),
    ([*POD, "volume"], [], "volume"),
    ([*POD, "containers", 0, "livenessProbe", "httpget"], {}, "httpget"),
    ([*POD, "containers", 0, "ports"], [{"containerPort": 1}] * 2, "given twice"),
    (["metadata", "label"], {}, "label"),
]


@needs_definitions
@pytest.mark.parametrize(("path", "value", "fault"), WRONG, ids=lambda value: str(value)[-30:])
def test_a_wrong_field_of_a_resource_of_kuberay_is_caught(
    path: list[str | int], value: Any, fault: str
) -> None:
    [manifest] = manifests("base/raycluster.yaml")
    found = all_faults([changed(manifest, path, value)])
    assert any(fault in each for each in found), found


def test_a_wrong_field_of_kubernetes_itself_is_caught() -> None:
    [claim, policy, *_] = manifests("base/shared.yaml")
    assert all_faults([changed(claim, ["spec", "storageClass"], "x")])
    assert all_faults([changed(policy, ["spec", "ingress", 1, "ports", 0, "ports"], 1)])


# ---- kustomize -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Tree]]:
    """The manifests of each overlay, also with all optional parts."""
    folder = tmp_path_factory.mktemp("kustomize") / "kubernetes"
    shutil.copytree(FOLDER, folder)
    made = {name: kustomized(folder / name) for name in ("overlays/cpu", "overlays/gpu", "job")}
    for name in ("cpu", "gpu"):
        file = folder / "overlays" / name / "kustomization.yaml"
        file.write_text(re.sub(r"(?m)^  # (- \.\./\.\./components)", r"  \1", file.read_text()))
        assert file.read_text().count("\n  - ../../components/") == 3
        made["all" if name == "cpu" else "all of gpu"] = kustomized(file.parent)
    return made


def change_overlay(file: Path, image: str, storage: str) -> None:
    """Name an image and a storage class in an overlay."""
    text = file.read_text()
    assert "newName: s2s, newTag: latest" in text
    assert "value: CHANGE-ME" in text
    text = text.replace("newName: s2s, newTag: latest", f"newName: {image}, newTag: '7'")
    file.write_text(text.replace("value: CHANGE-ME", f"value: {storage}"))


def one(resources: list[Tree], kind: str) -> Tree:
    [found] = [resource for resource in resources if resource["kind"] == kind]
    return found


@pytest.mark.slow
@needs_kustomize
@needs_definitions
@pytest.mark.parametrize("versions", VERSIONS)
def test_overlays_are_valid(overlays: dict[str, list[Tree]], versions: tuple[str, str]) -> None:
    for name, resources in overlays.items():
        known = [each for each in resources if each["kind"] != "PodMonitor"]
        assert all_faults(known, versions) == [], name


@needs_kustomize
def test_an_overlay_without_changes_is_the_base(overlays: dict[str, list[Tree]]) -> None:
    base = [m for name in FILES if name.startswith("base/") for m in manifests(name)]
    made = overlays["overlays/cpu"]
    assert sorted(made, key=str) == sorted(base, key=str)


@needs_kustomize
def test_an_image_that_an_overlay_names_is_that_of_every_pod(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    for name in ("overlays/gpu", "job"):
        file = tmp_path / "kubernetes" / name / "kustomization.yaml"
        text = file.read_text()
        assert "newName: s2s, newTag: latest" in text
        file.write_text(text.replace("newName: s2s, newTag: latest", "newName: r/s2s, newTag: '7'"))
        templates = [t for resource in kustomized(file.parent) for t in pod_templates(resource)]
        images = {c["image"] for t in templates for c in t["spec"]["containers"]}
        assert images == {"r/s2s:7"}


@needs_kustomize
def test_each_overlay_has_the_image_and_the_storage_that_it_names(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    folders = {name: tmp_path / "kubernetes/overlays" / name for name in ("cpu", "gpu")}
    for name, folder in folders.items():  # both, before either is read
        change_overlay(folder / "kustomization.yaml", f"r/s2s-{name}", f"files-{name}")
    for name, folder in folders.items():
        resources = kustomized(folder)
        templates = [t for resource in resources for t in pod_templates(resource)]
        images = {c["image"] for t in templates for c in t["spec"]["containers"]}
        assert images == {f"r/s2s-{name}:7"}
        claim = one(resources, "PersistentVolumeClaim")
        assert claim["spec"]["storageClassName"] == f"files-{name}"


@needs_kustomize
def test_gpu_workers_are_asked_for_gpus_and_given_them(overlays: dict[str, list[Tree]]) -> None:
    resources = overlays["overlays/gpu"]
    cpu, gpu = one(resources, "RayCluster")["spec"]["workerGroupSpecs"]
    service = one(resources, "RayService")["spec"]
    [serving] = service["rayClusterConfig"]["workerGroupSpecs"]
    assert (cpu["groupName"], gpu["groupName"], serving["groupName"]) == ("cpu", "gpu", "gpu")
    for group in (gpu, serving):
        spec = group["template"]["spec"]
        given = spec["containers"][0]["resources"]
        assert given["requests"] == given["limits"]
        assert given["limits"]["nvidia.com/gpu"] == "1"
        assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "nvidia.com/gpu" not in str(cpu)
    # The application is that of the base but for the GPU of a replica.
    [own], [base] = parse(service["serveConfigV2"]), manifests("base/rayservice.yaml")
    options = own["applications"][0]["deployments"][0]["ray_actor_options"]
    assert options.pop("num_gpus") == 0.5
    assert [own] == parse(base["spec"]["serveConfigV2"])


@needs_kustomize
def test_heads_find_their_redis(overlays: dict[str, list[Tree]]) -> None:
    resources = overlays["all"]
    options = one(resources, "RayCluster")["spec"]["gcsFaultToleranceOptions"]
    service = one(resources, "RayService")["spec"]["rayClusterConfig"]
    assert service["gcsFaultToleranceOptions"] == options
    host, port = options["redisAddress"].removeprefix("redis://").split(":")
    name = one(resources, "Service")
    assert (host, int(port)) == (name["metadata"]["name"], name["spec"]["ports"][0]["port"])
    redis = one(resources, "StatefulSet")["spec"]
    assert name["spec"]["selector"].items() <= redis["template"]["metadata"]["labels"].items()
    [container] = redis["template"]["spec"]["containers"]
    [password] = [env for env in container["env"] if env["name"] == "REDISCLI_AUTH"]
    assert password["valueFrom"] == options["redisPassword"]["valueFrom"]


def test_the_password_of_redis_is_no_argument(tmp_path: Path) -> None:
    [redis] = [m for m in manifests("components/redis/redis.yaml") if m["kind"] == "StatefulSet"]
    [container] = redis["spec"]["template"]["spec"]["containers"]
    program = tmp_path / "redis-server"
    program.write_text('#!/bin/sh\necho $$ "$@"\ncat\n')
    program.chmod(0o755)
    assert "args" not in container
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REDISCLI_AUTH": "a$b"}
    with subprocess.Popen(
        container["command"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        arguments, settings = process.communicate(timeout=60)[0].splitlines()
    # It is the container's first process, which is asked to stop.
    assert arguments == f"{process.pid} - --appendonly yes --maxmemory-policy noeviction"
    assert settings == "requirepass a$b"


@needs_kustomize
def test_the_ingress_leads_to_the_service_that_kuberay_makes(
    overlays: dict[str, list[Tree]],
) -> None:
    resources = overlays["all"]
    [rule] = one(resources, "Ingress")["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == f"{one(resources, 'RayService')['metadata']['name']}-serve-svc"
    [config] = parse(one(resources, "RayService")["spec"]["serveConfigV2"])
    assert backend["port"]["number"] == config["http_options"]["port"]


# ---- pods ----------------------------------------------------------------------------------------

RAY = ["base/raycluster.yaml", "base/rayservice.yaml", "job/rayjob.yaml"]


def labels_and_ports() -> list[tuple[dict[str, str], set[int]]]:
    """The labels of each pod that listens, with KubeRay's own, and its ports."""
    found = []
    for name in RAY:
        for template in pod_templates(manifests(name)):
            [container] = template["spec"]["containers"]
            node = container["name"].removeprefix("ray-")
            labels = template["metadata"]["labels"] | {"ray.io/node-type": node}
            found.append((labels, {port["containerPort"] for port in container.get("ports", [])}))
    return found


@pytest.mark.parametrize("name", RAY)
def test_every_node_of_ray_is_probed(name: str) -> None:
    for template in pod_templates(manifests(name)):
        [container] = template["spec"]["containers"]
        if container["name"] == "ray-job-submitter":
            continue
        urls = {
            probe: [part for part in container[probe]["exec"]["command"] if "://" in part]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        ports = {probe: {url.split(":")[2].split("/")[0] for url in urls[probe]} for probe in urls}
        own = {"52365", "8265"} if container["name"] == "ray-head" else {"52365"}
        serves = own | {"8000"} if "'serve'" in str(container["ports"]) else own
        assert ports == {
            "startupProbe": own, "readinessProbe": serves, "livenessProbe": own
        }  # fmt: skip
        startup = container["startupProbe"]
        assert startup["failureThreshold"] * startup["periodSeconds"] >= 300
        for probe in urls:  # each address may take five seconds
            assert container[probe]["timeoutSeconds"] > 5 * len(urls[probe])


def test_ports_that_others_may_reach_are_those_of_pods() -> None:
    [policy] = [m["spec"] for m in manifests("base/shared.yaml") if m["kind"] == "NetworkPolicy"]
    own, *others = policy["ingress"]
    assert "ports" not in own  # torch's store and gloo choose theirs at random
    allowed = {port["port"] for rule in others for port in rule["ports"]}
    listening = set().union(*(ports for _, ports in labels_and_ports()))
    assert allowed == listening - {6379}  # the control service is the cluster's alone
    [monitor] = manifests("components/monitoring/podmonitor.yaml")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    names = {
        port["name"]: port["containerPort"]
        for name in RAY
        for template in pod_templates(manifests(name))
        for port in template["spec"]["containers"][0].get("ports", [])
    }
    assert names[endpoint["port"]] in allowed


def test_a_budget_keeps_a_pod_that_serves_and_every_head() -> None:
    budgets = {
        m["metadata"]["name"]: m["spec"]
        for m in manifests("base/shared.yaml")
        if m["kind"] == "PodDisruptionBudget"
    }
    assert budgets.keys() == {"s2s-serving", "s2s-heads"}
    pods = [labels for labels, _ in labels_and_ports()]

    def kept(name: str) -> list[tuple[str, str]]:
        selector = budgets[name]["selector"]["matchLabels"].items()
        return sorted(
            (pod["app.kubernetes.io/component"], pod["ray.io/node-type"])
            for pod in pods
            if selector <= pod.items()
        )

    assert kept("s2s-serving") == [("serving", "worker")]
    assert kept("s2s-heads") == [("job", "head"), ("serving", "head"), ("training", "head")]
    [service] = manifests("base/rayservice.yaml")
    [group] = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert group["minReplicas"] > budgets["s2s-serving"]["minAvailable"]
    [config] = parse(service["spec"]["serveConfigV2"])
    [deployment] = config["applications"][0]["deployments"]
    assert deployment["autoscaling_config"]["min_replicas"] == group["minReplicas"]
    assert deployment["autoscaling_config"]["max_replicas"] == group["maxReplicas"]
    # A replica fills a pod, so that no two of them are lost with one.
    cpus = group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    assert deployment["ray_actor_options"]["num_cpus"] == int(cpus)


def test_pods_that_serve_are_spread() -> None:
    [service] = manifests("base/rayservice.yaml")
    [group] = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    spread = group["template"]["spec"]["topologySpreadConstraints"]
    keys = [each["topologyKey"] for each in spread]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    [labels] = [
        pod for pod, _ in labels_and_ports()
        if (pod["app.kubernetes.io/component"], pod["ray.io/node-type"]) == ("serving", "worker")
    ]  # fmt: skip
    for each in spread:
        assert each["labelSelector"]["matchLabels"].items() <= labels.items()
