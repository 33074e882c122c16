"""The Ray cluster that a command starts for itself: for this host and this user alone."""

import logging
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import ray

from s2s.distributed import ray_internals
from s2s.distributed.ports import LOOPBACK, ray_is_on_loopback
from s2s.errors import Failed

# The longest path of a socket that Ray makes in its folder, and the longest that a system takes.
_SOCKET = "session_2026-11-26_23-59-59_123456_4194304/sockets/dash_TaskEventsHead"
_LONGEST_PATH = 103 if sys.platform == "darwin" else 107  # bytes


@contextmanager
def local_cluster(*, dashboard: bool) -> Iterator[None]:
    """Start a cluster on this host, and end it at the end of the block.

    It listens on loopback alone, and neither its folder nor the token that it asks for can be read
    by others. What the user has set of Ray's variables for this is left as it is.

    Raises:
        Failed: Ray does not start.
    """
    ray_internals.silence_driver_messages()
    with _on_loopback():
        _keep_token_private()
        try:
            ray.init(
                address="local",
                include_dashboard=dashboard,
                dashboard_host="127.0.0.1",
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=_temporary_folder(),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise Failed(f"Ray does not start: {error}") from None
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have a cluster that is started in the block listen on loopback, unless the user objects."""
    missing = {name: value for name, value in LOOPBACK.items() if name not in os.environ}
    os.environ.update(missing)  # for the processes that Ray starts
    try:
        with ray_internals.clusters_on_loopback() if ray_is_on_loopback() else nullcontext():
            yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _keep_token_private() -> None:
    """Let nobody else read the file of the token that local clusters of this user ask for.

    Ray makes the file, as any other, readable by everybody.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    with suppress(OSError, RuntimeError):  # there is no home, or the file is somebody else's
        file = Path.home() / ".ray" / "auth_token"
        if file.exists():
            file.chmod(file.stat().st_mode & stat.S_IRWXU)
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(secrets.token_hex(32))


def _temporary_folder() -> str | None:
    """Return the folder for the files of local clusters, or None if RAY_TMPDIR names one.

    Ray keeps logs, sockets and spilled objects there, and gives everybody all rights in it, again
    with each process that it starts. So it lies in a folder that others cannot enter: one for all
    clusters of this user, since Ray leaves the logs of each.
    """
    if "RAY_TMPDIR" in os.environ:
        return None
    base = tempfile.gettempdir()
    if len(os.fsencode(f"{base}/s2s-{os.getuid():08}/ray/{_SOCKET}")) > _LONGEST_PATH:
        base = "/tmp"  # noqa: S108
    return str(_private_folder(Path(base)) / "ray")


def _private_folder(base: Path) -> Path:
    """Return this user's folder in a folder that everybody may write to; it is made if need be."""
    folder = base / f"s2s-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            folder.chmod(0o700)
            return folder
    return Path(tempfile.mkdtemp(prefix="s2s-", dir=base))  # the name is taken by somebody else
