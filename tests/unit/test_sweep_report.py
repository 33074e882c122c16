"""The page of a sweep shows its trials as they are, whatever varies and whatever failed."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s.cli.main import main
from s2s.config import Config
from s2s.model.metrics import EpochRecord
from s2s.reports.heat_map import heat_map
from s2s.reports.ranking import goodness, plotted_range, scored
from s2s.reports.sweep_report import sweep_report
from s2s.reports.sweep_tables import trials_table
from s2s.reports.sweep_values import duration, short_names
from s2s.tuning.dimension import Value
from s2s.tuning.trials import Axis, SeedScore, Sweep, Trial, pareto_front
from tests.support.browser import BROWSER, require_readable
from tests.support.html import Element, read, section, titles

HOSTILE = "<script>alert(1)</script> & $x^2$"
HIDDEN, EMBEDDING = "model.hidden_size", "model.embedding_size"
SIZES = (Axis(setting=HIDDEN, choices=(32, 64, 128)), Axis(setting=EMBEDDING, choices=(32, 64)))
ALL = [
    "Best", "Trials", "Heat map", "Settings and scores", "Curves", "Quality and cost", "Time",
    "Setup",
]  # fmt: skip


def trial(number: int, point: dict[str, Value], score: float | None, **fields: Any) -> Trial:
    """A finished trial of three epochs or, without a score, one that failed."""
    if score is None:
        failed = {"status": "failed", "reason": "out of memory"} | fields
        return Trial.model_validate({"number": number, "settings": point} | failed)
    record = EpochRecord(3, 30, 2.0, 1.5, 0.5, 0.7, 100.0, 1000.0, 4.0, 1.0, 0.1)
    measured = {
        "status": "finished", "epochs": 3, "curve": (score - 0.2, score - 0.1, score),
        "best": record, "parameters": 1000 * (number + 1), "words_per_second": 5000.0 / number,
        "train_seconds": 12.0, "valid_seconds": 3.0, "overhead_seconds": 1.0,
    } | fields  # fmt: skip
    return Trial.model_validate({"number": number, "settings": point, "score": score, **measured})


def sweep_of(trials: list[Trial], axes: tuple[Axis, ...] = SIZES, **fields: Any) -> Sweep:
    """The sweep of some trials, which ran two at the same time."""
    sums = {
        f"{kind}_seconds": sum(getattr(each, f"{kind}_seconds") for each in trials)
        for kind in ("train", "valid", "overhead")
    }
    given = {
        "objective": "token_accuracy", "maximised": True, "searcher": "random",
        "scheduler": "asha", "rungs": (1, 2), "concurrency": 2, "total_seconds": 60.0, "best": 1,
    } | fields  # fmt: skip
    return Sweep(axes=axes, trials=tuple(trials), **sums, **given)


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """A sweep of the two sizes that did not try one point, and of which a trial failed."""
    sizes = ((32, 32), (32, 64), (64, 32), (128, 32), (128, 64), (128, 64))
    scores = (0.5, 0.58, 0.6, None, 0.7312, 0.7)
    trials = [
        trial(number, {HIDDEN: hidden, EMBEDDING: embedding}, score)
        for number, ((hidden, embedding), score) in enumerate(
            zip(sizes, scores, strict=True), start=1
        )
    ]
    stopped = {"status": "stopped", "reason": "ASHA", "epochs": 2, "curve": (0.4, 0.5)}
    trials[0] = trials[0].model_copy(update=stopped)
    importances = {HIDDEN: 0.8, EMBEDDING: 0.2}
    return sweep_of(trials, best=5, importances=importances)


@pytest.fixture(scope="module")
def page(sweep: Sweep) -> str:
    return sweep_report(sweep, "sizes", Config())


@pytest.fixture
def directory(sweep: Sweep, tmp_path: Path) -> Path:
    """The directory of the sweep; of the best model, the page needs the config alone."""
    path = tmp_path / "sweep"
    (path / "best").mkdir(parents=True)
    (path / "best" / "config.json").write_text(Config().to_json())
    (path / "sweep.json").write_text(sweep.to_json())
    return path


def rows(content: Element) -> list[list[str]]:
    """The cells of all tables, without rows of headings."""
    found = [[cell.text for cell in row.find("td")] for row in content.find("tr")]
    return [row for row in found if row]


# ---- the sections -------------------------------------------------------------------------------


def test_a_page_has_all_sections_and_needs_no_other_file(page: str) -> None:
    assert titles(page) == ALL
    root = read(page)
    assert root.find("title")[0].text == "English to French (en-fr) · sweep sizes"
    assert len(root.find("svg")) == 6
    for element in root.find("*"):
        assert element.name not in {"script", "link", "img", "iframe", "object", "embed", "base"}
        assert not {"src", "srcset"} & element.attributes.keys()


def test_the_header_sums_up_the_sweep(page: str) -> None:
    [tiles] = read(page).find("dl", "tiles")
    assert [[part.text for part in tile.find("dd")] for tile in tiles.find("div")] == [
        ["73.12%trial 5"],
        ["64 finished, 1 stopped, 1 failed"],
        ["1 min 0 s62% of it in training and validation"],  # 5 · 15 of 2 · 60 seconds
        ["142.3 a trial"],
    ]
    [lead] = read(page).find("p", "lead")
    assert lead.text.startswith("Random search over 2 settings, with ASHA. The best of 6 trials is")


def test_the_best_trial_is_shown_with_the_commands_for_its_model(page: str) -> None:
    found = rows(section(page, "Best"))
    assert found[:2] == [["model.hidden_size", "128"], ["model.embedding_size", "64"]]
    assert ["token accuracy", "73.12%"] in found
    assert ["serve it", "s2s serve --local sizes/best"] in found


def test_seeds_and_a_retrained_model_are_shown(sweep: Sweep) -> None:
    seeds = (SeedScore(seed=0, score=0.73, epochs=3), SeedScore(seed=7, score=0.7324, epochs=3))
    best = sweep.best_trial.model_copy(update={"spread": 0.0012, "seeds": seeds})
    again = best.model_copy(update={"score": 0.7512, "seeds": seeds[:1]})
    trials = tuple(best if each.number == 5 else each for each in sweep.trials)
    page = sweep_report(
        sweep.model_copy(update={"trials": trials, "retrained": again}), "a b", Config()
    )
    found = rows(section(page, "Best"))
    assert ["token accuracy", "73.12%", "75.12%"] in found
    assert ["± over seeds", "0.12%", "0.12%"] in found
    assert ["with seed 7", "73.24%", ""] in found
    assert ["serve it", "s2s serve --local 'a b/best'"] in found
    assert "trial 5; ± 0.12% over seeds" in read(page).find("header")[0].text


def test_trials_are_sorted_by_their_scores_and_the_failed_ones_are_last(page: str) -> None:
    found = rows(section(page, "Trials"))
    assert [row[0] for row in found] == ["5 (best)", "6", "3", "2", "1", "4"]
    assert found[0] == [
        "5 (best)", "73.12%", "128", "64", "3", "1.5000", "6,000", "1,000", "16.0", "finished",
    ]  # fmt: skip
    assert found[-2][-1] == "stopped: ASHA"
    assert found[-1] == ["4", "", "128", "32", "0", "", "", "", "0.0", "failed: out of memory"]


def test_a_trial_that_failed_after_good_epochs_is_not_compared(sweep: Sweep) -> None:
    failed = {"status": "failed", "reason": "the loss exploded"}
    good = trial(4, {HIDDEN: 128, EMBEDDING: 32}, 0.9, **failed)
    trials = [good if each.number == 4 else each for each in sweep.trials]
    exploded = sweep.model_copy(update={"trials": tuple(trials)})
    assert [each.number for each in scored(exploded)] == [5, 6, 3, 2, 1]
    found = rows(section(sweep_report(exploded, "sizes", Config()), "Trials"))
    assert found[0][0] == "5 (best)"
    assert found[-1][0] == "4"
    assert 4 not in [each.number for each in pareto_front(trials, "parameters", maximised=True)]


def test_lower_scores_are_better_where_the_objective_is_the_loss(sweep: Sweep) -> None:
    by_loss = sweep.model_copy(update={"objective": "loss", "maximised": False})
    table = trials_table(by_loss)
    assert [row[0] for row in table.rows] == [1, 2, 3, 6, 5, 4]
    assert table.headings[1] == "loss"
    assert goodness(by_loss)[1] == 1


def test_the_heat_map_has_the_best_score_of_each_cell(page: str) -> None:
    [table] = section(page, "Heat map").find("table")
    assert [heading.text for heading in table.find("th")[:4]] == [
        "embedding_size →", "hidden_size ↓", "32", "64",
    ]  # fmt: skip
    cells = [row.find("td") for row in table.find("tr")[2:]]
    assert [[cell.text for cell in row] for row in cells] == [
        ["50.00", "58.00"],
        ["60.00", "–"],
        ["failed", "73.12"],
    ]
    assert cells[2][1].attributes["title"] == "trial 5, best of 2"
    assert "best" in cells[2][1].attributes["class"]
    assert cells[1][1].attributes["class"] == "untried"


def test_a_heat_map_divides_a_range_of_many_values() -> None:
    axes = (Axis(setting="train.learning_rate", log=True), Axis(setting="model.layers"))
    trials = [
        trial(n, {"train.learning_rate": 10 ** (-4 + n / 10), "model.layers": 1 + n % 3}, n / 50)
        for n in range(1, 21)
    ]
    map_ = read(heat_map(sweep_of(trials, axes, best=20)))
    labels = [heading.text for heading in map_.find("tbody")[0].find("th")]
    assert labels[0] == "≥ 0.000126"
    assert len(labels) == 6
    assert [heading.text for heading in map_.find("th")[2:5]] == ["1", "2", "3"]
    shown = {cell.text for cell in map_.find("td")}
    assert {"40.00", "38.00"} <= shown  # of the last two trials, in different columns


def test_plots_name_the_best_trial_the_rungs_and_the_pareto_front(page: str) -> None:
    assert "rungs of ASHA, epochs 1, 2" in section(page, "Curves").text
    assert "trial 5, the best" in section(page, "Curves").text
    against_parameters, against_speed = section(page, "Quality and cost").find("svg")
    for plot, front in ((against_parameters, {"1", "2", "3", "5"}), (against_speed, {"3", "5"})):
        written = {text.text for text in plot.find("text")}
        assert front <= written
        assert "4" not in written  # it has no score
    labels = [text.text for text in section(page, "Settings and scores").find("text")]
    assert labels[:4] == ["hidden_size", "32", "64", "128"]
    assert "token accuracy" in labels


def test_sections_without_content_are_left_out() -> None:
    axes = (Axis(setting="train.learning_rate", log=True),)
    bare = {"parameters": None, "words_per_second": None, "curve": (), "train_seconds": 0.0,
            "valid_seconds": 0.0, "overhead_seconds": 0.0}  # fmt: skip
    only = trial(1, {"train.learning_rate": 1e-3}, 0.5, **bare)
    page = sweep_report(sweep_of([only], axes, scheduler="none", rungs=()), "one", Config())
    assert titles(page) == ["Best", "Trials", "Settings and scores", "Setup"]
    assert "importance" not in page
    assert "Random search over one setting. The best" in page


# ---- values of all kinds ------------------------------------------------------------------------


def test_text_of_a_sweep_is_never_markup() -> None:
    axes = (
        Axis(setting="model.attention", choices=(HOSTILE, "none")),
        Axis(setting="model.tie", choices=(None, True, "all")),
    )
    trials = [
        trial(1, {"model.attention": HOSTILE, "model.tie": None}, 0.5),
        trial(2, {"model.attention": "none", "model.tie": True}, 0.6),
        trial(3, {"model.attention": HOSTILE}, None, reason=HOSTILE),
    ]
    page = sweep_report(sweep_of(trials, axes, best=2), HOSTILE, Config())
    assert not read(page).find("script")
    assert f"failed: {HOSTILE}" in rows(section(page, "Trials"))[-1]
    assert rows(section(page, "Trials"))[0][1:4] == ["60.00%", "none", "yes"]
    labels = [text.text for text in section(page, "Settings and scores").find("text")]
    assert HOSTILE[:10] in labels[1]
    assert {"none", "yes", "all"} <= set(labels)


@pytest.mark.parametrize("score", [0.0, 0.5, math.nan])
def test_a_sweep_whose_scores_are_all_equal_has_a_page(score: float) -> None:
    """A score that is not a number is none."""
    trials = [
        trial(number, {HIDDEN: 32, EMBEDDING: 64}, score, curve=(score, math.inf, score))
        for number in (1, 2, 3)
    ]
    written = Sweep.from_json(sweep_of(trials).to_json(), "sweep.json")
    page = sweep_report(written, "equal", Config())
    missing = {"Settings and scores", "Curves", "Quality and cost"} if math.isnan(score) else set()
    assert titles(page) == [title for title in ALL if title not in missing]


NAMES = ("model.dropout", "train.dropout", "model.tie", "train.epochs", "train.learning_rate")
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 500), st.floats(-1e3, 1e3), st.sampled_from("abc")
)


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    """Sweeps over settings of any values, each of which a trial may lack."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    trials = [
        trial(
            number,
            draw(st.dictionaries(st.sampled_from(names), VALUES)),
            draw(st.one_of(st.none(), st.floats(-10, 10), st.just(math.nan))),
        )
        for number in range(1, draw(st.integers(1, 12)) + 1)
    ]
    axes = tuple(
        Axis(
            setting=name, choices=tuple(draw(st.lists(VALUES, max_size=3))), log=draw(st.booleans())
        )
        for name in names
    )
    return sweep_of(trials, axes, maximised=draw(st.booleans()))


