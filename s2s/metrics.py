"""Scores of translations against references, by sacreBLEU (Post, 2018)."""

from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF


@dataclass(frozen=True)
class Score:
    """A corpus score with what is needed to repeat it."""

    name: str
    references: str  # what the translations were compared with
    score: float  # 0 to 100
    signature: str


def score(translations: list[str], references: list[str], kind: str) -> list[Score]:
    """BLEU and chrF of translations; `kind` says what the references are."""
    scores = []
    for metric in (BLEU(force=True), CHRF()):
        result = metric.corpus_score(translations, [references])
        scores.append(Score(result.name, kind, result.score, str(metric.get_signature())))
    return scores
