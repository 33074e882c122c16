"""Checkpoints on real storage: whole ones only, few of them, whatever happens to the files."""

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
import pytest

from s2s.errors import BadInput
from s2s.training.checkpoints import MANIFEST, CheckpointManifest, Checkpoints

Write = Callable[[Path], None]


@pytest.fixture(params=["folder", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place for checkpoints that is not there yet."""
    folder = tmp_path / "a run" / "checkpoints"
    if request.param != "memory":
        yield str(folder) if request.param == "folder" else folder.as_uri()
        return
    yield f"memory:/{folder}"
    storage = fsspec.filesystem("memory")
    if storage.exists(str(tmp_path)):
        storage.rm(str(tmp_path), recursive=True)


def fill(**files: bytes) -> Write:
    """Writes these files, a dot for each underscore in their names."""

    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)

    return write


def content(steps: int) -> dict[str, bytes]:
    return {"config.json": b"{}", "weights.bin": f"weights of step {steps}".encode() * 100}


def manifest(steps: int, valid_loss: float | None = None) -> CheckpointManifest:
    return CheckpointManifest(steps=steps, epoch=1 + steps // 10, valid_loss=valid_loss)


def save(checkpoints: Checkpoints, steps: int, valid_loss: float | None = None) -> None:
    """Write a checkpoint whose files tell its steps."""
    files = {name.replace(".", "_"): data for name, data in content(steps).items()}
    checkpoints.save(manifest(steps, valid_loss), fill(**files))
    assert checkpoints.wait() is None


def read(checkpoints: Checkpoints, one: CheckpointManifest) -> dict[str, bytes]:
    with checkpoints.open(one) as folder:
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def steps(found: list[CheckpointManifest]) -> list[int]:
    return [one.steps for one in found]


def stored(root: str) -> tuple[Any, str]:
    """The storage of a root, by other means than those of the checkpoints, and the path in it."""
    # fsspec takes a URI of a local file as it is written, with %20 and all.
    return fsspec.core.url_to_fs(unquote(root))


def folders(root: str) -> list[str]:
    storage, path = stored(root)
    return sorted(name.rpartition("/")[2] for name in storage.ls(path, detail=False))


# ---- written and read -----------------------------------------------------------------------


def test_what_was_written_is_read_by_another_process_of_the_run(root: str) -> None:
    files = {"a.bin": os.urandom(2_500_000), "b.json": b"{}", "empty": b""}
    first = Checkpoints(root)
    first.save(manifest(12, 1.5), fill(a_bin=files["a.bin"], b_json=files["b.json"], empty=b""))
    assert first.wait() is None
    second = Checkpoints(root)
    newest = second.newest()
    assert newest is not None
    assert (newest.steps, newest.epoch, newest.valid_loss) == (12, 2, 1.5)
    assert {name: file.bytes for name, file in newest.files.items()} == {
        name: len(data) for name, data in files.items()
    }
    assert read(second, newest) == files
    assert second.all() == second.best(3) == [newest]


def test_a_place_without_checkpoints_has_none(root: str) -> None:
    checkpoints = Checkpoints(root)
    assert checkpoints.newest() is None
    assert checkpoints.all() == checkpoints.best(2) == []
    assert checkpoints.wait() is None
    checkpoints.clear()


def test_the_local_copy_of_a_checkpoint_is_gone_after_its_use(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    save(checkpoints, 1)
    with checkpoints.open(checkpoints.all()[0]) as folder:
        (folder / "weights.bin").write_bytes(b"scribbled over")
    assert not folder.exists()
    assert read(checkpoints, checkpoints.all()[0]) == content(1)


def test_a_step_that_is_written_again_is_the_later_one(root: str) -> None:
    checkpoints = Checkpoints(root)
    checkpoints.save(manifest(5), fill(old=b"old", weights_bin=b"old"))
    save(checkpoints, 5, 0.5)
    [found] = checkpoints.all()
    assert found.valid_loss == 0.5
    assert read(checkpoints, found) == content(5)
    storage, path = stored(root)
    assert not storage.exists(f"{path}/{found.name}/old")


def test_a_folder_is_the_same_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("run/checkpoints")
    monkeypatch.chdir("/")
    save(checkpoints, 3)
    assert (tmp_path / "run" / "checkpoints" / "step-000000003" / MANIFEST).is_file()


def test_clearing_removes_checkpoints_and_nothing_else(root: str) -> None:
    checkpoints = Checkpoints(root)
    for step in (1, 2):
        save(checkpoints, step)
    storage, path = stored(root)
    storage.pipe(f"{path}/notes.txt", b"mine")
    checkpoints.clear()
    assert checkpoints.all() == []
    assert folders(root) == ["notes.txt"]


@pytest.mark.parametrize("uri", ["nonsense://bucket/run", "dropbox://folder/run"])
def test_a_uri_that_nothing_here_reads_is_bad_input(uri: str) -> None:
    with pytest.raises(BadInput, match=f"{uri} cannot be opened"):
        Checkpoints(uri)


# ---- few of them ----------------------------------------------------------------------------

# Steps and the loss on `valid` of those that end an epoch, in the order of writing.
RUN = [(5, None), (10, 3.0), (15, None), (20, 1.0), (25, None), (30, 2.0), (35, None), (40, 2.5)]


@pytest.mark.parametrize(
    ("rule", "stay"),
    [
        ({"last": 1, "best": 0}, [40]),
        ({"last": 3, "best": 0}, [30, 35, 40]),
        ({"last": 1, "best": 1}, [20, 40]),
        ({"last": 1, "best": 2}, [20, 30, 40]),
        ({"last": 1, "best": 0, "last_epochs": 2}, [30, 40]),
        ({"last": 2, "best": 1, "last_epochs": 2}, [20, 30, 35, 40]),
        ({"last": 1, "best": 0, "last_epochs": 3}, [20, 30, 40]),
        ({"last": 1, "best": 0, "last_epochs": 4}, [10, 20, 30, 40]),
        ({"last": 2, "best": 1, "last_epochs": 9}, [10, 20, 30, 35, 40]),
        ({"last": 99, "best": 1}, [step for step, _ in RUN]),
    ],
)
def test_only_those_that_are_wanted_stay(
    tmp_path: Path, rule: dict[str, int], stay: list[int]
) -> None:
    checkpoints = Checkpoints(tmp_path, **rule)
    for step, loss in RUN:
        save(checkpoints, step, loss)
    assert steps(checkpoints.all()) == stay
    assert folders(str(tmp_path)) == [f"step-{step:09}" for step in stay]


def test_few_of_them_stay_on_any_storage(root: str) -> None:
    checkpoints = Checkpoints(root, last=1, best=1)
    for step, loss in RUN:
        save(checkpoints, step, loss)
    assert steps(checkpoints.all()) == [20, 40]
    assert len(folders(root)) == 2
    assert read(checkpoints, checkpoints.best(1)[0]) == content(20)


def test_the_best_are_those_of_least_loss_and_the_earlier_of_two_alike(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, last=9)
    for step, loss in [(10, 2.0), (20, 1.0), (25, None), (30, 1.0), (40, 0.5)]:
        save(checkpoints, step, loss)
    assert steps(checkpoints.best(9)) == [40, 20, 30, 10]
    assert steps(checkpoints.best(2)) == [40, 20]
    assert steps(checkpoints.all()) == [10, 20, 25, 30, 40]


def test_what_was_never_finished_is_removed_with_the_next(root: str) -> None:
    storage, path = stored(root)
    storage.makedirs(f"{path}/step-000000007")
    storage.pipe(f"{path}/step-000000007/weights.bin", b"half of th")
    checkpoints = Checkpoints(root)
    save(checkpoints, 8)
    assert folders(root) == ["step-000000008"]


# ---- in the background ----------------------------------------------------------------------


def test_the_run_goes_on_while_a_checkpoint_is_written(root: str) -> None:
    checkpoints, begun, go = Checkpoints(root), threading.Event(), threading.Event()
    threads = []

    def write(folder: Path) -> None:
        threads.append(threading.current_thread())
        begun.set()
        assert go.wait(20)
        fill(weights_bin=b"1")(folder)

    checkpoints.save(manifest(1), write)
    assert begun.wait(20)
    assert checkpoints.all() == []  # here, the run goes on
    assert threads[0] is not threading.current_thread()
    threading.Timer(0.2, go.set).start()
    assert checkpoints.wait() is None
    assert go.is_set()
    assert steps(checkpoints.all()) == [1]


def test_a_checkpoint_waits_for_the_one_before(tmp_path: Path) -> None:
    checkpoints, go, order = Checkpoints(tmp_path), threading.Event(), []

    def slow(folder: Path) -> None:
        assert go.wait(20)
        order.append("first")

    checkpoints.save(manifest(1), slow)
    threading.Timer(0.2, go.set).start()
    checkpoints.save(manifest(2), lambda folder: order.append("second"))
    assert order[0] == "first"
    assert steps(checkpoints.all())[0] == 1
    assert checkpoints.wait() is None
    assert order == ["first", "second"]
    assert steps(checkpoints.all()) == [1, 2]


# ---- damage ---------------------------------------------------------------------------------


def shorten(storage: Any, folder: str) -> None:
    storage.pipe(f"{folder}/weights.bin", storage.cat(f"{folder}/weights.bin")[:-1])


def flip(storage: Any, folder: str) -> None:
    data = bytearray(storage.cat(f"{folder}/weights.bin"))
    data[70] ^= 1
    storage.pipe(f"{folder}/weights.bin", bytes(data))


def lose(storage: Any, folder: str) -> None:
    storage.rm(f"{folder}/config.json")


def tear(storage: Any, folder: str) -> None:
    text = storage.cat(f"{folder}/{MANIFEST}")
    storage.pipe(f"{folder}/{MANIFEST}", text[: len(text) // 2])


def leave(storage: Any, folder: str) -> None:
    storage.rm(f"{folder}/{MANIFEST}")


FILES, MANIFESTS = [shorten, flip, lose], [tear, leave]


@pytest.mark.parametrize("damage", [*FILES, *MANIFESTS])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    root: str, damage: Callable[[Any, str], None]
) -> None:
    for step in (1, 2):
        save(Checkpoints(root), step)
    storage, path = stored(root)
    damage(storage, f"{path}/step-000000002")
    logged: list[str] = []
    checkpoints = Checkpoints(root, logged.append)
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.steps == 1
    assert read(checkpoints, newest) == content(1)


@pytest.mark.parametrize("damage", [*FILES, *MANIFESTS])
def test_the_user_is_told_that_the_newest_checkpoint_is_not_used(
    tmp_path: Path, damage: Callable[[Any, str], None]
) -> None:
    logged: list[str] = []
    checkpoints = Checkpoints(tmp_path, logged.append)
    for step in (1, 2):
        save(checkpoints, step)
    damage(stored(str(tmp_path))[0], f"{tmp_path}/step-000000002")
    checkpoints.newest()
    [line] = logged
    assert re.match(r"(the checkpoint of step 2 |step-000000002 )", line)
    assert "\n" not in line
    assert line.endswith("falling back to the checkpoint before")


def test_damage_is_told_by_step_and_file(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1200)
    flip(stored(str(tmp_path))[0], f"{tmp_path}/step-000001200")
    with (
        pytest.raises(BadInput, match=r"step 1,200 \(epoch 121\) is damaged: weights.bin"),
        checkpoints.open(checkpoints.all()[0]),
    ):
        pass


@pytest.mark.parametrize("damage", FILES)
def test_when_all_are_damaged_the_run_does_not_begin_anew_by_itself(
    root: str, damage: Callable[[Any, str], None]
) -> None:
    for step in (1, 2):
        save(Checkpoints(root), step)
    storage, path = stored(root)
    for name in folders(root):
        damage(storage, f"{path}/{name}")
    logged: list[str] = []
    with pytest.raises(BadInput, match="all checkpoints are damaged; --restart starts over"):
        Checkpoints(root, logged.append).newest()
    assert len(logged) == 2
    assert len(folders(root)) == 2


def test_a_run_that_ended_in_its_first_checkpoint_begins_anew(root: str) -> None:
    save(Checkpoints(root), 1)
    storage, path = stored(root)
    leave(storage, f"{path}/step-000000001")
    assert Checkpoints(root).newest() is None


@pytest.mark.parametrize("last", [1, 2])
def test_a_damaged_checkpoint_does_not_push_out_a_whole_one(tmp_path: Path, last: int) -> None:
    first = Checkpoints(tmp_path, last=last)
    for step in (10, 20):
        save(first, step, 1.0 if step == 10 else None)
    flip(stored(str(tmp_path))[0], f"{tmp_path}/step-000000020")
    again = Checkpoints(tmp_path, last=last)
    assert again.newest() is not None
    save(again, 15)  # the run went back and goes on from step 10
    found = Checkpoints(tmp_path).newest()
    assert found is not None
    assert found.steps == 15


# ---- writes that fail -----------------------------------------------------------------------


def raising(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"some of it")
    raise OSError("the cable\n is out")


def unreadable(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"this one can be copied")
    (folder / "b").mkdir()  # this one cannot


@pytest.mark.parametrize("write", [raising, unreadable])
def test_a_write_that_fails_is_told_and_leaves_nothing_behind(root: str, write: Write) -> None:
    logged: list[str] = []
    checkpoints = Checkpoints(root, logged.append)
    save(checkpoints, 1)
    checkpoints.save(manifest(2), write)
    reason = checkpoints.wait()
    assert reason is not None
    assert checkpoints.wait() == reason
    assert logged == [f"the checkpoint of step 2 (epoch 1) could not be written: {reason}"]
    assert "\n" not in logged[0]
    assert folders(root) == ["step-000000001"]
    assert read(checkpoints, checkpoints.all()[0]) == content(1)
    save(checkpoints, 3)
    assert steps(checkpoints.all()) == [1, 3]
    assert len(logged) == 1


def test_a_failure_is_told_when_the_next_is_written(tmp_path: Path) -> None:
    logged: list[str] = []
    checkpoints = Checkpoints(tmp_path, logged.append)
    checkpoints.save(manifest(1), raising)
    checkpoints.save(manifest(2), fill(weights_bin=b"2"))
    assert logged == ["the checkpoint of step 1 (epoch 1) could not be written: the cable is out"]
    assert checkpoints.wait() is None
    assert steps(checkpoints.all()) == [2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=20)


def test_a_full_disk_costs_one_checkpoint_and_not_the_run(small_disk: Path) -> None:
    logged: list[str] = []
    checkpoints = Checkpoints(small_disk / "run", logged.append)
    small, large = os.urandom(100_000), os.urandom(250_000)
    checkpoints.save(manifest(1), fill(weights_bin=small))
    assert checkpoints.wait() is None
    checkpoints.save(manifest(2), fill(a_bin=b"this fits", weights_bin=large))
    reason = checkpoints.wait()
    assert reason is not None
    assert "No space left on device" in reason
    assert logged == [f"the checkpoint of step 2 (epoch 1) could not be written: {reason}"]
    assert folders(str(small_disk / "run")) == ["step-000000001"]
    assert read(checkpoints, checkpoints.newest() or manifest(0)) == {"weights.bin": small}
    checkpoints.save(manifest(3), fill(weights_bin=small))
    assert checkpoints.wait() is None
    assert steps(checkpoints.all()) == [1, 3]
