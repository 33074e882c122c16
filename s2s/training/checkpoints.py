"""The checkpoints of a run: written in the background, verified by hashes, old ones removed.

A checkpoint is a folder `step-…`. Its manifest has the hash of every file and is written last: the
checkpoint is complete once the manifest is there, on any storage, with or without atomic renames.

    checkpoint.json    steps, epoch, loss on valid if an epoch ended there, hash of each file
    …                  the files of `Snapshot.save`
"""

import math
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs
from pydantic import Field

from s2s.config import Section
from s2s.errors import BadInput
from s2s.storage import FileHash, download, errors_named, filesystem, make_folder, upload

MANIFEST = "checkpoint.json"


class CheckpointManifest(Section):
    """The content of `checkpoint.json`."""

    steps: int
    """Optimizer steps of the run up to the checkpoint."""

    epoch: int
    """Epoch that the checkpoint belongs to, from 1."""

    run: str = ""
    """Name of the run, where several runs could use the same location."""

    valid_loss: float | None = None
    """Loss on `valid` in nats per token, if the checkpoint was written at the end of an epoch."""

    files: dict[str, FileHash] = Field(default_factory=dict)
    """Size and hash of each file, by name."""

    @property
    def name(self) -> str:
        """Folder of the checkpoint."""
        return f"step-{self.steps:09}"

    def __str__(self) -> str:
        """Describe the checkpoint to the user."""
        return f"checkpoint of step {self.steps:,} (epoch {self.epoch})"


