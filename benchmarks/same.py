"""Comparison of what the commands do in the working tree and at a commit: a refactoring's guard.

`make same REV=<commit>` runs both, one after the other, by the commands alone, as a user would, so
that the comparison does not depend on how the code is organised:

- `s2s prepare` makes the demo corpus, and one with the preset `seed`;
- `s2s train` takes 60 steps of `seed` in fp32, one worker of one thread;
- `s2s translate` decodes with that model: greedily, with a beam, by sampling, and as JSON;
- `s2s evaluate` scores the model;
- `s2s serve` answers requests, and describes its interface in `openapi.json`;
- every verb prints its `--help`.

Files, outputs and responses are compared, except for times and versions. The run shows the first
difference and ends there; `--all` shows all differences. The comparison takes about five minutes.
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
# Keys of JSON values that differ from run to run.
_VOLATILE = re.compile(r"second|version|sha256|date")
_DIFF_LINES = 40  # lines to show of a difference

# The name of an output of the commands, and its text, or the hash of a binary file.
Output = tuple[str, str]


def main() -> None:
    """Compare both trees; exit with 1 if there is a difference."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.same",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("commit", help="commit to compare the working tree with")
    parser.add_argument("--all", action="store_true", help="show all differences")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="same-") as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), arguments.commit)
        try:
            print(f"== {arguments.commit}", flush=True)
            expected = dict(Checkout(tree, Path(folder) / "before").outputs())
        finally:
            _git("worktree", "remove", "--force", str(tree))
        print("== the working tree", flush=True)
        different = 0
        for name, output in Checkout(ROOT, Path(folder) / "now").outputs():
            if (before := expected.pop(name, None)) == output:
                print(f"same     {name}", flush=True)
                continue
            different += 1
            print(f"DIFFERS  {name}\n{_difference(before, output)}", flush=True)
            if not arguments.all:
                sys.exit(1)
    for name in expected:
        different += 1
        print(f"DIFFERS  {name}\n    is missing from the working tree")
    print(f"{different or 'no'} difference{'s' * (different != 1)}")
    sys.exit(bool(different))


class Checkout:
    """One of the two trees, with the outputs of its commands.

    Args:
        tree: root of the code.
        folder: for all files that the commands write.
    """

    def __init__(self, tree: Path, folder: Path) -> None:
        self._tree, self._folder = tree, folder
        folder.mkdir()

    def outputs(self) -> Iterator[Output]:
        """Run the commands; yield all outputs, in a fixed order."""
        yield from self._helps()
        yield from self._corpora()
        self._s2s("train", "seed", "--corpus", "seed", "--out", "model", "--workers", "1",
                  "--train.epochs", "1", "--train.precision", "fp32")  # fmt: skip
        yield from self._files("model")
        yield from self._translations()
        scores = self._s2s("evaluate", "model", "--corpus", "seed", "--split", "valid", "--json")
        yield "s2s evaluate", _without_volatile(scores)
        yield from self._responses()

    def _helps(self) -> Iterator[Output]:
        usage = self._s2s("--help")
        yield "s2s --help", usage
        for verb in re.findall(r"^  s2s (\S+)", usage, re.MULTILINE):
            text = self._s2s(verb, "--help")
            yield f"s2s {verb} --help", text
            if re.search(rf"s2s {verb} (PRESET|seed)", text):  # the verb takes a preset
                for preset in PRESETS[1:]:
                    yield f"s2s {verb} {preset} --help", self._s2s(verb, preset, "--help")

    def _corpora(self) -> Iterator[Output]:
        self._s2s("prepare", "demo", "--source", "demo", "--out", "demo")
        yield from self._files("demo")
        rows = STEPS * 128 * 10 // 9  # a tenth of them is held out
        self._s2s("prepare", "seed", "--source", "demo", "--out", "seed",
                  "--corpus.rows", str(rows))  # fmt: skip
        yield from self._files("seed")

    def _translations(self) -> Iterator[Output]:
        lines = self._sentences()
        (self._folder / "lines.txt").write_text("\n".join(lines) + "\n", "utf-8")
        for options in ("--beam 1", "--beam 5", "--beam 4 --n-best 3", "--temperature 0.8 --seed 3",
                        "--beam 1 --json"):  # fmt: skip
            output = self._s2s("translate", "model", "--input", "lines.txt", *options.split())
            yield f"s2s translate {options}", output

    def _sentences(self) -> list[str]:
        """Return a few hundred sentences, with some unusual ones."""
        import datasets

        datasets.disable_progress_bars()
        rows = datasets.load_from_disk(str(self._folder / "seed" / "valid"))["source"][:300]
        return [*rows, "", "unheard-of words", "one\ttab", "A long one " * 30]

    def _responses(self) -> Iterator[Output]:
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
            while not (schema := _request(port, "/openapi.json"))[1].startswith("{"):
                if process.poll() is not None or time.monotonic() > end:
                    log_text = (self._folder / "serve.log").read_text("utf-8")
                    raise SystemExit(f"the server of {self._tree} did not start:\n{log_text}")
                time.sleep(0.5)
            yield "openapi.json", _without_volatile(schema[1])
            pair = {"source": "en", "target": "fr"}
            for path, body in (
                ("/translate", {"q": self._sentences()[:20], **pair}),
                ("/translate", {"q": "no language"}),
                ("/translate", {"q": 7, **pair}),
                ("/v1/translate", {"texts": self._sentences()[:3], **pair, "beam": 3, "n_best": 2}),
                ("/languages", None),
                ("/nowhere", None),
            ):
                status, text = _request(port, path, body)
                yield f"{path} {json.dumps(body)[:60]}", f"{status}\n{_without_volatile(text)}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def _files(self, directory: str) -> Iterator[Output]:
        """Yield the files of an output directory."""
        for path in sorted((self._folder / directory).rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                name = path.relative_to(self._folder).as_posix()
                if path.suffix == ".json":
                    yield name, _without_volatile(data.decode())
                elif path.name != "README.md":  # the model card contains times
                    yield name, hashlib.sha256(data).hexdigest()

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
        # -m alone would import from the current folder before the tree; -P excludes that folder.
        start = "import runpy; runpy.run_module('s2s.cli', run_name='__main__', alter_sys=True)"
        return [sys.executable, "-P", "-c", start, *arguments]

    def _s2s(self, *arguments: str) -> str:
        """Run a command, which must succeed; return its standard output."""
        done = subprocess.run(
            self._command(*arguments), cwd=self._folder, env=self._environment, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"s2s {' '.join(arguments)} in {self._tree}:\n{done.stderr}")
        return done.stdout


def _request(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """Send a request; return status and text of the response, status 0 if there is none."""
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


def _without_volatile(text: str) -> str:
    """Remove from JSON what differs from run to run, and indent it; return other text unchanged."""

    def prune(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: prune(value) for key, value in tree.items() if not _VOLATILE.search(key)}
        return [prune(value) for value in tree] if isinstance(tree, list) else tree

    try:
        return json.dumps(prune(json.loads(text)), indent=1, ensure_ascii=False)
    except ValueError:
        return text


def _difference(before: str | None, now: str) -> str:
    """Return the first lines of the difference between two texts."""
    if before is None:
        return "    is missing at the commit"
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=1)
    return "\n".join(f"    {line}" for _, line in zip(range(_DIFF_LINES), lines, strict=False))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


if __name__ == "__main__":
    main()
