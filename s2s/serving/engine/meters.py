"""What a replica counts, for whoever exports it."""

import threading
from collections import Counter, deque

# Name → what it is; the unit is in the name.
COUNTERS = {
    "requests": "Requests answered, by path and status.",
    "sentences": "Sentences translated.",
    "words": "Target words said, `<eos>` not counted.",
    "unknown_words": "Target words that were `<unk>`.",
    "steps": "Steps of the decoder over the slots.",
    "taken_slots": "Slots taken, summed over the steps: over `steps`, the mean occupancy.",
    "refused": "Requests refused because too much was waiting.",
    "dropped": "Sentences dropped because their client had gone.",
}
HISTOGRAMS = {
    "request_seconds": "Time from a request's arrival at the engine to its last translation.",
    "queue_seconds": "Time that a sentence waited for a slot.",
    "first_word_seconds": "Time from a sentence's arrival to its first word.",
}

Labels = tuple[tuple[str, str], ...]


class Meters:
    """Counts and observations since they were last collected; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, Labels]] = Counter()
        # The latest ones: where nobody collects, they must not fill the memory.
        self._observed: deque[tuple[str, float]] = deque(maxlen=100_000)

    def count(self, **counts: int) -> None:
        """Add to counters without labels."""
        with self._lock:
            for name, value in counts.items():
                self._counts[name, ()] += value

    def answered(self, path: str, status: int) -> None:
        """Count a request."""
        with self._lock:
            self._counts["requests", (("path", path), ("status", str(status)))] += 1

    def observe(self, observations: list[tuple[str, float]]) -> None:
        """Add observations to histograms."""
        with self._lock:
            self._observed += observations

    def collect(self) -> tuple[Counter[tuple[str, Labels]], list[tuple[str, float]]]:
        """All since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            observed = list(self._observed)
            self._observed.clear()
        return counts, observed
