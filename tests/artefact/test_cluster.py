"""The files of cluster/: that each is one its reader would take, checked offline.

Serve configs (the file and the string in the RayService) against Ray's own schema, key by key,
since Serve ignores keys it does not know; KubeRay manifests against each other (image, token,
claim, labels, volumes, memory, the size of the job; test_kubernetes.py has schemas); the launcher
file by the functions that `ray up` runs; the Dockerfile and the README against the repository; what
is for one host by systemd's own check, tables of names, and the command line of `s2s serve`. No
cluster is started and nothing is asked of a network.
"""

import configparser
import copy
import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pydantic import BaseModel, ValidationError

from s2s.cli import arguments as cli
from s2s.cli.serve import Serve
from s2s.serving.addresses import is_loopback
from s2s.serving.http.gate import Limits
from s2s.serving.http.routes.metrics import PATH as METRICS
from s2s.serving.local import KEEP_ALIVE
from tests.support.hosts import HEALTH_CHECKS
from tests.support.manifests import CLUSTER, Tree, parse, read
from tests.support.recipe import exported

ROOT = Path(__file__).resolve().parents[2]
SHARED = "kubernetes/base/shared.yaml"
RAYCLUSTER = "kubernetes/base/raycluster.yaml"
RAYJOB = "kubernetes/job/rayjob.yaml"
RAYSERVICE = "kubernetes/base/rayservice.yaml"
KUBERAY = [RAYCLUSTER, RAYJOB, RAYSERVICE]
OWN_LABEL = {"app.kubernetes.io/part-of": "s2s"}

# What Ray's own modules say of themselves when Serve is imported.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")


# --- reading ----------------------------------------------------------------------------------


def with_gpu(name: str) -> str:
    """The file with its commented GPU part taken in, as the comment tells a user to do."""
    text = (CLUSTER / name).read_text()
    block = re.search(r"^ *# >>> gpu\n(.*?)^ *# <<< gpu\n", text, re.MULTILINE | re.DOTALL)
    assert block, f"{name} has no commented GPU part"
    return text.replace(block[1], re.sub(r"^( *)# ", r"\1", block[1], flags=re.MULTILINE))


def size(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi|)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Gi": 2**30, "Mi": 2**20, "": 1}[unit]


# --- Serve ------------------------------------------------------------------------------------


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in models_in(part)]


def unknown_keys(model: type[BaseModel], data: Tree, path: str = "") -> list[str]:
    """Paths of the keys in `data` that `model`, or a model inside it, has no field for."""
    found = []
    for key, value in data.items():
        if key not in model.model_fields:
            found.append(path + key)
            continue
        for inner in models_in(model.model_fields[key].annotation):
            for number, item in enumerate(value if isinstance(value, list) else [value]):
                where = f"{path}{key}[{number}]." if isinstance(value, list) else f"{path}{key}."
                found += unknown_keys(inner, item, where) if isinstance(item, dict) else []
    return found


def check_serve(config: Tree) -> None:
    from ray.serve.schema import ServeDeploySchema

    assert unknown_keys(ServeDeploySchema, config) == []
    ServeDeploySchema.model_validate(config)


def serve_configs() -> dict[str, Tree]:
    [file], [service] = read("serve.yaml"), read(RAYSERVICE)
    [string] = parse(service["spec"]["serveConfigV2"])
    return {"serve.yaml": file, RAYSERVICE: string}


@pytest.mark.parametrize("name", ["serve.yaml", RAYSERVICE])
def test_serve_config_is_one_that_ray_takes(name: str) -> None:
    check_serve(serve_configs()[name])


MISSPELT = [
    ["http_option"],
    ["http_options", "ports"],
    ["applications", 0, "argz"],
    ["applications", 0, "deployments", 0, "max_queued_request"],
    ["applications", 0, "deployments", 0, "autoscaling_config", "max_replica"],
    ["applications", 0, "deployments", 0, "ray_actor_options", "num_cpu"],
]


@pytest.mark.parametrize("path", MISSPELT, ids=lambda path: str(path[-1]))
def test_a_misspelt_key_of_a_serve_config_is_caught(path: list[Any]) -> None:
    config = serve_configs()["serve.yaml"]
    inner: Any = config
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = 1
    with pytest.raises(AssertionError, match=path[-1]):
        check_serve(config)


