"""One frame of an annotated video: the attention over each face, its landmarks, and below it in words what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
from jaxtyping import UInt8

from aupipe.fer_analysis.explain import view
from aupipe.fer_analysis.explain.action_units import ActionUnitCard
from aupipe.fer_analysis.explain.opened import OpenRun
from aupipe.fer_analysis.explain.pictures import window
from aupipe.fer_analysis.explain.result import FaceResult
from aupipe.fer_analysis.explain.seen import SeenPicture
from aupipe.fer_data import geometry
from aupipe.fer_data.errors import printable
from aupipe.fer_display.overlays import draw_points, overlay

SIDES = (480, 1920)
"""The longer side of a frame's picture: a smaller one is enlarged, so that words can be read, a larger one reduced."""

ROWS = 3
"""Lines of words below the picture."""

NAMED = 3
"""Action units that are named of a face that is alone."""

_TIE = "\u00a0"
"""Keeps a number and its sign in one row."""

NOWHERE = "at no action unit more than chance would"

_Colour = tuple[int, int, int]
WORDS, FAINT, GROUND = (255, 255, 255), (176, 176, 176), (24, 24, 24)


def film_frame(opened: OpenRun, seen: SeenPicture, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Draw a frame, both sides even.

    Args:
        opened: The run.
        seen: What it saw.
        picture: The frame's own picture, or what stands for it where it cannot be decoded.
    """
    low, high = SIDES
    shown = view.resized_view(picture, np.zeros(2), int(np.clip(max(picture.shape[:2]), low, high)))
    if seen.picture is not None and seen.picture.image.shape != picture.shape:  # faces lie where the frame had them
        (high_was, wide_was), (high_is, wide_is) = seen.picture.image.shape[:2], picture.shape[:2]
        across, down = wide_is / wide_was, high_is / high_was
        fitted = np.array([[across, 0.0, across / 2 - 0.5], [0.0, down, down / 2 - 0.5]])
        shown = replace(shown, from_photo=view.compose(shown.from_photo, fitted))
    drawn = shown.image
    for result in seen.faces:
        drawn = _draw_face(opened, result, shown, drawn)
    if len(seen.faces) > 1:
        for result in seen.faces:
            corner = geometry.apply_affine(shown.from_photo, window(opened, result)[1])[0]
            _label(drawn, f"{result.number} {_predicted(opened, result)}", corner)
    strip = _strip(drawn.shape[1], _sentences(opened, seen), _legend(opened))
    return _even(np.concatenate([drawn, strip], 0))


def looked_at(card: ActionUnitCard, most: int) -> str:
    """Name the action units at which the attention is most beside chance, one for each place on the face.

    Empty where it is nowhere more than chance.
    """
    named: list[str] = []
    taken: set[int] = set()
    for unit in sorted(card.action_units, key=lambda unit: -unit.lift):
        if unit.lift > 1 and unit.number not in taken and len(named) < most:
            place = next((group for group in card.shared if unit.number in group), (unit.number,))
            taken.update(place)
            others = "/".join(str(number) for number in place if number != unit.number)
            name = f"{unit.name} (or {others})" if others else unit.name
            named.append(f"AU{_TIE}{unit.number} {name} {unit.lift:.1f}{_TIE}×")
    return ", ".join(named)


def _draw_face(
    opened: OpenRun, result: FaceResult, shown: view.View, drawn: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw attention, window and landmarks of a face; only the window's own part of the frame is coloured."""
    to_photo, corners = window(opened, result)
    frame = geometry.apply_affine(shown.from_photo, corners)
    limits = (drawn.shape[1], drawn.shape[0])
    x0, y0 = np.clip(np.floor(frame.min(0)), 0, limits).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(frame.max(0)) + 1, 0, limits).astype(int).tolist()
    if x1 > x0 and y1 > y0:
        moved = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0]])
        to_piece = view.compose(moved, view.compose(shown.from_photo, to_photo))
        attention = view.warp_map(result.prediction.attention, to_piece, opened.crop.crop_size, (y1 - y0, x1 - x0))
        drawn = drawn.copy()
        drawn[y0:y1, x0:x1] = overlay(drawn[y0:y1, x0:x1], attention)
    points = geometry.apply_affine(shown.from_photo, result.face.points)
    radius = max(float(np.ptp(frame, 0).max()) / 200, 0.8)
    return draw_points(view.draw_outline(drawn, frame), points, radius)


