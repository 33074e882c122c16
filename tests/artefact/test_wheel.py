"""The wheel: it has all that the package reads, and installs under every Python that it names."""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

from s2s import __version__
from s2s.decoding.translator import Translator
from tests.support.pythons import interpreter, require_index

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [
    each.rpartition(" ")[2]
    for each in PROJECT["classifiers"]
    if each.startswith("Programming Language :: Python :: 3.")
]


def run(*command: object, **options: object) -> str:
    """Run a command and return what it prints; one that fails is shown."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def ours() -> set[str]:
    """Files of the repository that belong into the wheel."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split()
    return {
        name
        for name in listed
        if (name.startswith(("s2s/", "jobs/")) or name == "serve_app.py")
        and (ROOT / name).is_file()
    }


@pytest.fixture(scope="module")
def wheel(ours: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves folders where it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ours | {"pyproject.toml", "README.md", "LICENSE"}:
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "tree" / name)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
        "--no-build-isolation", "--wheel-dir", folder, folder / "tree")  # fmt: skip
    [wheel] = folder.glob("*.whl")
    return wheel


def test_the_wheel_has_every_file_of_the_package(wheel: Path, ours: set[str]) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == ours


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    [name] = [each for each in zipfile.ZipFile(wheel).namelist() if each.endswith("/METADATA")]
    metadata: Message = HeaderParser().parsestr(zipfile.ZipFile(wheel).read(name).decode())
    assert (metadata["Name"], metadata["Version"]) == ("s2s-nmt", __version__)
    assert metadata["Requires-Python"] == f">={PYTHONS[0]}"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    required = metadata.get_all("Requires-Dist", [])
    assert not [each for each in required if each.startswith("s2s[")]


# ---- fresh environments -------------------------------------------------------------------------


@pytest.fixture
def environment() -> Iterator[Path]:
    """Folder of an environment, which is deleted after the test: it takes gigabytes."""
    with tempfile.TemporaryDirectory(prefix="s2s-") as folder:
        yield Path(folder) / "environment"


TRANSLATE = """
import sys, s2s
translator = s2s.load(sys.argv[1])
print(*translator.translate(sys.argv[2:]), sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_installs_into_a_fresh_environment_and_translates(
    version: str,
    wheel: Path,
    environment: Path,
    model_dir: Path,
    translator: Translator,
    tmp_path: Path,
) -> None:
    run(interpreter(version), "-m", "venv", environment)
    python, s2s = environment / "bin/python", environment / "bin/s2s"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    require_index(python, tmp_path)

    def install(what: str) -> None:
        run(python, "-m", "pip", "install", "--quiet", what, env=clean)
        run(python, "-m", "pip", "check", env=clean)

    install(str(wheel))
    assert run(s2s, "--version", env=clean) == f"s2s {__version__}\n"
    sentences = ["I see trees.", "We want bread!"]
    command = (python, "-c", TRANSLATE, model_dir, *sentences)
    assert run(*command, env=clean, cwd=tmp_path).splitlines() == translator.translate(sentences)
    install(f"{wheel}[all]")
    assert "usage: s2s serve" in run(s2s, "serve", "--help", env=clean)
    run(python, "-c", "import s2s.distributed.serve, s2s.distributed.train", env=clean)