@settings(max_examples=40)
@given(sweeps())
def test_tables_have_every_trial_once(sweep: Sweep) -> None:
    table = trials_table(sweep)
    numbers = [row[0] for row in table.rows]
    assert sorted(map(str, numbers)) == sorted(str(each.number) for each in sweep.trials)
    assert len(set(table.headings)) == len(table.headings)
    scores = [each.score or 0.0 for each in scored(sweep)]
    assert scores == sorted(scores, reverse=sweep.maximised)
    assert numbers[: len(scores)] == [each.number for each in scored(sweep)]
    weights = list(goodness(sweep).values())
    assert weights == sorted(weights, reverse=True)
    assert all(0 <= weight <= 1 for weight in weights)
    assert weights[:1] in ([], [1.0])
    if map_ := heat_map(sweep):
        shown = [cell for cell in read(map_).find("td") if "style" in cell.attributes]
        both = {axis.setting for axis in sweep.axes[:2]}
        assert bool(shown) == any(both <= each.settings.keys() for each in scored(sweep))


@given(st.lists(st.floats(-10, 10), min_size=1), st.booleans())
def test_an_axis_has_the_best_value_and_most_others(values: list[float], maximised: bool) -> None:
    low, high = plotted_range(values, maximised=maximised)
    assert low < high
    inside = [value for value in values if low <= value <= high]
    assert (max if maximised else min)(values) in inside
    assert 2 * len(inside) >= len(values)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (200, "3 min 20 s"),
        (1475, "25 min"),
        (3599.9, "1 h 0 min"),
        (7260, "2 h 1 min"),
    ],
)
def test_times_have_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_names_are_short_where_that_is_clear() -> None:
    names = ["model.dropout", "train.dropout", "train.epochs", "model.tie"]
    assert list(short_names(names, ["epochs"]).values()) == [*names[:3], "tie"]


