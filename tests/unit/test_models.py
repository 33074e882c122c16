"""Models that are exchanged while they answer."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch

from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.serving.engine.models import Models, version
from tests.support.corpora import Pairs
from tests.support.serving import WAIT, client_of, copied, in_threads, until, waiting

FILES = ["config.json", "model.safetensors", "source.json", "target.json"]


def engines() -> int:
    """Threads of engines and of their ends."""
    names = ("s2s-slots", "s2s-beside", "s2s-retire", "s2s-exchange")
    return sum(thread.name in names for thread in threading.enumerate())


def exchanging() -> bool:
    return any(thread.name == "s2s-exchange" for thread in threading.enumerate())


@pytest.fixture(scope="module")
def other_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same languages that says something else."""
    directory = ModelDirectory.load(model_dir)
    torch.manual_seed(5)
    with torch.no_grad():
        for weights in directory.model.parameters():
            weights += torch.randn_like(weights)
    path = tmp_path_factory.mktemp("models") / "other"
    path.mkdir()
    directory.save(path, RunMetrics.load(model_dir))
    return path


@pytest.fixture
def models() -> Iterator[Models]:
    models = Models(in_threads(slots=8))
    yield models
    models.close()


def say(client: httpx.Client, text: str, **more: str) -> httpx.Response:
    return client.post("/translate", json={"q": text, "source": "en", "target": "fr", **more})


def unmarked(path: Path) -> Translator:
    """A translator that shows no unknown words, as `/translate` shows none."""
    translator = Translator.load(path)
    return translator.with_settings(unknown=translator.config.decode.without_marks().unknown)


# ---- exchanges -----------------------------------------------------------------------------------


def test_ten_exchanges_fail_no_request_and_every_answer_names_its_model(
    models: Models, model_dir: Path, other_dir: Path, pairs: Pairs
) -> None:
    texts = [source for source, _ in pairs[::4]]
    wanted = {
        f"{path.name}@{version(path)}": dict(
            zip(texts, unmarked(path).translate(texts), strict=True)
        )
        for path in (model_dir, other_dir)
    }
    one, two = wanted.values()
    assert all(one[text] != two[text] for text in texts)  # else the test could not fail
    before = engines()
    models.serve([model_dir])
    over = threading.Event()
    with client_of(models) as client, ThreadPoolExecutor(6) as pool:

        def ask(first: int) -> list[tuple[str, httpx.Response]]:
            answers = []
            while not over.is_set():
                text = texts[(first + len(answers)) % len(texts)]
                answers.append((text, say(client, text)))
            return answers

        asking = [pool.submit(ask, 7 * caller) for caller in range(6)]
        try:
            for turn in range(10):
                path = (other_dir, model_dir)[turn % 2]
                models.serve_soon([path])
                until(lambda path=path: models.all[0].path == path)  # type: ignore[misc]
                time.sleep(0.05)
        finally:
            over.set()
        answers = [each for callers in asking for each in callers.result()]
    assert {response.status_code for _, response in answers} == {200}
    for text, response in answers:
        label = response.headers["x-s2s-model"]
        assert response.json() == {"translatedText": wanted[label][text]}
    assert {response.headers["x-s2s-model"] for _, response in answers} == set(wanted)
    assert models.failure is None
    # Of the eleven engines one is left.
    until(lambda: engines() == before + 2)
    models.close()
    assert engines() == before
    assert not models.alive


def test_what_an_old_model_has_taken_it_finishes(
    models: Models, model_dir: Path, other_dir: Path, pairs: Pairs
) -> None:
    texts = [source for source, _ in pairs] + [source for source, _ in pairs[:60]]
    models.serve([model_dir])
    with client_of(models) as client, ThreadPoolExecutor(1) as pool:
        body = {"q": texts, "source": "en", "target": "fr"}
        asked = pool.submit(client.post, "/translate", json=body)
        until(lambda: waiting(models) > 0)
        models.serve([other_dir])
        response = asked.result(WAIT)
    assert response.status_code == 200
    assert response.headers["x-s2s-model"].startswith(f"{model_dir.name}@")
    assert response.json()["translatedText"] == Translator.load(model_dir).translate(texts)


def _without_a_file(path: Path) -> None:
    (path / "source.json").unlink()


def _cut_off(path: Path) -> None:
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _no_config(path: Path) -> None:
    (path / "config.json").write_text("{")


