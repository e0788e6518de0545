"""What is printed on a terminal: the same words as plain text, nothing cut, nothing taken for markup."""

from __future__ import annotations

import io

from rich.console import Console

from aupipe.fer_display.tables import TableLine, text_table
from aupipe.fer_display.terminal import print_lines

ROWS = [("", "cosine", "faces"), ("ATT-COS [bold]layer[/bold] 5", "0.582", "1,024"), ("control: uniform map", "0.530")]


def printed(lines: list[str], width: int = 100) -> str:
    out = io.StringIO()
    print_lines(lines, Console(file=out, width=width, force_terminal=True, color_system=None, legacy_windows=False))
    return out.getvalue()


def words(text: str) -> list[str]:
    return [word for word in text.split() if set(word) - set("─━")]


def test_the_words_are_those_of_the_plain_text() -> None:
    long = "A sentence " + "that goes on and on " * 12 + "https://example.org/[red] :smile:"
    lines = [long, "", *text_table(ROWS), "", "run/metrics.json"]
    shown = printed(lines)
    assert words(shown) == words("\n".join(lines))
    assert long in shown.splitlines(), "no line is broken"
    assert "─" in shown and "[bold]layer[/bold]" in shown


def test_nothing_steers_the_terminal() -> None:
    shown = printed(["name \x1b[2J", *text_table([("", "x"), ("\x9b31m\x07", "1")])])
    assert r"name \x1b[2J" in shown and r"\x9b31m\x07" in shown and "\x1b[2J" not in shown


def test_two_tables_are_drawn_apart() -> None:
    shown = printed([*text_table(ROWS), "between", *text_table([("", "x"), ("row", "1")])])
    assert shown.count("cosine") == 1 and shown.index("cosine") < shown.index("between") < shown.index("row")


def test_figures_are_whole_on_a_narrow_terminal() -> None:
    narrow = printed(list(text_table(ROWS)), width=30)
    assert "…" not in narrow and all(len(line) <= 30 for line in narrow.splitlines())
    assert "0.582" in narrow and "1,024" in narrow


def test_a_table_line_is_its_text() -> None:
    lines = text_table(ROWS)
    assert all(isinstance(line, TableLine) and line.table is ROWS for line in lines)
    assert lines == [
        "                              cosine  faces",
        "ATT-COS [bold]layer[/bold] 5   0.582  1,024",
        "control: uniform map           0.530",
    ]
