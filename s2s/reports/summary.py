"""Summaries of corpus, model and sweep directories: on a terminal, or as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from s2s.console import printable
from s2s.corpus import Corpus, Manifest
from s2s.corpus.directory import MANIFEST, SIDES
from s2s.corpus.rules import RULES
from s2s.errors import BadInput
from s2s.locations import with_locations
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.reports.blocks import Block, Curves, Histogram, Table
from s2s.reports.elements import as_text
from s2s.reports.sweep_tables import (
    axes_table,
    best_settings_table,
    best_table,
    failures_table,
    overview_table,
    trials_table,
)
from s2s.text.vocabulary import SPECIALS, without_spacing
from s2s.tuning.trials import SWEEP, Sweep

SAMPLES = 5  # rows shown of each split


@dataclass(frozen=True)
class Summary:
    """What a directory holds: blocks in order."""

    path: str
    blocks: list[Block] = field(default_factory=list)


def summarise(path: Path) -> Summary:
    """Return the summary of a corpus, model or sweep directory.

    Raises:
        BadInput: `path` is none of them, or broken.
    """
    kind = kind_of(path)
    if kind == "corpus":
        return Summary(with_locations(str(path)), _corpus_blocks(Corpus.open(path)))
    if kind == "sweep":
        return Summary(with_locations(str(path)), _sweep_blocks(Sweep.load(path)))
    blocks = _model_blocks(ModelDirectory.load(path), RunMetrics.load(path))
    return Summary(with_locations(str(path)), blocks)


def kind_of(path: Path) -> Literal["corpus", "model", "sweep"]:
    """Return what a directory is of.

    Raises:
        BadInput: it is of nothing that s2s has made.
    """
    if (path / MANIFEST).is_file():
        return "corpus"
    if (path / "config.json").is_file():
        return "model"
    if (path / SWEEP).is_file():
        return "sweep"
    raise BadInput(
        f"{path} is neither a corpus directory ({MANIFEST}) nor a model directory (config.json) "
        f"nor a sweep directory ({SWEEP})"
    )


def show(summary: Summary, console: Console) -> None:
    """Print a summary on a terminal."""
    console.rule(printable(summary.path))
    for block in summary.blocks:
        table = RichTable(title=block.title, title_justify="left", title_style="bold")
        rows = block.lines()
        for number, heading in enumerate(block.headings):
            numeric = isinstance(block, Table) and all(isinstance(row[number], int) for row in rows)
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(printable(as_text(value)) for value in row))
        console.print(table)


def as_json(summary: Summary) -> str:
    """Return a summary as JSON: its blocks by their titles."""
    blocks = {block.title: block.plain() for block in summary.blocks}
    return json.dumps({"path": summary.path, **blocks}, indent=2, ensure_ascii=False)


def _sweep_blocks(sweep: Sweep) -> list[Block]:
    tables = (overview_table, axes_table, best_settings_table, best_table, failures_table)
    first = [table for table in (of(sweep) for of in tables) if table.rows]
    return [*first, trials_table(sweep, brief=True)]


def _corpus_blocks(corpus: Corpus) -> list[Block]:
    """Return the tables of a manifest, histograms of the lengths, and samples of each split."""
    manifest = corpus.manifest
    blocks: list[Block] = [*_manifest_tables(manifest)]
    for side in SIDES:
        series = {split: sides[side] for split, sides in manifest.lengths.items()}
        blocks.append(Histogram(f"Lengths of the {side}", "tokens", series))
    samples = (
        Table(f"Samples of {split}", SIDES, spread_pairs(corpus, split, SAMPLES))
        for split in manifest.rows
    )
    return [*blocks, *samples]


def spread_pairs(corpus: Corpus, split: str, most: int) -> list[tuple[str, str]]:
    """Return at most so many pairs of a split, from its first row to its last, evenly spaced."""
    count = corpus.manifest.rows[split]
    rows = corpus.split(split).select(np.linspace(0, count - 1, min(count, most), dtype=int))
    return list(zip(rows["source"][:], rows["target"][:], strict=True))


# Titles and headings are also keys of `s2s inspect --json`: they stay as they are.
def _manifest_tables(manifest: Manifest) -> list[Table]:
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
                    ", ".join(f"{without_spacing(w)} {n}" for w, n in k.frequent_unknown.items())
                    or "none",
                )
                for split, side, k in known
            ],
        ),
    ]


def _counted(words: Mapping[str, int]) -> str:
    return ", ".join(f"{without_spacing(word)} {number}" for word, number in words.items())


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
