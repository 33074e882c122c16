"""The core works without the optional dependencies, and a verb that needs one says which extra."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from s2s import extras
from s2s.corpus import Corpus
from tests.support.hiding import HIDING

# Commands in a process that does not find what the extras bring.
SCRIPT = f"""
import contextlib, io, json
{HIDING}
from s2s.cli.main import main
done = []
for command in json.loads(sys.argv[2]):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(command)
    done.append(dict(code=code, out=out.getvalue(), error=error.getvalue().strip()))
assert HIDDEN.isdisjoint(name.partition(".")[0] for name in sys.modules)
print(json.dumps(done))
"""


def run(cache: Path, *commands: list[object]) -> list[dict[str, Any]]:
    """Exit code and output of each command."""
    arguments = json.dumps([[str(word) for word in command] for command in commands])
    script = [sys.executable, "-c", SCRIPT, ",".join(extras._LIBRARIES), arguments]
    done = subprocess.run(
        script, env={**os.environ, "S2S_CACHE": str(cache)}, capture_output=True, text=True,
        check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def test_the_core_needs_no_extra(
    pairs_file: Path, model_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    translated, evaluated, *others = run(
        tmp_path,
        ["translate", model_dir, "I see trees."],
        ["evaluate", model_dir, "--corpus", corpus.path, "--split", "test", "--json"],
        ["prepare", "demo", "--languages", "en-fr", "--source", pairs_file, "--out", out],
        ["inspect", out],
        ["compare", model_dir, model_dir, "--corpus", corpus.path, "--samples", "5"],
        [
            "train",
            "demo",
            "--corpus",
            corpus.path,
            "--out",
            tmp_path / "model",
            "--train.epochs",
            "1",
            "--model.hidden-size",
            "8",
        ],
        ["key", "me"],
    )
    assert {done["code"] for done in (translated, evaluated, *others)} == {0}, others
    assert translated["out"].strip()
    assert json.loads(evaluated["out"])["token_accuracy"] > 0.5
    assert (out / "corpus.json").exists()


def test_a_verb_says_which_extra_it_needs(
    pairs_file: Path, model_dir: Path, corpus: Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    cases: list[tuple[list[object], str]] = [
        (["train", "demo", "--corpus", corpus.path, "--out", out, "--workers", 2],
         "needs Ray: … 's2s-nmt[ray]'"),
        (["tune", "demo", "--corpus", corpus.path, "--out", out], "needs Ray: … 's2s-nmt[ray]'"),
        (["serve", model_dir], "needs msgpack: … 's2s-nmt[serve]'"),
        (["prepare", "demo", "--languages", "en-fr", "--source", pairs_file, "--out", out,
          "--tasks", 2],
         "needs Ray: … 's2s-nmt[ray]'"),
        (["prepare", "demo", "--source", "demo", "--out", out],
         "--source demo needs pyrealb: … 's2s-nmt[demo]'"),
        (["report", model_dir, "--out", out], "needs matplotlib: … 's2s-nmt[report]'"),
    ]  # fmt: skip
    for (command, wanted), done in zip(cases, run(tmp_path, *(c for c, _ in cases)), strict=True):
        line = f"s2s: {command[0]} {wanted.replace('…', 'pip install')}"
        assert (done["code"], done["error"]) == (2, line)
    assert not out.exists()


def test_the_advice_names_the_extra_and_there_is_none_for_other_modules() -> None:
    ray = ModuleNotFoundError("No module named 'ray'", name="ray.serve")
    assert extras.advice("train", ray) == "train needs Ray: pip install 's2s-nmt[ray]'"
    assert extras.advice("train", ModuleNotFoundError(name="rays")) is None


def test_every_extra_that_is_advised_exists() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    advised = {extra for _, extra in extras._LIBRARIES.values()}
    assert advised <= project["optional-dependencies"].keys()
    assert project["name"] == extras.DISTRIBUTION
