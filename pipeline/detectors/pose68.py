"""Head pose from the 68 points alone, for detectors that give no transformation."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64

SHAPE_FILE = Path(__file__).parent / "data" / "pose68.toml"
_ROUNDS = 8


class MeanFace(NamedTuple):
    """The mean 3-D face in any unit: x to image right, y down, z away from the camera; weights of the points."""

    points: Float64[np.ndarray, "68 3"]
    weights: Float64[np.ndarray, "68"]


def pose_from_points(points: Float[np.ndarray, "68 2"], face: MeanFace | None = None) -> Float32[np.ndarray, "3"]:
    """Estimate yaw, pitch, roll in degrees of a face from its iBUG-68 points, in any pixels.

    Yaw is positive when the face turns to image right, pitch when it looks down, roll when it leans clockwise on
    screen; yaw lies in [-180, 180], pitch in [-90, 90], roll in [-180, 180]. A scaled orthographic view of a mean 3-D
    face (the shipped one unless given) is fitted by least squares. Points without extent or with a non-finite
    coordinate have no pose: zeros.

    MediaPipe's own pose is relative to the axis of an assumed camera with a view of 63 degrees, so for a face far from
    the middle of its photo the two differ by some degrees.
    """
    mean = face or shipped_face()
    weights = (mean.weights / mean.weights.sum())[:, None]
    flat = np.asarray(points, np.float64)
    if not np.isfinite(flat).all():
        return np.zeros(3, np.float32)
    flat = flat - (weights * flat).sum(0)
    size = np.sqrt((weights * flat**2).sum())
    if size < 1e-9:
        return np.zeros(3, np.float32)
    return angles_of(_fit_rotation(flat / size, mean.points - (weights * mean.points).sum(0), weights))


def turn_pose(pose: Float[np.ndarray, "3"], degrees: float) -> Float32[np.ndarray, "3"]:
    """Return the pose (yaw, pitch, roll in degrees) that a face has once its photo is turned clockwise."""
    return angles_of(rotation_of(np.array([0.0, 0.0, degrees])) @ rotation_of(pose))


def rotation_of(pose: Float[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    """Make the rotation of yaw, pitch, roll in degrees, in axes x to image right, y down, z away from the camera."""
    yaw, pitch, roll = np.radians(np.asarray(pose, np.float64) * (-1, -1, 1))
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    lean = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return np.asarray(turn @ nod @ lean)


def angles_of(rotation: Float64[np.ndarray, "3 3"]) -> Float32[np.ndarray, "3"]:
    """Return yaw, pitch, roll of R = Ry(yaw) Rx(pitch) Rz(roll); the inverse of :func:`rotation_of`."""
    yaw = np.arctan2(-rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(-rotation[1, 2], -1, 1))
    roll = np.arctan2(rotation[1, 0], rotation[1, 1])
    return np.degrees([yaw, pitch, roll]).astype(np.float32)


def _fit_rotation(
    flat: Float64[np.ndarray, "68 2"], solid: Float64[np.ndarray, "68 3"], weights: Float64[np.ndarray, "68 1"]
) -> Float64[np.ndarray, "3 3"]:
    """The rotation of the least-squares scaled orthographic view.

    A general linear view is fitted in closed form and made orthogonal; rounds of filling in the depth that the
    present rotation gives and solving the 3-D Procrustes problem then lower the error to the optimum.
    """
    weighted = solid * weights
    linear = np.linalg.solve(solid.T @ weighted, weighted.T @ flat).T
    left, _, right = np.linalg.svd(linear, full_matrices=False)
    rows = left @ right
    rotation = np.concatenate([rows, np.cross(rows[0], rows[1])[None]])
    for _ in range(_ROUNDS):
        seen = solid @ rotation.T
        scale = (weights * flat * seen[:, :2]).sum() / (weights * seen[:, :2] ** 2).sum()
        filled = np.concatenate([flat, scale * seen[:, 2:]], 1)
        left, _, right = np.linalg.svd(filled.T @ weighted)
        left[:, 2] *= np.linalg.det(left) * np.linalg.det(right)
        rotation = left @ right
    return rotation


@cache
def shipped_face() -> MeanFace:
    """Load the mean face of ``data/pose68.toml``, mirror-symmetric."""
    table = tomllib.loads(SHAPE_FILE.read_text(encoding="utf-8"))
    return MeanFace(np.array(table["points"], np.float64), np.array(table["weights"], np.float64))


def format_mean_face(face: MeanFace, heading: Iterable[str]) -> str:
    """Format the face as TOML under ``heading`` (comment lines), rounded to four decimals."""
    points = [f"  [{x:.4f}, {y:.4f}, {z:.4f}]," for x, y, z in np.round(face.points, 4) + 0.0]
    weights = ", ".join(f"{weight:.1f}" for weight in face.weights)
    lines = [*(f"# {line}" for line in heading), "", f"weights = [{weights}]", "points = [", *points, "]"]
    return "\n".join(lines) + "\n"
