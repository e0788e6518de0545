"""What the four numbers of a table's boxes mean: told, or decided over all its rows against the images' sizes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ExifTags, Image, TiffImagePlugin

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.image_size import Size, image_size
from aupipe.fer_data.manifest.layouts.cells import BOX_FORMATS, to_box
from aupipe.fer_data.types import Box

_LOOKED_AT = 500
_HEAD = 1 << 18
QUARTER_TURNS = range(5, 9)
"""EXIF's orientations that exchange height and width."""

NO_SIZE = "the size of the image, of which the box gives shares, cannot be read"

_OVER = 0.1  # of the image's side; faces at the edge have boxes that stand out a little
_HANDFUL = 10  # below, one slip is a large share
_COMMON = ("xyxy", "xywh", "yolo")  # the others only where they fit strictly better: they often fit as well


def settle_format(
    boxes: Sequence[tuple[Path, Sequence[float]]], declared: str | None, told: str | None, where: object
) -> tuple[str, str]:
    """Settle which of :data:`BOX_FORMATS` the boxes of a table have.

    Args:
        boxes: The image and the four numbers of each row that has them.
        declared: The format that the column names tell.
        told: The format that the user told.
        where: The table.

    Returns:
        The format, and a sentence for the report that says how it was found.

    Raises:
        ManifestError: Most boxes lie outside their images, or no format fits all of the table.
    """
    sized = ((numbers, read_size(file)) for file, numbers in boxes[:: 1 + len(boxes) // _LOOKED_AT])
    looked_at = [
        (numbers, size)
        for numbers, size in sized
        if size is not None and any(to_box(numbers, form, size) for form in BOX_FORMATS)
    ]
    shares = {form: _share_inside(looked_at, form) for form in BOX_FORMATS}
    best = max(_COMMON, key=lambda form: shares[form])
    best = max((best, "cxcywh", "yxyx"), key=lambda form: shares[form])
    if declared == "cxcywh" and shares["yolo"][0] > shares[declared][0]:
        declared = "yolo"  # the header tells a centre, not whether in pixels
    form, found = told or declared or best, shares[told or declared or best][0]
    least = 0.9 if len(looked_at) >= _HANDFUL else 0.5
    # What was told is believed unless something else fits and it does not; a guess has to fit.
    if looked_at and found < least and (shares[best][0] >= least or not (told or declared)):
        known = ", ".join(f"{form} ({BOX_FORMATS[form]}) {share:.0%}" for form, (share, _) in shares.items())
        raise ManifestError(
            paragraph(
                "The boxes of a table do not lie inside their images.",
                where=where,
                expected="four numbers that mean the same in every row",
                got=f"inside as {known}",
                fix=f"If they are {BOX_FORMATS[best]}: --box-format {best}." if shares[best][0] >= least else None,
            )
        )
    if not looked_at:
        return form, f"boxes read as {BOX_FORMATS[form]}; the images' sizes could not be looked at"
    doubt = ""
    for other in _COMMON if not (told or declared) else ():
        differs = any(to_box(numbers, form, size) != to_box(numbers, other, size) for numbers, size in looked_at)
        if shares[other] == (1, 0) and differs:
            doubt = f"; as {BOX_FORMATS[other]} they would as well: --box-format {other}"
    return form, f"boxes read as {BOX_FORMATS[form]}: {found:.0%} lie inside their images{doubt}"


def _share_inside(boxes: Sequence[tuple[Sequence[float], Size]], form: str) -> tuple[float, int]:
    """Give the share of boxes inside their image, and minus the number that lie outside though they are boxes."""
    made = [(to_box(numbers, form, size), size) for numbers, size in boxes]
    inside = sum(box is not None and _inside(box, size) for box, size in made)
    return inside / max(len(made), 1), inside - sum(box is not None for box, _ in made)


def _inside(box: Box, size: Size) -> bool:
    height, width = size
    return (
        -_OVER * width <= box.x0
        and box.x1 <= (1 + _OVER) * width
        and -_OVER * height <= box.y0
        and box.y1 <= (1 + _OVER) * height
        and min(box.x1 - box.x0, box.y1 - box.y0) >= 1
    )


@lru_cache(maxsize=1024)
def read_size(file: Path) -> Size | None:
    """Read the height and width that an image is shown with; None when it is absent or does not tell."""
    try:
        with file.open("rb") as opened:
            size = image_size(opened.read(_HEAD)) or _size_by_pillow(file)
    except OSError:
        return None
    return size if size is None or not _lies_on_its_side(file) else size[::-1]


def _size_by_pillow(file: Path) -> Size | None:
    """Ask Pillow for the stored size: of formats whose head is not known here, or does not hold it."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as opened:
            if isinstance(opened, TiffImagePlugin.TiffImageFile):  # whose size may be turned already
                return opened.tag_v2[TiffImagePlugin.IMAGELENGTH], opened.tag_v2[TiffImagePlugin.IMAGEWIDTH]
            return opened.height, opened.width
    except Exception:  # of damaged files it raises nearly anything
        return None


def _lies_on_its_side(file: Path) -> bool:
    """Tell whether EXIF turns an image by a quarter, as the decoder does: boxes are of the upright image."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as opened:
            return opened.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS
    except Exception:  # of damaged tags it raises nearly anything: whether that is an image is the decoder's to say
        return False
