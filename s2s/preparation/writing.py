"""Writing of a corpus directory: the stages from the splits of all rows to the manifest."""

from dataclasses import replace
from pathlib import Path

import datasets
import tokenizers

from s2s import __version__
from s2s.config import DataConfig
from s2s.corpus.directory import (
    MANIFEST,
    NOISES,
    SIDES,
    Leak,
    Manifest,
    Noise,
    write_split_metadata,
)
from s2s.corpus.warnings import corpus_warnings
from s2s.files import sha256, write_text
from s2s.preparation.execution import Runner
from s2s.preparation.job import SHARD_BYTES, Shard
from s2s.preparation.outcomes import EncodeOutcome, LearnOutcome
from s2s.preparation.selection import Selection
from s2s.preparation.stages import ENCODE, JOIN, LEARN
from s2s.preparation.tables import sum_histograms


def write_corpus(selection: Selection, vocabularies: Path | None, runner: Runner) -> Manifest:
    """Run the stages that learn vocabularies and write the corpus directory in the job's folder.

    Args:
        vocabularies: directory whose vocabularies are used; None learns them.

    Raises:
        BadInput: a vocabulary cannot be read, or would have nothing but marks.
    """
    job = replace(selection.job, vocabularies=vocabularies)
    split_rows = selection.split_rows
    for split in split_rows:
        (job.corpus_folder / split).mkdir(parents=True, exist_ok=True)
    learned = runner.run(job, LEARN, 1 if job.config.text.shared else 2)
    vocabulary = {side: size for each in learned for side, size in each.vocabulary.items()}
    runner.progress.log(
        ("learned " if vocabularies is None else "reused ")
        + ", ".join(f"{vocabulary[side]:,} {side} {_units(job.config)}" for side in SIDES)
    )
    encoded = runner.run(job, ENCODE, len(job.chunks))
    job = replace(
        job, shards=tuple(shard for split in split_rows for shard in _shards(split, encoded))
    )
    joined = runner.run(job, JOIN, len(job.shards))
    for split in split_rows:
        names = [shard.name for shard in job.shards if shard.split == split]
        write_split_metadata(job.corpus_folder / split, names)
    runner.progress.log(
        "wrote " + ", ".join(f"{rows:,} {split} pairs" for split, rows in split_rows.items())
    )
    noise = _noise(job.config, encoded)
    if noise:
        runner.progress.log(
            "of the train pairs, "
            + ", ".join(f"{rows:,} {_OF_NOISE[kind]}" for kind, rows in noise.items())
        )
    hashes = {shard.path: outcome.sha256 for shard, outcome in zip(job.shards, joined, strict=True)}
    hashes |= {f"{side}.json": sha256(job.corpus_folder / f"{side}.json") for side in SIDES}
    manifest = _manifest(selection, vocabulary, learned, encoded, hashes)
    warnings = (*selection.notes.warnings, *corpus_warnings(manifest))
    manifest = manifest.model_copy(update={"warnings": warnings})
    write_text(job.corpus_folder / MANIFEST, manifest.to_json())
    return manifest


def _shards(split: str, encoded: list[EncodeOutcome]) -> list[Shard]:
    """Return the shards of a split: consecutive chunks of `SHARD_BYTES` at most."""
    groups: list[list[int]] = [[]]
    size = 0
    for number, outcome in enumerate(encoded):
        chunk_bytes = outcome.file_bytes.get(split, 0)
        if groups[-1] and size + chunk_bytes > SHARD_BYTES:
            groups.append([])
            size = 0
        if chunk_bytes:
            groups[-1].append(number)
            size += chunk_bytes
    return [Shard(split, index, len(groups), tuple(chunks)) for index, chunks in enumerate(groups)]


def _manifest(
    selection: Selection,
    vocabulary: dict[str, int],
    learned: list[LearnOutcome],
    encoded: list[EncodeOutcome],
    hashes: dict[str, str],
) -> Manifest:
    config, split_rows = selection.job.config, selection.split_rows
    return Manifest(
        sources=tuple(
            dict.fromkeys(
                f"{origin.split}: {origin.label}" if origin.split else origin.label
                for origin in selection.job.origins
            )
        ),
        read=selection.rows_read,
        drops={rule: count for rule, count in sorted(selection.left_out.drops.items()) if count},
        left_out=selection.left_out_of_provided,
        rows=split_rows,
        several_sentences={
            split: sum(each.several_sentences.get(split, 0) for each in encoded)
            for split in split_rows
        },
        noise=_noise(config, encoded),
        leak={
            split: Leak(
                shared_sources=sum(each.shared_sources[split] for each in selection.grouped),
                shared_targets=sum(each.shared_targets[split] for each in selection.selected),
            )
            for split in split_rows
            if split != "train"
        },
        references={
            split: sum_histograms(each.references[split] for each in selection.grouped)
            for split in split_rows
        },
        vocabulary=vocabulary,
        known={
            split: {
                side: coverage
                for each in learned
                for side, coverage in each.coverage[split].items()
            }
            for split in split_rows
        },
        lost_letters=selection.lost_letters,
        lengths={
            split: {
                side: sum_histograms(
                    each.lengths[split][side] for each in encoded if split in each.lengths
                )
                for side in SIDES
            }
            for split in split_rows
        },
        sha256=hashes,
        versions=library_versions(),
        # Of a whole `Config`, the data half alone.
        config=DataConfig(**{name: getattr(config, name) for name in DataConfig.model_fields}),
    )


_OF_NOISE: dict[Noise, str] = {
    "typos": "have a typo in the source",
    "unknown_words": "share a word that is read as unknown",
}


def _noise(config: DataConfig, encoded: list[EncodeOutcome]) -> dict[Noise, int]:
    """Return how many rows of `train` each kind of noise changed that the settings ask for."""
    return {
        kind: sum(each.noise.get(kind, 0) for each in encoded)
        for kind in NOISES
        if getattr(config.corpus, kind)
    }


def _units(config: DataConfig) -> str:
    return "words" if config.text.units == "word" else "subwords"


def library_versions() -> dict[str, str]:
    """Return the versions of s2s and of the libraries on which a corpus depends."""
    return {
        "s2s": __version__,
        "datasets": datasets.__version__,
        "tokenizers": tokenizers.__version__,
    }
