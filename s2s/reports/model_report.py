"""The report of a model: one HTML page of what it is, how it was trained and how good it is.

The page shows what `metrics.json` says and, with a corpus, an evaluation on a split of it.
"""

from collections.abc import Callable, Sequence

from s2s.corpus import Corpus
from s2s.decoding.translation import Translation
from s2s.decoding.translator import Translator
from s2s.evaluation import scores
from s2s.evaluation.evaluate import evaluate
from s2s.model.directory import ModelDirectory
from s2s.model.metrics import RunMetrics
from s2s.reports.attention_map import attention_section
from s2s.reports.breakdowns import breakdowns_section, lengths_section
from s2s.reports.elements import document, element, section
from s2s.reports.header import header, language_pair
from s2s.reports.samples import Sample, choose_samples, samples_section, worst_section
from s2s.reports.scores import scores_section
from s2s.reports.settings import data_section, run_section, settings_section
from s2s.reports.training_curves import training_section
from s2s.training.trackers.tracker import ValidSample

MAPS = 4  # samples that have a map of their attention
WORST = 10  # sentences shown of those with the lowest scores


def report(
    model: ModelDirectory,
    metrics: RunMetrics,
    *,
    name: str,
    corpus: Corpus | None = None,
    split: str = "valid",
    sentences: Sequence[str] = (),
    epoch_samples: Sequence[tuple[int, ValidSample]] = (),
    on_batch: Callable[[int], None] = lambda sentences: None,
) -> str:
    """Return the page as an HTML file that needs no other file.

    Args:
        metrics: of the run that trained the model.
        name: what the page calls the model.
        corpus: corpus to evaluate the model on; None shows what `metrics` says.
        split: of the corpus.
        sentences: sentences to translate with a map of their attention, instead of some of the
            split.
        epoch_samples: sentences as the run translated them after its epochs, each with its step.
        on_batch: called with the number of sentences of each translated batch.

    Raises:
        BadInput: model and corpus do not fit each other, or matplotlib is not installed.
    """
    evaluation = None
    if corpus is not None:
        evaluation = evaluate(
            model, corpus, split,
            samples=scores.SAMPLES, breakdowns=True, worst=WORST, on_batch=on_batch,
        )  # fmt: skip
    samples = [] if evaluation is None else choose_samples(evaluation, model.source)
    own = [sentence.strip() for sentence in sentences if sentence.strip()]
    translated = _translate(model, own or [sample.source for sample in samples[:MAPS]])
    own_samples = [Sample(source, best.text) for source, best in translated if own]

    config = model.config
    sections = {
        "Scores": scores_section(evaluation, metrics),
        "Training": training_section(config, metrics, epoch_samples),
    }
    if evaluation is not None:
        sections["Lengths"] = lengths_section(evaluation, model)
        sections["Breakdowns"] = breakdowns_section(evaluation)
    sections["Attention"] = attention_section(config, translated)
    sections["Samples"] = samples_section(model, [*own_samples, *samples])
    if evaluation is not None:
        sections["Worst sentences"] = worst_section(model, evaluation)
    sections["Data"] = data_section(metrics, corpus)
    sections["Settings"] = settings_section(config)
    sections["Run and versions"] = run_section(metrics)

    shown = {title: content for title, content in sections.items() if content}
    links = element("nav", *(element("a", t, href=f"#{_anchor(t)}") for t in shown))
    main = (section(t, content, anchor=_anchor(t)) for t, content in shown.items())
    return document(
        f"{language_pair(config)}: {name}",
        header(name, model, metrics, evaluation, corpus, links),
        element("main", *main),
        styles=("model_report.css",),
    )


def _translate(model: ModelDirectory, sentences: list[str]) -> list[tuple[str, Translation]]:
    """Return the best translation of each sentence, beside it."""
    if not sentences:
        return []
    hypotheses = Translator(model).hypotheses(sentences)
    return [(source, best) for source, (best, *_) in zip(sentences, hypotheses, strict=True)]


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
