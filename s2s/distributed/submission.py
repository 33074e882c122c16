"""What `s2s submit` gives to a job: its command, its id and its runtime environment."""

import hashlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s2s.distributed import ray_internals
from s2s.errors import BadInput

# Files by which directories are known that are data, and never uploaded: a corpus, a model, a run,
# a sweep.
_DATA = frozenset({"corpus.json", "model.safetensors", "run.json", "sweep.json"})
_MOST_UPLOADED = 100 << 20  # bytes that the job API takes

# Ray kills a job three seconds after it has asked it to stop. A run saves in less than 300.
_STOP_SECONDS = {"RAY_JOB_STOP_WAIT_TIME_S": "330"}


@dataclass(frozen=True)
class Submission:
    """A verb to carry out as a job, and what the job is given."""

    verb: str
    arguments: tuple[str, ...]
    python: str = "python"  # of the cluster's nodes
    name: str | None = None  # the id to use, instead of one from the command
    working_dir: Path | None = None  # to upload; the job runs in it
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def entrypoint(self) -> str:
        """The command of the job, for a shell."""
        return shlex.join([self.python, "-m", f"jobs.{self.verb}", *self.arguments])

    @property
    def identifier(self) -> str:
        """The id of the job, which the same command has again; a further job has `-2` after it."""
        return self.name or f"s2s-{self.verb}-{digest(self.entrypoint)}"


def runtime_environment(submission: Submission) -> dict[str, object]:
    """Return the runtime environment of a submission.

    Directories of s2s with data are left out of the working directory, as is what .gitignore and
    .rayignore name.

    Raises:
        BadInput: the working directory is none, or larger than what the job API takes.
    """
    environment: dict[str, object] = {"env_vars": {**_STOP_SECONDS, **submission.environment}}
    folder = submission.working_dir
    if folder is None:
        return environment
    if not folder.is_dir():
        raise BadInput(f"--working-dir {folder}: no such directory")
    excluded = data_directories(folder)
    files = ray_internals.uploaded_files(folder, excluded)
    if (size := sum(files.values())) >= _MOST_UPLOADED:
        raise BadInput(
            f"--working-dir {folder}: {_mebibytes(size)} to upload, and at most "
            f"{_mebibytes(_MOST_UPLOADED)} can be; largest: {_largest(files)}; name what the job "
            f"does not need in {folder / '.rayignore'}"
        )
    return {**environment, "working_dir": str(folder.absolute()), "excludes": excluded}


def data_directories(folder: Path) -> list[str]:
    """Return the directories of s2s with data in a folder, as patterns of .gitignore."""
    found = []
    for path, folders, files in os.walk(folder):
        if _DATA & set(files) and Path(path) != folder:
            found.append(f"/{Path(path).relative_to(folder)}")
            folders.clear()
        folders[:] = [each for each in folders if each not in (".git", ".venv")]
    return found


def _largest(files: Mapping[str, int], count: int = 3) -> str:
    """Return the largest entries at the top of a folder, with their sizes."""
    sizes: Counter[str] = Counter()
    for name, size in files.items():
        top, slash, _ = name.partition("/")
        sizes[f"{top}{slash}"] += size
    return ", ".join(f"{name} ({_mebibytes(size)})" for name, size in sizes.most_common(count))


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def digest(text: str) -> str:
    """Return a short digest of a text, for an id."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def environment_digest(runtime_env: Mapping[str, object]) -> str:
    """Return a digest of the files and variables of a runtime environment."""
    folder, excluded = runtime_env.get("working_dir"), runtime_env.get("excludes")
    package = ""
    if isinstance(folder, str) and isinstance(excluded, list):
        package = ray_internals.package_uri(Path(folder), excluded)
    return digest(json.dumps([package, runtime_env.get("env_vars")], sort_keys=True))
