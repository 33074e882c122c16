"""Summaries of corpus and model directories, as pages."""

from pathlib import Path

import numpy as np

from s2s.corpus import Corpus, Manifest
from s2s.corpus.directory import MANIFEST, SIDES
from s2s.corpus.rules import RULES
from s2s.errors import BadInput
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.reports.blocks import Block, Curves, Histogram, Table
from s2s.reports.page import Page
from s2s.text.vocabulary import SPECIALS

SAMPLES = 5  # rows shown of each split


def inspect(path: Path) -> Page:
    """Return the summary of a corpus directory or a model directory.

    Raises:
        BadInput: `path` is neither, or broken.
    """
    if (path / MANIFEST).is_file():
        return Page(str(path), _corpus_blocks(Corpus.open(path)))
    if (path / "config.json").is_file():
        return Page(str(path), _model_blocks(ModelDirectory.load(path), RunMetrics.load(path)))
    raise BadInput(f"{path} is neither a corpus directory ({MANIFEST}) nor a model directory")


def _corpus_blocks(corpus: Corpus) -> list[Block]:
    """Return the tables of a manifest, histograms of the lengths, and samples of each split."""
    manifest = corpus.manifest
    blocks: list[Block] = [*manifest_tables(manifest)]
    for side in SIDES:
        series = {split: sides[side] for split, sides in manifest.lengths.items()}
        blocks.append(Histogram(f"Lengths of the {side}", "tokens", series))
    for split, count in manifest.rows.items():
        chosen = np.linspace(0, count - 1, min(count, SAMPLES), dtype=int)
        rows = corpus.split(split).select(chosen)
        samples = list(zip(rows["source"][:], rows["target"][:], strict=True))
        blocks.append(Table(f"Samples of {split}", SIDES, samples))
    return blocks


# Titles and headings are also keys of `s2s inspect --json`: they stay as they are.
def manifest_tables(manifest: Manifest) -> list[Table]:
    """Return tables of what `corpus.json` says of a corpus directory."""
    return [
        _settings(manifest),
        *_warnings(manifest),
        _rows(manifest),
        _several_sentences(manifest),
        *_noise(manifest),
        Table(
            "Leak: rows whose sentence is in train, too",
            ("part", "shared sources", "shared targets"),
            [(s, leak.shared_sources, leak.shared_targets) for s, leak in manifest.leak.items()],
        ),
        _references(manifest),
        *_known_words(manifest),
    ]


def _settings(manifest: Manifest) -> Table:
    config = manifest.config
    rows = [
        ("languages", f"{config.source_language} → {config.target_language}"),
        *(("source", source) for source in manifest.sources),
        *(
            (
                f"text of {side}s",
                f"{config.text.normaliser_of(side)}, of {config.text.units} tokens",
            )
            for side in SIDES
        ),
        ("split", f"{config.corpus.split}, seed {config.corpus.seed}"),
        *((f"{side} vocabulary", f"{manifest.vocabulary[side]:,}") for side in SIDES),
    ]
    return Table("Corpus", ("what", "value"), rows)


def _rows(manifest: Manifest) -> Table:
    """Return where the rows that were read went: into which split, or left out by which rule."""

    def share(rows: int) -> str:
        return f"{rows / manifest.read:.2%}"

    splits = [(split, rows, share(rows), "") for split, rows in manifest.rows.items()]
    rules = [
        (rule, rows, share(rows), RULES.get(rule, "")) for rule, rows in manifest.drops.items()
    ]
    total = ("read", manifest.read, "100.00%", "")
    return Table("Rows", ("part, or rule", "rows", "share", "left out"), [*splits, *rules, total])


def _warnings(manifest: Manifest) -> list[Table]:
    """Return what is probably wrong with the corpus, if anything is."""
    rows = [(warning.kind, warning.text) for warning in manifest.warnings]
    return [Table("Warnings", ("warning", "text"), rows)] if rows else []


