"""The report of a model directory: one HTML page of what it is, how it learned and how good it is.

It shows what `metrics.json` says; with a corpus, what the model does on a part of that, too.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2s.config import Config, Section, TrainConfig
from s2s.corpus import Corpus
from s2s.decoding.translation import Translation
from s2s.decoding.translator import Translator
from s2s.evaluation.evaluate import Part, evaluate
from s2s.model.directory import ModelDirectory
from s2s.reports.page import (
    Block,
    Curves,
    Histogram,
    Html,
    Table,
    document,
    element,
    joined,
    section,
)
from s2s.reports.summary import manifest_tables, metrics_of
from s2s.text.languages import language_name
from s2s.text.vocabulary import SPECIALS, Vocabulary
from s2s.training.schedule import learning_rate

SAMPLES = 8  # held-out sentences shown with their translations
MAPS = 4  # of them with a map of the attention
WORST = 10  # sentences shown that have the lowest scores
_MAP_WIDTH = 18  # source tokens that a map fits on a page with


@dataclass(frozen=True)
class _HeldOut:
    """A held-out part: its sentences, what the model made of them, and how good that is."""

    corpus: Corpus
    sentences: Part
    result: dict[str, Any]  # what `evaluate` gave

    @property
    def pairs(self) -> list[tuple[str, str, list[str]]]:
        """Each source with its translation and its references."""
        told = self.sentences
        return [*zip(told.sources, self.result["translations"], told.references, strict=True)]


def report(
    model: Path,
    *,
    corpus: Path | None = None,
    part: str = "valid",
    sentences: Sequence[str] = (),
    on_batch: Callable[[int], None] = lambda sentences: None,
) -> str:
    """The page as an HTML file that needs no other.

    Args:
        corpus: a corpus directory that the model is evaluated on.
        part: of the corpus.
        sentences: to translate and to show the attention of, instead of some of the part.
        on_batch: told the number of sentences of each translated batch.

    Raises:
        BadInput: a directory is broken, or they do not fit each other.
    """
    directory, metrics = ModelDirectory.load(model), metrics_of(model)
    held_out = None if corpus is None else _held_out(model, corpus, part, on_batch)
    samples = [] if held_out is None else _samples(held_out, directory)
    own = [sentence.strip() for sentence in sentences if sentence.strip()]
    asked = own or [source for source, _, _ in samples[:MAPS]]
    found = Translator(directory).hypotheses(asked) if asked else []
    translated = [(source, best[0]) for source, best in zip(asked, found, strict=True) if best]
    given: list[tuple[str, str, list[str]]] = [
        (source, translation.text, []) for source, translation in translated if own
    ]

    config = directory.config
    parts = [
        ("Scores", _scores(held_out, metrics)),
        ("Training", _training(config, metrics)),
        ("Lengths", _lengths(held_out, directory)),
        ("Breakdowns", _breakdowns(held_out)),
        ("Attention", _attention(config, translated)),
        ("Samples", _cards(directory, [*given, *samples])),
        ("Worst sentences", _worst(directory, held_out)),
        ("Data", _data(metrics, held_out)),
        ("Settings", _settings(config)),
        ("Run and versions", _run(metrics)),
    ]
    told = [(_anchor(title), title, inside) for title, inside in parts if inside]
    links = element("nav", *(element("a", title, href=f"#{to}") for to, title, _ in told))
    sections = (section(title, inside, anchor=to) for to, title, inside in told)
    header = _header(model, directory, metrics, held_out, links)
    title = f"{_names(config)}: {model.resolve().name}"
    return document(title, header, element("main", *sections), style=_STYLE)


def _held_out(model: Path, corpus: Path, part: str, on_batch: Callable[[int], None]) -> _HeldOut:
    result = evaluate(
        model, corpus, part, on_batch,
        intervals=True, breakdowns=True, worst=WORST, translations=True,
    )  # fmt: skip
    opened = Corpus.open(corpus)
    return _HeldOut(opened, Part.of(opened, part), result)


def _samples(held_out: _HeldOut, directory: ModelDirectory) -> list[tuple[str, str, list[str]]]:
    """Some sentences from all of the part; if there are enough, those whose map fits on a page."""
    lengths = map(len, directory.source.encode(held_out.sentences.sources))
    pairs = [(pair, length) for pair, length in zip(held_out.pairs, lengths, strict=True) if length]
    fitting = [(pair, length) for pair, length in pairs if 2 < length <= _MAP_WIDTH]
    pool = fitting if len(fitting) >= SAMPLES else pairs
    places = np.linspace(0, len(pool) - 1, min(len(pool), SAMPLES), dtype=int)
    return [pool[place][0] for place in places]


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


# ---- header and scores --------------------------------------------------------------------------


def _header(
    model: Path,
    directory: ModelDirectory,
    metrics: dict[str, Any],
    held_out: _HeldOut | None,
    links: Html,
) -> Html:
    config = directory.config
    parameters = sum(weights.numel() for weights in directory.model.parameters())
    scores = _all_scores(held_out, metrics)
    tiles = [
        *(
            (score["name"], f"{score['score']:.1f}", _interval(score))
            for score in scores
            if score["references"] == scores[0]["references"]
        ),
        *((name, value, brief) for name, value, brief, _ in _accuracies(held_out, metrics)),
        ("parameters", _short(parameters), f"{parameters:,}"),
    ]
    return element(
        "header",
        element("p", f"Model report · {model.resolve().name}", class_="eyebrow"),
        element("h1", _names(config)),
        element("p", _described(directory), class_="lead"),
        element(
            "dl",
            *(
                element("div", element("dt", name), element("dd", value, element("small", note)))
                for name, value, note in tiles
            ),
            class_="tiles",
        ),
        element("p", _where(held_out, metrics), class_="note"),
        links,
    )


def _names(config: Config) -> str:
    return f"{language_name(config.source_language)} → {language_name(config.target_language)}"


def _described(directory: ModelDirectory) -> str:
    """What the model is, in two sentences."""
    model, units = directory.config.model, directory.config.text.units
    layers = "one layer" if model.layers == 1 else f"{model.layers} layers"
    encoder = "a bidirectional encoder" if model.bidirectional else "an encoder that reads one way"
    attention = "no attention" if model.attention == "none" else f"{model.attention} attention"
    source, target = (len(v) - len(SPECIALS) for v in (directory.source, directory.target))
    tokens = "words" if units == "word" else f"parts of words ({units})"
    return (
        f"Encoder and decoder of {model.cell.upper()} cells, {layers} of {model.hidden_size} units "
        f"each, embeddings of {model.embedding_size}, {encoder} and {attention}. It reads "
        f"{source:,} and writes {target:,} different {tokens}."
    )


def _short(number: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _where(held_out: _HeldOut | None, metrics: dict[str, Any]) -> str:
    if held_out is None:
        return f"Measured on the part valid, when it was trained. {_weights(metrics)}"
    result = held_out.result
    wordless = result["wordless"]
    without = f"; {wordless:,} without a word that the model reads" if wordless else ""
    return (
        f"Measured on the part {result['part']} of {held_out.corpus.path.resolve().name}: "
        f"{result['pairs']:,} pairs of {result['sentences']:,} sources{without}. "
        f"Decoding: {result['decoding']}. {_weights(metrics)}"
    )


def _weights(metrics: dict[str, Any]) -> str:
    weights = metrics.get("weights")
    return f"Its weights are {weights}." if weights else ""


def _accuracies(
    held_out: _HeldOut | None, metrics: dict[str, Any]
) -> list[tuple[str, str, str, str]]:
    """What is measured under teacher forcing: name, value, and what it is, in brief and in full."""
    if held_out is not None:
        found = held_out.result
    else:  # a finished model has scores of its weights, a checkpoint those of an epoch
        valid = metrics.get("valid") or metrics.get("best") or {}
        found = {name.removeprefix("valid_"): value for name, value in valid.items()}
    if "loss" not in found:
        return []
    loss, token, padded = (found[name] for name in ("loss", "token_accuracy", "padded_accuracy"))
    return [
        ("loss", f"{loss:.3f}", "nats per token", "nats per real token, under teacher forcing"),
        ("perplexity", f"{math.exp(min(loss, 700)):,.2f}", "per token", "e to the loss"),
        ("token accuracy", f"{token:.1%}", "teacher forcing", "real tokens, under teacher forcing"),
        (
            "padded accuracy", f"{padded:.1%}", "the Keras metric",
            "all positions up to the longest target, every one after the end counted as right",
        ),
    ]  # fmt: skip


def _all_scores(held_out: _HeldOut | None, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    told = metrics if held_out is None else held_out.result
    scores: list[dict[str, Any]] = told.get("scores", [])
    return scores


def _interval(score: dict[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    return "" if low is None or high is None else f"{low:.1f}–{high:.1f}"


def _scores(held_out: _HeldOut | None, metrics: dict[str, Any]) -> Html:
    scores, accuracies = _all_scores(held_out, metrics), _accuracies(held_out, metrics)
    parts = []
    if scores:
        intervals = any(map(_interval, scores))
        rows = [
            (
                element("b", score["name"]),
                f"{score['score']:.2f}",
                *([_range(score)] if intervals else []),
                score["references"],
            )
            for score in scores
        ]
        spread = ["95 % interval"] if intervals else []
        parts.append(Table("", ("score", "value", *spread, "references"), rows).html())
    if accuracies:
        rows = [(name, value, full) for name, value, _, full in accuracies]
        parts.append(Table("", ("measure", "value", "what it is"), rows).html())
    signatures = {score["signature"]: score["name"] for score in scores}
    told = (
        element("p", element("b", name), " ", element("code", signature), class_="note")
        for signature, name in signatures.items()
    )
    signed = element("div", element("h3", "Signatures of sacreBLEU"), *told) if scores else Html("")
    return joined([element("div", *parts, class_="grid"), signed])


def _range(score: dict[str, Any]) -> Html:
    """An interval as text, and as a mark on a line from 0 to 100."""
    if not _interval(score):
        return Html("")
    return joined([_interval(score), _line(score["low"], score["high"])])


def _line(low: float, high: float) -> Html:
    """A line from 0 to 100 of which a stretch is marked."""
    low, high = (min(max(end, 0.0), 100.0) for end in (low, high))
    mark = element("i", style=f"left: {low:.2f}%; width: {high - low:.2f}%")
    return element("span", mark if high > low else "", class_="line", aria_hidden="true")


# ---- training -----------------------------------------------------------------------------------


def _training(config: Config, metrics: dict[str, Any]) -> Html:
    epochs = metrics.get("epochs") or []
    if not epochs:
        return Html("")
    numbers = [epoch["epoch"] for epoch in epochs]
    best = (metrics.get("best") or {}).get("epoch")

    def curves(title: str, names: dict[str, str], *, zero: bool = False) -> Html:
        series = {told: [epoch[name] for epoch in epochs] for name, told in names.items()}
        return _titled(Curves(title, numbers, series, best, zero))

    rates = {"learning rate": _learning_rates(config.train, epochs)}
    plots = [
        curves("Loss, nats per token", {"train_loss": "train", "valid_loss": "valid"}),
        curves(
            "Accuracy on valid, teacher forcing",
            {"valid_token_accuracy": "real tokens", "valid_padded_accuracy": "padded (Keras)"},
        ),
        _titled(Curves("Learning rate at the end of the epoch", numbers, rates, best, True)),
        curves("Speed", {"target_tokens_per_second": "target tokens per second"}, zero=True),
    ]
    notes = []
    if config.train.label_smoothing:
        notes.append("The loss on train has label smoothing in it, that on valid has not.")
    if config.model.word_dropout:
        notes.append("Training hides some of the words, validation none.")
    note = element("p", " ".join(notes), class_="note") if notes else Html("")
    headings = (
        "epoch", "steps", "train loss", "valid loss", "token accuracy", "padded accuracy",
        "learning rate", "pairs/s", "seconds",
    )  # fmt: skip
    rows = [
        (
            element("b", f"{epoch['epoch']} (best)") if epoch["epoch"] == best else epoch["epoch"],
            epoch["steps"],
            f"{epoch['train_loss']:.4f}",
            f"{epoch['valid_loss']:.4f}",
            f"{epoch['valid_token_accuracy']:.4f}",
            f"{epoch['valid_padded_accuracy']:.4f}",
            f"{rate:.3g}",
            round(epoch["pairs_per_second"]),
            f"{epoch['seconds']:,.1f}",
        )
        for epoch, rate in zip(epochs, rates["learning rate"], strict=True)
    ]
    table = element(
        "details",
        element("summary", f"All {len(epochs)} epochs in numbers"),
        Table("", headings, rows).html(),
    )
    return joined([element("div", *plots, class_="grid"), note, table])


def _learning_rates(settings: TrainConfig, epochs: list[dict[str, Any]]) -> list[float]:
    """Of the last step of each epoch, by the schedule."""
    losses = [epoch["valid_loss"] for epoch in epochs]
    rates = []
    before = 0
    for number, epoch in enumerate(epochs):
        steps = max(epoch["steps"] - before, 1)
        fraction = (epoch["epoch"] - 1 / steps) / settings.epochs
        rates.append(learning_rate(settings, epoch["steps"], fraction, losses[:number]))
        before = epoch["steps"]
    return rates


# ---- the held-out part --------------------------------------------------------------------------


def _lengths(held_out: _HeldOut | None, directory: ModelDirectory) -> Html:
    if held_out is None:
        return Html("")
    sources, groups = held_out.sentences.sources, held_out.sentences.references
    translations = _counted(directory.target, held_out.result["translations"])
    references = _counted(directory.target, [text for group in groups for text in group])
    one, other = (
        sum(length * rows for length, rows in counts.items()) / counts.total()
        for counts in (translations, references)
    )
    note = (
        f"A translation has {one:.1f} tokens on average, a reference {other:.1f}: a ratio of "
        f"{one / (other or 1):.2f}. Tokens are the model's own."
    )
    plots = [
        Histogram(
            "Translations and references",
            "tokens",
            {"translations": dict(translations), "references": dict(references)},
        ),
        Histogram("Sources", "tokens", {"sources": dict(_counted(directory.source, sources))}),
    ]
    grid = element("div", *map(_titled, plots), class_="grid")
    return joined([grid, element("p", note, class_="note")])


def _counted(vocabulary: Vocabulary, texts: list[str]) -> Counter[int]:
    """How many texts have so many tokens."""
    return Counter(map(len, vocabulary.encode(texts)))


def _breakdowns(held_out: _HeldOut | None) -> Html:
    """Bars of the scores of groups of sentences, and of the accuracy on groups of tokens."""
    if held_out is None:
        return Html("")
    tables = []
    for name, groups in held_out.result["breakdowns"].items():
        scores = [key for key in (groups[0] if groups else {}) if key not in ("label", "sentences")]
        rows = [
            (_label(group), group["sentences"], *(_scored(group[key]) for key in scores))
            for group in groups
        ]
        tables.append(Table(f"By {name}", (_HEADINGS.get(name, name), "sentences", *scores), rows))
    rows = [
        (_label(group), group["tokens"], _scored(100 * group["accuracy"]))
        for group in held_out.result["token_accuracies"]
    ]
    headings = ("times in train", "tokens", "token accuracy, %")
    tables.append(Table("By how often the target token occurs", headings, rows))
    note = (
        "BLEU and chrF of the sentences of a group, and token accuracy under teacher forcing. The "
        "rarest word of a reference is told by how often it occurs in the targets of train."
    )
    blocks = (_titled(table) for table in tables if table.rows)
    return joined([element("p", note, class_="note"), element("div", *blocks, class_="grid bars")])


_HEADINGS = {"rarest reference word": "times in train"}


def _label(group: dict[str, Any]) -> Html:
    return element("span", str(group["label"]).replace("-", "–"))


def _scored(value: float) -> Html:
    return joined([f"{value:.1f}", _line(0, value)])


# ---- sentences ----------------------------------------------------------------------------------


def _attention(config: Config, translated: list[tuple[str, Translation]]) -> Html:
    if config.model.attention == "none":
        return element(
            "p", "This model has no attention: it translates from one vector for the whole source."
        )
    if not translated:
        return element("p", "No sentence was given: --sentence or --corpus gives some.")
    how = (
        "How much each word of the translation (a row) looked at each word of the source (a "
        "column), in percent; each row adds up to 100. Less than 10 is told by the shade alone. "
        "The last column is how likely the word was to the model."
    )
    maps = (_map(config, source, translation) for source, translation in translated)
    return joined([element("p", how, class_="note"), element("div", *maps, class_="maps")])


def _map(config: Config, source: str, translation: Translation) -> Html:
    """The attention of a translation, as a table whose cells are shaded by their weights."""
    sources, targets = _seen(translation.source_words), _seen(translation.words)
    one, two = config.source_language, config.target_language
    across = (element("th", element("span", word), scope="col", lang=one) for word in sources)
    down = (
        element(
            "tr",
            element("th", target, scope="row", lang=two),
            *_cells(target, sources, weights),
            element("td", f"{math.exp(score):.0%}", class_="sure"),
        )
        for target, weights, score in zip(
            targets, translation.attention or [], translation.word_scores, strict=True
        )
    )
    table = element(
        "table",
        element("thead", element("tr", element("td"), *across, element("th", "sure"))),
        element("tbody", *down),
        class_="map",
    )
    said = (
        element("b", source, lang=one, dir="auto"),
        element("span", translation.text, lang=two, dir="auto"),
    )
    return element("figure", element("figcaption", *said), element("div", table, class_="scroll"))


def _cells(target: str, sources: list[str], weights: list[float]) -> list[Html]:
    return [
        element(
            "td",
            round(100 * weight) if weight >= 0.095 else "",
            style=f"--weight: {weight:.4f}",
            title=f"{target} ← {source}: {weight:.1%}",
            class_="strong" if weight > 0.7 else None,
        )
        for source, weight in zip(sources, weights, strict=True)
    ]


def _seen(words: list[str]) -> list[str]:
    return [word.strip() or "␣" for word in words]


def _cards(directory: ModelDirectory, pairs: list[tuple[str, str, list[str]]]) -> Html:
    """Sentences with their translations and, where there are any, references."""
    if not pairs:
        return Html("")
    note = "Words of a translation that none of its references has are underlined."
    told = element("p", note, class_="note") if any(r for _, _, r in pairs) else Html("")
    cards = (_card(directory, *pair) for pair in pairs)
    return joined([told, element("div", *cards, class_="cards")])


def _worst(directory: ModelDirectory, held_out: _HeldOut | None) -> Html:
    worst = [] if held_out is None else held_out.result["worst"]
    if not worst:
        return Html("")
    note = "Those of the part with the lowest chrF, the worst one first."
    cards = (
        _card(
            directory, each["source"], each["translation"], each["references"],
            f"chrF {each['score']:.1f}",
        )
        for each in worst
    )  # fmt: skip
    return joined([element("p", note, class_="note"), element("div", *cards, class_="cards")])


def _card(
    directory: ModelDirectory, source: str, translation: str, references: list[str], note: str = ""
) -> Html:
    one, two = directory.config.source_language, directory.config.target_language
    # As the model would spell them, too: it may know no case and no accents.
    spelled = [*references, *map(directory.target.normalise, references)]
    lines = [
        ("source", element("dd", source, lang=one, dir="auto")),
        ("translation", element("dd", *_marked(translation, spelled), lang=two, dir="auto")),
        *(("reference", element("dd", text, lang=two, dir="auto")) for text in references),
    ]
    told = (joined([element("dt", name), line]) for name, line in lines)
    return element("article", element("dl", *told), element("p", note) if note else Html(""))


def _marked(translation: str, references: list[str]) -> list[object]:
    """The words of a translation, those that no reference has underlined."""
    if not translation:
        return [element("i", "nothing")]
    known = {_bare(word) for text in references for word in text.split()}
    parts: list[object] = []
    for word in translation.split():
        odd = references and _bare(word) and _bare(word) not in known
        parts += [element("u", word) if odd else word, " "]
    return parts[:-1]


def _bare(word: str) -> str:
    return re.sub(r"\W", "", word).casefold()


# ---- data and settings --------------------------------------------------------------------------


def _data(metrics: dict[str, Any], held_out: _HeldOut | None) -> Html:
    trained = metrics.get("corpus", {})
    rows = [("trained on", source) for source in trained.get("sources", [])]
    if "pairs" in trained:
        rows.append(("pairs trained on", f"{trained['pairs']:,}"))
    tables = [Table("Training", ("what", "value"), rows)]
    if held_out is not None:
        tables += manifest_tables(held_out.corpus.manifest)
    blocks = [_titled(table) for table in tables if table.rows]
    return element("div", *blocks, class_="grid") if blocks else Html("")


def _settings(config: Config) -> Html:
    top = [("source language", config.source_language), ("target language", config.target_language)]
    tables = [
        Table("Languages", ("setting", "value"), top),
        *(
            Table(name, ("setting", "value"), _flat(value))
            for name, value in config
            if isinstance(value, Section)
        ),
    ]
    note = "Hold the pointer over a setting to read what it does."
    columns = element("div", *map(_titled, tables), class_="columns")
    return joined([element("p", note, class_="note screen"), columns])


def _flat(settings: Section, before: str = "") -> list[tuple[object, ...]]:
    """Names and values of settings, those of inner sections with dots."""
    rows: list[tuple[object, ...]] = []
    for name, value in settings:
        if isinstance(value, Section):
            rows += _flat(value, f"{before}{name}.")
        else:
            described = type(settings).model_fields[name].description
            rows.append((element("span", f"{before}{name}", title=described), _value(value)))
    return rows


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _run(metrics: dict[str, Any]) -> Html:
    named = ("weights", "workers", "device", "threads", "precision", "seed")
    rows: list[tuple[object, ...]] = [
        (name, metrics[name]) for name in named if metrics.get(name) is not None
    ]
    if "total_seconds" in metrics:
        rows.append(("seconds in all", f"{metrics['total_seconds']:,.0f}"))
    versions = list(metrics.get("versions", {}).items())
    tables = [
        Table("Run", ("what", "value"), rows),
        Table("Versions", ("library", "version"), versions),
    ]
    return element("div", *(_titled(t) for t in tables if t.rows), class_="columns")


def _titled(block: Block) -> Html:
    return element("div", element("h3", block.title), block.html(), class_="block")


_STYLE = """
.eyebrow { margin: 0 0 .35rem; color: var(--muted); font-size: .9rem; }
.lead { max-width: 44rem; margin: .75rem 0 0; font-size: 1.05rem; }
.note { max-width: 44rem; color: var(--muted); font-size: .9rem; margin: .75rem 0; }
.tiles {
  display: grid; grid-template-columns: repeat(4, 1fr); gap: .7rem;
  margin: 1.75rem 0 0;
}
.tiles div { background: var(--panel); border-radius: .6rem; padding: .7rem .9rem; }
.tiles dt { color: var(--muted); font-size: .82rem; }
.tiles dd {
  margin: 0; font-size: 1.5rem; line-height: 1.3; font-weight: 600; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums;
}
.tiles small {
  display: block; min-height: 1.3em; color: var(--muted); font-size: .78rem; font-weight: 400;
  letter-spacing: 0;
}
nav {
  display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: 1.4rem; padding: .6rem 0;
  border-block: 1px solid var(--line); font-size: .92rem;
}
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
main code { overflow-wrap: anywhere; } section div > .note { margin: .3rem 0; max-width: none; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
  gap: 1.75rem 2.5rem; }
