"""The repository keeps its own rules."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_ci_runs_the_one_test_command() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_the_lock_pins_every_dependency_and_names_no_host() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert "torch==2.13.0" in lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s@/]+", line) for line in lines)


def test_readme_begins_with_the_two_commands() -> None:
    top = "\n".join((ROOT / "README.md").read_text().splitlines()[:20])
    assert "make demo" in top
    assert "make test" in top


PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_tutorial_quotes_the_code_as_it_is() -> None:
    def bare(text: str) -> str:
        return re.sub(r"\s+", " ", text)

    code = bare("\n".join(file.read_text() for file in sorted((ROOT / "s2s").rglob("*.py"))))
    quotes = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL)
    quoted = [quote for quote in quotes if ">>>" not in quote]
    assert quoted
    for quote in quoted:
        for part in re.split(r"\n\s*\.\.\.\s*\n|\n\s*# …\s*\n", quote):
            assert bare(part).strip() in code, f"the tutorial quotes what is not there:\n{part}"


def test_paths_and_modules_that_are_named_exist() -> None:
    missing = []
    for file in files():
        if file.suffix not in {".py", ".md", ".toml", ".yaml"} or file.name == "log.md":
            continue
        text = file.read_text()
        missing += [
            f"{file.name}: {path}"
            for path in re.findall(r"\b(?:s2s|tests|benchmarks)/[\w/]+\.(?:py|html|css)\b", text)
            if not (ROOT / path).exists()
        ]
        missing += [
            f"{file.name}: {name}" for name in re.findall(r"`(s2s(?:\.\w+)+)", text)
            if not is_importable(name)
        ]  # fmt: skip
    assert not missing


def is_importable(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module's text defines."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module = path.parent.with_suffix(".py")
    source = module if module.exists() else path.parent / "__init__.py"
    return source.exists() and re.search(rf"\b{path.name}\b", source.read_text()) is not None


def test_what_pip_installs_is_called_by_its_name() -> None:
    """`s2s` itself is another project's name on PyPI."""
    another = re.compile(r"pip +install [^\n`]*(?<![\w./-])s2s(?![\w./-])|['\"]s2s\[\w")
    texts = {file: file.read_text() for file in files() if file.suffix in {".py", ".md", ".toml"}}
    assert [file.name for file, text in texts.items() if another.search(text)] == []


def test_the_page_on_installation_has_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs/install.md").read_text()
    extras = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert extras == project["optional-dependencies"].keys() - {"dev"}


def test_no_file_is_too_large_to_review() -> None:
    assert all(file.stat().st_size < 1_000_000 for file in files())
