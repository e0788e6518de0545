"""On real faces, where the development data is present."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.geometry import flip_points, inter_ocular
from aupipe.fer_data.images import read_image
from aupipe.fer_data.manifest import build_manifest, read_manifest
from aupipe.fer_data.types import Box, Reason, Silent
from aupipe.pipeline.detectors.mediapipe import MediaPipeDetector
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.faces import find_face
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig

pytestmark = pytest.mark.shared


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "folder", "limit"), [("legend", "legend_mini", 0.01), ("folder", "fer2013_mini", 0.02)]
)
def test_faces_are_found(shared: Path, model: Path, tmp_path: Path, layout: str, folder: str, limit: float) -> None:
    built = build_manifest(layout, shared / "faces" / folder, tmp_path / "m.csv")
    manifest = read_manifest(tmp_path / "m.csv")
    assert len(manifest.samples) == built.samples
    some = replace(manifest, samples=manifest.samples[:: 3 if built.samples > 1_000 else 1])
    report = run_landmarks(some, tmp_path / "work", LandmarkConfig(), SerialExecutor(), Silent())
    assert report.ok + sum(report.failed.values()) == report.total == len(some.samples)
    assert report.failed.get("no_face", 0) <= limit * report.total
    assert report.failed_share <= 0.035


def test_points_agree_with_corrected_ones(shared: Path, model: Path) -> None:
    """NME over the outer-eye distance, on faces the mapping was fitted on; test_mesh68 has the held-out figures."""
    with (shared / "landmarks68" / "points.csv").open() as file:
        rows = list(csv.DictReader(file))[::3]
    detector, errors = MediaPipeDetector(), []
    for row in rows:
        truth = np.array([[float(row[f"x{i}"]), float(row[f"y{i}"])] for i in range(68)])
        found = find_face(read_image(shared / "landmarks68" / "images" / row["image"]), detector)
        assert found.face is not None
        errors.append(np.linalg.norm(found.face.points - truth, axis=1) / inter_ocular(truth))
    detector.close()
    mean = np.mean(errors, 0)
    assert mean.mean() < 0.036
    assert mean[17:].mean() < 0.027


def test_mirror_image_gives_mirrored_points(shared: Path, model: Path) -> None:
    detector, gaps = MediaPipeDetector(), []
    for path in sorted((shared / "landmarks68" / "images").iterdir())[::12]:
        image = read_image(path)
        one = find_face(image, detector).face
        two = find_face(np.ascontiguousarray(image[:, ::-1]), detector).face
        assert one is not None and two is not None
        gap = np.linalg.norm(flip_points(two.points, image.shape[1]) - one.points, axis=1)
        gaps.append(gap.mean() / inter_ocular(one.points))
    detector.close()
    assert np.median(gaps) < 0.02


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("alpha.png", Reason.OK),
        ("webp_named.jpg", Reason.OK),
        ("0-f1-su-ph.jpg", Reason.OK),
        ("45-m7-di-ph.jpg", Reason.OK),
        ("free-mountain-vector-01.jpg", Reason.NO_FACE),
    ],
)
def test_odd_photos(shared: Path, model: Path, name: str, reason: Reason) -> None:
    detector = MediaPipeDetector()
    assert find_face(read_image(shared / "faces" / "odd" / name), detector).reason is reason
    detector.close()


def test_one_of_several_faces_is_taken_as_asked(shared: Path, model: Path) -> None:
    """Five small faces, of which a plain look finds two, one of them with its mesh down on the neck."""
    detector = MediaPipeDetector()
    image = read_image(shared / "faces" / "odd" / "multi_face.jpg")
    assert find_face(image, detector, "error").reason is Reason.SEVERAL_FACES
    middles = {"upper left": (262, 125), "front left": (362, 297), "centre": (477, 272), "front right": (585, 382)}
    for x, y in middles.values():
        boxed = find_face(image, detector, "box", Box(x - 60, y - 70, x + 60, y + 70))
        assert boxed.face is not None
        assert np.linalg.norm((boxed.face.points.min(0) + boxed.face.points.max(0)) / 2 - (x, y)) < 20
    largest = find_face(image, detector, "largest")
    assert largest.face is not None and largest.faces_seen == 5
    assert abs(largest.face.points[30] - (731, 360)).max() < 12  # the tip of her nose
    detector.close()
