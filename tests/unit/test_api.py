"""The Python interface: from pairs to a translator, in this process."""

import json
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import s2s
from s2s.errors import BadInput, Stopped

SMALL = {"train.epochs": 2, "model.hidden_size": 16, "model.embedding_size": 16,
         "train.batch_size": 32, "decode.max_length": 12}  # fmt: skip


@pytest.fixture(scope="module")
def prepared_corpus(pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> s2s.Corpus:
    out = tmp_path_factory.mktemp("api") / "corpus"
    settings = {"corpus.valid": 0.1, "corpus.test": 0.1}
    return s2s.prepare(pairs_file, out, "en-fr", "demo", settings, quiet=True)


def test_pairs_become_a_translator(
    prepared_corpus: s2s.Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    trained = s2s.train(prepared_corpus, str(tmp_path / "model"), "demo", SMALL, threads=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [epoch.epoch for epoch in trained.metrics.epochs] == [1, 2]
    assert trained.path == tmp_path / "model"
    said = capsys.readouterr().out
    assert "  2/2  " in said
    assert "model directory:" in said

    translator = s2s.load(str(trained.path))
    assert repr(translator).startswith("<Translator en to fr: ")
    assert "greedy" in repr(translator)
    texts = prepared_corpus.split("test")["source"][:3]
    translations = translator.translate(texts)
    assert [translator.translate(text) for text in texts] == list(translations)
    copy = pickle.loads(pickle.dumps(translator))  # noqa: S301
    assert copy.translate(texts) == translations
    assert translator.translate(text for text in texts) == translations
    with pytest.raises(TypeError, match="a list of str is needed, not a str"):
        translator.hypotheses("I am cold.")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a str or a list of str is needed, not a NoneType"):
        translator.translate(None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a str or a list of str"):
        translator.translate([1, 2])  # type: ignore[list-item]

    evaluation = s2s.evaluate(trained.path, prepared_corpus.path, "test", {"beam": 2})
    assert (evaluation.split, evaluation.decoding) == ("test", "beam 2")
    assert s2s.evaluate(translator, prepared_corpus, "test").loss == evaluation.loss


def test_a_run_is_tracked_as_wanted_and_stays_the_same_run(
    prepared_corpus: s2s.Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = s2s.train(
        prepared_corpus, tmp_path / "model", "demo", SMALL, threads=1,
        track="tests.support.trackers:Lines", samples=2, print_samples=True, bleu_every=1,
    )  # fmt: skip
    run = tmp_path / "model.run"
    assert not (run / "tensorboard").exists()
    told = (run / "lines.txt").read_text().splitlines()
    assert (told[0], told[1].split()[1:], told[-1]) == (
        "model 2 0",
        ["valid/loss", "valid/bleu"],
        "True",
    )
    assert len((run / "samples.jsonl").read_text().splitlines()) == 4
    best = trained.metrics.best
    assert best is not None
    assert best.valid_bleu == pytest.approx(trained.metrics.scores[0].score)
    said = capsys.readouterr().out
    assert f"BLEU {best.valid_bleu:.2f}" in said
    assert said.count("  translation  ") == 4
    # Another way to watch a run does not make another run of it.
    assert set(json.loads((run / "run.json").read_text())) == {
        "corpus", "config", "start", "checkpoints"
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"track": "tensorbord"}, {"samples": -1}, {"bleu_every": 0}], ids=str
)
def test_a_wrong_way_to_watch_is_found_before_anything_is_made(
    prepared_corpus: s2s.Corpus, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    [name] = wrong
    with pytest.raises(BadInput, match=rf"tensorboard|--{name.replace('_', '-')}"):
        s2s.train(prepared_corpus, tmp_path / "model", "demo", SMALL, **wrong)
    assert not any(tmp_path.iterdir())


def test_training_works_in_a_thread_and_prints_nothing_if_quiet(
    prepared_corpus: s2s.Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> float:
        made = s2s.train(prepared_corpus, tmp_path / "m", "demo", SMALL, threads=1, quiet=True)
        return made.metrics.epochs[-1].train_loss

    with ThreadPoolExecutor(1) as pool:
        loss = pool.submit(work).result(timeout=120)
    assert 0 < loss < 10
    assert capsys.readouterr().out == ""


def test_ctrl_c_saves_and_the_same_call_resumes(
    prepared_corpus: s2s.Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, settings = tmp_path / "model", {**SMALL, "train.epochs": 30}

    def interrupt() -> None:
        metrics = tmp_path / "model.run" / "checkpoints"
        while not list(metrics.glob("step-*/checkpoint.json")):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Stopped, match="which is saved; run the same command again to resume"):
        s2s.train(prepared_corpus, out, "demo", settings, threads=1)
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert not out.exists()
    trained = s2s.train(prepared_corpus, out, "demo", settings, threads=1)
    assert "resuming from the" in capsys.readouterr().out
    assert len(trained.metrics.epochs) == 30


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("bsae", {}, "unknown preset 'bsae'; did you mean base?"),
        ("demo", {"train.epoch": 3}, "unknown setting 'train.epoch'; did you mean train.epochs?"),
        ("demo", {"train.epochs": 0}, "train.epochs: must be greater than 0"),
        ("demo", {"corpus.rows": 5}, "unknown setting 'corpus.rows'"),
    ],
)
def test_a_wrong_setting_is_named(
    preset: str, settings: dict[str, object], message: str, prepared_corpus: s2s.Corpus,
    tmp_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(BadInput) as caught:
        s2s.train(prepared_corpus, tmp_path / "m", preset, settings)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "m.run").exists()


def test_a_device_that_is_not_there_is_refused(prepared_corpus: s2s.Corpus, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="torch sees no such device"):
        s2s.train(prepared_corpus, tmp_path / "m", "demo", SMALL, device="cuda:9")


def test_arguments_in_other_forms_are_taken_or_refused_in_a_line(
    pairs_file: Path, prepared_corpus: s2s.Corpus, tmp_path: Path
) -> None:
    settings = {"corpus.valid": 0.1, "corpus.test": 0.1}
    made = s2s.prepare(pairs_file, tmp_path / "c", ("en", "fr"), "demo", settings,
                       columns=(1, 2), quiet=True)  # fmt: skip
    assert made.manifest.rows == prepared_corpus.manifest.rows
    for wrong in ({"threads": 0}, {"threads": -1}):
        with pytest.raises(BadInput, match="at least 1 is needed"):
            s2s.train(made, tmp_path / "m", "demo", SMALL, **wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="--source: name at least one"):
        s2s.prepare([], tmp_path / "d", "en-fr")
