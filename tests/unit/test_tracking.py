"""The numbers of a run, read back from the files and stores that the trackers write."""

import importlib.util
import json
import math
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from s2s.errors import BadInput
from s2s.training.trackers import JsonLines, MLflow, TensorBoard, Tracker, Trackers


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return [
        json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").split("\n")[:-1]
    ]


# ---- lines ----------------------------------------------------------------------------------


def test_a_line_is_there_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonLines(path, 0)
    tracker.log(1, {"train/loss": 2.5, "train/learning_rate": 1e-3})
    (line,) = lines(path)
    assert line.pop("time") > 1.7e9
    assert line == {"step": 1, "train/loss": 2.5, "train/learning_rate": 1e-3}
    tracker.log(2, {"valid/loss": 2.25})
    assert [line["step"] for line in lines(path)] == [1, 2]
    tracker.close(True)
    tracker.close(True)


def test_what_is_no_finite_number_is_null(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path / "metrics.jsonl", 0)
    tracker.log(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0})
    tracker.close(True)
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert [line[name] for name in "abcd"] == [None, None, None, 0.0]


@pytest.mark.parametrize(
    ("resumed_from", "kept"), [(4, [2, 4]), (5, [2, 4]), (6, [2, 4, 6]), (0, [])]
)
def test_lines_of_lost_work_are_dropped(tmp_path: Path, resumed_from: int, kept: list[int]) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(path, 0)
    for step in (2, 4, 6):
        first.log(step, {"loss": step / 2})
    first.close(False)
    before = path.read_text("utf-8").splitlines()[: len(kept)]
    second = JsonLines(path, resumed_from)
    second.log(resumed_from + 1, {"loss": 9.0})
    second.close(True)
    assert [line["step"] for line in lines(path)] == [*kept, resumed_from + 1]
    assert path.read_text("utf-8").splitlines()[:-1] == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("torn", [b'{"step": 2, "los', b"\0\0\0\0", b'{"step": 2, "name": "\xc3'])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 1.0}\n' + torn)
    tracker = JsonLines(path, 10)
    tracker.log(11, {"loss": 0.5})
    tracker.close(True)
    assert [line["step"] for line in lines(path)] == [1, 11]


@pytest.mark.parametrize("foreign", [b"a line of text", b"[1]", b"{}", b'{"step": null}', b"\xff"])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, foreign: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1}\n' + foreign + b'\n{"step": 2}\n'
    path.write_bytes(content)
    with pytest.raises(BadInput, match="line 2"):
        JsonLines(path, 0)
    assert path.read_bytes() == content


# ---- TensorBoard ----------------------------------------------------------------------------


def events(folder: Path) -> list[list[Any]]:
    """The events of each file, in the order in which TensorBoard reads them."""
    return [list(_events(file.read_bytes())) for file in sorted(folder.iterdir())]


def _events(records: bytes) -> Iterator[Any]:
    """A record: its length, a checksum, an event, a checksum."""
    while records:
        (length,) = struct.unpack("<Q", records[:8])
        yield Event.FromString(records[12 : 12 + length])
        records = records[12 + length + 4 :]


def curves(files: list[list[Any]]) -> dict[str, dict[int, float]]:
    """The curves as TensorBoard shows them: the start of a session hides later steps before it."""
    shown: dict[str, dict[int, float]] = {}
    for event in (event for file in files for event in file):
        if event.session_log.status == SessionLog.START:
            for name, curve in shown.items():
                shown[name] = {step: value for step, value in curve.items() if step < event.step}
        for value in event.summary.value:
            shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def test_tensorboard_files_hold_the_values_as_soon_as_they_are_logged(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path / "run" / "tensorboard", 0)
    tracker.log(10, {"train/loss": 2.5, "train/pairs_per_second": 5000.0})
    tracker.log(20, {"train/loss": math.nan})
    (file,) = events(tmp_path / "run" / "tensorboard")
    assert file[0].file_version == "brain.Event:2"
    assert all(event.wall_time > 1.7e9 for event in file)
    shown = curves([file])
    assert shown["train/pairs_per_second"] == {10: 5000.0}
    assert shown["train/loss"][10] == 2.5
    assert math.isnan(shown["train/loss"][20])
    tracker.close(True)
    tracker.close(True)
    assert events(tmp_path / "run" / "tensorboard") == [file]


def test_two_sessions_are_one_curve(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path, 0)
    for step in (10, 20, 30):
        first.log(step, {"loss": 1.0})
    # Not closed: the process was killed. The second one begins within the same second.
    second = TensorBoard(tmp_path, 20)
    second.log(25, {"loss": 0.5})
    second.close(True)
    files = events(tmp_path)
    assert len(files) == 2
    assert curves(files) == {"loss": {10: 1.0, 20: 1.0, 25: 0.5}}
    TensorBoard(tmp_path, 0).close(False)
    assert curves(events(tmp_path)) == {"loss": {}}


# ---- several --------------------------------------------------------------------------------


