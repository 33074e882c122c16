"""Where a run keeps its checkpoints: whole ones only, written in the background, few of them.

A checkpoint is a folder `step-…` that is complete once its manifest is there, which is written last
and has the hash of every file: so it works on any storage, with or without atomic renames.

    checkpoint.json    steps, epoch, loss on valid if an epoch ended there, hash of each file
    …                  what `Snapshot.save` writes
"""

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from pyarrow import fs
from pydantic import Field

from s2s.config import Section
from s2s.errors import BadInput

MANIFEST = "checkpoint.json"
_BLOCK = 1 << 20  # bytes copied at a time


class File(Section):
    """A file of a checkpoint."""

    bytes: int
    """Its size."""

    sha256: str
    """Its hash."""


class Kept(Section):
    """What `checkpoint.json` says of a checkpoint."""

    steps: int
    """Optimizer steps that the run had done."""

    epoch: int
    """Epoch in which the run stood, from 1."""

    run: str = ""
    """Name of the run, where runs could be taken for each other."""

    valid_loss: float | None = None
    """Loss on `valid` in nats per token, if the epoch had ended."""

    files: dict[str, File] = Field(default_factory=dict)
    """Each file by its name."""

    @property
    def name(self) -> str:
        """Folder of the checkpoint."""
        return f"step-{self.steps:09}"

    def __str__(self) -> str:
        """What a user calls it."""
        return f"checkpoint of step {self.steps:,} (epoch {self.epoch})"


