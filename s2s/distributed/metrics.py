"""A run's numbers as metrics of Ray, which every node offers to Prometheus."""

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

# Seconds; from small models on GPUs to large ones on a laptop.
_STEP_BOUNDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]


class RayMetrics:
    """A gauge for each value, a counter of steps and a histogram of their times, tagged by run.

    The gauges are `s2s_train_loss`, `s2s_train_target_tokens_per_second` and so on; Prometheus sees
    them with Ray's prefix, as `ray_s2s_train_loss`.

    Args:
        run: the value of the tag `run`.
        after: the step the run goes on from, 0 for a new run.
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
            full = "s2s_" + name.replace("/", "_")
            if full not in self._gauges:
                self._gauges[full] = Gauge(full, f"{name} of a training run", tag_keys=("run",))
            self._gauges[full].set(value, tags=self._tags)
        if step > self._step:
            self._steps.inc(step - self._step, tags=self._tags)
            self._step = step
        if (seconds := values.get("train/step_seconds")) is not None:
            self._times.observe(seconds, tags=self._tags)

    def close(self, finished: bool) -> None:
        """Leave the last values to be read."""
