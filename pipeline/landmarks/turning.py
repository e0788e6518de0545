"""Photos turned by quarter turns: a face detector knows upright faces only, and puts a wrong mesh on others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.pipeline.detectors.base import Face
from aupipe.pipeline.detectors.pose68 import turn_pose


def turn_image(image: UInt8[np.ndarray, "_ _ 3"], turns: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Turn an image clockwise by ``turns`` quarter turns; by none it is the same object."""
    return np.ascontiguousarray(np.rot90(image, -turns)) if turns % 4 else image


def turn_face(face: Face, shape: tuple[int, ...], turns: int) -> Face:
    """Turn a face with its image, as :func:`turn_image` does; ``shape`` is that of the image before (height, width)."""
    if not turns % 4:
        return face
    points, mesh = _turned(face.points, shape, turns), face.mesh
    if mesh is not None:
        flat = _turned(mesh[:, :2].astype(np.float64), shape, turns)
        mesh = np.concatenate([flat, mesh[:, 2:]], 1).astype(np.float32)
    return replace(face, points=points, mesh=mesh, pose=turn_pose(face.pose, 90 * turns))


def _turned(points: Float64[np.ndarray, "n 2"], shape: tuple[int, ...], turns: int) -> Float64[np.ndarray, "n 2"]:
    height, width = shape[:2]
    x, y = points.T
    ways = {1: (height - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, width - 1 - x)}
    return np.stack(ways[turns % 4], 1)
