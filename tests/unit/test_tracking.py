"""Trackers: what they record of a run, read back from their files and stores."""

import json
import math
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from s2s.errors import BadInput
from s2s.training.trackers.choice import begin_trackers, find_tracker
from s2s.training.trackers.json_lines import JsonLines, read_samples
from s2s.training.trackers.mlflow import MLflow
from s2s.training.trackers.tensorboard import TensorBoard
from s2s.training.trackers.tracker import TrackedRun, Tracker, Trackers, ValidSample

SAMPLES = [
    ValidSample("Go!", "Va !", "Va | vas !"),
    ValidSample("Who are\nyou?", "Qui êtes-vous ?", ""),
]


def run(folder: Path, resumed_from: int = 0, **parameters: object) -> TrackedRun:
    folder.mkdir(parents=True, exist_ok=True)
    return TrackedRun("demo", folder, parameters or {"train.epochs": 3}, resumed_from)


def fail(text: str) -> None:
    raise AssertionError(text)


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return [
        json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").split("\n")[:-1]
    ]


# ---- lines ----------------------------------------------------------------------------------


def test_a_line_is_there_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonLines(run(tmp_path))
    tracker.log(1, {"train/loss": 2.5, "train/learning_rate": 1e-3})
    (line,) = lines(path)
    assert line.pop("time") > 1.7e9
    assert line == {"step": 1, "train/loss": 2.5, "train/learning_rate": 1e-3}
    tracker.log(2, {"valid/loss": 2.25})
    assert [line["step"] for line in lines(path)] == [1, 2]
    tracker.close(True)
    tracker.close(True)


def test_what_is_no_finite_number_is_null(tmp_path: Path) -> None:
    tracker = JsonLines(run(tmp_path))
    tracker.log(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.0})
    tracker.close(True)
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert [line[name] for name in "abcd"] == [None, None, None, 0.0]


@pytest.mark.parametrize(
    ("resumed_from", "kept"), [(4, [2, 4]), (5, [2, 4]), (6, [2, 4, 6]), (0, [])]
)
def test_lines_of_lost_work_are_dropped(tmp_path: Path, resumed_from: int, kept: list[int]) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(run(tmp_path))
    for step in (2, 4, 6):
        first.log(step, {"loss": step / 2})
    first.close(False)
    before = path.read_text("utf-8").splitlines()[: len(kept)]
    second = JsonLines(run(tmp_path, resumed_from))
    second.log(resumed_from + 1, {"loss": 9.0})
    second.close(True)
    assert [line["step"] for line in lines(path)] == [*kept, resumed_from + 1]
    assert path.read_text("utf-8").splitlines()[:-1] == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("torn", [b'{"step": 2, "los', b"\0\0\0\0", b'{"step": 2, "name": "\xc3'])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 1.0}\n' + torn)
    tracker = JsonLines(run(tmp_path, 10))
    tracker.log(11, {"loss": 0.5})
    tracker.close(True)
    assert [line["step"] for line in lines(path)] == [1, 11]


@pytest.mark.parametrize("foreign", [b"a line of text", b"[1]", b"{}", b'{"step": null}', b"\xff"])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, foreign: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1}\n' + foreign + b'\n{"step": 2}\n'
    path.write_bytes(content)
    with pytest.raises(BadInput, match="line 2"):
        JsonLines(run(tmp_path))
    assert path.read_bytes() == content


