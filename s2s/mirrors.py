"""Directories in object stores, and their copies on this host.

A directory in a store is complete once its manifest is there, which is written last:

    files.json    size and hash of each file, by its path in the directory
    incomplete    an empty file, which is there while s2s writes or replaces the directory
    …             the files

A host keeps one copy of a directory, however many of its processes use it. Another content has
another manifest, and so another copy.
"""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TextIO, TypeVar

import platformdirs
from pyarrow import fs

from s2s.config import Section
from s2s.errors import BadInput
from s2s.files import lock, new_file, sha256, write_text
from s2s.locations import Location, absolute, extended, is_uri, name_of, named
from s2s.storage import FileHash, download, errors_named, filesystem, make_folder, upload

MANIFEST = "files.json"
INCOMPLETE = "incomplete"  # written first and removed last
_AT_ONCE = 8  # files that are copied at the same time
_T = TypeVar("_T")


class FilesManifest(Section):
    """The content of `files.json`."""

    files: dict[str, FileHash]
    """Size and hash of each file, by its path in the directory."""


def cache_folder() -> Path:
    """Return the folder for what can be made or fetched again: S2S_CACHE, or the user's cache."""
    return Path(os.environ.get("S2S_CACHE") or platformdirs.user_cache_path("s2s")).absolute()


def work_folder(location: Location) -> Path:
    """Return the folder of a location on this host: the path, or for a URI a path in the cache.

    What is side by side in a store is so in the cache.
    """
    location = absolute(location)
    if not is_uri(location):
        return Path(location)
    path, mark, query = location.partition("?")
    parent = Location(f"{path.rpartition('/')[0]}{mark}{query}")
    return named(cache_folder() / "work" / _key(parent) / name_of(location), location)


# ---- from a store -------------------------------------------------------------------------------


def local_copy(location: str | Path) -> Path:
    """Return a local path of a directory: a path as it is, a copy of what is at a URI.

    The copy stays as it is while this process runs, also when the directory in the store changes.

    Raises:
        BadInput: the directory at the URI is not complete, is damaged or cannot be read.
    """
    place = absolute(location)
    if not is_uri(place):
        return Path(location) if not is_uri(location) else Path(place)
    system, root = filesystem(place)
    text = _read(system, root, MANIFEST, place)
    if text is None:
        raise BadInput(_incomplete(system, root, place))
    manifest = FilesManifest.from_json(text, f"{place}/{MANIFEST}")
    versions = cache_folder() / "copies" / _key(place)
    version = versions / hashlib.sha256(text).hexdigest()[:16]
    folder = version / name_of(place)
    try:
        versions.mkdir(parents=True, exist_ok=True)
        with _locked(versions / "lock") as is_locked:  # one process fetches, the others wait for it
            if is_locked:
                _remove_unused(versions, version)
            if not folder.is_dir():
                part = folder.with_name(f"{folder.name}.part")
                if not is_locked:  # the others fetch at the same time
                    part = part.with_name(f"{part.name}-{uuid.uuid4().hex}")
                _fetch(system, root, manifest, part, place)
                _move_unless_there(part, folder)
            _keep(version)
    except OSError as error:
        where = error.filename or versions
        raise BadInput(f"the copy of {place}: {where}: {error.strerror or error}") from None
    return named(folder, place)


def _fetch(
    system: fs.FileSystem, root: str, manifest: FilesManifest, part: Path, place: Location
) -> None:
    """Copy the files of a manifest to a folder, except those that an earlier try has copied."""

    def fetch(name: str) -> None:
        target, expected = part / name, manifest.files[name]
        if not target.resolve().is_relative_to(part.resolve()):
            raise BadInput(f"{place}/{MANIFEST}: {name} is outside of the directory")
        if target.is_file() and sha256(target) == expected.sha256:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with new_file(target) as scratch:
            with errors_named(f"{place}/{name}"):
                copied = download(system, f"{root}/{name}", scratch)
            if copied != expected:
                raise BadInput(
                    f"{place}/{name} does not match its hash: it is damaged, or the directory is "
                    "being replaced"
                )

    part.mkdir(parents=True, exist_ok=True)
    _at_once(fetch, manifest.files)


def _move_unless_there(part: Path, folder: Path) -> None:
    """Move a complete copy to its place, or drop it if another process was faster."""
    try:
        part.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(part)


