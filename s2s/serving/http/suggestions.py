"""Better translations that users suggest, stored as lines of JSON."""

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fastapi import HTTPException

from s2s.errors import BadInput


@dataclass(frozen=True)
class Suggestion:
    """A translation that a user would rather see."""

    q: str  # the text
    s: str  # its translation
    source: str
    target: str
    key: str | None  # the name of the API key that it came with


class Suggestions:
    """A file of suggestions, which the replicas of a host may share.

    Args:
        path: a new file is readable by its owner alone.
        max_bytes: the size at which no more suggestions are taken.

    Raises:
        BadInput: the file can't be written.
    """

    def __init__(self, path: Path, max_bytes: int = 100 << 20) -> None:
        self._path, self._max_bytes = path, max_bytes
        try:
            os.close(self._open())
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}") from None

    def add(self, suggestion: Suggestion) -> None:
        """Add a suggestion and the time.

        Raises:
            HTTPException: 507, the file is full, or can't be written.
        """
        entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **asdict(suggestion)}
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        try:
            file = self._open()
            try:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
                if os.fstat(file).st_size + len(line) > self._max_bytes:
                    raise HTTPException(507, "the file of suggestions is full")
                os.write(file, line)  # in one piece, so that no two lines mix
            finally:
                os.close(file)
        except OSError as error:
            raise HTTPException(507, f"the suggestion can't be stored: {error.strerror}") from None

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
