"""Which face is meant, and what keeps the others out: with a detector that sees what it is told to see."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.geometry import flip_points
from aupipe.fer_data.types import Box, Reason
from aupipe.pipeline.detectors import Attempt, Face, LandmarkDetector
from aupipe.pipeline.detectors.mediapipe import MediaPipeDetector
from aupipe.pipeline.landmarks.faces import MIN_FACE_SIZE, POLICIES, detection_config, find_face, find_faces
from aupipe.pipeline.landmarks.tasks import LandmarkConfig
from protocols import assert_fulfils


@dataclass
class Scene:
    """A detector for a photo whose faces are known; it sees those whose middle is in the picture it is given.

    Every picture it is given is a crop of one photo, whose pixels hold their own place.
    """

    faces: list[np.ndarray]
    ladder: tuple[Attempt, ...] = (Attempt(0.0, 0.5),)
    reach: float = 0.0
    uses_known: bool = False
    packages: tuple[str, ...] = ()
    seen: list[tuple[int, int, int, int]] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        return {"detector": "scene"}

    def detect(self, image: np.ndarray, confidence: float, known: np.ndarray | None = None) -> list[Face]:
        x, y = int(image[0, 0, 0]) * 2 + int(image[0, 0, 2]), int(image[0, 0, 1])
        height, width = image.shape[:2]
        self.seen.append((x, y, x + width, y + height))
        found = []
        for number, points in enumerate(self.faces):
            middle = (points.min(0) + points.max(0)) / 2
            if x <= middle[0] < x + width and y <= middle[1] < y + height:
                mesh = np.full((478, 3), number, np.float32)
                found.append(Face(points - (x, y), np.zeros(3, np.float32), 0.5, mesh, np.zeros(52, np.float32)))
        return found

    def complete(self, image: np.ndarray, face: Face) -> Face:
        return replace(face, score=float(image.shape[1]))

    def close(self) -> None: ...


def photo() -> np.ndarray:
    """Each pixel tells its place: half its x, its y, and whether x is odd."""
    image = np.zeros((200, 400, 3), np.uint8)
    image[..., 0], image[..., 2] = np.arange(400) // 2, np.arange(400) % 2
    image[..., 1] = np.arange(200)[:, None]
    return image


def face(x: float, y: float, size: float) -> np.ndarray:
    """An upright face of that size (root of its box) with its middle at (x, y)."""
    points = mean_face(100)
    points -= (points.min(0) + points.max(0)) / 2
    return points * size / np.sqrt(np.prod(np.ptp(points, 0))) + (x, y)


SMALL, LARGE, MIDDLE = face(60, 100, 40), face(330, 100, 90), face(205, 95, 50)


def chosen(policy: str, *faces: np.ndarray, box: Box | None = None) -> tuple[Reason, int | None]:
    found = find_face(photo(), Scene(list(faces)), policy, box)
    if found.face is None:
        return found.reason, None
    number = next(i for i, points in enumerate(faces) if np.allclose(points, found.face.points))
    assert found.face.mesh is not None
    return found.reason, number


def test_the_scene_is_a_detector() -> None:
    assert_fulfils(Scene([]), LandmarkDetector)


@pytest.mark.parametrize(("policy", "number"), [("largest", 1), ("central", 2), ("box", 1), ("auto", 2)])
def test_a_policy_chooses(policy: str, number: int) -> None:
    assert chosen(policy, SMALL, LARGE, MIDDLE) == (Reason.OK, number)


def test_unless_told_otherwise_size_is_weighed_against_distance_from_the_middle() -> None:
    assert LandmarkConfig().faces == "auto"
    person, neighbour, passer_by = face(200, 100, 80), face(345, 100, 90), face(200, 30, 20)
    assert chosen("auto", neighbour, person, passer_by) == (Reason.OK, 1)
    assert chosen("auto", person, neighbour, box=Box(300, 55, 390, 145)) == (Reason.OK, 1)


def test_a_late_attempt_believes_no_face_with_a_low_score() -> None:
    """The scene's score is the photo's width, 400."""
    for least, reason in ((399.0, Reason.OK), (401.0, Reason.IMPLAUSIBLE_FACE)):
        scene = Scene([LARGE], ladder=(Attempt(0.0, 0.5, min_score=least),))
        found = find_face(photo(), scene)
        assert (found.reason, found.face is None) == (reason, reason is not Reason.OK)
    assert [attempt.min_score for attempt in MediaPipeDetector.ladder] == [*[0] * 4, *[0.45] * 4, *[0.6] * 3]


def test_several_faces_are_an_error_only_when_asked() -> None:
    found = find_face(photo(), Scene([SMALL, LARGE]), "error")
    assert (found.reason, found.face, found.faces_seen) == (Reason.SEVERAL_FACES, None, 2)
    assert chosen("error", SMALL) == (Reason.OK, 0)


def test_a_face_too_small_to_use_does_not_count_as_another() -> None:
    assert chosen("error", LARGE, face(60, 100, MIN_FACE_SIZE * 0.9)) == (Reason.OK, 0)
    assert chosen("largest", face(60, 100, MIN_FACE_SIZE * 0.9)) == (Reason.FACE_TOO_SMALL, None)


def test_a_box_is_searched_alone_and_points_come_back_to_the_photo() -> None:
    scene = Scene([SMALL, LARGE, MIDDLE])
    found = find_face(photo(), scene, "box", Box(40, 80, 80, 120))
    assert found.reason is Reason.OK and found.face is not None and found.face.mesh is not None
    np.testing.assert_allclose(found.face.points, SMALL)
    x0, y0, x1, y1 = scene.seen[0]
    assert x0 <= 40 and y0 <= 80 and x1 >= 80 and y1 >= 120 and x1 - x0 < 100
    assert found.face.score == 400  # completed on the whole photo
    np.testing.assert_allclose(found.face.mesh[0], (x0, y0, 0))  # the mesh moves with the points, its depth does not


@pytest.mark.parametrize("policy", ["largest", "central"])
def test_other_policies_ignore_the_box(policy: str) -> None:
    assert chosen(policy, SMALL, LARGE, MIDDLE, box=Box(40, 80, 80, 120)) == chosen(policy, SMALL, LARGE, MIDDLE)


def test_of_two_faces_by_a_box_the_one_that_fills_it_is_meant() -> None:
    near = face(75, 100, 24)  # its middle lies in the box too
    assert chosen("box", near, SMALL, box=Box(35, 75, 85, 125)) == (Reason.OK, 1)


def test_a_face_beside_the_box_is_not_meant() -> None:
    assert chosen("box", SMALL, box=Box(84, 80, 124, 120)) == (Reason.NO_FACE, None)


@pytest.mark.parametrize("box", [Box(500, 10, 540, 50), Box(-90, -90, -50, -50)])
def test_a_box_outside_the_photo_is_said(box: Box) -> None:
    assert chosen("box", SMALL, box=box) == (Reason.LANDMARKS_OUTSIDE, None)


def test_a_box_over_the_edge_is_cut_off() -> None:
    assert chosen("box", SMALL, box=Box(-20, 70, 100, 260)) == (Reason.OK, 0)


@pytest.mark.parametrize("turn", [90, 180])
def test_points_that_are_no_face_are_refused(turn: float) -> None:
    """Eyes below the mouth in the face's own axes cannot be; a face on its side can."""
    upside_down = LARGE.copy()
    upside_down[:, 1] = 200 - upside_down[:, 1]
    assert chosen("largest", upside_down) == (Reason.IMPLAUSIBLE_FACE, None)
    angle = np.radians(turn)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = (LARGE - LARGE.mean(0)) @ matrix.T + (200, 100)
    assert chosen("largest", turned) == (Reason.OK, 0)


