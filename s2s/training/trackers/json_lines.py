"""JSON lines, which record every run: `metrics.jsonl` and `samples.jsonl` in its folder."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from s2s.errors import BadInput
from s2s.files import new_file
from s2s.training.trackers.tracker import TrackedRun, ValidSample

_METRICS, _SAMPLES = "metrics.jsonl", "samples.jsonl"


class JsonLines:
    """Files with a JSON object a line: `step`, `time` in Unix seconds, and what is recorded.

    A line of `metrics.jsonl` has the values by name; NaN and infinity are written as null. A line
    of `samples.jsonl` is a sample. Each line is flushed at once. When the run is resumed, lines of
    later steps are removed, and so is an incomplete last line.

    Raises:
        BadInput: a file is there and has a complete line of another format.
    """

    def __init__(self, run: TrackedRun) -> None:
        self._folder = run.folder
        for name in (_METRICS, _SAMPLES):
            _drop_later_lines(run.folder / name, run.resumed_from)
        self._files: dict[str, TextIO] = {}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line to `metrics.jsonl`."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._append(_METRICS, step, [finite])

    def log_samples(self, step: int, samples: Sequence[ValidSample]) -> None:
        """Append a line for each sample to `samples.jsonl`."""
        self._append(_SAMPLES, step, [asdict(sample) for sample in samples])

    def close(self, finished: bool) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _append(self, name: str, step: int, contents: Sequence[Mapping[str, object]]) -> None:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("a", encoding="utf-8")
        head = {"step": step, "time": time.time()}
        for content in contents:
            line = json.dumps({**head, **content}, ensure_ascii=False)
            self._files[name].write(f"{line}\n")
        self._files[name].flush()


def read_samples(folder: Path) -> list[tuple[int, ValidSample]]:
    """Return the samples that a run's folder holds, each with its step; none if none are recorded.

    Raises:
        BadInput: `samples.jsonl` has a line of another format.
    """
    path = folder / _SAMPLES
    if not path.is_file():
        return []
    names = ValidSample.__dataclass_fields__
    samples = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            content = json.loads(line)
            sample = ValidSample(**{name: str(content[name]) for name in names})
            samples.append((int(content["step"]), sample))
        except (ValueError, TypeError, KeyError):
            raise BadInput(f"{path}, line {number}: expected a sample as JSON") from None
    return samples


def _drop_later_lines(path: Path, last: int) -> None:
    """Remove the lines of steps after `last` from a file, if it exists."""
    if not path.exists():
        return
    *lines, _incomplete = path.read_bytes().split(b"\n")
    kept = []
    for number, line in enumerate(lines, start=1):
        try:
            if json.loads(line)["step"] <= last:
                kept.append(line + b"\n")
        except (ValueError, TypeError, KeyError):
            raise BadInput(f"{path}, line {number}: expected a JSON object with a step") from None
    with new_file(path) as scratch:
        scratch.write_bytes(b"".join(kept))
