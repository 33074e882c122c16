"""The job API of a cluster: submits jobs, follows their logs, and returns how they have ended.

Ray's own `ray job submit` ends with 0 for a job that was stopped, and with 1 for any that failed.
"""

import asyncio
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import ray
from ray.job_submission import JobStatus, JobSubmissionClient

from s2s.distributed.submission import environment_digest
from s2s.distributed.token import missing_token, token_advice, token_is_sent
from s2s.errors import BadInput, Failed, Stopped

# Of the modules that log each step of a submission; the first two set their own level.
_LOGGERS = (
    "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging", "ray._private.runtime_env.working_dir",
)  # fmt: skip

_ANSWER_SECONDS = 10.0
_LOST_SECONDS = 60.0  # without an answer, until the dashboard counts as lost
_SILENT_SECONDS = 30.0  # without a line of the log, until the connection is made again

# Keys of a job's metadata. The first is Ray's, which its dashboard shows.
_NAME, _DIGEST = "job_name", "s2s_digest"


@dataclass(frozen=True)
class Job:
    """A job as the job API describes it."""

    identifier: str
    status: str  # PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED
    entrypoint: str
    driver_code: int | None  # exit code of the command, where it has ended by itself
    message: str
    name: str | None = None  # the id that was asked for, without a number
    digest: str | None = None  # of the files and variables that the job was given

    @property
    def has_ended(self) -> bool:
        """Whether the status is final."""
        return bool(JobStatus(self.status).is_terminal())

    @property
    def exit_code(self) -> int | None:
        """The exit code of `s2s` for the job; None while it runs."""
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return Stopped.exit_code
        if self.status == "FAILED":
            told = (BadInput.exit_code, Stopped.exit_code)
            return self.driver_code if self.driver_code in told else Failed.exit_code
        return None


class JobServer:
    """The job API of a cluster.

    Args:
        address: URL of the cluster's dashboard.

    Raises:
        BadInput: this is no such URL, or the cluster refuses the token.
        Failed: nothing answers there, or no Ray.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        _require_dashboard(self.address)
        for name in _LOGGERS:  # they are in the way of the job's log
            logging.getLogger(name).setLevel(logging.ERROR)
        with _translated(self.address), _without_addresses():
            self._client = JobSubmissionClient(self.address)

    def jobs(self, name: str) -> list[Job]:
        """Return the jobs with an id, or with a number after it, the oldest first."""
        return _of_name(self._all_jobs(), name)

    def _all_jobs(self) -> list[Job]:
        with _translated(self.address):
            return [_job(each) for each in self._client.list_jobs() if each.submission_id]

    def submit(
        self, name: str, entrypoint: str, runtime_env: Mapping[str, object]
    ) -> tuple[Job, bool]:
        """Submit a job, unless one with this id runs already.

        Returns:
            The job, and whether it is a new one.

        Raises:
            BadInput: a job with this id runs another command, or has other files or variables.
            Failed: the cluster does not take the job.
        """
        digest = environment_digest(runtime_env)
        jobs = self._all_jobs()
        earlier = _of_name(jobs, name)
        if running := [each for each in earlier if not each.has_ended]:
            return _require_same(running[-1], entrypoint, digest), False
        identifier = _free_identifier(jobs, name)
        try:
            with _translated(self.address):
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=identifier,
                    runtime_env=dict(runtime_env),
                    metadata={_NAME: name, _DIGEST: digest},
                )
        except Failed:
            # Somebody else may have submitted it meanwhile.
            if (others := self.jobs(name)) and others[-1].identifier == identifier:
                return _require_same(others[-1], entrypoint, digest), False
            raise
        return self.job(identifier), True

    def job(self, identifier: str) -> Job:
        """Return what has become of a job."""
        with _translated(self.address):
            return _job(self._client.get_job_info(identifier))

    def log(self, identifier: str) -> str:
        """Return the log of a job so far."""
        with _translated(self.address):
            return str(self._client.get_job_logs(identifier))

    def follow(self, identifier: str, write: Callable[[str], None]) -> Job:
        """Pass the log of a job on as it grows, and return the job once it has ended.

        A lost connection is made again, for a minute.

        Raises:
            Failed: the dashboard no longer answers.
        """
        log = _Log(write)
        answered = time.monotonic()
        while True:
            try:
                asyncio.run(self._read(identifier, log))
            except BrokenPipeError:  # nobody reads what is written
                raise
            except (RuntimeError, OSError, aiohttp.ClientError):
                pass  # whether the dashboard answers is seen below
            try:
                job = self.job(identifier)
                answered = time.monotonic()
            except Failed:
                if time.monotonic() - answered > _LOST_SECONDS:
                    raise
            else:
                if job.has_ended:
                    return job
            time.sleep(0.5)

    async def _read(self, identifier: str, log: "_Log") -> None:
        """Read the log of a job from its beginning to its end, or until the connection is lost.

        Raises:
            TimeoutError: nothing came for a while. The host may have gone without a word: nothing
                else ends such a connection.
        """
        log.begin()
        texts = aiter(self._client.tail_job_logs(identifier))
        with suppress(StopAsyncIteration):
            while True:
                log.add(await asyncio.wait_for(anext(texts), _SILENT_SECONDS))


class _Log:
    """A log that is written once, however often it is read from its beginning."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._read = self._written = 0  # characters

    def begin(self) -> None:
        """Begin to read at the beginning."""
        self._read = 0

    def add(self, text: str) -> None:
        """Write what has not been written of the next part."""
        skipped = min(max(self._written - self._read, 0), len(text))
        self._read += len(text)
        if text := text[skipped:]:
            self._write(text)
            self._written = self._read