def test_ray_itself_lets_a_misspelt_key_pass() -> None:
    """The reason for `unknown_keys`. When Ray refuses them, the helper can go."""
    from ray.serve.schema import ServeDeploySchema

    config = serve_configs()["serve.yaml"]
    config["applications"][0]["deployments"][0]["max_queued_request"] = 1
    ServeDeploySchema.model_validate(config)


def test_a_wrong_value_of_a_serve_config_is_caught() -> None:
    config = serve_configs()["serve.yaml"]
    config["applications"][0]["deployments"][0]["max_surge_percent"] = 200
    with pytest.raises(ValidationError):
        check_serve(config)


def test_the_service_says_the_same_application_as_the_file() -> None:
    file, string = serve_configs().values()
    for config, replicas, cpus in ((file, 1, 1), (string, 2, 2)):
        [deployment] = config["applications"][0]["deployments"]
        assert deployment["autoscaling_config"].pop("min_replicas") == replicas
        assert deployment["ray_actor_options"].pop("num_cpus") == cpus
    assert file == string


def test_serve_has_the_same_variables_on_every_kind_of_cluster() -> None:
    [service], [launcher] = read(RAYSERVICE), read("launcher.yaml")
    groups = service["spec"]["rayClusterConfig"]
    pods = [groups["headGroupSpec"], *groups["workerGroupSpecs"]]
    for pod in pods:
        [container] = pod["template"]["spec"]["containers"]
        variables = {each["name"]: each.get("value") for each in container["env"]}
        assert variables.pop("S2S_HAPROXY_HOST") == "0.0.0.0"  # noqa: S104
        on_kubernetes = {k: v for k, v in variables.items() if k.startswith("RAY_SERVE_")}
        del on_kubernetes["RAY_SERVE_HAPROXY_MAXCONN"]  # for the memory of a pod
        options = " ".join(launcher["docker"]["run_options"])
        given = [word.split("=", 1) for word in shlex.split(options) if "=" in word]
        assert {k: v for k, v in given if k.startswith("RAY_SERVE_")} == on_kubernetes
        on_hosts = {k: v for k, v in exported().items() if k.startswith("RAY_SERVE_")}
        assert Path(on_hosts.pop("RAY_SERVE_HAPROXY_BINARY_PATH")).name == "s2s-haproxy"
        assert Path(on_kubernetes.pop("RAY_SERVE_HAPROXY_BINARY_PATH")).name == "s2s-haproxy"
        assert on_hosts == on_kubernetes


def test_the_application_takes_what_serve_is_told() -> None:
    from s2s.distributed.deployment import Replica, UserConfig

    application = serve_configs()["serve.yaml"]["applications"][0]
    module, name = application["import_path"].split(":")
    app = importlib.import_module(module)
    [arguments] = inspect.signature(getattr(app, name)).parameters.values()
    arguments.annotation.model_validate(application["args"])
    assert [d["name"] for d in application["deployments"]] == [Replica.name]
    UserConfig.model_validate(application["deployments"][0]["user_config"])


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    from s2s.serving.engine.meters import COUNTERS, HISTOGRAMS

    dashboard = json.loads((CLUSTER / "grafana.json").read_text())
    asked = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel["targets"])
    there = {f"{name}_total" for name in COUNTERS} | {f"{name}_bucket" for name in HISTOGRAMS}
    found = set(re.findall(r"ray_s2s_serve_(\w+)", asked))
    assert found == there | {"model_info"}
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


# --- KubeRay ----------------------------------------------------------------------------------
def cluster_spec(name: str) -> Tree:
    [manifest] = read(name)
    spec = manifest["spec"]
    cluster: Tree = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    return cluster


def groups(name: str) -> list[Tree]:
    spec = cluster_spec(name)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def pods(name: str) -> list[Tree]:
    [manifest] = read(name)
    submitter = manifest["spec"].get("submitterPodTemplate")
    return [group["template"] for group in groups(name)] + ([submitter] if submitter else [])


def test_a_key_given_twice_is_caught() -> None:
    with pytest.raises(ValueError, match="given twice"):
        parse("a: 1\nb: {c: 1, c: 2}\n")


def test_names_are_labels_and_services_do_not_collide() -> None:
    names = [manifest["metadata"]["name"] for name in KUBERAY for manifest in read(name)]
    assert len(set(names)) == len(names)  # KubeRay makes a NAME-head-svc of each
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name) for name in names)


