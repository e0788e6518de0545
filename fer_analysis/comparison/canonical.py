"""The canonical face: maps of different faces brought to one frame, piecewise-affine with a fixed topology.

The frame is 224 x 275 pixels (width x height), as the study's. Anchors are the 68 landmarks, the 17 jaw points moved to
the upper edge, and the four corners. The triangles are the Delaunay triangulation of the *canonical* anchors, computed
once and used for every face. Where a face turns a triangle over, or shows something outside its image, there is no
value: such pixels are invalid, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy.spatial import Delaunay

from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.errors import UserInputError, unknown_name
from aupipe.fer_data.typed import parse_toml

HEIGHT, WIDTH = 275, 224
JAW = slice(0, 17)
SHAPES = ("own", "uib")

FACE_WIDTH, CHIN = 192.0, 267.0
"""Of our own shape, in pixels: distance of the outermost jaw points, and the chin's y; about the study's."""


def anchors(points: Float[np.ndarray, "*b 68 2"], height: int, width: int) -> Float64[np.ndarray, "*b 89 2"]:
    """List landmarks, jaw points at the upper edge (y = 0), corners (left before right, top before bottom)."""
    known = np.asarray(points, np.float64)
    top = known[..., JAW, :] * np.array([1.0, 0.0])
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)], np.float64)
    return np.concatenate([known, top, np.broadcast_to(corners, (*known.shape[:-2], 4, 2))], -2)


@dataclass(frozen=True, eq=False)
class CanonicalFace:
    """A shape of the frame: ``points`` (68, 2) in its pixels."""

    name: str
    points: Float64[np.ndarray, "68 2"]

    @cached_property
    def anchors(self) -> Float64[np.ndarray, "89 2"]:
        """The anchors of the frame itself, (89, 2)."""
        return anchors(self.points, HEIGHT, WIDTH)

    @cached_property
    def _mesh(self) -> Delaunay:
        return Delaunay(self.anchors)

    @cached_property
    def triangles(self) -> Int64[np.ndarray, "t 3"]:
        """Indices of each triangle's anchors, all turning the same way."""
        corners = np.array(self._mesh.simplices, np.int64)
        turned = _areas(self.anchors[corners]) < 0
        corners[turned] = corners[turned][:, ::-1]
        return corners

    @cached_property
    def _places(self) -> tuple[Int64[np.ndarray, "275 224"], Float64[np.ndarray, "275 224 3"]]:
        """The triangle that each pixel lies in, and its barycentric coordinates there."""
        ys, xs = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
        # A hair inside the frame, lest rounding puts its outermost pixels outside every triangle.
        pixels = np.stack([np.clip(xs, 1e-6, WIDTH - 1 - 1e-6), np.clip(ys, 1e-6, HEIGHT - 1 - 1e-6)], -1)
        triangle = np.asarray(self._mesh.find_simplex(pixels), np.int64)
        corners = self.anchors[self.triangles[triangle]]
        parts = []
        for corner in range(3):
            opposite = corners.copy()
            opposite[..., corner, :] = pixels
            parts.append(_areas(opposite) / _areas(corners))
        return triangle, np.stack(parts, -1)

    @cached_property
    def face(self) -> Bool[np.ndarray, "275 224"]:
        """Pixels inside the convex hull of the landmarks."""
        hull = cv2.convexHull(self.points.astype(np.float32))
        drawn = cv2.fillConvexPoly(np.zeros((HEIGHT, WIDTH), np.uint8), np.rint(hull).astype(np.int32), 1)
        return np.asarray(drawn, bool)

    def normalise(
        self, values: Float32[np.ndarray, "h w"], points: Float[np.ndarray, "68 2"]
    ) -> tuple[Float32[np.ndarray, "275 224"], Bool[np.ndarray, "275 224"]]:
        """Warp a face's map onto the canonical face, bilinearly.

        Args:
            values: The map, (h, w).
            points: The face's landmarks in pixels of the map, (68, 2).

        Returns:
            The warped map, and where it holds: values are 0 where that is False.
        """
        height, width = values.shape
        source = anchors(points, height, width)
        triangle, weights = self._places
        corners = source[self.triangles[triangle]]
        at = (corners * weights[..., None]).sum(-2)
        upright = _areas(source[self.triangles]) > 0
        x, y = at[..., 0], at[..., 1]
        inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        valid = upright[triangle] & inside
        return np.where(valid, _bilinear(values, x, y), np.float32(0)), valid


def _areas(triangles: Float64[np.ndarray, "... 3 2"]) -> Float64[np.ndarray, "..."]:
    """Compute twice the signed area of each triangle."""
    u, v = triangles[..., 1, :] - triangles[..., 0, :], triangles[..., 2, :] - triangles[..., 0, :]
    return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])


def _bilinear(
    values: Float32[np.ndarray, "h w"], x: Float64[np.ndarray, "a b"], y: Float64[np.ndarray, "a b"]
) -> Float32[np.ndarray, "a b"]:
    height, width = values.shape
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = x - left, y - top
    upper = values[top, left] * (1 - u) + values[top, right] * u
    lower = values[bottom, left] * (1 - u) + values[bottom, right] * u
    return np.asarray(upper * (1 - v) + lower * v, np.float32)


@lru_cache(maxsize=4)
def canonical_face(name: str) -> CanonicalFace:
    """Make a canonical face: ``own`` is our symmetric mean face, ``uib`` the study's.

    Raises:
        UserInputError: Another name.
    """
    if name == "own":
        unit = mean_face(1.0) + 0.5
        scale = FACE_WIDTH / (unit[16, 0] - unit[0, 0])
        middle = np.array([(WIDTH - 1) / 2, CHIN])
        return CanonicalFace(name, (unit - unit[8]) * scale + middle)
    if name == "uib":
        text = resources.files(__package__).joinpath("data", "uib.toml").read_text(encoding="utf-8")
        return CanonicalFace(name, np.array(parse_toml(text)["points"], np.float64))
    raise UserInputError(unknown_name("canonical shape", name, list(SHAPES)))
