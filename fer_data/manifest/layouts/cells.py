"""Boxes and landmarks as tables and files write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from aupipe.fer_data.types import Box

CORNERS = ("x0", "y0", "x1", "y1")
SIZES = ("x", "y", "width", "height")
BOX_COLUMNS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("x0", "y0", "x1", "y1"), CORNERS),
    (("x1", "y1", "x2", "y2"), CORNERS),
    (("xmin", "ymin", "xmax", "ymax"), CORNERS),
    (("x_min", "y_min", "x_max", "y_max"), CORNERS),
    (("left", "top", "right", "bottom"), CORNERS),
    (("face_x", "face_y", "face_width", "face_height"), SIZES),
    (("left", "top", "width", "height"), SIZES),
    (("x", "y", "width", "height"), SIZES),
    (("x", "y", "w", "h"), SIZES),
)
"""Header names of a box in use, best first, and whether they are its corners or one corner and its size."""

POINT_COLUMNS = tuple(f"{axis}{number}" for number in range(68) for axis in "xy")
"""Header names of the 68 points, in the order of the array's elements."""


def box_of_cells(cells: Mapping[str, str]) -> Box | str | None:
    """Read the box of a row of cells by role; None where they are empty, their text where they are no box."""
    if cells.get("box"):
        parts: Sequence[str] = [part for part in re.split(r"[\s,;()\[\]]+", cells["box"]) if part]
        box = parse_box(parts)
    elif any(cells.get(name) for name in SIZES):
        parts = [cells.get(name, "") for name in SIZES]
        box = parse_sized_box(parts)
    else:
        parts = [cells.get(name, "") for name in CORNERS]
        box = parse_box(parts)
    return (box or " ".join(parts)) if any(parts) else None


def parse_box(parts: Sequence[str]) -> Box | None:
    """Parse a box from the texts of its ``x0, y0, x1, y1``; None when they are no box."""
    numbers = _numbers(parts)
    if len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
        return None
    box = Box(*numbers)
    return box if box.x0 < box.x1 and box.y0 < box.y1 else None


def parse_sized_box(parts: Sequence[str]) -> Box | None:
    """Parse a box from the texts of its left, top, width and height; None when they are no box."""
    numbers = _numbers(parts)
    if len(numbers) != 4:
        return None
    x, y, width, height = numbers
    return parse_box([repr(x), repr(y), repr(x + width), repr(y + height)])


def parse_points(parts: Sequence[str]) -> Float32[np.ndarray, "68 2"]:
    """Parse 68 points from the texts ``x y x y ...``; all NaN when they are not 136 numbers."""
    return as_points(np.array(_numbers(parts), np.float32))


def as_points(values: np.ndarray) -> Float32[np.ndarray, "68 2"]:
    """Bring an array of 136 numbers to ``(68, 2)``; all NaN when it holds something else."""
    if values.size != 136 or values.dtype.kind not in "fiu":
        return np.full((68, 2), np.nan, np.float32)
    with np.errstate(over="ignore"):  # too large for float32: infinite, so no point
        return values.astype(np.float32).reshape(68, 2)


def _numbers(parts: Sequence[str]) -> list[float]:
    try:
        return [float(part) for part in parts]
    except ValueError:
        return []