def _label(drawn: UInt8[np.ndarray, "h w 3"], text: str, corner: np.ndarray) -> None:
    """Write a face's number and expression above the corner of its window, in place."""
    size = round(_letter(drawn.shape[1]) * 0.7)
    x = int(np.clip(corner[0], 2, max(drawn.shape[1] - _width(text, size) - 2, 2)))
    y = int(np.clip(corner[1] - size / 3, size, drawn.shape[0] - 2))
    for shift, colour in ((1, view.SHADOW), (0, view.LINE)):
        _write(drawn, text, (x + shift, y + shift), colour, size)


def _sentences(opened: OpenRun, seen: SeenPicture) -> list[str]:
    """Say what was seen, or why nothing was; first of all that the model knows nothing, where that is so."""
    standing = [printable(f"{note.split(':')[0]}.") for note in opened.standing]
    if not seen.faces:
        why = [f"{one.reason.replace('_', ' ')}{f': {one.detail}' if one.detail else ''}" for one in seen.missed[:1]]
        return [*standing, *map(printable, why)]
    if len(seen.faces) == 1:
        (result,) = seen.faces
        looks = looked_at(result.card, NAMED)
        return [*standing, f"{_predicted(opened, result)}, looks {f'most at {looks}' if looks else NOWHERE}"]
    places = [f"({result.number}){_TIE}{looked_at(result.card, 1) or 'nowhere'}" for result in seen.faces]
    return [*standing, f"most looked at: {'; '.join(places)}"]


def _predicted(opened: OpenRun, result: FaceResult) -> str:
    return printable(f"{opened.record.classes[result.prediction.predicted]}{_TIE}{result.confidence():.0%}")


def _legend(opened: OpenRun) -> str:
    return f"colour: attention of layer {opened.layer}; frame: seen by the network; 1 ×: chance"


def _strip(width: int, sentences: Sequence[str], legend: str) -> UInt8[np.ndarray, "_ w 3"]:
    """Draw the lines below the picture: as many in every frame."""
    size = _letter(width)
    line = round(size * 1.35)
    strip = np.full((line * (ROWS + 1) + size // 2, width, 3), GROUND, np.uint8)
    rows = [row for sentence in sentences for row in _wrapped(sentence, width - size, size)]
    if len(rows) > ROWS:
        rows = [*rows[: ROWS - 1], f"{rows[ROWS - 1]} ..."]
    for number, row in enumerate(rows):
        _write(strip, row, (size // 2, line * (number + 1)), WORDS, size)
    _write(strip, legend, (size // 2, line * (ROWS + 1)), FAINT, round(size * 0.85))
    return strip


def _wrapped(sentence: str, width: int, size: int) -> list[str]:
    """Cut a sentence into rows of at most ``width`` pixels, between words."""
    rows: list[str] = []
    for word in sentence.split(" "):
        longer = f"{rows[-1]} {word}" if rows else word
        if rows and _width(longer, size) <= width:
            rows[-1] = longer
        else:
            rows.append(word)
    return [row.replace(_TIE, " ") for row in rows]


def _width(text: str, size: int) -> int:
    return int(cv2.getTextSize((size, size), text, (0, 0), _font(), size)[2])


def _write(image: UInt8[np.ndarray, "h w 3"], text: str, place: tuple[int, int], colour: _Colour, size: int) -> None:
    cv2.putText(image, text, place, colour, _font(), size)


@cache
def _font() -> cv2.FontFace:
    """OpenCV's own font, which knows more than ASCII."""
    return cv2.FontFace("sans")


def _letter(width: int) -> int:
    """Size of the letters in pixels, for a frame's width."""
    return max(14, round(width / 38))


def _even(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Repeat the last row or column where a side is odd, which codecs do not take."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