class Checkpoints:
    """The checkpoints of one run, on any storage.

    Args:
        root: a folder, or a URI that pyarrow or fsspec reads.
        say: told of a checkpoint that could not be written or read.
        run: name of the run. A place that has checkpoints of another one is not touched.
        background: go on while a checkpoint is being written.
        last: newest checkpoints to keep.
        best: checkpoints at the ends of epochs to keep, those of least loss on `valid`.
        last_epochs: checkpoints at the ends of epochs to keep, the newest of them.
    """

    def __init__(
        self,
        root: str | Path,
        say: Callable[[str], None] = lambda line: None,
        *,
        run: str = "",
        background: bool = True,
        last: int = 2,
        best: int = 1,
        last_epochs: int = 0,
    ) -> None:
        self._fs, self._root = _storage(str(root))
        self.root = self._root if isinstance(self._fs, fs.LocalFileSystem) else str(root)
        self._run, self._background = run, background
        self._say = say
        self._last, self._best, self._last_epochs = last, best, last_epochs
        self._writer = ThreadPoolExecutor(1, "s2s-checkpoint")
        self._pending: tuple[Kept, Future[None]] | None = None
        self._failed: str | None = None

    # ---- writing ----

    def save(self, kept: Kept, write: Callable[[Path], None]) -> None:
        """Write a checkpoint in the background, once the one before is written.

        A checkpoint that cannot be written is told of, and the run goes on: the next may succeed.

        Args:
            write: fills a folder, in another thread.
        """
        self.wait()
        kept = kept.model_copy(update={"run": self._run})
        self._pending = kept, self._writer.submit(self._write, kept, write)
        if not self._background:
            self.wait()

    def wait(self) -> str | None:
        """Wait until the last checkpoint is written.

        Returns:
            Why it could not be, if so.
        """
        if self._pending is not None:
            (kept, future), self._pending = self._pending, None
            self._failed = None
            try:
                future.result()
            except Exception as error:  # whatever safetensors, torch, Arrow and the OS raise
                self._failed = " ".join(str(error).split()) or type(error).__name__
                self._say(f"the {kept} could not be written: {self._failed}")
        return self._failed

    def _write(self, kept: Kept, write: Callable[[Path], None]) -> None:
        folder = f"{self._root}/{kept.name}"
        with tempfile.TemporaryDirectory(prefix="s2s-checkpoint-") as scratch:
            write(Path(scratch))
            try:
                self._remove(kept.name)
                self._fs.create_dir(folder)
                files = {}
                for path in sorted(Path(scratch).iterdir()):
                    with (
                        path.open("rb") as source,
                        self._fs.open_output_stream(f"{folder}/{path.name}") as target,
                    ):
                        files[path.name] = _copy(source, target)
                whole = kept.model_copy(update={"files": files})
                with self._fs.open_output_stream(f"{folder}/{MANIFEST}") as target:
                    target.write(whole.to_json().encode())
            except Exception:
                self._remove(kept.name)  # what there is of it takes room that others need
                raise
        self._prune(kept)

    def _prune(self, written: Kept) -> None:
        """Remove what need not be kept, and what was never finished."""
        # What lies after the one just written is of work that was lost.
        whole = [kept for kept in self.all() if kept.steps <= written.steps]
        ended = [kept for kept in whole if kept.valid_loss is not None]
        best = sorted(ended, key=_loss)[: self._best]
        last = ended[max(0, len(ended) - self._last_epochs) :]
        stay = {kept.name for kept in [*whole[-self._last :], *best, *last]}
        for name in self._names():
            if name not in stay:
                self._remove(name)

    def clear(self) -> None:
        """Remove all checkpoints.

        Raises:
            BadInput: some are of another run.
        """
        self.all()
        for name in self._names():
            self._remove(name)

    def _remove(self, name: str) -> None:
        folder = f"{self._root}/{name}"
        # The manifest goes first: what is left is no checkpoint any more.
        for path, remove in (
            (f"{folder}/{MANIFEST}", self._fs.delete_file),
            (folder, self._fs.delete_dir),
        ):
            if self._fs.get_file_info(path).type != fs.FileType.NotFound:
                remove(path)

    # ---- reading ----

    def all(self) -> list[Kept]:
        """The complete checkpoints, the oldest first."""
        return [kept for name in self._names() if (kept := self._manifest(name)) is not None]

    def best(self, number: int) -> list[Kept]:
        """Those of least loss on `valid` among the ends of epochs, the best first."""
        return sorted((k for k in self.all() if k.valid_loss is not None), key=_loss)[:number]

    def newest(self) -> Kept | None:
        """The newest checkpoint whose files are what they were when it was written.

        Raises:
            BadInput: there are checkpoints, and none is whole.
        """
        damaged = False
        for name in reversed(self._names()):
            kept = self._manifest(name)
            if kept is None:
                self._say(f"{name} was never finished: going back to the one before")
                continue
            try:
                with self.open(kept):
                    return kept
            except BadInput as error:
                damaged = True
                self._say(f"{error}; going back to the one before")
        if damaged:
            raise BadInput(f"{self._root}: no checkpoint is whole; --restart begins anew")
        return None

    @contextmanager
    def open(self, kept: Kept) -> Iterator[Path]:
        """A local folder with the files of a checkpoint.

        Raises:
            BadInput: a file is missing or damaged.
        """
        with tempfile.TemporaryDirectory(prefix="s2s-checkpoint-") as scratch:
            for name, file in kept.files.items():
                self._fetch(f"{self._root}/{kept.name}/{name}", Path(scratch) / name, file, kept)
            yield Path(scratch)

    def _fetch(self, path: str, target: Path, file: File, kept: Kept) -> None:
        try:
            with self._fs.open_input_stream(path) as source, target.open("wb") as out:
                found = _copy(source, out)
        except OSError as error:
            raise BadInput(f"the {kept} is damaged: {error}") from None
        if found != file:
            raise BadInput(f"the {kept} is damaged: {target.name} is not what was written")

    def _manifest(self, name: str) -> Kept | None:
        path = f"{self._root}/{name}/{MANIFEST}"
        try:
            with self._fs.open_input_stream(path) as file:
                kept = Kept.from_json(file.read(), path)
        except (FileNotFoundError, BadInput):
            return None  # it was not finished
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error}") from None
        if kept.run != self._run:
            raise BadInput(f"{self.root} has checkpoints of another run; name another place")
        return kept

    def _names(self) -> list[str]:
        found = self._fs.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        return sorted(info.base_name for info in found if info.base_name.startswith("step-"))


def _loss(kept: Kept) -> tuple[float, int]:
    """What checkpoints at the ends of epochs are sorted by, the best first."""
    return math.inf if kept.valid_loss is None else kept.valid_loss, kept.steps


def _storage(root: str) -> tuple[fs.FileSystem, str]:
    """The file system of a folder or URI, and the path in it.

    Raises:
        BadInput: nothing here reads such a URI.
    """
    if "://" not in root:
        return fs.LocalFileSystem(), str(Path(root).resolve())
    try:
        system, path = fs.FileSystem.from_uri(root)
        return system, str(path)
    except (ValueError, OSError):  # fsspec knows more schemes, each by a package of its own
        pass
    try:
        found, path = fsspec.core.url_to_fs(root)
    except (ValueError, ImportError, OSError) as error:
        raise BadInput(f"checkpoints cannot be kept at {root}: {error}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(found)), path.rstrip("/")


def _copy(source: BinaryIO | Any, target: BinaryIO | Any) -> File:
    """Copy a stream, and tell what went through."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        digest.update(block)
        target.write(block)
        size += len(block)
    return File(bytes=size, sha256=digest.hexdigest())
