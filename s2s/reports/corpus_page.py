"""The HTML page of a corpus: what it holds, what was left out, and what is probably wrong."""

from s2s.corpus import Corpus, Manifest
from s2s.corpus.directory import SIDES
from s2s.reports.blocks import Histogram, Table, titled
from s2s.reports.cards import card, cards
from s2s.reports.corpus_tables import (
    coverage_table,
    leak_table,
    left_out_table,
    lengths_table,
    lost_letters_table,
    mean_length,
    noise_table,
    references_table,
    splits_table,
    unknown_words_table,
)
from s2s.reports.elements import Html, element, join, with_options
from s2s.reports.page import Header, Tile, page
from s2s.reports.settings import settings_section
from s2s.reports.summary import spread_pairs

SAMPLES = 6  # pairs shown of each split


def corpus_page(corpus: Corpus, name: str) -> str:
    """Return the page of a corpus as an HTML file that needs no other file.

    Args:
        name: what the page calls the corpus.

    Raises:
        BadInput: a split cannot be read, or matplotlib is not installed.
    """
    manifest = corpus.manifest
    sections = {
        "Warnings": _warnings(manifest),
        "Rows": _rows(manifest),
        "Lengths": _lengths(manifest),
        "Vocabularies": _vocabularies(manifest),
        "Held-out splits": _held_out(manifest),
        "Samples": _samples(corpus),
        "Settings": settings_section(manifest.config),
        "Sources and versions": _origin(corpus),
    }
    return page(_header(manifest, name), sections)


def _header(manifest: Manifest, name: str) -> Header:
    text, left_out = manifest.config.text, sum(manifest.drops.values())
    units = "words" if text.units == "word" else f"subwords ({text.units})"
    held_out = " and ".join(f"{manifest.rows[s]:,} in {s}" for s in manifest.leak)
    tiles = [
        *(
            Tile(f"{split} pairs", f"{rows:,}", f"{rows / (manifest.read or 1):.1%} of the rows")
            for split, rows in manifest.rows.items()
        ),
        Tile("left out", f"{left_out:,}", f"of {manifest.read:,} rows read"),
        *(
            Tile(f"{side} vocabulary", f"{manifest.vocabulary[side]:,}", units)
            for side in SIDES
        ),
        *(
            Tile(f"unknown {side} words", f"{known.unknown_rate:.2%}", "of the words of valid")
            for side, known in manifest.known["valid"].items()
        ),
    ]  # fmt: skip
    lead = (
        f"{manifest.rows['train']:,} pairs to train on, and held out {held_out}. Models read "
        f"{text.normaliser_of('source')} sources and write {text.normaliser_of('target')} targets, "
        f"both as {units}."
    )
    return Header("Corpus", name, manifest.config, lead, tiles)


def _warnings(manifest: Manifest) -> Html:
    if not manifest.warnings:
        return element("p", "None.")
    items = (
        element("li", element("b", warning.kind.replace("_", " ")), " ", with_options(warning.text))
        for warning in manifest.warnings
    )
    return element("ul", *items, class_="warnings")


def _rows(manifest: Manifest) -> Html:
    left_out = left_out_table(manifest)
    tables = [splits_table(manifest), noise_table(manifest)]
    return join(
        [
            element("div", *_filled(tables), class_="grid bars"),
            titled(left_out) if left_out.rows else element("p", "No row was left out."),
        ]
    )


def _lengths(manifest: Manifest) -> Html:
    plots = [
        Histogram(
            f"Lengths of the {side}",
            "tokens",
            {split: sides[side] for split, sides in manifest.lengths.items()},
        )
        for side in SIDES
    ]
    source, target = (mean_length(manifest.lengths["train"][side]) for side in SIDES)
    note = (
        f"A target of train has {target / (source or 1):.2f} times as many tokens as its source. "
        "The mark of its end counts. Training and --decode.max-length count these tokens."
    )
    return join(
        [
            element("div", *map(titled, plots), class_="grid"),
            element("p", note, class_="note"),
            titled(lengths_table(manifest)),
        ]
    )


def _vocabularies(manifest: Manifest) -> Html:
    unknown = unknown_words_table(manifest)
    tables = [coverage_table(manifest), unknown, lost_letters_table(manifest)]
    none = Html("") if unknown.rows else element("p", "No word of any split is unknown.")
    return join([*_filled(tables), none])


def _held_out(manifest: Manifest) -> Html:
    note = "Sentences are compared without case, punctuation and spaces."
    tables = [leak_table(manifest), references_table(manifest)]
    return join(
        [element("div", *_filled(tables), class_="grid"), element("p", note, class_="note")]
    )


def _samples(corpus: Corpus) -> Html:
    config = corpus.manifest.config
    languages = (config.source_language, config.target_language)
    return join(
        element(
            "div",
            element("h3", split),
            cards(
                card(list(zip(SIDES, pair, languages, strict=True)))
                for pair in spread_pairs(corpus, split, SAMPLES)
            ),
            class_="block",
        )
        for split in corpus.manifest.rows
    )


def _origin(corpus: Corpus) -> Html:
    sources = Table("Sources", ("files or data set",), [(s,) for s in corpus.manifest.sources])
    versions = [*corpus.manifest.versions.items(), ("SHA-256 of corpus.json", corpus.sha256)]
    tables = [sources, Table("Versions", ("library", "version"), versions)]
    return element("div", *_filled(tables), class_="grid")


def _filled(tables: list[Table]) -> list[Html]:
    """Return those tables that have rows, under their titles."""
    return [titled(table) for table in tables if table.rows]
