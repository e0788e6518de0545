"""The aligned crop: eyes level and centred, brows and chin inside, and the way back to the photo."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from aupipe.fer_data import geometry

MIN_POINTS_INSIDE = 0.6
"""A crop that holds fewer of the 68 points shows no usable face."""

FLAT = 6.0
"""A crop none of whose channels deviates more, of 255 levels, is all but black, white or of one colour. The least of
2,247 crops of three datasets has 26."""

MANY_PIXELS = 8
"""OpenCV warps four channels to the same values twice as fast as three; adding one pays up to this many photo pixels
per crop pixel."""


@dataclass(frozen=True)
class CropGeometry:
    """The place of the eyes in the crop, as shares of its size.

    ``eye_distance`` is the distance of the two eye centres, ``eye_height`` their y. With the defaults 99 % of 1,361
    frontal faces have every one of the 68 points inside. ``min_eyes_to_mouth`` guards against yaw, which shrinks
    the eye distance but not the height: the unit is at least this share of the distance from eyes to mouth.
    """

    eye_distance: float = 0.30
    eye_height: float = 0.36
    min_eyes_to_mouth: float = 0.70

    def as_json(self) -> dict[str, Any]:
        """Return the content for configuration digests."""
        return asdict(self)


def crop_matrix(points: Float[np.ndarray, "68 2"], size: int, crop: CropGeometry) -> geometry.Affine:
    """Fit the similarity transform (2, 3) from photo pixels to pixels of the ``size`` x ``size`` crop, from the eye
    centres."""
    points = np.asarray(points, np.float64)
    left, right = points[geometry.LEFT_EYE].mean(0), points[geometry.RIGHT_EYE].mean(0)
    eyes = right - left
    middle = (left + right) / 2
    angle = float(np.arctan2(eyes[1], eyes[0]))
    down = np.array([-np.sin(angle), np.cos(angle)])
    to_mouth = float((points[geometry.OUTER_MOUTH].mean(0) - middle) @ down)
    unit = max(float(np.hypot(*eyes)), crop.min_eyes_to_mouth * to_mouth)
    target = np.array([0.5 * size - 0.5, crop.eye_height * size - 0.5])
    return geometry.similarity(angle, crop.eye_distance * size / unit, middle, target)


@dataclass(frozen=True)
class Placement:
    """The place of a face in its crop.

    Attributes:
        matrix: Affine from photo pixels to crop pixels.
        landmarks: The points in crop pixels.
        inside: The share of them that the crop holds.
    """

    matrix: Float64[np.ndarray, "2 3"]
    landmarks: Float64[np.ndarray, "68 2"]
    inside: float

    @property
    def usable(self) -> bool:
        """True where the crop shows a face."""
        return self.inside >= MIN_POINTS_INSIDE


def place_face(points: Float[np.ndarray, "68 2"], size: int, crop: CropGeometry) -> Placement:
    """Align a face, given by its points in the photo, in a crop of ``size`` x ``size``."""
    matrix = crop_matrix(points, size, crop)
    landmarks = geometry.apply_affine(matrix, points)
    inside = ((landmarks >= -0.5) & (landmarks <= size - 0.5)).all(1).mean()
    return Placement(matrix, landmarks, float(inside))


def warp_crop(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float64[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "s s 3"]:
    """Resample the photo into the crop; black where the photo ends.

    A photo more than twice as large is first reduced by area averaging: bilinear sampling alone would alias.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.5:
        height, width = image.shape[:2]
        reduced = (max(1, round(width * scale * 1.5)), max(1, round(height * scale * 1.5)))
        factors = np.array([width / reduced[0], height / reduced[1]])
        image = np.asarray(cv2.resize(image, reduced, interpolation=cv2.INTER_AREA), np.uint8)
        # a reduced pixel p lies at factor * (p + 0.5) - 0.5 in the photo
        offset = matrix[:, 2] + matrix[:, :2] @ (0.5 * factors - 0.5)
        matrix = np.concatenate([matrix[:, :2] * factors, offset[:, None]], 1)
    if image.shape[0] * image.shape[1] > MANY_PIXELS * size * size:
        return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR), np.uint8)
    padded = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(padded, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), np.uint8)


def is_flat(crop: UInt8[np.ndarray, "s s 3"]) -> bool:
    """Tell whether a crop shows next to nothing: all but black, white or of one colour."""
    return bool(cv2.meanStdDev(crop)[1].max() < FLAT)
