"""One table of what a ``gaussian`` codebook draws on each face: where, how wide, how strong.

The NumPy renderer (:mod:`aupipe.fer_data.au_maps.heatmaps`) and the torch renderer
(:mod:`aupipe.fer_data.au_maps.device_maps`) both draw this table and nothing else, so they cannot disagree about the
face.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.codebook import Codebook, Gaussian

WINDOW = 4.0
"""A Gaussian is drawn to this many sigmas."""

LOG_FLOOR = -0.5 * WINDOW * WINDOW
"""Logarithm of a Gaussian's height at the edge of its window, 1/2981 of its peak; a map holds nothing lower."""

NOTHING = -1e4
"""The logarithm of nothing: its exponential is 0."""

YAW_BRIDGE = 0.93
"""Height of the nose bridge (point 28) over the eye corners' plane, in half inter-ocular distances: fitted on 1,700
faces against the mesh's own yaw (rms error 3 degrees)."""

YAW_FADE = (45.0, 75.0)
"""Yaw in degrees where the far half of a bilateral AU starts to fade, and where it is gone."""

MIN_SCALE_OF_HEIGHT = 0.5
"""The unit of length is at least this share of the face's height: yaw shrinks the inter-ocular distance, not the
height."""

LEFT, RIGHT, MIDDLE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Template:
    """The Gaussians of one set of weighted AUs, mirror images written out; row ``k`` is one Gaussian.

    ``mean @ points`` is its anchor; ``offset`` (rightwards, up) and ``sigma`` (across, along) are in units of the
    face; ``side`` is LEFT, RIGHT or MIDDLE.
    """

    mean: Float64[np.ndarray, "k 68"]
    offset: Float64[np.ndarray, "k 2"]
    sigma: Float64[np.ndarray, "k 2"]
    weight: Float64[np.ndarray, "k"]
    side: np.ndarray


@dataclass(frozen=True, slots=True)
class Blobs:
    """``k`` Gaussians on each of ``n`` faces, in map pixels.

    At ``(dx, dy)`` from ``centre`` a Gaussian's value is ``weight * exp(a dx^2 + b dx dy + c dy^2)`` with
    ``(a, b, c) = form``; outside ``centre`` +- ``reach`` it is below :data:`LOG_FLOOR`. A weight of 0 draws nothing.
    """

    centre: Float64[np.ndarray, "n k 2"]
    form: Float64[np.ndarray, "n k 3"]
    reach: Float64[np.ndarray, "n k 2"]
    weight: Float64[np.ndarray, "n k"]

    @property
    def log_weight(self) -> Float64[np.ndarray, "n k"]:
        """Logarithm of the weights; :data:`NOTHING` where the weight is 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.maximum(np.log(self.weight), NOTHING))


def make_template(codebook: Codebook, weights: Mapping[int, float]) -> Template:
    """The Gaussians of the given AUs."""
    rows = [
        (points, offset, shape.sigma, weight, side)
        for au, weight in weights.items()
        for shape in codebook.action_units[au].gaussians
        for points, offset, side in _both_sides(shape)
    ]
    mean = np.zeros((len(rows), 68))
    for row, (points, *_) in enumerate(rows):
        mean[row] = np.bincount(points, minlength=68) / len(points)
    return Template(
        mean=mean,
        offset=np.array([offset for _, offset, *_ in rows], np.float64).reshape(-1, 2),
        sigma=np.array([sigma for _, _, sigma, _, _ in rows], np.float64).reshape(-1, 2),
        weight=np.array([weight for *_, weight, _ in rows], np.float64),
        side=np.array([side for *_, side in rows], np.intp),
    )


def _both_sides(shape: Gaussian) -> Iterator[tuple[list[int], tuple[float, float], int]]:
    points = list(shape.points)
    yield points, (-shape.out, shape.up), LEFT if shape.mirror else MIDDLE
    if shape.mirror:
        yield geometry.FLIP_68[points].tolist(), (shape.out, shape.up), RIGHT


def place(template: Template, points: Float[np.ndarray, "n 68 2"]) -> Blobs:
    """Put a template on each face; ``points`` are in the pixels that are to be drawn."""
    points = np.asarray(points, np.float64)
    right, down = geometry.face_axes(points)
    axes = np.stack([right, down], 1)
    height = np.ptp(np.einsum("npd,nd->np", points, down), axis=1)
    unit = np.maximum(np.maximum(geometry.inter_ocular(points), MIN_SCALE_OF_HEIGHT * height), 1e-6)
    offset = template.offset * np.array([1.0, -1.0])
    spread = (template.sigma * unit[:, None, None]) ** 2
    products = axes[:, :, [0, 0, 1]] * axes[:, :, [0, 1, 1]]
    return Blobs(
        centre=np.tensordot(points, template.mean, (1, 1)).swapaxes(1, 2) + unit[:, None, None] * (offset @ axes),
        form=(1 / spread) @ (products * np.array([-0.5, -1.0, -0.5])),
        reach=WINDOW * np.sqrt(spread @ (axes * axes)),
        weight=template.weight * _visible(points)[:, template.side],
    )


def _visible(points: Float64[np.ndarray, "n 68 2"]) -> Float64[np.ndarray, "n 3"]:
    """How much shows of the left half, the right half and the midline, in [0, 1]."""
    yaw = yaw_from_points(points)
    fade = np.clip((np.abs(yaw) - YAW_FADE[0]) / (YAW_FADE[1] - YAW_FADE[0]), 0, 1)
    far = 1 - fade * fade * (3 - 2 * fade)
    # Turned to image right (positive yaw), the face hides its image-right half.
    one = np.ones_like(far)
    return np.stack([np.where(yaw > 0, one, far), np.where(yaw > 0, far, one), one], -1)


def yaw_from_points(points: Float[np.ndarray, "... 68 2"]) -> Float[np.ndarray, "..."]:
    """Yaw in degrees from the 68 points alone: positive when the face turns to image right.

    From the nose bridge's shift between the outer eye corners: ``tan(yaw) = shift / YAW_BRIDGE``.
    """
    right, _ = geometry.face_axes(points)
    along = np.einsum("...pd,...d->...p", points[..., [36, 28, 45], :], right)
    left_corner, bridge, right_corner = along[..., 0], along[..., 1], along[..., 2]
    half = (right_corner - left_corner) / 2
    return np.asarray(np.degrees(np.arctan2(bridge - (left_corner + right_corner) / 2, YAW_BRIDGE * half)))
