"""Whether the hosts of a cluster see the files and folders that they are to share."""

import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from s2s.distributed.hosts import Host
from s2s.errors import BadInput
from s2s.locations import Location, is_uri

_ARRIVAL_SECONDS = 5.0  # for a file that one host has just written to be seen on another one
_ANSWER_SECONDS = 60.0  # for a host to look; one that is silent is not what is checked here
_SMALL = 1_000_000  # bytes of a file that is compared by its content


@dataclass(frozen=True)
class SharedPath:
    """A location that every host must see: a file that is read, or a folder that is written to.

    Args:
        name: of the path in messages, such as `--checkpoints`.
    """

    name: str
    location: Location  # an absolute path; every host sees a URI
    is_folder: bool = False

    @property
    def path(self) -> Path:
        """The local path."""
        return Path(self.location)


def require_shared(paths: Sequence[SharedPath], hosts: Sequence[Host]) -> None:
    """Return if some hosts see paths as this host does. Folders are made if they are missing.

    Args:
        hosts: to look on; this one is left out.

    Raises:
        BadInput: a host does not see a path, or sees another file there.
    """
    own = ray.get_runtime_context().get_node_id()
    others = [host for host in hosts if host.id != own]
    paths = [path for path in paths if not is_uri(path.location)]
    if not others or not paths:
        return
    with ExitStack() as stack:
        files = {
            path: stack.enter_context(_written_file(path.path)) if path.is_folder else path.path
            for path in paths
        }
        expected = {str(file): _content(file) for file in files.values()}
        looks = {host: _differing.options(scheduling_strategy=_on(host)) for host in others}
        answers = {host: look.remote(expected) for host, look in looks.items()}
        end = time.monotonic() + _ANSWER_SECONDS
        for host, answer in answers.items():
            with suppress(ray.exceptions.RayError):  # the host has gone, or is too slow
                differing = ray.get(answer, timeout=max(0.0, end - time.monotonic()))
                for path, file in files.items():
                    if str(file) in differing:
                        raise BadInput(
                            f"host {host} does not see the same {path.name} as this host: "
                            f"{path.path} must be on storage that all hosts share"
                        )


@contextmanager
def _written_file(folder: Path) -> Iterator[Path]:
    """Write a file of a new name to a folder, and remove it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f".seen-by-all-hosts-{secrets.token_hex(8)}"
    file.touch()
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def _on(host: Host) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(host.id, soft=False)


def _content(file: Path) -> str:
    """Return what tells the content of a file from others: its hash, or its size if it is large."""
    size = file.stat().st_size
    return hashlib.sha256(file.read_bytes()).hexdigest() if size < _SMALL else str(size)


@ray.remote(num_cpus=0, max_retries=0)
def _differing(expected: Mapping[str, str]) -> list[str]:
    """Return the files that this host does not see, or with another content."""
    end = time.monotonic() + _ARRIVAL_SECONDS
    while missing := [file for file in expected if not Path(file).exists()]:
        if time.monotonic() >= end:
            break
        time.sleep(0.2)
    return [
        file
        for file, content in expected.items()
        if file in missing or _content(Path(file)) != content
    ]
