"""Scores of translations against references, by sacreBLEU (Post, 2018)."""

from dataclasses import dataclass
from itertools import zip_longest

from sacrebleu.metrics import BLEU, CHRF


@dataclass(frozen=True)
class Score:
    """A corpus score with what is needed to repeat it."""

    name: str
    references: str  # what the translations were compared with
    score: float  # 0 to 100
    signature: str


def score(translations: list[str], references: list[list[str]], kind: str) -> list[Score]:
    """BLEU and chrF of translations.

    Args:
        references: of each translation, one or more.
        kind: what the references are.
    """
    # sacreBLEU wants the first reference of every translation, then the second, and so on.
    ranks = [list(rank) for rank in zip_longest(*references)]
    scores = []
    for metric in (BLEU(force=True), CHRF()):
        result = metric.corpus_score(translations, ranks)
        scores.append(Score(result.name, kind, result.score, str(metric.get_signature())))
    return scores
