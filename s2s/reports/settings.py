"""The sections of a page on data, settings and the training run."""

from s2s.config import DataConfig, Section
from s2s.corpus import Corpus
from s2s.model.metrics import RunMetrics
from s2s.reports.blocks import Table, titled
from s2s.reports.corpus_tables import coverage_table, leak_table, left_out_table, splits_table
from s2s.reports.elements import Html, element, join

Row = tuple[object, ...]

_RUN = ("weights", "workers", "device", "threads", "precision", "seed")  # fields of RunMetrics


def data_section(metrics: RunMetrics, corpus: Corpus | None) -> Html:
    """Return tables of the corpus that the model was trained on, and of that it is evaluated on."""
    trained = metrics.corpus
    rows: list[Row] = [("trained on", source) for source in trained.sources]
    if "pairs" in trained.model_fields_set:
        rows.append(("training pairs", f"{trained.pairs:,}"))
    tables = [Table("Training", ("what", "value"), rows)]
    if corpus is not None:
        of_corpus = (splits_table, left_out_table, coverage_table, leak_table)
        tables += [table(corpus.manifest) for table in of_corpus]
    blocks = [titled(table) for table in tables if table.rows]
    return element("div", *blocks, class_="grid bars") if blocks else Html("")


def settings_section(config: DataConfig) -> Html:
    """Return tables of all settings of a model or of a corpus."""
    languages = [
        ("source language", config.source_language),
        ("target language", config.target_language),
    ]
    tables = [
        Table("Languages", ("setting", "value"), languages),
        *(
            Table(name, ("setting", "value"), _flatten(value))
            for name, value in config
            if isinstance(value, Section)
        ),
    ]
    note = "Hold the pointer over a setting to read its description."
    columns = element("div", *map(titled, tables), class_="columns")
    return join([element("p", note, class_="note screen"), columns])


def _flatten(settings: Section, prefix: str = "") -> list[Row]:
    """Return names and values of settings, those of inner sections with dots in their names."""
    rows: list[Row] = []
    for name, value in settings:
        if isinstance(value, Section):
            rows += _flatten(value, f"{prefix}{name}.")
        else:
            description = type(settings).model_fields[name].description
            rows.append((element("span", f"{prefix}{name}", title=description), _value(value)))
    return rows


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def run_section(metrics: RunMetrics) -> Html:
    """Return tables of how the run that trained the model was started, and of versions."""
    # What `metrics.json` of an earlier version does not say is left out.
    run = metrics.model_dump(include=set(_RUN), exclude_unset=True, exclude_none=True)
    rows: list[Row] = [(name, run[name]) for name in _RUN if name in run]
    if metrics.total_seconds is not None:
        rows.append(("total seconds", f"{metrics.total_seconds:,.0f}"))
    tables = [
        Table("Run", ("what", "value"), rows),
        Table("Versions", ("library", "version"), list(metrics.versions.items())),
    ]
    return element("div", *(titled(table) for table in tables if table.rows), class_="columns")
