"""Maps and landmarks drawn over photos."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
from jaxtyping import Float, UInt8

POINT_COLOUR = (64, 255, 128)


def overlay(
    face: UInt8[np.ndarray, "h w 3"],
    values: Float[np.ndarray, "a b"],
    *,
    alpha: float = 0.65,
    colours: str = "inferno",
    peak: float | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a map over a face, coloured and opaque where it is strong; resized (bilinear).

    ``peak``, by default its own maximum, is brought to 1: nothing is subtracted, so an even map looks even.
    """
    height, width = face.shape[:2]
    grown = cv2.resize(np.asarray(values, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    peak = float(grown.max()) if peak is None else peak
    strength = np.clip(grown / peak, 0, 1) if peak > 0 else np.zeros_like(grown)
    colour = matplotlib.colormaps[colours](strength)[..., :3] * 255
    weight = (alpha * strength)[..., None]
    return np.asarray(np.rint(face * (1 - weight) + colour * weight), np.uint8)


def draw_points(
    face: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "k 2"], radius: float | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a dot on a copy of the face at each point ``(x, y)``, at sub-pixel positions."""
    size = radius if radius is not None else max(face.shape[0] / 160, 0.8)
    drawn = np.ascontiguousarray(face).copy()
    for x, y in np.asarray(points, np.float64):
        centre = (round(x * 16), round(y * 16))
        cv2.circle(drawn, centre, round(size * 16), POINT_COLOUR, cv2.FILLED, cv2.LINE_AA, shift=4)
    return drawn


def enlarge(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Resize a square image to ``size`` pixels a side: smooth when it grows, averaged when it shrinks."""
    how = cv2.INTER_CUBIC if size > image.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.uint8)