def _several_sentences(manifest: Manifest) -> Table:
    rows = [
        (split, rows, f"{rows / max(manifest.rows[split], 1):.2%}")
        for split, rows in manifest.several_sentences.items()
    ]
    return Table("Sources of several sentences", ("part", "rows", "share"), rows)


def _noise(manifest: Manifest) -> list[Table]:
    """Return how many rows of `train` have noise, if any have."""
    rows = [
        (kind, rows, f"{rows / max(manifest.rows['train'], 1):.2%}")
        for kind, rows in manifest.noise.items()
    ]
    return [Table("Rows of train with noise", ("noise", "rows", "share"), rows)] if rows else []


def _references(manifest: Manifest) -> Table:
    counts = (1, 2, 3, 4)
    rows = [
        (
            split,
            *(sources.get(count, 0) for count in counts),
            sum(number for count, number in sources.items() if count > counts[-1]),
        )
        for split, sources in manifest.references.items()
    ]
    headings = ("part", *map(str, counts), "5 or more")
    return Table("References: sources by their number of targets", headings, rows)


def _known_words(manifest: Manifest) -> list[Table]:
    """Return how many words of each split the vocabularies know, and which they do not."""
    known = [
        (split, side, known)
        for split, sides in manifest.known.items()
        for side, known in sides.items()
    ]
    return [
        Table(
            "What the vocabularies know",
            ("part", "side", "words", "different", "of these known", "unknown words"),
            [
                (split, side, k.words, k.distinct, f"{k.coverage:.2%}", f"{k.unknown_rate:.2%}")
                for split, side, k in known
            ],
        ),
        Table(
            "Most frequent unknown words",
            ("part", "side", "words"),
            [
                (
                    split,
                    side,
                    ", ".join(f"{w} {n}" for w, n in k.frequent_unknown.items()) or "none",
                )
                for split, side, k in known
            ],
        ),
    ]


def _model_blocks(directory: ModelDirectory, metrics: RunMetrics) -> list[Block]:
    """Return tables of settings and scores, and curves over the epochs."""
    config, epochs = directory.config, metrics.epochs
    parameters = sum(weights.numel() for weights in directory.model.parameters())
    rows = [
        ("languages", f"{config.source_language} → {config.target_language}"),
        ("parameters", f"{parameters:,}"),
        ("source vocabulary", f"{len(directory.source) - len(SPECIALS):,}"),
        ("target vocabulary", f"{len(directory.target) - len(SPECIALS):,}"),
        *config.model.model_dump().items(),
        *((f"train.{name}", value) for name, value in config.train.model_dump().items()),
        ("trained on", ", ".join(metrics.corpus.sources)),
        *((f"version of {name}", version) for name, version in metrics.versions.items()),
    ]
    blocks: list[Block] = [Table("Model", ("what", "value"), rows)]
    if metrics.scores:
        scores = [(s.name, f"{s.score:.2f}", s.references, s.signature) for s in metrics.scores]
        headings = ("score", "value", "references", "signature")
        blocks.append(Table("Scores on valid", headings, scores))
    if epochs:
        numbers = [epoch.epoch for epoch in epochs]
        losses = {
            "train_loss": [epoch.train_loss for epoch in epochs],
            "valid_loss": [epoch.valid_loss for epoch in epochs],
        }
        accuracies = {
            "valid_token_accuracy": [epoch.valid_token_accuracy for epoch in epochs],
            "valid_padded_accuracy": [epoch.valid_padded_accuracy for epoch in epochs],
        }
        blocks.append(Curves("Loss, nats per token", numbers, losses))
        blocks.append(Curves("Accuracy on valid", numbers, accuracies))
        scored = {e.epoch: e.valid_bleu for e in epochs if e.valid_bleu is not None}
        if scored:
            bleu = {"valid_bleu": list(scored.values())}
            blocks.append(Curves("BLEU on valid, greedy", list(scored), bleu))
    return blocks