class Notes:
    """A tracker of one's own."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.calls: list[object] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.calls.append((step, dict(values)))

    def close(self, finished: bool) -> None:
        self.calls.append(finished)
        if self.broken:
            raise OSError("no space left")


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("finished", [True, False])
def test_all_of_several_are_told_and_closed(broken: int, finished: bool) -> None:
    notes = [Notes(broken=number == broken) for number in range(3)]
    trackers: Tracker = Trackers(notes)
    trackers.log(1, {"loss": 2.0})
    with pytest.raises(OSError, match="no space left"):
        trackers.close(finished)
    assert [note.calls for note in notes] == [[(1, {"loss": 2.0}), finished]] * 3


def test_a_tracker_that_cannot_write_is_logged_once_and_left_out() -> None:
    class Full(Notes):
        def log(self, step: int, values: Mapping[str, float]) -> None:
            super().log(step, values)
            raise OSError("no space left")

    logged: list[str] = []
    full, notes = Full(), Notes()
    trackers = Trackers([full, notes], logged.append)
    for step in (1, 2):
        trackers.log(step, {"loss": 2.0})
    trackers.close(True)
    assert logged == ["Full: no space left; training continues without it"]
    assert full.calls == [(1, {"loss": 2.0})]
    assert notes.calls == [(1, {"loss": 2.0}), (2, {"loss": 2.0}), True]


def test_none_of_several_is_a_tracker_too() -> None:
    trackers = Trackers([])
    trackers.log(1, {"loss": 2.0})
    trackers.close(True)


# ---- MLflow ---------------------------------------------------------------------------------


def fail(text: str) -> None:
    raise AssertionError(text)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a store of MLflow in plain files."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return (tmp_path / "store").as_uri()


def runs(store: str, experiment: str = "translators") -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def history(store: str, run: Any, name: str) -> list[tuple[int, float]]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    found = client.get_metric_history(run.info.run_id, name)
    return [(point.step, point.value) for point in found]


def test_mlflow_keeps_values_and_parameters(store: str, tmp_path: Path) -> None:
    parameters = {"train.epochs": 3, "model.cell": "lstm", "sources": "a/b " * 5000}
    tracker = MLflow(store, "translators", "demo", parameters, tmp_path / "mlflow", fail)
    tracker.log(10, {"train/loss": 2.5, "train/pairs_per_second": 5000.0})
    tracker.log(20, {"train/loss": math.nan})
    (run,) = runs(store)
    assert run.info.status == "RUNNING"
    tracker.close(True)
    tracker.close(False)
    (run,) = runs(store)
    assert run.info.run_name == "demo"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "3"
    assert run.data.params["sources"].startswith("a/b a/b ")
    assert run.data.params["sources"].endswith("…")
    (first, second) = history(store, run, "train/loss")
    assert first == (10, 2.5)
    assert second[0] == 20
    assert math.isnan(second[1])


def test_mlflow_takes_many_parameters(store: str, tmp_path: Path) -> None:
    parameters = {f"parameter.{number}": number for number in range(250)}
    MLflow(store, "translators", "demo", parameters, tmp_path / "mlflow", fail).close(True)
    (run,) = runs(store)
    assert run.data.params == {name: str(value) for name, value in parameters.items()}


@pytest.mark.parametrize("closed", [True, False])
def test_a_run_that_goes_on_is_the_same_in_mlflow(store: str, tmp_path: Path, closed: bool) -> None:
    memory = tmp_path / "mlflow"
    first = MLflow(store, "translators", "demo", {"epochs": 3}, memory, fail)
    first.log(10, {"loss": 2.5})
    if closed:
        first.close(False)
    (run,) = runs(store)
    assert run.info.status == ("FAILED" if closed else "RUNNING")
    second = MLflow(store, "translators", "demo", {"epochs": 4, "workers": 2}, memory, fail)
    second.log(20, {"loss": 2.25})
    (run,) = runs(store)
    assert run.info.status == "RUNNING"
    second.close(True)
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert history(store, run, "loss") == [(10, 2.5), (20, 2.25)]
    assert run.data.params == {"epochs": "3", "workers": "2"}


def test_a_run_that_mlflow_lost_is_begun_anew(store: str, tmp_path: Path) -> None:
    import mlflow

    memory = tmp_path / "mlflow"
    memory.write_text("0" * 32, "utf-8")
    MLflow(store, "translators", "demo", {}, memory, fail).close(True)
    (run,) = runs(store)
    assert memory.read_text("utf-8") == run.info.run_id
    mlflow.MlflowClient(tracking_uri=store).delete_run(run.info.run_id)
    MLflow(store, "translators", "demo", {}, memory, fail).close(True)
    (other,) = runs(store)
    assert memory.read_text("utf-8") == other.info.run_id != run.info.run_id


def test_mlflow_failing_under_way_is_told_once(store: str, tmp_path: Path) -> None:
    import mlflow

    logged: list[str] = []
    tracker = MLflow(store, "translators", "demo", {}, tmp_path / "mlflow", logged.append)
    (run,) = runs(store)
    mlflow.MlflowClient(tracking_uri=store).delete_run(run.info.run_id)
    for step in (1, 2, 3):
        tracker.log(step, {"loss": 1.0})
    tracker.close(True)
    assert len(logged) == 1
    assert "\n" not in logged[0]
    assert logged[0].endswith("training continues without it")


@pytest.mark.parametrize("listening", [True, False])
def test_a_server_without_an_answer_is_told_once(
    store: str, tmp_path: Path, listening: bool
) -> None:
    logged: list[str] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:  # takes connections, and never says a word
            server.listen()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        tracker = MLflow(uri, "translators", "demo", {}, tmp_path / "mlflow", logged.append)
        tracker.log(1, {"loss": 1.0})
        tracker.close(True)
    assert len(logged) == 1
    assert not (tmp_path / "mlflow").exists()


def test_a_uri_that_means_nothing_is_bad_input(store: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="htp"):
        MLflow("htp://localhost", "translators", "demo", {}, tmp_path / "mlflow", fail)


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="mlflow is installed")
def test_without_the_package_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"pip install 's2s-nmt\[mlflow\]'"):
        MLflow("http://127.0.0.1:1", "translators", "demo", {}, tmp_path / "mlflow", fail)
