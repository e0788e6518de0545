"""Drawing contact sheets: faces with points, captions that fit, sections of tiles under headings. Pure; RGB uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.geometry import rescale_points
from aupipe.fer_data.images import UnreadableImageError, decode_image, read_photo
from aupipe.fer_data.types import Reason

Colour = tuple[int, int, int]
Image = UInt8[np.ndarray, "_ _ 3"]

SIDE = 176
"""Side of a tile's picture, in pixels."""
COLUMNS = 8
WHITE: Colour = (255, 255, 255)
INK: Colour = (27, 31, 36)
QUIET: Colour = (92, 102, 114)
_RIM: Colour = (0, 0, 0)
_EMPTY: Colour = (222, 226, 231)
_MARGIN, _GAP, _LINE = 28, 14, 17
_TEXT, _HEADING, _TITLE = 12, 17, 24
_REGULAR, _BOLD = 400, 650
_FINE = 4


@dataclass(frozen=True)
class FaceTile:
    """A square picture of ``SIDE`` pixels with lines of text below it; the first line is drawn darker."""

    picture: Image
    caption: tuple[str, ...]


@dataclass(frozen=True)
class FaceSection:
    """Tiles under a heading; ``note`` says how they were chosen."""

    heading: str
    note: str
    tiles: tuple[FaceTile, ...]


def load_photo(path: Path, sha256: str) -> Image | str:
    """Load the photo if it is the one with this hash, else say in two words why not."""
    try:
        data = read_photo(path)
        return decode_image(data) if sha256_bytes(data) == sha256 else "photo changed"
    except UnreadableImageError as error:
        return "photo missing" if error.reason is Reason.MISSING_FILE else "not readable"


def face_picture(
    photo: Image, marks: Sequence[tuple[Float[np.ndarray, "_ 2"], Colour]], *, side: int = SIDE, zoom: float = 1.45
) -> Image:
    """Draw the part of a photo around all ``marks``, each set's points as dots of its colour with a dark rim.

    ``zoom`` is the square's side as a multiple of the points' larger extent. What lies outside the photo is grey.
    """
    everything = np.concatenate([points for points, _ in marks])
    low, high = everything.min(0), everything.max(0)
    # A wild set of points must not ask for a picture of any size.
    longest = max(photo.shape[:2])
    size = round(float(np.clip(zoom * (high - low).max(), 8, 4 * longest)))
    centre = np.clip((low + high) / 2, -longest, 2 * longest)
    corner = np.round(centre - size / 2).astype(int)
    # Drawn large and reduced: OpenCV's own small circles have corners.
    large = _FINE * side
    picture = _resized(_cut(photo, int(corner[0]), int(corner[1]), size), large, large)
    for points, colour in marks:
        _dots(picture, rescale_points(np.asarray(points, np.float64) - corner, large / size), colour, _FINE * 1.3)
    return _resized(picture, side, side)


def whole_picture(photo: Image, *, side: int = SIDE) -> Image:
    """Fit the whole photo into a square."""
    height, width = photo.shape[:2]
    factor = side / max(height, width)
    small = _resized(photo, max(round(height * factor), 1), max(round(width * factor), 1))
    picture = np.full((side, side, 3), _EMPTY, np.uint8)
    top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    picture[top : top + small.shape[0], left : left + small.shape[1]] = small
    return picture


