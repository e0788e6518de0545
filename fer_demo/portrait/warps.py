"""Smooth, fold-free backward maps of a face: thin-plate splines, and a mouth that opens along a seam.

Coordinates are those of the *face frame*: origin midway between the outer eye corners, x towards the image's right
eye, y towards the chin, unit = the distance of the outer eye corners. All maps are backward: they take a place in
the new face to the place in the old one that shows there.

A spline alone cannot close a mouth (two lip contours that nearly meet make it overshoot and fold), so the lips are
first brought together along their seam by a vertical, piecewise linear, hence monotone map. The spline only ever sees
closed mouths.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float64

Heights = Float[np.ndarray, "*places"]
"""One coordinate (x or y) of any number of places."""

MIN_GAP = 0.004
"""Opening of a closed mouth, in eye distances: not zero, so that the map stays invertible."""

_ABOVE = 0.3  # share of an opening that lies above the seam
_LIP_REACH_UP = 0.16  # how far above and below the lips the opening is felt: up to the nose, down to the chin boss
_LIP_REACH_DOWN = 0.30
_GRID = (-1.8, 2.2, 0.08)  # first, last and step of the spline's grid, on both axes


@dataclass(frozen=True, slots=True)
class Mouth:
    """The inner lip contours: two parabolas that meet at the corners ``(x0, y0)`` and ``(x1, y1)``.

    ``upper`` and ``lower`` are their heights (y) midway between the corners.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    upper: float
    lower: float

    @property
    def gap(self) -> float:
        """Height of the opening midway between the corners."""
        return self.lower - self.upper

    def bulge(self, x: Heights) -> Heights:
        """Return 1 midway between the corners, 0 at the corners and beyond."""
        u = (2 * x - self.x0 - self.x1) / (self.x1 - self.x0)
        return np.maximum(1 - u * u, 0)

    def seam(self, x: Heights) -> Heights:
        """Return the height of the line along which the lips meet; beyond the corners it stays at theirs."""
        share = np.clip((x - self.x0) / (self.x1 - self.x0), 0, 1)
        chord = self.y0 + (self.y1 - self.y0) * share
        middle = self.upper + _ABOVE * self.gap
        return np.asarray(chord + (middle - (self.y0 + self.y1) / 2) * self.bulge(x))

    def contours(self, x: Heights) -> tuple[Heights, Heights]:
        """Return the heights of the upper and the lower lip's inner edge."""
        seam, opening = self.seam(x), self.gap * self.bulge(x)
        return seam - _ABOVE * opening, seam + (1 - _ABOVE) * opening

    def close(self, x: Heights, y: Heights) -> Heights:
        """Bring the lips together: the new heights; ``x`` does not change."""
        closed, opened = self._knots(x)
        seam = self.seam(x)
        return np.asarray(seam + _piecewise(y - seam, opened, closed))

    def open(self, x: Heights, y: Heights) -> Heights:
        """Open the lips again, the inverse of :meth:`close`."""
        closed, opened = self._knots(x)
        seam = self.seam(x)
        return np.asarray(seam + _piecewise(y - seam, closed, opened))

    def _knots(self, x: Heights) -> tuple[_Knots, _Knots]:
        bulge = self.bulge(x)
        above, below = _ABOVE * self.gap, (1 - _ABOVE) * self.gap
        ends = -above - _LIP_REACH_UP, below + _LIP_REACH_DOWN
        slit = MIN_GAP / 2 * bulge
        return _Knots(ends[0], -slit, slit, ends[1]), _Knots(ends[0], -above * bulge, below * bulge, ends[1])


@dataclass(frozen=True, slots=True)
class _Knots:
    """Heights relative to the seam: where the opening is first felt, upper lip, lower lip, where it ends."""

    top: float
    upper: Heights
    lower: Heights
    bottom: float


def _piecewise(t: Heights, old: _Knots, new: _Knots) -> Heights:
    """Take the knots of ``old`` to those of ``new``, linearly between them; identity outside."""
    tiny = 1e-9  # at the corners the opening has no height
    top = new.upper + (t - old.upper) * (new.top - new.upper) / (old.top - old.upper)
    middle = new.upper + (t - old.upper) * (new.lower - new.upper) / np.maximum(old.lower - old.upper, tiny)
    bottom = new.lower + (t - old.lower) * (new.bottom - new.lower) / (old.bottom - old.lower)
    inside = np.where(t < old.upper, top, np.where(t <= old.lower, middle, bottom))
    return np.where((t > old.top) & (t < old.bottom), inside, t)


def thin_plate(
    targets: Float64[np.ndarray, "k 2"],
    values: Float64[np.ndarray, "k 2"],
    places: Float64[np.ndarray, "n 2"],
) -> Float64[np.ndarray, "n 2"]:
    """Evaluate at ``places`` the thin-plate spline that takes ``targets`` to ``values``."""
    count = len(targets)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(targets, targets)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :] = targets
    system[count + 1 :, :count] = targets.T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, 2))]))
    result = _kernel(places, targets) @ weights[:count] + weights[count] + places @ weights[count + 1 :]
    return np.asarray(result, np.float64)


def _kernel(a: Float64[np.ndarray, "n 2"], b: Float64[np.ndarray, "k 2"]) -> Float64[np.ndarray, "n k"]:
    squared = (a[:, :1] - b[:, 0]) ** 2 + (a[:, 1:] - b[:, 1]) ** 2
    return np.asarray(squared * np.log(squared + 1e-12))


@dataclass(frozen=True, slots=True)
class FaceWarp:
    """Backward map from a new face to the old one, given as control points and mouths of both.

    ``old`` and ``new`` are the same ``k`` control points, ``(k, 2)``, face frame, mouths as they are (open or not).
    """

    old: Float64[np.ndarray, "k 2"]
    new: Float64[np.ndarray, "k 2"]
    old_mouth: Mouth
    new_mouth: Mouth

    def __call__(
        self, x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]
    ) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """Find the places in the old face that the new one shows at ``(x, y)``."""
        old_x, closed = self.closed_map(x, self.new_mouth.close(x, y))
        return old_x, self.old_mouth.open(old_x, closed)

    def closed_map(
        self, x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]
    ) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """Apply the smooth part of the map: from the new face to the old one, both with closed mouths."""
        first, _, step = _GRID
        at_x, at_y = (((axis - first) / step).astype(np.float32) for axis in (x, y))
        moved = cv2.remap(self._field(), at_x, at_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return x + moved[..., 0], y + moved[..., 1]

    def _field(self) -> Float[np.ndarray, "n n 2"]:
        """Compute the displacement, new to old with closed mouths, on the coarse grid."""
        old, new = (
            np.stack([points[:, 0], mouth.close(points[:, 0], points[:, 1])], 1)
            for points, mouth in ((self.old, self.old_mouth), (self.new, self.new_mouth))
        )
        ticks = np.arange(_GRID[0], _GRID[1], _GRID[2])
        grid = np.stack(np.meshgrid(ticks, ticks), -1)
        moved = thin_plate(new, old - new, grid.reshape(-1, 2))
        return moved.reshape(grid.shape).astype(np.float32)
