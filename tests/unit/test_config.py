"""The configuration tree: what it takes, what it refuses, and its way through JSON."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from s2s.config import (
    Config,
    CorpusConfig,
    DecodeConfig,
    ModelConfig,
    Section,
    TextConfig,
    TrainConfig,
)
from s2s.errors import BadInput
from s2s.presets import PRESETS

SECTIONS = [TextConfig, CorpusConfig, ModelConfig, TrainConfig, DecodeConfig, Config]
FIELDS = [(section, field) for section in SECTIONS for field in section.model_fields]


def with_value(path: str, value: Any) -> str:
    """The JSON of a default config with one value put in."""
    tree = json.loads(Config().to_json())
    *sections, key = path.split(".")
    place = tree
    for section in sections:
        place = place[section]
    place[key] = value
    return json.dumps(tree)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_survives_json_exactly(preset: str) -> None:
    config = PRESETS[preset]()
    again = Config.from_json(config.to_json(), "here")
    assert again == config
    assert again.to_json() == config.to_json()


@given(
    valid=st.floats(0, 0.5, exclude_min=True, exclude_max=True),
    test=st.floats(0, 0.5, exclude_max=True),
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    rows=st.none() | st.integers(1, 10**12),
    language=st.text(st.characters(codec="utf-8")),
)
def test_every_value_in_range_survives_json(
    valid: float, test: float, rate: float, rows: int | None, language: str
) -> None:
    config = Config(
        source_language=language,
        corpus=CorpusConfig(valid=valid, test=test, rows=rows),
        train=TrainConfig(learning_rate=rate),
    )
    assert Config.from_json(config.to_json(), "here") == config


@pytest.mark.parametrize(
    "path", ["colour", "model.hidden_units", "train.optimiser", "corpus.shuffle", "text.stemmer"]
)
def test_an_unknown_key_is_named_in_one_line(path: str) -> None:
    with pytest.raises(BadInput, match=rf"config\.json: {re.escape(path)}: unknown key") as caught:
        Config.from_json(with_value(path, 1), "config.json")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("corpus.valid", 0),
        ("corpus.valid", 0.5),
        ("corpus.test", -0.1),
        ("corpus.rows", 0),
        ("corpus.split", "sorted"),
        ("text.vocabulary_size", 0),
        ("text.normaliser", "none"),
        ("model.cell", "transformer"),
        ("model.layers", 0),
        ("model.hidden_size", -1),
        ("model.hidden_size", 1.5),
        ("model.embedding_size", None),
        ("train.epochs", 0),
        ("train.batch_size", 0),
        ("train.learning_rate", 0),
        ("train.learning_rate", "fast"),
        ("decode.max_length", 0),
        ("decode", 3),
    ],
)
def test_a_value_out_of_range_is_named_in_one_line(path: str, value: Any) -> None:
    with pytest.raises(BadInput, match=re.escape(path)) as caught:
        Config.from_json(with_value(path, value), "config.json")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model": ', b"\xff\xfe"])
def test_text_that_is_no_config_is_refused_in_one_line(text: str | bytes) -> None:
    with pytest.raises(BadInput, match=r"^here: ") as caught:
        Config.from_json(text, "here")
    assert len(str(caught.value).splitlines()) == 1


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(BadInput, match=r"model\.layers.*train\.epochs"):
        Config.from_json('{"model": {"layers": 0}, "train": {"epochs": 0}}', "here")


@pytest.mark.parametrize("rate", [float("inf"), float("nan")])
def test_a_learning_rate_must_be_a_finite_number(rate: float) -> None:
    # JSON has no infinity: such a config would be written as one that cannot be read.
    with pytest.raises(ValidationError):
        TrainConfig(learning_rate=rate)


@pytest.mark.parametrize(
    ("section", "seed"), [(CorpusConfig, -1), (TrainConfig, -1), (TrainConfig, 2**64)]
)
def test_a_seed_that_no_generator_takes_is_refused(section: type[Section], seed: int) -> None:
    with pytest.raises(ValidationError):
        section.model_validate({"seed": seed})


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_frozen(section: type[Section]) -> None:
    made = section()
    for field in section.model_fields:
        with pytest.raises(ValidationError):
            setattr(made, field, getattr(made, field))


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=[f"{s.__name__}.{f}" for s, f in FIELDS])
def test_a_setting_has_a_description_for_its_help(section: type[Section], field: str) -> None:
    info = section.model_fields[field]
    is_section = isinstance(info.annotation, type) and issubclass(info.annotation, Section)
    assert is_section or info.description


def test_the_seed_preset_is_the_tutorial() -> None:
    seed = PRESETS["seed"]()
    assert (seed.text.normaliser, seed.text.vocabulary_size) == ("tutorial", None)
    assert (seed.corpus.rows, seed.corpus.split, seed.corpus.valid) == (33_000, "random", 0.1)
    assert (seed.model.cell, seed.model.layers, seed.model.attention) == ("lstm", 1, "none")
    assert (seed.model.embedding_size, seed.model.hidden_size) == (64, 64)
    assert (seed.train.epochs, seed.train.batch_size, seed.train.learning_rate) == (10, 128, 1e-3)
