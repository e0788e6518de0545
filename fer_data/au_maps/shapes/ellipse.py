"""Filled ellipses: the FG 2024 reference's drawing, at image size and then resampled to the map's size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, no_type_check

import numpy as np
from jaxtyping import Float, Float32, Float64

from aupipe.fer_data.au_maps.resizing import area_matrix, bilinear_matrix
from aupipe.fer_data.au_maps.shapes.base import Region, RegionTable, Shape, are_landmarks, is_number, register_shape

if TYPE_CHECKING:
    from torch import Tensor

BACKGROUND, INSIDE = 1e-4, 255.0
"""What the reference's canvas holds outside and inside an ellipse."""

LEAST = BACKGROUND
"""Range that a map has where any ellipse shows; rounding alone, where all lie outside the image, stays far below."""

COARSE = 28
"""The reference blurs each AU at this size."""

CENTRE, HALF, ROW, WEIGHT = slice(0, 2), slice(2, 4), 4, 5
"""Columns of the table: centre and half axes ``(x, y)`` in image pixels, the row of the AU, and its weight."""

Length = float | str | Mapping[str, Any]
"""Pixels, a fraction such as ``"h/10"``, or a landmark span such as ``{"span": [36, 39], "zero": 5, "plus": 10}``."""


@register_shape
@no_type_check  # a file may hold anything: that is said by problems()
@dataclass(frozen=True)
class Ellipse(Shape):
    """An axis-parallel filled ellipse in image pixels (the reference's geometry).

    Its centre is the mean of the landmarks ``x`` and of the landmarks ``y``, moved by ``shift``; ``half``: half axes.
    """

    kind: ClassVar[str] = "ellipse"
    key: ClassVar[str] = "ellipses"

    x: tuple[int, ...]
    y: tuple[int, ...]
    half: tuple[Length, Length]
    shift: tuple[Length, Length] = (0, 0)

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Ellipse:
        """Read ``{ x = [..], y = [..], half = [.., ..], shift = [.., ..] }``."""
        return cls(tuple(entry["x"]), tuple(entry["y"]), tuple(entry["half"]), tuple(entry.get("shift", (0, 0))))

    def problems(self) -> list[str]:
        """List numbers that are no landmarks and lengths that are none."""
        problems = [
            f"{axis} {list(points)} are not landmark numbers 0-67"
            for axis, points in (("x", self.x), ("y", self.y))
            if not are_landmarks(points)
        ]
        for key, lengths in (("half", self.half), ("shift", self.shift)):
            if len(lengths) != 2 or not all(_is_length(length) for length in lengths):
                problems.append(f"{key} {list(lengths)} is not two lengths (pixels, 'h/8' or a span)")
        return problems

    @classmethod
    def describe(cls, shapes: Sequence[Ellipse]) -> str:
        """Say how many there are."""
        return f"{len(shapes)} ellipse(s)"

    @classmethod
    def place(
        cls, regions: Sequence[Region], points: Float[np.ndarray, "n 68 2"], image_size: int, map_size: int
    ) -> RegionTable:
        """Put the ellipses on each face, in image pixels whatever the map's size."""
        table = np.empty((len(points), len(regions), 6))
        table[..., ROW] = [region.row for region in regions]
        table[..., WEIGHT] = [region.weight for region in regions]
        for row, face in zip(table, points, strict=True):
            for ellipse, region in zip(row, regions, strict=True):
                ellipse[:4] = _place(region.shape, face, image_size)
        return table

    @classmethod
    def weigh(cls, table: RegionTable, regions: Sequence[Region], weights: Float64[np.ndarray, "n r 2"]) -> RegionTable:
        """Weigh by the larger of the two sides: the reference's ellipses have none."""
        weighed = table.copy()
        weighed[..., WEIGHT] *= weights.max(-1)
        return weighed

    @classmethod
    def draw(cls, table: RegionTable, image_size: int, maps: Float32[np.ndarray, "n m m"]) -> None:
        """Draw as the reference does; see :func:`coarse_matrices`."""
        for face, ellipses in enumerate(table):
            maps[face] = _draw(ellipses, image_size, maps.shape[1])

    @classmethod
    def draw_on_device(cls, table: Tensor, image_size: int, map_size: int) -> Tensor:
        """Draw with torch: pixels on an ellipse's rim are counted in double precision, as :meth:`draw` counts them."""
        import torch

        device = table.device
        read, *matrices = coarse_matrices(image_size)
        shrink, grow, resize = (
            torch.from_numpy(matrix).to(device, torch.float32)
            for matrix in (*matrices, area_matrix(map_size, image_size))
        )
        at = torch.from_numpy(read).to(device, table.dtype)
        dx, dy = ((at - table[:, :, axis, None]) / table[:, :, axis + 2, None] for axis in (0, 1))
        inside = dx[:, :, None, :] ** 2 + dy[:, :, :, None] ** 2 <= 1
        weight = table[..., WEIGHT].float()
        rows = torch.arange(int(table[..., ROW].max()) + 1, device=device)
        member = (table[:, None, :, ROW] == rows[:, None]) & (weight > 0)[:, None]
        covered = torch.einsum("bae,behw->bahw", member.float(), inside.float()) > 0
        canvas = torch.where(covered, INSIDE, BACKGROUND)
        coarse = (member * weight[:, None]).amax(2)[:, :, None, None] * (shrink @ canvas @ shrink.T)
        merged = torch.full((len(table), image_size, image_size), BACKGROUND, device=device)
        for canvas in coarse.unbind(1):
            torch.maximum(merged, grow @ canvas @ grow.T, out=merged)
        merged = resize @ merged @ resize.T
        low, high = merged.amin((1, 2), keepdim=True), merged.amax((1, 2), keepdim=True)
        spread = high - low
        return (merged - low) / spread.where(spread > LEAST, torch.inf)


