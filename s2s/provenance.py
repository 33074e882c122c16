"""Provenance of what a verb makes: its options, its command line, versions and git state."""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from s2s import __version__
from s2s.files import write_text

OPTIONS, SESSIONS = "config.yaml", "sessions.jsonl"
_LIBRARIES = ("torch", "ray", "datasets", "tokenizers", "pyarrow", "numpy")


@dataclass(frozen=True)
class Invocation:
    """A call of a verb, as it is kept with what the verb makes."""

    options: str  # all of them as YAML, which --config reads

    def record(self, folder: Path, corpus: Mapping[str, str]) -> None:
        """Write `config.yaml`, and add a line to `sessions.jsonl`.

        Args:
            folder: of the run, or what the verb has made.
            corpus: path and SHA-256 of the corpus.
        """
        session = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "directory": str(Path.cwd()),
            "corpus": dict(corpus),
            "versions": {"s2s": __version__, "python": platform.python_version(), **_versions()},
            "git": git_state(Path.cwd()),
        }
        write_text(folder / OPTIONS, self.options)
        with (folder / SESSIONS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(session, ensure_ascii=False) + "\n")


def git_state(folder: Path) -> dict[str, object] | None:
    """Return the commit of a folder's git repository, and whether tracked files differ from it.

    None if the folder is in no repository, or git is not installed.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        changed = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"commit": git("rev-parse", "HEAD"), "changed": changed}
    except (OSError, subprocess.SubprocessError):
        return None


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
