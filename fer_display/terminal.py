"""Results on a terminal: tables that use its width and its colours."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aupipe.fer_display.tables import TableLine

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(10), *range(11, 32), *range(127, 160))}
"""Characters that would steer the terminal, and what is shown for them."""


def print_lines(lines: Sequence[str], console: Console | None = None) -> None:
    """Print lines as they are, and the tables among them (:class:`TableLine`) with rules and emphasis.

    Args:
        lines: text; nothing in it is taken for markup, and no line is cut.
        console: where to; standard output unless given.
    """
    console = console or Console()
    for table, group in groupby(lines, key=lambda line: line.table if isinstance(line, TableLine) else None):
        if table is not None:
            console.print(rich_table(table))
            continue
        for line in group:
            console.print(line.translate(_ESCAPES), markup=False, highlight=False, emoji=False, soft_wrap=True)


def rich_table(rows: Sequence[Sequence[str]]) -> Table:
    """Draw rows of cells, the first being the header, as a table; controls step back."""
    header, *body = rows
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in body:
        style = "dim" if row[0].startswith("control") else None
        table.add_row(*(Text(cell.translate(_ESCAPES)) for cell in row), style=style)
    return table
