"""Local, plain copies of the files that an origin names."""

import codecs
import shutil
from pathlib import Path
from typing import IO, Any

from s2s.preparation.archives import is_compressed, open_member, open_plain
from s2s.preparation.sources import Origin
from s2s.text.encodings import SAMPLE_BYTES, wide_encoding


def unpack(origin: Origin, folder: Path, text: bool = True) -> list[Path]:
    """Return the files of an origin, out of its archive, decompressed, or cut to its byte range.

    They have plain names: datasets takes some names for patterns, or for chains of file systems.

    Args:
        folder: an empty one, for the unpacked files.
        text: whether the files are text, which is brought from UTF-16 to UTF-8.
    """
    files = []
    for number, name in enumerate(origin.members or origin.paths):
        file = folder / f"{number}.txt"
        if origin.members:
            with open_member(Path(origin.paths[0]), name) as member:
                _copy(member, file)
        elif origin.byte_range is not None:
            begin, end = origin.byte_range
            with Path(name).open("rb") as whole, file.open("wb") as cut:
                whole.seek(begin)
                cut.write(whole.read(end - begin))
        else:
            file.symlink_to(Path(name).resolve())
        if origin.byte_range is None:
            file = _decompressed(file)
            file = _in_utf8(file) if text else file
        files.append(file)
    return files


def _decompressed(file: Path) -> Path:
    """Return a file, or what is compressed in it, which may be compressed again."""
    while is_compressed(_head(file, 16)):
        packed, file = file, file.with_suffix(f".plain{file.suffix}")
        with open_plain(packed) as plain:
            _copy(plain, file)
        packed.unlink()
    return file


def _in_utf8(file: Path) -> Path:
    """Return a file, or a copy in UTF-8 if it is in UTF-16 or UTF-32."""
    encoding = wide_encoding(_head(file, SAMPLE_BYTES))
    if encoding is None:
        return file
    copy = file.with_suffix(".utf8.txt")
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    with file.open("rb") as wide, copy.open("wb") as narrow:
        while block := wide.read(1 << 20):
            narrow.write(decoder.decode(block).encode("utf-8", "replace"))
        narrow.write(decoder.decode(b"", True).encode("utf-8", "replace"))
    return copy


def _head(file: Path, size: int) -> bytes:
    with file.open("rb") as opened:
        return opened.read(size)


def _copy(packed: IO[bytes] | Any, file: Path) -> None:
    with file.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
