"""The examples run as they are."""

import importlib.util
import json
import os
import re
import runpy
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from tests.support.serving import copied, serving_app

EXAMPLES = Path(__file__).parents[2] / "examples"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """The process has one CPU: others run tests too, and threads would wait for each other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[os.getpid() % len(before)]})
    yield
    os.sched_setaffinity(0, before)


# ---- the script ---------------------------------------------------------------------------------


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["train_and_translate.py", *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / "train_and_translate.py"), run_name="__main__")


@pytest.mark.usefixtures("one_cpu")
def test_the_script_goes_from_pairs_to_translations(
    pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    out = tmp_path / "out"
    run_script(monkeypatch, pairs_file, "en-fr", "--out", out, "--epochs", 1)
    said = capsys.readouterr().out
    assert (out / "model" / "model.safetensors").exists()
    assert "  1/1  " in said
    assert re.search(r"^BLEU \d+\.\d\d \(references ", said, re.MULTILINE)
    shown = re.findall(r"\nsource .+\ntranslation .*\nreference .+", said)
    assert len(shown) == 5


def test_the_script_says_in_a_line_what_it_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"^error: .*absent\.tsv"):
        run_script(monkeypatch, tmp_path / "absent.tsv", "--out", tmp_path / "out")


# ---- the notebook -------------------------------------------------------------------------------


def test_the_notebook_is_one_of_format_4() -> None:
    notebook = json.loads((EXAMPLES / "quick_start.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"].keys() == {"display_name", "language", "name"}
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each) for each in identifiers)
    for cell in notebook["cells"]:
        keys = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            keys |= {"execution_count", "outputs"}
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        assert cell.keys() == keys
        assert all(line.endswith("\n") for line in cell["source"][:-1])


@pytest.mark.usefixtures("one_cpu")
def test_the_cells_of_the_notebook_run_in_their_order(
    pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """With values for a test in the cell that is tagged so, as papermill replaces it."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((EXAMPLES / "quick_start.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102
        if "parameters" in cell["metadata"].get("tags", []):
            names |= {"source": pairs_file, "epochs": 1}
    translator = names["translator"]
    assert isinstance(translator, Translator)
    said = capsys.readouterr().out
    assert "  1/1  " in said
    assert len(re.findall(r"^-\d+\.\d{3}  ", said, re.MULTILINE)) == 3
    assert "chrF2" in said


# ---- the application ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_app", EXAMPLES / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(example: ModuleType, model_dir: Path) -> Iterator[httpx.Client]:
    with (
        serving_app(example.create_app(model_dir)) as address,
        httpx.Client(base_url=address, timeout=20, trust_env=False) as client,
    ):
        yield client


def test_the_application_translates_as_the_translator_does(
    client: httpx.Client, translator: Translator
) -> None:
    texts = ["I see trees.", "We want bread!"]
    answer = client.post("/translate", json={"texts": texts})
    assert answer.json() == {"translations": translator.translate(texts)}

    def ask(text: str) -> str:
        translations = client.post("/translate", json={"texts": [text], "beam": 3}).json()
        return str(translations["translations"][0])

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(ask, texts * 4))
    assert told == translator.with_settings(beam=3).translate(texts) * 4


@pytest.mark.parametrize(
    "body", [{}, {"texts": []}, {"texts": ["a" * 2001]}, {"texts": ["a"], "beam": 99}]
)
def test_the_application_refuses_what_it_cannot_take(
    client: httpx.Client, body: dict[str, object]
) -> None:
    answer = client.post("/translate", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"


def test_the_application_says_what_the_model_cannot_do(
    example: ModuleType, model_dir: Path, tmp_path: Path
) -> None:
    sampling = copied(model_dir, tmp_path / "sampling")
    config = json.loads((sampling / "config.json").read_text())
    config["decode"]["temperature"] = 0.5
    (sampling / "config.json").write_text(json.dumps(config))
    with serving_app(example.create_app(sampling)) as address:
        body = {"texts": ["I see trees."], "beam": 5}
        answer = httpx.post(f"{address}/translate", json=body, timeout=20, trust_env=False)
    assert answer.status_code == 400
    assert "sampling with a temperature needs beam 1" in answer.json()["detail"]
    with pytest.raises(BadInput, match="is not a model directory"):
        example.create_app(tmp_path / "absent")
