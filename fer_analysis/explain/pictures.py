"""Pictures of one explained face: the photo with landmarks, attention and CAM over it; the PNG with its card."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from aupipe.fer_analysis.explain import view
from aupipe.fer_analysis.explain.action_units import ActionUnitCard, ActionUnitRow, highest_own, unseen_sentences
from aupipe.fer_analysis.explain.opened import OpenRun
from aupipe.fer_analysis.explain.result import FaceResult
from aupipe.fer_data import geometry
from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.files import write_bytes
from aupipe.fer_display.figures import new_figure, png_bytes
from aupipe.fer_display.overlays import draw_points, overlay
from aupipe.fer_display.pages import Picture, jpeg_picture

ATTENTION, CAM = "#0072b2", "#d55e00"
"""Bars: two colours that people with any colour vision tell apart (Okabe and Ito)."""

OTHERS = 5
"""AUs shown besides the expected ones."""

NOTE_LETTERS = 180
"""Letters of a line of notes below a face's picture."""

OWN_MAPS = 4
"""Maps of single action units that are drawn."""


@dataclass(frozen=True)
class FacePanel:
    """A picture with what it shows: a caption for people who see it, ``alt`` for those who do not."""

    image: UInt8[np.ndarray, "h w 3"]
    caption: str
    alt: str

    def encoded(self) -> Picture:
        """Encode the panel as a page carries it."""
        return jpeg_picture(self.image, self.caption, self.alt)


def window(opened: OpenRun, result: FaceResult) -> tuple[Float64[np.ndarray, "2 3"], Float64[np.ndarray, "4 2"]]:
    """Place the network's window of a face: its pixels to photo pixels, and its corners ``(x, y)`` in the photo."""
    size = opened.crop.crop_size
    to_photo = view.window_to_photo(result.face.to_source, opened.placement().centre[0], size)
    return to_photo, view.window_corners(to_photo, size)


def face_panels(opened: OpenRun, result: FaceResult, side: int = view.SIDE) -> list[FacePanel]:
    """Draw the part of the photo around a face, ``side`` pixels long, two or three times.

    With its landmarks and the network's window, with the attention, and with the CAM of the prediction where the method
    has one.
    """
    to_photo, corners = window(opened, result)
    seen = view.face_view(result.picture.image, corners, side)
    to_view, size = view.compose(seen.from_photo, to_photo), opened.crop.crop_size
    frame = geometry.apply_affine(seen.from_photo, corners)
    points = geometry.apply_affine(seen.from_photo, result.face.points)
    plain = draw_points(view.draw_outline(seen.image, frame), points, radius=1.6)
    predicted, where = opened.record.classes[result.prediction.predicted], result.title
    maps = [("attention", f"attention of layer {opened.layer}", result.prediction.attention)]
    if result.prediction.cam is not None:
        maps.append(("CAM", f"CAM of {predicted}", result.prediction.cam))
    panels = [
        FacePanel(plain, "landmarks; the frame is what the network saw", f"{where}: the face with its 68 landmarks")
    ]
    for kind, caption, values in maps:
        warped = view.warp_map(values, to_view, size, (seen.image.shape[0], seen.image.shape[1]))
        strongest = _strongest(result.card, kind)
        drawn = view.draw_outline(overlay(seen.image, warped), frame)
        panels.append(FacePanel(drawn, caption, f"{where}: {caption} over the face{strongest}"))
    return panels


