"""API keys: stored as hashes, compared in constant time, each with its limits.

A keys file has a line for each key, of columns separated by tabs: a name; the SHA-256 of the key in
hexadecimal digits; the sentences a minute that it may have translated, by their weight
(`s2s.serving.engine.weight`); the characters that a request may have; the day on which it was made.
Nothing in one of the limits, or no such column, sets no limit. A line named `anonymous` with `-`
instead of a hash is the allowance of all requests without a key together; without it they are
refused. Lines that begin with # are comments. Keys are random and long, so a fast hash protects
them as well as a slow one.
"""

import hashlib
import hmac
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from s2s.errors import BadInput
from s2s.files import new_file
from s2s.suggestions import did_you_mean

ANONYMOUS = "anonymous"
_NO_KEY = "-"  # instead of the hash, in the line of the anonymous allowance
_NAME = re.compile(r"[\w.@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST = 1e9  # sentences a minute, and characters of a request


@dataclass(frozen=True)
class Key:
    """A key as it is stored, or the anonymous allowance."""

    name: str
    digest: str  # SHA-256 in hexadecimal digits
    per_minute: float | None = None  # sentences, by their weight
    characters: int | None = None  # of a request
    created: date | None = None

    @property
    def anonymous(self) -> bool:
        """Whether it is the allowance of requests without a key."""
        return self.digest == _NO_KEY

    @property
    def burst(self) -> float:
        """The greatest weight that it may use at once: a minute's, and one sentence at least."""
        return max(1.0, self.per_minute or 0.0)


def new_key(
    name: str, per_minute: float | None = None, characters: int | None = None
) -> tuple[str, str]:
    """Return a new key, which is stored nowhere, and its line for a keys file.

    Raises:
        BadInput: the name or a limit is invalid.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is not a valid name: use up to 64 letters, digits and . _ @ -")
    key = f"s2s_{secrets.token_urlsafe(32)}"
    return key, _line(Key(name, _digest(key), per_minute, characters, _today()))


def anonymous_line(per_minute: float | None, characters: int | None = None) -> str:
    """Return the line of a keys file that lets requests without a key have an allowance.

    Raises:
        BadInput: a limit is invalid, or there is no rate.
    """
    if per_minute is None:
        raise BadInput("requests without a key need a rate: give --per-minute")
    return _line(Key(ANONYMOUS, _NO_KEY, per_minute, characters, _today()))


def add_key(path: Path, line: str) -> None:
    """Add a line to a keys file; a new file is readable by its owner alone.

    Raises:
        BadInput: the file has a key of that name, or can't be written.
    """
    name = line.split("\t")[0]
    text = _read(path) if path.exists() else ""
    if any(key.name == name for key in parse_keys(path, text)):
        raise BadInput(f"{path} already has a key named {name}")
    start = "\n" if text and not text.endswith("\n") else ""
    try:
        with open(path, "a", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            file.write(f"{start}{line}\n")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def remove_key(path: Path, name: str) -> None:
    """Remove the line of a key from a keys file, which is replaced as a whole.

    Raises:
        BadInput: the file has no key of that name, has an invalid line, or can't be replaced.
    """
    text = _read(path)
    names = [key.name for key in parse_keys(path, text)]
    if name not in names:
        meant = did_you_mean(name, names) if names else ""
        raise BadInput(f"{path} has no key named {name}{meant}")
    lines = [line for line in text.splitlines(keepends=True) if line.split("\t")[0] != name]
    try:
        target = path.resolve()
        with new_file(target) as scratch:
            scratch.touch(mode=0o600)
            status = target.stat()
            with suppress(PermissionError):  # the user is not in the group, say
                os.chown(scratch, status.st_uid, status.st_gid)  # the service must still read it
            scratch.chmod(status.st_mode & 0o777)
            scratch.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def list_keys(path: Path) -> list[Key]:
    """Return the keys of a keys file, which may have none.

    Raises:
        BadInput: the file can't be read, or has an invalid line.
    """
    return parse_keys(path, _read(path))


def read_keys(path: Path) -> list[Key]:
    """Return the keys of a keys file.

    Raises:
        BadInput: the file can't be read, has no key, or has an invalid line.
    """
    keys = list_keys(path)
    if not keys:
        raise BadInput(f"{path}: the file has no keys, so nobody could translate")
    return keys


def parse_keys(path: Path, text: str) -> list[Key]:
    """Return the keys of a keys file that contains a text.

    Raises:
        BadInput: a line is invalid.
    """
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key = _parse_line(line)
        if key is None:
            raise BadInput(
                f"{path}: line {number} must be a name, the SHA-256 of a key, sentences a minute, "
                "characters of a request and the day of creation, separated by tabs; "
                "`s2s key NAME` makes one"
            )
        if any(other.name == key.name for other in keys):
            raise BadInput(f"{path}: line {number} is a second key named {key.name}")
        keys.append(key)
    return keys


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; `s2s key NAME --file FILE` makes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def _parse_line(line: str) -> Key | None:
    """Return the key of a line; None if the line is invalid."""
    name, digest, per_minute, characters, created, *_ = [*line.split("\t"), *[""] * 4]
    try:
        key = Key(
            name,
            digest,
            float(per_minute) if per_minute.strip() else None,
            int(characters) if characters.strip() else None,
            date.fromisoformat(created.strip()) if created.strip() else None,
        )
        _check_limits(key)
    except (ValueError, BadInput):
        return None
    if key.anonymous:
        return key if name == ANONYMOUS and key.per_minute is not None else None
    return key if _NAME.fullmatch(name) and _DIGEST.fullmatch(digest) else None


def _line(key: Key) -> str:
    """Return the line of a key, without the empty columns at its end.

    Raises:
        BadInput: a limit is invalid.
    """
    _check_limits(key)
    per_minute = "" if key.per_minute is None else f"{key.per_minute:g}"
    characters = "" if key.characters is None else f"{key.characters}"
    created = "" if key.created is None else f"{key.created}"
    return "\t".join([key.name, key.digest, per_minute, characters, created]).rstrip("\t")


def _today() -> date:
    return datetime.now(UTC).date()


def _check_limits(key: Key) -> None:
    if key.per_minute is not None and not 0 < key.per_minute < _MOST:
        raise BadInput("a rate must be more than 0 sentences a minute, and less than a billion")
    if key.characters is not None and not 0 < key.characters < _MOST:
        raise BadInput("a request may have from 1 character to a billion")


class Keys:
    """The keys that are accepted, and how much each may be used.

    Rates are counted by each replica on its own, so that several replicas together allow more.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, keys: list[Key], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys: list[Key] = []
        self._clock = clock
        self._lock = threading.Lock()
        # A token bucket for each key, which fills up with time: its level, and when that was.
        self._buckets: dict[Key, tuple[float, float]] = {}
        self.replace(keys)

    @property
    def anonymous(self) -> Key | None:
        """The allowance of requests without a key, if there is one."""
        return next((key for key in self._keys if key.anonymous), None)

    def replace(self, keys: list[Key]) -> None:
        """Accept other keys from now on; those that stay as they are keep what they have used."""
        now = self._clock()
        with self._lock:
            old = self._buckets
            self._buckets = {key: old.get(key, (key.burst, now)) for key in keys}
            self._keys = list(keys)

    def owner(self, secret: str) -> Key | None:
        """Return the stored key that a secret belongs to; None if there is none."""
        digest = _digest(secret)
        match = None
        for key in self._keys:  # all of them, so that the time taken reveals nothing
            if hmac.compare_digest(key.digest, digest):
                match = key
        return match

    def wait(self, key: Key, weight: float = 1, *, take: bool = True) -> float:
        """Take the weight of a request from a key's rate.

        Args:
            weight: at most the key's `burst`.
            take: False only asks.

        Returns:
            0 if it was granted, else the seconds until it would be.
        """
        if key.per_minute is None:
            return 0.0
        with self._lock:
            now = self._clock()
            level, since = self._buckets.get(key, (key.burst, now))  # it may have been removed
            level = min(key.burst, level + (now - since) * key.per_minute / 60)
            granted = level >= weight
            if key in self._buckets:
                self._buckets[key] = (level - weight if granted and take else level, now)
        return 0.0 if granted else (weight - level) * 60 / key.per_minute


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
