"""From 68 landmarks and an expression to its AU map: pure NumPy, no image needed.

Two renderers, chosen by the codebook's kind: ``gaussian`` (ours: sub-pixel, tied to the face) and ``ellipse`` (the
FG 2024 reference's drawing, for comparison). A map is ``(m, m)`` float32 in [0, 1]; its pixel centres are those of
the image resized to m x m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Float64

from fer_data import geometry
from fer_data.codebook import Codebook, Ellipse, Gaussian, Length
from fer_data.errors import UserInputError, paragraph

WINDOW = 4.0
"""A Gaussian is drawn to this many sigmas; what is left out is below 1/2900 of its peak."""

YAW_BRIDGE = 0.93
"""Height of the nose bridge (point 28) over the eye corners' plane, in half inter-ocular distances: fitted on 1,700
faces against the mesh's own yaw (rms error 3 degrees)."""

YAW_FADE = (45.0, 75.0)
"""Yaw in degrees where the far half of a bilateral AU starts to fade, and where it is gone."""

MIN_SCALE_OF_HEIGHT = 0.5
"""The unit of length is at least this share of the face's height: yaw shrinks the inter-ocular distance, not the
height."""


def render_maps(
    points: Float[np.ndarray, "n 68 2"],
    expressions: Sequence[str],
    codebook: Codebook,
    image_size: int,
    map_size: int,
) -> Float32[np.ndarray, "n m m"]:
    """The AU map of each face: points in pixels of the square ``image_size`` crop, maps of ``map_size``.

    An expression without AUs (neutral) gives a zero map. Raises :class:`UserInputError` for an expression that the
    codebook does not know.
    """
    maps = np.zeros((len(points), map_size, map_size), np.float32)
    for row, expression in enumerate(expressions):
        if expression not in codebook.expressions:
            raise UserInputError(
                paragraph(
                    f"The codebook {codebook.name!r} does not say which AUs belong to {expression!r}.",
                    expected=f"one of {', '.join(sorted(codebook.expressions))}",
                    fix="Choose another --codebook, or add the expression to your own codebook file.",
                )
            )
        maps[row] = render_aus(points[row], codebook.expressions[expression], codebook, image_size, map_size)
    return maps


def render_aus(
    points: Float[np.ndarray, "68 2"],
    weights: Mapping[int, float],
    codebook: Codebook,
    image_size: int,
    map_size: int,
) -> Float32[np.ndarray, "m m"]:
    """One map of the given AUs: per AU a peak of its weight, merged by maximum, scaled to [0, 1]."""
    if not weights:
        return np.zeros((map_size, map_size), np.float32)
    if codebook.kind == "ellipse":
        return _render_ellipses(points, weights, codebook, image_size, map_size)
    return _render_gaussians(points, weights, codebook, image_size, map_size)


def _render_gaussians(
    points: Float[np.ndarray, "68 2"],
    weights: Mapping[int, float],
    codebook: Codebook,
    image_size: int,
    map_size: int,
) -> Float32[np.ndarray, "m m"]:
    scaled = geometry.rescale_points(np.asarray(points, np.float64), map_size / image_size)
    frame = _FaceFrame(scaled)
    canvas = np.zeros((map_size, map_size), np.float64)
    for au, weight in weights.items():
        for shape in codebook.action_units[au].gaussians:
            for centre, visible in frame.centres(shape):
                _add_gaussian(canvas, centre, frame, shape.sigma, weight * visible)
    peak = canvas.max()
    # Sampling misses a sub-pixel peak by a little; a face outside the frame must not be blown up to full range.
    return (canvas / peak if peak > 0.5 * max(weights.values()) else canvas).astype(np.float32)


class _FaceFrame:
    """The face's own axes, unit of length and visibility of its halves, in map pixels."""

    def __init__(self, points: Float64[np.ndarray, "68 2"]) -> None:
        self.points = points
        self.right, self.down = geometry.face_axes(points)
        height = float(np.ptp(points @ self.down))
        self.unit = max(float(geometry.inter_ocular(points)), MIN_SCALE_OF_HEIGHT * height, 1e-6)
        yaw = yaw_from_points(points)
        fade = float(np.clip((abs(yaw) - YAW_FADE[0]) / (YAW_FADE[1] - YAW_FADE[0]), 0, 1))
        far = 1 - fade * fade * (3 - 2 * fade)
        # Turned to image right (positive yaw), the face hides its image-right half.
        self.visible = (1.0, far) if yaw > 0 else (far, 1.0)

    def centres(self, shape: Gaussian) -> list[tuple[Float64[np.ndarray, "2"], float]]:
        """Centre and visibility of a Gaussian, and of its mirror image where it has one."""
        left = self._centre(list(shape.points), -shape.out, shape.up)
        if not shape.mirror:
            return [(left, 1.0)]
        right = self._centre(geometry.FLIP_68[list(shape.points)].tolist(), shape.out, shape.up)
        return [(left, self.visible[0]), (right, self.visible[1])]

    def _centre(self, points: list[int], rightwards: float, up: float) -> Float64[np.ndarray, "2"]:
        offset = (rightwards * self.right - up * self.down) * self.unit
        return np.asarray(self.points[points].mean(0) + offset, np.float64)