.block { margin-bottom: 1.75rem; min-width: 0; break-inside: avoid; }
.columns { columns: 18rem; column-gap: 2.5rem; } .columns table { width: 100%; }
.columns thead { display: none; } .columns td { padding-block: .28rem; width: 50%; }
.line { display: block; position: relative; width: 100%; min-width: 6rem; height: .35rem;
  margin-top: .3rem; border-radius: .2rem; background: var(--line); }
.line i { position: absolute; inset-block: 0; min-width: .3rem; border-radius: .2rem;
  background: var(--accent); }
.grid .block { margin: 0; } .grid + div { margin-top: 1.5rem; }
.bars table { width: 100%; } .bars td:first-child { white-space: nowrap; }
.bars td { font-variant-numeric: tabular-nums; }
summary { cursor: pointer; color: var(--accent); margin: .75rem 0; width: fit-content; }
.maps { display: flex; flex-wrap: wrap; gap: 2rem 3rem; }
.maps figure { max-width: 100%; } .maps figcaption { display: block; font-size: .95rem; }
.maps figcaption b { color: var(--ink); font-weight: 600; }
.maps figcaption span { color: var(--muted); display: block; }
.map { font-size: .82rem; border-collapse: separate; border-spacing: 2px; margin-top: .4rem; }
.map tr { border: 0; }
.map th { color: var(--ink); font-weight: 400; font-size: .82rem; padding: 0; white-space: nowrap; }
.map thead th { vertical-align: bottom; text-align: center; padding-bottom: .3rem; }
.map thead th:last-child { padding-left: .5rem; text-align: right; color: var(--muted); }
.map thead span { writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block; }
.map tbody th { text-align: right; vertical-align: middle; padding-right: .5rem;
  position: sticky; left: 0; background: var(--page); }
