"""Tables as text."""

from __future__ import annotations

import csv
import doctest
import io
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aupipe.fer_display import tables


def test_the_examples_hold() -> None:
    tried = doctest.testmod(tables)
    assert tried.attempted >= 3 and tried.failed == 0


def test_csv_is_what_pythons_own_writer_writes() -> None:
    rows = [["a,b", 'say "x"', "two\nlines", ""], [None, 1.5, 7, "é"]]
    plain = io.StringIO()
    csv.writer(plain, lineterminator="\n").writerows([["w", "x", "y", "z"], *rows])
    assert tables.csv_text(["w", "x", "y", "z"], rows) == plain.getvalue()
    assert "".join(tables.csv_lines(["w", "x", "y", "z"], iter(rows))) == plain.getvalue()


def test_lines_are_made_one_by_one() -> None:
    def rows() -> Iterator[Sequence[int]]:
        yield [1]
        raise RuntimeError("the second row was not asked for")

    lines = tables.csv_lines(["n"], rows())
    assert [next(lines), next(lines)] == ["n\n", "1\n"]


def test_columns_must_have_one_length() -> None:
    assert tables.csv_of_columns([("a", ["1", "2"]), ("b", ["x", "y"])]) == "a,b\n1,x\n2,y\n"
    with pytest.raises(ValueError, match="shorter"):
        tables.csv_of_columns([("a", ["1", "2"]), ("b", ["x"])])


def test_records_may_lack_columns() -> None:
    assert tables.csv_of_records([{"a": 1}, {"b": 2, "a": None}]) == "a,b\n1,\n,2\n"


def test_numbers_that_mean_nothing_are_empty() -> None:
    assert tables.number_cells(np.array([0.5, np.nan]), np.array([True, False])) == ["0.500000", ""]


def test_a_short_row_leaves_the_last_columns_empty() -> None:
    assert list(tables.text_table([["", "a", "bb"], ["row", "1.25"]])) == ["        a  bb", "row  1.25"]


@given(st.lists(st.text(alphabet="=+-@'\ta1.e, \"", max_size=6), min_size=1))
@example(["=cmd|' /C calc'!A0", "'=1", "''@x", "-1.5", "+1e-3", "-1+2", "'tis", "\t=1"])
def test_no_cell_is_a_formula_and_each_is_read_back(cells: list[str]) -> None:
    text = tables.csv_text(["id"], [[cell] for cell in cells])
    assert [row["id"] for row in tables.csv_records(io.StringIO(text, newline=""))] == cells
    for (cell,) in filter(None, list(csv.reader(io.StringIO(text, newline="")))[1:]):
        assert cell[:1] not in tuple("=+-@\t\r") or float(cell) is not None, "numbers stay numbers"


def test_figures_keep_their_sign() -> None:
    assert tables.csv_text(["a", "b", "c"], [["-0.582", "-inf", -1.5]]) == "a,b,c\n-0.582,-inf,-1.5\n"
