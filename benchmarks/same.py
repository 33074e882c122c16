"""Whether the working tree still does what a commit did: the guard of every refactoring.

`make same REV=<commit>` runs both, one after the other, as a user would, by the commands alone, so
that nothing inside has to stay where it was:

- `s2s prepare` makes the demo corpus, and one of the tutorial's kind;
- `s2s train` takes 60 steps of `seed` in fp32, one worker of one thread;
- `s2s translate` decodes with that model: greedy, with a beam, drawn by a seed, with all that is
  known of each translation;
- `s2s evaluate` scores it;
- `s2s serve` answers requests, and gives its `openapi.json`;
- every verb explains itself with `--help`.

Files, outputs and answers are compared, but for times and versions. The first difference is shown
and ends the run, unless `--all` asks for all of them. It takes about five minutes.
"""

import argparse
import difflib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PRESETS = ("seed", "demo", "base", "multi30k")
STEPS = 60
# Of files in JSON, what differs from run to run.
_FLEETING = re.compile(r"second|version|sha256|date")
_LINES = 40  # of a difference, that are shown

# Its name, and its text, or the hash of what is no text.
Fact = tuple[str, str]


def main() -> None:
    """Compare, and exit with 1 if there is a difference."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.same",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("commit", help="what the working tree is compared with")
    parser.add_argument("--all", action="store_true", help="show all differences")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="same-") as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), arguments.commit)
        try:
            print(f"== {arguments.commit}", flush=True)
            wanted = dict(Side(tree, Path(folder) / "before").facts())
        finally:
            _git("worktree", "remove", "--force", str(tree))
        print("== the working tree", flush=True)
        different = 0
        for name, found in Side(ROOT, Path(folder) / "now").facts():
            if (before := wanted.pop(name, None)) == found:
                print(f"same     {name}", flush=True)
                continue
            different += 1
            print(f"DIFFERS  {name}\n{_difference(before, found)}", flush=True)
            if not arguments.all:
                sys.exit(1)
    for name in wanted:
        different += 1
        print(f"DIFFERS  {name}\n    there is none any more")
    print(f"{different or 'no'} difference{'s' * (different != 1)}")
    sys.exit(bool(different))


class Side:
    """One of the two trees, and what its commands do.

    Args:
        tree: where the code is.
        folder: for all that is made.
    """

    def __init__(self, tree: Path, folder: Path) -> None:
        self._tree, self._folder = tree, folder
        folder.mkdir()

    def facts(self) -> Iterator[Fact]:
        """All facts, one after the other."""
        yield from self._helps()
        yield from self._corpora()
        self._s2s("train", "seed", "--corpus", "seed", "--out", "model", "--workers", "1",
                  "--train.epochs", "1", "--train.precision", "fp32")  # fmt: skip
        yield from self._files("model")
        yield from self._translations()
        told = self._s2s("evaluate", "model", "--corpus", "seed", "--split", "valid", "--json")
        yield "s2s evaluate", _lasting(told)
        yield from self._answers()

    def _helps(self) -> Iterator[Fact]:
        usage = self._s2s("--help")
        yield "s2s --help", usage
        for verb in re.findall(r"^  s2s (\S+)", usage, re.MULTILINE):
            told = self._s2s(verb, "--help")
            yield f"s2s {verb} --help", told
            if f"s2s {verb} seed" in told:  # it takes a preset
                for preset in PRESETS[1:]:
                    yield f"s2s {verb} {preset} --help", self._s2s(verb, preset, "--help")

    def _corpora(self) -> Iterator[Fact]:
        self._s2s("prepare", "demo", "--source", "demo", "--out", "demo")
        yield from self._files("demo")
        rows = STEPS * 128 * 10 // 9  # of which a tenth is held out
        self._s2s("prepare", "seed", "--source", "demo", "--out", "seed",
                  "--corpus.rows", str(rows))  # fmt: skip
        yield from self._files("seed")

    def _translations(self) -> Iterator[Fact]:
        lines = self._sentences()
        (self._folder / "lines.txt").write_text("\n".join(lines) + "\n", "utf-8")
        for how in ("--beam 1", "--beam 5", "--beam 4 --n-best 3", "--temperature 0.8 --seed 3",
                    "--beam 1 --json"):  # fmt: skip
            told = self._s2s("translate", "model", "--input", "lines.txt", *how.split())
            yield f"s2s translate {how}", told

    def _sentences(self) -> list[str]:
        """A few hundred sentences, some odd ones among them."""
        import datasets

        datasets.disable_progress_bars()
        rows = datasets.load_from_disk(str(self._folder / "seed" / "valid"))["source"][:300]
        return [*rows, "", "unheard-of words", "one\ttab", "A long one " * 30]

    def _answers(self) -> Iterator[Fact]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (self._folder / "serve.log").open("w") as log:
            process = subprocess.Popen(
                self._command("serve", "model", "--port", str(port)), cwd=self._folder,
                env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            end = time.monotonic() + 180
            while not (described := _ask(port, "/openapi.json"))[1].startswith("{"):
                if process.poll() is not None or time.monotonic() > end:
                    log_text = (self._folder / "serve.log").read_text("utf-8")
                    raise SystemExit(f"the server of {self._tree} did not start:\n{log_text}")
                time.sleep(0.5)
            yield "openapi.json", _lasting(described[1])
            pair = {"source": "en", "target": "fr"}
            for path, body in (
                ("/translate", {"q": self._sentences()[:20], **pair}),
                ("/translate", {"q": "no language"}),
                ("/translate", {"q": 7, **pair}),
                ("/v1/translate", {"texts": self._sentences()[:3], **pair, "beam": 3, "n_best": 2}),
                ("/languages", None),
                ("/nowhere", None),
            ):
                status, text = _ask(port, path, body)
                yield f"{path} {json.dumps(body)[:60]}", f"{status}\n{_lasting(text)}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def _files(self, name: str) -> Iterator[Fact]:
        """The files of a directory that was made, by what is in them."""
        for path in sorted((self._folder / name).rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                where = path.relative_to(self._folder).as_posix()
                if path.suffix == ".json":
                    yield where, _lasting(data.decode())
                elif path.name != "README.md":  # the model card tells times
                    yield where, hashlib.sha256(data).hexdigest()

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(self._tree),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
            "HF_DATASETS_OFFLINE": "1",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def _command(self, *arguments: str) -> list[str]:
        # Not -m alone: the folder that it would look in first is not the tree.
        start = "import runpy; runpy.run_module('s2s.cli', run_name='__main__', alter_sys=True)"
        return [sys.executable, "-P", "-c", start, *arguments]

    def _s2s(self, *arguments: str) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            self._command(*arguments), cwd=self._folder, env=self._environment, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"s2s {' '.join(arguments)} in {self._tree}:\n{done.stderr}")
        return done.stdout


def _ask(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """Status and text of an answer; 0 if there is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _lasting(text: str) -> str:
    """JSON without what differs from run to run, indented; other text as it is."""

    def kept(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: kept(value) for key, value in tree.items() if not _FLEETING.search(key)}
        return [kept(value) for value in tree] if isinstance(tree, list) else tree

    try:
        return json.dumps(kept(json.loads(text)), indent=1, ensure_ascii=False)
    except ValueError:
        return text


def _difference(before: str | None, now: str) -> str:
    """Where two texts differ, in a few lines."""
    if before is None:
        return "    there was none"
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=1)
    return "\n".join(f"    {line}" for _, line in zip(range(_LINES), lines, strict=False))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


if __name__ == "__main__":
    main()
