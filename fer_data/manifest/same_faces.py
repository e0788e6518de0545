"""Which rows of a dataset show the same face: the same photo, and boxes that are nearly the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from aupipe.fer_data.types import Box

T = TypeVar("T")

SAME = 0.7
"""Intersection over union from which two boxes are the same face's: those of two detectors, or of rounded numbers."""


def group_faces(items: Iterable[tuple[T, str, Box | None]]) -> list[list[T]]:
    """Group items, each with the key of its photo and its box, by face, in order.

    Without a box it is the photo's only face, another than any that has one.
    """
    faces = defaultdict[str, list[tuple[Box | None, list[T]]]](list)
    for item, photo, box in items:
        its = next((group for other, group in faces[photo] if _same(box, other)), None)
        if its is None:
            its = list[T]()
            faces[photo].append((box, its))
        its.append(item)
    return [group for found in faces.values() for _, group in found]


def _same(box: Box | None, other: Box | None) -> bool:
    if box is None or other is None or box == other:
        return box == other
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    both = max(width, 0) * max(height, 0)
    return both >= SAME * (_area(box) + _area(other) - both)


def _area(box: Box) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0)
