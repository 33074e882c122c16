"""Where the time of a training step goes: a trace of some steps, and a breakdown on one screen."""

import time
from collections.abc import Callable
from pathlib import Path

from torch.profiler import profile, schedule

# Steps that are passed over (the first ones compile kernels), that warm the profiler up, and that
# are recorded.
_PASSED, _WARM, _RECORDED = 20, 5, 40
_OPERATORS = 12  # shown


class Profile:
    """Records some steps of a run; what it found is told once, and training goes on.

    Args:
        folder: gets `trace.json`, for https://ui.perfetto.dev or chrome://tracing.
        say: told the breakdown, a line at a time.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._begin = 0.0
        self._steps = 0
        self._profile: profile | None = profile(
            schedule=schedule(wait=_PASSED, warmup=_WARM, active=_RECORDED, repeat=1),
            on_trace_ready=self._tell,
        )
        self._profile.start()

    def step(self) -> None:
        """Told after every optimizer step."""
        if self._profile is None:
            return
        self._steps += 1
        if self._steps == _PASSED + _WARM:
            self._begin = time.perf_counter()
        self._profile.step()
        if self._steps == _PASSED + _WARM + _RECORDED:
            self._profile.stop()
            self._profile = None

    def close(self) -> None:
        """Told at the end of the run."""
        if self._profile is not None:
            self._profile = None
            needed = _PASSED + _WARM + _RECORDED
            self._say(f"no profile: it takes {needed} steps, and there were {self._steps}")

    def _tell(self, found: profile) -> None:
        wall = (time.perf_counter() - self._begin) * 1e3 / _RECORDED  # milliseconds a step
        self._folder.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(self._folder / "trace.json"))
        events = found.key_averages()
        # A phase that runs on a GPU has a row for each device; the CPU's has the wall time.
        phases = {
            event.key.removeprefix("s2s "): event.cpu_time_total / 1e3 / _RECORDED
            for event in events
            if event.key.startswith("s2s ") and event.cpu_time_total
        }
        phases["batches and the rest"] = max(0.0, wall - sum(phases.values()))
        self._say(f"{_RECORDED} steps of {wall:.2f} ms, the profiler's own time included:")
        for name, spent in phases.items():
            self._say(f"  {name:<22} {spent:8.2f} ms {spent / wall:6.1%}")
        self._say("operators by their own time:")
        operators = sorted(
            (event for event in events if not event.key.startswith(("s2s ", "ProfilerStep"))),
            key=lambda event: -(event.self_cpu_time_total + event.self_device_time_total),
        )
        for event in operators[:_OPERATORS]:
            spent = (event.self_cpu_time_total + event.self_device_time_total) / 1e3 / _RECORDED
            calls = event.count / _RECORDED
            self._say(
                f"  {event.key[:44]:<44} {spent:8.2f} ms {spent / wall:6.1%} {calls:6.1f} calls"
            )
        self._say(f"trace: {self._folder / 'trace.json'}")
