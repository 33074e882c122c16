"""A model as ONNX graphs: what `s2s export` writes and refuses, and the examples that read it."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest
import torch

from s2s.cli.main import main
from s2s.config import Config, DataConfig, ModelConfig, TextConfig
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import BadInput, Failed
from s2s.exporting.manifest import MANIFEST, ExportManifest
from s2s.exporting.onnx import export_to_onnx
from s2s.exporting.parity import compare
from s2s.files import sha256
from s2s.model.directory import ModelDirectory
from s2s.onnx.session import OnnxModel
from tests.support.browser import BROWSER
from tests.support.corpora import prepare_file, train_model
from tests.support.hiding import HIDING

Captured = pytest.CaptureFixture[str]
EXAMPLES = Path(__file__).parents[2] / "examples"
BROWSER_EXAMPLE = EXAMPLES / "browser"
SENTENCES = ["I see trees.", "they don't want bread?", "it's said that Paris!", "you see dogs 東."]
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "words": ({}, {}),
    "subwords": (
        {"units": "bpe", "vocabulary_size": 80, "source_normaliser": "simplified"},
        {"attention": "general", "bidirectional": True, "input_feeding": True, "tie": "target"},
    ),
    "tutorial": ({"normaliser": "tutorial"}, {"attention": "dot", "cell": "gru", "layers": 2}),
}


@pytest.fixture(scope="module")
def trained(
    pairs_file: Path, tiny: Config, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The directory of a trained model of one of the kinds."""
    made: dict[str, Path] = {}

    def model(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            text, network = KINDS[kind]
            config = tiny.model_copy(
                update={
                    "text": TextConfig.model_validate(text),
                    "model": ModelConfig.model_validate({**tiny.model.model_dump(), **network}),
                    "train": tiny.train.model_copy(update={"epochs": 8}),
                }
            )
            prepare_file(
                pairs_file, DataConfig(text=config.text, corpus=config.corpus), folder / "corpus"
            )
            train_model(Corpus.open(folder / "corpus"), config, folder / "model")
            made[kind] = folder / "model"
        return made[kind]

    return model


def greedy(path: Path) -> Translator:
    """The translator that does what the examples do."""
    settings = {"beam": 1, "unknown": "avoid", "stop_on_repetition": False}
    return Translator.load(path).with_settings(**settings)


# ---- the directory ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_complete_and_says_how_closely_it_agrees(
    kind: str, trained: Callable[[str], Path], tmp_path: Path, capsys: Captured
) -> None:
    model, out = trained(kind), tmp_path / "new" / "exported"
    corpus = model.with_name("corpus")
    assert (
        main(["export", str(model), "--to", "onnx", "--out", str(out), "--corpus", str(corpus)])
        == 0
    )
    said = capsys.readouterr().out
    sources = len(set(Corpus.open(corpus).split("valid")["source"]))
    assert (
        f"{sources} of {sources} sentences (valid of {corpus}) have the same words as in torch;"
        in said
    )
    manifest = ExportManifest.from_json((out / MANIFEST).read_bytes(), MANIFEST)
    assert {path.name for path in out.iterdir()} == {MANIFEST, *manifest.sha256}
    for name, digest in manifest.sha256.items():
        assert sha256(out / name) == digest
        assert f"MB  {name}" in said
    for graph in (manifest.encoder, manifest.step):
        loaded = onnx.load(out / graph.file).graph
        assert [value.name for value in loaded.input] == list(graph.inputs)
        assert [value.name for value in loaded.output] == list(graph.outputs)
    assert manifest.checked.sentences == sources
    assert 0 <= manifest.checked.score_difference < 1e-4
    assert manifest.decode == ModelDirectory.load(model).config.decode
    assert (manifest.source_language, manifest.target_language) == ("en", "fr")


def test_without_a_corpus_the_model_s_own_tokens_are_translated(
    model_dir: Path, tmp_path: Path
) -> None:
    manifest = export_to_onnx(ModelDirectory.load(model_dir), tmp_path / "exported")
    assert manifest.checked.sentences_from == "the model's own tokens"
    assert manifest.checked.sentences == 64


