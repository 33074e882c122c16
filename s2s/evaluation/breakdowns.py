"""Scores by groups of sentences and of tokens, and the worst sentences: where a model is weak."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from s2s.corpus import Corpus
from s2s.corpus.batches import Batches
from s2s.corpus.directory import SIDES
from s2s.evaluation.references import References
from s2s.evaluation.scores import score, sentence_scores
from s2s.model.directory import ModelDirectory
from s2s.model.seq2seq import Seq2Seq
from s2s.text.normalise import Side, WordSplitter
from s2s.text.vocabulary import EOS, PAD, UNK, Vocabulary

# B sentences of a batch, T target tokens of the longest, N real target tokens of a batch, C of
# them in a chunk, R features that the output layer reads, V words of the target vocabulary.

# The least value of each bin; the last bin has no upper end.
_LENGTHS = (1, 6, 11, 16, 21, 31)  # source words
_UNKNOWN = (0, 1, 2, 3)  # source words
_FREQUENCIES = (0, 1, 5, 20, 100)  # occurrences in `train`
_NO_BIN = -1  # value of a sentence without words

_CHUNK = 256  # tokens whose logits are in memory at a time
_ROWS = 10_000  # sentences that are split into words at a time


@dataclass(frozen=True)
class SentenceGroup:
    """The scores of some sentences that have something in common."""

    label: str
    sentences: int
    bleu: float
    chrf2: float

    def as_json(self) -> dict[str, object]:
        """Return the fields by the names of JSON, which are those of sacreBLEU."""
        return {
            "label": self.label,
            "sentences": self.sentences,
            "BLEU": self.bleu,
            "chrF2": self.chrf2,
        }


@dataclass(frozen=True)
class TokenGroup:
    """The accuracy on some target tokens that have something in common, under teacher forcing."""

    label: str
    tokens: int
    accuracy: float  # 0 to 1


@dataclass(frozen=True)
class Breakdowns:
    """Scores by groups of sentences, and accuracies by groups of target tokens."""

    sentences: dict[str, tuple[SentenceGroup, ...]]  # by the criterion of grouping
    tokens: tuple[TokenGroup, ...]  # `<unk>`, `<eos>`, and the others by their count in `train`


@dataclass(frozen=True)
class WorstSentence:
    """A sentence whose translation has a low score."""

    source: str
    translation: str
    references: list[str]
    score: float  # chrF2, 0 to 100


def break_down(
    model: ModelDirectory,
    corpus: Corpus,
    references: References,
    translations: list[str],
    batches: Batches,
) -> Breakdowns:
    """Return the breakdowns of translations, and of teacher forcing.

    Args:
        corpus: counts of words are taken from the targets of its `train`.
        translations: of each source of the references.
        batches: the same sentences as tokens of the model.
    """
    splitters = {side: WordSplitter(model.config.text, side) for side in SIDES}
    counts = _count_words(corpus, splitters["target"])
    sentences = _sentence_groups(model.source, splitters, counts, references, translations)
    return Breakdowns(sentences, _token_groups(model, counts, batches))


def worst_sentences(
    references: References, translations: list[str], count: int
) -> tuple[WorstSentence, ...]:
    """Return the sentences with the lowest chrF, the worst first."""
    scores = sentence_scores(translations, references.targets)
    return tuple(
        WorstSentence(references.sources[n], translations[n], references.targets[n], scores[n])
        for n in sorted(range(len(scores)), key=scores.__getitem__)[:count]
    )


# ---- groups of sentences ------------------------------------------------------------------------


def _sentence_groups(
    vocabulary: Vocabulary,
    splitters: Mapping[Side, WordSplitter],
    counts: Counter[str],
    references: References,
    translations: list[str],
) -> dict[str, tuple[SentenceGroup, ...]]:
    """Return BLEU and chrF of groups of sentences, by what may make sentences hard.

    The criteria are the number of words of the source; the number of its words that hold an unknown
    token; and how often the rarest word of the reference occurs in the targets of `train`. Of
    several references the one counts whose rarest word is the most frequent, as the easiest to
    produce. Words are those of the model's normalisers, punctuation included. A sentence without
    words is in no group. BLEU of a group whose translations all have fewer than four words is 0.
    """
    words = [splitters["source"].split(source) for source in references.sources]
    unknown = _unknown_words(vocabulary, words)

    def unknown_in(line: list[str]) -> int:
        return sum(word in unknown for word in line) if line else _NO_BIN

    def rarest_in(group: list[str]) -> int:
        targets = filter(None, map(splitters["target"].split, group))
        return max((min(counts[word] for word in target) for target in targets), default=_NO_BIN)

    def groups(values: Iterable[int], bins: Sequence[int]) -> tuple[SentenceGroup, ...]:
        members: list[list[int]] = [[] for _ in bins]
        for sentence, value in enumerate(values):
            if value >= bins[0]:
                members[bisect_right(bins, value) - 1].append(sentence)
        return tuple(
            _score_group(label, numbers, references, translations)
            for label, numbers in zip(_labels(bins), members, strict=True)
            if numbers
        )

    return {
        "source words": groups(map(len, words), _LENGTHS),
        "unknown source words": groups(map(unknown_in, words), _UNKNOWN),
        "rarest reference word": groups(map(rarest_in, references.targets), _FREQUENCIES),
    }


def _score_group(
    label: str, sentences: list[int], references: References, translations: list[str]
) -> SentenceGroup:
    bleu, chrf2 = score(
        [translations[n] for n in sentences],
        [references.targets[n] for n in sentences],
        "as read",
        measures=("BLEU", "chrF"),
        tokenize=references.tokenize,
    )
    return SentenceGroup(label, len(sentences), bleu.score, chrf2.score)


def _unknown_words(vocabulary: Vocabulary, sentences: list[list[str]]) -> set[str]:
    """Return the words of some sentences that hold an unknown token."""
    words = list({word for sentence in sentences for word in sentence})
    return {
        word for word, ids in zip(words, vocabulary.encode_words(words), strict=True) if UNK in ids
    }


def _count_words(corpus: Corpus, splitter: WordSplitter) -> Counter[str]:
    """Return how often each word occurs in the targets of `train`."""
    counts: Counter[str] = Counter()
    train = corpus.split("train").with_format("arrow")
    for start in range(0, len(train), _ROWS):
        column = train[start : start + _ROWS]["target"]
        words = splitter.split_many(column.combine_chunks())
        times = np.bincount(words.indices.values, minlength=len(words.distinct))
        counts.update(dict(zip(words.distinct, times.tolist(), strict=True)))
    return counts


def _labels(bins: Sequence[int]) -> list[str]:
    """Return the names of bins, such as `0`, `1-4`, `5+`."""
    closed = [
        f"{low}-{above - 1}" if above > low + 1 else str(low) for low, above in pairwise(bins)
    ]
    return [*closed, f"{bins[-1]}+"]


# ---- groups of tokens ---------------------------------------------------------------------------


def _token_groups(
    model: ModelDirectory, counts: Counter[str], batches: Batches
) -> tuple[TokenGroup, ...]:
    """Return token accuracy by how often the reference token occurs in the targets of `train`.

    `<unk>` and `<eos>` are groups of their own: the one stands for many words, the other ends
    every sentence.
    """
    frequencies = np.zeros(len(model.target), np.int64)  # (V,)
    for ids, times in zip(model.target.encode_words(list(counts)), counts.values(), strict=True):
        np.add.at(frequencies, ids, times)
    labels = ["<unk>", "<eos>", *_labels(_FREQUENCIES)]
    group = np.searchsorted(_FREQUENCIES, frequencies, side="right") + 1  # (V,)
    group[[UNK, EOS]] = 0, 1
    correct, tokens = (
        np.bincount(group, weights=numbers, minlength=len(labels))
        for numbers in _count_correct(model.model, batches, len(model.target))
    )
    return tuple(
        TokenGroup(label, int(total), float(right / total))
        for label, right, total in zip(labels, correct, tokens, strict=True)
        if total
    )


@torch.inference_mode()
def _count_correct(
    model: Seq2Seq, batches: Batches, vocabulary_size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how often each target token was predicted right, and how often it occurs.

    Both under teacher forcing, (V,) and (V,).
    """
    correct, tokens = torch.zeros(
        2, vocabulary_size, dtype=torch.int64, device=model.device
    )  # (V,), (V,)
    for step in batches.epoch(0):
        for batch in (micro_batch.to(model.device) for micro_batch in step.micro_batches):
            real = batch.target_out != PAD  # (B, T)
            features = model(batch.source, batch.source_lengths, batch.target_in)[real]  # (N, R)
            reference = batch.target_out[real]  # (N,)
            chunks = zip(torch.split(features, _CHUNK), torch.split(reference, _CHUNK), strict=True)
            for inputs, true in chunks:  # (C, R), (C,)
                right = model.decoder.output(inputs).argmax(dim=1) == true  # (C,)
                correct += torch.bincount(true[right], minlength=vocabulary_size)
                tokens += torch.bincount(true, minlength=vocabulary_size)
    return correct.cpu().numpy(), tokens.cpu().numpy()
