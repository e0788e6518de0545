"""The points that ship with a dataset (AffectNet, CK+, a CSV with x0 ... y67), used instead of looking for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.pipeline.detectors.base import Attempt, Face, register_detector
from aupipe.pipeline.detectors.pose68 import pose_from_points


@register_detector("dataset")
class DatasetDetector:
    """A detector that believes the manifest's points. ``score`` is 1 everywhere; there is no mesh and no model file."""

    ladder = (Attempt(0.0, 0.5),)
    reach = 0.0
    uses_known = True
    packages = ()

    def __init__(self, model: Path | None = None) -> None:
        del model

    def identity(self) -> dict[str, Any]:
        """Return the name; the points themselves are part of the plan."""
        return {"detector": "dataset"}

    def detect(
        self, image: UInt8[np.ndarray, "h w 3"], confidence: float, known: Float64[np.ndarray, "68 2"] | None = None
    ) -> list[Face]:
        """Return the known points as the only face; no face where the dataset has none."""
        return [] if known is None else [Face(points=known, pose=pose_from_points(known), score=1.0)]

    def complete(self, image: UInt8[np.ndarray, "h w 3"], face: Face) -> Face:
        """Return the face as it is."""
        return face

    def close(self) -> None:
        """Free nothing: there is nothing native."""
