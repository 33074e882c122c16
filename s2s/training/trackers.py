"""Where the numbers of a training run go while it runs: a file of lines, TensorBoard, MLflow.

Steps are optimizer steps since the run began, from 1, over all its sessions: a run that was
interrupted goes on from its last checkpoint, and what was told of steps after that one is of work
that was lost.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from s2s.errors import BadInput
from s2s.files import new_file, write_text


class Tracker(Protocol):
    """What a training run tells its numbers; any other place to keep them fits in here."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values after so many optimizer steps of the run, such as `train/loss`."""

    def close(self, finished: bool) -> None:
        """Take no more values; a second call does nothing.

        Args:
            finished: the run is over and succeeded. One that failed or was stopped can go on later.
        """


class Several:
    """A tracker that tells several others, in order.

    One that cannot write (its disk is full) is told of once and then left alone.

    Args:
        say: called with a line of text when a tracker is given up.
    """

    def __init__(
        self, trackers: Sequence[Tracker], say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._trackers, self._say = list(trackers), say

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tell each."""
        for tracker in list(self._trackers):
            try:
                tracker.log(step, values)
            except OSError as error:
                self._trackers.remove(tracker)
                self._say(f"{type(tracker).__name__}: {error}; training goes on without it")

    def close(self, finished: bool) -> None:
        """Close each, even where another cannot be closed; then raise what that one raised."""
        with ExitStack() as closing:
            for tracker in reversed(self._trackers):
                closing.callback(tracker.close, finished)


class JsonLines:
    """A file with a JSON object a line: `step`, `time` in Unix seconds, and the values by name.

    Each line is there as soon as it is logged. What is no finite number is null.

    Args:
        after: the step the run goes on from, 0 for a new run. Lines of later steps are dropped,
            and so is a last line that was not written to its end.

    Raises:
        BadInput: `path` is there, and another line of it is not of this kind.
    """

    def __init__(self, path: Path, after: int) -> None:
        if path.exists():
            kept = _kept(path, after)
            with new_file(path) as scratch:
                scratch.write_bytes(kept)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": step, "time": time.time(), **finite}, ensure_ascii=False)
        self._file.write(f"{line}\n")
        self._file.flush()

    def close(self, finished: bool) -> None:
        """Close the file."""
        self._file.close()


def _kept(path: Path, after: int) -> bytes:
    """The lines of steps up to `after`."""
    *lines, _torn = path.read_bytes().split(b"\n")
    kept = []
    for number, line in enumerate(lines, start=1):
        try:
            if json.loads(line)["step"] <= after:
                kept.append(line + b"\n")
        except (ValueError, TypeError, KeyError):
            raise BadInput(f"{path}, line {number}: a JSON object with a step expected") from None
    return b"".join(kept)


class TensorBoard:
    """Event files for `tensorboard --logdir`, one for each session of a run, shown as one curve.

    Args:
        folder: where the files are, of this run alone; it is made if need be.
        after: the step the run goes on from, 0 for a new run. TensorBoard hides what earlier
            files say of later steps.
    """

    def __init__(self, folder: Path, after: int) -> None:
        # Not SummaryWriter: when its thread meets a full disk, the run would wait for ever.
        from tensorboardX.event_file_writer import (
            EventsWriter,
        )
        from tensorboardX.proto import event_pb2

        self._protocol: Any = event_pb2
        folder.mkdir(parents=True, exist_ok=True)
        # The name alone has whole seconds, and a second session within one would overwrite the
        # first. Files are read in the order of their names.
        self._file: Any = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=after + 1, session_log=start)
        self._closed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each value."""
        summary = self._protocol.Event().summary
        for name, value in values.items():
            summary.value.add(tag=name, simple_value=value)
        self._write(step=step, summary=summary)

    def close(self, finished: bool) -> None:
        """Close the file."""
        if not self._closed:
            self._file.close()
        self._closed = True

    def _write(self, **content: Any) -> None:
        self._file.write_event(self._protocol.Event(wall_time=time.time(), **content))
        self._file.flush()


# MLflow has no other place for these, and who sets the variables has the last word. Its own waits
# (2 minutes a request, 7 more tries) would hold up all workers.
_MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the first at once, the second after 4 seconds
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_LONGEST = 500  # characters of a parameter's value: what old servers take, too


class MLflow:
    """A run on an MLflow tracking server.

    A server that fails, or takes more than some seconds to answer, is told of once, and from there
    on left alone: training goes on without it. MLflow forgets no values, so those of lost work
    stay beside the ones of the same steps that are logged when the run goes on.

    Args:
        uri: of the server, such as `http://localhost:5000`.
        experiment: made if there is none of this name.
        name: of the run.
        parameters: shown with the run; long values are cut.
        memory: a file that keeps MLflow's id of the run, so that a run that goes on is the same
            one there. A run deleted on the server is begun anew.
        say: called with a line of text when the server is given up.

    Raises:
        BadInput: the package is missing, or can make nothing of `uri`.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        name: str,
        parameters: Mapping[str, object],
        memory: Path,
        say: Callable[[str], None],
    ) -> None:
        for variable, value in _MLFLOW_DEFAULTS.items():
            os.environ.setdefault(variable, value)
        try:
            import mlflow
        except ImportError as error:
            raise BadInput(f"MLflow: {error}; pip install 's2s[mlflow]'") from None
        try:
            self._client: Any = mlflow.MlflowClient(tracking_uri=uri)
        except Exception as error:  # MLflow's, and those of the packages that it lacks for a URI
            raise BadInput(f"MLflow: {_reason(error)}") from None
        self._mlflow: Any = mlflow
        self._say = say
        self._run: str | None = None  # MLflow's id of it, while there is one to tell
        with self._or_without():
            self._run = self._remembered(memory)
            if self._run is None:
                created = self._client.create_run(self._experiment(experiment), run_name=name)
                self._run = str(created.info.run_id)
                write_text(memory, self._run)
            self._describe(self._run, parameters)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values."""
        if self._run is None:
            return
        now = int(time.time() * 1000)
        metrics = [
            self._mlflow.entities.Metric(name, value, now, step) for name, value in values.items()
        ]
        with self._or_without():
            self._client.log_batch(self._run, metrics=metrics, synchronous=True)

    def close(self, finished: bool) -> None:
        """End the run as `FINISHED`, or as `FAILED` until it goes on."""
        if self._run is None:
            return
        with self._or_without():
            self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")
        self._run = None

    def _remembered(self, memory: Path) -> str | None:
        """The run of an earlier session, which then runs again, or none."""
        if not memory.exists():
            return None
        run = memory.read_text("utf-8").strip()
        try:
            known = self._client.get_run(run)
        except self._mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        if known.info.lifecycle_stage != "active":
            return None
        # A session that was killed left it running, one that was stopped has ended it.
        self._client.update_run(run, status="RUNNING")
        return run

    def _experiment(self, name: str) -> str:
        if (found := self._client.get_experiment_by_name(name)) is None:
            try:
                return str(self._client.create_experiment(name))
            except self._mlflow.MlflowException:
                # Another run may have made it in between.
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        return str(found.experiment_id)

    def _describe(self, run: str, parameters: Mapping[str, object]) -> None:
        """Send the parameters that the run has not: MLflow lets none be changed."""
        there = self._client.get_run(run).data.params
        new = [
            self._mlflow.entities.Param(name, _cut(str(value)))
            for name, value in parameters.items()
            if name not in there
        ]
        self._client.log_batch(run, params=new, synchronous=True)

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        """Go on without MLflow after whatever goes wrong in the block."""
        try:
            yield
        except Exception as error:  # of MLflow, of HTTP, of a store's own packages
            self._run = None
            self._say(f"MLflow: {_reason(error)}; training goes on without it")


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
