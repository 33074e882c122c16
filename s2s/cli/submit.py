"""`s2s submit`."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from s2s.cli.arguments import config_file, parse
from s2s.cli.job_paths import require_absolute_paths
from s2s.cli.variables import Variable
from s2s.cli.verb import Verb
from s2s.errors import BadInput, Failed, Stopped
from s2s.interruption import interruptible

if TYPE_CHECKING:
    from s2s.distributed.job_server import Job, JobServer


@dataclass(frozen=True)
class Submit(Verb):
    """Run a verb as a job on a Ray cluster, follow its log, and end with its exit code.

    VERB and its options come last, after the options of `s2s submit`. Paths are absolute, on
    storage that all nodes share.

    While the job runs, the same command follows it again instead of starting a second one; Ctrl-C
    ends the following, and the job runs on.
    """

    takes_command: ClassVar[bool] = True

    verb: Annotated[
        Literal["prepare", "train", "tune", "evaluate", "translate"], tyro.conf.Positional
    ]
    """Verb to run, followed by its options."""

    address: Annotated[str, Variable("RAY_API_SERVER_ADDRESS")] = "http://127.0.0.1:8265"
    """URL of the dashboard of the cluster."""

    working_dir: Path | None = None
    """Directory to upload, in which the job runs: the source of s2s, or your own modules and files
    of options. Without it, the job uses the s2s that is installed on the cluster."""

    env: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Environment variable of the job and its workers, as NAME=VALUE, or NAME for the value that it
    has here; may be repeated. The dashboard shows it."""

    id: str | None = None
    """Id of the job. None: one that is derived from the command."""

    python: str = "python"
    """Python of the cluster's nodes."""

    check: bool = True
    """Check first that the cluster has what s2s needs. One that has passed is not checked again."""

    wait: bool = True
    """Follow the log until the job ends. With --no-wait, the command ends once it has submitted the
    job."""

    json: bool = False
    """Print id, status and exit code of the job as JSON; the log goes to standard error."""

    def run(self) -> None:
        """Submit the job, and follow it."""
        from s2s.distributed.cluster_check import check_cluster
        from s2s.distributed.job_server import JobServer
        from s2s.distributed.submission import Submission, runtime_environment

        self._check_command()
        environment = dict(map(_variable, self.env))
        submission = Submission(
            self.verb, self.command, self.python, self.id, self.working_dir, environment
        )
        runtime_env = runtime_environment(submission)
        server = JobServer(self._address())
        if self.check:
            check_cluster(server, submission)
        job, is_new = server.submit(submission.identifier, submission.entrypoint, runtime_env)
        if is_new:
            _say(f"submitted the job {job.identifier} to {server.address}")
        else:
            _say(f"the job {job.identifier} runs already")
        if self.wait:
            job = self._follow(server, job)
        if self.json:
            print(_as_json(job, server.address, is_new=is_new))
        elif not self.wait:
            print(job.identifier)
        if self.wait:
            _end_as(job)

    def _address(self) -> str:
        """Return the URL of the dashboard.

        Raises:
            BadInput: only Ray's own address is known.
        """
        ray_address = os.environ.get("RAY_ADDRESS", "")
        if "address" in self.given or not ray_address:
            return self.address
        if ray_address.startswith("http"):
            return ray_address
        host = ray_address.rpartition(":")[0] or "HOST"
        raise BadInput(
            f"RAY_ADDRESS={ray_address} is not the address of a dashboard: name that of the "
            f"cluster, such as --address http://{host}:8265"
        )

    def _check_command(self) -> None:
        """Check the command of the job, as far as that is possible here.

        Raises:
            BadInput: an option is wrong, or a path is relative.
        """
        from s2s.cli.verbs import VERBS  # `submit` is one of them

        arguments = list(self.command)
        file = config_file(arguments)
        if file is not None and {"-h", "--help"}.isdisjoint(arguments):
            if file.is_absolute():
                return  # it is on the cluster, and so is the rest of the options
            if self.working_dir is None:
                raise BadInput(f"--config {file}: the job has the file only with --working-dir")
            arguments = [
                word.replace(str(file), str(self.working_dir / file))
                if word in (str(file), f"--config={file}")
                else word
                for word in arguments
            ]
        require_absolute_paths(parse(self.verb, VERBS[self.verb], arguments))

    def _follow(self, server: "JobServer", job: "Job") -> "Job":
        """Print the log of the job until it ends.

        Raises:
            Stopped: Ctrl-C or SIGTERM came; the job runs on.
        """
        stream = sys.stderr if self.json else sys.stdout
        write: Callable[[str], None] = lambda text: print(text, end="", file=stream, flush=True)  # noqa: E731
        try:
            with interruptible():
                return server.follow(job.identifier, write)
        except Stopped:
            raise Stopped(
                f"the job {job.identifier} runs on: the same command follows it again, and "
                f"`ray job stop --address {server.address} {job.identifier}` stops it"
            ) from None


def _variable(text: str) -> tuple[str, str]:
    """Return name and value of an environment variable.

    Raises:
        BadInput: it has no name, or no value here.
    """
    name, equals, value = text.partition("=")
    if not name or (not equals and name not in os.environ):
        raise BadInput(f"--env {text}: NAME=VALUE, or a variable that is set here, is needed")
    return name, value if equals else os.environ[name]


def _as_json(job: "Job", address: str, *, is_new: bool) -> str:
    """Return what scripts need to know of a job, as a line of JSON."""
    facts = {
        "id": job.identifier,
        "status": job.status,
        "exit_code": job.exit_code,
        "new": is_new,
        "address": address,
    }
    return json.dumps(facts)


def _say(line: str) -> None:
    print(f"s2s: {line}", file=sys.stderr, flush=True)


def _end_as(job: "Job") -> None:
    """End with the exit code of a job.

    Raises:
        BadInput: the job refused its input.
        Failed: the job failed.
        Stopped: the job was stopped.
    """
    named = f"the job {job.identifier}"
    if job.exit_code == 0:
        _say(f"{named} is done")
    elif job.exit_code == Stopped.exit_code:
        raise Stopped(f"{named} was stopped; the same command resumes it")
    elif job.exit_code == BadInput.exit_code:
        raise BadInput(f"{named} refused its input: its log says why")
    elif job.driver_code is None:
        raise Failed(f"{named} did not start: {job.message or 'Ray does not say why'}")
    else:
        raise Failed(f"{named} failed with exit code {job.driver_code}: its log says why")
