"""Search spaces: read from options and files, checked before anything starts."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2s.config import Config
from s2s.errors import BadInput
from s2s.presets import PRESETS
from s2s.tuning.dimension import Dimension, parse_dimension, read_space
from s2s.tuning.search import grid, random_points
from s2s.tuning.space import Point, Space, describe_point

SEED, BASE = PRESETS["seed"](), PRESETS["base"]()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.hidden-size=32,64", Dimension("model.hidden_size", (32, 64))),
        ("train.schedule=constant,cosine", Dimension("train.schedule", ("constant", "cosine"))),
        ("model.bidirectional=true,false", Dimension("model.bidirectional", (True, False))),
        ("train.clip_norm=none,1", Dimension("train.clip_norm", (None, 1.0))),
        ("model.dropout=0.1:0.5", Dimension("model.dropout", low=0.1, high=0.5)),
        ("model.layers=1:3",
         Dimension("model.layers", low=1, high=3, step=1, is_whole=True)),
        ("model.hidden-size=32:256:32",
         Dimension("model.hidden_size", low=32, high=256, step=32, is_whole=True)),
        ("train.learning-rate=log:1e-4:1e-2",
         Dimension("train.learning_rate", low=1e-4, high=1e-2, log=True)),
        ("model.layers=log:1:4",
         Dimension("model.layers", low=1, high=4, step=1, log=True, is_whole=True)),
    ],
)  # fmt: skip
def test_an_option_is_read(text: str, expected: Dimension) -> None:
    assert parse_dimension(text, SEED) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.hiden-size=32", "unknown setting model.hiden-size; did you mean model.hidden-size"),
        ("model.hidden-size", "expected SETTING=VALUES"),
        ("model.hidden-size=", "expected SETTING=VALUES"),
        ("model.hidden-size=big", "'big' is no value of model.hidden_size"),
        ("train.schedule=cosin", "expected one of constant, cosine, inverse_sqrt, plateau"),
        ("train.schedule=1:2", "train.schedule is no number; give its values with commas"),
        ("model.dropout=0.5:0.1", "two different numbers are needed, the lower one first"),
        ("train.learning-rate=log:0:1", "positive, the lower one first"),
        ("model.layers=1:2.5", "model.layers is a whole number"),
        ("model.dropout=0:1:2:3", "a range is LOW:HIGH, or LOW:HIGH:STEP"),
        ("model.dropout=a:b", "a number is needed, not 'a'"),
        ("train.learning-rate=log:1e-4:1e-2:1e-4", "searched in its logarithm has no steps"),
        ("model.dropout=0:0.5:1e-12", "more than 1,000,000,000 steps; leave out the step"),
        ("decode.beam=1,4", "decode.beam belongs to decoding, by which no trial is compared"),
        ("text.units=bpe,word", "text.units belongs to the corpus, which all trials share"),
    ],
)
def test_a_wrong_option_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_dimension(text, SEED)
    assert str(caught.value).startswith(f"--search {text}: ")
    assert said in str(caught.value)


def space(config: Config, *texts: str) -> Space:
    return Space.of(config, [parse_dimension(text, config) for text in texts])


def test_a_grid_has_all_combinations_in_order() -> None:
    found = space(SEED, "model.hidden-size=32:96:32", "model.cell=lstm,gru").points()
    assert found == [
        {"model.hidden_size": size, "model.cell": cell}
        for size in (32, 64, 96)
        for cell in ("lstm", "gru")
    ]
    assert space(SEED, "model.cell=gru").config_of(found[1]).model.hidden_size == 32


def test_a_range_without_steps_is_no_grid() -> None:
    wide = space(SEED, "model.dropout=0.1:0.5")
    assert not wide.is_finite
    with pytest.raises(BadInput, match=r"a grid needs steps in the range of model.dropout"):
        wide.points()


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["model.hidden-size=32,33"], "model.hidden_size 33: "),
        (["model.dropout=0.1:1.5"], "model.dropout 1.5: "),
        (["train.schedule=inverse_sqrt", "train.warmup-steps=0,10"], "needs warmup_steps"),
        (["model.layers=1,2", "model.layers=3"], "--search model.layers is given twice"),
    ],
)
def test_what_the_config_refuses_is_refused_before_anything_starts(
    texts: list[str], said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        space(BASE, *texts)
    assert said in str(caught.value)


FILE = """
[search]
"model.hidden_size" = [64, 128]
"model.bidirectional" = [true, false]
"model.attention" = { choices = ["none", "general"], where = { "model.bidirectional" = true } }
"train.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
"""


def test_a_file_has_conditions_that_leave_combinations_out(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(FILE)
    dimensions = read_space(tmp_path / "space.toml", SEED)
    *finite, rate = dimensions
    assert (rate.low, rate.high, rate.log) == (1e-4, 1e-2, True)
    points = Space.of(SEED, list(reversed(finite))).points()
    assert len(points) == 2 * (1 + 2)
    assert {"model.hidden_size": 64, "model.bidirectional": False} in [
        dict(sorted(point.items())) for point in points
    ] or any("model.attention" not in point for point in points)
    assert all(
        ("model.attention" in point) == (point["model.bidirectional"] is True) for point in points
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = ", "is not TOML: "),
        ("[other]", "one table [search] is needed"),
        ('[search]\n"model.layers" = {low = 1}', "a list of values is needed, or { low = "),
        ('[search]\n"model.layers" = {lo = 1}', "model.layers: lo: unknown key"),
        ('[search]\n"model.layers" = {choices = [1], where = {"model.cel" = "gru"}}',
         "unknown setting model.cel; did you mean model.cell?"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_space(tmp_path / "space.toml", SEED)
    assert said in str(caught.value)


def test_conditions_in_a_circle_are_refused() -> None:
    one = Dimension("model.layers", (1, 2), where={"model.cell": ("gru",)})
    other = Dimension("model.cell", ("gru", "lstm"), where={"model.layers": (1,)})
    with pytest.raises(BadInput, match=r"the conditions of model.cell, model.layers form a circle"):
        Space.of(SEED, [one, other])


def test_a_point_is_described_in_a_line() -> None:
    point = {"train.learning_rate": 0.00123456, "model.layers": 2, "model.bidirectional": True}
    assert describe_point(point) == (
        "train.learning_rate 0.001235, model.layers 2, model.bidirectional true"
    )


# ---- the choice of points -----------------------------------------------------------------------


def first(points: Iterator[Point], number: int) -> list[Point]:
    return list(itertools.islice(points, number))


def test_random_points_do_not_repeat_and_more_of_them_begin_alike() -> None:
    finite = space(SEED, "model.hidden-size=32:128:32", "model.cell=lstm,gru")
    few, all_of_them = (first(random_points(finite, 7), number) for number in (3, 99))
    assert all_of_them[:3] == few
    assert sorted(map(str, all_of_them)) == sorted(map(str, finite.points()))
    assert first(random_points(finite, 8), 3) != few
    assert list(grid(finite)) == finite.points()


def test_random_points_of_ranges_are_within_them() -> None:
    wide = space(SEED, "train.learning-rate=log:1e-4:1e-2", "model.dropout=0.1:0.5",
                 "model.layers=1:3")  # fmt: skip
    points = first(random_points(wide, 0), 200)
    rates = [point["train.learning_rate"] for point in points]
    assert all(isinstance(rate, float) and 1e-4 <= rate <= 1e-2 for rate in rates)
    assert 60 < sum(rate < 1e-3 for rate in rates) < 140  # type: ignore[operator]
    assert {point["model.layers"] for point in points} == {1, 2, 3}
    assert all(wide.config_of(point) for point in points)
    assert first(random_points(wide, 0), 300)[:200] == points
