"""Work that can be resumed: the folder of a run, and its lock."""

import fcntl
import json
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2s.errors import BadInput
from s2s.files import lock
from s2s.leases import LEASE, leased
from s2s.locations import Location, absolute, extended, is_uri
from s2s.mirrors import FolderMirror, marks, read_file, remove, work_folder

FULL_MEMORY = "full-memory.json"  # a note of a worker for all workers (s2s.training.failures)
_DESCRIPTION, _FINISHED, _LOCK = "run.json", "finished.json", "lock"
_IDENTITY = "run-id"  # drawn when a run at a URI begins or starts over


@contextmanager
def claimed_folder(
    out: str | Path,
    marker: str,
    description: Mapping[str, object],
    restart: bool,
    *,
    extensible: str = "",
    free: str = "",
    extends: str = "",
) -> Iterator[Path]:
    """Yield the run folder of `out`, made if need be, which no other process uses in the block.

    The run's description is in its `run.json`. The run folder of a URI is a folder on this host,
    with the files that an earlier run has published (`run_mirror`).

    Args:
        out: directory to make, at a path or URI.
        marker: the file by which a directory is known as an earlier output of the same kind;
            nothing else is ever replaced.
        description: all that the outcome depends on, for JSON. A run never continues in a folder
            whose `run.json` has another one.
        restart: drop what is in the folder, and let `out` be replaced.
        extensible: dotted name of a number in the description that may be greater than in
            `run.json`: the run then continues, even if it has finished.
        free: section of the description in which anything may differ from `run.json`, likewise.
        extends: what makes a finished run continue, in words.

    Raises:
        BadInput: `out` is there already, or the folder is in use or holds another run.
        Failed: another host has taken over the run.
    """
    out = absolute(out)
    if out == "/":
        raise BadInput(f"--out {out}: name a directory to make")
    exists, is_marked = marks(out, marker)
    folder = run_folder(out)
    if exists and not is_marked:
        raise BadInput(f"{out} exists already, and no earlier run made it; name another --out")
    is_new = not folder.is_dir() or not any(folder.iterdir())
    if not (is_new or {_DESCRIPTION, _LOCK} & {file.name for file in folder.iterdir()}):
        raise BadInput(f"{folder} exists already, and no run made it; name another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}") from None
    with locked(folder), leased(run_location(out)):
        run = json.loads(json.dumps(description))
        try:
            if restart:
                _empty(folder)
                if is_uri(out):
                    remove(run_location(out), without={LEASE})
            else:
                run_mirror(run_location(out)).fetch()
                _require_same(out, is_marked, folder, run, extensible, free, extends)
            if is_uri(out) and not (folder / _IDENTITY).exists():
                (folder / _IDENTITY).write_text(uuid.uuid4().hex, encoding="utf-8")
            text = json.dumps(run, indent=2) + "\n"
            (folder / _DESCRIPTION).write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadInput(f"{folder / _DESCRIPTION}: {error.strerror}") from None
        except BadInput:
            if is_new:
                shutil.rmtree(folder)
            raise
        yield folder


def mark_finished(folder: Path) -> None:
    """Note that the run in a folder has finished as its `run.json` describes it."""
    shutil.copyfile(folder / _DESCRIPTION, folder / _FINISHED)


def _require_same(
    out: Location,
    exists: bool,
    folder: Path,
    run: dict[str, object],
    extensible: str,
    free: str,
    extends: str,
) -> None:
    """Check that a run may continue in a folder.

    Raises:
        BadInput: `out` is complete, or the folder holds another run.
    """
    earlier = read_description(folder)
    replaces = "--restart starts over and replaces it"
    if earlier is None:
        if exists:
            raise BadInput(f"{out} exists already; {replaces}")
        return
    refusing = [
        (name, before, now)
        for name, before, now in _differences(earlier, run)
        if not (name == extensible and isinstance(before, int) and now > before)
        and not (free and name.startswith(f"{free}."))
    ]
    if refusing:
        raise _another_run(run_location(out), refusing, "--out")
    finished = read_description(folder, _FINISHED) or earlier
    if exists and finished == run:
        more = f"; {extends}" if extends else ""
        raise BadInput(f"{out} exists already; {replaces}{more}")


