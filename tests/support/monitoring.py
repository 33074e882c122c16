"""The names of the metrics in alerts and dashboards, and in what a process exports."""

import json
import re
from pathlib import Path

import yaml

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
ALERTS = CLUSTER / "alerts.yaml"
BOARDS = (CLUSTER / "grafana.json", CLUSTER / "grafana-training.json")


def expressions() -> list[str]:
    """Return the expressions of all alerts, and of all panels and variables of the dashboards."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    found = [rule["expr"] for group in groups for rule in group["rules"]]
    for board in BOARDS:
        tree = json.loads(board.read_text())
        found += [target["expr"] for panel in tree["panels"] for target in panel["targets"]]
        variables = tree["templating"]["list"]
        found += [each["query"]["query"] for each in variables if each["type"] == "query"]
    return found


def asked(prefix: str) -> set[str]:
    """Return the names that begin so of all metrics that alerts and dashboards ask for."""
    return set(re.findall(rf"\b(?:{prefix})\w+", " ".join(expressions())))


def exported(text: str) -> set[str]:
    """Return the names of the metrics in a text for Prometheus."""
    return set(re.findall(r"(?m)^(\w+)[{ ]", text))
