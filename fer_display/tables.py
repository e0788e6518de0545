"""Tables as text: CSV to compute with, Markdown for reports, aligned columns for a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-](inf|nan)", re.IGNORECASE)


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    r"""Yield a CSV table line by line, for tables that need not fit into memory.

    Lines end with ``\n``; None becomes an empty cell. Text that a spreadsheet would run as a formula gets an apostrophe
    in front; :func:`plain_cell` takes it away.

    >>> list(csv_lines(["name", "n"], [["a, b", 1], ["c", None]]))
    ['name,n\n', '"a, b",1\n', 'c,\n']
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in chain([header], rows):
        writer.writerow([_safe_cell(value) if isinstance(value, str) else value for value in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _safe_cell(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def plain_cell(text: str) -> str:
    """Return the text of a cell that :func:`csv_lines` wrote.

    >>> plain_cell("'=1+1"), plain_cell("-1"), plain_cell("'tis")
    ('=1+1', '-1', "'tis")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def csv_records(lines: Iterable[str]) -> list[dict[str, str]]:
    """Read a table that :func:`csv_lines` wrote: each row by the names of its columns; what it lacks is empty.

    Raises ``ValueError`` for text that is no such table.
    """
    rows = csv.DictReader(lines, restval="")
    try:
        return [{name: plain_cell(cell) for name, cell in row.items() if isinstance(cell, str)} for row in rows]
    except csv.Error as error:
        raise ValueError(str(error)) from error


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a CSV table as text; see :func:`csv_lines`."""
    return "".join(csv_lines(header, rows))


def csv_of_columns(columns: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Write named columns of one length as CSV text, in their order.

    Raises ``ValueError`` when their lengths differ.
    """
    named = dict(columns)
    return csv_text(list(named), zip(*named.values(), strict=True))


def csv_of_records(records: Sequence[Mapping[str, Any]]) -> str:
    """Write records as CSV text: a column for every name, in the order of first appearance; what a record lacks is
    empty."""
    header = list(dict.fromkeys(name for record in records for name in record))
    return csv_text(header, ([record.get(name) for name in header] for record in records))


def number_cells(values: Float64[np.ndarray, "n"], shown: Bool[np.ndarray, "n"]) -> list[str]:
    """Write numbers with six decimals; empty where a figure means nothing."""
    return [f"{value:.6f}" if there else "" for value, there in zip(values, shown, strict=True)]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "") -> str:
    """Write a Markdown table.

    Args:
        header: the columns' titles.
        rows: cells as text; Markdown in them stays.
        align: a letter a column, ``l`` or ``r`` (right); the last letter holds for all that follow.

    >>> print(markdown_table(["a", "b"], [["1", "2"]], align="lr"))
    | a | b |
    | --- | ---: |
    | 1 | 2 |
    """
    sides = align.ljust(len(header), align[-1:] or "l")
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


class TableLine(str):
    """A line of an aligned table; ``table`` holds the cells of all its lines, for terminals, which can show more."""

    table: Sequence[Sequence[str]]


def text_table(rows: Sequence[Sequence[str]]) -> list[TableLine]:
    """Write a table as aligned lines: the first column to the left, figures to the right.

    Args:
        rows: cells, the first row being the header; a row may be shorter than the first.

    >>> text_table([["", "faces"], ["fear", "7"], ["all", "123"]])
    ['      faces', 'fear      7', 'all     123']
    """
    lines = [TableLine(line) for line in aligned(rows, "lr")]
    for line in lines:
        line.table = rows
    return lines


def aligned(rows: Sequence[Sequence[str]], align: str = "l", indent: int = 0) -> list[str]:
    """Align columns with two spaces between them.

    Args:
        rows: cells; a row may be shorter than the first.
        align: a letter a column, ``l`` or ``r``; the last letter holds for all that follow.
        indent: spaces before each line.
    """
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(len(rows[0]))]
    sides = align.ljust(len(widths), align[-1])
    return [
        (
            " " * indent
            + "  ".join(
                cell.rjust(width) if side == "r" else cell.ljust(width)
                for cell, width, side in zip(row, widths, sides, strict=False)
            )
        ).rstrip()
        for row in rows
    ]
