"""The mapping from MediaPipe's 478-point face mesh to the 68 points of iBUG-68."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from aupipe.pipeline.detectors.mesh68_correction import apply_correction, shipped_correction

_JAW_LEFT = (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152)
_JAW_RIGHT = (356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152)
_INNER_51 = (
    *(70, 63, 105, 66, 107), *(336, 296, 334, 293, 300),  # brows 17-26
    *(168, 197, 5, 4), *(98, 97, 2, 326, 327),  # nose 27-35
    *(33, 160, 158, 133, 153, 144), *(362, 385, 387, 263, 373, 380),  # eyes 36-47
    *(61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91),  # outer lips 48-59
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips 60-67
)  # fmt: skip

MAPPING = "E+1"
"""Name of the mapping, recorded with every result: the plain mapping E and the version of the fitted correction."""


def mesh_to_68(mesh: Float[np.ndarray, "478 _"]) -> Float64[np.ndarray, "68 2"]:
    """Map mesh points (pixels; x and y are the first two columns) to iBUG-68 points in the same pixels.

    The plain mapping and a correction learned from human-corrected points
    (:mod:`aupipe.pipeline.detectors.mesh68_correction`). Scaled, turned, moved or mirrored mesh points give scaled,
    turned, moved or mirrored (and renamed) points. ``benchmarks/landmark_accuracy.py`` measures the error.
    """
    return apply_correction(map_plain(mesh), shipped_correction())


def map_plain(mesh: Float[np.ndarray, "478 _"]) -> Float64[np.ndarray, "68 2"]:
    """Map by mapping E, without the correction.

    Jaw points 0-8 and 16-8 are nine points equally spaced by arc length on the two halves of the mesh's outline;
    the 51 inner points are single mesh vertices.
    """
    flat = np.asarray(mesh[:, :2], np.float64)
    left = _equally_spaced(flat[list(_JAW_LEFT)], 9)
    right = _equally_spaced(flat[list(_JAW_RIGHT)], 9)
    return np.concatenate([left, right[-2::-1], flat[list(_INNER_51)]])


def _equally_spaced(path: Float64[np.ndarray, "k 2"], count: int) -> Float64[np.ndarray, "n 2"]:
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0.0, length[-1], count)
    return np.stack([np.interp(at, length, path[:, axis]) for axis in (0, 1)], 1)
