"""Scores of translations against references, by sacreBLEU (Post, 2018).

https://aclanthology.org/W18-6319/. BLEU and chrF are the better the higher they are; TER counts the
edits that a translation needs, so it is the better the lower it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from s2s.model.metrics import Score

Measure = Literal["BLEU", "chrF", "TER"]
MEASURES: tuple[Measure, ...] = ("BLEU", "chrF", "TER")

# How BLEU splits into words: as WMT's script does, or not at all, for text that is split already.
Tokenize = Literal["13a", "none"]

SAMPLES = 1000  # resamples of the sentences that intervals and tests draw
SIGNIFICANT = 0.05  # the p-value below which a difference is taken for more than chance


@dataclass(frozen=True)
class Difference:
    """A corpus score of two systems on the same sentences."""

    name: str
    a: float
    b: float
    difference: float  # of b from a
    p_value: float  # of a difference as large by chance alone
    better: Literal["a", "b"] | None  # None if the difference is not significant
    signature: str


def score(
    translations: Sequence[str],
    references: Sequence[Sequence[str]],
    kind: str,
    *,
    measures: Sequence[Measure] = MEASURES,
    tokenize: Tokenize = "13a",
    samples: int = 0,
) -> list[Score]:
    """The scores of translations, of which there is at least one.

    Args:
        references: of each translation, one or more.
        kind: what the references are.
        samples: bootstrap resamples for the confidence intervals; 0 gives none. What is drawn is
            the same in every call (`SACREBLEU_SEED` changes it, and the signature tells it).
    """
    ranks, scores = _ranks(references), []
    for measure in measures:
        metric = _metric(measure, tokenize)
        result = metric.corpus_score(translations, ranks, n_bootstrap=max(1, samples))
        low = high = None
        if samples:
            # sacreBLEU tells the middle of the resamples' scores, and half the interval's width.
            # Numbers of numpy's, which JSON does not know.
            low, high = (float(result._mean + way * result._ci) for way in (-1, 1))
        signature = str(metric.get_signature())
        scores.append(Score(result.name, kind, float(result.score), signature, low, high))
    return scores


def sentence_scores(
    translations: Sequence[str], references: Sequence[Sequence[str]]
) -> list[float]:
    """Score each translation by itself, by chrF, 0 to 100.

    Unlike BLEU, it says something of a single sentence, which may share no four words with its
    reference and still be good (Popović, 2015, https://aclanthology.org/W15-3049/).
    """
    metric = CHRF()
    return [
        metric.sentence_score(translation, list(group)).score
        for translation, group in zip(translations, references, strict=True)
    ]


def compare(
    a: Sequence[str],
    b: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: Tokenize = "13a",
    samples: int = SAMPLES,
) -> list[Difference]:
    """Two systems' scores, and whether they differ by more than chance.

    By paired bootstrap resampling (Koehn, 2004, https://aclanthology.org/W04-3250/): both systems
    are scored on the same resamples of the sentences. The p-value is two-sided: the share of the
    resamples whose difference, whichever sign it has, is above the mean of all by more than the
    real one. Memory grows by about 80 bytes for each sentence of each resample.

    Args:
        a: translations of the first system, of the same sentences as `b`; one at least.
        references: of each sentence, one or more.
        samples: resamples, 1 or more; the smallest p-value is 1 / (samples + 1).
    """
    metrics: dict[str, Any] = {measure: _metric(measure, tokenize) for measure in MEASURES}
    systems = [("a", a), ("b", b)]
    test = PairedTest(systems, metrics, _ranks(references), test_type="bs", n_samples=samples)
    signatures, results = test()
    return [_difference(name, results[name], str(sign)) for name, sign in signatures.items()]


def _difference(name: str, results: list[Any], signature: str) -> Difference:
    """A measure's difference, of sacreBLEU's results of both systems."""
    a, b = results
    difference = float(b.score - a.score)
    # Any difference at all is as large as none. sacreBLEU counts only larger ones: it would call
    # the difference of a system from itself highly significant.
    p_value = float(b.p_value) if abs(difference) > 1e-9 else 1.0
    better: Literal["a", "b"] | None = None
    if p_value < SIGNIFICANT:
        better = "b" if (difference > 0) != (name == "TER") else "a"
    return Difference(name, float(a.score), float(b.score), difference, p_value, better, signature)


def _metric(measure: Measure, tokenize: Tokenize) -> Any:
    if measure == "BLEU":
        return BLEU(tokenize=tokenize, force=True)  # no warning of text that looks split
    return CHRF() if measure == "chrF" else TER()


def _ranks(references: Sequence[Sequence[str]]) -> list[Any]:
    """The first reference of every translation, then the second, and so on, None where is none."""
    return [list(rank) for rank in zip_longest(*references)]
