"""Commands that give Ray's workers and replicas a GPU: the last part of `benchmarks.gpu`."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.gpu_report import DEVICE, GPU, Report, free_port
from s2s.decoding.translator import Translator


def ray_commands(report: Report) -> None:
    """Check train, tune, serve and bulk translation on a local Ray cluster with a GPU."""
    if importlib.util.find_spec("ray") is None:
        report.add("ray", "all", "skipped: Ray is not installed")
        return
    with tempfile.TemporaryDirectory(prefix="s2s") as name:
        folder = Path(name)
        corpus = str((report.data / "demo").resolve())
        flag = ["--gpu"] if GPU else []
        small = ["--train.epochs", "2", "--model.hidden-size", "64"]
        begin = time.perf_counter()
        _command(report, "train --gpu, in its process", "train", "demo", "--corpus", corpus,
                 "--out", folder / "alone", *flag, *small)  # fmt: skip
        _command(report, "train --gpu --workers 1", "train", "demo", "--corpus", corpus,
                 "--out", folder / "model", "--workers", 1, *flag, *small)  # fmt: skip
        if GPU and (folder / "model" / "metrics.json").exists():
            metrics = json.loads((folder / "model" / "metrics.json").read_bytes())
            rate = metrics["epochs"][-1]["pairs_per_second"]
            report.add("ray", "device in the model's metrics.json",
                       f"{metrics['device']}, {rate:,.0f} pairs/s in its last epoch", "cuda",
                       metrics["device"] == "cuda")  # fmt: skip
        half = ["--gpu", "--gpu-share", "0.5"] if GPU else []
        _command(report, "tune --gpu, half a GPU per trial", "tune", "demo", "--corpus", corpus,
                 "--out", folder / "sweep", "--hidden-sizes", 32, 64, "--embedding-sizes", 32,
                 "--trials", 2, "--train.epochs", 2, *half)  # fmt: skip
        model = folder / "model"
        if not model.exists():
            model = report.out / "seed"
        try:
            _bulk(report, model, folder)
        except Exception as error:
            report.add("ray", "bulk translation", f"{type(error).__name__}: {error}"[:200],
                       passed=False)  # fmt: skip
        try:
            _replica(report, model, folder)
        except Exception as error:
            report.add("ray", "a replica", f"{type(error).__name__}: {error}"[:200], passed=False)
        report.numbers["ray_seconds"] = time.perf_counter() - begin


def _command(report: Report, name: str, *arguments: object) -> None:
    """Run an `s2s` command, log its output, and report whether it succeeded."""
    command = [sys.executable, "-m", "s2s.cli", *map(str, arguments)]
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        code, output = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        code, output = -1, f"{late.stdout!r} {late.stderr!r}"
    seconds = time.perf_counter() - begin
    log = report.out / "ray.log"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{output}\n")
    last = (output.strip().splitlines() or [""])[-1]
    result = f"exit code {code} in {seconds:.0f} s" + ("" if code == 0 else f": {last[:150]}")
    report.add("ray", name, result, "exit code 0", code == 0)


def _bulk(report: Report, model: Path, folder: Path) -> None:
    """Check the translations of two actors of Ray Data with half a GPU each against the CPU's."""
    texts = report.corpus("demo").split("test")["source"][:500]
    source, out = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    share = ["--gpu-share", 0.5] if GPU else []
    _command(report, "translate --workers 2, half a GPU each", "translate", model,
             "--input", source, "--output", out, "--workers", 2, "--device", DEVICE.type,
             *share)  # fmt: skip
    translated = [json.loads(line)["translation"] for line in out.read_text("utf-8").splitlines()]
    expected = Translator.load(model).translate(texts)
    same = sum(a == b for a, b in zip(translated, expected, strict=True)) / len(texts)
    report.add("ray", "bulk translation by actors with half a GPU",
               f"{len(translated)} texts, {same:.1%} as on a CPU", "at least 99 %",
               same >= 0.99)  # fmt: skip


def _replica(report: Report, model: Path, folder: Path) -> None:
    """Check and time a Serve replica that has half a GPU."""
    import yaml

    port = free_port()
    options = {"num_cpus": 1, **({"num_gpus": 0.5} if GPU else {})}
    config = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            {
                "name": "s2s",
                "import_path": "serve_app:build",
                "args": {"open": True, "device": DEVICE.type},
                "deployments": [
                    {
                        "name": "Translation",
                        "num_replicas": 1,
                        "ray_actor_options": options,
                        "user_config": {"models": [str(model.resolve())]},
                    }
                ],
            }
        ],
    }
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    log = (report.out / "serve.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", "from ray.serve.scripts import cli; cli()", "run", str(file)],
        stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    try:
        texts = report.corpus("demo").split("test")["source"][:64]
        body = json.dumps({"q": texts, "source": "en", "target": "fr"}).encode()
        end, answer = time.monotonic() + 75, None
        while answer is None:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/translate", body, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                    answer = json.loads(response.read())["translatedText"]
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise
                time.sleep(1)
        begin = time.perf_counter()
        for _ in range(20):
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                response.read()
        rate = 20 * len(texts) / (time.perf_counter() - begin)
        expected = Translator.load(model).with_settings(beam=1).translate(texts)
        same = sum(a == b for a, b in zip(answer, expected, strict=True)) / len(texts)
        report.add("ray", "a Serve replica with half a GPU, 64 texts/request, one at a time",
                   f"{same:.1%} as on a CPU, {rate:,.0f} texts/s", "at least 99 %",
                   same >= 0.99)  # fmt: skip
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()
