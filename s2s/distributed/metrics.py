"""Metrics of training runs and of serving, which every node of Ray offers to Prometheus."""

import threading
from collections.abc import Callable, Mapping

from ray.util.metrics import Counter, Gauge, Histogram

# Seconds; from small models on GPUs to large ones on a laptop.
_STEP_BOUNDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
# Seconds; from one step of a small model to a client's patience.
_REQUEST_BOUNDS = [*_STEP_BOUNDS, 10.0, 30.0]

Labels = tuple[tuple[str, str], ...]
Collected = tuple[Mapping[tuple[str, Labels], int], list[tuple[str, float]]]


class TrainMetrics:
    """The tracker that sets a gauge for each value, tagged by run.

    A counter has the steps, and a histogram their times. The gauges are `s2s_train_loss`,
    `s2s_train_target_tokens_per_second` and so on; Prometheus sees them with Ray's prefix, as
    `ray_s2s_train_loss`.

    Args:
        run: the value of the tag `run`.
        after: the step that the run is resumed from, 0 for a new run.
    """

    def __init__(self, run: str, after: int) -> None:
        self._tags, self._step = {"run": run}, after
        self._gauges: dict[str, Gauge] = {}
        self._steps = Counter("s2s_train_steps", "Optimizer steps done", tag_keys=("run",))
        self._times = Histogram(
            "s2s_train_step_seconds_histogram",
            "Mean seconds of an optimizer step between two logs",
            boundaries=_STEP_BOUNDS,
            tag_keys=("run",),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Set the gauge of each value."""
        for name, value in values.items():
            metric = "s2s_" + name.replace("/", "_")
            if metric not in self._gauges:
                self._gauges[metric] = Gauge(metric, f"{name} of a training run", tag_keys=("run",))
            self._gauges[metric].set(value, tags=self._tags)
        if step > self._step:
            self._steps.inc(step - self._step, tags=self._tags)
            self._step = step
        if (seconds := values.get("train/step_seconds")) is not None:
            self._times.observe(seconds, tags=self._tags)

    def close(self, finished: bool) -> None:
        """Leave the last values to be read."""


class ServeMetrics:
    """Publishes what a replica counts, every few seconds, in a thread of its own.

    Prometheus sees counters as `ray_s2s_serve_sentences_total` and so on, histograms as
    `ray_s2s_serve_queue_seconds_bucket`, and a gauge `ray_s2s_serve_model_info` that is 1 for each
    model that is served, with its name, version and languages as labels.

    Args:
        counters, histograms: descriptions by name.
        collect: returns the counts and the observations since the last call.
        models: returns the labels of each model that is served.
        seconds: between two publications.
    """

    def __init__(
        self,
        counters: Mapping[str, str],
        histograms: Mapping[str, str],
        collect: Callable[[], Collected],
        models: Callable[[], set[Labels]],
        seconds: float = 2.0,
    ) -> None:
        self._collect, self._models, self._seconds = collect, models, seconds
        self._counters = {
            name: Counter(f"s2s_serve_{name}", description, _label_names(name))
            for name, description in counters.items()
        }
        self._histograms = {
            name: Histogram(f"s2s_serve_{name}", description, boundaries=_REQUEST_BOUNDS)
            for name, description in histograms.items()
        }
        keys = ("model", "version", "source", "target")
        self._info = Gauge("s2s_serve_model_info", "Models that are served.", keys)
        self._published: set[Labels] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="s2s-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publish the rest, and end the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._publish()
        self._publish()

    def _publish(self) -> None:
        counts, observations = self._collect()
        for (name, labels), value in counts.items():
            if value:
                self._counters[name].inc(value, dict(labels))
        for name, seconds in observations:
            self._histograms[name].observe(seconds)
        served = self._models()
        for labels in served | self._published:
            self._info.set(float(labels in served), dict(labels))
        self._published |= served


def _label_names(counter: str) -> tuple[str, ...]:
    return ("path", "status") if counter == "requests" else ()
