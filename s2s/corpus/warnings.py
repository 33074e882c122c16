"""Warnings of a corpus: what its numbers say is probably wrong, a function for each.

`prepare` keeps them in the manifest; `prepare`, `inspect` and `train` show them. A warning says
what was found and which option changes it; what cannot work at all is refused instead.
"""

from collections.abc import Callable, Iterator, Mapping

from s2s.config import DecodeConfig
from s2s.corpus.directory import SIDES, CorpusWarning, Manifest
from s2s.corpus.rules import REMEDIES

_FEW_PAIRS = 1_000  # with which a model learns its sentences by heart
_FEW_HELD_OUT = 10  # rows whose scores are chance
_UNKNOWN = 0.2  # share of the running words
_FEW_TOKENS = 20
_OFTEN_ENOUGH = 1.3  # times that a word of any language occurs in a corpus, on average
_TIMES_LARGER = 10  # of two vocabularies


def corpus_warnings(manifest: Manifest) -> tuple[CorpusWarning, ...]:
    """Return the warnings that follow from the numbers of a manifest."""
    return tuple(warning for check in _CHECKS for warning in check(manifest))


def few_pairs(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn of few rows to train on."""
    rows = manifest.rows["train"]
    if rows < _FEW_PAIRS:
        text = (
            f"{rows:,} {'pair' if rows == 1 else 'pairs'} to train on: enough to try the commands; "
            "a model that translates needs tens of thousands"
        )
        yield CorpusWarning(kind="few_pairs", text=text)


def few_held_out(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn of held-out splits whose scores say little."""
    shares = {"valid": manifest.config.corpus.valid, "test": manifest.config.corpus.test}
    few = {
        split: rows
        for split, rows in manifest.rows.items()
        if split != "train" and rows < _FEW_HELD_OUT and not _is_provided(manifest, split)
    }
    if few:
        held_out = " and ".join(f"{rows} for {split}" for split, rows in few.items())
        flags = [f"--corpus.{split} 0.1" for split in few if shares[split] < 0.1]
        more = f": {' '.join(flags)} holds out a tenth" if flags else ""
        text = f"few rows are held out ({held_out}), so their scores say little{more}"
        yield CorpusWarning(kind="few_held_out", text=text)


def left_out(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn if rules leave out more than half of the rows."""
    rows = sum(manifest.drops.values())
    if 2 * rows > manifest.read:
        why = drops_in_words(manifest.drops)
        text = f"{rows:,} of {manifest.read:,} rows are left out ({why})"
        yield CorpusWarning(kind="left_out", text=text)


def sides_alike(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn if many rows have the same text on both sides."""
    rows = manifest.drops.get("identical", 0)
    if 5 * rows > manifest.read:
        text = (
            f"source and target are alike in {rows / manifest.read:.0%} of the rows, which are "
            "left out: is one of the two columns the wrong one, or not translated?"
        )
        yield CorpusWarning(kind="sides_alike", text=text)


def long_rows(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn if many rows are left out for their length."""
    rows, limit = manifest.drops.get("too_long", 0), manifest.config.corpus.clean.max_characters
    if 20 * rows > manifest.read:
        text = (
            f"{rows / manifest.read:.0%} of the rows have more than {limit:,} characters a side "
            f"and are left out: {REMEDIES['too_long']}"
        )
        yield CorpusWarning(kind="long_rows", text=text)


def several_sentences(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn if many sources hold more than one sentence."""
    rows, all_rows = manifest.several_sentences.get("train", 0), manifest.rows["train"]
    if 5 * rows > all_rows:
        whole = (
            "its models will translate a line as a whole (--split-sentences True changes that)"
            if manifest.of_passages
            else "its models will still translate every sentence of a line separately"
        )
        text = f"{rows / all_rows:.0%} of the sources of train hold more than one sentence: {whole}"
        yield CorpusWarning(kind="several_sentences", text=text)


def small_vocabulary(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn of vocabularies of a few words."""
    for side, size in manifest.vocabulary.items():
        if size < _FEW_TOKENS and manifest.rows["train"] >= 5 * _FEW_TOKENS:
            words = f"{size} {_tokens(manifest, size)}"
            text = (
                f"the {side} vocabulary has only {words} for {manifest.rows['train']:,} rows: is "
                f"this the right column, --text.normaliser {manifest.config.text.normaliser} right "
                "for its language, and --text.vocabulary-size large enough?"
            )
            yield CorpusWarning(kind="small_vocabulary", text=text)


def vocabulary_above_its_size(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn if the characters alone are more than the subwords asked for."""
    size = manifest.config.text.vocabulary_size
    for side, found in manifest.vocabulary.items():
        if size is not None and found > size:
            text = (
                f"--text.vocabulary-size {size:,} is less than the {found:,} characters of the "
                f"{side}: its vocabulary has all {found:,} of them, and no subword of two or more"
            )
            yield CorpusWarning(kind="vocabulary_above_its_size", text=text)


def words_that_occur_once(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn if nearly every word occurs only once, as numbers and names of rows do."""
    for side, known in manifest.known["train"].items():
        if known.distinct >= 200 and known.words < _OFTEN_ENOUGH * known.distinct:
            text = (
                f"nearly every word of the {side} occurs only once ({known.distinct:,} different "
                f"ones in {known.words:,}): is this column text? --columns names another; for a "
                "language written without spaces, --text.units bpe --text.vocabulary-size 8000"
            )
            yield CorpusWarning(kind="words_that_occur_once", text=text)


def unequal_vocabularies(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn if one side has many times more words than the other."""
    sizes = manifest.vocabulary
    small, large = sorted(SIDES, key=sizes.__getitem__)
    if sizes[large] >= 100 and sizes[large] > _TIMES_LARGER * sizes[small]:
        text = (
            f"the {large} vocabulary has {sizes[large]:,} {_tokens(manifest)}, that of the {small} "
            f"only {sizes[small]:,}: is each column what it should be?"
        )
        yield CorpusWarning(kind="unequal_vocabularies", text=text)


def unknown_words(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn if the vocabularies do not know many words of `valid`."""
    advice = (
        "--text.units bpe --text.vocabulary-size 8000 learns subwords, which leave hardly any"
        if manifest.config.text.units == "word"
        else "train has too few of their characters"
    )
    for side, known in manifest.known["valid"].items():
        if known.unknown_rate > _UNKNOWN:
            text = (
                f"{known.unknown_rate:.0%} of the words of the {side} are unknown in valid: "
                f"{advice}"
            )
            yield CorpusWarning(kind="unknown_words", text=text)


_CHECKS: tuple[Callable[[Manifest], Iterator[CorpusWarning]], ...] = (
    few_pairs,
    few_held_out,
    left_out,
    sides_alike,
    long_rows,
    several_sentences,
    small_vocabulary,
    vocabulary_above_its_size,
    words_that_occur_once,
    unequal_vocabularies,
    unknown_words,
)


def decoding_warnings(manifest: Manifest, decode: DecodeConfig) -> tuple[CorpusWarning, ...]:
    """Return a warning if translations of many rows cannot be as long as the targets."""
    lengths = manifest.lengths["valid"]["target"]
    rows = sum(lengths.values())
    cut = sum(count for length, count in lengths.items() if length > decode.max_length)
    if 100 * cut <= rows:
        return ()
    text = (
        f"{cut / rows:.0%} of the targets of valid are longer than --decode.max-length "
        f"{decode.max_length}: such translations will be cut"
    )
    return (CorpusWarning(kind="targets_above_max_length", text=text),)


def drops_in_words(drops: Mapping[str, int]) -> str:
    """Return how many rows each rule leaves out, the most first, with a remedy for that rule."""
    ranked = sorted(((rows, rule) for rule, rows in drops.items() if rows), reverse=True)
    counts = ", ".join(f"{rows:,} {rule}" for rows, rule in ranked)
    remedy = REMEDIES.get(ranked[0][1]) if ranked else None
    return f"{counts}; {remedy}" if remedy else counts


def _is_provided(manifest: Manifest, split: str) -> bool:
    return any(source.startswith(f"{split}: ") for source in manifest.sources)


def _tokens(manifest: Manifest, number: int = 2) -> str:
    name = "word" if manifest.config.text.units == "word" else "subword"
    return name if number == 1 else f"{name}s"
