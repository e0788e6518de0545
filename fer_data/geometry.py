"""Plane geometry of faces: 68 points, similarity transforms, roll, yaw from points, mirror images.

Points are ``(x, y)`` in pixels, integer coordinates at pixel centres. "Left" and "right" are the image's. Landmark
numbers are 0-based iBUG-68: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

Points = Float[np.ndarray, "... 68 2"]
Affine = Float64[np.ndarray, "2 3"]

LEFT_EYE = slice(36, 42)
RIGHT_EYE = slice(42, 48)
OUTER_MOUTH = slice(48, 60)

_MIRROR_PAIRS = (
    *((i, 16 - i) for i in range(8)),
    *((17 + i, 26 - i) for i in range(5)),
    (31, 35), (32, 34),
    (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),
    (48, 54), (49, 53), (50, 52), (55, 59), (56, 58),
    (60, 64), (61, 63), (65, 67),
)  # fmt: skip


def _mirror_permutation() -> Int[np.ndarray, "68"]:
    permutation = np.arange(68)
    for a, b in _MIRROR_PAIRS:
        permutation[a], permutation[b] = b, a
    return permutation


PROFILE_YAW = 45.0
"""Yaw in degrees, to either side, beyond which a face is flagged as a profile: its far half is mostly hidden."""

YAW_FADE = (PROFILE_YAW, 75.0)
"""Yaw in degrees where the far half of a face starts to fade, and where it is gone."""

FLIP_68 = _mirror_permutation()
"""``points[..., FLIP_68, :]`` renames the points of a mirrored face; its own inverse."""

RIGHT_68 = frozenset([*range(9, 17), *range(22, 27), 34, 35, *range(42, 48), *range(52, 57), 63, 64, 65])
"""Points in the image's right half, the left of a face that is seen from the front."""


def flip_points(points: Points, width: float) -> Points:
    """Mirror points horizontally in an image of ``width`` pixels: ``x -> width - 1 - x``, points renamed."""
    flipped = np.array(points[..., FLIP_68, :])
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped


def inter_ocular(points: Points) -> Float[np.ndarray, "..."]:
    """Measure the distance between the outer eye corners 36 and 45, in pixels."""
    return np.asarray(np.linalg.norm(points[..., 45, :] - points[..., 36, :], axis=-1))


def roll(points: Points) -> Float[np.ndarray, "..."]:
    """Measure the angle of the line 36 -> 45 to the image's x axis, in radians; positive is clockwise on screen."""
    eyes = points[..., 45, :] - points[..., 36, :]
    return np.asarray(np.arctan2(eyes[..., 1], eyes[..., 0]))


def is_profile(yaw: Float[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """Tell which yaws in degrees turn a face beyond :data:`PROFILE_YAW`, to either side."""
    return np.asarray(np.abs(yaw) > PROFILE_YAW)


def far_half_visible(yaw: Float[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Return the visible share of the half that a yaw in degrees turns away: 1 up to :data:`YAW_FADE`, then down to 0.

    Turned to image right (positive yaw), a face hides its image-right half, the person's left.
    """
    fade = np.clip((np.abs(yaw) - YAW_FADE[0]) / (YAW_FADE[1] - YAW_FADE[0]), 0, 1)
    return np.asarray(1 - fade * fade * (3 - 2 * fade), np.float64)


def face_axes(points: Points) -> tuple[Float[np.ndarray, "... 2"], Float[np.ndarray, "... 2"]]:
    """Return unit vectors of the face's own x axis (image right when upright) and y axis (towards the chin)."""
    angle = roll(points)
    right = np.stack([np.cos(angle), np.sin(angle)], -1)
    down = np.stack([-np.sin(angle), np.cos(angle)], -1)
    return right, down


def apply_affine(matrix: Affine, points: Float[np.ndarray, "... 2"]) -> Float64[np.ndarray, "... 2"]:
    """Map points through a 2 x 3 matrix: ``out = M[:, :2] p + M[:, 2]``."""
    return np.asarray(np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2])


def invert_affine(matrix: Affine) -> Affine:
    """Invert an affine map: the 2 x 3 matrix of its inverse."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], 1)


def similarity(angle: float, scale: float, source: Float[np.ndarray, "2"], target: Float[np.ndarray, "2"]) -> Affine:
    """Make the map that rotates by ``-angle`` and scales about ``source``, which lands on ``target``.

    A line that lies at ``angle`` (radians) in the source lies horizontally in the target. Points are ``(x, y)``.
    """
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, sin], [-sin, cos]], np.float64)
    offset = np.asarray(target, np.float64) - linear @ np.asarray(source, np.float64)
    return np.concatenate([linear, offset[:, None]], 1)


def rescale_points(points: Float[np.ndarray, "... 2"], factor: float) -> Float[np.ndarray, "... 2"]:
    """Rescale points with their image by ``factor``, integer coordinates at pixel centres on both sides."""
    return (points + 0.5) * factor - 0.5
