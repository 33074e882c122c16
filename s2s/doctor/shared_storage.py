"""Folders and object stores as hosts see them.

Each host writes a marker, and then looks for the markers of all.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

_NAME = ".s2s-doctor"


@dataclass(frozen=True)
class Written:
    """A host's attempt to write a marker to a location."""

    exists: bool = True  # always in object stores, which have no folders
    trouble: str = ""  # why no marker was written
    was_tried: bool = True

    @property
    def succeeded(self) -> bool:
        """Whether there is a marker."""
        return self.exists and self.was_tried and not self.trouble


def write_marker(location: str, run: str, host: str) -> Written:
    """Write the marker of a host to a location.

    Args:
        location: absolute path of a folder, or URI.
        run: name of this run of the checks.
        host: name of this host in it.
    """
    try:
        from pyarrow import fs

        from s2s.errors import BadInput
        from s2s.storage import filesystem, is_uri
    except ImportError as error:
        return Written(trouble=f"{error.name} is not installed", was_tried=False)
    try:
        system, folder = filesystem(location)
        if not is_uri(location) and system.get_file_info(folder).type != fs.FileType.Directory:
            there = system.get_file_info(folder).type != fs.FileType.NotFound
            return Written(there, "it is no folder" if there else "it does not exist")
        with system.open_output_stream(_marker(folder, run, host)) as stream:
            stream.write(host.encode())
    except (BadInput, OSError, ValueError) as error:
        return Written(trouble=_reason(error))
    return Written()


def seen_markers(location: str, run: str, hosts: Sequence[str]) -> list[str]:
    """Return the hosts whose markers this host sees at a location.

    Each is looked up by its name: the listing of a network file system may be a minute old.
    """
    from pyarrow import fs

    from s2s.storage import filesystem

    system, folder = filesystem(location)
    found = system.get_file_info([_marker(folder, run, host) for host in hosts])
    return [
        host
        for host, info in zip(hosts, found, strict=True)
        if info.type == fs.FileType.File and _content(system, info.path) == host
    ]


def remove_marker(location: str, run: str, host: str) -> None:
    """Remove the marker of a host."""
    from s2s.storage import filesystem

    system, folder = filesystem(location)
    system.delete_file(_marker(folder, run, host))


def _content(system: object, path: str) -> str:
    with system.open_input_stream(path) as stream:  # type: ignore[attr-defined]
        return bytes(stream.read()).decode()


def _marker(folder: str, run: str, host: str) -> str:
    return f"{folder.rstrip('/')}/{_NAME}-{run}-{host}"


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else " ".join(str(error).split())[:200]
