"""Maps land on the photo where the network saw them, whatever the face's place, size and lean."""

from __future__ import annotations

import numpy as np
import pytest

from aupipe.fer_analysis.explain import OpenRun, view
from aupipe.fer_data import geometry
from aupipe.fer_data.images import read_image
from aupipe.fer_data.preparation import AlignedFace
from aupipe.pipeline.maps.crops import CropGeometry, place_face, warp_crop
from aupipe.pipeline.photos import PhotoPreparer
from explain_runs import Trained

MOUTH = slice(48, 60)


def blob(centre: np.ndarray, size: int, sigma: float = 2.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))


def middle_of(values: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    return np.array([(x * values).sum(), (y * values).sum()]) / values.sum()


@pytest.mark.parametrize("angle", [0, 25, -70, 180])
@pytest.mark.parametrize("scale", [0.6, 1.0, 3.1])
def test_a_blob_at_the_mouth_of_the_crop_lands_at_the_mouth_of_the_photo(angle: float, scale: float) -> None:
    """Pure geometry: landmarks of a leaning, scaled face give the crop; its mouth is planted and looked up again."""
    from aupipe.fer_data.au_maps.mean_face import mean_face

    lean = geometry.similarity(np.deg2rad(angle), scale, np.full(2, 64.0), np.array([300.0, 200.0]))
    points = geometry.apply_affine(lean, mean_face(128))
    placed = place_face(points, 64, CropGeometry())
    to_photo = view.window_to_photo(geometry.invert_affine(placed.matrix), np.full(2, 31.5), 56)
    photo = np.zeros((400, 600, 3), np.uint8)
    seen = view.face_view(photo, view.window_corners(to_photo, 56))
    in_window = placed.landmarks[MOUTH].mean(0) - 4
    warped = view.warp_map(blob(in_window, 56), view.compose(seen.from_photo, to_photo), 56, seen.image.shape[:2])
    expected = geometry.apply_affine(seen.from_photo, points[MOUTH].mean(0))
    assert np.linalg.norm(middle_of(warped) - expected) < 0.01 * view.SIDE
    y, x = np.unravel_index(warped.argmax(), warped.shape)
    assert np.linalg.norm(expected - (x, y)) < 0.02 * view.SIDE


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_the_same_with_a_detected_face(
    trained: Trained, opened: OpenRun, preparer: PhotoPreparer, angle: float
) -> None:
    portrait = read_image(trained.built.dataset.root / "test" / "surprise" / "surprise0.png")
    turn = geometry.similarity(np.deg2rad(angle), 2.0, np.full(2, 63.5), np.array([210.0, 190.0]))
    photo = warp_crop(portrait, turn, 400)
    (face,) = preparer(photo, None, None)
    assert isinstance(face, AlignedFace)
    mouth = face.landmarks[MOUTH].mean(0) - 4  # a crop of 56 within 64 pixels begins at 4
    assert np.hypot(*(face.points[MOUTH].mean(0) - geometry.apply_affine(face.to_source, mouth + 4))) < 0.1
    to_photo = view.window_to_photo(face.to_source, opened.placement().centre[0], 56)
    seen = view.face_view(photo, view.window_corners(to_photo, 56))
    warped = view.warp_map(blob(mouth, 56), view.compose(seen.from_photo, to_photo), 56, seen.image.shape[:2])
    back = geometry.apply_affine(geometry.invert_affine(seen.from_photo), middle_of(warped))
    assert np.hypot(*(back - face.points[MOUTH].mean(0))) < 2


def test_a_view_shows_the_very_pixels_of_the_photo() -> None:
    photo = np.zeros((60, 90, 3), np.uint8)
    photo[20:24, 50:54] = 255
    seen = view.face_view(photo, np.array([[40.0, 10], [70, 10], [70, 40], [40, 40]]), 120)
    bright = middle_of(seen.image[..., 0].astype(float))
    assert geometry.apply_affine(seen.from_photo, np.array([51.5, 21.5])) == pytest.approx(bright, abs=0.05)
    assert max(seen.image.shape[:2]) == 120


def test_outside_of_the_window_there_is_nothing() -> None:
    warped = view.warp_map(np.ones((4, 4)), np.array([[0.5, 0, 10], [0, 0.5, 10]]), 40, (60, 60))
    assert warped[12:28, 12:28] == pytest.approx(1)
    assert not warped[:9].any() and not warped[32:].any()


def test_an_outline_is_closed_and_shows_on_black_and_white() -> None:
    corners = np.array([[5.0, 5], [25, 5], [25, 25], [5, 25]])
    for shade in (0, 255):
        drawn = view.draw_outline(np.full((32, 32, 3), shade, np.uint8), corners)
        changed = np.abs(drawn.astype(int) - shade).max(-1) > 100
        assert all(changed[y - 2 : y + 3, x - 2 : x + 3].any() for x, y in ((15, 5), (25, 15), (15, 25), (5, 15)))
        assert not changed[10:20, 10:20].any()
