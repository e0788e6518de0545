"""Two runs on the same coded faces: differences of their cosines with the codes, and of their areas within a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from aupipe.fer_analysis.evaluation.pairing import difference, paired_difference
from aupipe.fer_analysis.evaluation.predictions import PredictionTable
from aupipe.fer_data.action_units.facs import parse_facs
from aupipe.fer_models.metrics import within_class

COMPARED = ("attention", "unit_maps")
"""Maps whose figures are compared, where both runs have them."""


def coded_differences(first: PredictionTable, second: PredictionTable) -> dict[str, Any]:
    """Compute the paired differences of two tables ``coded.csv`` of the same faces and codes.

    Returns:
        By name, as :func:`~.pairing.paired_difference` does; ``coded_cosine`` and ``within_class`` of the attention.
    """
    label = first.label
    found = {}
    for name in COMPARED:
        of = "" if name == "attention" else f"_{name}"
        column = f"cos_{name}"
        rows = np.array([row.get(column, "") != "" for row in first.rows], bool)
        if rows.any() and first.has(column) and second.has(column):
            values = [table.numbers(column, rows) for table in (first, second)]
            group = first.group[rows]
            found[f"coded_cosine{of}"] = paired_difference(values[0], values[1], label[rows], "classes", group)
        area = _area_difference(first, second, name, label)
        if area is not None:
            found[f"within_class{of}"] = area
    return found


@dataclass(frozen=True)
class UnitScores:
    """A map's scores for action units on coded faces, read back from ``coded.csv``.

    ``shown``: whether a face shows each of the ``numbers``. ``scores``: NaN where the face has none.
    """

    numbers: tuple[int, ...]
    shown: Bool[np.ndarray, "n k"]
    scores: Float64[np.ndarray, "n k"]


def unit_scores(table: PredictionTable, name: str) -> UnitScores | None:
    """Read the scores of a map, such as ``attention``; None where the table has none."""
    head = f"{name}_AU"
    numbers = tuple(int(column.removeprefix(head)) for column in table.rows[0] if column.startswith(head))
    if not numbers:
        return None
    coded = [{code.number for code in parse_facs(row["aus"]) or ()} for row in table.rows]
    shown = np.array([[number in codes for number in numbers] for codes in coded], bool)
    scores = [[float(row[f"{head}{number}"] or "nan") for number in numbers] for row in table.rows]
    return UnitScores(numbers, shown, np.array(scores, np.float64))


def _area_difference(
    first: PredictionTable, second: PredictionTable, name: str, label: Int64[np.ndarray, "n"]
) -> dict[str, Any] | None:
    """Compute the difference of the areas within a class on the same resampled persons; None where there are none."""
    one, another = unit_scores(first, name), unit_scores(second, name)
    if one is None or another is None or one.numbers != another.numbers:
        return None
    both = np.isfinite(one.scores) & np.isfinite(another.scores)
    units = within_class.units_in_classes(one.shown, label, both)
    if not units:
        return None
    run, other = (float(within_class.pooled_area(units, its.scores, one.shown)[0]) for its in (one, another))
    interval = None
    if len(np.unique(first.group)) > 1:
        weight = within_class.resampled_faces(first.group)
        areas = [within_class.pooled_area(units, its.scores, one.shown, weight) for its in (one, another)]
        interval = within_class.area_interval(areas[0] - areas[1])
    return difference(run, other, interval)
