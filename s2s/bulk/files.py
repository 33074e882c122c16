"""Opening of files on any storage, compressed or not, and writing of whole ones."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from s2s.bulk.blocks import Tell
from s2s.errors import BadInput
from s2s.files import new_file
from s2s.storage import filesystem, is_uri

CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Compression of a file by its last suffix."""

_BUFFER = 1 << 20


_QUERY = re.compile(r"\?\w+=.*")

# Schemes whose URIs have a quoted path; fsspec takes the path of others as it stands.
_QUOTED = ("s3", "gs", "gcs", "file", "abfs", "abfss", "hdfs", "viewfs")


def codec_of(location: str) -> str | None:
    """Return the compression that the name of a file at a path or URI states, or None.

    The name of a link counts, not what the link leads to.
    """
    return CODECS.get(Path(split_query(location)[0]).suffix.lower())


def split_query(location: str) -> tuple[str, str]:
    """Return a location without its query, and the query with its question mark, or empty."""
    found = _QUERY.search(location) if is_uri(location) else None
    return (location[: found.start()], found[0]) if found else (location, "")


def has_quoted_path(location: str) -> bool:
    """Return whether a location is a URI whose path has `%20` for a space."""
    return is_uri(location) and location.partition("://")[0] in _QUOTED


@contextmanager
def opened_input(location: str) -> Iterator[tuple[io.BufferedReader, Tell]]:
    """Yield a file at a path or URI for reading, decompressed, and its position.

    Raises:
        BadInput: the file cannot be read.
    """
    system, path = filesystem(location)
    codec = codec_of(location)
    with reading(location), system.open_input_stream(path, compression=None) as raw:
        counted = _Counted(raw)
        plain = pa.CompressedInputStream(pa.PythonFile(counted, "r"), codec) if codec else counted
        with io.BufferedReader(plain, _BUFFER) as file:
            yield file, lambda: counted.count


class _Counted(io.RawIOBase):
    """A file that counts the bytes that are read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return the number of bytes."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


@contextmanager
def opened_random(location: str) -> Iterator[Any]:
    """Yield a file at a path or URI for reading in any order.

    Raises:
        BadInput: the file cannot be read.
    """
    system, path = filesystem(location)
    with reading(location), system.open_input_file(path) as file:
        yield file


@contextmanager
def reading(location: str) -> Iterator[None]:
    """Raise errors of reading a file as errors of the user's input.

    Raises:
        BadInput: the block raised an error of the storage, of the compression or of Arrow.
    """
    try:
        yield
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise BadInput(f"{location} cannot be read: {reason}") from None


@contextmanager
def whole_output(location: str, codec: str | None = None) -> Iterator[IO[bytes]]:
    """Yield a file for writing, which is at a path or URI at the end of the block, or not at all.

    The file is on this host until the end of the block.

    Raises:
        BadInput: the file cannot be written.
    """
    system, path = filesystem(location)
    try:
        if isinstance(system, fs.LocalFileSystem):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with (
                new_file(Path(path)) as scratch,
                _buffered(pa.OSFile(str(scratch), "wb"), codec) as file,
            ):
                yield file
            return
        # A store publishes what it has of an object when its stream is closed, even by an error.
        with TemporaryDirectory(prefix="s2s-") as folder:
            scratch = Path(folder) / "output"
            with _buffered(pa.OSFile(str(scratch), "wb"), codec) as file:
                yield file
            # One call, which Ctrl-C does not end in the midst of it.
            fs.copy_files(
                str(scratch), path, source_filesystem=fs.LocalFileSystem(),
                destination_filesystem=system,
            )  # fmt: skip
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise BadInput(f"{location} cannot be written: {reason}") from None


@contextmanager
def _buffered(raw: Any, codec: str | None) -> Iterator[IO[bytes]]:
    with (
        raw,
        pa.CompressedOutputStream(raw, codec) if codec else nullcontext(raw) as out,
        io.BufferedWriter(out, _BUFFER) as file,
    ):
        yield file


def joined(folder: str, name: str) -> str:
    """Return the location of a file in a folder at a path or URI.

    Args:
        name: path of the file below the folder, as the file system has it.
    """
    if not is_uri(folder):
        return str(Path(folder) / name)
    base, query = split_query(folder)
    return f"{base.rstrip('/')}/{quote(name) if has_quoted_path(folder) else name}{query}"


def run_folder_of(output: str) -> str:
    """Return the location of the run folder of an output at a path or URI."""
    if not is_uri(output):
        return f"{Path(output).resolve()}.run"
    base, query = split_query(output)
    return f"{base.rstrip('/')}.run{query}"
