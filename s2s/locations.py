"""Locations of directories: local paths, and URIs in object stores."""

import re
from pathlib import Path, PurePosixPath
from typing import NewType
from urllib.parse import unquote, urlsplit

from s2s.errors import BadInput

Location = NewType("Location", str)
"""A path or a URI, as the user wrote it; `pathlib` would make one slash of the two in a URI."""


def is_uri(location: str | Path) -> bool:
    """Return whether a location is a URI, such as `s3://bucket/folder`, and not a local path."""
    return "://" in str(location)


def absolute(location: str | Path) -> Location:
    """Return a location that means the same in every process: an absolute path, or a URI.

    A URI of the local file system (`file:///…`) becomes a path.

    Raises:
        BadInput: it is a URI that has lost a slash.
    """
    text = str(location)
    if re.match(r"[a-z][a-z0-9+.-]+:/(?!/)", text):
        raise BadInput(f"{text}: a URI has two slashes after the colon")
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if is_uri(text):
        return Location(text.rstrip("/"))
    return Location(str(Path(text).resolve()))


def extended(location: Location, text: str) -> Location:
    """Return a location with text added to its path, before any query of a URI."""
    path, mark, query = location.partition("?") if is_uri(location) else (location, "", "")
    return Location(f"{path.rstrip('/')}{text}{mark}{query}")


def named(path: Path, location: Location) -> Path:
    """Return a path, and have messages call it by a location (`with_locations`)."""
    _names[str(path)] = location
    return path


def with_locations(text: str) -> str:
    """Return a message in which local copies have the names that the user knows."""
    for path, location in _names.items():
        text = text.replace(path, location)
    return text


_names: dict[str, Location] = {}  # of local copies


def name_of(location: str | Path) -> str:
    """Return the last part of the path of a location."""
    text = absolute(location)
    return PurePosixPath(unquote(text.partition("?")[0]) if is_uri(text) else text).name
