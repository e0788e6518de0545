"""Anisotropic Gaussians that follow scale, roll and yaw of the face.

They are drawn by the plainest code that gives every map its bytes. Drawing only the rows in which a Gaussian shows,
into buffers that are used again, took three times as many lines and was 1.3 (64 pixels) to 1.4 times (256) as fast on
maps alone. Nobody would notice: where maps are drawn in bulk, as ``aupipe build-maps --images-from`` does for a new
codebook, drawing takes 0.02 s of the 0.63 s that 278 faces need, with either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, no_type_check

import numpy as np
from jaxtyping import Float, Float32, Float64

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.shapes.base import Region, RegionTable, Shape, are_landmarks, is_number, register_shape

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 4.0
"""A Gaussian is drawn to this many sigmas."""

LEAST_SIGMA = 1e-6
"""Smallest width: of nothing there is no inverse."""

LOG_FLOOR = -0.5 * WINDOW * WINDOW
"""Logarithm of a Gaussian's height at the edge of its window, 1/2981 of its peak; a map holds nothing lower."""

NOTHING = -1e4
"""The logarithm of nothing: its exponential is 0."""

YAW_BRIDGE = 0.93
"""Height of the nose bridge (point 28) over the eye corners' plane, in half inter-ocular distances: fitted on 1,700
faces against the mesh's own yaw (rms error 3 degrees)."""

MIN_SCALE_OF_HEIGHT = 0.5
"""The unit of length is at least this share of the face's height: yaw shrinks the inter-ocular distance, not the
height."""

LEFT, RIGHT, MIDDLE = 0, 1, 2

CACHE_BYTES = 1 << 19
"""Faces are drawn together while their maps fit in this much cache."""

CENTRE, FORM, VISIBLE, WEIGHT = slice(0, 2), slice(2, 5), 5, 6
"""Columns of the table, in map pixels.

At ``(dx, dy)`` from its centre a Gaussian's value is ``visible * exp(a dx^2 + b dx dy + c dy^2)``: ``(a, b, c)`` is its
form, ``visible`` its weight by how much of its side shows.
"""


