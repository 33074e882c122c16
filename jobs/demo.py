"""`make demo`: the whole life of a translator, by the commands that a user would type.

Prepares the embedded corpus, trains on two Ray workers, scores the test part, translates a few of
its sentences, and asks the HTTP endpoint.
"""

import argparse
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import datasets
import httpx

S2S = [sys.executable, "-m", "s2s.cli"]


def main() -> int:
    """Run the demo in a folder that a second run uses again."""
    parser = argparse.ArgumentParser(prog="python -m jobs.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/demo"), help="where it works")
    parser.add_argument("--workers", type=int, default=2, help="Ray workers that train")
    arguments = parser.parse_args()
    corpus, model = arguments.folder / "corpus", arguments.folder / "model"
    begin = time.perf_counter()

    if not corpus.exists():
        _run("prepare", "demo", "--source", "demo", "--languages", "en-fr", "--out", corpus)
    if not model.exists():
        _run("train", "demo", "--corpus", corpus, "--out", model, "--workers", arguments.workers)
    _run("evaluate", model, "--corpus", corpus, "--split", "test")
    sentences = _translate_held_out(model, corpus)
    _ask_endpoint(model, sentences[0])

    metrics = json.loads((model / "metrics.json").read_bytes())
    best, score = metrics["best"], metrics["scores"][0]
    print(
        f"\nDone in {time.perf_counter() - begin:.0f} s. On valid: token accuracy "
        f"{best['valid_token_accuracy']:.4f}, padded accuracy {best['valid_padded_accuracy']:.4f}, "
        f"{score['name']} {score['score']:.1f}; training took {metrics['total_seconds']:.0f} s on "
        f"{metrics['workers']} workers.\n\nTry next:\n"
        f'  .venv/bin/s2s translate {model} "My sister reads a book."\n'
        f"  .venv/bin/s2s serve {model}\n"
        f"  .venv/bin/s2s tune demo --corpus {corpus} --out {arguments.folder / 'sweep'} "
        "--train.epochs 2"
    )
    return 0


def _run(verb: str, *arguments: object) -> None:
    """Run a verb of `s2s` as a user would, and show the command."""
    words = [verb, *map(str, arguments)]
    print(f"\n$ s2s {shlex.join(words)}", flush=True)
    code = subprocess.run([*S2S, *words], check=False).returncode
    if code:
        raise SystemExit(code)


def _translate_held_out(model: Path, corpus: Path, count: int = 6) -> list[str]:
    """Translate some sentences of the test part beside their references."""
    rows = datasets.load_from_disk(str(corpus / "test"))
    rows = rows.select(range(0, len(rows), len(rows) // count)).select(range(count))
    sentences: list[str] = rows["source"][:]
    print(f"\n$ s2s translate {model}    # held-out sentences on standard input", flush=True)
    done = subprocess.run(
        [*S2S, "translate", str(model)],
        input="\n".join(sentences) + "\n",
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    for sentence, translation, reference in zip(
        sentences, done.stdout.splitlines(), rows["target"][:], strict=True
    ):
        right = "  (the same)" if translation == reference else ""
        print(f"  source       {sentence}\n  translation  {translation}")
        print(f"  reference    {reference}{right}\n")
    return sentences


def _ask_endpoint(model: Path, sentence: str) -> None:
    """Start the HTTP endpoint, ask it for a translation, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    print(f"$ s2s serve {model} --port {port} &", flush=True)
    server = subprocess.Popen([*S2S, "serve", str(model), "--port", str(port)])
    try:
        for _ in range(120):
            try:
                httpx.get(f"{address}/health", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                if server.poll() is not None:
                    raise SystemExit("the endpoint ended before it answered") from None
                time.sleep(1)
        else:
            raise SystemExit("the endpoint did not answer within two minutes")
        question = {"q": sentence, "source": "en", "target": "fr"}
        print(f"$ curl {address}/translate --json {shlex.quote(json.dumps(question))}")
        answer = httpx.post(f"{address}/translate", json=question, timeout=30).raise_for_status()
        print(answer.text, flush=True)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


if __name__ == "__main__":
    sys.exit(main())
