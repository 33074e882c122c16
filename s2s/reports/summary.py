"""What a corpus or model directory holds, told in a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from s2s.corpus import Corpus, Manifest
from s2s.corpus.directory import MANIFEST, SIDES
from s2s.corpus.rules import RULES
from s2s.errors import BadInput
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import EpochRecord
from s2s.reports.page import Curves, Histogram, Page, Table
from s2s.text.vocabulary import SPECIALS

SAMPLES = 5  # rows shown of each part


def inspect(path: Path) -> Page:
    """The page of a corpus directory or a model directory.

    Raises:
        BadInput: `path` is neither, or broken.
    """
    if (path / MANIFEST).is_file():
        return _corpus(Corpus.open(path))
    if (path / "config.json").is_file():
        return _model(path, ModelDirectory.load(path))
    raise BadInput(f"{path} is neither a corpus directory ({MANIFEST}) nor a model directory")


def _corpus(corpus: Corpus) -> Page:
    manifest, page = corpus.manifest, Page(str(corpus.path), [*manifest_tables(corpus.manifest)])
    say = page.blocks.append
    for side in SIDES:
        series = {part: sides[side] for part, sides in manifest.lengths.items()}
        say(Histogram(f"Lengths of the {side}", "tokens", series))
    for part, count in manifest.rows.items():
        rows = corpus.split(part).select(np.linspace(0, count - 1, min(count, SAMPLES), dtype=int))
        samples = list(zip(rows["source"][:], rows["target"][:], strict=True))
        say(Table(f"Samples of {part}", SIDES, samples))
    return page


def manifest_tables(manifest: Manifest) -> list[Table]:
    """What `corpus.json` says of a corpus directory."""
    config = manifest.config
    kept = [(part, rows, f"{rows / manifest.read:.2%}", "") for part, rows in manifest.rows.items()]
    left_out = [
        (rule, rows, f"{rows / manifest.read:.2%}", RULES.get(rule, ""))
        for rule, rows in manifest.drops.items()
    ]
    total = ("read", manifest.read, "100.00%", "")
    counts = [1, 2, 3, 4]
    return [
        Table(
            "Corpus",
            ("what", "value"),
            [
                ("languages", f"{config.source_language} → {config.target_language}"),
                *(("source", source) for source in manifest.sources),
                ("text", f"{config.text.normaliser}, tokens are of kind {config.text.units}"),
                ("split", f"{config.corpus.split}, seed {config.corpus.seed}"),
                *((f"{side} vocabulary", f"{manifest.vocabulary[side]:,}") for side in SIDES),
            ],
        ),
        Table("Rows", ("part, or rule", "rows", "share", "left out"), [*kept, *left_out, total]),
        Table(
            "Leak: rows whose sentence is in train, too",
            ("part", "shared sources", "shared targets"),
            [(p, leak.shared_sources, leak.shared_targets) for p, leak in manifest.leak.items()],
        ),
        Table(
            "References: sources by their number of targets",
            ("part", *map(str, counts), "5 or more"),
            [
                (
                    part,
                    *(sources.get(n, 0) for n in counts),
                    sum(rows for n, rows in sources.items() if n > counts[-1]),
                )
                for part, sources in manifest.references.items()
            ],
        ),
        Table(
            "What the vocabularies know",
            ("part", "side", "words", "different", "of these known", "unknown words"),
            [
                (part, side, k.words, k.distinct, f"{k.coverage:.2%}", f"{k.unknown_rate:.2%}")
                for part, sides in manifest.known.items()
                for side, k in sides.items()
            ],
        ),
        Table(
            "Most frequent unknown words",
            ("part", "side", "words"),
            [
                (part, side, ", ".join(f"{w} {n}" for w, n in k.frequent_unknown.items()) or "none")
                for part, sides in manifest.known.items()
                for side, k in sides.items()
            ],
        ),
    ]


def _model(path: Path, directory: ModelDirectory) -> Page:
    page = Page(str(path))
    say = page.blocks.append
    config, metrics = directory.config, metrics_of(path)
    parameters = sum(weights.numel() for weights in directory.model.parameters())
    say(
        Table(
            "Model",
            ("what", "value"),
            [
                ("languages", f"{config.source_language} → {config.target_language}"),
                ("parameters", f"{parameters:,}"),
                ("source vocabulary", f"{len(directory.source) - len(SPECIALS):,}"),
                ("target vocabulary", f"{len(directory.target) - len(SPECIALS):,}"),
                *config.model.model_dump().items(),
                *((f"train.{name}", value) for name, value in config.train.model_dump().items()),
                ("trained on", ", ".join(metrics.get("corpus", {}).get("sources", []))),
                *((f"version of {name}", n) for name, n in metrics.get("versions", {}).items()),
            ],
        )
    )
    if scores := metrics.get("scores"):
        rows = [(s["name"], f"{s['score']:.2f}", s["references"], s["signature"]) for s in scores]
        say(Table("Scores on valid", ("score", "value", "references", "signature"), rows))
    if epochs := metrics.get("epochs"):
        numbers = [epoch["epoch"] for epoch in epochs]
        for title, names in {
            "Loss, nats per token": ("train_loss", "valid_loss"),
            "Accuracy on valid": ("valid_token_accuracy", "valid_padded_accuracy"),
        }.items():
            series = {name: [epoch[name] for epoch in epochs] for name in names}
            say(Curves(title, numbers, series))
    return page


def metrics_of(path: Path) -> dict[str, Any]:
    """What `metrics.json` of a model directory says.

    Raises:
        BadInput: the file is absent or broken.
    """
    try:
        told: dict[str, Any] = json.loads((path / "metrics.json").read_bytes())
        for record in told.get("epochs", []):
            EpochRecord(**record)
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise BadInput(f"{path / 'metrics.json'} tells no training run: {error}") from None
    return told
