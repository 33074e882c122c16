"""Pairs in JSON documents and nested columns: read, or refused with the names that are there."""

import json
from pathlib import Path

import datasets
import pytest

from s2s.errors import BadInput
from tests.support.sources import pairs_of, rows_of

PAIRS = [(f"sentence {n}", f"phrase {n}") for n in range(4)]
RECORDS = [{"en": s, "fr": t} for s, t in PAIRS]
EN, FR = ([pair[side] for pair in PAIRS] for side in (0, 1))

DOCUMENTS: dict[str, object] = {
    "a list": RECORDS,
    "translations": [{"id": 1, "translation": record} for record in RECORDS],
    "an object with a list": {"version": 2, "data": RECORDS},
    "an object with lists": {"a": RECORDS[:2], "b": {"c": RECORDS[2:]}},
    "columns": {"en": EN, "fr": FR},
    "columns of pandas": {
        "en": {str(n): text for n, text in enumerate(EN)},
        "fr": {str(n): text for n, text in enumerate(FR)},
    },
    "an index": {str(n): record for n, record in enumerate(RECORDS)},
    "nested": [{"id": n, "data": {"translation": record}} for n, record in enumerate(RECORDS)],
    "texts in objects": [{"en": {"text": s}, "fr": {"text": t}} for s, t in PAIRS],
    "lists of one": [{"en": [s], "fr": t} for s, t in PAIRS],
    "variable languages": [
        {"translation": {"language": ["fr", "en"], "translation": [t, s]}} for s, t in PAIRS
    ],
}


@pytest.mark.parametrize("form", DOCUMENTS)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_document_is_read(form: str, indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(DOCUMENTS[form], indent=indent))
    assert pairs_of(path) == PAIRS


@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p.txt"])
@pytest.mark.parametrize("indent", [None, 2])
def test_objects_may_follow_each_other(name: str, indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("\n\n".join(json.dumps(record, indent=indent) for record in RECORDS))
    assert [row for row in rows_of(path) if row[2] != "empty"] == [(*pair, "") for pair in PAIRS]


def test_several_references_are_several_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    records = [{"en": "a", "fr": ["b", "c"]}, {"en": ["d", "e"], "fr": ["f", "g"]}]
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    assert pairs_of(path) == [("a", "b"), ("a", "c"), ("d", "f"), ("e", "g")]


def test_records_without_a_pair_are_counted(tmp_path: Path) -> None:
    odd = [{"en": 1, "fr": "x"}, {"en": "a"}, [1], "a", {"en": ["a", "b"], "fr": ["c"] * 3}]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in [*odd, *RECORDS]) + "{\n\n")
    drops = ["columns", "columns", "malformed", "malformed", "columns"]
    assert [drop for _, _, drop in rows_of(path)] == [*drops, *[""] * 4, "malformed", "empty"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("p.json", {"data": [{"text": "a", "x": {"y": 1}}]}, "among data.text, data.x.y"),
        ("p.jsonl", {"foreign": "a", "native": "b"}, "no columns en and fr among foreign, native"),
        ("p.json", {"en": EN, "fr": FR[:3]}, "4 in en and 3 in fr"),
        ("p.json", {"en": 1, "fr": 2}, "the fields en and fr hold no text"),
        ("p.json", {"train": RECORDS, "test": RECORDS}, "the splits test, train"),
    ],
)
def test_a_file_without_pairs_is_refused_with_its_names(
    name: str, content: object, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(content) + "\n")
    with pytest.raises(BadInput, match=reason):
        rows_of(tmp_path / name)


def test_a_long_document_is_not_cut_into_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2s.preparation.discovery.RANGE_BYTES", 50)
    for indent in (None, 1):
        (tmp_path / "p.json").write_text(json.dumps(RECORDS, indent=indent))
        assert pairs_of(tmp_path / "p.json") == PAIRS
    (tmp_path / "p.json").write_text("".join(json.dumps(each) + "\n" for each in RECORDS))
    assert pairs_of(tmp_path / "p.json") == PAIRS


COLUMNS: dict[str, dict[str, list[object]]] = {
    "plain": {"en": EN, "fr": FR},
    "lists": {"en": EN, "fr": [[text] for text in FR]},
    "objects": {"en": [{"text": text} for text in EN], "fr": FR},
    "nested": {"id": [1, 2, 3, 4], "data": [{"translation": record} for record in RECORDS]},
}


@pytest.mark.parametrize("form", COLUMNS)
def test_nested_columns_are_read(form: str, tmp_path: Path) -> None:
    datasets.Dataset.from_dict(COLUMNS[form]).to_parquet(tmp_path / "p.parquet")
    assert pairs_of(tmp_path / "p.parquet") == PAIRS


def test_the_features_of_translations_are_read(tmp_path: Path) -> None:
    fixed = datasets.Features({"translation": datasets.Translation(["fr", "en", "de"])})
    rows = [{"translation": {**record, "de": "x"}} for record in RECORDS]
    datasets.Dataset.from_list(rows, features=fixed).save_to_disk(tmp_path / "fixed")
    assert pairs_of(tmp_path / "fixed") == PAIRS
    variable = datasets.Features(
        {"translation": datasets.TranslationVariableLanguages(languages=["de", "en", "fr"])}
    )
    rows = [{"translation": {"en": s, "fr": [t, f"{t} !"], "de": "x"}} for s, t in PAIRS]
    datasets.Dataset.from_list(rows, features=variable).to_parquet(tmp_path / "p.parquet")
    found = rows_of(tmp_path / "p.parquet")
    assert [(s, t) for s, t, drop in found if not drop] == PAIRS
    assert [drop for _, _, drop in found] == ["", "variant"] * 4


def test_columns_without_pairs_are_refused_with_their_names(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": EN, "x": [{"y": 1}] * 4}).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(BadInput, match=r"no columns en and fr among text, x\.y"):
        rows_of(tmp_path / "p.parquet")
