"""What is estimated of some faces' action units, whoever estimated it: the blendshapes, or another program's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from aupipe.fer_data.action_units.estimator import AuEstimator
from aupipe.fer_data.geometry import far_half_visible


@dataclass(frozen=True)
class UnitEstimates:
    """Estimates of k action units of n faces.

    Attributes:
        numbers: The FACS numbers.
        logits: Evidence for each; NaN where nothing is told.
        probability: Of each; NaN where nothing is told.
        common: Share of faces that show each, against which the evidence counts.
    """

    numbers: tuple[int, ...]
    logits: Float64[np.ndarray, "n k"]
    probability: Float64[np.ndarray, "n k"]
    common: Float64[np.ndarray, "k"]

    @property
    def told(self) -> Bool[np.ndarray, "n"]:
        """The faces of which anything is told."""
        return np.asarray(np.isfinite(self.probability).any(1))


def blendshape_estimates(
    blendshapes: Float[np.ndarray, "n 52"],
    has_mesh: Bool[np.ndarray, "n"],
    yaw: Float[np.ndarray, "n"],
    estimator: AuEstimator,
) -> UnitEstimates:
    """Estimate from both halves of the face; of one that is turned away, more and more from the other half alone.

    Args:
        blendshapes: In [0, 1], in MediaPipe's order.
        has_mesh: Where they count.
        yaw: In degrees, positive where the face looks to image right.
        estimator: What tells action units from them.
    """
    both = estimator.logits(blendshapes)
    near = np.where((yaw > 0)[:, None], *(estimator.logits(blendshapes, side) for side in ("R", "L")))
    seen = far_half_visible(yaw)[:, None]
    logits = np.where(has_mesh[:, None], seen * both + (1 - seen) * near, np.nan)[:, list(estimator.told)]
    units = [estimator.units[at] for at in estimator.told]
    common = np.array([unit.share for unit in units])
    return UnitEstimates(tuple(unit.number for unit in units), logits, 1 / (1 + np.exp(-logits)), common)


def table_estimates(
    numbers: Sequence[int],
    rows: Sequence[Sequence[float | None] | None],
    common: Sequence[float],
    sure: float,
) -> UnitEstimates:
    """Take another program's probabilities; none is surer evidence than ``sure``, not even a 0 or a 1.

    Args:
        numbers: The FACS numbers.
        rows: Of each face, the probability of each; None where the program says nothing.
        common: Mean probability of each among all faces.
        sure: See :class:`aupipe.fer_data.action_units.estimator.Fusion`.
    """
    nothing = [None] * len(numbers)
    probability = np.array([row or nothing for row in rows], np.float64).reshape(len(rows), len(numbers))
    held, base = (np.clip(values, 1 - sure, sure) for values in (probability, np.array(common, np.float64)))
    return UnitEstimates(tuple(numbers), np.log(held / (1 - held)), probability, base)