def yaw_from_points(points: Float[np.ndarray, "68 2"]) -> float:
    """Yaw in degrees from the 68 points alone: positive when the face turns to image right.

    From the nose bridge's shift between the outer eye corners: ``tan(yaw) = shift / YAW_BRIDGE``.
    """
    right, _ = geometry.face_axes(points)
    left_corner, bridge, right_corner = (float(points[i] @ right) for i in (36, 28, 45))
    half = (right_corner - left_corner) / 2
    return float(np.degrees(np.arctan2(bridge - (left_corner + right_corner) / 2, YAW_BRIDGE * half)))


def _add_gaussian(
    canvas: Float64[np.ndarray, "m m"],
    centre: Float64[np.ndarray, "2"],
    frame: _FaceFrame,
    sigma: tuple[float, float],
    weight: float,
) -> None:
    """Merge one Gaussian into the canvas by maximum, inside its window only."""
    across, along = sigma[0] * frame.unit, sigma[1] * frame.unit
    reach = WINDOW * max(across, along)
    size = canvas.shape[0]
    x0, y0 = np.clip(np.floor(centre - reach).astype(int), 0, size)
    x1, y1 = np.clip(np.ceil(centre + reach).astype(int) + 1, 0, size)
    if x0 >= x1 or y0 >= y1 or weight == 0:
        return
    dx = np.arange(x0, x1)[None, :] - centre[0]
    dy = np.arange(y0, y1)[:, None] - centre[1]
    u = (dx * frame.right[0] + dy * frame.right[1]) / across
    v = (dx * frame.down[0] + dy * frame.down[1]) / along
    window = canvas[y0:y1, x0:x1]
    np.maximum(window, weight * np.exp(-0.5 * (u * u + v * v)), out=window)


def _render_ellipses(
    points: Float[np.ndarray, "68 2"],
    weights: Mapping[int, float],
    codebook: Codebook,
    image_size: int,
    map_size: int,
) -> Float32[np.ndarray, "m m"]:
    """The reference's drawing at image size, then resampled to the map's size."""
    down, up = bilinear_matrix(28, image_size), bilinear_matrix(image_size, 28)
    merged = np.full((image_size, image_size), 1e-4)
    for au, weight in weights.items():
        canvas = np.full((image_size, image_size), 1e-4)
        for shape in codebook.action_units[au].ellipses:
            canvas[_inside_ellipse(shape, points, image_size)] = 255.0
        np.maximum(merged, weight * (up @ _box_blur(down @ canvas @ down.T) @ up.T), out=merged)
    resize = area_matrix(map_size, image_size)
    merged = resize @ merged @ resize.T
    low, high = merged.min(), merged.max()
    return np.asarray((merged - low) / (high - low) if high > low else np.zeros_like(merged), np.float32)


def _inside_ellipse(shape: Ellipse, points: Float[np.ndarray, "68 2"], size: int) -> np.ndarray:
    centre_x = points[list(shape.x), 0].mean() + _length(shape.shift[0], points, 0, size)
    centre_y = points[list(shape.y), 1].mean() + _length(shape.shift[1], points, 1, size)
    # A filled ellipse of half-axis r covers the centre pixel and r pixels to either side.
    half_w = max(_length(shape.half[0], points, 0, size), 0) + 0.5
    half_h = max(_length(shape.half[1], points, 1, size), 0) + 0.5
    x, y = np.arange(size)[None, :], np.arange(size)[:, None]
    return np.asarray(((x - round(centre_x)) / half_w) ** 2 + ((y - round(centre_y)) / half_h) ** 2 <= 1)


def _length(length: Length, points: Float[np.ndarray, "68 2"], axis: int, size: int) -> float:
    if isinstance(length, str):
        return float(round(size / int(length[2:])))
    if isinstance(length, Mapping):
        a, b = length["span"]
        half = round(abs(float(points[b, axis] - points[a, axis])) / 2)
        return float((half or length.get("zero", 0)) + length.get("plus", 0))
    return float(length)


def _box_blur(image: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    """3 x 3 mean with mirrored borders (edge pixel not repeated), as OpenCV's default."""
    padded = np.pad(image, 1, mode="reflect")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9)


@lru_cache(maxsize=32)
def bilinear_matrix(n_out: int, n_in: int) -> Float64[np.ndarray, "o i"]:
    """Matrix of bilinear resizing along one axis, pixel centres aligned as usual, no antialiasing; rows sum to 1."""
    at = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    low = np.minimum(np.floor(at).astype(int), max(n_in - 2, 0))
    matrix = np.zeros((n_out, n_in))
    matrix[np.arange(n_out), low] = 1 - (at - low)
    matrix[np.arange(n_out), np.minimum(low + 1, n_in - 1)] += at - low
    return matrix


@lru_cache(maxsize=32)
def area_matrix(n_out: int, n_in: int) -> Float64[np.ndarray, "o i"]:
    """Matrix of area-average resizing along one axis; rows sum to 1; the identity when the sizes agree."""
    edges = np.arange(n_out + 1) * n_in / n_out
    cells = np.arange(n_in)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.asarray(np.clip(overlap, 0, None) * n_out / n_in)
