"""Work that can be interrupted and resumed: the folder of a run, its lock, and its interruption."""

import fcntl
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2s.errors import BadInput, Stopped

_DESCRIPTION, _FINISHED, _LOCK = "run.json", "finished.json", "lock"


@contextmanager
def claimed_folder(
    out: Path,
    marker: str,
    description: Mapping[str, object],
    restart: bool,
    *,
    extensible: str = "",
    free: str = "",
    extends: str = "",
) -> Iterator[Path]:
    """Yield the run folder of `out`, made if need be, which no other process uses in the block.

    The run's description is in its `run.json`.

    Args:
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
        BadInput: `out` is there already, is a URI, or the folder is in use or holds another run.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(out)):
        raise BadInput(f"--out {out}: a path is expected, on storage that all nodes share")
    out = out.resolve()
    if not out.name:
        raise BadInput(f"--out {out}: name a directory to make")
    if out.exists() and not (out / marker).is_file():
        raise BadInput(f"{out} exists already, and no earlier run made it; name another --out")
    folder = run_folder(out)
    is_new = not folder.is_dir() or not any(folder.iterdir())
    if not (is_new or {_DESCRIPTION, _LOCK} & {file.name for file in folder.iterdir()}):
        raise BadInput(f"{folder} exists already, and no run made it; name another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}") from None
    with locked(folder):
        run = json.loads(json.dumps(description))
        try:
            if restart:
                _empty(folder)
            else:
                _require_same(out, folder, run, extensible, free, extends)
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
    out: Path, folder: Path, run: dict[str, object], extensible: str, free: str, extends: str
) -> None:
    """Check that a run may continue in a folder.

    Raises:
        BadInput: `out` is complete, or the folder holds another run.
    """
    earlier = read_description(folder)
    replaces = "--restart starts over and replaces it"
    if earlier is None:
        if out.exists():
            raise BadInput(f"{out} exists already; {replaces}")
        return
    refusing = [
        (name, before, now)
        for name, before, now in _differences(earlier, run)
        if not (name == extensible and isinstance(before, int) and now > before)
        and not (free and name.startswith(f"{free}."))
    ]
    if refusing:
        raise _another_run(folder, refusing, "--out")
    finished = read_description(folder, _FINISHED) or earlier
    if out.exists() and finished == run:
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
        description: dict[str, object] = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: {error}") from None
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


def run_folder(out: Path) -> Path:
    """Return the folder of the run that makes `out`."""
    out = out.resolve()
    return out.with_name(f"{out.name}.run")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process; the lock of a killed process is released.

    Raises:
        BadInput: another process has locked it.
    """
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{folder} is in use: another command is working there") from None
        except OSError:  # a file system without locks
            pass
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C, or SIGTERM as `ray job stop` sends it, end the block as an exception.

    In another thread than the main one, which alone gets signals, neither is looked for.

    Raises:
        Stopped: one of the two was sent.
    """
    # A shell starts commands in the background with SIGINT ignored; here it always counts.
    with _handled(lambda: signal.default_int_handler(signal.SIGINT, None)):
        try:
            yield
        except (KeyboardInterrupt, SystemExit):  # Ray ends its workers on SIGINT, and then exits
            raise Stopped("stopped; run the same command again to resume") from None


@contextmanager
def requests_to_stop() -> Iterator[list[float]]:
    """Collect Ctrl-C and SIGTERM, so that the block can save first: when each of them came.

    The second one ends the block. In another thread than the main one, none are collected.

    Raises:
        Stopped: at the second one.
    """
    requests: list[float] = []

    def collect() -> None:
        requests.append(time.monotonic())
        if len(requests) > 1:
            raise Stopped(
                "stopped without saving; run the same command again to resume from the last "
                "checkpoint"
            )

    with _handled(collect):
        yield requests


@contextmanager
def _handled(handle: Callable[[], None]) -> Iterator[None]:
    """Call `handle` at every SIGINT and SIGTERM within the block, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda *_: handle())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
