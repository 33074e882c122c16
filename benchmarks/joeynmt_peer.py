r"""JoeyNMT on the rows of a corpus directory: training, and a process that translates.

`python -m benchmarks.joeynmt_peer --folder build/joeynmt --corpus CORPUS --epochs 3` creates a
virtual environment for JoeyNMT in the folder, writes the rows of `train` and `valid` as plain text,
writes a configuration, and trains. The words of CORPUS have to be separated by spaces
(`--text.normaliser tokenised`), so that both systems read the same tokens:

    s2s prepare base --source $S2S_DATA/multi30k/train.lc.norm.tok.en.gz \
        --valid-source $S2S_DATA/multi30k/val.lc.norm.tok.en.gz --languages en-fr \
        --text.units word --text.normaliser tokenised --text.min-frequency 2 \
        --text.vocabulary-size None --corpus.typos 0 --corpus.unknown-words 0 \
        --corpus.clean.no-markup --corpus.clean.no-duplicate --corpus.clean.no-script --out CORPUS

The network is as close as possible to that of `s2s` with `--model.embedding-size 256
--model.hidden-size 512 --model.bidirectional --model.attention general`: a bidirectional LSTM
encoder with half of the hidden size in each direction, an LSTM decoder, Luong's attention of the
kind `general`, and no input feeding.

`FOLDER/venv/bin/python benchmarks/joeynmt_peer.py --folder FOLDER --answer`, which
`benchmarks.decode` starts, loads the trained model and answers requests, one JSON object per line.
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
LOG_STEPS = 25
NEVER = 10**9  # steps


def main() -> None:
    """Train; or answer requests, with `--answer`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.joeynmt_peer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder for environment, data, model"
    )
    parser.add_argument("--corpus", type=Path, help="corpus directory to train on")
    parser.add_argument("--epochs", type=int, default=3, help="default: 3")
    parser.add_argument("--embedding", type=int, default=256, help="as --model.embedding-size")
    parser.add_argument("--hidden", type=int, default=512, help="as --model.hidden-size")
    parser.add_argument("--batch", type=int, default=64, help="pairs in a training batch")
    parser.add_argument("--max-length", type=int, default=50, help="tokens in a translation")
    parser.add_argument("--threads", type=int, default=2, help="threads of one operation")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        answer(arguments.folder, arguments.threads)
    elif arguments.corpus:
        train(arguments)
    else:
        parser.error("training needs --corpus")


# ---- training, in the Python of this project ----------------------------------------------------


def train(arguments: argparse.Namespace) -> None:
    """Create environment, data and configuration, and train in a separate process."""
    folder, corpus = arguments.folder.absolute(), arguments.corpus
    manifest = json.loads((corpus / "corpus.json").read_bytes())
    settings = manifest["config"]
    if settings["text"]["normaliser"] != "tokenised":
        raise SystemExit(f"{corpus}: not prepared with --text.normaliser tokenised")
    folder.mkdir(parents=True, exist_ok=True)
    python = joeynmt_python(folder)
    languages = (settings["source_language"], settings["target_language"])
    rows = {
        split: _write_split(corpus / split, folder / split, languages)
        for split in ("train", "valid")
    }
    config = _config(folder, languages, settings["text"]["min_frequency"] or 1, rows, arguments)
    (folder / "config.yaml").write_text(json.dumps(config, indent=2) + "\n")  # JSON is YAML, too
    command = [python, "-m", "joeynmt", "train", folder / "config.yaml", "--skip-test"]
    threads = {"OMP_NUM_THREADS": str(arguments.threads)}
    subprocess.run(command, check=True, env={**os.environ, **threads})


def joeynmt_python(folder: Path) -> Path:
    """Return the Python of a virtual environment with JoeyNMT, which is created if missing.

    Its version of torch is that of the running Python.
    """
    import torch

    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        packages = [f"torch=={torch.__version__.split('+')[0]}", *PACKAGES]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def _write_split(split: Path, out: Path, languages: tuple[str, str]) -> int:
    """Write the rows of a split as text, a file for each language; return the number of rows."""
    import datasets

    rows = datasets.load_from_disk(str(split))
    for side, language in zip(("source", "target"), languages, strict=True):
        lines = (" ".join(text.split()) for text in rows[side])
        text = "".join(f"{line}\n" for line in lines)
        out.with_suffix(f".{language}").write_text(text, encoding="utf-8")
    return len(rows)


def _config(
    folder: Path,
    languages: tuple[str, str],
    min_frequency: int,
    rows: dict[str, int],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return JoeyNMT's configuration.

    Args:
        min_frequency: occurrences that a word needs to get into a vocabulary.
        rows: number of rows of each split.
    """
    vectors = {"embedding_dim": arguments.embedding, "scale": False}
    layers = {"type": "recurrent", "rnn_type": "lstm", "num_layers": 1, "embeddings": vectors}
    source, target = (
        {"lang": language, "level": "word", "voc_min_freq": min_frequency} for language in languages
    )
    # Validation is twice an epoch, after a multiple of the steps between logs, as JoeyNMT demands.
    steps = rows["train"] // arguments.batch // 2
    validation_steps = max(LOG_STEPS, steps // LOG_STEPS * LOG_STEPS)
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
            "scheduling": "decaying",  # JoeyNMT demands a schedule; this one never decays
            "decaying_step_size": NEVER,
            "clip_grad_norm": 1.0,
            "logging_freq": LOG_STEPS,
            "validation_freq": validation_steps,
            "early_stopping_metric": "ppl",
            "keep_best_ckpts": 1,
            "print_valid_sents": [],  # JoeyNMT would also plot the attention of each
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
    """Load the model, print its description, and answer the requests of standard input.

    A request has `sentences`, `beam`, `batch_size`, `max_length` and `length_penalty`; an answer
    has `translations` and `seconds`. The time covers JoeyNMT's `predict` and setting its input:
    tokenising, batching, search and detokenising.
    """
    # Standard output is for answers alone; whatever JoeyNMT prints goes to the log.
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
        test_settings = settings.test._replace(
            beam_size=request["beam"],
            batch_size=request["batch_size"],
            max_output_length=request["max_length"],
            beam_alpha=request["length_penalty"],
        )
        start = time.perf_counter()
        data.reset_cache()
        for sentence in request["sentences"]:
            data.set_item(sentence)
        predictions = predict(
            model=model,
            data=data,
            device=settings.device,
            n_gpu=0,
            normalization="none",
            args=test_settings,
            autocast=settings.autocast,
        )
        response = {"seconds": time.perf_counter() - start, "translations": predictions[2]}
        print(json.dumps(response), file=answers, flush=True)


if __name__ == "__main__":
    main()