def test_versions_token_and_image_are_the_same_everywhere() -> None:
    import ray

    specs = [cluster_spec(name) for name in KUBERAY]
    assert {spec["rayVersion"] for spec in specs} == {ray.__version__}
    assert all(spec["authOptions"] == specs[0]["authOptions"] for spec in specs)
    assert specs[0]["authOptions"]["mode"] == "token"
    images = {
        c["image"] for name in KUBERAY for pod in pods(name) for c in pod["spec"]["containers"]
    }
    assert images == {read("launcher.yaml")[0]["docker"]["image"]} == {"s2s:latest"}


@pytest.mark.parametrize("name", KUBERAY)
def test_ray_is_started_with_options_that_it_has(name: str) -> None:
    from ray.scripts.scripts import start

    options = {opt.removeprefix("--") for parameter in start.params for opt in parameter.opts}
    head, *workers = groups(name)
    assert head["rayStartParams"]["num-cpus"] == "0"
    for group in [head, *workers]:
        assert group["rayStartParams"].keys() <= options


@pytest.mark.parametrize("name", KUBERAY)
def test_pods_run_without_rights_and_bear_the_label(name: str) -> None:
    for pod in pods(name):
        assert pod["metadata"]["labels"].items() > OWN_LABEL.items()
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
    autoscaled = cluster_spec(name).get("enableInTreeAutoscaling", False)
    heads = [groups(name)[0]["template"]] if autoscaled else []  # its autoscaler calls Kubernetes
    for pod in pods(name):
        assert pod in heads or pod["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", KUBERAY)
def test_containers_are_named_as_kuberay_expects(name: str) -> None:
    [head, *workers] = [group["template"]["spec"]["containers"] for group in groups(name)]
    assert [container["name"] for container in head] == ["ray-head"]
    assert all([container["name"] for container in worker] == ["ray-worker"] for worker in workers)


