"""What a replica counts, as metrics of Ray, which every node offers to Prometheus."""

import threading
from collections.abc import Callable, Mapping

from ray.util.metrics import Counter, Gauge, Histogram

# Seconds; from one step of a small model to a client's patience.
_BOUNDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]


Labels = tuple[tuple[str, str], ...]
Collected = tuple[Mapping[tuple[str, Labels], int], list[tuple[str, float]]]


class Exporter:
    """Hands on what a replica counts, every few seconds, in a thread of its own.

    Prometheus sees counters as `ray_s2s_serve_sentences_total` and so on, histograms as
    `ray_s2s_serve_queue_seconds_bucket`, and a gauge `ray_s2s_serve_model_info` that is 1 for each
    model that is served, with its name, version and languages as labels.

    Args:
        counters, histograms: their names, and what they are.
        collect: gives the counts and the observations since it was last called.
        served: gives the labels of each model that is served.
        seconds: between two times.
    """

    def __init__(
        self,
        counters: Mapping[str, str],
        histograms: Mapping[str, str],
        collect: Callable[[], Collected],
        served: Callable[[], set[Labels]],
        seconds: float = 2.0,
    ) -> None:
        self._collect, self._served, self._seconds = collect, served, seconds
        self._counters = {
            name: Counter(f"s2s_serve_{name}", what, _labels(name))
            for name, what in counters.items()
        }
        self._histograms = {
            name: Histogram(f"s2s_serve_{name}", what, boundaries=_BOUNDS)
            for name, what in histograms.items()
        }
        keys = ("model", "version", "source", "target")
        self._info = Gauge("s2s_serve_model_info", "Models that are served.", keys)
        self._told: set[Labels] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="s2s-exporter", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hand on the rest, and end."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._hand_on()
        self._hand_on()

    def _hand_on(self) -> None:
        counts, observed = self._collect()
        for (name, labels), value in counts.items():
            if value:
                self._counters[name].inc(value, dict(labels))
        for name, seconds in observed:
            self._histograms[name].observe(seconds)
        served = self._served()
        for labels in served | self._told:
            self._info.set(float(labels in served), dict(labels))
        self._told |= served


def _labels(name: str) -> tuple[str, ...]:
    return ("path", "status") if name == "requests" else ()
