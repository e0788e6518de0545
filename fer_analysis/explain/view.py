"""Back on the photo: maps of the network's grid, warped through the crop's own transform onto the original pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from aupipe.fer_data import geometry

SIDE = 384
"""Longer side of a view in pixels."""

MARGIN = 0.12
"""Margin of a view around the network's window, as a share of the window's longer side."""

LINE = (255, 255, 255)
SHADOW = (0, 0, 0)


@dataclass(frozen=True)
class View:
    """A piece of a photo, resampled: ``image`` RGB, ``from_photo`` (2, 3) photo pixels to view pixels."""

    image: UInt8[np.ndarray, "h w 3"]
    from_photo: Float64[np.ndarray, "2 3"]


def compose(second: geometry.Affine, first: geometry.Affine) -> geometry.Affine:
    """Compose two transforms: the result applies ``first``, then ``second``."""
    linear = second[:, :2] @ first[:, :2]
    return np.concatenate([linear, (second[:, :2] @ first[:, 2] + second[:, 2])[:, None]], 1)


def window_to_photo(
    to_source: Float64[np.ndarray, "2 3"], centre: Float64[np.ndarray, "2"], crop_size: int
) -> Float64[np.ndarray, "2 3"]:
    """Map pixels of the network's centre crop to photo pixels; ``centre``: its ``(x, y)`` in the aligned image."""
    offset = centre - (crop_size - 1) / 2
    return compose(to_source, np.array([[1.0, 0.0, offset[0]], [0.0, 1.0, offset[1]]]))


def window_corners(to_photo: Float64[np.ndarray, "2 3"], crop_size: int) -> Float64[np.ndarray, "4 2"]:
    """Place the outer corners of the network's window: ``(x, y)`` in photo pixels, clockwise from the top left."""
    low, high = -0.5, crop_size - 0.5
    return geometry.apply_affine(to_photo, np.array([[low, low], [high, low], [high, high], [low, high]]))


def face_view(photo: UInt8[np.ndarray, "h w 3"], corners: Float64[np.ndarray, "4 2"], side: int = SIDE) -> View:
    """Cut out the part of the photo around a window and bring its longer side to ``side`` pixels."""
    margin = MARGIN * np.ptp(corners, 0).max()
    low = np.floor(np.clip(corners.min(0) - margin, 0, None)).astype(int)
    high = np.minimum(np.ceil(corners.max(0) + margin).astype(int) + 1, (photo.shape[1], photo.shape[0]))
    high = np.maximum(high, low + 1)
    piece = photo[low[1] : high[1], low[0] : high[0]]
    return resized_view(piece, low.astype(np.float64), side)


def resized_view(piece: UInt8[np.ndarray, "h w 3"], origin: Float64[np.ndarray, "2"], side: int) -> View:
    """Resize a piece of a photo whose first pixel is ``origin`` ``(x, y)``: bicubic where it grows, else averaged."""
    scale = side / max(piece.shape[:2])
    width, height = max(1, round(piece.shape[1] * scale)), max(1, round(piece.shape[0] * scale))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    image = np.asarray(cv2.resize(piece, (width, height), interpolation=how), np.uint8)
    factors = np.array([width / piece.shape[1], height / piece.shape[0]])
    offset = factors * (0.5 - origin) - 0.5
    return View(image, np.array([[factors[0], 0.0, offset[0]], [0.0, factors[1], offset[1]]]))


def warp_map(
    values: Float[np.ndarray, "a b"],
    to_view: Float64[np.ndarray, "2 3"],
    crop_size: int,
    shape: tuple[int, int],
) -> Float32[np.ndarray, "h w"]:
    """Warp a map over the network's window onto a view.

    Args:
        values: The map, at any resolution.
        to_view: Pixels of the window to pixels of the view.
        crop_size: Side of the window in its own pixels.
        shape: The view's ``(height, width)``.

    Returns:
        The map on the view's pixels; 0 outside the window.
    """
    in_window = cv2.resize(np.asarray(values, np.float32), (crop_size, crop_size), interpolation=cv2.INTER_LINEAR)
    warped = cv2.warpAffine(in_window, to_view, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, np.float32)


def draw_outline(
    image: UInt8[np.ndarray, "h w 3"], corners: Float[np.ndarray, "n 2"], width: int = 1
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a closed line through the corners on a copy: white on black, so that it shows on any photo."""
    drawn = np.ascontiguousarray(image).copy()
    line = [np.rint(np.asarray(corners) * 16).astype(np.int32).reshape(-1, 1, 2)]
    for colour, thickness in ((SHADOW, width + 2), (LINE, width)):
        cv2.polylines(drawn, line, True, colour, thickness, cv2.LINE_AA, shift=4)
    return drawn