def _is_length(length: Any) -> bool:
    if isinstance(length, str):
        return re.fullmatch(r"[wh]/[1-9][0-9]*", length) is not None
    if isinstance(length, Mapping):
        span, numbers = length.get("span", ()), [length.get("zero", 0), length.get("plus", 0)]
        known = set(length) <= {"span", "zero", "plus"} and isinstance(span, list | tuple) and len(span) == 2
        return known and are_landmarks(span) and all(is_number(number) for number in numbers)
    return is_number(length)


def _place(shape: Ellipse, points: Float[np.ndarray, "68 2"], size: int) -> tuple[float, float, float, float]:
    """Place an ellipse: landmarks, then the mean of several of them, are cut to whole pixels, as the reference does."""
    pixels = np.trunc(points)
    centre = [
        float(np.trunc(pixels[list(landmarks), axis].mean())) + _length(shift, pixels, axis, size)
        for axis, (landmarks, shift) in enumerate(((shape.x, shape.shift[0]), (shape.y, shape.shift[1])))
    ]
    # A filled ellipse of half-axis r covers the centre pixel and r pixels to either side.
    half = [max(_length(length, pixels, axis, size), 0) + 0.5 for axis, length in enumerate(shape.half)]
    return centre[0], centre[1], half[0], half[1]


def _length(length: Length, pixels: Float[np.ndarray, "68 2"], axis: int, size: int) -> float:
    if isinstance(length, str):
        return float(round(size / int(length[2:])))
    if isinstance(length, Mapping):
        a, b = length["span"]
        # Signed on purpose: a span that runs the other way is no span, and `zero` takes its place.
        half = int((pixels[b, axis] - pixels[a, axis]) / 2 + length.get("plus", 0))
        return float(half if half > 0 else length.get("zero", 0))
    return float(length)


@lru_cache(maxsize=8)
def coarse_matrices(
    size: int,
) -> tuple[np.ndarray, Float64[np.ndarray, "28 s"], Float64[np.ndarray, "size 28"]]:
    """Make what blurs an AU as the reference does.

    Returns:
        The pixels that its resizing to 28 reads, the matrix that resizes and blurs them, and the way back. Without
        antialiasing a large image is read at two pixels per output pixel, so only those need to be drawn.
    """
    shrink = bilinear_matrix(COARSE, size)
    read = np.flatnonzero(shrink.any(0))
    # 3 x 3 mean with mirrored borders (edge pixel not repeated), as OpenCV's default.
    padded = np.pad(np.eye(COARSE), ((1, 1), (0, 0)), mode="reflect")
    blur = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return read, blur @ shrink[:, read], bilinear_matrix(size, COARSE)


def _draw(ellipses: Float64[np.ndarray, "e 6"], image_size: int, map_size: int) -> Float64[np.ndarray, "m m"]:
    read, shrink, grow = coarse_matrices(image_size)
    dx, dy = ((read - ellipses[:, axis, None]) / ellipses[:, axis + 2, None] for axis in (0, 1))
    inside = dx[:, None, :] ** 2 + dy[:, :, None] ** 2 <= 1
    merged = np.full((image_size, image_size), BACKGROUND)
    for row in np.unique(ellipses[:, ROW]):
        own = ellipses[:, ROW] == row
        canvas = np.where(inside[own].any(0), INSIDE, BACKGROUND)
        weight = ellipses[own, WEIGHT].max()
        np.maximum(merged, weight * (grow @ (shrink @ canvas @ shrink.T) @ grow.T), out=merged)
    resize = area_matrix(map_size, image_size)
    merged = resize @ merged @ resize.T
    low, high = merged.min(), merged.max()
    return np.asarray((merged - low) / (high - low) if high - low > LEAST else np.zeros_like(merged))
