"""Leases of run folders in object stores, which have no locks.

A lease is a file in the folder that its holder writes again every few seconds. The lease of a
process that was killed or suspended expires after a minute. A process that finds the lease of
another host in place of its own has lost the folder, and stops without writing to it again.
"""

import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyarrow import fs

from s2s.config import Section
from s2s.errors import BadInput, Failed, Stopped
from s2s.locations import Location, is_uri
from s2s.mirrors import work_folder
from s2s.storage import errors_named, filesystem, make_folder

LEASE = "lease.json"
_EVERY, _EXPIRES = 15.0, 60.0  # seconds
_SETTLES = 0.5  # seconds in which a host that found no lease has written its own

_lost: dict[Location, str] = {}  # who has taken over the folders that this process uses


class Lease(Section):
    """The content of `lease.json`."""

    holder: str
    """Random id of the cache folder in which the holder works."""

    host: str
    """Name of its host."""


class _InUse(BadInput):
    """A folder whose lease another host holds.

    Args:
        host: its name.
    """

    def __init__(self, message: str, host: str) -> None:
        super().__init__(message)
        self.host = host


def has_lost(location: Location | None = None) -> bool:
    """Return whether another host has taken over a folder, or any, that this process leases."""
    return location in _lost if location is not None else bool(_lost)


@contextmanager
def leased(location: Location, every: float = _EVERY) -> Iterator[None]:
    """Hold the lease of a folder in the block, if it is in an object store.

    The processes of one cache folder exclude each other by other means: a lease of another one of
    them is of a process that has ended.

    If another host takes over the folder, the main thread gets SIGINT, which ends the block. In
    another thread, the block runs to its end and then fails.

    Args:
        every: seconds after which the lease is renewed.

    Raises:
        BadInput: another host holds the lease, or the store cannot be used.
        Failed: another host has taken over the folder.
    """
    if not is_uri(location):
        yield
        return
    mine = Lease(holder=_id_of_cache(location), host=socket.gethostname())
    system, root = filesystem(location)
    path = f"{root}/{LEASE}"
    with errors_named(location):
        _require_free(system, path, mine, location)
        _write(system, path, mine)
        time.sleep(_SETTLES)
        _require_free(system, path, mine, location)
    ended, user = threading.Event(), threading.get_ident()

    def renew() -> None:
        while not ended.wait(every):
            try:
                _require_free(system, path, mine, location)
                _write(system, path, mine)
            except _InUse as error:
                _lost[location] = f"a command on {error.host} has taken over {location}"
                print(f"stopping without saving: {_lost[location]}", file=sys.stderr)
                if user == threading.main_thread().ident and not ended.is_set():
                    signal.pthread_kill(user, signal.SIGINT)
                return
            except (OSError, BadInput):
                pass  # the next one may succeed

    thread = threading.Thread(target=renew, name="s2s-lease", daemon=True)
    thread.start()
    try:
        with _ended_by_loss(location):
            yield
    finally:
        ended.set()
        thread.join()
        _lost.pop(location, None)
        with suppress(OSError, BadInput):  # it expires by itself
            _require_free(system, path, mine, location)
            system.delete_file(path)


@contextmanager
def _ended_by_loss(location: Location) -> Iterator[None]:
    """Fail at the end of the block, however it ends, if another host has taken over a folder."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, Stopped):  # Ray ends its processes by SystemExit
        if not has_lost(location):
            raise
    if has_lost(location):
        raise Failed(f"stopped without saving: {_lost[location]}")


def _require_free(system: fs.FileSystem, path: str, mine: Lease, location: Location) -> None:
    """Check that no other host holds a lease.

    Raises:
        BadInput: one does.
        OSError: the store cannot be used.
    """
    try:
        with system.open_input_stream(path) as file:
            found = Lease.from_json(file.read(), path)
        age = time.time() - system.get_file_info(path).mtime_ns / 1e9
    except FileNotFoundError:
        return
    if found.holder != mine.holder and age < _EXPIRES:
        raise _InUse(
            f"{location} is in use: a command on {found.host} works there, or did so "
            f"{max(age, 0):.0f} s ago; if it was killed, try again in {_EXPIRES - age:.0f} s",
            found.host,
        )


def _write(system: fs.FileSystem, path: str, lease: Lease) -> None:
    make_folder(system, path.rpartition("/")[0])
    with system.open_output_stream(path) as file:
        file.write(lease.to_json().encode())


def _id_of_cache(location: Location) -> str:
    """Return the random id of the cache in which this process works."""
    file = work_folder(location).parent / "id"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        new = file.with_name(uuid.uuid4().hex)
        new.write_text(new.name, encoding="utf-8")
        with suppress(FileExistsError):  # by another process
            os.link(new, file)
        new.unlink()
    return file.read_text("utf-8")