@pytest.mark.parametrize("name", KUBERAY)
def test_memory_fits(name: str) -> None:
    for pod in pods(name):
        [container] = pod["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
    for group in groups(name):
        spec = group["template"]["spec"]
        [shm] = [v["emptyDir"] for v in spec["volumes"] if "emptyDir" in v]
        limit = size(spec["containers"][0]["resources"]["limits"]["memory"])
        store = int(group["rayStartParams"]["object-store-memory"])
        assert shm["medium"] == "Memory"
        assert store < size(shm["sizeLimit"]) < limit


@pytest.mark.parametrize("name", KUBERAY)
def test_volumes_exist_and_are_mounted(name: str) -> None:
    shared = [m for m in read(SHARED) if m["kind"] == "PersistentVolumeClaim"]
    claims = {m["metadata"]["name"] for m in shared if "ReadWriteMany" in m["spec"]["accessModes"]}
    for group in groups(name):
        spec = group["template"]["spec"]
        mounts = spec["containers"][0]["volumeMounts"]
        assert {m["name"] for m in mounts} == {v["name"] for v in spec["volumes"]}
        assert "/dev/shm" in {m["mountPath"] for m in mounts}
        used = [
            v["persistentVolumeClaim"]["claimName"]
            for v in spec["volumes"]
            if "persistentVolumeClaim" in v
        ]
        assert used
        assert set(used) <= claims


@pytest.mark.parametrize("name", KUBERAY)
def test_worker_groups_can_be_what_they_say(name: str) -> None:
    spec = cluster_spec(name)
    for group in spec["workerGroupSpecs"]:
        assert 0 < group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert spec.get("enableInTreeAutoscaling") or group["minReplicas"] == group["maxReplicas"]
        # Ray counts whole CPUs only.
        assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"].isdigit()
    never = {group["template"]["spec"].get("restartPolicy", "Never") for group in groups(name)}
    assert never == {"Never"}  # the autoscaler takes no other


def test_the_policy_guards_all_pods_and_lets_in_only_who_is_named() -> None:
    [policy] = [m["spec"] for m in read(SHARED) if m["kind"] == "NetworkPolicy"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["podSelector"]["matchLabels"] == OWN_LABEL
    own, *others = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": OWN_LABEL}}]}
    ports = [sorted(port["port"] for port in rule["ports"]) for rule in others]
    assert ports == [
        [8000],
        [8000, 8265],
        [8080],
    ]  # the ingress controller, the operator, Prometheus
    for rule in others:
        for peer in rule["from"]:
            assert peer["namespaceSelector"]["matchLabels"].keys() == {
                "kubernetes.io/metadata.name"
            }


# --- the job ----------------------------------------------------------------------------------


def test_the_job_s_command_reaches_the_cluster_whole() -> None:
    """KubeRay pastes it, unquoted, into a shell that calls `ray job submit`."""
    [manifest] = read(RAYJOB)
    script = f"submit() {{ printf '%s\\0' \"$@\"; }}; submit -- {manifest['spec']['entrypoint']} ;"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    _, shell, option, command, end = run.stdout.split("\0")
    assert (shell, option, end) == ("bash", "-c", "")
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0


def test_the_job_runs_modules_that_exist_and_its_parts_fit() -> None:
    [manifest] = read(RAYJOB)
    command = manifest["spec"]["entrypoint"]
    assert re.findall(r"-m (\S+)", command) == ["jobs.prepare", "jobs.train"]
    given = dict(re.findall(r"--(corpus|out|workers) (\S+?)'?(?=\s|$)", command))
    assert given["corpus"] == re.findall(r"--out (\S+)", command)[0]  # prepared, then trained on
    cpus = sum(
        group["minReplicas"]
        * int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        for group in cluster_spec(RAYJOB)["workerGroupSpecs"]
    )
    assert cpus >= int(given["workers"])


def in_claim(name: str, path: str) -> Path:
    """Where `path` in the pods of a manifest lies in the shared claim."""
    mounts = groups(name)[-1]["template"]["spec"]["containers"][0]["volumeMounts"]
    [mount] = [m for m in mounts if Path(path).is_relative_to(m["mountPath"])]
    return Path(mount.get("subPath", "")) / Path(path).relative_to(mount["mountPath"])


def test_the_service_serves_what_the_job_trains() -> None:
    [manifest] = read(RAYJOB)
    trained = re.findall(r"--out ([^\s']+)", manifest["spec"]["entrypoint"])[-1]
    [deployment] = serve_configs()[RAYSERVICE]["applications"][0]["deployments"]
    served = deployment["user_config"]["models"]
    trained_at = in_claim(RAYJOB, trained)
    assert [trained_at] == [in_claim(RAYSERVICE, path) for path in served]


def test_the_keys_of_the_service_are_where_a_secret_is_mounted() -> None:
    keys = serve_configs()[RAYSERVICE]["applications"][0]["args"]["keys"]
    for group in groups(RAYSERVICE):
        spec = group["template"]["spec"]
        secrets = {v["name"] for v in spec["volumes"] if "secret" in v}
        mounts = spec["containers"][0]["volumeMounts"]
        assert any(
            Path(keys).parent == Path(m["mountPath"]) for m in mounts if m["name"] in secrets
        )


NAMING = [RAYJOB, "README.md", "launcher.yaml", "Dockerfile", "compose.yaml"]


@pytest.mark.parametrize("name", NAMING)
def test_modules_and_files_that_are_named_exist(name: str) -> None:
    text = (CLUSTER / name).read_text()
    for module in re.findall(r"python -m (\w+(?:\.\w+)+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for path in re.findall(r"\bcluster/[\w./-]+\w", text):
        assert (ROOT / path).exists(), path


# --- the launcher -----------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("asked something of the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))  # no credentials either


def check_launcher(config: Tree) -> Tree:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: Tree = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.mark.usefixtures("offline")
def test_launcher_is_one_that_ray_takes() -> None:
    [config] = read("launcher.yaml")
    prepared = check_launcher(config)
    head, worker = prepared["available_node_types"].values()
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0  # of the head's kind, beside the head
    assert 0 < worker["min_workers"] <= worker["max_workers"] <= prepared["max_workers"]
    # Nothing may come from Ray's defaults, which download another Ray and know other machines.
    assert prepared["setup_commands"] == []
    assert config.keys() >= {
        "auth",
        "docker",
        "head_start_ray_commands",
        "worker_start_ray_commands",
    }


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "path", [["max_worker"], ["docker", "images"], ["available_node_types", "worker", "min_worker"]]
)
def test_a_misspelt_key_of_the_launcher_is_caught(path: list[str]) -> None:
    import jsonschema

    [config] = read("launcher.yaml")
    inner = config
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = 1
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        check_launcher(config)


@pytest.mark.usefixtures("offline")
def test_provider_of_the_launcher_has_only_keys_that_exist() -> None:
    """Ray's schema lets any key pass here."""
    [config] = read("launcher.yaml")
    known = {"type", "region", "availability_zone", "cache_stopped_nodes", "security_group"}
    assert config["provider"].keys() <= known


@pytest.mark.usefixtures("offline")
def test_the_commented_gpu_machines_of_the_launcher_are_valid() -> None:
    [config] = parse(with_gpu("launcher.yaml"))
    assert "gpu" in check_launcher(config)["available_node_types"]


def test_launcher_starts_ray_with_options_that_it_has() -> None:
    from ray.scripts.scripts import start

    [config] = read("launcher.yaml")
    options = {opt for parameter in start.params for opt in parameter.opts}
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        assert set(re.findall(r"--[\w-]+", command)) <= options
    assert "RAY_AUTH_MODE=token" in " ".join(config["docker"]["run_options"])
    assert "~/.ray" in config["file_mounts"]  # where Ray looks for the token


# --- the image --------------------------------------------------------------------------------


def dockerfile() -> list[tuple[str, str]]:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.startswith("#"))
    steps = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(step.split()[0], step.split(maxsplit=1)[1]) for step in steps]


