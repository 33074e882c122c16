r"""JoeyNMT on the rows of a corpus directory: train it, and answer with its translations.

`python -m benchmarks.joeynmt_peer --folder build/joeynmt --corpus CORPUS --epochs 3` makes a
virtual environment for JoeyNMT in the folder, writes the rows of `train` and `valid` as plain text
and a configuration, and trains. CORPUS is one whose words stand between spaces
(`--text.normaliser tokenised`), so that both systems read the same words:

    s2s prepare base --source $S2S_DATA/multi30k/train.lc.norm.tok.en.gz \
        --valid-source $S2S_DATA/multi30k/val.lc.norm.tok.en.gz --languages en-fr \
        --text.normaliser tokenised --text.min-frequency 2 --text.vocabulary-size None \
        --corpus.clean.no-markup --corpus.clean.no-duplicate --corpus.clean.no-script --out CORPUS

The network is the closest to ours with `--model.embedding-size 256 --model.hidden-size 512
--model.bidirectional --model.attention general`: an LSTM that reads both ways, each with half of
the hidden size, one that writes, Luong's learned attention, and no input feeding.

`FOLDER/venv/bin/python benchmarks/joeynmt_peer.py --folder FOLDER --answer`, which
`benchmarks.decode` starts, loads the trained model and answers requests, one JSON object a line.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PACKAGES = ["joeynmt==2.3.0", "importlib_metadata"]
BETWEEN_LOGS = 25  # steps
FOREVER = 10**9  # steps


def main() -> None:
    """Train, or answer."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.joeynmt_peer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, required=True, help="environment, data and model")
    parser.add_argument("--corpus", type=Path, help="corpus directory to train on")
    parser.add_argument("--epochs", type=int, default=3, help="3 by default")
    parser.add_argument("--embedding", type=int, default=256, help="as --model.embedding-size")
    parser.add_argument("--hidden", type=int, default=512, help="as --model.hidden-size")
    parser.add_argument("--batch", type=int, default=64, help="pairs of a training batch")
    parser.add_argument("--max-length", type=int, default=50, help="words of a translation")
    parser.add_argument("--threads", type=int, default=2, help="of an operation")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        answer(arguments.folder, arguments.threads)
    elif arguments.corpus:
        train(arguments)
    else:
        parser.error("--corpus is needed for training")


# ---- training, in the Python of this project ----------------------------------------------------


def train(arguments: argparse.Namespace) -> None:
    """Make environment, data and configuration, and train in a process of its own."""
    folder, corpus = arguments.folder.absolute(), arguments.corpus
    manifest = json.loads((corpus / "corpus.json").read_bytes())
    settings = manifest["config"]
    if settings["text"]["normaliser"] != "tokenised":
        raise SystemExit(f"{corpus}: its words do not stand between spaces")
    folder.mkdir(parents=True, exist_ok=True)
    python = with_joeynmt(folder)
    languages = (settings["source_language"], settings["target_language"])
    rows = {part: _write(corpus / part, folder / part, languages) for part in ("train", "valid")}
    config = _config(folder, languages, settings["text"]["min_frequency"], rows, arguments)
    (folder / "config.yaml").write_text(json.dumps(config, indent=2) + "\n")  # JSON is YAML, too
    command = [python, "-m", "joeynmt", "train", folder / "config.yaml", "--skip-test"]
    threads = {"OMP_NUM_THREADS": str(arguments.threads)}
    subprocess.run(command, check=True, env={**os.environ, **threads})


def with_joeynmt(folder: Path) -> Path:
    """The Python of a virtual environment that has JoeyNMT, with the torch of this one."""
    import torch

    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        packages = [f"torch=={torch.__version__.split('+')[0]}", *PACKAGES]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def _write(part: Path, out: Path, languages: tuple[str, str]) -> int:
    """Write the rows of a part, a file for each language, and count them."""
    import datasets

    rows = datasets.load_from_disk(str(part))
    for side, language in zip(("source", "target"), languages, strict=True):
        lines = (" ".join(text.split()) for text in rows[side])
        text = "".join(f"{line}\n" for line in lines)
        out.with_suffix(f".{language}").write_text(text, encoding="utf-8")
    return len(rows)


