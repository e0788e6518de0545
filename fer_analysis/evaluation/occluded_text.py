"""Faces with a part hidden, for people: a table, and sentences that intervals decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aupipe.fer_analysis.evaluation.pairing import enough_digits
from aupipe.fer_analysis.evaluation.text import knows_something
from aupipe.fer_display.tables import text_table

HEADS = ("hidden", "area", "accuracy", "95 %", "points lost", "95 %", "as much elsewhere", "lost more", "95 %")


def occluded_lines(content: Mapping[str, Any]) -> list[str]:
    """Write the lines that ``aupipe evaluate --occlude`` adds, from the content of ``metrics.json``."""
    return [*text_table(occluded_rows(content)), "", *occluded_sentences(content), control_line(content)]


def occluded_rows(content: Mapping[str, Any]) -> list[Sequence[str]]:
    """List every hidden part with what it costs, the heads first."""
    return [
        HEADS,
        *(
            (
                part,
                f"{one['hidden']:.0%}",
                f"{one['accuracy']:.1%}",
                _span(one["accuracy_ci95"]),
                f"{100 * one['lost']:.1f}",
                _span(one["lost_ci95"]),
                f"{one['elsewhere']:.1%}",
                f"{100 * one['lost_more']:.1f}",
                _span(one["lost_more_ci95"]),
            )
            for part, one in content["occluded"]["parts"].items()
        ),
    ]


def _span(interval: Sequence[float] | None) -> str:
    if interval is None:
        return "-"
    ends = [100 * end for end in interval]
    return " to ".join(f"{end:.{enough_digits(ends, 1)}f}" for end in ends)


def control_line(content: Mapping[str, Any]) -> str:
    """Say where the controls lie."""
    parts = content["occluded"]["parts"]
    covered = "; ".join(
        f"that of the {part} covers " + " and ".join(f"{share:.0%} of the {of}" for of, share in its.items())
        for part, its in ((part, one["elsewhere_covers"]) for part, one in parts.items())
    )
    return (
        "elsewhere: a box of the same size at a place drawn at random that keeps off the part where there is room; "
        f"on average {covered}"
    )


def occluded_sentences(content: Mapping[str, Any]) -> list[str]:
    """Say of each part whether hiding it costs more than hiding as much of the picture elsewhere."""
    if not knows_something(content):
        return ["It names faces no better than without looking, so what hiding a part costs says nothing about it."]
    return [_sentence(part, one) for part, one in content["occluded"]["parts"].items()]


def _sentence(part: str, one: Mapping[str, Any]) -> str:
    figures = f"{one['accuracy']:.1%} of the faces named rightly, {one['elsewhere']:.1%} with as much hidden elsewhere"
    interval = one["lost_more_ci95"]
    if interval is None:
        return f"With the {part} hidden: {figures}; the faces are too few, or of one person, to compare."
    if interval[0] > 0:
        return f"Hiding the {part} costs more than hiding as much elsewhere (by {_span(interval)} points): {figures}."
    if interval[1] < 0:
        less = _span((-interval[1], -interval[0]))
        return f"Hiding the {part} costs less than hiding as much elsewhere (by {less} points): {figures}."
    return (
        f"Whether hiding the {part} costs more than hiding as much elsewhere cannot be told "
        f"({_span(interval)} points): {figures}."
    )
