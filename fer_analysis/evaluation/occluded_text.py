"""Faces with a part hidden, for people: a table, and sentences that intervals decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aupipe.fer_display.tables import text_table

HEADS = ("hidden", "of the picture", "accuracy", "95 %", "as much elsewhere", "lost to that", "95 %, paired")


def occluded_lines(occluded: Mapping[str, Any]) -> list[str]:
    """Write the lines that ``aupipe evaluate --occlude`` adds, from the part ``occluded`` of ``metrics.json``."""
    return [*text_table(occluded_rows(occluded)), "", *occluded_sentences(occluded)]


def occluded_rows(occluded: Mapping[str, Any]) -> list[Sequence[str]]:
    """List every hidden part with what it costs, the heads first."""
    return [
        HEADS,
        *(
            (
                part,
                f"{one['hidden']:.0%}",
                f"{one['accuracy']:.1%}",
                _span(one["accuracy_ci95"]),
                f"{one['elsewhere']:.1%}",
                f"{100 * one['lost_more']:.1f} points",
                _span(one["lost_more_ci95"]),
            )
            for part, one in occluded["parts"].items()
        ),
    ]


def _span(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def occluded_sentences(occluded: Mapping[str, Any]) -> list[str]:
    """Say of each part whether hiding it costs more than hiding as much of the picture elsewhere."""
    return [_sentence(part, one) for part, one in occluded["parts"].items()]


def _sentence(part: str, one: Mapping[str, Any]) -> str:
    interval = one["lost_more_ci95"]
    figures = f"{one['accuracy']:.1%} of the faces named rightly, {one['elsewhere']:.1%} with as much hidden elsewhere"
    if interval is None:
        return f"With the {part} hidden: {figures}; the faces are too few, or of one person, to compare."
    if interval[0] > 0:
        return f"Hiding the {part} costs more than hiding as much elsewhere (by {_span(interval)} points): {figures}."
    if interval[1] < 0:
        return f"Hiding the {part} costs less than hiding as much elsewhere (by {_span(interval)} points): {figures}."
    return f"Hiding the {part} costs no more than hiding as much elsewhere ({_span(interval)} points): {figures}."
