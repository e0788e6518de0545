"""Which rows of a dataset show the same face: the same photo, and boxes that are nearly the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float64

from aupipe.fer_data.types import Box

T = TypeVar("T")

SAME = 0.7
"""Intersection over union from which two boxes are the same face's: those of two detectors, or of rounded numbers."""


def group_faces(items: Iterable[tuple[T, str, Box | None]]) -> list[list[T]]:
    """Group items, each with the key of its photo and its box, by face, in order.

    Without a box it is the photo's only face, another than any that has one.
    """
    photos = defaultdict[str, list[tuple[T, Box | None]]](list)
    for item, photo, box in items:
        photos[photo].append((item, box))
    return [group for its in photos.values() for group in _faces(its)]


def _faces(items: Sequence[tuple[T, Box | None]]) -> Iterable[list[T]]:
    """Group the items of one photo: each joins the first face whose first box is its own, or the same face's."""
    groups, place = list[list[T]](), dict[Box | None, int]()
    firsts = np.empty((len(items), 4))
    for item, box in items:
        if box not in place:
            place[box] = len(groups)
            if box is not None and len(groups):
                alike = np.flatnonzero(_overlap(box, firsts[: len(groups)]) >= SAME)
                place[box] = int(alike[0]) if len(alike) else len(groups)
            if place[box] == len(groups):
                firsts[len(groups)] = np.nan if box is None else (box.x0, box.y0, box.x1, box.y1)
                groups.append([])
        groups[place[box]].append(item)
    return groups


def _overlap(box: Box, others: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n"]:
    """Compute the intersection over union of a box with others; NaN where there is none."""
    x0, y0, x1, y1 = others.T
    width, height = np.minimum(x1, box.x1) - np.maximum(x0, box.x0), np.minimum(y1, box.y1) - np.maximum(y0, box.y0)
    both = np.maximum(width, 0) * np.maximum(height, 0)
    return np.asarray(both / ((box.x1 - box.x0) * (box.y1 - box.y0) + (x1 - x0) * (y1 - y0) - both))
