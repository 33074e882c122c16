"""Manifests of Kubernetes, read and checked as its API server would, without one.

Resources of KubeRay are checked against KubeRay's own definitions, which `S2S_DATA` has, everything
else against the schemas of Kubernetes in kubernetes-validate. A field that a schema does not know
is a fault, and so are two entries of a list with the same key. Rules in CEL
(`x-kubernetes-validations`) are not evaluated.
"""

import copy
import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_validate.utils import all_versions, latest_version

Tree = dict[str, Any]

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
DEFINITIONS = Path(os.environ.get("S2S_DATA", "/nowhere")) / "kuberay-crds"
# The oldest and the newest whose schemas kubernetes-validate has.
OLDEST, NEWEST = all_versions()[0], latest_version()


# ---- reading -------------------------------------------------------------------------------------


def _refuse_twice(node: yaml.Node) -> None:
    """Raise where a mapping has a key twice: PyYAML would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item)
    elif isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"given twice: {twice}, {node.start_mark}")
        for _, item in node.value:
            _refuse_twice(item)


def parse(text: str) -> list[Tree]:
    """Return the documents of a YAML text."""
    return copy.deepcopy(_parsed(text))


@cache
def _parsed(text: str) -> list[Tree]:
    for document in yaml.compose_all(text, yaml.SafeLoader):
        _refuse_twice(document)
    return list(yaml.safe_load_all(text))


def read(name: str) -> list[Tree]:
    """Return the documents of a file of cluster/."""
    return parse((CLUSTER / name).read_text("utf-8"))


def reason_for_no_kustomize() -> str | None:
    """Why this machine builds no overlays, or None if it does."""
    return None if _kustomize() else "neither kustomize nor kubectl is installed"


def _kustomize() -> list[str] | None:
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


def kustomized(folder: Path) -> list[Tree]:
    """Return the manifests that kustomize makes of a folder."""
    command = _kustomize()
    assert command
    done = subprocess.run([*command, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


# ---- checking ------------------------------------------------------------------------------------


def faults(manifest: Tree, kuberay: str, kubernetes: str) -> list[str]:
    """Return what an API server of these versions would refuse or ignore in a manifest."""
    if manifest["apiVersion"].startswith("ray.io/"):
        found = _faults_by_definition(manifest, kuberay)
        names = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]}
        checked = [names, *map(_pod, pod_templates(manifest))]
    else:
        found, checked = [], [manifest]
    found += [fault for each in checked if (fault := _fault(json.dumps(each), kubernetes))]
    return found


@cache
def _fault(resource: str, kubernetes: str) -> str:
    """Return the first fault of a resource of Kubernetes, or nothing."""
    try:
        kubernetes_validate.validate(json.loads(resource), kubernetes, strict=True)
    except kubernetes_validate.ValidationError as error:
        return _description(error)
    return ""


def pod_templates(manifest: Any) -> Iterator[Tree]:
    """Yield all templates of pods in a resource of KubeRay."""
    if isinstance(manifest, dict):
        for key, value in manifest.items():
            if key in {"template", "submitterPodTemplate"}:
                yield value
            else:
                yield from pod_templates(value)
    elif isinstance(manifest, list):
        for item in manifest:
            yield from pod_templates(item)


def _pod(template: Tree) -> Tree:
    return {"apiVersion": "v1", "kind": "Pod", **template}


def _faults_by_definition(manifest: Tree, kuberay: str) -> list[str]:
    version = manifest["apiVersion"].removeprefix("ray.io/")
    validator = _Validator(_schema(kuberay, manifest["kind"], version))
    return [_description(error) for error in validator.iter_errors(manifest)]


def _description(error: jsonschema.ValidationError) -> str:
    return f"{error.json_path}: {error.message}"


@cache
def _schema(kuberay: str, kind: str, version: str) -> Tree:
    """Return the schema of a kind, as strict as `kubectl --validate=strict`."""
    text = gzip.decompress((DEFINITIONS / f"v{kuberay}-{kind.lower()}s.yaml.gz").read_bytes())
    # A definition has a megabyte for each of its versions: only the one that is asked for is read.
    versions = text.partition(b"\n  versions:")[2].split(b"\n  - ")
    [wanted] = [part for part in versions if f"\n    name: {version}\n".encode() in part]
    definition = yaml.load(b"    " + wanted, yaml.CSafeLoader)
    assert definition["name"] == version
    assert definition["served"]
    schema: Tree = definition["schema"]["openAPIV3Schema"]
    _close(schema)
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    return schema


def _close(schema: Tree) -> None:
    """Let a structural schema refuse fields that it does not know."""
    properties = schema.get("properties", {})
    inner = schema.get("additionalProperties")
    if schema.get("type") == "object" and inner is None:
        schema["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    below = [*properties.values(), schema.get("items"), inner]
    for each in below:
        if isinstance(each, dict):
            _close(each)


def _keys_are_unique(
    validator: jsonschema.Draft202012Validator, keys: list[str], items: Any, schema: Tree
) -> Iterator[jsonschema.ValidationError]:
    properties = schema["items"]["properties"]
    there = [tuple(item.get(key, properties[key].get("default")) for key in keys) for item in items]
    for each in sorted({str(one) for one in there if there.count(one) > 1}):
        yield jsonschema.ValidationError(f"given twice: {each}")


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, {"x-kubernetes-list-map-keys": _keys_are_unique}
)


def changed(manifest: Tree, path: list[str | int], value: Any) -> Tree:
    """Return a copy of a manifest with one value exchanged or added."""
    copied = copy.deepcopy(manifest)
    inner: Any = copied
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copied
