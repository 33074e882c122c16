"""Compressed files and archives, told by their content and not by their names."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from s2s.errors import BadInput

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".lzma", ".zst")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".argosdata")


def _open_zst(path: Path) -> Any:
    return pa.input_stream(str(path), compression="zstd")


_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x5d\x00\x00": lzma.open,  # the older format .lzma
    b"\x28\xb5\x2f\xfd": _open_zst,
}

# What begins so is neither text nor an archive that is read here.
_REFUSED = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"Rar!\x1a\x07": "a RAR archive: unpack it first",
    b"\x04\x22\x4d\x18": "compressed by lz4: unpack it first",
    b"\x1f\x9d": "compressed by compress: unpack it first",
    b"LZIP\x01": "compressed by lzip: unpack it first",
    b"\xff\x06\x00\x00sNaPpY": "compressed by snappy: unpack it first",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"SQLite format 3": "an SQLite database: save its table as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Office document: save its table as CSV in UTF-8",
    b"%PDF-": "a PDF document: extract its text first",
}


def is_compressed(head: bytes) -> bool:
    """Return whether a file that begins with `head` is compressed, and can be decompressed."""
    return _opener(head) is not None


def open_plain(path: Path) -> Any:
    """Open a file for reading as bytes, decompressed if it is compressed."""
    with path.open("rb") as file:
        opener = _opener(file.read(16))
    return path.open("rb") if opener is None else opener(path)


def refuse_unreadable(path: Path, head: bytes) -> None:
    """Refuse a file that begins with `head` if that is of a known kind without rows.

    Raises:
        BadInput: it is; the message says what to do.
    """
    for magic, kind in _REFUSED.items():
        if head.startswith(magic):
            raise BadInput(f"{path}: this is {kind}")


def _opener(head: bytes) -> Callable[[Path], Any] | None:
    if head.startswith(b"BZh") and head[4:10] not in (b"1AY&SY", b"\x17rE8P\x90"):
        return None  # a text that begins with these letters
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    name: str
    head: bytes  # the first bytes of its content


def is_archive(path: Path, head: bytes) -> bool:
    """Return whether a file is a zip or a tar, which may be compressed.

    Args:
        head: its first bytes, decompressed.
    """
    return _is_zip(path) or head[257:262] == b"ustar" or path.name.lower().endswith(".tar")


def list_members(path: Path, head_bytes: int) -> list[Member]:
    """Return the files in an archive that are not empty, in the order of their names.

    Raises:
        BadInput: the archive cannot be read, or is a document of an office suite.
    """
    try:
        with _open_archive(path) as archive:
            found = [Member(name, file.read(head_bytes)) for name, file in archive]
    except BadInput:
        raise
    except Exception as error:  # every kind of archive has errors of its own
        kind = "zip" if _is_zip(path) else "tar"
        raise BadInput(
            f"{path}: not a readable {kind} file; it cannot be read to its end ({error})"
        ) from None
    names = {member.name for member in found}
    if names & {"[Content_Types].xml", "mimetype"}:
        raise BadInput(f"{path}: this is an Office document: save its table as CSV in UTF-8")
    return sorted((member for member in found if member.head), key=lambda member: member.name)


@contextmanager
def open_member(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Give a file in an archive, opened for reading."""
    if _is_zip(path):
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            yield file
        return
    with _open_archive(path) as members:
        yield next(file for other, file in members if other == name)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        magic = file.read(4)
    return magic == b"PK\x03\x04" or path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)


@contextmanager
def _open_archive(path: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Give the names and contents of the files in an archive, each to be read before the next."""
    if _is_zip(path):
        with zipfile.ZipFile(path) as archive:
            yield _zip_members(archive)
    else:
        with open_plain(path) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            yield _tar_members(archive)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for info in archive.infolist():
        if not info.is_dir():
            with archive.open(info) as file:
                yield info.filename, file


def _tar_members(archive: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    for info in archive:
        if info.isfile() and (file := archive.extractfile(info)) is not None:
            yield info.name.removeprefix("./"), file
