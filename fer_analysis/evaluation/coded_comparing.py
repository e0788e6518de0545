"""Two runs on the same coded faces: differences of their cosines with the codes, and of their areas within a class."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

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
    label = np.unique([row["label"] for row in first.rows], return_inverse=True)[1].astype(np.int64)
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


def _area_difference(
    first: PredictionTable, second: PredictionTable, name: str, label: Int64[np.ndarray, "n"]
) -> dict[str, Any] | None:
    """Compute the difference of the areas within a class on the same resampled persons; None where there are none."""
    head = f"{name}_AU"
    numbers = [int(column.removeprefix(head)) for column in first.rows[0] if column.startswith(head)]
    if not numbers or not all(second.has(f"{head}{number}") for number in numbers):
        return None
    coded = [{code.number for code in parse_facs(row["aus"]) or ()} for row in first.rows]
    shown = np.array([[number in codes for number in numbers] for codes in coded], bool)
    scores = [_scores(table, [f"{head}{number}" for number in numbers]) for table in (first, second)]
    units = within_class.units_in_classes(shown, label, np.isfinite(scores[0]) & np.isfinite(scores[1]))
    if not units:
        return None
    run, other = (float(within_class.pooled_area(units, one, shown)[0]) for one in scores)
    interval = None
    if len(np.unique(first.group)) > 1:
        weight = within_class.resampled_faces(first.group)
        areas = [within_class.pooled_area(units, one, shown, weight) for one in scores]
        interval = within_class.area_interval(areas[0] - areas[1])
    return difference(run, other, interval)


def _scores(table: PredictionTable, columns: list[str]) -> Float64[np.ndarray, "n k"]:
    return np.array([[float(row[name] or "nan") for name in columns] for row in table.rows], np.float64)
