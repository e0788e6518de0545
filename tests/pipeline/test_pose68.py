from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.geometry import flip_points
from aupipe.pipeline.detectors.mediapipe import MediaPipeDetector
from aupipe.pipeline.detectors.mesh68_correction import apply_correction, mirrored, shipped_correction
from aupipe.pipeline.detectors.pose68 import (
    SHAPE_FILE,
    format_mean_face,
    pose_from_points,
    rotation_of,
    shipped_face,
    turn_pose,
)
from fit_mesh68 import look_at_all


def seen(pose: tuple[float, float, float], noise: float = 0.0) -> np.ndarray:
    """The mean face turned, seen by a scaled orthographic camera; ``noise`` in units of the face's size (about 1)."""
    flat = shipped_face().points @ rotation_of(np.array(pose, float))[:2].T
    return 80 * (flat + np.random.default_rng(0).normal(0, noise, flat.shape)) + (320, 240)


@pytest.mark.parametrize("yaw", [-45, -15, 0, 30, 45])
@pytest.mark.parametrize("pitch", [-25, 0, 25])
@pytest.mark.parametrize("roll", [-60, 0, 20, 60])
def test_pose_of_a_turned_face_is_recovered(yaw: float, pitch: float, roll: float) -> None:
    np.testing.assert_allclose(pose_from_points(seen((yaw, pitch, roll), noise=0.01)), (yaw, pitch, roll), atol=2)


def test_signs() -> None:
    """Told without rotation matrices: the nose tip is nearest to the camera and leads the way."""
    points = shipped_face().points
    nose, eyes = points[30], points[36:48].mean(0)
    assert nose[2] < eyes[2] < points[[0, 16], 2].mean()
    assert points[8, 1] > points[27, 1]
    right, down = points[:, :2].copy(), points[:, :2].copy()
    right[:, 0] -= 0.3 * points[:, 2]
    down[:, 1] -= 0.3 * points[:, 2]
    yaw, pitch, roll = pose_from_points(right)
    assert 10 < yaw < 25 and abs(pitch) < 1 and abs(roll) < 1
    yaw, pitch, roll = pose_from_points(down)
    assert 10 < pitch < 25 and abs(yaw) < 1 and abs(roll) < 1
    # Clockwise on screen: the right eye sinks.
    turn = np.array([[np.cos(0.5), np.sin(0.5)], [-np.sin(0.5), np.cos(0.5)]])
    np.testing.assert_allclose(pose_from_points(points[:, :2] @ turn), (0, 0, np.degrees(0.5)), atol=0.1)


def test_place_and_size_do_not_matter() -> None:
    points = seen((20, 10, -30), noise=0.03)
    np.testing.assert_allclose(pose_from_points(points * 0.01 - 9), pose_from_points(points), atol=1e-3)


def test_mirrored_face_has_the_mirrored_pose() -> None:
    points = seen((20, 10, -30), noise=0.03)
    mirror_pose = pose_from_points(flip_points(points, 640))
    np.testing.assert_allclose(mirror_pose, pose_from_points(points) * (-1, 1, -1), atol=1e-3)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_photo_s_face_has_the_turned_pose(degrees: float) -> None:
    """Its normal turns with the photo: who looked to image right looks down, left or up, and leans that much more."""
    points = seen((20, 10, -30))
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pose = turn_pose(np.array([20.0, 10, -30]), degrees)
    np.testing.assert_allclose(pose, pose_from_points(points @ turn.T), atol=0.1)
    yaw, pitch, _ = turn_pose(np.array([20.0, 0, 0]), degrees)
    np.testing.assert_allclose((yaw, pitch), {90: (0, 20), 180: (-20, 0), -90: (0, -20)}[int(degrees)], atol=1e-3)


def test_average_face_looks_ahead() -> None:
    yaw, pitch, roll = pose_from_points(mean_face(100.0))
    assert abs(yaw) < 0.01 and abs(roll) < 0.01 and abs(pitch) < 6


def test_degenerate_points() -> None:
    np.testing.assert_array_equal(pose_from_points(np.full((68, 2), 3.0)), np.zeros(3))
    broken = mean_face(100.0)
    broken[0, 0] = np.inf
    np.testing.assert_array_equal(pose_from_points(broken), np.zeros(3))
    line = np.stack([np.arange(68.0), np.arange(68.0)], 1)
    assert np.isfinite(pose_from_points(line)).all()


def test_mean_face_is_symmetric_and_is_what_its_own_formatter_writes() -> None:
    face = shipped_face()
    assert face.points.shape == (68, 3) and face.weights.shape == (68,)
    np.testing.assert_array_equal(mirrored(face.points[:, :2]), face.points[:, :2])
    text = SHAPE_FILE.read_text(encoding="utf-8")
    heading = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#")]
    assert format_mean_face(face, heading) == text


@pytest.mark.shared
def test_agrees_with_mediapipe(shared: Path, model: Path) -> None:
    detector = MediaPipeDetector()
    samples = look_at_all(shared / "landmarks68", detector)
    detector.close()
    found = [pose_from_points(apply_correction(s.plain, shipped_correction())) for s in samples]
    gap = np.array(found) - np.array([s.pose for s in samples])
    assert (np.abs(gap).mean(0) < (1.5, 3.2, 0.9)).all()
    assert (np.abs(gap.mean(0)) < (0.6, 1.0, 0.4)).all()
