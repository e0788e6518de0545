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

_EDGES = {
    "left": "x0 xmin minx left startx xtl tlx topleftx xleft x x1",
    "top": "y0 ymin miny top starty ytl tly toplefty ytop y y1",
    "right": "x2 xmax maxx right endx xbr brx bottomrightx xright x1",
    "bottom": "y2 ymax maxy bottom endy ybr bry bottomrighty ybottom y1",
    "width": "w width",
    "height": "h height",
    "middle": "cx xc xcenter centerx xcentre centrex",
    "level": "cy yc ycenter centery ycentre centrey",
}
_IN_COLUMNS = {
    "xyxy": ("left", "top", "right", "bottom"),
    "cxcywh": ("middle", "level", "width", "height"),
    "xywh": ("left", "top", "width", "height"),
}
_BEFORE = re.compile(r"^(?:face|bbox|bndbox|boundingbox|box|rect|roi)+(?=.)")
"""Header names of a box in four columns, each kind best first; such a word may come before, best before all four."""

POINT_COLUMNS = tuple(f"{axis}{number}" for number in range(68) for axis in "xy")
"""Header names of the 68 points, in the order of the array's elements."""


def plain_word(text: str) -> str:
    """Bring a header name to the form in which it is compared: ``Image_Path`` -> ``imagepath``."""
    return re.sub(r"[\W_]+", "", text.casefold())


def box_columns(names: Sequence[str]) -> dict[str, int]:
    """Find a box in four columns, or in one that is named after its format, among :func:`plain_word` names.

    >>> box_columns(["path", "facex", "facey", "facewidth", "faceheight"])
    {'xywh 0': 1, 'xywh 1': 2, 'xywh 2': 3, 'xywh 3': 4}
    >>> box_columns(["width", "height", "facex", "facey", "facewidth", "faceheight"])  # the first two: of the image
    {'xywh 0': 2, 'xywh 1': 3, 'xywh 2': 4, 'xywh 3': 5}
    """
    short = [_BEFORE.sub("", name) for name in names]
    before = [name.removesuffix(rest) for name, rest in zip(names, short, strict=True)]
    for word in dict.fromkeys(filter(None, before)):
        if found := _four_columns([rest if one == word else "" for one, rest in zip(before, short, strict=True)]):
            return found
    told = next(filter(short.__contains__, BOX_FORMATS), None)
    named = {"box": short.index(told), f"{told} 0": short.index(told)} if told is not None else {}
    return _four_columns(short) or named


def _four_columns(short: Sequence[str]) -> dict[str, int]:
    at = {edge: next(filter(short.__contains__, words.split()), "") for edge, words in _EDGES.items()}
    for form, edges in _IN_COLUMNS.items():
        columns = [at[edge] for edge in edges]
        if all(columns) and len(set(columns)) == len(columns):
            return {f"{form} {number}": short.index(column) for number, column in enumerate(columns)}
    return {}


def box_parts(cells: Mapping[str, str]) -> list[str]:
    """Return the texts of a row's box by role, in the order in which it has them; none where it has no box."""
    text = re.sub(r"[][(){}|]+", " ", cells.get("box", "")).strip(" ,;")
    parts = [part.strip(",") for part in re.split(r"[\s;]+", text)] if text else []
    if text and len(parts) != 4:
        parts = [part for part in re.split(r"[\s,;]+", text) if part]
    form = declared_format(cells)
    parts = parts or [cells.get(f"{form} {number}", "") for number in range(4)]
    return parts if any(parts) else []


def declared_format(roles: Collection[str]) -> str | None:
    """Return the format that the column names of a box tell, None where it lies in one column of no telling name."""
    return next((form for form in BOX_FORMATS if f"{form} 0" in roles), None)


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
