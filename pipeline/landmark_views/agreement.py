"""The agreement of two detectors (or two runs) on one manifest: faces found by each, distances of their points.

A distance is a normalised mean error (NME): the mean distance of corresponding points in percent of the outer-eye
distance, the mean of the two detectors' (at least one pixel). It is no accuracy: both may be wrong in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from aupipe.pipeline.landmarks.work import Row

REGIONS = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
    "inner51": slice(17, 68),
    "all": slice(0, 68),
}
"""Point groups, 0-based iBUG-68."""

ANGLES = ("yaw", "pitch", "roll")
DIFFERENT_FACE = 50.0
"""NME of all points, in percent, above which the two are counted as points of different faces."""
OUTCOMES = ("both", "only_a", "only_b", "neither", "photo_changed")


@dataclass(frozen=True)
class Spread:
    """Mean, median and 95th percentile of ``count`` values; zeros where there are none."""

    count: int
    mean: float
    median: float
    p95: float


@dataclass(frozen=True)
class Pair:
    """One sample in both runs, and the NME of all its points in percent."""

    a: Row
    b: Row
    nme: float


@dataclass(frozen=True)
class Agreement:
    """The result of :func:`aupipe.pipeline.landmark_views.compare_landmarks`.

    ``names`` are the detectors' (with the folder's, where equal). ``outcomes`` counts samples by :data:`OUTCOMES`
    (``photo_changed``: the two runs saw different files); ``reasons`` counts why only one or neither found a face.
    ``regions``, ``same_face`` (all points, different faces left out), ``by_yaw`` (all points, by the mean |yaw|) are
    percent; ``pose`` holds absolute differences in degrees. Row i of ``nme`` (n, 7; :data:`REGIONS`) and ``turned``
    (n, 3; signed b - a in degrees) belongs to ``sample_ids[i]``, zero unless ``outcome[i]`` is 0 (both).
    """

    names: tuple[str, str]
    title: str
    root: Path
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    regions: Mapping[str, Spread]
    same_face: Spread
    by_yaw: Mapping[str, Spread]
    pose: Mapping[str, Spread]
    different_faces: int
    worst: tuple[Pair, ...]
    sample_ids: tuple[str, ...]
    outcome: UInt8[np.ndarray, "n"]
    nme: Float32[np.ndarray, "n 7"]
    turned: Float32[np.ndarray, "n 3"]

    def lines(self) -> list[str]:
        """Format the figures as aligned plain text."""
        counts = ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in self.outcomes.items() if count)
        head = [f"a: {self.names[0]}  b: {self.names[1]}", f"{len(self.sample_ids)} samples: {counts}"]
        head += [f"  {reason}: {count}" for reason, count in self.reasons.items()]
        if not self.regions["all"].count:
            return head
        head.append(f"  different faces (NME over {DIFFERENT_FACE:.0f} %): {self.different_faces}")
        same = {"all, same face": self.same_face}
        groups = (
            ("NME, % of the outer-eye distance", {**self.regions, **same}, 2),
            ("NME of all points by |yaw|", self.by_yaw, 2),
            ("pose difference, degrees", self.pose, 1),
        )
        return [*head, *(line for title, rows, digits in groups for line in _table(title, rows, digits))]

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object, with the ids that disagree most."""
        return {
            "a": self.names[0],
            "b": self.names[1],
            "samples": len(self.sample_ids),
            "outcomes": dict(self.outcomes),
            "reasons": dict(self.reasons),
            "different_faces": self.different_faces,
            "nme_percent": {key: _rounded(spread) for key, spread in self.regions.items()},
            "nme_percent_same_face": _rounded(self.same_face),
            "nme_percent_by_yaw": {key: _rounded(spread) for key, spread in self.by_yaw.items()},
            "pose_degrees": {key: _rounded(spread) for key, spread in self.pose.items()},
            "worst": [{"sample_id": pair.a.sample.sample_id, "nme_percent": round(pair.nme, 3)} for pair in self.worst],
        }


def spread(values: Float32[np.ndarray, "n"]) -> Spread:
    """Compute the :class:`Spread` of some values."""
    if not len(values):
        return Spread(0, 0.0, 0.0, 0.0)
    exact = values.astype(np.float64)
    return Spread(len(values), float(exact.mean()), float(np.median(exact)), float(np.percentile(exact, 95)))


def _rounded(spread: Spread) -> dict[str, float]:
    return {key: round(value, 4) for key, value in asdict(spread).items()}


def _table(title: str, rows: Mapping[str, Spread], digits: int) -> list[str]:
    lines = [f"{title:<34}{'faces':>8}{'mean':>8}{'median':>8}{'p95':>8}"]
    for name, row in rows.items():
        figures = "".join(f"{value:8.{digits}f}" for value in (row.mean, row.median, row.p95))
        lines.append(f"  {name:<32}{row.count:8d}{figures if row.count else ''}".rstrip())
    return lines
