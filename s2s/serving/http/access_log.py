"""The access log: a line for each request, without texts, queries or keys."""

import ipaddress
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s2s.errors import BadInput
from s2s.serving.http.gate import caller_of

STANDARD_ERROR = Path("-")
_UNKNOWN = "-"  # instead of a value that a request does not have


class AccessLog:
    """Lines of time, client, key's name, method, path, status, milliseconds and sentences.

    Args:
        where: a file, to which the processes of a host may all add, or `-` for standard error. A
            new file is readable by its owner alone. A file that was moved away, as by logrotate, is
            made again.
        behind_proxy: the client's address is the last one in `X-Forwarded-For`. Otherwise only a
            proxy on this host is believed.

    Raises:
        BadInput: the file can't be written.
    """

    def __init__(self, where: Path, behind_proxy: bool = False) -> None:
        self._behind_proxy = behind_proxy
        handler: logging.Handler
        if where == STANDARD_ERROR:
            handler = logging.StreamHandler(sys.stderr)
        else:
            try:
                os.close(os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
                handler = _PrivateFile(where, encoding="ascii", delay=True)
            except OSError as error:
                raise BadInput(f"{where}: {error.strerror}") from None
        self._logger = logging.Logger("s2s.access", logging.INFO)
        self._logger.addHandler(handler)

    def write(self, scope: Scope, path: str, status: int | None, began: float) -> None:
        """Add the line of a request.

        Args:
            path: how the log calls the path.
            began: when the request came, by `time.perf_counter`.
        """
        caller = caller_of(scope)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        self._logger.info(
            "%sZ %s %s %s %s %s %.1f %d",
            now,
            self._client(scope),
            (caller.name if caller else None) or _UNKNOWN,
            scope["method"],
            path,
            status or _UNKNOWN,
            1000 * (time.perf_counter() - began),
            caller.charged if caller else 0,
        )

    def _client(self, scope: Scope) -> str:
        """Return the address that a request comes from."""
        peer = (scope.get("client") or (_UNKNOWN,))[0]
        if self._behind_proxy or _is_loopback(peer):
            for address in _forwarded(scope):
                return address
        return str(peer)


class _PrivateFile(logging.handlers.WatchedFileHandler):
    """A log file that its owner alone can read, also after it was moved away."""

    def _open(self) -> TextIOWrapper:
        number = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return open(number, "a", encoding=self.encoding)  # noqa: PTH123


class AccessLogging:
    """ASGI middleware that has each request logged.

    Args:
        paths: those that are logged by name; all others, which may have a text, are `other`.
    """

    def __init__(self, app: ASGIApp, log: AccessLog, paths: frozenset[str]) -> None:
        self._app, self._log, self._paths = app, log, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), None

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._log.write(scope, path, status, began)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _forwarded(scope: Scope) -> Iterator[str]:
    """Yield the last address of the header `X-Forwarded-For`, if there is a valid one."""
    values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    last = values[-1].rpartition(b",")[2].decode("latin-1").strip() if values else ""
    try:
        yield str(ipaddress.ip_address(last))
    except ValueError:
        return
