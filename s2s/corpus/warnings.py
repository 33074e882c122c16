"""Warnings: what the numbers of a corpus, a run or an evaluation say is probably wrong.

There is a function for each. `prepare` keeps the warnings of the corpus in the manifest; `prepare`,
`inspect` and `train` show them. `train` also warns of settings that do not fit the corpus, and, as
`evaluate` and `compare` do, of uncertain scores. A warning says what was found and which option
changes it; what cannot work at all is refused instead.
"""

import math
from collections.abc import Callable, Iterator, Mapping

from s2s.config import Config, TrainConfig
from s2s.corpus.directory import SIDES, CorpusWarning, Manifest
from s2s.corpus.rules import REMEDIES

_USELESS_PAIRS = 100  # from which a model learns nothing but the most frequent words
_FEW_PAIRS = 1_000  # with which a model learns its sentences by heart
_FEW_HELD_OUT = 10  # rows whose scores are chance
_UNKNOWN = 0.2  # share of the running words
_FEW_TOKENS = 20
_OFTEN_ENOUGH = 1.3  # times that a word of any language occurs in a corpus, on average
_TIMES_LARGER = 10  # of two vocabularies
_WARM_UP = 0.5  # share of a run
# Half of BLEU's 95 % interval, times the square root of the number of sentences. The bootstrap of
# `s2s.evaluation.scores` gave 58 to 69 for 10 to 2,000 sentences of the demo and of fra-eng, at
# BLEU 41 to 74. It gave less at BLEU 2, where the interval cannot be wider than the score.
_MARGIN = 65
_WIDE_MARGIN = 3  # points of BLEU, more than most changes of a model are worth: 470 sentences


def corpus_warnings(manifest: Manifest) -> tuple[CorpusWarning, ...]:
    """Return the warnings that follow from the numbers of a manifest."""
    return tuple(warning for check in _CHECKS for warning in check(manifest))


def few_pairs(manifest: Manifest) -> Iterator[CorpusWarning]:
    """Warn of few rows to train on."""
    rows = manifest.rows["train"]
    if rows < _FEW_PAIRS:
        serve = (
            "too few to learn anything from, they only serve to try the commands"
            if rows < _USELESS_PAIRS
            else "enough to try the commands"
        )
        text = (
            f"{rows:,} {'pair' if rows == 1 else 'pairs'} to train on: {serve}; "
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


# ---- settings of a run --------------------------------------------------------------------------


def run_warnings(manifest: Manifest, config: Config) -> tuple[CorpusWarning, ...]:
    """Return the warnings of settings for training and decoding that do not fit a corpus."""
    return tuple(warning for check in _RUN_CHECKS for warning in check(manifest, config))


def long_warm_up(manifest: Manifest, config: Config) -> Iterator[CorpusWarning]:
    """Warn if the learning rate rises during most of the run."""
    warm_up = config.train.warmup_steps
    steps = config.train.epochs * _steps_per_epoch(manifest, config.train)
    if warm_up > _WARM_UP * steps:
        text = (
            f"{_steps(steps)} in all, but the warm-up is {_steps(warm_up)}: set "
            f"--train.warmup-steps {max(1, round(steps / 10))} or so, or train longer"
        )
        yield CorpusWarning(kind="long_warm_up", text=text)


def one_step_per_epoch(manifest: Manifest, config: Config) -> Iterator[CorpusWarning]:
    """Warn if a batch holds all of `train`."""
    rows = manifest.rows["train"]
    if rows > 1 and _steps_per_epoch(manifest, config.train) == 1:
        flag, size = "batch-size", rows
        if config.train.batch_tokens is not None:
            flag, size = "batch-tokens", _target_tokens(manifest)
        text = (
            f"an epoch is one step, as one batch holds all {rows:,} pairs to train on: set "
            f"--train.{flag} {max(1, size // 8)} or so"
        )
        yield CorpusWarning(kind="one_step_per_epoch", text=text)


def rare_logs(manifest: Manifest, config: Config) -> Iterator[CorpusWarning]:
    """Warn if the loss of `train` is logged less often than once an epoch."""
    steps, every = _steps_per_epoch(manifest, config.train), config.train.log_steps
    if 1 < steps < every:
        text = (
            f"an epoch has {_steps(steps)}, but the loss of training is logged only every "
            f"{every:,} steps: set --train.log-steps {max(1, steps // 5)} or so"
        )
        yield CorpusWarning(kind="rare_logs", text=text)


def targets_above_max_length(manifest: Manifest, config: Config) -> Iterator[CorpusWarning]:
    """Warn if translations of many rows cannot be as long as the targets."""
    lengths, longest = manifest.lengths["valid"]["target"], config.decode.max_length
    rows = sum(lengths.values())
    cut = sum(count for length, count in lengths.items() if length > longest)
    if 100 * cut > rows:
        text = (
            f"{cut / rows:.0%} of the targets of valid are longer than --decode.max-length "
            f"{longest}, and such translations will be cut: set --decode.max-length {max(lengths)}"
        )
        yield CorpusWarning(kind="targets_above_max_length", text=text)


_RUN_CHECKS: tuple[Callable[[Manifest, Config], Iterator[CorpusWarning]], ...] = (
    long_warm_up,
    one_step_per_epoch,
    rare_logs,
    targets_above_max_length,
)


def _steps_per_epoch(manifest: Manifest, settings: TrainConfig) -> int:
    """Return the steps of an epoch, without those that padding adds to batches of tokens."""
    if settings.batch_tokens is None:
        return math.ceil(manifest.rows["train"] / settings.batch_size)
    return math.ceil(_target_tokens(manifest) / settings.batch_tokens)


def _target_tokens(manifest: Manifest) -> int:
    return sum(length * rows for length, rows in manifest.lengths["train"]["target"].items())


def _steps(number: int) -> str:
    return "1 step" if number == 1 else f"{number:,} steps"


# ---- scores -------------------------------------------------------------------------------------


def score_warnings(
    manifest: Manifest, split: str, sentences: int, bleu: float, margin: float | None = None
) -> tuple[CorpusWarning, ...]:
    """Return a warning if the BLEU of a split is uncertain, as the split is small.

    Args:
        sentences: distinct sources of the split.
        margin: half of the 95 % interval, if it was computed.
    """
    if margin is None:
        margin = min(_MARGIN / math.sqrt(sentences), bleu)
    if margin <= _WIDE_MARGIN:
        return ()
    counted = "1 sentence" if sentences == 1 else f"{sentences:,} sentences"
    text = (
        f"{counted} of {split}: BLEU is uncertain by about ± {margin:.0f} points; "
        f"{_hold_out_more(manifest, split)}"
    )
    return (CorpusWarning(kind="uncertain_scores", text=text),)


def _hold_out_more(manifest: Manifest, split: str) -> str:
    """Return how a corpus gets a larger split."""
    shares = {"valid": manifest.config.corpus.valid, "test": manifest.config.corpus.test}
    if _is_provided(manifest, split) or shares.get(split, 1) >= 0.1:
        return "a larger split would say more"
    return f"hold out more, as s2s prepare does with --corpus.{split} 0.1"


# ---- in words -----------------------------------------------------------------------------------


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
