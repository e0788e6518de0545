"""The parts of a face that are hidden, as boxes, and for each a box of the same size elsewhere in the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64

from aupipe.fer_data.geometry import inter_ocular
from aupipe.fer_data.loading.counters import counter_hash
from aupipe.fer_models.metrics.resampling import SEED

PARTS: Mapping[str, Sequence[int]] = {
    "eyes": (*range(17, 27), *range(36, 48)),
    "mouth": range(48, 68),
}
"""The parts with their iBUG-68 landmarks: the eyes with the brows, and the lips."""

MARGIN = 0.15
"""Margin of a box around its landmarks, in inter-ocular distances."""

PLACES = 16
"""Places that are drawn for a box elsewhere: of these it takes the one that covers least of the part."""

Boxes = Float64[np.ndarray, "n 4"]
"""``x0 y0 x1 y1`` in shares of the picture."""


def part_boxes(points: Float32[np.ndarray, "n 68 2"], part: str, crop: int) -> Boxes:
    """Find the box around a part of each face.

    Args:
        points: In pixels of the crop.
        part: One of :data:`PARTS`.
        crop: Side of the crop in pixels.

    Returns:
        Boxes inside of the crop; empty where the part lies outside.
    """
    chosen = np.asarray(points, np.float64)[:, list(PARTS[part])]
    margin = MARGIN * np.asarray(inter_ocular(points), np.float64)[:, None]
    corners = np.concatenate([chosen.min(1) - margin, chosen.max(1) + margin], 1)
    return np.clip((corners + 0.5) / crop, 0, 1)


def elsewhere(boxes: Boxes, row: Int64[np.ndarray, "n"]) -> Boxes:
    """Move each box inside the picture to the one of :data:`PLACES` drawn for its row that it covered least."""
    size = boxes[:, 2:] - boxes[:, :2]
    words = counter_hash(SEED, 0, row, 2 * PLACES) >> np.uint64(11)
    drawn = (words.astype(np.float64) * 2.0**-53).reshape(-1, PLACES, 2)
    start = drawn * (1 - size)[:, None]
    moved = np.concatenate([start, start + size[:, None]], 2)
    covered = np.stack([covered_share(boxes, moved[:, place]) for place in range(PLACES)], 1)
    return np.asarray(moved[np.arange(len(boxes)), covered.argmin(1)])


def covered_share(boxes: Boxes, by: Boxes) -> Float64[np.ndarray, "n"]:
    """Compute the share of each box's area that another covers; 0 of an empty box."""
    low, high = np.maximum(boxes[:, :2], by[:, :2]), np.minimum(boxes[:, 2:], by[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), 1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    return np.asarray(np.divide(shared, area, out=np.zeros(len(boxes)), where=area > 0), np.float64)