def test_samples_are_lines_of_their_own(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == []
    first = JsonLines(run(tmp_path))
    first.log_samples(10, SAMPLES)
    first.log_samples(20, SAMPLES[:1])
    second = JsonLines(run(tmp_path, 10))  # the work after step 10 was lost
    second.log_samples(15, SAMPLES[1:])
    second.close(True)
    assert read_samples(tmp_path) == [(10, SAMPLES[0]), (10, SAMPLES[1]), (15, SAMPLES[1])]
    assert lines(tmp_path / "samples.jsonl")[0]["translation"] == "Va | vas !"
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_line_that_is_no_sample_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text('{"step": 1, "source": "Go!"}\n')
    with pytest.raises(BadInput, match=r"samples\.jsonl, line 1"):
        read_samples(tmp_path)


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
    tracker = TensorBoard(run(tmp_path / "run"))
    tracker.log(10, {"train/loss": 2.5, "train/pairs_per_second": 5000.0})
    tracker.log(20, {"train/loss": math.nan})
    (file,) = events(tmp_path / "run" / "tensorboard")
    assert file[0].file_version == "brain.Event:2"
    assert all(event.wall_time > 1.7e9 for event in file)
    shown = curves([file])
    assert shown["train/pairs_per_second"] == {10: 5000.0}
    assert shown["loss/train"][10] == 2.5
    assert math.isnan(shown["loss/train"][20])
    tracker.close(True)
    tracker.close(True)
    assert events(tmp_path / "run" / "tensorboard") == [file]


def test_tensorboard_has_the_settings_that_a_sweep_has_chosen(tmp_path: Path) -> None:
    settings = {"model.cell": "gru", "model.dropout": 0.25, "train.clip_norm": None}
    trial = TrackedRun("0001", tmp_path, {}, chosen=settings)
    TensorBoard(trial).close(True)
    [file] = events(tmp_path / "tensorboard")
    written = {value.tag: value.metadata.plugin_data for e in file for value in e.summary.value}
    assert written.keys() == {"_hparams_/experiment", "_hparams_/session_start_info"}
    assert {each.plugin_name for each in written.values()} == {"hparams"}
    start = HParamsPluginData.FromString(written["_hparams_/session_start_info"].content)
    chosen = start.session_start_info.hparams
    assert chosen["model.cell"].string_value == "gru"
    assert chosen["model.dropout"].number_value == 0.25
    assert chosen["train.clip_norm"].string_value == "none"
    experiment = HParamsPluginData.FromString(written["_hparams_/experiment"].content).experiment
    compared = {metric.name.tag for metric in experiment.metric_infos}
    assert compared == {"valid/token_accuracy", "loss/valid"}


def test_two_sessions_are_one_curve(tmp_path: Path) -> None:
    first = TensorBoard(run(tmp_path))
    for step in (10, 20, 30):
        first.log(step, {"loss": 1.0})
    # Not closed: the process was killed. The second one begins within the same second.
    second = TensorBoard(run(tmp_path, 20))
    second.log(25, {"loss": 0.5})
    second.close(True)
    files = events(tmp_path / "tensorboard")
    assert len(files) == 2
    assert curves(files) == {"loss": {10: 1.0, 20: 1.0, 25: 0.5}}
    TensorBoard(run(tmp_path)).close(False)
    assert curves(events(tmp_path / "tensorboard")) == {"loss": {}}


def test_tensorboard_shows_the_losses_first(tmp_path: Path) -> None:
    tracker = TensorBoard(run(tmp_path))
    names = ["train/data_wait_share", "train/loss", "train/epoch_loss", "valid/bleu", "valid/loss"]
    tracker.log(1, dict.fromkeys(names, 1.0))
    tracker.close(True)
    # TensorBoard sorts groups, and curves in them, by name.
    first, second, third, *others = sorted(curves(events(tmp_path / "tensorboard")))
    assert (first, second, third) == ("loss/train", "loss/train_epoch", "loss/valid")
    assert others == ["train/data_wait_share", "valid/bleu"]


def test_tensorboard_has_samples_as_text(tmp_path: Path) -> None:
    tracker = TensorBoard(run(tmp_path))
    tracker.log_samples(10, SAMPLES)
    tracker.close(True)
    [[*_, event]] = events(tmp_path / "tensorboard")
    [value] = event.summary.value
    assert event.step == 10
    assert value.metadata.plugin_data.plugin_name == "text"
    assert value.tensor.string_val[0].decode() == (
        "| source | reference | translation |\n"
        "| --- | --- | --- |\n"
        "| Go! | Va ! | Va \\| vas ! |\n"
        "| Who are you? | Qui êtes-vous ? |  |\n"
    )


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


def test_all_of_several_are_called_and_closed() -> None:
    notes = [Notes(broken=number == 1) for number in range(3)]
    logged: list[str] = []
    trackers: Tracker = Trackers(notes, logged.append)
    trackers.log(1, {"loss": 2.0})
    trackers.close(True)
    trackers.close(True)
    assert [note.calls for note in notes] == [[(1, {"loss": 2.0}), True]] * 3
    assert logged == ["Notes: no space left; training continues without it"]


def test_samples_reach_the_trackers_that_take_them() -> None:
    class Reader(Notes):
        def log_samples(self, step: int, samples: Sequence[ValidSample]) -> None:
            self.calls.append((step, list(samples)))

    reader, notes = Reader(), Notes()
    Trackers([notes, reader], fail).log_samples(3, SAMPLES)
    assert reader.calls == [(3, SAMPLES)]
    assert notes.calls == []


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


# ---- the choice -----------------------------------------------------------------------------

MODULE = """
from tests.support.trackers import Lines

class Gone(Lines):
    def __init__(self, run):
        raise ConnectionError("the server is gone\\nfor ever")

class Odd:
    pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module in the current directory, as a user has one."""
    (tmp_path / "trackers_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("trackers_of_mine", None)


@pytest.mark.usefixtures("module")
def test_a_class_of_one_s_own_records_a_run(tmp_path: Path) -> None:
    names = ["trackers_of_mine:Gone", "trackers_of_mine:Lines"]
    logged: list[str] = []
    trackers = begin_trackers(names, run(tmp_path / "run", 7), logged.append)
    trackers.log(8, {"valid/loss": 2.5})
    trackers.log_samples(8, SAMPLES[:1])
    trackers.close(False)
    told = (tmp_path / "run" / "lines.txt").read_text().splitlines()
    assert told == ["demo 3 7", "8 valid/loss", "8 1 Go!", "False"]
    assert [line["step"] for line in lines(tmp_path / "run" / "metrics.jsonl")] == [8]
    assert logged == ["trackers_of_mine:Gone: the server is gone; training continues without it"]


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tensorbord", "unknown tracker 'tensorbord' .*; did you mean tensorboard"),
        ("wanbd:mine", "No module named 'wanbd'; did you mean wandb"),
        ("tensorboard:x", "tensorboard takes no value"),
        ("trackers_of_mine:Line", "has no class 'Line'; did you mean Lines"),
        ("trackers_of_mine:Odd", "a class with the methods log and close"),
        ("trackers_of.mine:Lines", "No module named 'trackers_of'$"),
    ],
)
def test_a_tracker_that_does_not_exist_is_bad_input(name: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        find_tracker(name)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_without_its_package_a_tracker_names_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2s.training.trackers.choice.find_spec", lambda module: None)
    with pytest.raises(BadInput, match=rf"--track {name} needs .*pip install 's2s-nmt\[{name}\]'"):
        find_tracker(f"{name}:somewhere")


def test_none_of_several_is_a_tracker_too() -> None:
    trackers = Trackers([])
    trackers.log(1, {"loss": 2.0})
    trackers.close(True)


# ---- MLflow ---------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a store of MLflow in plain files."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return (tmp_path / "store").as_uri()


def runs(store: str, experiment: str = "s2s") -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def run_with(folder: Path, parameters: Mapping[str, object]) -> TrackedRun:
    return TrackedRun("demo", folder, parameters)


def history(store: str, run: Any, name: str) -> list[tuple[int, float]]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    found = client.get_metric_history(run.info.run_id, name)
    return [(point.step, point.value) for point in found]


def test_mlflow_keeps_values_and_parameters(store: str, tmp_path: Path) -> None:
    parameters = {"train.epochs": 3, "model.cell": "lstm", "sources": "a/b " * 5000}
    tracker = MLflow(run_with(tmp_path, parameters), store)
    tracker.log(10, {"train/loss": 2.5, "train/pairs_per_second": 5000.0})
    tracker.log(20, {"train/loss": math.nan})
    (found,) = runs(store)
    assert found.info.status == "RUNNING"
    tracker.close(True)
    tracker.close(False)
    (found,) = runs(store)
    assert found.info.run_name == "demo"
    assert found.info.status == "FINISHED"
    assert found.data.params["train.epochs"] == "3"
    assert found.data.params["sources"].startswith("a/b a/b ")
    assert found.data.params["sources"].endswith("…")
    (first, second) = history(store, found, "train/loss")
    assert first == (10, 2.5)
    assert second[0] == 20
    assert math.isnan(second[1])


def test_mlflow_takes_many_parameters(store: str, tmp_path: Path) -> None:
    parameters = {f"parameter.{number}": number for number in range(250)}
    MLflow(run_with(tmp_path, parameters), store).close(True)
    (found,) = runs(store)
    assert found.data.params == {name: str(value) for name, value in parameters.items()}


@pytest.mark.parametrize("closed", [True, False])
def test_a_run_that_goes_on_is_the_same_in_mlflow(store: str, tmp_path: Path, closed: bool) -> None:
    first = MLflow(run(tmp_path, epochs=3), store)
    first.log(10, {"loss": 2.5})
    if closed:
        first.close(False)
    (found,) = runs(store)
    assert found.info.status == ("FAILED" if closed else "RUNNING")
    second = MLflow(run(tmp_path, 10, epochs=4, workers=2), store)
    second.log(20, {"loss": 2.25})
    (found,) = runs(store)
    assert found.info.status == "RUNNING"
    second.close(True)
    (found,) = runs(store)
    assert found.info.status == "FINISHED"
    assert history(store, found, "loss") == [(10, 2.5), (20, 2.25)]
    assert found.data.params == {"epochs": "3", "workers": "2"}


def test_a_run_that_mlflow_lost_is_begun_anew(store: str, tmp_path: Path) -> None:
    import mlflow

    memory = tmp_path / "mlflow-run"
    memory.write_text("0" * 32, "utf-8")
    MLflow(run(tmp_path), store).close(True)
    (found,) = runs(store)
    assert memory.read_text("utf-8") == found.info.run_id
    mlflow.MlflowClient(tracking_uri=store).delete_run(found.info.run_id)
    MLflow(run(tmp_path), store).close(True)
    (other,) = runs(store)
    assert memory.read_text("utf-8") == other.info.run_id != found.info.run_id


def test_mlflow_failing_under_way_is_told_once(store: str, tmp_path: Path) -> None:
    import mlflow

    logged: list[str] = []
    tracker = begin_trackers([f"mlflow:{store}"], run(tmp_path), logged.append)
    (found,) = runs(store)
    mlflow.MlflowClient(tracking_uri=store).delete_run(found.info.run_id)
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
        tracker = begin_trackers([f"mlflow:{uri}"], run(tmp_path), logged.append)
        tracker.log(1, {"loss": 1.0})
        tracker.close(True)
    assert len(logged) == 1
    assert not (tmp_path / "mlflow-run").exists()


def test_a_uri_that_means_nothing_is_bad_input(store: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="htp"):
        begin_trackers(["mlflow:htp://localhost"], run(tmp_path), fail)


def test_mlflow_has_samples_as_artifacts(store: str, tmp_path: Path) -> None:
    import mlflow

    tracker = MLflow(run(tmp_path), store)
    tracker.log_samples(10, SAMPLES)
    tracker.close(True)
    (found,) = runs(store)
    path = mlflow.MlflowClient(tracking_uri=store).download_artifacts(
        found.info.run_id, "samples/step-000000010.md", str(tmp_path)
    )
    assert "| Go! | Va ! | Va \\| vas ! |" in Path(path).read_text("utf-8")


def test_mlflow_without_a_server_asks_for_one(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(BadInput, match="mlflow:http://localhost:5000"):
        find_tracker("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    begin_trackers(["mlflow"], run(tmp_path), fail).close(True)
    (found,) = runs(store)
    assert found.info.run_name == "demo"


# ---- Weights & Biases -----------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def transactions(folder: Path) -> list[list[Any]]:
    """The records of each offline run in a folder, the oldest first."""
    return [
        list(_transactions(file.read_bytes()))
        for file in sorted(folder.glob("offline-run-*/*.wandb"))
    ]


def _transactions(log: bytes) -> Iterator[Any]:
    """A record: in blocks of 32 KiB, parts with a checksum, a length and a kind each."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, record = 7, b""
    while place + 7 <= len(log):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", log[place + 4 : place + 7])
        record += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole of a record, or its last part
            yield Record.FromString(record)
            record = b""


def logged_values(records: list[Any]) -> list[dict[str, Any]]:
    return [
        {"/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


@pytest.mark.usefixtures("offline")
def test_a_run_that_is_resumed_is_the_same_in_wandb(tmp_path: Path) -> None:
    said: list[str] = []
    first = begin_trackers(["wandb:mine"], run(tmp_path), said.append)
    first.log(10, {"train/loss": 2.5})
    first.log_samples(10, SAMPLES)
    first.close(False)
    time.sleep(1.0)  # the folders of sessions are named by the second
    second = begin_trackers(["wandb:mine"], run(tmp_path, 10), said.append)
    second.log(20, {"valid/loss": 2.25})
    second.close(True)
    before, after = transactions(tmp_path / "wandb")
    [one] = [record.run for record in before if record.WhichOneof("record_type") == "run"]
    [other] = [record.run for record in after if record.WhichOneof("record_type") == "run"]
    assert one.run_id == other.run_id == (tmp_path / "wandb-run").read_text()
    assert (one.project, one.display_name) == ("mine", "demo")
    assert ("train.epochs", "3") in [(u.key, u.value_json) for u in one.config.update]
    values, table = logged_values(before)
    assert (values["step"], values["train/loss"]) == (10, 2.5)
    file = next((tmp_path / "wandb").glob(f"offline-run-*/files/{table['valid/samples/path']}"))
    shown = json.loads(file.read_text("utf-8"))
    assert shown["columns"] == ["source", "reference", "translation"]
    assert shown["data"][0] == ["Go!", "Va !", "Va | vas !"]
    [values] = logged_values(after)
    assert (values["step"], values["valid/loss"]) == (20, 2.25)
    assert [before[-1].exit.exit_code, after[-1].exit.exit_code] == [1, 0]
    assert [line.partition(" wandb sync ")[0] for line in said] == [
        "wandb: offline; to upload the run:"
    ] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_wandb_never_asks_for_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    code = """if True:
        import sys
        from pathlib import Path
        from s2s.training.trackers.choice import begin_trackers
        from s2s.training.trackers.tracker import TrackedRun
        begin_trackers(["wandb"], TrackedRun("demo", Path(sys.argv[1]), {}), print)"""
    script = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "BadInput: wandb has no API key: run `wandb login`, or set WANDB_MODE=offline to track the "
        "run without a server"
    )
