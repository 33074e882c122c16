"""The attention section of a model report: a map of weights for each translation."""

import math

from s2s.config import Config
from s2s.decoding.translation import Translation
from s2s.reports.elements import Html, element, join, scrollable

# Weight from which the text of a cell is in the other colour: either has enough contrast there.
STRONG = 0.83


def attention_section(config: Config, translated: list[tuple[str, Translation]]) -> Html:
    """Return a map for each sentence and its translation, or why there is none."""
    if config.model.attention == "none":
        return element(
            "p", "This model has no attention: it translates from one vector for the whole source."
        )
    if not translated:
        note = "No sentence to show: s2s report shows some here with --sentence or --corpus."
        return element("p", note)
    note = (
        "Attention of each token of the translation (row) to each token of the source (column), in "
        "percent; each row adds up to 100. Values below 10 are shown by the shade alone. The last "
        "column is the probability that the model gave the token."
    )
    maps = (attention_map(config, source, translation) for source, translation in translated)
    return join([element("p", note, class_="note"), element("div", *maps, class_="maps")])


def attention_map(config: Config, source: str, translation: Translation) -> Html:
    """Return the attention of a translation as a table whose cells are shaded by the weights."""
    source_tokens = _visible(translation.source_words)
    target_tokens = _visible(translation.words)
    source_language, target_language = config.source_language, config.target_language
    columns = (
        element("th", element("span", token), scope="col", lang=source_language)
        for token in source_tokens
    )
    rows = (
        element(
            "tr",
            element("th", token, scope="row", lang=target_language),
            *_cells(token, source_tokens, weights),
            element("td", f"{math.exp(score):.0%}", class_="sure"),
        )
        for token, weights, score in zip(
            target_tokens, translation.attention or [], translation.word_scores, strict=True
        )
    )
    table = element(
        "table",
        element("thead", element("tr", element("td"), *columns, element("th", "prob."))),
        element("tbody", *rows),
        class_="map",
    )
    caption = element(
        "figcaption",
        element("b", source, lang=source_language, dir="auto"),
        element("span", translation.text, lang=target_language, dir="auto"),
    )
    return element("figure", caption, scrollable(table, f"attention of {translation.text}"))


def _cells(target: str, sources: list[str], weights: list[float]) -> list[Html]:
    return [
        element(
            "td",
            round(100 * weight) if weight >= 0.095 else "",
            style=f"--weight: {weight:.4f}",
            title=f"{target} ← {source}: {weight:.1%}",
            class_="strong" if weight > STRONG else None,
        )
        for source, weight in zip(sources, weights, strict=True)
    ]


def _visible(tokens: list[str]) -> list[str]:
    """Return tokens with a sign in the place of those that are only space."""
    return [token.strip() or "␣" for token in tokens]
