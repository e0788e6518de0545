from __future__ import annotations

import cv2
import numpy as np
import pytest

from aupipe.fer_data import geometry
from aupipe.pipeline.maps.crops import MANY_PIXELS, warp_crop


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