# ---- the commands -------------------------------------------------------------------------------


def test_report_writes_the_page_into_the_directory(
    directory: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(directory)]) == 0
    assert capsys.readouterr().out == f"page: {directory / 'report.html'}\n"
    written = (directory / "report.html").read_text("utf-8")
    assert written == page.replace("sizes/best", "sweep/best").replace(
        "sweep sizes", "sweep sweep"
    ).replace("Sweep · sizes", "Sweep · sweep")
    assert main(["inspect", str(directory), "--html", str(directory / "inspected.html")]) == 0
    assert (directory / "inspected.html").read_text("utf-8") == written


def test_report_refuses_options_of_a_model(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(directory), "--corpus", "c", "--sentence", "I see."]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "takes no --corpus, --sentence" in line
    assert line.endswith(f"s2s report {directory / 'best'}")
    assert not (directory / "report.html").exists()


def test_inspect_prints_the_trials(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(directory)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"│ trials +│ 6: 4 finished, 1 stopped, 1 failed +│", printed)
    assert re.search(r"│ +4 │ out of memory │", printed)
    assert main(["inspect", str(directory), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["Trials"][0] == {
        "trial": 5, "token accuracy": "73.12%", "hidden_size": "128", "embedding_size": "64",
        "epochs": 3, "status": "finished",
    }  # fmt: skip


def test_a_broken_sweep_is_bad_input(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "sweep.json").write_text('{"trials": 3}')
    for verb in ("report", "inspect"):
        assert main([verb, str(directory)]) == 2
        assert "sweep.json: " in capsys.readouterr().err


# ---- in a browser -------------------------------------------------------------------------------


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
def test_anybody_can_read_the_page(tmp_path: Path) -> None:
    """Of many trials over settings of all kinds, some of which depend on others."""
    axes = (
        Axis(setting=HIDDEN, choices=(32, 64, 128, 256)),
        Axis(setting="model.bidirectional", choices=(True, False)),
        Axis(setting="model.attention", choices=("none", "dot", "general")),
        Axis(setting="train.learning_rate", log=True),
        Axis(setting="train.batch_size", choices=tuple(range(16, 256, 10))),
        Axis(setting="model.tie", choices=("a choice of a very long name", None, "all")),
    )
    trials = []
    for number in range(1, 31):
        point: dict[str, Value] = {
            HIDDEN: 32 * 2 ** (number % 4),
            "model.bidirectional": number % 3 == 0,
            "train.learning_rate": 10 ** (-4 + 2 * number / 31),
            "train.batch_size": 16 + 10 * (number % 24),
            "model.tie": ("a choice of a very long name", None, "all")[number % 3],
        }
        if point["model.bidirectional"]:
            point["model.attention"] = ("none", "dot", "general")[number % 3]
        score = None if number % 10 == 0 else 0.7 - 0.001 * abs(number - 14) - 0.02 * (number % 7)
        parameters = 500_000 + 10_000 * ((7 * number) % 30)
        trials.append(trial(number, point, score, parameters=parameters))
    importances = {axis.setting: 1 / 6 for axis in axes}
    page = sweep_report(sweep_of(trials, axes, best=14, importances=importances), "many", Config())
    (tmp_path / "page.html").write_text(page, "utf-8")
    require_readable(tmp_path / "page.html")
