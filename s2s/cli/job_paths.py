"""Paths in a job: absolute ones alone.

The driver of a job runs in a temporary folder of Ray's on one node of the cluster. What a relative
path leads to is seen by no other node, and is lost with the folder.
"""

import os
import re
from collections.abc import Iterator
from typing import get_args, get_type_hints

import tyro

from s2s.cli.verb import Verb
from s2s.errors import BadInput

# Ray's job API sets it for the command of a job, and for nothing else.
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"

# Types of options that name files or folders.
_PATHS = frozenset({"Path", "Location"})

# Options of other types that may name some, by their fields.
_MAY_NAME_PATHS = frozenset(
    {"checkpoints", "input", "output", "source", "test_source", "valid_source"}
)

# Files that the driver alone reads: they may be a part of the job's working directory.
_OF_THE_DRIVER = frozenset({"config", "space"})

# What is no path: URIs (a Path has lost one of their slashes), standard input and packaged data.
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
                f"/data/{re.sub(r'^[~./]+/', '', path)}"
            )


def _paths(verb: Verb) -> Iterator[tuple[str, str]]:
    """Yield the options that name files or folders, with what they name."""
    plain = get_type_hints(type(verb))
    for name, hint in get_type_hints(type(verb), include_extras=True).items():
        types = {getattr(each, "__name__", "") for each in (plain[name], *get_args(plain[name]))}
        if name in _OF_THE_DRIVER or not (name in _MAY_NAME_PATHS or types & _PATHS):
            continue
        is_positional = tyro.conf.Positional in getattr(hint, "__metadata__", ())
        option = name.upper() if is_positional else f"--{name.replace('_', '-')}"
        value = getattr(verb, name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None:
                yield option, str(each)
