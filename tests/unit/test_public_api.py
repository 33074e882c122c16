"""What `import s2s` and its packages load, and the names that it offers."""

import subprocess
import sys
from pathlib import Path

import pytest

import s2s
from s2s.decoding.translator import Translator


def loaded_by(statement: str) -> set[str]:
    """Return the names of all modules that a process has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def within(package: str, modules: set[str]) -> list[str]:
    """Return the modules that are a package or in it."""
    return sorted(name for name in modules if name == package or name.startswith(f"{package}."))


def test_importing_s2s_loads_no_other_module_of_it_and_no_library() -> None:
    modules = loaded_by("import s2s")
    assert within("s2s", modules) == ["s2s"]
    heavy = {"torch", "datasets", "ray", "numpy", "pyarrow", "pydantic", "tokenizers"}
    assert not heavy & modules


@pytest.mark.parametrize("module", ["s2s.corpus", "s2s.corpus.rules", "s2s.reports.summary"])
def test_reading_a_corpus_loads_nothing_of_its_preparation(module: str) -> None:
    modules = loaded_by(f"import {module}")
    assert module in modules
    for package in ("s2s.preparation", "babel", "pyrealb", "ray"):
        assert within(package, modules) == []


def test_translating_loads_neither_the_training_corpus_nor_its_libraries() -> None:
    modules = loaded_by("import s2s.decoding.translator, s2s.serving.engine.scheduler")
    assert "s2s.decoding.search" in modules
    for package in ("s2s.corpus", "s2s.training", "datasets", "pandas", "ray"):
        assert within(package, modules) == []


def test_every_public_name_is_there() -> None:
    modules = loaded_by("from s2s import *\nassert PRESETS['seed']() == Config.model_validate("
                        "PRESETS['seed']().model_dump())")  # fmt: skip
    assert {"s2s.config", "s2s.decoding.translator", "s2s.model.directory"} <= modules
    assert s2s.Translator is Translator
    assert set(s2s.__all__) <= set(dir(s2s))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        s2s.Nothing  # noqa: B018


def test_load_gives_the_translator_of_a_directory(model_dir: Path) -> None:
    texts = ["we see Paris!", "they want bread."]
    wanted = Translator.load(model_dir).translate(texts)
    assert all(wanted)
    assert s2s.load(str(model_dir)).translate(texts) == wanted
