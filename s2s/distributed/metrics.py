"""Metrics of training runs and of serving, which every node of Ray offers to Prometheus."""

import threading
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from s2s.errors import Failed
from s2s.serving.engine.meters import COUNTERS, HISTOGRAMS
from s2s.serving.metrics import MODEL_LABELS, PREFIX, REQUEST_BOUNDS, ModelLabels, label_names

# Seconds; from small models on GPUs to large ones on a laptop.
_STEP_BOUNDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
_REFRESH_SECONDS = 5  # Ray forgets a gauge that has not been set for twenty
_EXPORTED = f"ray_{PREFIX}"  # how Ray calls them
_EXPORT_SECONDS = 5  # for a node to answer


class TrainMetrics:
    """The tracker that sets a gauge for each value, tagged by run.

    A counter has the steps, and a histogram their times. The gauges are `s2s_train_loss`,
    `s2s_train_target_tokens_per_second` and so on; Prometheus sees them with Ray's prefix, as
    `ray_s2s_train_loss`. A thread keeps them there until the run ends: so a gauge whose counter
    stands still is that of a run that makes no progress.

    Args:
        run: the value of the tag `run`.
        after: the step that the run is resumed from, 0 for a new run.
    """

    def __init__(self, run: str, after: int) -> None:
        self._tags, self._step = {"run": run}, after
        self._gauges: dict[str, Gauge] = {}
        self._values: dict[str, float] = {}  # of the gauges
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._steps = Counter("s2s_train_steps", "Optimizer steps done", tag_keys=("run",))
        self._times = Histogram(
            "s2s_train_step_seconds_histogram",
            "Mean seconds of an optimizer step between two logs",
            boundaries=_STEP_BOUNDS,
            tag_keys=("run",),
        )
        threading.Thread(target=self._refresh, name="s2s-train-metrics", daemon=True).start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Set the gauge of each value."""
        with self._lock:
            for name, value in values.items():
                metric = "s2s_" + name.replace("/", "_")
                if metric not in self._gauges:
                    text = f"{name} of a training run"
                    self._gauges[metric] = Gauge(metric, text, tag_keys=("run",))
                self._values[metric] = value
            self._set_gauges()
        if step > self._step:
            self._steps.inc(step - self._step, tags=self._tags)
            self._step = step
        if (seconds := values.get("train/step_seconds")) is not None:
            self._times.observe(seconds, tags=self._tags)

    def close(self, finished: bool) -> None:
        """Leave the gauges to Ray, which forgets them in some seconds."""
        self._ended.set()

    def _refresh(self) -> None:
        while not self._ended.wait(_REFRESH_SECONDS):
            with self._lock:
                self._set_gauges()

    def _set_gauges(self) -> None:
        for metric, value in self._values.items():
            self._gauges[metric].set(value, tags=self._tags)


class ServeMetrics:
    """Metrics of a replica, which Ray exports.

    Prometheus sees counters as `ray_s2s_serve_sentences_total` and so on, histograms as
    `ray_s2s_serve_queue_seconds_bucket`, and a gauge `ray_s2s_serve_model_info` that is 1 for each
    model that is served, with its name, version and languages as labels.
    """

    def __init__(self) -> None:
        self._counters = {
            name: Counter(PREFIX + name, text, label_names(name)) for name, text in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(PREFIX + name, text, boundaries=REQUEST_BOUNDS)
            for name, text in HISTOGRAMS.items()
        }
        self._models = Gauge(f"{PREFIX}model_info", "Models that are served.", MODEL_LABELS)

    def count(self, name: str, labels: Mapping[str, str], value: int) -> None:
        """Add to a counter."""
        self._counters[name].inc(value, dict(labels))

    def observe(self, name: str, seconds: float) -> None:
        """Add an observation to a histogram."""
        self._histograms[name].observe(seconds)

    def set_model(self, labels: ModelLabels, served: bool) -> None:
        """Set whether a model is served."""
        self._models.set(float(served), dict(zip(MODEL_LABELS, labels, strict=True)))


def exported_metrics() -> str:
    """Return the metrics of all replicas, as the nodes of the cluster export them.

    Each replica counts for itself, and any of them may be asked. Names are without Ray's prefix.

    Raises:
        Failed: a node does not answer.
    """
    families: dict[str, list[str]] = {}  # lines by the name of the metric
    for node in ray.nodes():
        if node["Alive"]:
            _add_families(families, _exported_by(node))
    return _text(families)


def _exported_by(node: Mapping[str, Any]) -> str:
    host, port = node["NodeManagerAddress"], node["MetricsExportPort"]
    connection = HTTPConnection(host, port, timeout=_EXPORT_SECONDS)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    except (OSError, HTTPException) as error:
        raise Failed(f"the node {host} does not export its metrics: {error}") from None
    finally:
        connection.close()


def _add_families(families: dict[str, list[str]], text: str) -> None:
    """Add the lines of a service's metrics, each to the others of its metric."""
    family: list[str] = []
    for line in text.splitlines():
        is_comment = line.startswith("# ")  # `# HELP NAME …` or `# TYPE NAME …`
        name = line.split(" ", 3)[2] if is_comment else line
        if name.startswith(_EXPORTED):
            if is_comment:
                family = families.setdefault(name, [])
            family.append(line.replace(_EXPORTED, PREFIX, 1))


def _text(families: Mapping[str, list[str]]) -> str:
    """Return the lines of metrics, each once, since every node describes them."""
    return "".join(f"{line}\n" for lines in families.values() for line in dict.fromkeys(lines))
