"""MLflow: a run on a tracking server."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2s.errors import BadInput
from s2s.files import write_text
from s2s.training.trackers.tracker import TrackedRun, ValidSample, markdown_table

_EXPERIMENT = "s2s"

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

    A server that takes more than some seconds to answer fails. MLflow cannot delete values, so
    those of lost work remain beside the ones that are logged for the same steps after the run was
    resumed. A resumed run is the same one there, unless it was deleted on the server: then a new
    one is created. MLflow's id of the run is in `OUT.run/mlflow-run`.

    Args:
        run: its parameters are shown with the run, long values truncated.
        uri: of the server, such as `http://localhost:5000`; None for that of MLFLOW_TRACKING_URI.

    Raises:
        BadInput: MLflow does not support `uri`.
    """

    def __init__(self, run: TrackedRun, uri: str | None) -> None:
        for variable, value in _MLFLOW_DEFAULTS.items():
            os.environ.setdefault(variable, value)
        import mlflow

        try:
            self._client: Any = mlflow.MlflowClient(tracking_uri=uri)
        except Exception as error:  # MLflow's own, and import errors of packages for a URI
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadInput(f"MLflow: {reason}") from None
        self._mlflow: Any = mlflow
        memory = run.folder / "mlflow-run"
        resumed = self._resumed(memory)
        if resumed is None:
            created = self._client.create_run(self._experiment(_EXPERIMENT), run_name=run.name)
            resumed = str(created.info.run_id)
            write_text(memory, resumed)
        self._run = resumed  # MLflow's id of the run
        self._closed = False
        self._describe(run.parameters)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values."""
        now = int(time.time() * 1000)
        metrics = [
            self._mlflow.entities.Metric(name, value, now, step) for name, value in values.items()
        ]
        self._client.log_batch(self._run, metrics=metrics, synchronous=True)

    def log_samples(self, step: int, samples: Sequence[ValidSample]) -> None:
        """Send a table of the samples as an artifact, `samples/step-….md`."""
        self._client.log_text(self._run, markdown_table(samples), f"samples/step-{step:09}.md")

    def close(self, finished: bool) -> None:
        """Set the status of the run to `FINISHED`, or to `FAILED` until it is resumed."""
        if not self._closed:
            self._closed = True
            self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")

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

    def _describe(self, parameters: Mapping[str, object]) -> None:
        """Send the parameters that the run does not have yet: MLflow lets none be changed."""
        existing = self._client.get_run(self._run).data.params
        new = [
            self._mlflow.entities.Param(name, _truncate(str(value)))
            for name, value in parameters.items()
            if name not in existing
        ]
        self._client.log_batch(self._run, params=new, synchronous=True)


def _truncate(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"
