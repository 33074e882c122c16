"""Tables of what the manifest of a corpus says, for HTML pages."""

from collections.abc import Mapping

from s2s.corpus import Manifest
from s2s.corpus.directory import NOISES, SIDES, Noise
from s2s.corpus.rules import REMEDIES, RULES
from s2s.reports.blocks import Table, quantile
from s2s.reports.elements import Html, element, join, value_bar, with_options
from s2s.text.vocabulary import without_spacing

_REFERENCES = (1, 2, 3, 4)  # numbers of targets of a source that have a column each
_SHARES = {
    "median": 0.5,
    "95\xa0%": 0.95,
    "99\xa0%": 0.99,
    "longest": 1.0,
}
_NOISES: dict[Noise, str] = {
    "typos": "a typo in the source",
    "unknown_words": "a shared word made unknown on both sides",
}


def splits_table(manifest: Manifest) -> Table:
    """Return the sizes of the splits."""
    rows = [
        (
            split,
            rows,
            value_bar(100 * rows / (manifest.read or 1), f"{rows / (manifest.read or 1):.1%}"),
            sum(manifest.references[split].values()),
            _share(manifest.several_sentences.get(split, 0), rows),
        )
        for split, rows in manifest.rows.items()
    ]
    headings = ("split", "pairs", "of the rows read", "distinct sources", "several sentences")
    return Table("Splits", headings, rows)


def left_out_table(manifest: Manifest) -> Table:
    """Return how many rows each rule leaves out, the most first."""
    dropped = sorted(manifest.drops.items(), key=lambda drop: -drop[1])
    rows = [(_meaning(rule), rows, _share(rows, manifest.read)) for rule, rows in dropped if rows]
    return Table("Rows left out, by rule", ("rule", "rows", "share"), rows)


def _meaning(rule: str) -> Html:
    """Return the name of a rule, what it leaves out, and what to do about it."""
    lines = [RULES.get(rule, ""), with_options(REMEDIES.get(rule, ""))]
    return join([element("b", rule), *(element("small", line) for line in lines if line)])


def noise_table(manifest: Manifest) -> Table:
    """Return how many rows of `train` have noise."""
    rows = [
        (_NOISES[kind], manifest.noise[kind], _share(manifest.noise[kind], manifest.rows["train"]))
        for kind in NOISES
        if kind in manifest.noise
    ]
    return Table("Noise in train", ("noise", "pairs", "share"), rows)


def lengths_table(manifest: Manifest) -> Table:
    """Return the mean and quantiles of the lengths, by split and side."""
    rows = [
        (
            split,
            side,
            f"{mean_length(sides[side]):.1f}",
            *(quantile(sides[side], share) for share in _SHARES.values()),
        )
        for split, sides in manifest.lengths.items()
        for side in SIDES
    ]
    return Table("Lengths in tokens", ("split", "side", "mean", *_SHARES), rows)


def mean_length(lengths: Mapping[int, int]) -> float:
    """Return the mean of lengths, given the number of rows of each."""
    return sum(length * rows for length, rows in lengths.items()) / (sum(lengths.values()) or 1)


def coverage_table(manifest: Manifest) -> Table:
    """Return how many words of each split the vocabularies know."""
    rows = [
        (
            split,
            side,
            known.words,
            known.distinct,
            f"{known.coverage:.2%}",
            f"{known.unknown_rate:.2%}",
        )
        for split, sides in manifest.known.items()
        for side, known in sides.items()
    ]
    headings = ("split", "side", "words", "distinct", "distinct known", "unknown")
    return Table("Words that the vocabularies know", headings, rows)


def unknown_words_table(manifest: Manifest) -> Table:
    """Return the most frequent unknown words of each split, where there are any."""
    rows = [
        (split, side, _counted(known.frequent_unknown))
        for split, sides in manifest.known.items()
        for side, known in sides.items()
        if known.frequent_unknown
    ]
    return Table("Most frequent unknown words", ("split", "side", "words and counts"), rows)


def lost_letters_table(manifest: Manifest) -> Table:
    """Return the letters of each side that its normaliser loses."""
    rows = [
        (side, f"{lost.share:.2%}", _counted(lost.lost))
        for side, lost in manifest.lost_letters.items()
        if lost.lost
    ]
    headings = ("side", "share", "letters and counts")
    return Table("Letters that the normaliser loses", headings, rows)


def leak_table(manifest: Manifest) -> Table:
    """Return how many held-out rows have a sentence that is in `train`."""
    rows = [
        (
            split,
            leak.shared_sources,
            _share(leak.shared_sources, manifest.rows[split]),
            leak.shared_targets,
            _share(leak.shared_targets, manifest.rows[split]),
        )
        for split, leak in manifest.leak.items()
    ]
    headings = ("split", "sources", "share", "targets", "share")
    return Table("Held-out sentences that are in train", headings, rows)


def references_table(manifest: Manifest) -> Table:
    """Return how many sources of each split have one target, two, and so on."""
    rows = [
        (
            split,
            *(sources.get(count, 0) for count in _REFERENCES),
            sum(number for count, number in sources.items() if count > _REFERENCES[-1]),
        )
        for split, sources in manifest.references.items()
    ]
    headings = ("split", *map(str, _REFERENCES), "5 or more")
    return Table("Sources by their number of targets", headings, rows)


def _counted(counts: Mapping[str, int]) -> Html:
    """Return words with their counts."""
    items = (
        element("span", without_spacing(word), element("small", number))
        for word, number in counts.items()
    )
    return element("span", *items, class_="counts")


def _share(rows: int, of: int) -> str:
    return f"{rows / (of or 1):.2%}"
