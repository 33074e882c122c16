"""Ragged arrays and Arrow columns of lists against plain Python lists."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.text.ragged import ListColumn, Ragged

Lists = list[list[int]]

INTS = st.integers(-(2**31), 2**31 - 1)
LISTS = st.lists(st.lists(INTS, max_size=6), min_size=1, max_size=30)


SMALL = st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=20)


@given(SMALL, st.lists(st.lists(INTS, max_size=3), min_size=5, max_size=5))
def test_substitution_replaces_each_value_by_its_list(lists: Lists, replacements: Lists) -> None:
    result = Ragged.from_lists(lists).substitute(Ragged.from_lists(replacements))
    assert result.to_arrow().to_pylist() == [
        [value for index in each for value in replacements[index]] for each in lists
    ]


@given(LISTS, INTS)
def test_a_value_is_appended_to_each_list(lists: Lists, value: int) -> None:
    result = Ragged.from_lists(lists).append_to_each(value)
    assert result.to_arrow().to_pylist() == [[*each, value] for each in lists]


@given(LISTS, INTS, st.data())
def test_rows_are_padded_to_the_longest_of_them(
    lists: Lists, value: int, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=50))
    longest = max(len(lists[row]) for row in rows)
    matrix = Ragged.from_lists(lists).pad(np.array(rows), value)
    assert matrix.shape == (len(rows), longest)
    assert matrix.tolist() == [lists[row] + [value] * (longest - len(lists[row])) for row in rows]


def column_of(lists: Lists, cuts: list[int], kind: pa.DataType) -> ListColumn:
    """The lists as a column with a chunk between each two cuts, empty ones among them."""
    bounds = [0, *sorted(cut % (len(lists) + 1) for cut in cuts), len(lists)]
    chunks = [pa.array(lists[start:end], kind) for start, end in pairwise(bounds)]
    return ListColumn(pa.chunked_array(chunks, kind))


KINDS = st.sampled_from([pa.list_(pa.int32()), pa.list_(pa.int64()), pa.large_list(pa.int32())])


@given(LISTS, st.lists(st.integers(0, 30), max_size=5), KINDS, st.data())
def test_rows_are_those_of_the_lists_in_any_order_and_number(
    lists: Lists, cuts: list[int], kind: pa.DataType, data: st.DataObject
) -> None:
    column = column_of(lists, cuts, kind)
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=50))
    wanted = [lists[row] for row in rows]
    places = np.array(rows, np.int64)
    taken = column.select(places)
    assert taken.to_arrow().to_pylist() == wanted
    assert taken.values.dtype == np.int32
    assert len(taken) == len(rows)
    assert column.lengths(places).tolist() == taken.lengths.tolist() == list(map(len, wanted))


@given(LISTS, st.lists(st.integers(0, 30), max_size=5), KINDS)
def test_sums_are_those_of_all_chunks(lists: Lists, cuts: list[int], kind: pa.DataType) -> None:
    column = column_of(lists, cuts, kind)
    assert len(column) == len(lists)
    assert column.total_length == sum(map(len, lists))
    assert column.max_length == max(map(len, lists))


@given(LISTS, st.lists(st.integers(0, 30), max_size=3), st.data())
def test_a_slice_of_a_column_holds_its_own_lists_alone(
    lists: Lists, cuts: list[int], data: st.DataObject
) -> None:
    # A slice shares the values and offsets of the whole.
    start = data.draw(st.integers(0, len(lists) - 1))
    end = data.draw(st.integers(start + 1, len(lists)))
    bounds = [0, *sorted(cut % (len(lists) + 1) for cut in cuts), len(lists)]
    whole = pa.chunked_array(
        [pa.array(lists, pa.list_(pa.int32()))[a:b] for a, b in pairwise(bounds)]
    )
    piece, wanted = ListColumn(whole.slice(start, end - start)), lists[start:end]
    assert (len(piece), piece.total_length) == (len(wanted), sum(map(len, wanted)))
    assert piece.max_length == max(map(len, wanted))
    assert piece.select(np.arange(len(wanted))).to_arrow().to_pylist() == wanted


@pytest.mark.parametrize("chunks", [[], [[]], [[], []]])
def test_a_column_without_rows_has_none(chunks: list[Lists]) -> None:
    kind = pa.list_(pa.int32())
    column = ListColumn(pa.chunked_array([pa.array(lists, kind) for lists in chunks], kind))
    nothing = np.array([], np.int64)
    assert (len(column), column.total_length) == (0, 0)
    assert len(column.select(nothing)) == len(column.lengths(nothing)) == 0