class Checkpoints:
    """The checkpoints of one run, on any storage.

    Args:
        root: a folder, or a URI that pyarrow or fsspec reads.
        log: called with a line of text for a checkpoint that could not be written or read.
        run: name of the run. A location with checkpoints of another run is refused.
        background: return from `save` while the checkpoint is being written.
        last: number of newest checkpoints to keep.
        best: number of checkpoints to keep among those at the end of an epoch, by loss on `valid`.
        last_epochs: number of newest checkpoints to keep among those at the end of an epoch.

    Raises:
        BadInput: no installed package reads the URI.
    """

    def __init__(
        self,
        root: str | Path,
        log: Callable[[str], None] = lambda line: None,
        *,
        run: str = "",
        background: bool = True,
        last: int = 2,
        best: int = 1,
        last_epochs: int = 0,
    ) -> None:
        self._fs, self._root = filesystem(str(root))
        self.root = self._root if isinstance(self._fs, fs.LocalFileSystem) else str(root)
        self._run, self._background = run, background
        self._log = log
        self._last, self._best, self._last_epochs = last, best, last_epochs
        self._writer = ThreadPoolExecutor(1, "s2s-checkpoint")
        self._pending: tuple[CheckpointManifest, Future[None]] | None = None
        self._failure: str | None = None

    # ---- writing ----

    def save(self, manifest: CheckpointManifest, write: Callable[[Path], None]) -> None:
        """Write a checkpoint in the background, after the previous one.

        A checkpoint that cannot be written is logged, and the run continues: the next may succeed.

        Args:
            manifest: of the checkpoint, without its files and run, which are added.
            write: writes the files into a folder; called in another thread.
        """
        self.wait()
        manifest = manifest.model_copy(update={"run": self._run})
        self._pending = manifest, self._writer.submit(self._write, manifest, write)
        if not self._background:
            self.wait()

    def wait(self) -> str | None:
        """Wait until the last checkpoint is written.

        Returns:
            The reason if it could not be written.
        """
        if self._pending is not None:
            (manifest, future), self._pending = self._pending, None
            self._failure = None
            try:
                future.result()
            except Exception as error:  # whatever safetensors, torch, Arrow and the OS raise
                self._failure = " ".join(str(error).split()) or type(error).__name__
                self._log(f"the {manifest} could not be written: {self._failure}")
        return self._failure

    def _write(self, manifest: CheckpointManifest, write: Callable[[Path], None]) -> None:
        folder = f"{self._root}/{manifest.name}"
        with tempfile.TemporaryDirectory(prefix="s2s-checkpoint-") as scratch:
            write(Path(scratch))
            try:
                self._remove(manifest.name)
                make_folder(self._fs, folder)
                files = {}
                for path in sorted(Path(scratch).iterdir()):
                    files[path.name] = upload(path, self._fs, f"{folder}/{path.name}")
                manifest = manifest.model_copy(update={"files": files})
                with self._fs.open_output_stream(f"{folder}/{MANIFEST}") as target:
                    target.write(manifest.to_json().encode())
            except Exception:
                self._remove(manifest.name)  # an incomplete one takes space that the next needs
                raise
        self._prune(manifest)

    def _prune(self, newest: CheckpointManifest) -> None:
        """Remove the checkpoints that the rules do not keep, and incomplete ones."""
        # Later steps than those of the newest are of work that was lost.
        complete = [one for one in self.all() if one.steps <= newest.steps]
        epochs = [one for one in complete if one.valid_loss is not None]
        best = sorted(epochs, key=_by_loss)[: self._best]
        last = epochs[max(0, len(epochs) - self._last_epochs) :]
        keep = {one.name for one in [*complete[-self._last :], *best, *last]}
        for name in self._names():
            if name not in keep:
                self._remove(name)

    def clear(self) -> None:
        """Remove all checkpoints.

        Raises:
            BadInput: some belong to another run.
        """
        self.all()
        for name in self._names():
            self._remove(name)

    def _remove(self, name: str) -> None:
        folder = f"{self._root}/{name}"
        # The manifest first: without it, the rest is no checkpoint any more.
        for path, remove in (
            (f"{folder}/{MANIFEST}", self._fs.delete_file),
            (folder, self._fs.delete_dir),
        ):
            if self._fs.get_file_info(path).type != fs.FileType.NotFound:
                remove(path)

    # ---- reading ----

    def all(self) -> list[CheckpointManifest]:
        """Return the complete checkpoints, the oldest first."""
        return [one for name in self._names() if (one := self._manifest(name)) is not None]

    def best(self, number: int) -> list[CheckpointManifest]:
        """Return the checkpoints of lowest loss among those at the end of an epoch, best first."""
        epochs = (one for one in self.all() if one.valid_loss is not None)
        return sorted(epochs, key=_by_loss)[:number]

    def newest(self) -> CheckpointManifest | None:
        """Return the newest checkpoint whose files match their hashes, or None if there is none.

        Raises:
            BadInput: there are checkpoints, and all of them are damaged.
        """
        damaged = False
        for name in reversed(self._names()):
            manifest = self._manifest(name)
            if manifest is None:
                self._log(f"{name} is incomplete: falling back to the checkpoint before")
                continue
            try:
                with self.open(manifest):
                    return manifest
            except BadInput as error:
                damaged = True
                self._log(f"{error}; falling back to the checkpoint before")
        if damaged:
            raise BadInput(f"{self._root}: all checkpoints are damaged; --restart starts over")
        return None

    @contextmanager
    def open(
        self, manifest: CheckpointManifest, names: Collection[str] | None = None
    ) -> Iterator[Path]:
        """Yield a local folder with the files of a checkpoint, removed after the block.

        Args:
            names: of the files; None for all of them.

        Raises:
            BadInput: a file is missing or damaged.
        """
        with tempfile.TemporaryDirectory(prefix="s2s-checkpoint-") as scratch:
            for name in manifest.files if names is None else names:
                self._fetch(manifest, name, Path(scratch) / name)
            yield Path(scratch)

    def _fetch(self, manifest: CheckpointManifest, name: str, target: Path) -> None:
        path = f"{self._root}/{manifest.name}/{name}"
        try:
            copied = download(self._fs, path, target)
        except OSError as error:
            raise BadInput(f"the {manifest} is damaged: {error}") from None
        if copied != manifest.files[name]:
            raise BadInput(f"the {manifest} is damaged: {name} does not match its hash")

    def _manifest(self, name: str) -> CheckpointManifest | None:
        path = f"{self._root}/{name}/{MANIFEST}"
        try:
            with self._fs.open_input_stream(path) as file:
                manifest = CheckpointManifest.from_json(file.read(), path)
        except (FileNotFoundError, BadInput):
            return None  # the checkpoint is incomplete
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error}") from None
        if manifest.run != self._run:
            raise BadInput(f"{self.root} has checkpoints of another run; use another location")
        return manifest

    def _names(self) -> list[str]:
        with errors_named(self.root):
            infos = self._fs.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.base_name.startswith("step-"))


def _by_loss(manifest: CheckpointManifest) -> tuple[float, int]:
    """Return the sort key of checkpoints at the end of an epoch: best first, then earliest."""
    loss = math.inf if manifest.valid_loss is None else manifest.valid_loss
    return loss, manifest.steps
