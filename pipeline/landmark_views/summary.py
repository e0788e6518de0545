"""The figures of a finished WORK, gathered in one pass."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from aupipe.fer_data.geometry import inter_ocular
from aupipe.fer_data.types import Reason
from aupipe.pipeline.landmarks.work import Row

MEASURES = ("yaw", "pitch", "roll", "score", "inter_ocular")
FAILURES_SHOWN = 100


@dataclass(frozen=True)
class Summary:
    """The figures of a WORK.

    Attributes:
        reasons: Number of samples by outcome.
        attempts: Number of found samples by the attempt that found them.
        labels: (split, label) -> (found, failed).
        measures: One value a found face: pose in degrees, score, outer-eye distance in pixels.
        sizes: Number of photos by (height, width), the commonest first.
        failures: The first hundred by sample id.
    """

    reasons: Mapping[Reason, int]
    attempts: Mapping[int, int]
    labels: Mapping[tuple[str, str], tuple[int, int]]
    measures: Mapping[str, Float32[np.ndarray, "n"]]
    sizes: Mapping[tuple[int, int], int]
    failures: tuple[Row, ...]

    @property
    def total(self) -> int:
        """Samples, found or not."""
        return sum(self.reasons.values())

    @property
    def found(self) -> int:
        """Samples with landmarks."""
        return self.reasons.get(Reason.OK, 0)


def summarise(rows: Iterable[Row]) -> Summary:
    """Gather the figures in one pass; keeps five numbers a face and a few rows."""
    reasons, attempts, sizes = Counter[Reason](), Counter[int](), Counter[tuple[int, int]]()
    labels, values, failures = Counter[tuple[str, str, bool]](), array("f"), list[Row]()
    for row in rows:
        reasons[row.reason] += 1
        labels[row.sample.split, row.sample.label, row.found] += 1
        if all(row.size):
            sizes[row.size] += 1
        if row.found:
            attempts[row.rung] += 1
            values.extend((*row.pose.tolist(), row.score, float(inter_ocular(row.points))))
        else:
            failures.append(row)
            failures = _first(failures) if len(failures) > 2 * FAILURES_SHOWN else failures
    table = np.array(values, np.float32).reshape(-1, len(MEASURES))
    return Summary(
        reasons=dict(sorted(reasons.items(), key=lambda item: (item[0] is not Reason.OK, -item[1], item[0]))),
        attempts=dict(sorted(attempts.items())),
        labels={
            (split, label): (labels[split, label, True], labels[split, label, False])
            for split, label in sorted({key[:2] for key in labels})
        },
        measures={name: table[:, at] for at, name in enumerate(MEASURES)},
        sizes=dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))),
        failures=tuple(_first(failures)),
    )


def _first(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.sample.sample_id)[:FAILURES_SHOWN]
