"""The run folder of a translation: what it is of, and the parts that are done.

    run.json                   what the parts depend on
    parts/00003/00000012.part  translations of block 12 of file 3, after a hash of them

A part is written whole. One that does not match its hash is not there.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash
from pyarrow import fs

from s2s.bulk.files import joined, reading, run_folder_of, whole_output
from s2s.errors import BadInput
from s2s.runs import locked, require_same
from s2s.storage import filesystem, is_uri

_DESCRIPTION = "run.json"
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
        """Return a part, or None if it is not there or damaged."""
        try:
            with self._fs.open_input_stream(self._file(key), compression=None) as file:
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
        with suppress(FileNotFoundError):
            self._fs.delete_file(f"{self._path}/{_DESCRIPTION}")
        self._folders.clear()

    def remove(self) -> None:
        """Remove the run folder."""
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
        BadInput: the folder holds another run, or is in use.
    """
    folder = run_folder_of(output)
    with ExitStack() as stack:
        if not is_uri(output):
            local = Path(folder)
            try:
                local.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BadInput(f"{local}: {error.strerror}") from None
            stack.enter_context(locked(local))
        system, path = filesystem(folder)
        with reading(folder):
            system.create_dir(path, recursive=True)
            parts = Parts(folder)
            if restart:
                parts.clear()
            with (
                suppress(FileNotFoundError),
                system.open_input_stream(f"{path}/{_DESCRIPTION}") as file,
            ):
                require_same(folder, json.loads(file.read()), description, "--output")
        with whole_output(joined(folder, _DESCRIPTION)) as out:
            out.write(json.dumps(description, indent=2).encode() + b"\n")
        try:
            yield parts
        except BadInput:
            if not parts.find():
                parts.remove()
            raise
