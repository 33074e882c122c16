"""Folders and object stores, by one interface: `pyarrow.fs`."""

from pathlib import Path

import fsspec
from pyarrow import fs

from s2s.errors import BadInput


def is_uri(location: str | Path) -> bool:
    """Return whether a location is a URI, such as `s3://bucket/folder`, and not a local path."""
    return "://" in str(location)


def filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a local path or URI, and the path in it.

    Keys and endpoints come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL …) or from the
    URI (https://arrow.apache.org/docs/python/filesystems.html).

    Raises:
        BadInput: no installed package reads the URI.
    """
    if not is_uri(location):
        return fs.LocalFileSystem(), str(Path(location).resolve())
    try:
        system, path = fs.FileSystem.from_uri(location)
        return system, str(path)
    except (ValueError, OSError):  # fsspec may have a package for the scheme
        pass
    try:
        system, path = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError, OSError) as error:
        raise BadInput(f"{location} cannot be opened: {error}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path.rstrip("/")
