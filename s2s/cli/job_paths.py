"""Paths in a job: absolute ones alone.

The driver of a job runs in a temporary folder of Ray's on one node of the cluster. What a relative
path leads to is seen by no other node, and is lost with the folder.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import tyro

from s2s.cli.verb import Verb
from s2s.errors import BadInput

# Ray's job API sets it for the command of a job, and for nothing else.
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"

# Options that may name folders or files, but also something else, by their fields.
_LOCATIONS = frozenset({"source", "valid_source", "test_source", "checkpoints"})

# Files that the driver alone reads: they may be a part of the job's working directory.
_OF_THE_DRIVER = frozenset({"config", "space"})

# What is no path: URIs (in a Path, one slash is lost), standard input and packaged data.
_NO_PATH = re.compile(r"[a-z][a-z0-9+.-]+:/|hub:|demo$|-$")


def is_job() -> bool:
    """Return whether this process is the driver of a job of Ray."""
    return _JOB in os.environ


def require_absolute_paths(verb: Verb) -> None:
    """Check the paths among the arguments of a verb that a job is to carry out.

    Raises:
        BadInput: one is relative.
    """
    for option, path in _paths(verb):
        if not (path.startswith("/") or _NO_PATH.match(path)):
            raise BadInput(
                f"{option} {path}: in a job, a relative path leads to a temporary folder of one "
                "node; name an absolute one on storage that all nodes share, such as "
                f"/data/{os.path.normpath(path).lstrip('./')}"
            )


def _paths(verb: Verb) -> Iterator[tuple[str, str]]:
    """Yield the options that name files or folders, with what they name."""
    hints = get_type_hints(type(verb), include_extras=True)
    for field in fields(verb):
        kind, *marks = (
            get_args(hints[field.name])
            if hasattr(hints[field.name], "__metadata__")
            else (hints[field.name],)
        )
        if field.name in _OF_THE_DRIVER:
            continue
        if not (field.name in _LOCATIONS or Path in (kind, *get_args(kind))):
            continue
        value = getattr(verb, field.name)
        option = (
            field.name.upper()
            if tyro.conf.Positional in marks
            else (f"--{field.name.replace('_', '-')}")
        )
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None:
                yield option, str(each)