def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path: Path) -> None:
    text = (CLUSTER / "Dockerfile").read_text()

    def complaints(text: str) -> str:
        file = tmp_path / "Dockerfile"
        file.write_text(text)
        command = [Path(sys.executable).with_name("hadolint"), "--no-color", file]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert complaints(text) == ""
    assert "DL3008" in complaints(text.replace("# hadolint ignore=DL3008\n", ""))


def test_what_the_image_copies_exists() -> None:
    copied = [path for word, rest in dockerfile() if word == "COPY" for path in rest.split()[:-1]]
    assert {"requirements.lock", "pyproject.toml", "s2s", "jobs", "serve_app.py"} <= set(copied)
    missing = [path for path in copied if not (ROOT / path).exists()]
    assert missing == []


def test_the_image_has_all_that_building_the_package_reads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = {path for word, rest in dockerfile() if word == "COPY" for path in rest.split()[:-1]}
    assert {project["readme"], *project["license-files"]} <= copied


def test_the_image_s_python_is_one_of_the_project() -> None:
    [(_, base)] = [step for step in dockerfile() if step[1].startswith("BASE=")]
    version = re.fullmatch(r"BASE=python:(3\.\d+)-slim", base)
    assert version
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert version[1] == "3.11"
    assert f"{version[1]}.0" in SpecifierSet(wanted)


def test_the_image_runs_as_the_user_of_the_pods_and_keeps_quiet() -> None:
    steps = dockerfile()
    user = [rest for word, rest in steps if word == "USER"][-1]
    users = {pod["spec"]["securityContext"]["runAsUser"] for name in KUBERAY for pod in pods(name)}
    assert {int(user)} == users
    assert int(user) != 0
    made = " ".join(rest for word, rest in steps if word == "RUN")
    assert f"useradd --uid {user} " in made
    environment = " ".join(rest for word, rest in steps if word == "ENV")
    assert "RAY_USAGE_STATS_ENABLED=0" in environment
    assert "HOME=/home/s2s" in environment  # `ray up` reads it from the image
    recipe = (CLUSTER / "README.md").read_text()
    for name, value in HEALTH_CHECKS.items():
        assert f"{name}={value}" in environment
        assert f" {name}={value}" in recipe
    assert {"rsync", "wget"} <= set(made.split())  # `ray up`, KubeRay's probe
    assert "ENTRYPOINT" not in dict(steps)


def test_the_image_s_ray_is_the_manifests_ray() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split(";")[0].strip(" \\") for line in lines if re.match(r"ray(\[|=| )", line)]
    [pin] = [Requirement(line).specifier for line in pins]
    assert all(cluster_spec(name)["rayVersion"] in pin for name in KUBERAY)


# --- one host ---------------------------------------------------------------------------------


def served(
    monkeypatch: pytest.MonkeyPatch, command: list[str], environment: dict[str, str]
) -> Serve:
    """What `s2s serve` takes a command and its variables for."""
    program, verb, *arguments = command
    assert (Path(program).name, verb) == ("s2s", "serve")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parsed = cli.parse("serve", Serve, arguments)
    assert isinstance(parsed, Serve)
    parsed._check_options()
    # None of them is misspelt: another would be ignored.
    known = {mark.name for hint in get_type_hints(Serve, include_extras=True).values()
             for mark in getattr(hint, "__metadata__", ()) if hasattr(mark, "name")}  # fmt: skip
    assert {name for name in environment if name.startswith("S2S_")} <= known
    return parsed


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(CLUSTER / "s2s.service")
    return parser


