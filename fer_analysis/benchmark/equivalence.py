"""Is another target of the guidance as good as the class's AU map? Asked as a test, not read off a table of means.

Two accuracies that no test tells apart may differ all the same. So it is turned round: they count as equal where the
90 % interval of their difference lies within a margin that was fixed before, which is the two one-sided tests at 5 %
(Schuirmann, 1987). Trainings and persons are resampled both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.collect import Result, Results
from aupipe.fer_analysis.benchmark.plan import GridCell, GridRequest
from aupipe.fer_analysis.benchmark.tables import TARGETS, ResultTable
from aupipe.fer_analysis.evaluation.pairing import enough_digits
from aupipe.fer_analysis.evaluation.predictions import PREDICTIONS, read_predictions
from aupipe.fer_models.metrics.resampling import percentile_interval, two_level_means

MARGIN = 1.0
"""Points of accuracy within which two targets count as equal."""

TEST_LEVEL = 0.9
"""Of the interval that must lie within the margin: two one-sided tests at 5 %."""


@dataclass(frozen=True)
class AccuracyDifference:
    """What a target gains over the class's AU map, in points of accuracy.

    Attributes:
        difference: Mean over the trainings of both.
        interval: 95 %, over trainings and persons.
        margin: The smallest within which the two are equal, by two one-sided tests at 5 %.
        seeds: Trainings of each.
        told: There are two trainings and two persons to resample, at least.
    """

    difference: float
    interval: tuple[float, float]
    margin: float
    seeds: int
    told: bool

    @property
    def verdict(self) -> str:
        """Whether the two are told apart, told to be equal, or neither."""
        if not self.told:
            return "too few to tell"
        if self.margin <= MARGIN:
            return f"equal within {MARGIN:g} point"
        if self.interval[0] > 0 or self.interval[1] < 0:
            return "different"
        return "not told"


def equivalence_table(request: GridRequest, results: Results, out: Path) -> ResultTable | None:
    """Compare every target with the class's AU map; None where there is nothing to compare.

    Raises:
        RunError: A run's predictions are missing or of other figures.
    """
    found = list(_differences(request, results, out))
    if not found:
        return None
    head = ("target, less the class's AU map", "seeds", "Δ CL points", "95 %", "equal within", f"at {MARGIN:g} point")
    rows = [
        (
            name,
            str(one.seeds),
            f"{one.difference:+.1f}",
            " to ".join(f"{end:+.{enough_digits(one.interval, 1)}f}" for end in one.interval) if one.told else "-",
            f"{math.ceil(10 * one.margin) / 10:.1f}" if one.told else "-",
            one.verdict,
        )
        for name, one in found
    ]
    records = [
        {
            "target": name,
            "seeds": one.seeds,
            "difference": one.difference,
            "low": one.interval[0] if one.told else None,
            "high": one.interval[1] if one.told else None,
            "equal_within": one.margin if one.told else None,
            "verdict": one.verdict,
        }
        for name, one in found
    ]
    note = (
        "Trainings and persons resampled. *Equal within*: the smallest margin within which two one-sided tests at 5 % "
        "call the two accuracies equal: what these faces and seeds could tell. Of two or three seeds such intervals "
        "are too narrow, of one there is none."
    )
    return ResultTable(
        "table-6-equal", "Table 6: is another target as good?", head, tuple(rows), tuple(records), (note,)
    )


def _differences(request: GridRequest, results: Results, out: Path) -> Iterator[tuple[str, AccuracyDifference]]:
    cells = list(request.target_cells())
    base = next((cell for cell in cells if cell.weight > 0 and cell.target == "class"), None)
    for cell in cells:
        if base is None or cell == base:
            continue
        ours, theirs = results.of(cell), results.of(base)
        if seeds := sorted(ours.keys() & theirs.keys()):
            right = [[_right(one[seed], out) for seed in seeds] for one in (ours, theirs)]
            values = np.stack([one for one, _ in right[0]]) - np.stack([one for one, _ in right[1]])
            yield _name(cell), accuracy_difference(values, right[0][0][1])


def accuracy_difference(values: Float64[np.ndarray, "s n"], group: Int64[np.ndarray, "n"]) -> AccuracyDifference:
    """Summarise differences of being right (-1, 0, 1), a row a training, a column a face."""
    drawn = 100 * two_level_means(values, group)
    margin = max(abs(end) for end in percentile_interval(drawn, TEST_LEVEL))
    told = len(values) > 1 and len(np.unique(group)) > 1
    return AccuracyDifference(100 * float(values.mean()), percentile_interval(drawn), margin, len(values), told)


def _name(cell: GridCell) -> str:
    return "nothing" if cell.weight == 0 else TARGETS.get(cell.target, cell.target)


def _right(result: Result, out: Path) -> tuple[Float64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """Read which faces a run gets right, in the order of the split, and whose they are."""
    folder = out / state.RUNS / result.spec.output
    table = read_predictions(folder / PREDICTIONS, result.metrics["predictions_sha256"])
    return table.flags("correct").astype(np.float64), table.group