@pytest.mark.parametrize("damage", [_without_a_file, _cut_off, _no_config, shutil.rmtree])
def test_a_broken_model_leaves_the_old_one_answering_and_is_told(
    damage: Callable[[Path], None], models: Models, model_dir: Path, tmp_path: Path
) -> None:
    broken = copied(model_dir, tmp_path / "broken")
    damage(broken)
    models.serve([model_dir])
    [old], threads = models.all, engines()
    with client_of(models) as client:
        models.serve_soon([broken])
        until(lambda: models.failure is not None)
        listed = client.get("/v1/models").json()
        assert "broken" in listed["failure"]
        assert [model["version"] for model in listed["models"]] == [old.version]
        assert say(client, "I see trees.").headers["x-s2s-model"] == old.label
        assert client.get("/health").status_code == 200
        assert models.all == (old,)
        until(lambda: engines() == threads)
        # And the next exchange that goes well takes the failure back.
        models.serve_soon([copied(model_dir, tmp_path / "whole")])
        until(lambda: models.all[0].name == "whole")
        assert client.get("/v1/models").json()["failure"] is None


def test_a_good_model_beside_a_broken_one_is_not_kept(
    models: Models, model_dir: Path, tmp_path: Path
) -> None:
    models.serve([model_dir])
    threads = engines()
    with pytest.raises(BadInput):
        models.serve([copied(model_dir, tmp_path / "de", "de"), tmp_path / "nowhere"])
    assert [model.path for model in models.all] == [model_dir]
    assert models.alive
    until(lambda: engines() == threads)


def test_the_same_files_are_not_loaded_again(
    model_dir: Path, other_dir: Path, tmp_path: Path
) -> None:
    loaded: list[Path] = []

    def load(path: Path) -> Translator:
        loaded.append(path)
        return Translator.load(path)

    models = Models(in_threads(load, slots=4))
    german = copied(model_dir, tmp_path / "de", "de")
    models.serve([model_dir])
    [first] = models.all
    models.serve([model_dir, german])
    models.serve([german, model_dir])
    assert loaded == [model_dir, german]
    assert first in models.all
    assert models.alive
    # Other files in the same place are another model.
    shutil.copy(other_dir / "model.safetensors", german / "model.safetensors")
    models.serve([german, model_dir])
    assert loaded == [model_dir, german, german]
    models.close()


def test_of_exchanges_that_wait_only_the_last_happens(
    model_dir: Path, other_dir: Path, tmp_path: Path
) -> None:
    slow, middle = copied(model_dir, tmp_path / "slow"), copied(model_dir, tmp_path / "middle")
    may, loaded = threading.Event(), []

    def load(path: Path) -> Translator:
        loaded.append(path)
        if path == slow:
            assert may.wait(WAIT)
        return Translator.load(path)

    models = Models(in_threads(load, slots=4))
    models.serve_soon([slow])
    until(lambda: loaded == [slow])
    models.serve_soon([middle])
    time.sleep(0.1)  # it waits by now
    models.serve_soon([other_dir])
    time.sleep(0.1)  # and this one, too
    may.set()
    until(lambda: bool(models.all) and models.all[0].path == other_dir)
    until(lambda: not exchanging())
    assert models.all[0].path == other_dir
    assert loaded == [slow, other_dir]
    models.close()


# ---- several models ------------------------------------------------------------------------------


def test_two_models_of_the_same_languages_are_refused(
    models: Models, model_dir: Path, other_dir: Path
) -> None:
    models.serve([model_dir])
    threads = engines()
    with pytest.raises(BadInput, match="both translate en to fr"):
        models.serve([model_dir, other_dir])
    assert [model.path for model in models.all] == [model_dir]
    until(lambda: engines() == threads)


def test_no_model_at_all_is_refused(models: Models) -> None:
    with pytest.raises(BadInput):
        models.serve([])
    assert not models.alive


def test_before_the_first_model_nothing_breaks(models: Models) -> None:
    with client_of(models) as client:
        assert client.get("/health").status_code == 503
        assert client.get("/languages").json() == []
        assert say(client, "a").status_code == 400
        assert client.post("/detect", json={"q": "a"}).json() == []
        settings = client.get("/frontend/settings")
        assert settings.status_code == 503
        assert list(settings.json()) == ["error"]
        assert settings.headers["x-content-type-options"] == "nosniff"