def _number(identifier: str, name: str) -> int:
    """Return the number of a job among those with the same id: 1 for the first."""
    return int(identifier.removeprefix(name).removeprefix("-") or 1)


def _of_name(jobs: Iterable[Job], name: str) -> list[Job]:
    """Return the jobs with an id, or with a number after it, the oldest first.

    The metadata tells the second job with the id `a` from the first one with the id `a-2`.
    """
    pattern = re.compile(rf"{re.escape(name)}-[1-9]\d*")
    found = [
        job
        for job in jobs
        if job.identifier == name or (job.name == name and pattern.fullmatch(job.identifier))
    ]
    return sorted(found, key=lambda job: _number(job.identifier, name))


def _free_identifier(jobs: Sequence[Job], name: str) -> str:
    """Return the id for the next job of a name."""
    taken = {job.identifier for job in jobs}
    earlier = _of_name(jobs, name)
    number = _number(earlier[-1].identifier, name) + 1 if earlier else 1
    while (identifier := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return identifier


def _job(details: Any) -> Job:
    return Job(
        details.submission_id,
        details.status.value,
        details.entrypoint,
        details.driver_exit_code,
        details.message or "",
        (details.metadata or {}).get(_NAME),
        (details.metadata or {}).get(_DIGEST),
    )


def _require_same(job: Job, entrypoint: str, digest: str) -> Job:
    """Return a job that runs already, which must have the same command, files and variables.

    Raises:
        BadInput: it has others.
    """
    if job.entrypoint != entrypoint:
        raise BadInput(f"--id: the job {job.identifier} runs another command: {job.entrypoint}")
    if job.digest not in (None, digest):
        raise BadInput(
            f"the job {job.identifier} runs this command with other files of --working-dir, or "
            "other variables of --env: stop it first, or start another job with --id NAME"
        )
    return job


def _require_dashboard(address: str) -> None:
    """Check that a dashboard of Ray answers at a URL, as Ray waits for one without end.

    Raises:
        BadInput: it is no URL of a dashboard.
        Failed: nothing answers there, or no Ray.
    """
    if not re.fullmatch(r"https?://[^/\s]+(/.*)?", address):
        raise BadInput(
            f"--address {address}: the URL of the cluster's dashboard is needed, such as "
            "http://127.0.0.1:8265"
        )
    url = f"{address}/api/version"
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 # checked
            json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):  # it asks for a token
            return
        raise Failed(f"what answers at {address} is no dashboard of Ray: {error}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Failed(
            f"nothing answers at {address} ({reason}): make the dashboard of the cluster "
            "reachable, and name it with --address"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise Failed(f"what answers at {address} is no dashboard of Ray") from None


@contextmanager
def _translated(address: str) -> Iterator[None]:
    """Turn the errors of Ray's client into errors of `s2s.errors`.

    Raises:
        BadInput: the cluster refuses the token, or there is none.
        Failed: the request failed.
    """
    try:
        yield
    except ray.exceptions.AuthenticationError as error:
        if token_is_sent() and "cannot be opened" in str(error):
            raise BadInput(missing_token()) from None
        raise BadInput(f"the cluster at {address} {token_advice()}") from None
    except (RuntimeError, OSError) as error:  # requests raise OSErrors
        text = " ".join(str(error).split())
        raise Failed(f"the dashboard at {address}: {text[-500:]}") from None


@contextmanager
def _without_addresses() -> Iterator[None]:
    """Keep Ray's client from using another address than the one that it is given."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
