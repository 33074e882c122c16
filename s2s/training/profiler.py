"""Profiling of training steps: a trace of some steps, and a breakdown of their time."""

import time
from collections.abc import Callable
from pathlib import Path

from torch.profiler import profile, schedule

# Steps to skip (the first ones compile kernels), to warm the profiler up, and to record.
_SKIPPED, _WARM_UP, _RECORDED = 20, 5, 40
_OPERATORS = 12  # to show


class StepProfiler:
    """A profiler that records some steps of a run and logs the result once.

    Args:
        folder: for `trace.json`, which https://ui.perfetto.dev and chrome://tracing open.
        log: called with each line of the breakdown.
    """

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        self._folder, self._log = folder, log
        self._begin = 0.0
        self._steps = 0
        self._profile: profile | None = profile(
            schedule=schedule(wait=_SKIPPED, warmup=_WARM_UP, active=_RECORDED, repeat=1),
            on_trace_ready=self._report,
        )
        self._profile.start()

    def step(self) -> None:
        """Advance by an optimizer step; called after each."""
        if self._profile is None:
            return
        self._steps += 1
        if self._steps == _SKIPPED + _WARM_UP:
            self._begin = time.perf_counter()
        self._profile.step()
        if self._steps == _SKIPPED + _WARM_UP + _RECORDED:
            self._profile.stop()
            self._profile = None

    def close(self) -> None:
        """End profiling; log a line if the run was too short."""
        if self._profile is not None:
            self._profile = None
            needed = _SKIPPED + _WARM_UP + _RECORDED
            self._log(f"no profile: it needs {needed} steps, and the run had {self._steps}")

    def _report(self, recorded: profile) -> None:
        """Write the trace, and log the time of phases and operators."""
        wall = (time.perf_counter() - self._begin) * 1e3 / _RECORDED  # milliseconds a step
        self._folder.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self._folder / "trace.json"))
        events = recorded.key_averages()
        # A phase that runs on a GPU has a row for each device; the row of the CPU has wall time.
        phases = {
            event.key.removeprefix("s2s "): event.cpu_time_total / 1e3 / _RECORDED
            for event in events
            if event.key.startswith("s2s ") and event.cpu_time_total
        }
        phases["batches and other"] = max(0.0, wall - sum(phases.values()))
        self._log(f"{_RECORDED} steps of {wall:.2f} ms on average, with the profiler's overhead:")
        for name, spent in phases.items():
            self._log(f"  {name:<22} {spent:8.2f} ms {spent / wall:6.1%}")
        self._log("operators by self time:")
        operators = sorted(
            (event for event in events if not event.key.startswith(("s2s ", "ProfilerStep"))),
            key=lambda event: -(event.self_cpu_time_total + event.self_device_time_total),
        )
        for event in operators[:_OPERATORS]:
            spent = (event.self_cpu_time_total + event.self_device_time_total) / 1e3 / _RECORDED
            calls = event.count / _RECORDED
            self._log(
                f"  {event.key[:44]:<44} {spent:8.2f} ms {spent / wall:6.1%} {calls:6.1f} calls"
            )
        self._log(f"trace: {self._folder / 'trace.json'}")
