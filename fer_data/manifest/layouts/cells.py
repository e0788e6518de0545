"""Boxes and landmarks as tables and files write them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from aupipe.fer_data.types import Box

CORNERS = ("x0", "y0", "x1", "y1")
BOX_FORMATS = {
    "xyxy": "x0, y0, x1, y1",
    "xywh": "x, y, width, height",
    "yxyx": "y0, x0, y1, x1",
    "cxcywh": "centre x, centre y, width, height",
    "yolo": "centre x, centre y, width, height as shares of the image",
}
"""How the four numbers of a box may be meant, in words; those of AffectNet, COCO, TensorFlow, DETR, YOLO."""

BOX_COLUMNS: tuple[tuple[str, str], ...] = (
    ("x0 y0 x1 y1", "xyxy"),
    ("x1 y1 x2 y2", "xyxy"),
    ("xmin ymin xmax ymax", "xyxy"),
    ("xtl ytl xbr ybr", "xyxy"),
    ("startx starty endx endy", "xyxy"),
    ("left top right bottom", "xyxy"),
    ("left top width height", "xywh"),
    ("xmin ymin width height", "xywh"),
    ("x y width height", "xywh"),
    ("x y w h", "xywh"),
    ("cx cy w h", "cxcywh"),
    ("cx cy width height", "cxcywh"),
    ("xcenter ycenter width height", "cxcywh"),
    ("xcenter ycenter w h", "cxcywh"),
    ("centerx centery width height", "cxcywh"),
)
"""Header names of a box in four columns, best first, in the order of its format; ``bbox_`` or ``face_`` may precede."""

POINT_COLUMNS = tuple(f"{axis}{number}" for number in range(68) for axis in "xy")
"""Header names of the 68 points, in the order of the array's elements."""


def plain_word(text: str) -> str:
    """Bring a header name to the form in which it is compared: ``Image_Path`` -> ``imagepath``."""
    return re.sub(r"[\W_]+", "", text.casefold())


def box_parts(cells: Mapping[str, str]) -> list[str]:
    """Return the texts of a row's box by role, in the order in which it has them; none where it has no box."""
    text = cells.get("box", "").strip("()[]{} ")
    parts = [part.strip(",") for part in re.split(r"[\s;]+", text)] if text else []
    if text and len(parts) != 4:
        parts = [part for part in re.split(r"[\s,;]+", text) if part]
    form = declared_format(cells)
    parts = parts or [cells.get(f"{form} {number}", "") for number in range(4)]
    return parts if any(parts) else []


def declared_format(roles: Collection[str]) -> str | None:
    """Return the format that the column names of a box tell, None where it lies in one column."""
    return next((form for form in BOX_FORMATS if f"{form} 0" in roles), None) if "box" not in roles else None


def to_box(numbers: Sequence[float], form: str, size: tuple[int, int] | None = None) -> Box | None:
    """Make a box in pixels of four numbers; None when they are none.

    ``size`` is the image's height and width, which shares of the image (``yolo``) need.
    """
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or (form == "yolo" and size is None):
        return None
    a, b, c, d = numbers
    if form == "yolo" and size is not None:
        a, b, c, d = a * size[1], b * size[0], c * size[1], d * size[0]
    x, y = (a - c / 2, b - d / 2) if form in ("cxcywh", "yolo") else (a, b)
    box = Box(b, a, d, c) if form == "yxyx" else Box(a, b, c, d) if form == "xyxy" else Box(x, y, x + c, y + d)
    return box if box.x0 < box.x1 and box.y0 < box.y1 else None


def parse_box(parts: Sequence[str]) -> Box | None:
    """Parse a box from the texts of its ``x0, y0, x1, y1``; None when they are no box."""
    return to_box(read_numbers(parts), "xyxy")


def parse_sized_box(parts: Sequence[str]) -> Box | None:
    """Parse a box from the texts of its left, top, width and height; None when they are no box."""
    return to_box(read_numbers(parts), "xywh")


def parse_points(parts: Sequence[str]) -> Float32[np.ndarray, "68 2"]:
    """Parse 68 points from the texts ``x y x y ...``; all NaN when they are not 136 numbers."""
    with np.errstate(over="ignore"):  # what is no float32 is infinite, and so no point
        return as_points(np.array(read_numbers(parts), np.float32))


def as_points(values: np.ndarray) -> Float32[np.ndarray, "68 2"]:
    """Bring an array of 136 numbers to ``(68, 2)``; all NaN when it holds something else."""
    if values.size != 136 or values.dtype.kind not in "fiu":
        return np.full((68, 2), np.nan, np.float32)
    with np.errstate(over="ignore"):  # too large for float32: infinite, so no point
        return values.astype(np.float32).reshape(68, 2)


def read_numbers(parts: Sequence[str]) -> list[float]:
    """Read numbers, also with decimal commas; none where one of the texts is no number."""
    try:
        return [float(part.replace(",", ".")) for part in parts]
    except ValueError:
        return []
