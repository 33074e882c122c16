"""Trackers, which record the metrics of a training run: JSON lines, TensorBoard, MLflow.

Steps are optimizer steps since the run began, from 1, over all its sessions. An interrupted run
resumes from its last checkpoint; values logged for later steps are of work that was lost.
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
from s2s.extras import install_command
from s2s.files import new_file, write_text


class Tracker(Protocol):
    """The interface of a place that records metrics."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values after an optimizer step of the run, by names such as `train/loss`."""

    def close(self, finished: bool) -> None:
        """Finish recording; a second call does nothing.

        Args:
            finished: whether the run is complete. A run that failed or was stopped can be resumed.
        """


class Trackers:
    """Several trackers as one.

    A tracker that cannot write (because its disk is full, say) is logged once and then left out.

    Args:
        log: called with a line of text when a tracker is left out.
    """

    def __init__(
        self, trackers: Sequence[Tracker], log: Callable[[str], None] = lambda line: None
    ) -> None:
        self._trackers, self._log = list(trackers), log

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Pass the values to each tracker, in order."""
        for tracker in list(self._trackers):
            try:
                tracker.log(step, values)
            except OSError as error:
                self._trackers.remove(tracker)
                self._log(f"{type(tracker).__name__}: {error}; training continues without it")

    def close(self, finished: bool) -> None:
        """Close each tracker, the last one first; then raise the error of one that failed."""
        with ExitStack() as closing:
            for tracker in reversed(self._trackers):
                closing.callback(tracker.close, finished)


class JsonLines:
    """A file with a JSON object a line: `step`, `time` in Unix seconds, and the values by name.

    Each line is flushed at once. NaN and infinity are written as null.

    Args:
        resumed_from: the step that the run resumes from, 0 for a new run. Lines of later steps are
            removed, and so is an incomplete last line.

    Raises:
        BadInput: `path` exists and has a complete line of another format.
    """

    def __init__(self, path: Path, resumed_from: int) -> None:
        if path.exists():
            lines = _lines_until(path, resumed_from)
            with new_file(path) as scratch:
                scratch.write_bytes(lines)
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


def _lines_until(path: Path, last: int) -> bytes:
    """Return the lines of the steps up to `last`."""
    *lines, _incomplete = path.read_bytes().split(b"\n")
    selected = []
    for number, line in enumerate(lines, start=1):
        try:
            if json.loads(line)["step"] <= last:
                selected.append(line + b"\n")
        except (ValueError, TypeError, KeyError):
            raise BadInput(f"{path}, line {number}: expected a JSON object with a step") from None
    return b"".join(selected)


class TensorBoard:
    """Event files for `tensorboard --logdir`, one for each session of a run, shown as one curve.

    Args:
        folder: of this run alone; created if it does not exist.
        resumed_from: the step that the run resumes from, 0 for a new run. TensorBoard hides values
            of later steps in earlier files.
    """

    def __init__(self, folder: Path, resumed_from: int) -> None:
        # Not SummaryWriter: when the disk is full, its thread dies and the run waits for ever.
        from tensorboardX.event_file_writer import (
            EventsWriter,
        )
        from tensorboardX.proto import event_pb2

        self._protocol: Any = event_pb2
        folder.mkdir(parents=True, exist_ok=True)
        # By default the name has whole seconds: a session that begins within the same second would
        # overwrite the file of the one before. TensorBoard reads files in the order of their names.
        self._file: Any = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=resumed_from + 1, session_log=start)
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


# MLflow takes these from the environment only; variables that the user has set have precedence. Its
# own defaults (2 minutes a request, 7 retries) would hold up all workers.
_MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # one at once, one after 4 seconds
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_LONGEST = 500  # characters of a parameter's value, the limit of old servers


class MLflow:
    """A run on an MLflow tracking server.

    A server that fails, or takes more than some seconds to answer, is logged once, and training
    continues without it. MLflow cannot delete values, so those of lost work remain beside the ones
    that are logged for the same steps after the run was resumed.

    Args:
        uri: of the server, such as `http://localhost:5000`.
        experiment: created if there is none of this name.
        name: of the run.
        parameters: shown with the run; long values are truncated.
        memory: a file that stores MLflow's id of the run, so that a resumed run is the same one
            there. If the run was deleted on the server, a new one is created.
        log: called with a line of text when the server is left out.

    Raises:
        BadInput: the package is missing, or does not support `uri`.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        name: str,
        parameters: Mapping[str, object],
        memory: Path,
        log: Callable[[str], None],
    ) -> None:
        for variable, value in _MLFLOW_DEFAULTS.items():
            os.environ.setdefault(variable, value)
        try:
            import mlflow
        except ImportError as error:
            raise BadInput(f"MLflow: {error}; {install_command('mlflow')}") from None
        try:
            self._client: Any = mlflow.MlflowClient(tracking_uri=uri)
        except Exception as error:  # MLflow's own, and import errors of packages for a URI
            raise BadInput(f"MLflow: {_reason(error)}") from None
        self._mlflow: Any = mlflow
        self._log = log
        self._run: str | None = None  # MLflow's id of the run; None once the server has failed
        with self._failing_once():
            self._run = self._resumed(memory)
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
        with self._failing_once():
            self._client.log_batch(self._run, metrics=metrics, synchronous=True)

    def close(self, finished: bool) -> None:
        """Set the status of the run to `FINISHED`, or to `FAILED` until it is resumed."""
        if self._run is None:
            return
        with self._failing_once():
            self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")
        self._run = None

    def _resumed(self, memory: Path) -> str | None:
        """Return the id of an earlier session's run, set to running, or None if there is none."""
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
        # A killed session left the run's status at running; a stopped one set it to failed.
        self._client.update_run(run, status="RUNNING")
        return run

    def _experiment(self, name: str) -> str:
        """Return the id of the experiment of a name, created if there is none."""
        if (experiment := self._client.get_experiment_by_name(name)) is None:
            try:
                return str(self._client.create_experiment(name))
            except self._mlflow.MlflowException:
                # Another run may have created it in between.
                if (experiment := self._client.get_experiment_by_name(name)) is None:
                    raise
        return str(experiment.experiment_id)

    def _describe(self, run: str, parameters: Mapping[str, object]) -> None:
        """Send the parameters that the run does not have yet: MLflow lets none be changed."""
        existing = self._client.get_run(run).data.params
        new = [
            self._mlflow.entities.Param(name, _truncate(str(value)))
            for name, value in parameters.items()
            if name not in existing
        ]
        self._client.log_batch(run, params=new, synchronous=True)

    @contextmanager
    def _failing_once(self) -> Iterator[None]:
        """Log any error of the block, and do without MLflow from then on."""
        try:
            yield
        except Exception as error:  # of MLflow, of HTTP, of a store's own packages
            self._run = None
            self._log(f"MLflow: {_reason(error)}; training continues without it")


def _truncate(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
