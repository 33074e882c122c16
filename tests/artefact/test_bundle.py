"""A model directory is all that a translator needs: it moves, and does without Ray."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from s2s.config import Config
from s2s.decoding.translator import Translator
from s2s.model.directory import ModelDirectory, read_config
from s2s.model.metrics import RunMetrics
from tests.conftest import Pairs

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


def test_the_metrics_tell_seed_versions_speed_and_both_accuracies(model_dir: Path) -> None:
    metrics = json.loads((model_dir / "metrics.json").read_text())
    assert {"s2s", "torch"} <= metrics["versions"].keys()
    assert metrics["seed"] == 0
    assert metrics["best"]["pairs_per_second"] > 0
    assert metrics["best"]["valid_token_accuracy"] <= metrics["best"]["valid_padded_accuracy"]


def test_the_model_card_names_languages_and_both_accuracies(model_dir: Path) -> None:
    card = (model_dir / "README.md").read_text("utf-8")
    assert card.startswith("# en → fr")
    assert "token accuracy" in card
    assert "padded accuracy" in card