ENGLISH = "This is a sentence of the English language, that everybody here can understand."
GERMAN = "Das ist ein Satz in der deutschen Sprache, den hier jeder verstehen kann."


def test_two_pairs_side_by_side_and_auto_finds_the_fitting_one(
    models: Models, model_dir: Path, other_dir: Path, tmp_path: Path
) -> None:
    german = copied(other_dir, tmp_path / "german", "de")
    models.serve([model_dir, german])
    translators = {"en": Translator.load(model_dir), "de": Translator.load(german)}
    with client_of(models) as client:
        assert client.get("/languages").json() == [
            {"code": "de", "name": "German", "targets": ["de", "fr"]},
            {"code": "en", "name": "English", "targets": ["en", "fr"]},
            {"code": "fr", "name": "French", "targets": ["fr"]},
        ]
        for text, language in ((ENGLISH, "en"), (GERMAN, "de")):
            wanted = translators[language].translate([text])[0]
            given = say(client, text, source=language)
            assert given.json() == {"translatedText": wanted}
            found = say(client, text, source="auto")
            assert found.json()["translatedText"] == wanted
            assert found.json()["detectedLanguage"]["language"] == language
            assert found.json()["detectedLanguage"]["confidence"] > 90
            assert found.headers["x-s2s-model"] == given.headers["x-s2s-model"]
            detailed = client.post("/v1/translate", json={"q": text}).json()
            assert detailed["model"]["source"] == language
            assert detailed["translations"][0]["text"] == wanted
            detected = client.post("/detect", json={"q": text}).json()
            assert detected[0]["language"] == language
            assert len(detected) == 3
        wrong = say(client, ENGLISH, source="it")
        assert wrong.status_code == 400
        assert "en to fr, de to fr are" in wrong.json()["error"]


def test_a_pair_that_is_taken_away_is_no_longer_served(
    models: Models, model_dir: Path, tmp_path: Path
) -> None:
    models.serve([model_dir, copied(model_dir, tmp_path / "german", "de")])
    with client_of(models) as client:
        assert say(client, GERMAN, source="de").status_code == 200
        models.serve([model_dir])
        assert say(client, GERMAN, source="de").status_code == 400
        assert say(client, ENGLISH).status_code == 200


@pytest.mark.parametrize("name", ["модель", "模型 1", "a, b", "modèle", "a\nb"])
def test_a_directory_may_have_any_name(
    name: str, models: Models, model_dir: Path, tmp_path: Path
) -> None:
    models.serve([copied(model_dir, tmp_path / name)])
    with client_of(models) as client:
        response = say(client, "I see trees.")
        assert response.status_code == 200
        assert response.headers["x-s2s-model"].endswith(f"@{models.all[0].version}")
        assert client.get("/v1/models").json()["models"][0]["name"] == name
        assert client.get("/health").status_code == 200


# ---- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_a_version_changes_with_any_file_of_the_model(
    file: str, model_dir: Path, tmp_path: Path
) -> None:
    path = copied(model_dir, tmp_path / "model")
    whole = (path / file).read_bytes()
    (path / file).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert version(path) != version(model_dir)
    (path / file).write_bytes(whole)
    assert version(path) == version(model_dir)


def test_a_version_changes_with_nothing_else(model_dir: Path, tmp_path: Path) -> None:
    path = copied(model_dir, tmp_path / "elsewhere")
    (path / "notes.txt").write_text("of somebody")
    for file in FILES:
        (path / file).touch()
    assert version(path) == version(model_dir)
    assert len(version(path)) == 12


def test_what_stands_in_one_file_is_not_the_same_in_another(
    model_dir: Path, tmp_path: Path
) -> None:
    path = copied(model_dir, tmp_path / "model")
    shutil.copy(model_dir / "source.json", path / "target.json")
    shutil.copy(model_dir / "target.json", path / "source.json")
    assert version(path) != version(model_dir)


def test_a_model_that_is_written_to_while_it_is_read_is_refused(
    model_dir: Path, tmp_path: Path
) -> None:
    path = copied(model_dir, tmp_path / "model")

    def load(path: Path) -> Translator:
        translator = Translator.load(path)
        (path / "source.json").write_bytes((path / "source.json").read_bytes() + b"\n")
        return translator

    models = Models(in_threads(load))
    with pytest.raises(BadInput, match="changed while"):
        models.serve([path])
    assert models.all == ()