@pytest.mark.parametrize("points", [LARGE * 0 + 50, LARGE * (1, 0.05), LARGE + np.array([0, 190]), LARGE * np.nan])
def test_points_out_of_proportion_or_out_of_the_photo_are_refused(points: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        found = find_face(photo(), Stubborn(points), "largest")
    assert found.reason is Reason.IMPLAUSIBLE_FACE


class Stubborn(Scene):
    """Sees its one face in every picture."""

    def __init__(self, points: np.ndarray) -> None:
        super().__init__([points])

    def detect(self, image: np.ndarray, confidence: float, known: np.ndarray | None = None) -> list[Face]:
        return [Face(self.faces[0], np.zeros(3, np.float32), 0.5)]


def test_a_second_look_that_disagrees_is_not_believed() -> None:
    believing, doubting = (Attempt(0.0, 0.1),), (Attempt(0.0, 0.1, twice=True),)
    off_centre = face(100, 100, 90)  # its mirror image would be at x = 299
    for ladder, reason in ((believing, Reason.OK), (doubting, Reason.IMPLAUSIBLE_FACE)):
        detector = Stubborn(off_centre)
        detector.ladder = ladder
        assert find_face(photo(), detector, "largest").reason is reason


def test_every_policy_is_part_of_the_plan() -> None:
    scene = Scene([])
    configs = [str(detection_config(scene, policy)) for policy in POLICIES]
    assert len(set(configs)) == len(POLICIES)
    scene.ladder = (Attempt(0.25, 0.5),)
    assert str(detection_config(scene, "box")) not in configs


class ShortSighted(Scene):
    """Sees a face only from a fifth of the picture's longer side on; below a quarter it puts the points too low."""

    def detect(self, image: np.ndarray, confidence: float, known: np.ndarray | None = None) -> list[Face]:
        seen = []
        for found in super().detect(image, confidence):
            share = np.sqrt(np.prod(np.ptp(found.points, 0))) / max(image.shape[:2])
            low = np.array([0, 0.3 * np.ptp(found.points[:, 1])]) if share < 0.25 else np.zeros(2)
            if share > 0.2:
                seen.append(replace(found, points=found.points + low))
        return seen


def test_a_small_face_is_looked_at_again_from_close_by() -> None:
    detector = ShortSighted([MIDDLE + (MIDDLE - MIDDLE.mean(0)) * 0.8], reach=0.25)  # 90 pixels of 400
    found = find_face(photo(), detector, "largest")
    assert found.face is not None
    np.testing.assert_allclose(found.face.points, detector.faces[0])
    detector.reach = 0.0
    careless = find_face(photo(), detector, "largest")
    assert careless.face is not None and not np.allclose(careless.face.points, detector.faces[0])


def test_faces_too_small_for_one_look_are_found_in_tiles() -> None:
    ladder = (Attempt(0.0, 0.5), Attempt(0.0, 0.5, tiles=True))
    detector = ShortSighted([SMALL + (SMALL - SMALL.mean(0)) * 0.5], ladder=ladder, reach=0.25)  # 60 pixels
    found = find_face(photo(), detector, "largest")
    assert found.reason is Reason.OK and found.face is not None and found.attempt == 1
    np.testing.assert_allclose(found.face.points, detector.faces[0])


def test_the_largest_of_small_faces_is_not_overlooked() -> None:
    """A first look that finds only small ones is completed in tiles: the largest may be among the missed."""
    larger, smaller = MIDDLE + (MIDDLE - MIDDLE.mean(0)) * 0.5, SMALL + (SMALL - SMALL.mean(0)) * 0.5

    class Distracted(ShortSighted):
        def detect(self, image: np.ndarray, confidence: float, known: np.ndarray | None = None) -> list[Face]:
            whole = image.shape == (200, 400, 3)
            return [Face(smaller, np.zeros(3, np.float32), 0.5)] if whole else super().detect(image, confidence)

    found = find_face(photo(), Distracted([smaller, larger], reach=0.25), "largest")
    assert found.face is not None and found.faces_seen == 2
    np.testing.assert_allclose(found.face.points, larger)


def test_what_is_not_seen_again_from_close_by_is_not_believed() -> None:
    class Mirage(Scene):
        def detect(self, image: np.ndarray, confidence: float, known: np.ndarray | None = None) -> list[Face]:
            return super().detect(image, confidence) if image.shape == (200, 400, 3) else []

    assert find_face(photo(), Mirage([SMALL], reach=0.25), "largest").reason is Reason.IMPLAUSIBLE_FACE


class Leaning(Scene):
    """Sees its face in the photo, in its mirror image and in crops of both, always a little too far to the right."""

    LEAN = np.array([2.0, 0.0])

    def detect(self, image: np.ndarray, confidence: float, known: np.ndarray | None = None) -> list[Face]:
        if image[0, 0, 0] < image[0, -1, 0]:
            found = super().detect(image, confidence)
        else:
            upright = super().detect(np.ascontiguousarray(image[:, ::-1]), confidence)
            found = [replace(one, points=flip_points(one.points, image.shape[1])) for one in upright]
        return [replace(one, points=one.points + self.LEAN) for one in found]


@pytest.mark.parametrize("reach", [0.0, 0.5], ids=["whole photo", "from close by"])
def test_the_mean_with_the_mirror_image_takes_the_lean_out(reach: float) -> None:
    detector = Leaning([face(150, 90, 80)], reach=reach)
    plain = find_face(photo(), detector, "largest").face
    even = find_face(photo(), detector, "largest", mirror=True).face
    assert plain is not None and even is not None
    np.testing.assert_allclose(plain.points, detector.faces[0] + Leaning.LEAN)
    np.testing.assert_allclose(even.points, detector.faces[0])


def test_a_mirror_image_that_disagrees_changes_nothing() -> None:
    detector = Stubborn(face(100, 100, 90))
    found = find_face(photo(), detector, "largest", mirror=True).face
    assert found is not None
    np.testing.assert_array_equal(found.points, detector.faces[0])


class Upended(Scene):
    """Its face is upright after ``turns`` quarter turns of the photo, and scores ``right`` there, ``wrong`` elsewhere.

    Whichever way the face stands, the mesh is put on it upright; without ``wrong`` only where it is right.
    """

    def __init__(self, turns: int, wrong: float | None, right: float = 0.8) -> None:
        ladder = (Attempt(0.0, 0.5), *(Attempt(0.0, 0.5, turns=n, below=0.7, min_score=0.6) for n in (2, 1, 3)))
        super().__init__([LARGE], ladder)
        self.turns, self.wrong, self.right = turns, wrong, right

    @staticmethod
    def turned(image: np.ndarray) -> int:
        """By how many quarter turns the photo, whose pixels hold their place, was turned."""
        tries = [np.rot90(image, turns).astype(int) for turns in range(4)]
        return next(n for n, one in enumerate(tries) if one[0, -1, 0] > one[0, 0, 0] and one[-1, 0, 1] > one[0, 0, 1])

    def detect(self, image: np.ndarray, confidence: float, known: np.ndarray | None = None) -> list[Face]:
        turns = self.turned(image)
        found = super().detect(np.ascontiguousarray(np.rot90(image, turns)), confidence)
        if turns % 2 or (turns != self.turns and self.wrong is None):
            return []
        corner = np.array(image.shape[1::-1]) - 1
        move = [corner - one.points.max(0) - one.points.min(0) if turns else np.zeros(2) for one in found]
        return [replace(one, points=one.points + by) for one, by in zip(found, move, strict=True)]

    def complete(self, image: np.ndarray, face: Face) -> Face:
        return replace(face, score=self.right if self.turned(image) == self.turns else self.wrong or 0.0)


@pytest.mark.parametrize("wrong", [None, 0.5], ids=["not seen", "seen wrong"])
def test_a_face_that_stands_on_its_head_is_found_in_the_turned_photo(wrong: float | None) -> None:
    detector, expected = Upended(2, wrong), LARGE.max(0) + LARGE.min(0) - LARGE
    found = find_face(photo(), detector, "largest")
    assert found.face is not None and (found.attempt, found.face.score) == (1, 0.8)
    np.testing.assert_allclose(found.face.points, expected)
    np.testing.assert_allclose(np.abs(found.face.pose), (0, 0, 180), atol=1e-4)
    (first,) = find_faces(photo(), detector)
    boxed = find_face(photo(), detector, "box", Box(285, 55, 375, 145))
    assert first.face is not None and boxed.face is not None
    np.testing.assert_array_equal(first.face.points, found.face.points)
    np.testing.assert_allclose(boxed.face.points, expected)


@pytest.mark.parametrize(("turns", "wrong", "right"), [(2, 0.75, 0.9), (0, 0.4, 0.5), (2, 0.65, 0.65)])
def test_an_upright_face_is_not_looked_at_again(turns: int, wrong: float, right: float) -> None:
    """Its score is high enough, or no higher in the turned photo."""
    detector = Upended(turns, wrong, right)
    found = find_face(photo(), detector, "largest")
    assert found.face is not None and found.attempt == 0 and len(detector.seen) == 1
    np.testing.assert_array_equal(found.face.points, LARGE)


def test_a_face_that_leans_less_in_the_photo_itself_is_not_taken_from_the_turned_one() -> None:
    angle = np.radians(60)
    lean = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    detector, middle = Upended(2, 0.5), (LARGE.max(0) + LARGE.min(0)) / 2
    detector.faces = [(LARGE - middle) @ lean.T + middle]
    found = find_face(photo(), detector, "largest")
    assert found.face is not None and found.attempt == 0


def test_where_nothing_was_seen_a_turned_face_needs_a_good_score() -> None:
    """A profile is taken for a face on its head now and then."""
    assert find_face(photo(), Upended(2, None, right=0.65), "largest").reason is Reason.NO_FACE
    instead = find_face(photo(), Upended(2, 0.5, right=0.65), "largest")
    assert instead.face is not None and instead.attempt == 1
    neither = find_face(photo(), Upended(2, 0.3, right=0.55), "largest")
    assert neither.face is not None and neither.attempt == 0


def test_looking_twice_is_part_of_the_plan() -> None:
    assert detection_config(Scene([]), "box", mirror=True) != detection_config(Scene([]), "box")