def own_panels(opened: OpenRun, result: FaceResult, side: int = view.SIDE // 2) -> list[FacePanel]:
    """Draw the network's own maps of single action units, the :data:`OWN_MAPS` highest ones, on one scale."""
    if (au_maps := result.prediction.au_maps) is None:
        return []
    to_photo, corners = window(opened, result)
    seen = view.face_view(result.picture.image, corners, side)
    to_view, shape = view.compose(seen.from_photo, to_photo), (seen.image.shape[0], seen.image.shape[1])
    chosen = highest_own(result.card)[:OWN_MAPS]
    size = opened.crop.crop_size
    warped = [view.warp_map(au_maps[DRAWN_AUS.index(number)], to_view, size, shape) for number, _ in chosen]
    peak = max(float(values.max()) for values in warped) or 1.0
    panels = []
    for (number, height), values in zip(chosen, warped, strict=True):
        said, drawn = f"AU {number}: {height:.2f}", overlay(seen.image, values, peak=peak)
        panels.append(FacePanel(drawn, said, f"{result.title}: the network's own map of {said} in its region"))
    return panels


def _strongest(card: ActionUnitCard, kind: str) -> str:
    shares = {unit.number: (unit.attention if kind == "attention" else unit.cam) for unit in card.action_units}
    lifts = {
        unit.number: share.share / unit.chance
        for unit in card.action_units
        if (share := shares[unit.number]) is not None and unit.chance > 0
    }
    best = max(lifts, key=lambda au: lifts[au], default=None)
    return "" if best is None or lifts[best] <= 0 else f", most of all at AU {best} ({lifts[best]:.1f} times chance)"


def photo_picture(
    photo: UInt8[np.ndarray, "h w 3"], corners: Mapping[int, Float64[np.ndarray, "4 2"]], name: str
) -> Picture:
    """Draw the whole photo with the numbered windows of its faces; ``corners`` ``(x, y)`` in photo pixels, by face."""
    seen = view.resized_view(photo, np.zeros(2), side=2 * view.SIDE)
    drawn = seen.image
    for number, window_ in corners.items():
        frame = geometry.apply_affine(seen.from_photo, window_)
        drawn = view.draw_outline(drawn, frame, 2)
        place = (int(np.clip(frame[:, 0].min() + 6, 2, drawn.shape[1] - 24)), int(max(frame[:, 1].min() + 24, 24)))
        for colour, thickness in ((view.SHADOW, 5), (view.LINE, 2)):
            cv2.putText(drawn, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, colour, thickness, cv2.LINE_AA)
    return jpeg_picture(drawn, "the whole photo", f"{name}: {len(corners)} faces, numbered as below")


def shown_action_units(card: ActionUnitCard) -> list[ActionUnitRow]:
    """Choose the AUs to show: the expected ones by number, then those that get most attention beside chance."""
    expected = [unit for unit in card.action_units if unit.expected]
    others = sorted((unit for unit in card.action_units if not unit.expected), key=lambda unit: -unit.lift)
    return expected + others[:OTHERS]


def write_face_png(path: Path, opened: OpenRun, result: FaceResult, panels: Sequence[FacePanel]) -> None:
    """Write one picture that stands alone: panels, AU card, probabilities, notes."""
    figure = new_figure(11, 8, layout=None)  # a layout engine takes longer than the drawing
    label = f" (labelled {result.picture.label})" if result.picture.label else ""
    said = f"{opened.record.classes[result.prediction.predicted]} {result.confidence():.0%}"
    figure.suptitle(f"{_short(result.title)}: {said}{label}", fontsize=13, y=0.985)
    for column, panel in enumerate(panels):
        axes = figure.add_axes((0.01 + column / 3, 0.515, 0.313, 0.41))
        axes.imshow(panel.image)
        axes.set_title(panel.caption, fontsize=9)
        axes.set_axis_off()
    draw_action_units(figure.add_axes((0.2, 0.085, 0.44, 0.36)), result.card)
    draw_probabilities(figure.add_axes((0.75, 0.085, 0.23, 0.36)), opened.record.classes, result.prediction.probability)
    notes = textwrap.fill(" ".join([*unseen_sentences(result.card), *result.notes]), NOTE_LETTERS)
    figure.text(0.01, 0.008, notes, fontsize=8, va="bottom")
    write_bytes(path, png_bytes(figure))


def draw_action_units(axes: Axes, card: ActionUnitCard) -> None:
    """Draw bars: share of attention and of the CAM per AU; a black stroke marks chance; expected AUs are bold."""
    units = shown_action_units(card)
    rows = np.arange(len(units))
    with_cam = any(unit.cam is not None for unit in units)
    height = 0.38 if with_cam else 0.7
    shift = height / 2 if with_cam else 0.0
    axes.barh(rows - shift, [unit.attention.share for unit in units], height, color=ATTENTION, label="attention")
    if with_cam:
        cams = [unit.cam.share if unit.cam is not None else 0.0 for unit in units]
        axes.barh(rows + shift, cams, height, color=CAM, label="CAM")
    chance = [unit.chance for unit in units]
    axes.vlines(chance, rows - 0.42, rows + 0.42, color="black", linewidth=2, label="chance: an even map")
    axes.set_yticks(rows, [f"AU {unit.number} {unit.name}" for unit in units], fontsize=8)
    for tick, unit in zip(axes.get_yticklabels(), units, strict=True):
        tick.set_fontweight("bold" if unit.expected else "normal")
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(steps=(1, 2, 5, 10)))  # no 2.5 %, which would be written as 2 %
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(f"share of the map at the AU's place; bold: expected for {card.expression}", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw_probabilities(axes: Axes, classes: Sequence[str], probability: Float64[np.ndarray, "k"]) -> None:
    """Draw bars of the class probabilities, in the classes' order."""
    rows = np.arange(len(classes))
    axes.barh(rows, probability, 0.7, color="#6b7280")
    axes.set_yticks(rows, list(classes), fontsize=8)
    for row, value in enumerate(probability):
        axes.text(float(value) + 0.02, row, f"{value:.0%}", va="center", fontsize=8)
    axes.set_xlim(0, 1.2)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.set_xlabel("probability", fontsize=8)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _short(name: str, length: int = 70) -> str:
    return name if len(name) <= length else f"...{name[-length:]}"