def variables(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Z0-9_]+=\S.*", line) for line in lines)
    return dict(line.split("=", 1) for line in lines)


def test_the_unit_starts_a_service_on_loopback_with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    service = unit()["Service"]
    text = (CLUSTER / "s2s.env").read_text()
    serve = served(monkeypatch, service["ExecStart"].split(), variables(text))
    assert serve.local
    assert is_loopback(serve.host)
    assert serve.keys
    assert len(serve.models) == 2
    assert Path(service["EnvironmentFile"]).parent == serve.keys.parent
    assert serve.access_log
    assert serve.access_log.parent == Path("/var/log") / service["LogsDirectory"]
    commented = variables(re.sub(r"(?m)^# (?=S2S_)", "", text))
    suggestions = served(monkeypatch, ["s2s", "serve", "--local"], commented).suggestions
    assert suggestions
    assert suggestions.parent == Path("/var/lib") / service["StateDirectory"]


def test_the_unit_waits_for_running_requests_and_comes_back() -> None:
    service = unit()["Service"]
    assert service["KillMode"] == "mixed"  # models must outlive the requests
    assert int(service["TimeoutStopSec"]) > Limits().seconds + 1
    assert service["Restart"] == "on-failure"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd checks its files")
def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    text = (CLUSTER / "s2s.service").read_text()
    file = tmp_path / "s2s.service"

    def complaints() -> str:
        done = subprocess.run(
            ["systemd-analyze", "verify", file], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    file.write_text(re.sub(r"(?<=ExecStart=)\S+", sys.executable, text))
    assert complaints() == ""
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", file],
        capture_output=True, check=False,
    )  # fmt: skip
    assert rated.returncode == 0  # at most 2.0 of 10
    file.write_text(file.read_text().replace("PrivateTmp=", "PrivateTemp="))
    assert "PrivateTemp" in complaints()


# What may stand where. A dict is a mapping with these keys and no others ("!": must be there),
# {str: …} one with any keys, [x] a list of x, a type a value of it.


def misfits(table: Any, value: Any, path: str = "") -> Iterator[str]:
    if isinstance(table, list):
        if not isinstance(value, list) or not value:
            yield f"{path}: no list"
        else:
            for number, item in enumerate(value):
                yield from misfits(table[0], item, f"{path}[{number}]")
    elif not isinstance(table, dict):
        if type(value) is not table:
            yield f"{path}: {value!r} is no {table.__name__}"
    elif not isinstance(value, dict):
        yield f"{path}: no mapping"
    elif str in table:
        for key, item in value.items():
            yield from misfits(str, key, path)
            yield from misfits(table[str], item, f"{path}.{key}")
    else:
        fields = {key.rstrip("!"): inner for key, inner in table.items()}
        yield from (f"{path}.{key}: unknown" for key in value.keys() - fields.keys())
        missing = {key[:-1] for key in table if key.endswith("!")} - value.keys()
        yield from (f"{path}.{key}: missing" for key in missing)
        for key in value.keys() & fields.keys():
            yield from misfits(fields[key], value[key], f"{path}.{key}")


COMPOSE: Tree = {
    "name!": str,
    "services!": {
        str: {
            "image!": str,
            "build": {"context!": str, "dockerfile!": str},
            "command": [str],
            "restart!": str,
            "ports": [str],
            "network_mode": str,
            "depends_on": [str],
            "environment": {str: str},
            "volumes": [str],
            "healthcheck": {"test!": [str], "interval": str, "timeout": str, "start_period": str},
            "stop_grace_period": str,
            "init": bool,
            "read_only": bool,
            "tmpfs": [str],
            "cap_drop": [str],
            "security_opt": [str],
        }
    },
    "volumes!": {str: {}},
}


