"""The evaluation of a model on a split of a corpus."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pyarrow as pa
from datasets import Dataset

from s2s.config import DecodeConfig
from s2s.corpus import Corpus, Manifest
from s2s.corpus.batches import Batches
from s2s.corpus.directory import CorpusWarning
from s2s.corpus.warnings import score_warnings
from s2s.decoding.translation import Translations
from s2s.decoding.translator import Translator
from s2s.errors import BadInput
from s2s.evaluation.breakdowns import Breakdowns, WorstSentence, break_down, worst_sentences
from s2s.evaluation.references import References, check_languages
from s2s.evaluation.scores import score
from s2s.evaluation.teacher_forcing import validate
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import Score
from s2s.text.vocabulary import EOS


@dataclass(frozen=True)
class Evaluation:
    """How well a model translates a split of a corpus."""

    references: References
    translations: Translations  # of each source of the references
    wordless: int  # rows whose source has no word that the model reads
    loss: float  # nats per real target token, under teacher forcing
    token_accuracy: float  # share of the real target tokens, under teacher forcing
    padded_accuracy: float  # the Keras metric: padding counts as right
    decoding: str  # how the translations were decoded, in words
    scores: tuple[Score, ...]
    breakdowns: Breakdowns | None = None  # None if they were not computed
    worst: tuple[WorstSentence, ...] = ()  # the sentences of lowest chrF, the worst first

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.references.split

    @property
    def pairs(self) -> int:
        """Number of rows of the split."""
        return len(self.references.source_of_row)

    @property
    def sentences(self) -> int:
        """Number of distinct sources, each of which was translated once."""
        return len(self.references.sources)

    def warnings(self, manifest: Manifest) -> tuple[CorpusWarning, ...]:
        """Return a warning if the split is so small that its scores are uncertain.

        Args:
            manifest: of the corpus that the split is of.
        """
        bleu = next(score for score in self.scores if score.name == "BLEU")
        margin = None if bleu.low is None or bleu.high is None else (bleu.high - bleu.low) / 2
        return score_warnings(manifest, self.split, self.sentences, bleu.score, margin)

    @property
    def perplexity(self) -> float:
        """Perplexity of the real target tokens, under teacher forcing."""
        return math.exp(min(self.loss, 700.0))  # a float's exponent ends there

    def to_json(self) -> str:
        """Return JSON text of all but references and translations."""
        content = {
            "part": self.split,
            "pairs": self.pairs,
            "sentences": self.sentences,
            "wordless": self.wordless,
            "incomplete": len(self.translations.incomplete),
            "loss": self.loss,
            "perplexity": self.perplexity,
            "token_accuracy": self.token_accuracy,
            "padded_accuracy": self.padded_accuracy,
            "decoding": self.decoding,
            "scores": [asdict(score) for score in self.scores],
        }
        if self.breakdowns is not None:
            content["breakdowns"] = {
                criterion: [group.as_json() for group in groups]
                for criterion, groups in self.breakdowns.sentences.items()
            }
            content["token_accuracies"] = [asdict(group) for group in self.breakdowns.tokens]
        if self.worst:
            content["worst"] = [asdict(sentence) for sentence in self.worst]
        return json.dumps(content, indent=2)


def evaluate(
    model: ModelDirectory,
    corpus: Corpus,
    split: str,
    *,
    decode: DecodeConfig | None = None,
    samples: int = 0,
    breakdowns: bool = False,
    worst: int = 0,
    on_batch: Callable[[int], None] = lambda sentences: None,
) -> Evaluation:
    """Return loss and accuracies under teacher forcing, and scores of translations.

    The sentences of the corpus are encoded again with the model's own vocabularies, so a model can
    be scored on a corpus that it was not trained on. Rows of one source are one sentence with
    several references. A source without a word that the model reads ("123" under `tutorial`) has
    an empty translation, and counts neither in the loss nor in the accuracies.

    Args:
        split: `train`, `valid` or `test`.
        decode: how to decode, instead of the model's own settings.
        samples: bootstrap resamples for 95 % confidence intervals of the scores; 0 gives none.
        breakdowns: also compute `Breakdowns`, which counts the words of all of `train`.
        worst: number of sentences to return of those with the lowest chrF.
        on_batch: called with the number of sentences of each translated batch.

    Raises:
        BadInput: model and corpus have different languages, the corpus has no such split, or no
            source of the split has a word that the model reads.
    """
    check_languages(model.config, corpus)
    references = References.of(corpus, split)
    batches = _encode(corpus, split, model)
    sums = validate(model.model, batches)
    longest = max(corpus.manifest.longest["target"], batches.longest_target)

    translator = Translator(model, decode=decode)
    translations = translator.translate_rows(references.sources, on_batch)
    return Evaluation(
        references=references,
        translations=translations,
        wordless=len(references.source_of_row) - batches.pairs,
        loss=sums.mean_loss,
        token_accuracy=sums.token_accuracy,
        padded_accuracy=sums.padded_accuracy(longest),
        decoding=translator.config.decode.method,
        scores=_scores(model, references, translations, samples),
        breakdowns=(
            break_down(model, corpus, references, translations, batches) if breakdowns else None
        ),
        worst=worst_sentences(references, translations, worst) if worst else (),
    )


def _encode(corpus: Corpus, split: str, model: ModelDirectory) -> Batches:
    """Return the rows of a split as the model's tokens, without those of wordless sources."""
    rows = corpus.split(split)
    sources = model.source.encode(rows["source"][:])
    targets = [[*ids, EOS] for ids in model.target.encode(rows["target"][:])]
    with_words = [row for row in zip(sources, targets, strict=True) if row[0]]
    if not with_words:
        raise BadInput(f"{corpus.path}: no source of {split!r} has a word that the model reads")
    columns = map(list, zip(*with_words, strict=True))
    table = pa.table(dict(zip(("source_ids", "target_ids"), columns, strict=True)))
    # Without a fingerprint, `datasets` pickles the table, and with it pyarrow itself where that is
    # not in `site-packages`.
    return Batches(Dataset(table, fingerprint=split), model.config.train.batch_size)


def _scores(
    model: ModelDirectory, references: References, translations: list[str], samples: int
) -> tuple[Score, ...]:
    """Return BLEU, chrF and TER against each set of references that applies."""
    targets = {"as read": references.targets}
    if any(len(group) > 1 for group in references.targets):
        # To compare with published scores, which often have a single reference.
        targets["first alone"] = [group[:1] for group in references.targets]
    if model.config.text.normaliser == "tutorial":
        targets["normalised"] = [
            [model.target.normalise(target) for target in group] for group in references.targets
        ]
    return tuple(
        result
        for kind, groups in targets.items()
        for result in score(
            translations, groups, kind, tokenize=references.tokenize, samples=samples
        )
    )
