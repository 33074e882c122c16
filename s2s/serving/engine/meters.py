"""Counters and histograms of a replica, for whoever exports them."""

import threading
from collections import Counter, deque

# Names, which have the unit, and descriptions that Prometheus shows.
COUNTERS = {
    "requests": "Requests answered, by path and status.",
    "sentences": "Sentences translated.",
    "words": "Target tokens generated, `<eos>` not counted.",
    "unknown_words": "Target tokens that were `<unk>`.",
    "steps": "Steps of the decoder over the slots.",
    "taken_slots": "Occupied slots, summed over the steps; divided by `steps`, the mean occupancy.",
    "refused": "Requests refused because too much was waiting.",
    "dropped": "Sentences dropped because their client had gone.",
}
HISTOGRAMS = {
    "request_seconds": "Time from a request's arrival at the engine to its last translation.",
    "queue_seconds": "Time that a sentence waited for a slot.",
    "first_word_seconds": "Time from a sentence's arrival to its first token.",
}

Labels = tuple[tuple[str, str], ...]


class Meters:
    """Counts and observations since they were last collected; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._requests: Counter[tuple[str, int]] = Counter()
        # The latest ones: where nobody collects, they must not fill the memory.
        self._observations: deque[tuple[str, float]] = deque(maxlen=100_000)

    def count(self, **counts: int) -> None:
        """Add to counters without labels."""
        with self._lock:
            for name, value in counts.items():
                self._counts[name, ()] += value

    def count_request(self, path: str, status: int) -> None:
        """Count an answered request."""
        with self._lock:
            self._requests[path, status] += 1

    def observe(self, observations: list[tuple[str, float]]) -> None:
        """Add observations to histograms."""
        with self._lock:
            self._observations += observations

    def collect(self) -> tuple[Counter[tuple[str, Labels]], list[tuple[str, float]]]:
        """Return the counts and observations since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            requests, self._requests = self._requests, Counter()
            observations = list(self._observations)
            self._observations.clear()
        for (path, status), number in requests.items():
            counts["requests", (("path", path), ("status", str(status)))] = number
        return counts, observations
