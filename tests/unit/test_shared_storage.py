"""What a host finds of the paths that all hosts share, without other hosts."""

from pathlib import Path

import pytest
import ray

from s2s.distributed import shared_storage
from s2s.distributed.prepare import _reason


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_storage, "_ARRIVAL_SECONDS", 0.3)


def differing(expected: dict[Path, str]) -> list[str]:
    """Look for files as a host does, in this process."""
    found: list[str] = shared_storage._differing._function(
        {str(file): content for file, content in expected.items()}
    )
    return found


def test_missing_and_other_files_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same, other, missing = (tmp_path / name for name in ("same", "other", "missing"))
    for file in (same, other, missing):
        file.write_text("corpus")
    expected = {file: shared_storage._content(file) for file in (same, other, missing)}
    assert differing(expected) == []
    other.write_text("Corpus")  # of the same size
    missing.unlink()
    assert differing(expected) == [str(other), str(missing)]
    monkeypatch.setattr(shared_storage, "_SMALL", 3)
    large = {same: shared_storage._content(same)}
    same.write_text("corpora")
    assert differing(large) == [str(same)]


def test_a_folder_is_seen_by_a_file_that_is_removed_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with shared_storage._written_file(folder) as file:
        assert file.parent == folder
        assert differing({file: shared_storage._content(file)}) == []
    assert list(folder.iterdir()) == []


def test_a_task_that_failed_shows_no_piece_of_a_traceback() -> None:
    try:
        Path("/nowhere/at all").read_text("utf-8")
    except OSError as cause:
        error = ray.exceptions.RayTaskError("run", "Traceback …\n  File …\n", cause)
    reason = _reason(error.as_instanceof_cause())
    assert reason == "[Errno 2] No such file or directory: '/nowhere/at all'"
    killed = ray.exceptions.WorkerCrashedError()
    assert "\n" not in _reason(killed)
    assert _reason(killed)