def _keep(version: Path) -> None:
    """Keep a version of a directory from being removed while this process runs.

    On a file system without locks, no version is ever removed.
    """
    if version not in _kept:
        file = version.with_suffix(".lock").open("w")
        lock(file, fcntl.LOCK_SH)
        _kept[version] = file


_kept: dict[Path, TextIO] = {}  # the open files, which hold the locks


def _remove_unused(versions: Path, needed: Path) -> None:
    """Remove the versions of a directory that no process uses, except the one that is needed."""
    for version in versions.iterdir():
        if version.is_dir() and version != needed:
            path = version.with_suffix(".lock")
            with path.open("w") as file, suppress(BlockingIOError):
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(version)
                path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock in the block, after the processes of this host that held it before.

    The value of the block is whether the file system has locks.
    """
    with path.open("w") as file:
        yield lock(file, fcntl.LOCK_EX) is None


# ---- to a store ---------------------------------------------------------------------------------


def publish(folder: str | Path, uri: str) -> None:
    """Copy a folder to a URI, in place of a directory that is there.

    If the command is killed, `marks` finds nothing at the URI: any host may publish there again.

    Raises:
        BadInput: the folder has no files, or the store cannot be used.
    """
    folder, uri = Path(folder), absolute(uri)
    names = _files(folder)
    if not names:
        raise BadInput(f"{folder}: there are no files")
    system, root = filesystem(uri)
    before = _manifest(system, root, uri)
    old = set(before.files) if before else set()
    if _read(system, root, INCOMPLETE, uri) is not None:  # all that is there is of s2s
        old |= _listed(system, root, uri).keys() - {MANIFEST, INCOMPLETE}
    write_file(uri, INCOMPLETE, "")
    with errors_named(uri):
        if before is not None:
            system.delete_file(f"{root}/{MANIFEST}")  # what is there is incomplete from here on
        for parent in sorted({str(PurePosixPath(name).parent) for name in names}):
            make_folder(system, root if parent == "." else f"{root}/{parent}")
        hashes = _at_once(lambda name: upload(folder / name, system, f"{root}/{name}"), names)
        manifest = FilesManifest(files=dict(zip(names, hashes, strict=True)))
        with system.open_output_stream(f"{root}/{MANIFEST}") as file:
            file.write(manifest.to_json().encode())
        for name in sorted(old - set(names)):
            system.delete_file(f"{root}/{name}")
        system.delete_file(f"{root}/{INCOMPLETE}")


def deliver(folder: Path, out: Location) -> None:
    """Move a folder to a path, in place of what is there, or publish it at a URI and remove it."""
    if is_uri(out):
        publish(folder, out)
        shutil.rmtree(folder)
    else:
        shutil.rmtree(out, ignore_errors=True)
        folder.replace(out)


def marks(location: Location, marker: str) -> tuple[bool, bool]:
    """Return whether something is at a location, and whether it has a file of some name.

    What a killed command has left at a URI while it published counts as nothing.

    Raises:
        BadInput: the store cannot be used.
    """
    if not is_uri(location):
        path = Path(location)
        return path.exists(), (path / marker).is_file()
    system, root = filesystem(location)
    manifest = _manifest(system, root, location)
    if manifest is not None:
        return True, marker in manifest.files
    names = _listed(system, root, location).keys()
    return bool(names) and INCOMPLETE not in names, False


# ---- a run folder in a store --------------------------------------------------------------------


class FolderMirror:
    """The small files of a folder that grows, in a store and on this host.

    Args:
        location: of the folder. If it is a path, nothing is to be done.
        identity: name of the file by which a folder is known: files of another one are dropped.
        without: names in the folder that are not copied.
    """

    def __init__(self, location: Location, identity: str, without: Collection[str]) -> None:
        self._location, self._identity, self._without = location, identity, without
        self.folder = work_folder(location)
        self._copied: dict[str, tuple[int, int]] = {}  # time and size of the files in the store

    def fetch(self) -> None:
        """Copy the files from the store that are newer there.

        Raises:
            BadInput: the store cannot be used.
        """
        if not is_uri(self._location):
            return
        system, root = filesystem(self._location)
        stored, own = _read(system, root, self._identity, self._location), self._own_identity()
        if stored is not None and stored != own:
            self._drop()
        for name, info in _listed(system, root, self._location).items():
            if PurePosixPath(name).parts[0] in self._without:
                continue
            path = self.folder / name
            if path.exists() and path.stat().st_mtime_ns >= info.mtime_ns:
                continue  # an interrupted command on this host has not published it
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as scratch, errors_named(f"{self._location}/{name}"):
                download(system, f"{root}/{name}", scratch)
                os.utime(scratch, ns=(info.mtime_ns, info.mtime_ns))
            self._copied[name] = _state(path)

    def publish(self) -> None:
        """Copy the files to the store that have changed on this host.

        Raises:
            BadInput: the store cannot be used.
        """
        if not is_uri(self._location):
            return
        system, root = filesystem(self._location)
        for name in _files(self.folder):
            parts, path = PurePosixPath(name).parts, self.folder / name
            if parts[0] in self._without or path.name.startswith("."):  # being written
                continue
            with errors_named(f"{self._location}/{name}"):
                if (state := _state(path)) != self._copied.get(name):
                    make_folder(system, str(PurePosixPath(root, *parts[:-1])))
                    upload(path, system, f"{root}/{name}")
                    self._copied[name] = state

    def _own_identity(self) -> bytes | None:
        try:
            return (self.folder / self._identity).read_bytes()
        except FileNotFoundError:
            return None

    def _drop(self) -> None:
        """Remove the files on this host."""
        for name in _files(self.folder):
            if PurePosixPath(name).parts[0] not in self._without:
                (self.folder / name).unlink()


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def remove(location: Location, without: Collection[str] = ()) -> None:
    """Remove a folder, or the files of a folder in a store except those with some names.

    Raises:
        BadInput: the store cannot be used.
    """
    if not is_uri(location):
        shutil.rmtree(location, ignore_errors=True)
        return
    system, root = filesystem(location)
    names = _listed(system, root, location)
    with errors_named(location):
        _at_once(
            lambda name: system.delete_file(f"{root}/{name}"),
            [name for name in names if name not in without],
        )


# ---- common -------------------------------------------------------------------------------------


def read_file(location: Location, name: str) -> bytes | None:
    """Return the content of a file in a folder, or None if there is none.

    Raises:
        BadInput: it cannot be read.
    """
    system, root = filesystem(location)
    return _read(system, root, name, location)


def write_file(location: Location, name: str, text: str) -> None:
    """Write a small file into a folder, whole or not at all.

    Raises:
        BadInput: it cannot be written.
    """
    with errors_named(extended(location, f"/{name}")):
        if not is_uri(location):
            Path(location).mkdir(parents=True, exist_ok=True)
            write_text(Path(location) / name, text)
            return
        system, root = filesystem(location)
        make_folder(system, root)
        with system.open_output_stream(f"{root}/{name}") as file:
            file.write(text.encode())


def remove_file(location: Location, name: str) -> None:
    """Remove a file of a folder, if it is there.

    Raises:
        BadInput: it cannot be removed.
    """
    system, root = filesystem(location)
    with errors_named(extended(location, f"/{name}")), suppress(FileNotFoundError):
        system.delete_file(f"{root}/{name}")


def _key(location: Location) -> str:
    return hashlib.sha256(location.encode()).hexdigest()[:16]


def _read(system: fs.FileSystem, root: str, name: str, place: Location) -> bytes | None:
    with errors_named(extended(place, f"/{name}")):
        try:
            with system.open_input_stream(f"{root}/{name}") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None


def _manifest(system: fs.FileSystem, root: str, place: Location) -> FilesManifest | None:
    text = _read(system, root, MANIFEST, place)
    return None if text is None else FilesManifest.from_json(text, f"{place}/{MANIFEST}")


def _incomplete(system: fs.FileSystem, root: str, place: Location) -> str:
    """Return why a directory without a manifest cannot be opened."""
    if _listed(system, root, place):
        return f"{place} is not complete: it has no {MANIFEST}, which s2s writes last"
    if _listed(system, f"{root}.run", place):
        return f"{place}: the run that makes it has not finished"
    return f"{place} does not exist"


def _listed(system: fs.FileSystem, root: str, place: Location) -> dict[str, fs.FileInfo]:
    """Return the files below a path of a store, by their path below it."""
    with errors_named(place):
        infos = system.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    start = len(root.lstrip("/")) + 1
    return {info.path.lstrip("/")[start:]: info for info in infos if info.type == fs.FileType.File}


def _files(folder: Path) -> list[str]:
    """Return the paths of the files in a folder, with slashes."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _at_once(work: Callable[[str], _T], names: Iterable[str]) -> list[_T]:
    """Return what a function gives for each name, called in several threads."""
    with ThreadPoolExecutor(_AT_ONCE, "s2s-store") as threads:
        return list(threads.map(work, names))
