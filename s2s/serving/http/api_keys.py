"""API keys: stored as hashes, compared in constant time, each with its rate.

A keys file has a line for each key: a name, the SHA-256 of the key in hexadecimal digits, and the
requests a minute that it may make (nothing for any number), separated by tabs. Lines that begin
with # are comments. Keys are random and long, so a fast hash protects them as well as a slow one.
"""

import hashlib
import hmac
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from s2s.errors import BadInput

_NAME = re.compile(r"[\w.@-]{1,64}")


@dataclass(frozen=True)
class Key:
    """A key as it is stored."""

    name: str
    digest: str  # SHA-256 in hexadecimal digits
    per_minute: float | None = None


def new_key(name: str, per_minute: float | None = None) -> tuple[str, str]:
    """Return a new key, which is stored nowhere, and its line for a keys file.

    Raises:
        BadInput: the name or the rate is invalid.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is not a valid name: use up to 64 letters, digits and . _ @ -")
    if per_minute is not None and not 0 < per_minute < 1e9:
        raise BadInput("a rate must be more than 0 requests a minute, and less than a billion")
    key = f"s2s_{secrets.token_urlsafe(32)}"
    rate = "" if per_minute is None else f"\t{per_minute:g}"
    return key, f"{name}\t{_digest(key)}{rate}"


def add_key(path: Path, line: str) -> None:
    """Add a line to a keys file; a new file is readable by its owner alone.

    Raises:
        BadInput: the file has a key of that name, or can't be written.
    """
    name = line.split("\t")[0]
    text = _read(path) if path.exists() else ""
    if any(key.name == name for key in _parse(path, text)):
        raise BadInput(f"{path} already has a key named {name}")
    start = "\n" if text and not text.endswith("\n") else ""
    try:
        with open(path, "a", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            file.write(f"{start}{line}\n")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def read_keys(path: Path) -> list[Key]:
    """Return the keys of a keys file.

    Raises:
        BadInput: the file can't be read, has no key, or has an invalid line.
    """
    keys = _parse(path, _read(path))
    if not keys:
        raise BadInput(f"{path}: the file has no keys, so nobody could translate")
    return keys


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def _parse(path: Path, text: str) -> list[Key]:
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, digest, *rate = line.split("\t")[:3] if "\t" in line else (line, "")
        try:
            per_minute = float(rate[0]) if rate and rate[0].strip() else None
        except ValueError:
            per_minute = -1.0
        fits = _NAME.fullmatch(name) and re.fullmatch(r"[0-9a-f]{64}", digest)
        if not fits or (per_minute is not None and not 0 < per_minute < 1e9):
            raise BadInput(
                f"{path}: line {number} must be a name, the SHA-256 of a key and requests a "
                "minute, separated by tabs; `s2s key NAME` makes one"
            )
        if any(key.name == name for key in keys):
            raise BadInput(f"{path}: line {number} is a second key named {name}")
        keys.append(Key(name, digest, per_minute))
    return keys


class Keys:
    """The keys that are accepted, and how often each may be used.

    Rates are counted by each replica on its own, so that several replicas together allow more.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, keys: list[Key], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._lock = threading.Lock()
        # A token bucket for each key, which fills up with time: its level, and when that was.
        self._buckets = {key.name: (_capacity(key), clock()) for key in keys}

    def owner(self, secret: str) -> Key | None:
        """Return the stored key that a secret belongs to; None if there is none."""
        digest = _digest(secret)
        match = None
        for key in self._keys:  # all of them, so that the time taken reveals nothing
            if hmac.compare_digest(key.digest, digest):
                match = key
        return match

    def wait(self, key: Key) -> float:
        """Take a request from a key's rate.

        Returns:
            0 if it was granted, else the seconds until one would be.
        """
        if key.per_minute is None:
            return 0.0
        with self._lock:
            level, since = self._buckets[key.name]
            now = self._clock()
            level = min(_capacity(key), level + (now - since) * key.per_minute / 60)
            granted = level >= 1
            self._buckets[key.name] = (level - granted, now)
        return 0.0 if granted else (1 - level) * 60 / key.per_minute


def _capacity(key: Key) -> float:
    """Return the requests that a key may make at once: a minute's."""
    return max(1.0, key.per_minute or 0.0)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
