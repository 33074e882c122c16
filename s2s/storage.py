"""Folders and object stores, by one interface: `pyarrow.fs`."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit

import fsspec
from pyarrow import fs

from s2s.config import Section
from s2s.errors import BadInput
from s2s.locations import is_uri

_BLOCK = 1 << 20  # bytes copied at a time

# A store that does not answer is reported within seconds; one that answered before gets more time.
_FIRST = {"connect_timeout": 3.0, "request_timeout": 4.0}
_LATER = {"connect_timeout": 5.0, "request_timeout": 30.0}
_FIRST_ATTEMPTS, _LATER_ATTEMPTS = 2, 6


class FileHash(Section):
    """The size and hash of a file."""

    bytes: int
    """Size of the file."""

    sha256: str
    """SHA-256 of the content, in hexadecimal."""


def filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a local path or URI, and the path in it.

    Keys and endpoints of S3 come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL …); the
    endpoint may also be in the URI, as `?endpoint_override=…`.

    Raises:
        BadInput: no installed package reads the URI, or its store cannot be used.
    """
    if not is_uri(location):
        return fs.LocalFileSystem(), str(Path(location).resolve())
    if location.startswith("s3://"):
        return _s3(location)
    try:
        system, path = fs.FileSystem.from_uri(location)
        return system, str(path)
    except (ValueError, OSError):  # fsspec may have a package for the scheme
        pass
    try:
        system, path = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError, OSError) as error:
        raise BadInput(f"{location} cannot be opened: {error}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path.rstrip("/")


# ---- files --------------------------------------------------------------------------------------


def copy(source: BinaryIO | Any, target: BinaryIO | Any) -> FileHash:
    """Copy a stream, and return the size and hash of its content."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        digest.update(block)
        target.write(block)
        size += len(block)
    return FileHash(bytes=size, sha256=digest.hexdigest())


def make_folder(system: fs.FileSystem, path: str) -> None:
    """Make a folder for files. S3 has none: the paths of its files may have any slashes."""
    if not isinstance(system, fs.S3FileSystem):
        system.create_dir(path)


def upload(source: Path, system: fs.FileSystem, path: str) -> FileHash:
    """Copy a local file to a path in a file system, and return the size and hash of its content."""
    with source.open("rb") as file, system.open_output_stream(path) as target:
        return copy(file, target)


def download(system: fs.FileSystem, path: str, target: Path) -> FileHash:
    """Copy a file of a file system to a local path, and return the size and hash of its content."""
    with system.open_input_stream(path) as source, target.open("wb") as file:
        return copy(source, file)


# ---- S3 -----------------------------------------------------------------------------------------


def _s3(location: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI of S3, and the path in it.

    Raises:
        BadInput: the URI is wrong, or the store refuses or does not answer.
    """
    parts = urlsplit(location, allow_fragments=False)
    options = dict(parse_qsl(parts.query))
    bucket, path = parts.netloc, unquote(parts.path).strip("/")
    if "@" in bucket:
        raise BadInput(
            f"s3://…@{bucket.rpartition('@')[2]}{parts.path}: a URI ends up in logs; set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead of keys in it"
        )
    if not (bucket and path):
        raise BadInput(f"{location}: name a bucket and a folder in it, as s3://bucket/folder")
    known = ("endpoint_override", "region", "scheme")
    if unknown := [name for name in options if name not in known]:
        raise BadInput(f"{location}: {unknown[0]} is none of {', '.join(known)}")
    variables = {name: text for name, text in os.environ.items() if name.startswith("AWS_")}
    with errors_named(location):
        try:
            client = _s3_client(
                bucket, tuple(options.items()), tuple(variables.items()), os.getpid()
            )
        except _NoBucket as error:
            raise BadInput(f"{location}: {error}") from None
    return client, f"{bucket}/{path}"


class _NoBucket(Exception):
    """A bucket that is not there."""


@lru_cache
def _s3_client(
    bucket: str,
    options: tuple[tuple[str, str], ...],
    variables: tuple[tuple[str, str], ...],
    process: int,  # noqa: ARG001 - a part of the key
) -> fs.S3FileSystem:
    """Return a client of a bucket, once the store has answered; only such a client is cached.

    Args:
        options: of the URI.
        variables: of the environment that pyarrow or this function reads.
        process: id of this process; a fork has none of the client's threads.

    Raises:
        OSError: the store refuses or does not answer.
    """
    chosen, environment = dict(options), dict(variables)
    endpoint = (
        chosen.get("endpoint_override")
        or environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL", "")
    )
    settings = {
        "endpoint_override": endpoint or None,
        "scheme": chosen.get("scheme") or endpoint.partition("://")[0] or "https",
        "region": chosen.get("region") or _region(bucket, endpoint),
        "allow_delayed_open": True,  # a request for a small file, not three
    }
    attempts = fs.AwsStandardS3RetryStrategy(max_attempts=_FIRST_ATTEMPTS)
    first = fs.S3FileSystem(**settings, **_FIRST, retry_strategy=attempts)
    if first.get_file_info(bucket).type == fs.FileType.NotFound:
        raise _NoBucket(f"there is no bucket {bucket}{_at(endpoint)}")
    attempts = fs.AwsStandardS3RetryStrategy(max_attempts=_LATER_ATTEMPTS)
    return fs.S3FileSystem(**settings, **_LATER, retry_strategy=attempts)


def _region(bucket: str, endpoint: str) -> str:
    """Return the region of a bucket: stores other than Amazon's take any."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or ("us-east-1" if endpoint else str(fs.resolve_s3_region(bucket)))


def _at(endpoint: str) -> str:
    return f" at {endpoint}" if endpoint else ""


_NO_ACCESS = "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE|HTTP status 40[13]"


@contextmanager
def errors_named(location: str) -> Iterator[None]:
    """Name the location in the errors of a store, in plain words.

    Raises:
        BadInput: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise BadInput(f"{location}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    """Return what a store says is wrong, in one line."""
    text = " ".join(str(error).split())
    code = re.search(r"AWS Error (.*?) during", text)
    if code is None:
        return error.strerror or text
    if code[1] == "NO_SUCH_BUCKET" or "not found" in text:
        return "there is no such bucket"
    if re.search(_NO_ACCESS, code[1]):
        return (
            "the store refuses access: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and what "
            "the key may do"
        )
    details = text.rpartition("Details: ")[2] if "Details: " in text else text
    details = re.sub(r"^.* operation: | \(Request ID.*$", "", details)
    if code[1] == "NETWORK_CONNECTION":
        return f"the store does not answer ({details})"
    return f"the store reports {code[1]}: {details}"