.map tbody td {
  padding: 0; width: 1.75rem; min-width: 1.75rem; height: 1.75rem; text-align: center;
  vertical-align: middle; font-size: .72rem; font-variant-numeric: tabular-nums;
  border-radius: .2rem; box-shadow: inset 0 0 0 1px var(--line);
  background: rgb(var(--heat) / var(--weight));
}
.map .sure { background: none; box-shadow: none; width: auto; padding-left: .5rem;
  text-align: right; color: var(--muted); }
.map .strong { color: var(--page); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
  gap: .8rem; }
article { background: var(--panel); border-radius: .6rem; padding: .8rem 1rem; }
article dl { display: grid; grid-template-columns: 5.6rem 1fr; gap: .25rem .5rem; margin: 0; }
article dt { color: var(--muted); font-size: .82rem; line-height: 1.7; }
article dd { margin: 0; } article p { color: var(--muted); font-size: .82rem; margin: .4rem 0 0; }
article u { text-decoration: underline 2px var(--series-1); text-underline-offset: .2em; }
@media (max-width: 40rem) {
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .map tbody td { width: 1.5rem; min-width: 1.5rem; height: 1.5rem; font-size: .66rem; }
  .bars .line { min-width: 3.5rem; } .bars td, .bars th { padding-right: .8rem; }
  .bars td:last-child { min-width: 0; }
  article dl { display: block; } article dt { margin-top: .35rem; }
}
@media print {
  nav, summary, .screen { display: none; } details::details-content {
    content-visibility: visible; block-size: auto; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
  .grid, .cards { grid-template-columns: 1fr 1fr; gap: 1rem 1.5rem; }
  .maps { gap: 1rem 2rem; } .columns { columns: 3; }
  .map tbody td { width: 1.3rem; min-width: 1.3rem; height: 1.3rem; font-size: .6rem; }
  .bars .line { min-width: 2.5rem; } .bars td:last-child { min-width: 0; }
  table { font-size: .8rem; } th, td { padding-right: .7rem; } article { font-size: .85rem; }
  article dl { grid-template-columns: 4.6rem 1fr; }
}
"""
