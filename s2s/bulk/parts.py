"""The run folder of a translation: what it is of, and the parts that are done.

    run.json                   what the parts depend on, and that they are a translation's
    parts/00003/00000012.part  translations of block 12 of file 3, after a hash of them

A part is written whole. One that does not match its hash is not there.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash
from pyarrow import fs

from s2s.bulk.files import joined, reading, run_folder_of, whole_output
from s2s.errors import BadInput
from s2s.runs import locked, require_same
from s2s.storage import filesystem, is_uri

_DESCRIPTION, _LOCK = "run.json", "lock"
_KIND = "translation"  # in run.json: other commands have run folders as well
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Translated:
    """The translations of a block."""

    outputs: list[str | None]
    """What is written for each row; None for a row with a fault."""

    incomplete: list[int]
    """Places of the rows whose translation was cut off."""

    size: int
    """Bytes that the block takes in its file."""


@dataclass(frozen=True)
class BlockKey:
    """The place of a block: numbers of its file and of the block, from 0."""

    file: int
    block: int


@dataclass(frozen=True)
class Done:
    """What is known of a block whose part is there."""

    rows: int
    size: int  # bytes in its file


class Parts:
    """The parts of a translation.

    Args:
        folder: the run folder, at a path or URI.
    """

    def __init__(self, folder: str) -> None:
        self._fs, self._path = filesystem(folder)
        self._folders: set[int] = set()

    def find(self) -> dict[BlockKey, Done]:
        """Return what is done.

        Parts that are damaged are left out: their blocks are translated again.
        """
        selector = fs.FileSelector(f"{self._path}/parts", allow_not_found=True, recursive=True)
        found = {}
        for info in self._fs.get_file_info(selector):
            if info.type == fs.FileType.File and info.extension == "part":
                file, block = (int(each.split(".")[0]) for each in info.path.split("/")[-2:])
                part = self.load(key := BlockKey(file, block))
                if part is not None:
                    found[key] = Done(len(part.outputs), part.size)
        return found

    def save(self, key: BlockKey, part: Translated) -> None:
        """Write a part."""
        if key.file not in self._folders:
            self._fs.create_dir(f"{self._path}/parts/{key.file:05}", recursive=True)
            self._folders.add(key.file)
        batch = pa.record_batch(
            [pa.array(part.outputs, pa.string())],
            schema=pa.schema(
                [("output", pa.string())],
                {"incomplete": json.dumps(part.incomplete), "size": str(part.size)},
            ),
        )
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
            writer.write_batch(batch)
        content = sink.getvalue()
        path = self._file(key)
        scratch = f"{path}.new" if isinstance(self._fs, fs.LocalFileSystem) else path
        with self._fs.open_output_stream(scratch, compression=None) as file:
            file.write(xxhash.xxh3_128_digest(content))
            file.write(content)
        if scratch != path:
            self._fs.move(scratch, path)

    def load(self, key: BlockKey) -> Translated | None:
        """Return a part, or None if it is not there or damaged.

        Raises:
            BadInput: it cannot be read.
        """
        path = self._file(key)
        with reading(path):
            try:
                with self._fs.open_input_stream(path, compression=None) as file:
                    digest, content = file.read(_DIGEST_BYTES), file.read()
            except FileNotFoundError:
                return None
        if xxhash.xxh3_128_digest(content) != digest:
            return None
        with pa.ipc.open_stream(content) as stream:
            table = stream.read_all()
        metadata: Mapping[bytes, bytes] = table.schema.metadata
        return Translated(
            table["output"].to_pylist(),
            json.loads(metadata[b"incomplete"]),
            int(metadata[b"size"]),
        )

    def clear(self) -> None:
        """Remove all parts."""
        self._fs.delete_dir_contents(f"{self._path}/parts", missing_dir_ok=True)
        self._folders.clear()

    def remove(self) -> None:
        """Remove all files of the translation, as far as the storage lets them be removed.

        The outputs do not depend on it, and the same command would remove the rest.
        """
        with suppress(OSError):
            self._fs.delete_dir(f"{self._path}/parts")
        for name in (_DESCRIPTION, _LOCK):
            with suppress(OSError):
                self._fs.delete_file(f"{self._path}/{name}")

    def remove_folder(self) -> None:
        """Remove the run folder if it is empty and the storage lets it be removed."""
        with suppress(OSError):
            if not _names(self._fs, self._path):
                self._fs.delete_dir(self._path)

    def _file(self, key: BlockKey) -> str:
        return f"{self._path}/parts/{key.file:05}/{key.block:08}.part"


@contextmanager
def claimed_parts(
    output: str, description: Mapping[str, object], *, restart: bool
) -> Iterator[Parts]:
    """Yield the parts of an output, in a run folder that no other process of this host uses.

    An object store has no locks: there, two commands write the same parts.

    Args:
        description: all that the parts depend on, for JSON.
        restart: drop what is in the folder.

    Raises:
        BadInput: the folder is in use, or holds another run or other files.
    """
    folder = run_folder_of(output)
    system, path = filesystem(folder)
    description = {"kind": _KIND, **description}
    with reading(folder):
        _earlier_description(system, path, folder)  # before a lock is made in a folder of others
    parts, is_over = Parts(folder), False
    try:
        with nullcontext() if is_uri(output) else _locked(Path(folder)):
            with reading(folder):
                earlier = _earlier_description(system, path, folder)
                system.create_dir(path, recursive=True)
                if restart:
                    parts.clear()
                elif earlier is not None:
                    require_same(folder, earlier, description, "--output")
            with whole_output(joined(folder, _DESCRIPTION)) as out:
                out.write(json.dumps(description, indent=2).encode() + b"\n")
            try:
                yield parts
                is_over = True
            except BadInput:
                is_over = earlier is None and not parts.find()
                raise
            finally:
                if is_over:
                    parts.remove()
    finally:
        if is_over:  # NFS keeps the file of the lock as long as it is open
            parts.remove_folder()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a run folder on this host, and lock it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}") from None
    with locked(folder):
        yield


def _names(system: fs.FileSystem, path: str) -> set[str]:
    """Return the names of the files and folders in a folder, which need not exist."""
    selector = fs.FileSelector(path, allow_not_found=True)
    return {info.base_name for info in system.get_file_info(selector)}


def _earlier_description(system: fs.FileSystem, path: str, folder: str) -> object:
    """Return the description of the translation in a run folder, or None if the folder is empty.

    Raises:
        BadInput: the folder holds anything else.
    """
    # Killed early, a translation leaves a lock, and the beginning of a description.
    names = _names(system, path) - {_LOCK}
    if all(name.startswith(f".{_DESCRIPTION}.") for name in names):
        return None
    try:
        with system.open_input_stream(f"{path}/{_DESCRIPTION}") as file:
            description = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        description = None
    if not isinstance(description, dict) or description.get("kind") != _KIND:
        raise BadInput(
            f"{folder} exists already, and no translation made it; name another --output"
        )
    return description
