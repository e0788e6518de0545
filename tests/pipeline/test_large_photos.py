"""Photos of unusual size, by the real detector: faces are found in source pixels, and no size ends the process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data.types import Reason
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.pipeline.detectors import LandmarkDetector, create_detector
from aupipe.pipeline.landmarks import passes
from aupipe.pipeline.landmarks.faces import find_face, find_faces


@pytest.fixture(scope="module")
def detector(model: Path) -> Iterator[LandmarkDetector]:
    made = create_detector("mediapipe", model)
    yield made
    made.close()


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return next(portrait_faces("happiness", 1, seed=3, size=240)).image


def points_of(image: np.ndarray, detector: LandmarkDetector) -> np.ndarray:
    found = find_face(image, detector)
    assert found.face is not None, found.reason
    return found.face.points


@pytest.mark.parametrize("at", [0, 4000, 4100, 9760])
@pytest.mark.parametrize("upright", [True, False])
def test_a_face_in_a_strip_is_found_where_it_is(
    detector: LandmarkDetector, face: np.ndarray, at: int, upright: bool
) -> None:
    strip = np.full((10_000, 240, 3) if upright else (240, 10_000, 3), 90, np.uint8)
    y, x = (at, 0) if upright else (0, at)
    strip[y : y + 240, x : x + 240] = face
    gaps = np.linalg.norm(points_of(strip, detector) - points_of(face, detector) - [x, y], axis=1)
    assert gaps.mean() < 6


def test_a_strip_s_faces_are_each_found_once(detector: LandmarkDetector, face: np.ndarray) -> None:
    strip = np.full((6_000, 240, 3), 90, np.uint8)
    for y in (100, 2500, 5200):
        strip[y : y + 240] = face
    found = find_faces(strip, detector)
    assert sorted(round(one.face.points[:, 1].mean() / 100) for one in found if one.face) == [2, 26, 53]


def test_a_large_photo_is_looked_at_reduced(
    detector: LandmarkDetector, face: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = cv2.resize(face, (901, 900), interpolation=cv2.INTER_CUBIC)
    plain, looked = find_face(photo, detector), list[int]()
    detect = detector.detect
    monkeypatch.setattr(passes, "MAX_PIXELS", 300 * 300)
    monkeypatch.setattr(
        detector, "detect", lambda image, *rest: looked.append(image.shape[0] * image.shape[1]) or detect(image, *rest)
    )
    reduced = find_face(photo, detector)
    assert max(looked) <= 300 * 300
    assert plain.face is not None and reduced.face is not None
    assert np.linalg.norm(plain.face.points - reduced.face.points, axis=1).mean() < 6
    assert plain.face.mesh is not None and reduced.face.mesh is not None
    assert np.abs(plain.face.mesh - reduced.face.mesh).mean() < 9


@pytest.mark.parametrize("shape", [(32_766, 30), (1, 1)])
def test_no_strip_ends_the_process(detector: LandmarkDetector, shape: tuple[int, int]) -> None:
    assert find_face(np.zeros((*shape, 3), np.uint8), detector).reason is Reason.NO_FACE
