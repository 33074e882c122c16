"""Other versions of Python, and environments of them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def interpreter(version: str) -> Path:
    """Find a Python on PATH or of pyenv; skip the test where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    on_path = shutil.which(f"python{version}")
    found = [*([Path(on_path)] if on_path else []), *pyenv.glob(f"versions/{version}.*/bin/python")]
    ask = "import ensurepip, sys, venv; print('{}.{}'.format(*sys.version_info))"
    for python in found:  # a shim of pyenv may be there without its Python
        told = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:
            return python
    pytest.skip(f"there is no Python {version} here")


def require_index(python: Path, folder: Path) -> None:
    """Skip the test if pip reaches no package index.

    Args:
        folder: for what it downloads to find out.
    """
    reached = subprocess.run(
        [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "xxhash"],
        capture_output=True, check=False,
    )  # fmt: skip
    if reached.returncode:
        pytest.skip("pip reaches no package index here")