def notice_picture(text: str, *, side: int = SIDE) -> Image:
    """Draw a grey square that says why there is no picture."""
    picture = np.full((side, side, 3), _EMPTY, np.uint8)
    _write(picture, text, ((side - text_width(text, _TEXT)) // 2, side // 2 + 4), _TEXT, QUIET)
    return picture


def compose(
    title: str,
    note: str,
    sections: Sequence[FaceSection],
    legend: Sequence[tuple[str, Colour]] = (),
    *,
    columns: int = COLUMNS,
) -> Image:
    """Compose the sheet: title, note, an optional legend of point colours, the sections; those without tiles say so."""
    width = 2 * _MARGIN + columns * (SIDE + _GAP) - _GAP
    strips = [_header(title, note, legend, width)]
    strips += [_section(section, columns, width) for section in sections]
    strips.append(np.full((_MARGIN - _GAP, width, 3), 255, np.uint8))
    return np.concatenate(strips)


def text_width(text: str, size: int, weight: int = _REGULAR) -> int:
    """Measure the width of a drawn line, in pixels."""
    return int(cv2.getTextSize((0, 0), text, (0, 0), _font(), size, weight)[2])


def shorten(text: str, width: int, size: int = _TEXT, weight: int = _REGULAR) -> str:
    """Leave out the middle of ``text`` where it is wider than ``width`` pixels: ids differ at their ends."""
    if text_width(text, size, weight) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        keep = (low + high + 1) // 2
        low, high = (keep, high) if text_width(_elided(text, keep), size, weight) <= width else (low, keep - 1)
    return _elided(text, low)


def _elided(text: str, keep: int) -> str:
    tail = keep - keep // 3
    return f"{text[: keep // 3]}…{text[len(text) - tail :]}"


def _header(title: str, note: str, legend: Sequence[tuple[str, Colour]], width: int) -> Image:
    inner = width - 2 * _MARGIN
    strip = np.full((_MARGIN + 52 + (26 if legend else 0), width, 3), 255, np.uint8)
    _write(strip, shorten(title, inner, _TITLE, _BOLD), (_MARGIN, _MARGIN + 20), _TITLE, INK, _BOLD)
    _write(strip, shorten(note, inner, 13), (_MARGIN, _MARGIN + 44), 13, QUIET)
    left = _MARGIN
    for name, colour in legend:
        _dots(strip, np.array([[left + 5, _MARGIN + 66]], np.float64), colour, 4.0)
        _write(strip, name, (left + 16, _MARGIN + 71), 13, INK)
        left += 16 + text_width(name, 13) + 28
    return strip


def _section(section: FaceSection, columns: int, width: int) -> Image:
    lines = max((len(tile.caption) for tile in section.tiles), default=0)
    step = SIDE + 5 + lines * _LINE + _GAP
    rows, top = -(-len(section.tiles) // columns), 68
    strip = np.full((top + rows * step, width, 3), 255, np.uint8)
    strip[12:13, _MARGIN : width - _MARGIN] = _EMPTY
    _write(strip, section.heading, (_MARGIN, 36), _HEADING, INK, _BOLD)
    _write(strip, shorten(section.note, width - 2 * _MARGIN), (_MARGIN, 55), _TEXT, QUIET)
    for number, tile in enumerate(section.tiles):
        y, x = top + (number // columns) * step, _MARGIN + (number % columns) * (SIDE + _GAP)
        strip[y : y + SIDE, x : x + SIDE] = tile.picture
        for line, text in enumerate(tile.caption):
            baseline = y + SIDE + 1 + (line + 1) * _LINE
            _write(strip, shorten(text, SIDE), (x, baseline - 2), _TEXT, QUIET if line else INK)
    return strip


def _cut(photo: Image, left: int, top: int, size: int) -> Image:
    height, width = photo.shape[:2]
    piece = np.full((size, size, 3), _EMPTY, np.uint8)
    y0, y1, x0, x1 = max(top, 0), min(top + size, height), max(left, 0), min(left + size, width)
    if y0 < y1 and x0 < x1:
        piece[y0 - top : y1 - top, x0 - left : x1 - left] = photo[y0:y1, x0:x1]
    return piece


def _resized(image: Image, height: int, width: int) -> Image:
    how = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)


def _dots(image: Image, points: Float[np.ndarray, "k 2"], colour: Colour, radius: float) -> None:
    # All rims first: where points are close, no dot hides below its neighbour's rim.
    for size, paint in ((radius * 1.6, _RIM), (radius, colour)):
        for x, y in points[((points > -radius) & (points < max(image.shape) + radius)).all(1)]:
            centre = (round(float(x) * 16), round(float(y) * 16))
            cv2.circle(image, centre, round(size * 16), paint, cv2.FILLED, cv2.LINE_AA, shift=4)


def _write(image: Image, text: str, at: tuple[int, int], size: int, colour: Colour, weight: int = _REGULAR) -> None:
    cv2.putText(image, text, at, colour, _font(), size, weight)


@cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")
