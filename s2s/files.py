"""Files and directories that are written whole or not at all, and locks of files."""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

# Errors of file systems that cannot lock a file, such as some NFS and FUSE mounts.
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a scratch path to write to, which replaces `path` at the end of the block.

    If the block raises, the scratch file is removed and `path` stays as it is.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _default_modes(folder: Path) -> tuple[int, int]:
    """Return the modes of new files and folders, which the user's umask determines."""
    probe = folder / ".mode"
    probe.touch()  # the umask itself cannot be read without changing it for all threads
    file = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return file, file | (file & 0o444) >> 2


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a scratch directory to fill, which replaces `path` at the end of the block.

    If the block raises, the scratch directory is removed and `path` stays as it is.
    """
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield scratch
        # Some libraries make files that the user alone can read.
        file_mode, folder_mode = _default_modes(scratch)
        for entry in (scratch, *scratch.rglob("*")):
            entry.chmod(folder_mode if entry.is_dir() else file_mode)
        shutil.rmtree(path, ignore_errors=True)
        scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with new_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of the content of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(file: TextIO, operation: int) -> str | None:
    """Lock an open file until it is closed.

    Args:
        operation: of `fcntl.flock`.

    Returns:
        The error if the file system has no locks, so that the file is not locked.

    Raises:
        BlockingIOError: another process has locked it, and `operation` does not wait.
        OSError: it cannot be locked for another reason.
    """
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return error.strerror
    return None


_DIRECTORIES = {"corpus.json": "corpus", "config.json": "model", "run.json": "run"}


def describe_directory(path: Path, marker: str) -> str:
    """Return why a directory cannot be opened whose file `marker` could not be read."""
    try:
        if not path.exists():
            if (path.with_name(f"{path.name}.run") / "run.json").exists():
                return "the run that makes it has not finished"
            return "it does not exist"
        if not path.is_dir():
            return "it is a file"
        names = {file.name for file in path.iterdir()}
        if marker in names:
            (path / marker).read_bytes()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    kinds = [kind for name, kind in _DIRECTORIES.items() if name in names and name != marker]
    return f"it is a {kinds[0]} directory" if kinds else f"it has no {marker}"