def test_compose_starts_a_service_that_the_proxy_alone_reaches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [file] = read("compose.yaml")
    assert list(misfits(COMPOSE, file)) == []
    services = file["services"]
    own = services["s2s"]
    environment = {**own["environment"], "S2S_MODELS": "/models/a,/models/b"}
    serve = served(monkeypatch, own["command"], environment)
    assert serve.local
    assert serve.keys
    assert is_loopback(serve.host)
    assert own["network_mode"] == "service:proxy"
    assert "ports" not in own
    url = f"http://127.0.0.1:{serve.port}/health"
    assert own["healthcheck"]["test"][-1] == url
    mounted = {volume.split(":")[-2]: volume for volume in own["volumes"]}
    assert {"/models", str(serve.keys.parent)} <= mounted.keys()
    dockerfile = (CLUSTER / own["build"]["context"] / own["build"]["dockerfile"]).resolve()
    assert dockerfile == CLUSTER / "Dockerfile"
    binds = [v for v in services["proxy"]["volumes"] if v.startswith("./")]
    assert all((CLUSTER / bind.split(":")[0]).exists() for bind in binds)
    # The variable of a volume's name has a default: a volume that stays empty.
    volumes = [v for each in services.values() for v in each["volumes"]]
    names = {re.sub(r"^\$\{\w+:-([\w-]+)\}", r"\1", v).split(":")[0] for v in volumes}
    assert {name for name in names if re.fullmatch(r"[\w-]+", name)} == file["volumes"].keys()
    # Variables that compose fills in are the ones that the file's head explains.
    text = (CLUSTER / "compose.yaml").read_text()
    explained = set(re.findall(r"(?m)^#   (S2S_\w+)", text))
    assert set(re.findall(r"\$\{(\w+)", text)) == explained


@pytest.mark.skipif(
    subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    if shutil.which("docker") else True,
    reason="docker compose checks its files",
)  # fmt: skip
def test_docker_takes_the_compose_file() -> None:
    done = subprocess.run(
        ["docker", "compose", "-f", CLUSTER / "compose.yaml", "config", "--quiet"],
        env={**os.environ, "S2S_MODELS": "/models/a", "S2S_MODELS_DIR": "/m", "S2S_KEYS_DIR": "/k",
             "S2S_GRAFANA_PASSWORD": "x"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


Directives = dict[str, list["Directive"]]


@dataclass
class Directive:
    """A line of a Caddyfile, and the block behind it."""

    arguments: list[str]
    block: Directives


def caddyfile(lines: Iterator[str]) -> Directives:
    """The directives up to the end of a block, by name."""
    found: Directives = {}
    for line in lines:
        name, *arguments = line.split() or [""]
        if name == "}":
            break
        if name and not name.startswith("#"):
            opens = (arguments or [name])[-1] == "{"
            block = caddyfile(lines) if opens else {}
            arguments = arguments[:-1] if opens else arguments
            found.setdefault(name, []).append(Directive(arguments, block))
    return found


# Names that Caddy 2.10 knows where they stand here.
CADDY: Tree = {
    "{": {"servers": {"timeouts": {"read_header": {}, "read_body": {}, "idle": {}},
                      "max_header_size": {}}},
    "{$S2S_DOMAIN:localhost}": {
        "request_body": {"max_size": {}},
        "@metrics": {},
        "respond": {},
        "reverse_proxy": {"transport": {"keepalive": {}}},
    },
}  # fmt: skip


def caddy_names(directives: Directives) -> Tree:
    return {
        name: {k: v for each in found for k, v in caddy_names(each.block).items()}
        for name, found in directives.items()
    }


def test_the_proxy_takes_what_the_service_takes_and_hides_its_metrics() -> None:
    lines = (CLUSTER / "Caddyfile").read_text().splitlines()
    directives = caddyfile(iter(lines))
    assert sum(line.count("{") - line.count("}") for line in lines) == 0
    assert caddy_names(directives) == CADDY
    [site] = directives["{$S2S_DOMAIN:localhost}"]
    [proxy] = site.block["reverse_proxy"]
    environment = variables((CLUSTER / "s2s.env").read_text())
    assert proxy.arguments == [f"127.0.0.1:{environment['S2S_PORT']}"]
    [body] = site.block["request_body"]
    assert int(body.block["max_size"][0].arguments[0].removesuffix("KB")) * 1000 > Limits().body
    assert METRICS in site.block["@metrics"][0].arguments
    assert site.block["respond"][0].arguments == ["@metrics", "404"]
    [transport] = proxy.block["transport"]
    assert int(transport.block["keepalive"][0].arguments[0].removesuffix("s")) < KEEP_ALIVE
