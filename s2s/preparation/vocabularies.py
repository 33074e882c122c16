"""Vocabularies of a corpus: the stage that learns them and measures what each covers."""

import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa

from s2s.config import TextConfig
from s2s.corpus.directory import SIDES, SPLITS, VocabularyCoverage
from s2s.errors import BadInput
from s2s.files import new_file
from s2s.preparation.job import Job
from s2s.preparation.outcomes import LearnOutcome
from s2s.preparation.tables import load_table
from s2s.text.ragged import Ragged
from s2s.text.vocabulary import SPECIALS, UNK, Vocabulary

_FREQUENT_UNKNOWN = 20  # words shown


def learn_vocabulary(job: Job, number: int) -> LearnOutcome:
    """Write the vocabulary of a side, or of both, and measure its coverage of each split.

    Args:
        number: of the side; 0 if both share a vocabulary.

    Raises:
        BadInput: the vocabulary has nothing but marks.
    """
    sides = SIDES if job.config.text.shared else (SIDES[number],)
    counts = {side: _word_counts(job, side) for side in sides}
    text = job.config.text
    if job.vocabularies is not None:
        vocabulary = Vocabulary.load(job.vocabularies / f"{sides[0]}.json")
    else:
        splits = SPLITS if job.config.corpus.vocabulary_from == "all" else ("train",)
        total: Counter[str] = Counter()
        for table in counts.values():
            total.update(_counts_in(table, splits))
        vocabulary = Vocabulary.from_counts(total, text)
        _require_a_word(vocabulary, total, text, " and ".join(sides))
    for side in sides:
        with new_file(job.corpus_folder / f"{side}.json") as file:
            vocabulary.of_side(text, side).save(file)
    return LearnOutcome(
        vocabulary=dict.fromkeys(sides, len(vocabulary) - len(SPECIALS)),
        coverage={
            split: {
                side: _coverage(vocabulary, _counts_in(table, (split,)))
                for side, table in counts.items()
            }
            for split in SPLITS
        },
    )


def _require_a_word(
    vocabulary: Vocabulary, counts: Counter[str], config: TextConfig, sides: str
) -> None:
    """Refuse a vocabulary with nothing but marks.

    Raises:
        BadInput: it is one.
    """
    tokens = [vocabulary.surface(i) for i in range(len(SPECIALS), len(vocabulary))]
    if any(unicodedata.category(character)[0] not in "PZC" for character in "".join(tokens)):
        return
    marks = " ".join(token for token in tokens[:10] if token.isprintable())
    holds = f"has no word, only {marks}" if tokens else "is empty"
    most = max(counts.values(), default=0)
    if config.units == "word" and most < config.lowest_frequency:
        reason = (
            f"no word occurs {config.lowest_frequency:,} times, the most frequent one {most:,} "
            "times: lower --text.min-frequency"
        )
    elif config.vocabulary_size is not None and config.vocabulary_size < len(counts):
        reason = f"raise --text.vocabulary-size {config.vocabulary_size}"
    else:
        reason = (
            f"the normaliser {config.normaliser!r} keeps no letter of it: use --text.normaliser "
            "lossless"
        )
    raise BadInput(f"the {sides} vocabulary {holds}: {reason}")


def _word_counts(job: Job, side: str) -> pa.Table:
    """Return how often each word of a side occurs: columns `word`, and one for each split."""
    merged = None
    for first in range(0, len(job.chunks), 16):
        numbers = range(first, min(first + 16, len(job.chunks)))
        tables = [load_table(job.file("select", number, f".{side}.arrow")) for number in numbers]
        grouped = pa.concat_tables([*([merged] if merged else []), *tables]).group_by("word")
        sums = grouped.aggregate([(split, "sum") for split in SPLITS])
        sums = sums.select(["word", *(f"{split}_sum" for split in SPLITS)])
        merged = sums.rename_columns(["word", *SPLITS])
    return merged


def _counts_in(word_counts: pa.Table, splits: tuple[str, ...]) -> dict[str, int]:
    """Return how often each word occurs in some splits, without words that do not occur there."""
    times = sum(word_counts[split].to_numpy() for split in splits)
    occurring = np.flatnonzero(times)
    words = word_counts["word"].take(occurring).to_pylist()
    return dict(zip(words, times[occurring].tolist(), strict=True))


def _coverage(vocabulary: Vocabulary, counts: dict[str, int]) -> VocabularyCoverage:
    """Measure how much of some words a vocabulary covers, by how often each occurs."""
    words, times = list(counts), np.array(list(counts.values()), np.int64)
    ids = Ragged.from_lists(vocabulary.encode_words(words))
    unknown = np.zeros(len(words), bool)
    unknown[np.repeat(np.arange(len(ids)), ids.lengths)[ids.values == UNK]] = True
    total = int(times.sum())
    frequent = sorted((-int(times[i]), words[i]) for i in np.flatnonzero(unknown))
    return VocabularyCoverage(
        tokens=int((times * ids.lengths).sum()),
        words=total,
        distinct=len(words),
        coverage=1 - float(unknown.mean()) if len(words) else 1.0,
        unknown_rate=float(times[unknown].sum()) / total if total else 0.0,
        frequent_unknown={word: -count for count, word in frequent[:_FREQUENT_UNKNOWN]},
    )
