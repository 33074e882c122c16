"""Local, unpacked copies of the files that an origin names."""

import gzip
import shutil
import zipfile
from pathlib import Path
from typing import IO

from s2s.preparation.sources import Origin


def unpack(origin: Origin, folder: Path) -> list[Path]:
    """Return the files of an origin, unpacked from zip and gz, or cut to its byte range.

    They have plain names: datasets takes some names for patterns, or for chains of file systems.

    Args:
        folder: an empty one, for the unpacked files.
    """
    files = []
    for number, name in enumerate(origin.members or origin.paths):
        file = folder / f"{number}.txt"
        if origin.members:
            with zipfile.ZipFile(origin.paths[0]) as archive, archive.open(name) as member:
                _copy(member, file)
        elif origin.byte_range is not None:
            begin, end = origin.byte_range
            with Path(name).open("rb") as whole, file.open("wb") as cut:
                whole.seek(begin)
                cut.write(whole.read(end - begin))
        else:
            file.symlink_to(Path(name).resolve())
        with file.open("rb") as opened:
            is_gzip = opened.read(2) == b"\x1f\x8b"
        if is_gzip:
            packed, file = file, folder / f"{number}.plain.txt"
            with gzip.open(packed) as opened_gzip:
                _copy(opened_gzip, file)
        files.append(file)
    return files


def _copy(packed: IO[bytes] | gzip.GzipFile, file: Path) -> None:
    with file.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
