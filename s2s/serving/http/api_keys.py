"""API keys: hashes at rest, compared in constant time, each with its rate.

A keys file has a line for each: a name, the SHA-256 of the key in hexadecimal digits, and the
requests a minute that it may make (nothing for any number), separated by tabs. Lines that begin
with # are comments. Keys are random and long, so a fast hash keeps them as well as a slow one.
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
    """What is known of a key."""

    name: str
    digest: str  # SHA-256 in hexadecimal digits
    per_minute: float | None = None


def new_key(name: str, per_minute: float | None = None) -> tuple[str, str]:
    """A fresh key, which is nowhere kept, and its line of a keys file.

    Raises:
        BadInput: the name or the rate is none.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no name of a key: letters, digits and . _ @ - only")
    if per_minute is not None and not 0 < per_minute < 1e9:
        raise BadInput("a rate is more than 0 requests a minute")
    key = f"s2s_{secrets.token_urlsafe(32)}"
    rate = "" if per_minute is None else f"\t{per_minute:g}"
    return key, f"{name}\t{_digest(key)}{rate}"


def add_key(path: Path, line: str) -> None:
    """Add a line to a keys file, which nobody else may read if it is new.

    Raises:
        BadInput: it has a key of that name, or can't be written.
    """
    name = line.split("\t")[0]
    there = _text(path) if path.exists() else ""
    if any(key.name == name for key in _keys(path, there)):
        raise BadInput(f"{path} has a key {name} already")
    start = "\n" if there and not there.endswith("\n") else ""
    try:
        with open(path, "a", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            file.write(f"{start}{line}\n")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def read_keys(path: Path) -> list[Key]:
    """The keys of a keys file.

    Raises:
        BadInput: it can't be read, has no key, or a line of another form.
    """
    keys = _keys(path, _text(path))
    if not keys:
        raise BadInput(f"{path}: no key in it, so nobody could translate")
    return keys


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def _keys(path: Path, text: str) -> list[Key]:
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
                f"{path}: line {number} is not a name, the SHA-256 of a key and requests a minute, "
                "with tabs between; `s2s key NAME` makes one"
            )
        if any(key.name == name for key in keys):
            raise BadInput(f"{path}: line {number} is a second key {name}")
        keys.append(Key(name, digest, per_minute))
    return keys


class Keys:
    """Who may ask, and how often. The rate is this replica's own: several ones allow more.

    Args:
        clock: in seconds.
    """

    def __init__(self, keys: list[Key], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._lock = threading.Lock()
        # Of each key a bucket of requests, which fills up with time: what is left, and since when.
        self._left = {key.name: (max(1.0, key.per_minute or 0.0), clock()) for key in keys}

    def owner(self, given: str) -> Key | None:
        """Whose key it is; nobody's if it is wrong."""
        digest = _digest(given)
        found = None
        for key in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def wait(self, key: Key) -> float:
        """Count a request of a key; seconds until it may make it, 0 for now."""
        if key.per_minute is None:
            return 0.0
        most = max(1.0, key.per_minute)
        with self._lock:
            left, since = self._left[key.name]
            now = self._clock()
            left = min(most, left + (now - since) * key.per_minute / 60)
            granted = left >= 1
            self._left[key.name] = (left - granted, now)
        return 0.0 if granted else (1 - left) * 60 / key.per_minute


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