def _config(
    folder: Path,
    languages: tuple[str, str],
    least: int,
    rows: dict[str, int],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """JoeyNMT's configuration; a word is kept that occurs `least` times."""
    vectors = {"embedding_dim": arguments.embedding, "scale": False}
    layers = {"type": "recurrent", "rnn_type": "lstm", "num_layers": 1, "embeddings": vectors}
    source, target = (
        {"lang": language, "level": "word", "voc_min_freq": least} for language in languages
    )
    # Twice an epoch; it has to be a multiple of the steps between logs.
    steps = rows["train"] // arguments.batch // 2
    between = max(BETWEEN_LOGS, steps // BETWEEN_LOGS * BETWEEN_LOGS)
    return {
        "name": "peer",
        "model_dir": str(folder / "model"),
        "use_cuda": False,
        "random_seed": 1,
        "data": {
            "train": str(folder / "train"),
            "dev": str(folder / "valid"),
            "dataset_type": "plain",
            "src": source,
            "trg": target,
        },
        "model": {
            "initializer": "xavier_uniform",
            "encoder": {**layers, "hidden_size": arguments.hidden // 2, "bidirectional": True},
            "decoder": {
                **layers,
                "hidden_size": arguments.hidden,
                "attention": "luong",
                "input_feeding": False,
                "init_hidden": "bridge",
            },
        },
        "training": {
            "epochs": arguments.epochs,
            "batch_size": arguments.batch,
            "batch_type": "sentence",
            "optimizer": "adam",
            "learning_rate": 0.001,
            "learning_rate_min": 0.0,
            "learning_rate_warmup": 0,
            "scheduling": "decaying",  # never, but one of its schedules has to be chosen
            "decaying_step_size": FOREVER,
            "clip_grad_norm": 1.0,
            "logging_freq": BETWEEN_LOGS,
            "validation_freq": between,
            "early_stopping_metric": "ppl",
            "keep_best_ckpts": 1,
            "print_valid_sents": [],  # each would be drawn, too
            "overwrite": True,
        },
        "testing": {
            "batch_size": 64,
            "batch_type": "sentence",
            "max_output_length": arguments.max_length,
            "eval_metrics": ["bleu"],
            "sacrebleu_cfg": {"tokenize": "none"},
        },
    }


# ---- translating, in the Python of the folder ---------------------------------------------------


def answer(folder: Path, threads: int) -> None:
    """Load the model, tell of it, and translate what each line of the input asks for.

    A request has `sentences`, `beam`, `batch_size`, `max_length` and `length_penalty`; an answer
    has `translations` and `seconds`, those of `predict`, and of handing the sentences over to it:
    splitting into words, batching, search, joining words.
    """
    # Answers alone go to the output: whatever else is printed goes where the log goes.
    answers, sys.stdout = sys.stdout, sys.stderr
    import torch
    from joeynmt.config import load_config, parse_global_args
    from joeynmt.prediction import predict, prepare

    torch.set_num_threads(threads)
    settings = parse_global_args(load_config(str(folder / "config.yaml")), rank=0, mode="translate")
    model, _, _, data = prepare(settings, rank=0, mode="translate")
    model.eval()
    about = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "versions": {"joeynmt": PACKAGES[0].split("==")[1], "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "vocabulary": {"source": len(model.src_vocab), "target": len(model.trg_vocab)},
    }
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        how = settings.test._replace(
            beam_size=request["beam"],
            batch_size=request["batch_size"],
            max_output_length=request["max_length"],
            beam_alpha=request["length_penalty"],
        )
        start = time.perf_counter()
        data.reset_cache()
        for sentence in request["sentences"]:
            data.set_item(sentence)
        found = predict(
            model=model,
            data=data,
            device=settings.device,
            n_gpu=0,
            normalization="none",
            args=how,
            autocast=settings.autocast,
        )
        told = {"seconds": time.perf_counter() - start, "translations": found[2]}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
