"""The metrics of a service, published every few seconds, and their text for Prometheus."""

import threading
from collections.abc import Mapping
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from s2s.serving.engine.meters import COUNTERS, HISTOGRAMS
from s2s.serving.engine.models import Models

PREFIX = "s2s_serve_"
MODEL_LABELS = ("model", "version", "source", "target")

# Upper bounds of the histograms, in seconds: from one step of a small model to a client's patience.
_MILLISECONDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000)
REQUEST_BOUNDS = [milliseconds / 1_000 for milliseconds in _MILLISECONDS]

ModelLabels = tuple[str, ...]  # values of `MODEL_LABELS`


class Metrics(Protocol):
    """Metrics that something exports: a counter or histogram for each name of the meters."""

    def count(self, name: str, labels: Mapping[str, str], value: int) -> None:
        """Add to a counter."""

    def observe(self, name: str, seconds: float) -> None:
        """Add an observation to a histogram."""

    def set_model(self, labels: ModelLabels, served: bool) -> None:
        """Set whether a model is served."""


class Publisher:
    """Puts what the meters of models count into metrics, every few seconds, in a thread.

    Args:
        seconds: between two publications.
    """

    def __init__(self, models: Models, metrics: Metrics, seconds: float = 2.0) -> None:
        self._models, self._metrics, self._seconds = models, metrics, seconds
        self._published: set[ModelLabels] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="s2s-metrics", daemon=True)
        self._thread.start()

    def publish(self) -> None:
        """Put what was counted since the last time into the metrics."""
        with self._lock:
            counts, observations = self._models.meters.collect()
            for (name, labels), value in counts.items():
                if value:
                    self._metrics.count(name, dict(labels), value)
            for name, seconds in observations:
                self._metrics.observe(name, seconds)
            served = {(m.name, m.version, m.source, m.target) for m in self._models.all}
            for model in served | self._published:
                self._metrics.set_model(model, model in served)
            self._published |= served

    def close(self) -> None:
        """Publish the rest, and end the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self.publish()
        self.publish()


class PrometheusMetrics:
    """Metrics of this process, which `text` gives to Prometheus.

    Counters are called `s2s_serve_sentences_total` and so on, histograms
    `s2s_serve_queue_seconds_bucket`, and a gauge `s2s_serve_model_info` is 1 for each model that is
    served.
    """

    def __init__(self) -> None:
        # Prometheus has no use for the times at which counters began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._counters = {
            name: Counter(PREFIX + name, text, label_names(name), registry=self._registry)
            for name, text in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(PREFIX + name, text, registry=self._registry, buckets=REQUEST_BOUNDS)
            for name, text in HISTOGRAMS.items()
        }
        self._models = Gauge(
            f"{PREFIX}model_info", "Models that are served.", MODEL_LABELS, registry=self._registry
        )

    def count(self, name: str, labels: Mapping[str, str], value: int) -> None:
        """Add to a counter."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(value)

    def observe(self, name: str, seconds: float) -> None:
        """Add an observation to a histogram."""
        self._histograms[name].observe(seconds)

    def set_model(self, labels: ModelLabels, served: bool) -> None:
        """Set whether a model is served."""
        self._models.labels(*labels).set(float(served))

    def text(self) -> str:
        """Return the metrics as Prometheus reads them."""
        return generate_latest(self._registry).decode()


def label_names(counter: str) -> tuple[str, ...]:
    """Return the names of a counter's labels."""
    return ("path", "status") if counter == "requests" else ()
