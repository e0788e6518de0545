from __future__ import annotations

import cv2
import numpy as np
import pytest

from aupipe.fer_data import geometry
from aupipe.pipeline.maps.crops import MANY_PIXELS, CropGeometry, crop_matrix, place_face, warp_crop


@pytest.mark.parametrize("seed", range(20))
def test_the_crop_is_the_plain_warp_whatever_the_photos_size(seed: int) -> None:
    """Small photos take a faster way, which must not change a byte of the store."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(20, 80))
    pixels = MANY_PIXELS * size * size
    width = int(rng.integers(30, 200))
    height = pixels // width + (1 if seed % 2 else -1)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    middle = np.array([width, height]) * rng.uniform(0.2, 0.8, 2)
    target = np.full(2, size / 2)
    matrix = geometry.similarity(rng.uniform(-3, 3), rng.uniform(0.5, 3), middle, target)
    plain = cv2.warpAffine(photo, matrix, (size, size), flags=cv2.INTER_LINEAR)
    assert plain.any() and np.array_equal(warp_crop(photo, matrix, size), plain)


def test_a_large_photo_lands_where_the_matrix_says() -> None:
    y, x = np.mgrid[:1200, :1000]
    blob = np.exp(-((x - 700.0) ** 2 + (y - 500.0) ** 2) / (2 * 40**2))
    photo = np.repeat((255 * blob).astype(np.uint8)[..., None], 3, 2)
    matrix = geometry.similarity(0.3, 0.1, np.array([650.0, 480.0]), np.array([31.5, 31.5]))
    crop = warp_crop(photo, matrix, 64)[..., 0].astype(np.float64)
    rows, columns = np.mgrid[:64, :64]
    seen = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    np.testing.assert_allclose(seen, matrix @ [700, 500, 1], atol=0.05)


def test_fine_stripes_become_grey_and_do_not_alias() -> None:
    photo = np.zeros((800, 800, 3), np.uint8)
    photo[:, ::2] = 255
    crop = warp_crop(photo, geometry.similarity(0.0, 0.08, np.full(2, 399.5), np.full(2, 31.5)), 64)
    assert abs(crop[4:-4, 4:-4].astype(int) - 127).max() < 20


def face(eyes: float) -> np.ndarray:
    """Points of a face whose eyes are so far apart, with the mouth 100 pixels below."""
    points = np.tile([500.0, 550.0], (68, 1))
    points[geometry.LEFT_EYE], points[geometry.RIGHT_EYE] = (500 - eyes / 2, 500), (500 + eyes / 2, 500)
    points[geometry.OUTER_MOUTH] = 500, 600
    return points


def test_a_turned_face_is_not_enlarged_by_its_near_eyes() -> None:
    crop = CropGeometry()
    scale = [float(np.hypot(*crop_matrix(face(eyes), 256, crop)[:, 0])) for eyes in (150.0, 10.0, 5.0)]
    assert scale[0] == pytest.approx(crop.eye_distance * 256 / 150)
    assert scale[1] == scale[2] == pytest.approx(crop.eye_distance * 256 / (100 * crop.min_eyes_to_mouth))


def test_a_crop_that_holds_few_points_is_not_usable() -> None:
    points = face(100.0)
    assert place_face(points, 256, CropGeometry()).usable
    points[:48][points[:48, 1] == 550] += 5000  # most of the face far outside
    assert not place_face(points, 256, CropGeometry()).usable