def require_same(folder: object, earlier: object, run: object, option: str) -> None:
    """Check that the description of the run in a folder is that of the run now.

    Args:
        option: that names the output.

    Raises:
        BadInput: they differ.
    """
    if differences := list(_differences(earlier, json.loads(json.dumps(run)))):
        raise _another_run(folder, differences, option)


def _another_run(folder: object, differences: list[tuple[str, Any, Any]], option: str) -> BadInput:
    named = "; ".join(_describe_difference(*difference) for difference in differences[:3])
    more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
    return BadInput(
        f"{folder} holds another run: {named}{more}; --restart drops it, or name another {option}"
    )


def _empty(folder: Path) -> None:
    """Remove what is in a folder, other than its lock."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


def read_description(folder: Path, name: str = _DESCRIPTION) -> dict[str, object] | None:
    """Return the description of the run in a folder, or None if there is none.

    Raises:
        BadInput: its file cannot be read.
    """
    file = folder / name
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{file}: {error}") from None
    return _parsed(text, str(file))


def _parsed(text: bytes, where: str) -> dict[str, object]:
    try:
        description: dict[str, object] = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from None
    return description


def _differences(before: object, now: object, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield name and values of what differs between two descriptions, by dotted names."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            dotted = f"{name}.{key}" if name else key
            yield from _differences(before.get(key), now.get(key), dotted)
    elif before != now:
        yield name, before, now


def _describe_difference(name: str, before: object, now: object) -> str:
    """Return what differs between two runs, in words."""
    section = name.partition(".")[0]
    if section in ("corpus", "vocabularies", "model"):
        return f"it has another {section.replace('ies', 'y')}"
    if section == "inputs":
        return "the inputs have changed"
    if section in ("layout", "versions"):
        return "another version of s2s or of a library made it"
    return f"{_setting(name)} was {json.dumps(before)}, and is {json.dumps(now)} now"


def _setting(name: str) -> str:
    """Return what users call a setting, given its name in a description."""
    return name.removeprefix("config.").removeprefix("source.")


def run_location(out: str | Path) -> Location:
    """Return the location of the folder of the run that makes `out`."""
    return extended(absolute(out), ".run")


def run_folder(out: str | Path) -> Path:
    """Return the folder on this host of the run that makes `out`."""
    return work_folder(run_location(out))


def run_mirror(location: Location) -> FolderMirror:
    """Return what copies a run folder from its store and to it, if it is at a URI.

    Checkpoints and notes for all workers are in the store only. Ray's files and the locks are of no
    use elsewhere.
    """
    without = {"checkpoints", FULL_MEMORY, "ray", "ray-run", _LOCK, LEASE}
    return FolderMirror(location, _IDENTITY, without)


def read_run(out: str | Path) -> dict[str, object] | None:
    """Return the description of the run that makes `out`, or None if there is none.

    Raises:
        BadInput: it cannot be read.
    """
    location = run_location(out)
    if not is_uri(location):
        return read_description(Path(location))
    text = read_file(location, _DESCRIPTION)
    return None if text is None else _parsed(text, f"{location}/{_DESCRIPTION}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process; the lock of a killed process is released.

    A file system without locks is named on standard error, and the folder stays unlocked.

    Raises:
        BadInput: another process has locked it, or it cannot be locked for another reason.
    """
    with (folder / _LOCK).open("w") as file:
        try:
            without_locks = lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{folder} is in use: another command is working there") from None
        except OSError as error:
            raise BadInput(f"{folder} cannot be locked: {error.strerror}") from None
        if without_locks:
            print(
                f"warning: the file system of {folder} has no locks ({without_locks}): run no "
                "second command with the same --out",
                file=sys.stderr,
            )
        yield
