"""`make demo`: the whole life of a translator, by the commands that a user would type.

Prepares the embedded corpus, trains on two Ray workers, scores the test split, translates a few of
its sentences, and sends a request to the HTTP endpoint.
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import datasets

from s2s.distributed.ports import free_port

S2S = [sys.executable, "-m", "s2s.cli"]


def main() -> int:
    """Run the demo; a second run in the same folder skips the steps that are done."""
    parser = argparse.ArgumentParser(prog="python -m jobs.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/demo"), help="folder to work in")
    parser.add_argument("--workers", type=int, default=2, help="Ray workers to train with")
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
    """Print some sentences of the test split with their translations and references."""
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
    """Start the HTTP endpoint, request a translation, and stop it."""
    port = free_port()
    print(f"$ s2s serve {model} --port {port} &", flush=True)
    server = subprocess.Popen([*S2S, "serve", str(model), "--port", str(port)])
    try:
        for _ in range(120):
            try:
                _request(port, "GET", "/health", timeout=5)
                break
            except (OSError, HTTPException):
                if server.poll() is not None:
                    raise SystemExit("the endpoint ended before it answered") from None
                time.sleep(1)
        else:
            raise SystemExit("the endpoint did not answer within two minutes")
        body = json.dumps({"q": sentence, "source": "en", "target": "fr"})
        print(f"$ curl http://127.0.0.1:{port}/translate --json {shlex.quote(body)}")
        print(_request(port, "POST", "/translate", body, timeout=30), flush=True)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def _request(port: int, method: str, path: str, body: str | None = None, *, timeout: float) -> str:
    """Return the text of a response.

    Raises:
        OSError: nothing answers on the port.
        HTTPException: the response is an error, or no HTTP.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    if response.status != 200:
        raise HTTPException(text)
    return text


if __name__ == "__main__":
    sys.exit(main())
