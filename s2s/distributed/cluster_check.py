"""Checks that the Python of a cluster's nodes can carry out a job, before it is submitted."""

import json
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from s2s import extras
from s2s.distributed import ray_internals
from s2s.distributed.job_server import JobServer
from s2s.distributed.submission import Submission, digest
from s2s.errors import BadInput, Failed


def check_cluster(server: JobServer, submission: Submission) -> None:
    """Check that the Python of the cluster can carry out a submission, by a short job.

    A cluster that has passed is not asked again: the job stays in its list. One that has not may
    have been repaired since.

    Raises:
        BadInput: it cannot; the message says what is missing.
        Failed: the check could not be made.
    """
    modules = ["ray", *extras.REQUIRED, *extras.MODULES_OF_VERBS.get(submission.verb, ())]
    entrypoint = shlex.join([submission.python, "-c", _PROBE, *modules])
    name = f"s2s-check-{digest(entrypoint)}"
    done = [job for job in server.jobs(name) if job.status == "SUCCEEDED"]
    if done and (facts := _facts(server.log(done[-1].identifier))) is not None:
        with suppress(BadInput):
            _require_facts(facts, submission, server.address)
            return
    job, _ = server.submit(name, entrypoint, {})
    job = server.follow(job.identifier, lambda text: None)
    said = server.log(job.identifier).strip()
    if (facts := _facts(said)) is None:
        reason = (said or job.message or job.status).splitlines()[-1]
        raise Failed(
            f"the check of the cluster at {server.address} failed: {reason} (--python names "
            "the Python of its nodes, and --no-check leaves the check out)"
        )
    _require_facts(facts, submission, server.address)


_PROBE = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
try:
    ray = version("ray")
except PackageNotFoundError:
    ray = ""
print(json.dumps({
    "python": platform.python_version(),
    "ray": ray,
    "missing": [name for name in sys.argv[1:] if find_spec(name) is None],
    "s2s": all(find_spec(name) for name in ("s2s", "jobs")),
}))
"""


@dataclass(frozen=True)
class _Facts:
    """What a job found on a node of the cluster."""

    python: str
    ray: str  # empty if there is none
    missing: list[str]  # modules
    s2s: bool  # whether s2s is installed


def _facts(log: str) -> _Facts | None:
    """Return what the job found on the node, or None if its log does not say."""
    for line in reversed(log.splitlines()):
        with suppress(ValueError, TypeError):  # lines of other programs, such as "{a}"
            return _Facts(**json.loads(line))
    return None


def _require_facts(facts: _Facts, submission: Submission, address: str) -> None:
    """Check what the job found on the node.

    Raises:
        BadInput: as `check_cluster`.
    """
    where = f"the cluster at {address}"
    if tuple(map(int, facts.python.split(".")[:2])) < (3, 11):
        raise BadInput(f"{where} has Python {facts.python}: 3.11 or newer is needed")
    if facts.missing:
        raise BadInput(
            f"{where} lacks Python modules: {', '.join(facts.missing)}; install "
            f"'{extras.DISTRIBUTION}[all]' in its image, or name its Python with --python"
        )
    if facts.ray.split(".")[:2] != ray_internals.RAY.split(".")[:2]:
        raise BadInput(f"{where} has Ray {facts.ray}: {ray_internals.RAY} is needed")
    if not facts.s2s and not _is_source(submission.working_dir):
        raise BadInput(
            f"{where} has no s2s: install it in its image, or upload its source with --working-dir"
        )


def _is_source(folder: Path | None) -> bool:
    """Return whether a folder has the packages that a job needs."""
    return folder is not None and (folder / "s2s").is_dir() and (folder / "jobs").is_dir()
