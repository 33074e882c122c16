"""The scores of a model directory on a part of a corpus."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from s2s.config import Config, DecodeConfig
from s2s.corpus import Corpus
from s2s.corpus.batches import Batches
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.scores import SAMPLES, Tokenize, score, sentence_scores
from s2s.evaluation.teacher_forcing import validate
from s2s.model.directory import ModelDirectory
from s2s.model.seq2seq import Seq2Seq
from s2s.text.normalise import WordSplitter
from s2s.text.vocabulary import EOS, PAD, UNK, Vocabulary

# The least value of each bin of a breakdown; the last one has no upper end.
_LENGTHS = (1, 6, 11, 16, 21, 31)  # source words
_UNKNOWN = (0, 1, 2, 3)  # source words
_FREQUENCIES = (0, 1, 5, 20, 100)  # times in `train`

_TOKENS = 256  # whose logits exist at a time
_ROWS = 10_000  # sentences that are split at a time


@dataclass(frozen=True)
class Part:
    """The different sources of a part of a corpus, in the order in which they first appear."""

    sources: list[str]
    references: list[list[str]]  # of each source, the targets of all its rows, as read
    rows: list[int]  # of each row of the part, the number of its source
    tokenize: Tokenize  # how BLEU splits the references

    @classmethod
    def of(cls, corpus: Corpus, name: str) -> "Part":
        """The part `train`, `valid` or `test`.

        Raises:
            BadInput: the corpus has no such part.
        """
        rows = corpus.split(name)
        numbers: dict[str, int] = {}
        order = [numbers.setdefault(source, len(numbers)) for source in rows["source"][:]]
        references: list[list[str]] = [[] for _ in numbers]
        for number, target in zip(order, rows["target"][:], strict=True):
            references[number].append(target)
        tokenised = corpus.manifest.config.text.normaliser == "tokenised"
        return cls(list(numbers), references, order, "none" if tokenised else "13a")


def check_languages(model: Path, config: Config, corpus: Corpus) -> None:
    """Check that a model translates what a corpus holds.

    Raises:
        BadInput: they are of different languages.
    """
    ours, theirs = (
        (one.source_language, one.target_language) for one in (config, corpus.manifest.config)
    )
    if ours != theirs:
        raise BadInput(
            f"{model} translates {'-'.join(ours)}, {corpus.path} holds {'-'.join(theirs)}"
        )


def evaluate(
    model: Path,
    corpus: Path,
    part: str,
    on_batch: Callable[[int], None] = lambda sentences: None,
    *,
    beam: int | None = None,
    intervals: bool = False,
    breakdowns: bool = False,
    worst: int = 0,
    translations: bool = False,
) -> dict[str, Any]:
    """Loss and accuracies under teacher forcing, and BLEU, chrF and TER of translations.

    The sentences of the corpus are encoded anew with the model's own vocabularies, so a model can
    be scored on a corpus that it was not trained on. Rows of one source are one sentence with
    several references, which are the sentences as read; where there are several, another set of
    scores has the first of each source alone, and where the model is of normaliser `tutorial`,
    another one has normalised references. BLEU takes the words of a corpus
    of normaliser `tokenised` as they stand. A source without a word for the model ("123" under
    `tutorial`) is counted as wordless: it has an empty translation, and no part in loss and
    accuracies.

    Args:
        on_batch: told the number of sentences of each translated batch.
        beam: hypotheses kept at a time, 1 for greedy decoding; None takes the model's setting.
        intervals: give the scores 95 % confidence intervals, by bootstrap resampling.
        breakdowns: also give scores by groups of sentences, see `_breakdowns`; this counts the
            words of all of `train`.
        worst: how many sentences to give of those with the lowest chrF.
        translations: give all translations, one for each source in order of first appearance.

    Raises:
        BadInput: either directory is broken, they are of different languages, the corpus has no
            such part, or the model cannot decode with such a beam.
    """
    directory = ModelDirectory.load(model)
    opened = Corpus.open(corpus)
    check_languages(model, directory.config, opened)
    rows, asked = opened.split(part), Part.of(opened, part)

    encoded = Dataset.from_dict(
        {
            "source_ids": directory.source.encode(rows["source"][:]),
            "target_ids": [[*ids, EOS] for ids in directory.target.encode(rows["target"][:])],
        }
    )
    spoken = [row for row, ids in enumerate(encoded["source_ids"]) if ids]
    if not spoken:
        raise BadInput(f"{corpus}: no source sentence of {part!r} has a word that {model} reads")
    batches = Batches(encoded.select(spoken), directory.config.train.batch_size)
    sums = validate(directory.model, batches, torch.device("cpu"))
    longest = max(opened.manifest.longest["target"], batches.longest_target)

    translator = Translator(directory).with_settings(beam=beam)
    said = translator.translate(asked.sources, on_batch)
    samples = SAMPLES if intervals else 0
    scores = score(said, asked.references, "as read", tokenize=asked.tokenize, samples=samples)
    if any(len(group) > 1 for group in asked.references):
        # For those who have one reference, to compare with.
        alone = [group[:1] for group in asked.references]
        scores += score(said, alone, "first alone", tokenize=asked.tokenize, samples=samples)
    if directory.config.text.normaliser == "tutorial":
        normalised = [[*map(directory.target.normalise, group)] for group in asked.references]
        scores += score(said, normalised, "normalised", tokenize=asked.tokenize, samples=samples)
    result = {
        "part": part,
        "pairs": len(rows),
        "sentences": len(asked.sources),
        "wordless": len(rows) - len(spoken),
        "loss": sums.mean_loss,
        "perplexity": math.exp(min(sums.mean_loss, 700.0)),
        "token_accuracy": sums.token_accuracy,
        "padded_accuracy": sums.padded_accuracy(longest),
        "decoding": _decoding(translator.config.decode),
        "scores": [asdict(result) for result in scores],
    }
    if breakdowns:
        counts = _counts(opened, WordSplitter(directory.config.text))
        result["breakdowns"] = _breakdowns(directory, counts, asked, said)
        result["token_accuracies"] = _token_accuracies(directory, counts, batches)
    if worst:
        result["worst"] = _worst(asked, said, worst)
    if translations:
        result["translations"] = said
    return result


def _decoding(settings: DecodeConfig) -> str:
    if settings.temperature is not None:
        return f"drawn at temperature {settings.temperature}"
    return "greedy" if settings.beam == 1 else f"beam {settings.beam}"


def _worst(part: Part, translations: list[str], count: int) -> list[dict[str, Any]]:
    """The sentences with the lowest chrF, the worst one first."""
    scores = sentence_scores(translations, part.references)
    return [
        {
            "source": part.sources[number],
            "translation": translations[number],
            "references": part.references[number],
            "score": scores[number],
        }
        for number in sorted(range(len(scores)), key=scores.__getitem__)[:count]
    ]


def _breakdowns(
    directory: ModelDirectory, counts: Counter[str], part: Part, translations: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """BLEU and chrF of groups of sentences, by what may make them hard.

    The groups are by words of the source; by words of the source that hold an unknown token; and by
    how often the rarest word of the reference occurs in the targets of `train`, 0 if it never does.
    Of several references the one counts whose rarest word is the most frequent, as it is the
    easiest to come up with. Words are those of the model's normaliser, marks among them; a
    sentence without any is in no group. BLEU of a group whose translations all have fewer than four
    words is 0, as that of any text without four words in a row.

    Args:
        counts: how often each word occurs in the targets of `train`.
    """
    splitter = WordSplitter(directory.config.text)
    words = [splitter.split(source) for source in part.sources]
    unknown = _unknown(directory.source, words)

    def rarest(group: list[str]) -> int:
        targets = [splitter.split(target) for target in group]
        return max((min(counts[w] for w in target) for target in targets if target), default=-1)

    def rows(values: Iterable[int], bins: Sequence[int]) -> list[dict[str, Any]]:
        members: list[list[int]] = [[] for _ in bins]
        for number, value in enumerate(values):
            if value >= bins[0]:
                members[bisect_right(bins, value) - 1].append(number)
        return [
            {
                "label": label,
                "sentences": len(numbers),
                **{
                    result.name: result.score
                    for result in score(
                        [translations[n] for n in numbers],
                        [part.references[n] for n in numbers],
                        "as read",
                        measures=("BLEU", "chrF"),
                        tokenize=part.tokenize,
                    )
                },
            }
            for label, numbers in zip(_labels(bins), members, strict=True)
            if numbers
        ]

    return {
        "source words": rows(map(len, words), _LENGTHS),
        "unknown source words": rows(
            (sum(map(unknown.__contains__, line)) if line else -1 for line in words), _UNKNOWN
        ),
        "rarest reference word": rows(map(rarest, part.references), _FREQUENCIES),
    }


def _token_accuracies(
    directory: ModelDirectory, counts: Counter[str], batches: Batches
) -> list[dict[str, Any]]:
    """Token accuracy by how often the true target token occurs in `train`.

    `<unk>` and `<eos>` have rows of their own: the one stands for many words, the other ends every
    sentence.
    """
    frequencies = np.zeros(len(directory.target), np.int64)  # (V,)
    for ids, times in zip(
        directory.target.encode_words(list(counts)), counts.values(), strict=True
    ):
        np.add.at(frequencies, ids, times)
    group = np.searchsorted(_FREQUENCIES, frequencies, side="right") - 1  # (V,)
    labels = ["<unk>", "<eos>", *_labels(_FREQUENCIES)]
    group += 2
    group[[UNK, EOS]] = 0, 1
    correct, tokens = _correct(directory.model, batches, len(directory.target))  # (V,), (V,)
    rights, totals = (
        np.bincount(group, weights=numbers, minlength=len(labels)) for numbers in (correct, tokens)
    )
    return [
        {"label": label, "tokens": int(total), "accuracy": float(right / total)}
        for label, right, total in zip(labels, rights, totals, strict=True)
        if total
    ]


@torch.inference_mode()
def _correct(model: Seq2Seq, batches: Batches, words: int) -> tuple[Any, Any]:
    """For each target word how often it was predicted right, and how often there, (V,) and (V,)."""
    correct, tokens = torch.zeros(2, words, dtype=torch.int64)  # (V,), (V,)
    for step in batches.epoch(0):
        for batch in step.micro_batches:
            real = batch.target_out != PAD  # (B, T)
            hidden = model(batch.source, batch.source_lengths, batch.target_in)[real]  # (N, R)
            truth = batch.target_out[real]  # (N,)
            for states, true in zip(
                *(torch.split(one, _TOKENS) for one in (hidden, truth)), strict=True
            ):
                right = model.decoder.output(states).argmax(dim=1) == true  # (C,)
                correct += torch.bincount(true[right], minlength=words)
                tokens += torch.bincount(true, minlength=words)
    return correct.numpy(), tokens.numpy()


def _counts(corpus: Corpus, splitter: WordSplitter) -> Counter[str]:
    """How often each word occurs in the targets of `train`."""
    counts: Counter[str] = Counter()
    train = corpus.split("train").with_format("arrow")
    for start in range(0, len(train), _ROWS):
        column = train[start : start + _ROWS]["target"]
        words = splitter.split_many(column.combine_chunks())
        times = np.bincount(words.indices.values, minlength=len(words.distinct))
        counts.update(dict(zip(words.distinct, times.tolist(), strict=True)))
    return counts


def _unknown(vocabulary: Vocabulary, sentences: list[list[str]]) -> set[str]:
    """The words of some sentences that hold an unknown token."""
    words = list({word for sentence in sentences for word in sentence})
    return {
        word for word, ids in zip(words, vocabulary.encode_words(words), strict=True) if UNK in ids
    }


def _labels(bins: Sequence[int]) -> list[str]:
    """What bins are called: `0`, `1-4`, `5+`."""
    closed = [
        f"{low}-{above - 1}" if above > low + 1 else str(low) for low, above in pairwise(bins)
    ]
    return [*closed, f"{bins[-1]}+"]
