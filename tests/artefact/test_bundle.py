"""A model directory is all that a translator needs: it moves, and does without Ray."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from s2s import __version__
from s2s.config import Config
from s2s.corpus import Corpus
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.model.card import model_card
from s2s.model.directory import ModelDirectory, read_config
from s2s.model.metrics import RunMetrics
from tests.support.corpora import Pairs

TRANSLATE_WITHOUT_RAY = """
import sys
from pathlib import Path

class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ImportError("this machine has no ray")

sys.meta_path.insert(0, NoRay())
from s2s.decoding.translator import Translator

sentences = sys.stdin.read().splitlines()
for translation in Translator.load(Path(sys.argv[1])).translate(sentences):
    print(translation)
assert "ray" not in sys.modules
"""


def test_a_model_moved_elsewhere_translates_the_same_without_ray(
    model_dir: Path, translator: Translator, pairs: Pairs, tmp_path: Path
) -> None:
    moved = Path(shutil.move(shutil.copytree(model_dir, tmp_path / "here"), tmp_path / "là bas"))
    sentences = [source for source, _ in pairs]
    ran = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", TRANSLATE_WITHOUT_RAY, str(moved)],
        input="\n".join(sentences),
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == translator.translate(sentences)


def test_a_model_directory_has_the_documented_files_and_no_pickle(model_dir: Path) -> None:
    assert {file.name for file in model_dir.iterdir()} == {
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "source.json",
        "target.json",
    }


def test_the_config_comes_back_as_it_was(model_dir: Path, tiny: Config) -> None:
    assert read_config(model_dir) == tiny
    assert json.loads((model_dir / "config.json").read_text())["format_version"] == 2


def test_a_saved_model_loads_and_saves_to_the_same_bytes(model_dir: Path, tmp_path: Path) -> None:
    ModelDirectory.load(model_dir).save(tmp_path, RunMetrics.load(model_dir))
    for file in model_dir.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_weights_are_plain_tensors_by_name(model_dir: Path) -> None:
    tensors = load_file(model_dir / "model.safetensors")
    assert tensors.keys() == ModelDirectory.load(model_dir).model.state_dict().keys()


def test_the_metrics_have_seed_versions_speed_and_both_accuracies(model_dir: Path) -> None:
    metrics = RunMetrics.load(model_dir)
    assert {"s2s", "torch"} <= metrics.versions.keys()
    assert "seed" in metrics.model_fields_set
    assert metrics.best is not None
    assert metrics.best in metrics.epochs
    assert metrics.best.pairs_per_second > 0
    assert 0 < metrics.best.valid_token_accuracy <= metrics.best.valid_padded_accuracy


def test_metrics_of_an_earlier_version_may_lack_fields_and_are_not_completed(
    model_dir: Path, tmp_path: Path
) -> None:
    whole = RunMetrics.load(model_dir)
    text = json.dumps({"epochs": json.loads(whole.to_json())["epochs"]})
    (tmp_path / "metrics.json").write_text(text)
    metrics = RunMetrics.load(tmp_path)
    assert metrics.epochs == whole.epochs
    assert metrics.best is None
    assert json.loads(metrics.to_json()) == json.loads(text)


def test_metrics_that_are_absent_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"metrics\.json cannot be read: No such file"):
        RunMetrics.load(tmp_path)


def test_the_model_card_has_languages_network_scores_and_data(
    model_dir: Path, tiny: Config, corpus: Corpus
) -> None:
    card = (model_dir / "README.md").read_text("utf-8")
    metrics = RunMetrics.load(model_dir)
    assert metrics.best is not None
    assert card.startswith(f"# en → fr\n\nAn LSTM encoder–decoder made by s2s {__version__}:\n")
    assert "attention none. Its weights are of epoch 25." in card
    for name, value in (
        ("loss (nats per token)", metrics.best.valid_loss),
        ("token accuracy (real tokens)", metrics.best.valid_token_accuracy),
        ("padded accuracy (the Keras metric)", metrics.best.valid_padded_accuracy),
    ):
        assert f"\n| {name} | {value:.4f} |\n" in card
    assert (
        f"Trained on {corpus.manifest.rows['train']} pairs of `{corpus.manifest.sources[0]}`"
        in card
    )


def test_the_model_card_of_a_finished_run_has_the_scores_of_its_weights(tiny: Config) -> None:
    metrics = RunMetrics.model_validate(
        {
            "weights": "the mean of epochs 3, 4",
            "valid": {
                "valid_loss": 1.5,
                "valid_token_accuracy": 0.25,
                "valid_padded_accuracy": 0.75,
            },
            "decoding": "beam 5",
            "scores": [
                {"name": "BLEU", "references": "as read", "score": 61.25, "signature": "nrefs:1"}
            ],
        }
    )
    card = model_card(tiny, metrics)
    assert "Its weights are the mean of epochs 3, 4." in card
    assert "| loss (nats per token) | 1.5000 |" in card
    assert "| BLEU, beam 5, references as read | 61.25 |" in card