def test_what_cannot_be_exported_is_told_in_one_line(
    model_dir: Path, corpus: Corpus, tmp_path: Path, capsys: Captured
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    absent = tmp_path / "absent"
    for arguments, said in (
        ([model_dir, "--to", "onnx", "--out", taken], "exists already; name another --out"),
        ([corpus.path, "--to", "onnx", "--out", absent], "is not a model directory"),
        ([model_dir, "--to", "tflite", "--out", absent], "expected one of onnx, not 'tflite'"),
        ([model_dir, "--to", "onnx", "--out", absent, "--corpus", model_dir], "it is a model"),
        ([model_dir, "--to", "onnx"], "missing: --out"),
    ):
        assert main(["export", *map(str, arguments)]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert said in line
    assert list(taken.iterdir()) == []
    assert not absent.exists()
    with pytest.raises(BadInput, match="no sentence to compare"):
        export_to_onnx(ModelDirectory.load(model_dir), absent, [""], "a corpus")


def test_graphs_that_compute_something_else_are_refused(model_dir: Path) -> None:
    directory = ModelDirectory.load(model_dir)
    ids, settings = directory.source.encode(SENTENCES), directory.config.decode
    graphs = OnnxModel.of(directory.model, directory.config.model)
    assert compare(directory.model, graphs, ids, settings).changed == 0
    with torch.no_grad():
        directory.model.decoder.output.bias += torch.linspace(0, 1, len(directory.target))
    with pytest.raises(Failed, match=r"sentence 1 of 4 has a token whose score differs by 0\.\d+"):
        compare(directory.model, graphs, ids, settings)


def test_of_two_tokens_with_equal_scores_either_may_be_taken(model_dir: Path) -> None:
    directory = ModelDirectory.load(model_dir)
    output = directory.model.decoder.output
    ids = directory.source.encode(SENTENCES)
    with torch.no_grad():
        output.weight.zero_()
        output.bias[:6] = torch.tensor([0.0, 0.0, 0.0, 0.0, 9.0, 9.0 + 1e-6])
    graphs = OnnxModel.of(directory.model, directory.config.model)
    output.bias.data[4] += 2e-6
    parity = compare(directory.model, graphs, ids, directory.config.decode)
    assert parity.changed == len(ids)
    assert parity.score_difference < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_in_int8_is_smaller_and_translates_nearly_the_same(
    kind: str, trained: Callable[[str], Path], tmp_path: Path, capsys: Captured
) -> None:
    model, corpus = trained(kind), trained(kind).with_name("corpus")
    sizes = {}
    for precision in ("fp32", "int8"):
        out = tmp_path / precision
        arguments = ["--to", "onnx", "--precision", precision, "--corpus", str(corpus)]
        assert main(["export", str(model), *arguments, "--out", str(out)]) == 0
        sizes[precision] = sum(path.stat().st_size for path in out.glob("*.onnx"))
        manifest = ExportManifest.from_json((out / MANIFEST).read_bytes(), MANIFEST)
        assert manifest.precision == precision
    # The nodes of a graph have the same size whatever the weights.
    assert sizes["int8"] < 0.75 * sizes["fp32"]
    same = manifest.checked.sentences - manifest.checked.changed
    assert f"{same} of {manifest.checked.sentences} sentences" in capsys.readouterr().out
    assert same >= 0.8 * manifest.checked.sentences
    assert 1e-4 < manifest.checked.score_difference < 0.5


def test_without_onnx_the_verb_says_which_extra_brings_it(model_dir: Path, tmp_path: Path) -> None:
    script = f"{HIDING}\nfrom s2s.cli.main import main\nsys.exit(main(sys.argv[2:]))"
    arguments = ["export", str(model_dir), "--to", "onnx", "--out", str(tmp_path / "exported")]
    for module, library in (("onnx", "ONNX"), ("onnxruntime", "ONNX Runtime")):
        done = subprocess.run(
            [sys.executable, "-c", script, module, *arguments],
            capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr == f"s2s: export needs {library}: pip install 's2s-nmt[onnx]'\n"


# ---- the example in Python ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_reads_the_same_tokens(
    kind: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = ModelDirectory.load(trained(kind))
    export_to_onnx(directory, tmp_path / "exported")
    example = runpy.run_path(str(EXAMPLES / "onnx_translate.py"))
    translator = example["OnnxTranslator"](tmp_path / "exported")
    texts = [*SENTENCES, "see東trees", "東京 dogs ｱ見ｶ", "<eos>", "<eos>東", "Zebras see bread!"]
    assert [translator.encoded(text) for text in texts] == directory.source.encode(texts)


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_translates_without_torch(
    kind: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    model = trained(kind)
    export_to_onnx(ModelDirectory.load(model), tmp_path / "exported")
    script = (
        f"{HIDING}\nimport runpy\ndel sys.argv[1]\n"
        f"runpy.run_path({str(EXAMPLES / 'onnx_translate.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "torch,s2s,onnx", str(tmp_path / "exported"), *SENTENCES],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == greedy(model).translate_rows(SENTENCES)


# ---- the example in a browser -------------------------------------------------------------------


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
@pytest.mark.skipif(
    not (BROWSER_EXAMPLE / "node_modules").is_dir(),
    reason="`npm install` has not been run in examples/browser",
)
@pytest.mark.parametrize(
    ("kind", "precision"), [*((kind, "fp32") for kind in KINDS), ("subwords", "int8")]
)
def test_the_page_translates_from_files_alone(
    kind: str, precision: Literal["fp32", "int8"], trained: Callable[[str], Path], tmp_path: Path
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    model = trained(kind)
    export_to_onnx(ModelDirectory.load(model), tmp_path / "exported", precision=precision)
    for name in ("index.html", "package.json", "translate.js"):
        shutil.copy(BROWSER_EXAMPLE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(BROWSER_EXAMPLE / "node_modules")
    subprocess.run(
        ["npm", "run", "--silent", "build", "--", f"--alias:model={tmp_path / 'exported'}"],
        cwd=tmp_path, check=True, timeout=100,
    )  # fmt: skip
    heard: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(offline=True, viewport={"width": 390, "height": 844})
        context.set_default_timeout(100_000)
        page = context.new_page()
        page.on("request", lambda request: heard.append(request.url))
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.goto((tmp_path / "index.html").as_uri())
        page.get_by_label("English").fill("\n".join(SENTENCES))
        page.get_by_role("button").click()
        page.get_by_text(" ms, in this browser").wait_for()
        translations = page.get_by_label("French").text_content()
        assert axe.Axe().run(page).response["violations"] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    wanted = greedy(model).with_settings(precision=precision).translate_rows(SENTENCES)
    assert translations.split("\n") == wanted
    assert {Path(address).name for address in heard} == {"index.html", "translate.js"}