@register_shape
@no_type_check  # a file may hold anything: that is said by problems()
@dataclass(frozen=True)
class Gaussian(Shape):
    """An anisotropic Gaussian: offset and sigmas in inter-ocular distance, along the face's own axes.

    ``out`` points away from the midline and ``up`` towards the forehead; written for the left half of the image
    when ``mirror`` is set, and then drawn on both sides. ``weight``: its height beside the others of its AU.
    """

    kind: ClassVar[str] = "gaussian"
    key: ClassVar[str] = "gaussians"

    points: tuple[int, ...]
    sigma: tuple[float, float]
    mirror: bool
    out: float = 0.0
    up: float = 0.0
    weight: float = 1.0

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Gaussian:
        """Read ``{ points = [..], sigma = [across, along], mirror = .., out = .., up = .., weight = .. }``."""
        return cls(**{**entry, "points": tuple(entry["points"]), "sigma": tuple(entry["sigma"])})

    def problems(self) -> list[str]:
        """List what is no landmark, no size or no place, and a Gaussian beside the midline without its mirror image."""
        problems = []
        if self.mirror not in (True, False):
            problems.append(f"mirror is {self.mirror!r}, neither true nor false")
        if not are_landmarks(self.points):
            problems.append(f"points {list(self.points)} are not landmark numbers 0-67")
        elif not self.mirror and ({int(geometry.FLIP_68[p]) for p in self.points} != set(self.points) or self.out != 0):
            problems.append(f"points {list(self.points)} are off the midline, so `mirror` must be true")
        if len(self.sigma) != 2 or not all(is_number(sigma) and sigma >= LEAST_SIGMA for sigma in self.sigma):
            problems.append(f"sigma {list(self.sigma)} is not two positive numbers")
        if not (is_number(self.out) and is_number(self.up)):
            problems.append(f"the offset out {self.out}, up {self.up} is not finite")
        if not (is_number(self.weight) and 0 < self.weight <= 1):
            problems.append(f"weight {self.weight} is not in (0, 1]")
        return problems

    def slips(self) -> list[str]:
        """Find a mirrored Gaussian that is written for the image's right half, whose sides would be exchanged."""
        if not (self.mirror and are_landmarks(self.points) and geometry.RIGHT_68.issuperset(self.points)):
            return []
        left = sorted(int(geometry.FLIP_68[p]) for p in self.points)
        return [f"points {list(self.points)} lie in the image's right half; with `mirror` write {left}"]

    @classmethod
    def describe(cls, shapes: Sequence[Gaussian]) -> str:
        """Say where each lies and how wide it is."""
        return "; ".join(
            f"mean{list(one.points)} out {one.out:g} up {one.up:g} sigma {one.sigma[0]:g} x {one.sigma[1]:g}"
            + (f" weight {one.weight:g}" if one.weight != 1 else "")
            + (" and mirrored" if one.mirror else "")
            for one in shapes
        )

    @classmethod
    def place(
        cls, regions: Sequence[Region], points: Float[np.ndarray, "n 68 2"], image_size: int, map_size: int
    ) -> RegionTable:
        """Put the Gaussians and their mirror images on each face, in map pixels."""
        scaled = geometry.rescale_points(np.asarray(points, np.float64), map_size / image_size)
        return _place(make_template(tuple(regions)), scaled)

    @classmethod
    def weigh(cls, table: RegionTable, regions: Sequence[Region], weights: Float64[np.ndarray, "n r 2"]) -> RegionTable:
        """Weigh each half by its side's weight; what lies on the midline by the larger one."""
        template = make_template(tuple(regions))
        # A face's left half lies on the image's right.
        of_half = np.stack([weights[..., 1], weights[..., 0], weights.max(-1)], -1)
        weighed = table.copy()
        weighed[..., [VISIBLE, WEIGHT]] *= of_half[:, template.region, template.side][..., None]
        return weighed

    @classmethod
    def draw(cls, table: RegionTable, image_size: int, maps: Float32[np.ndarray, "n m m"]) -> None:
        """Draw some faces at a time, so that they stay in the processor's cache."""
        step = max(CACHE_BYTES // maps[0].nbytes, 1)
        for start in range(0, len(maps), step):
            some = slice(start, start + step)
            maps[some] = _draw(table[some], maps.shape[1])

    @classmethod
    def draw_on_device(cls, table: Tensor, image_size: int, map_size: int) -> Tensor:
        """Draw with torch, Gaussian by Gaussian, all faces at once."""
        import torch

        device = table.device
        x, y, a, b, c = table[..., :5].float().unbind(-1)
        log_weight = table[..., VISIBLE].log().clamp_min(NOTHING).float()
        grid = torch.arange(map_size, device=device, dtype=torch.float32)
        canvas = torch.full((len(table), map_size, map_size), NOTHING, device=device)
        for k in range(table.shape[1]):
            dx, dy = grid - x[:, k, None], grid - y[:, k, None]
            row = c[:, k, None] * dy * dy + log_weight[:, k, None]
            outer = row[:, :, None] + (a[:, k, None] * dx * dx)[:, None, :]
            torch.maximum(canvas, outer.addcmul_((b[:, k, None] * dy)[:, :, None], dx[:, None, :]), out=canvas)
        above = canvas >= LOG_FLOOR
        peak = canvas.amax((1, 2), keepdim=True)
        enough = (0.5 * table[..., WEIGHT].amax(1)).log().float()[:, None, None]
        return (canvas - torch.where(peak > enough, peak, torch.zeros_like(peak))).exp_().mul_(above)


# --- where they lie ---


@dataclass(frozen=True, slots=True)
class Template:
    """The Gaussians of one set of weighted AUs, mirror images written out; row ``k`` is one Gaussian.

    ``mean @ points`` is its anchor; ``offset`` (rightwards, up) and ``sigma`` (across, along) are in units of the
    face; ``side`` is LEFT, RIGHT or MIDDLE; ``region``: the number of the region it belongs to.
    """

    mean: Float64[np.ndarray, "k 68"]
    offset: Float64[np.ndarray, "k 2"]
    sigma: Float64[np.ndarray, "k 2"]
    weight: Float64[np.ndarray, "k"]
    side: np.ndarray
    region: np.ndarray


@lru_cache(maxsize=64)
def make_template(regions: tuple[Region, ...]) -> Template:
    """Prepare the Gaussians of some regions; kept, as a store has the same few expressions over and over."""
    rows = [
        (points, offset, region.shape.sigma, region.weight * region.shape.weight, side, number)
        for number, region in enumerate(regions)
        for points, offset, side in _both_sides(region.shape)
    ]
    mean = np.zeros((len(rows), 68))
    for row, (points, *_) in enumerate(rows):
        mean[row] = np.bincount(points, minlength=68) / len(points)
    return Template(
        mean=mean,
        offset=np.array([offset for _, offset, *_ in rows], np.float64).reshape(-1, 2),
        sigma=np.array([sigma for _, _, sigma, *_ in rows], np.float64).reshape(-1, 2),
        weight=np.array([weight for *_, weight, _, _ in rows], np.float64),
        side=np.array([side for *_, side, _ in rows], np.intp),
        region=np.array([number for *_, number in rows], np.intp),
    )


def _both_sides(shape: Gaussian) -> Iterator[tuple[list[int], tuple[float, float], int]]:
    points = list(shape.points)
    yield points, (-shape.out, shape.up), LEFT if shape.mirror else MIDDLE
    if shape.mirror:
        yield geometry.FLIP_68[points].tolist(), (shape.out, shape.up), RIGHT


def _place(template: Template, points: Float64[np.ndarray, "n 68 2"]) -> RegionTable:
    """Put a template on each face; ``points`` are in the pixels that are to be drawn."""
    right, down = geometry.face_axes(points)
    axes = np.stack([right, down], 1)
    height = np.ptp(np.einsum("npd,nd->np", points, down), axis=1)
    length = np.maximum(np.maximum(geometry.inter_ocular(points), MIN_SCALE_OF_HEIGHT * height), 1e-6)
    offset = template.offset * np.array([1.0, -1.0])
    spread = (template.sigma * length[:, None, None]) ** 2
    products = axes[:, :, [0, 0, 1]] * axes[:, :, [0, 1, 1]]
    table = np.empty((len(points), len(template.weight), 7))
    table[..., CENTRE] = np.tensordot(points, template.mean, (1, 1)).swapaxes(1, 2)
    table[..., CENTRE] += length[:, None, None] * (offset @ axes)
    table[..., FORM] = (1 / spread) @ (products * np.array([-0.5, -1.0, -0.5]))
    table[..., VISIBLE] = template.weight * _visible(points)[:, template.side]
    table[..., WEIGHT] = template.weight
    return table


def _visible(points: Float64[np.ndarray, "n 68 2"]) -> Float64[np.ndarray, "n 3"]:
    """Return the visible share of the left half, the right half and the midline, in [0, 1]."""
    yaw = yaw_from_points(points)
    far = geometry.far_half_visible(yaw)
    one = np.ones_like(far)
    return np.stack([np.where(yaw > 0, one, far), np.where(yaw > 0, far, one), one], -1)


def yaw_from_points(points: Float[np.ndarray, "... 68 2"]) -> Float[np.ndarray, "..."]:
    """Estimate the yaw in degrees from the 68 points alone: positive when the face turns to image right.

    From the nose bridge's shift between the outer eye corners: ``tan(yaw) = shift / YAW_BRIDGE``.
    """
    right, _ = geometry.face_axes(points)
    along = np.einsum("...pd,...d->...p", points[..., [36, 28, 45], :], right)
    left_corner, bridge, right_corner = along[..., 0], along[..., 1], along[..., 2]
    half = (right_corner - left_corner) / 2
    return np.asarray(np.degrees(np.arctan2(bridge - (left_corner + right_corner) / 2, YAW_BRIDGE * half)))


# --- drawing: the maximum is taken of their logarithms, quadratics that one small matrix product draws ---


def _draw(table: RegionTable, size: int) -> Float32[np.ndarray, "n m m"]:
    x, y, a, b, c = (table[..., column, None].astype(np.float32) for column in range(5))
    with np.errstate(divide="ignore"):
        log_weight = np.maximum(np.log(table[..., VISIBLE, None]), NOTHING).astype(np.float32)
    pixels = np.arange(size, dtype=np.float32)
    dx, dy, one = pixels - x, pixels - y, np.ones((*x.shape[:2], size), np.float32)
    rows = np.stack([dy * dy * c + log_weight, one, dy * b], -1)
    columns = np.stack([one, dx * dx * a, dx], -2)
    logs = rows[:, 0] @ columns[:, 0]
    for k in range(1, table.shape[1]):
        np.maximum(logs, rows[:, k] @ columns[:, k], out=logs)
    # Sampling misses a sub-pixel peak by a little; a face outside the frame must not be blown up to full range.
    peak, enough = logs.max((1, 2)), np.log(0.5 * table[..., WEIGHT].max(1))
    scale = np.where(peak > enough, peak, np.float32(0))[:, None, None]
    return np.asarray(np.exp(logs - scale) * (logs >= LOG_FLOOR))
