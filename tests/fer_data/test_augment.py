from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig, AugmentParameters, apply, crop_landmarks, sample_parameters
from aupipe.fer_data.loading.fetch import cut

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
GEOMETRY_ONLY = {"brightness": 0.0, "contrast": 0.0, "grey": 0.0}


def plain(count: int, size: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))
    return images, torch.from_numpy(rng.integers(0, 256, (count, size // 4, size // 4), dtype=np.uint8))


@pytest.mark.parametrize("crop", [64, 56, 40, 57])
def test_centre_crop_equals_slicing(crop: int) -> None:
    images, maps = plain(3)
    config = AugmentConfig(crop, enabled=False)
    parameters = sample_parameters(config, 0, 0, np.arange(3), 64)
    pictures, targets = apply(config, parameters, images, maps, MEAN, STD)
    start = (64 - crop) // 2
    expected = images[:, start : start + crop, start : start + crop].permute(0, 3, 1, 2) / 255
    expected = (expected - MEAN[:, None, None]) / STD[:, None, None]
    assert pictures.shape == (3, 3, crop, crop)
    assert torch.allclose(pictures, expected, atol=1e-5)
    assert targets.shape[1] == round(crop / 4)
    if crop % 8 == 0:
        inner = slice(start // 4, start // 4 + crop // 4)
        assert torch.allclose(targets, maps[:, inner, inner] / 255, atol=1e-6)


def test_the_affine_agrees_with_slicing_where_both_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    images, maps = plain(2)
    config = AugmentConfig(56, enabled=False)
    parameters = sample_parameters(config, 0, 0, np.arange(2), 64)
    sliced = apply(config, parameters, images, maps, MEAN, STD)
    monkeypatch.setattr(augment, "_integer_offset", lambda *_: None)
    sampled = apply(config, parameters, images, maps, MEAN, STD)
    # float32 grids place a pixel to about 1e-5 of a pixel, times the steepest step of normalised noise.
    for a, b in zip(sliced, sampled, strict=True):
        assert torch.allclose(a, b, atol=2e-4)


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(UserInputError, match=r"crop of 224.*--crop-size 56"):
        AugmentConfig(224).check(64)


def test_parameters_do_not_depend_on_batch_or_order() -> None:
    config = AugmentConfig(48)
    whole = sample_parameters(config, 7, 3, np.arange(40), 64)
    rows = np.array([33, 5, 12])
    few = sample_parameters(config, 7, 3, rows, 64)
    for name, values in vars(whole).items():
        assert np.array_equal(values[rows], getattr(few, name)), name
    other = sample_parameters(config, 7, 4, np.arange(40), 64)
    assert not np.array_equal(whole.angle, other.angle)
    assert not np.array_equal(whole.angle, sample_parameters(config, 8, 3, np.arange(40), 64).angle)


def test_parameters_have_the_configured_distribution() -> None:
    config = AugmentConfig(48, rotation_p=0.5, flip=0.3, scale=(0.8, 1.2), erasing=0.25)
    p = sample_parameters(config, 0, 0, np.arange(20_000), 64)
    assert p.flip.mean() == pytest.approx(0.3, abs=0.015)
    assert (p.angle == 0).mean() == pytest.approx(0.5, abs=0.015)
    assert np.abs(np.rad2deg(p.angle)).max() <= 6
    assert p.scale.mean() == pytest.approx(1.0, abs=0.01)
    area = (p.erase[:, 2] - p.erase[:, 0]) * (p.erase[:, 3] - p.erase[:, 1])
    assert (area > 0).mean() == pytest.approx(0.25, abs=0.015)
    assert area[area > 0].min() > 0.0199 and area.max() < 0.1501
    assert abs(np.corrcoef(p.flip, p.scale)[0, 1]) < 0.03
    # Windows stay inside the image where they fit.
    half = p.scale * 48 / 2
    assert (p.centre - half[:, None]).min() >= -0.5 - 1e-9
    assert (p.centre + half[:, None]).max() <= 63.5 + 1e-9


def blobs(points: np.ndarray, size: int) -> np.ndarray:
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1)
    return np.exp(-((grid[None] - points[:, None, None]) ** 2).sum(-1) / (2 * 9.0))


def centroid(values: np.ndarray) -> np.ndarray:
    values = np.clip(values - 0.02, 0, None)
    grid = np.stack(np.meshgrid(np.arange(values.shape[-1]), np.arange(values.shape[-2])), -1)
    return (values[..., None] * grid).sum((-2, -3)) / values.sum((-1, -2))[..., None]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([64, 96]))
def test_image_map_and_landmarks_move_together(seed: int, size: int) -> None:
    """A blob painted at a landmark into the image and into the map arrives at the moved landmark in both."""
    rng = np.random.default_rng(seed)
    count, crop = 8, size * 3 // 4
    config = AugmentConfig(crop, rotation=25, rotation_p=0.9, scale=(0.8, 1.1), erasing=0, **GEOMETRY_ONLY)
    spots = rng.uniform(size * 0.42, size * 0.58, (count, 2))
    image = (blobs(spots, size) * 255).round().astype(np.uint8)
    small = np.stack([cv2.resize(one, (size // 2, size // 2), interpolation=cv2.INTER_AREA) for one in image])
    landmarks = np.repeat(spots[:, None], 68, 1).astype(np.float32)
    parameters = sample_parameters(config, seed, 1, np.arange(count), size)
    pictures, targets = apply(
        config,
        parameters,
        torch.from_numpy(np.repeat(image[..., None], 3, -1)),
        torch.from_numpy(small),
        torch.zeros(3),
        torch.ones(3),
    )
    moved = crop_landmarks(landmarks, parameters, crop)
    assert targets.shape[1] == crop // 2
    # A blob that the crop's edge cuts has another centre of mass.
    inside = ((moved[:, 0] > 10) & (moved[:, 0] < crop - 11)).all(1)
    assert inside.sum() >= 2
    assert np.abs(centroid(pictures[:, 0].numpy()) - moved[:, 0])[inside].max() < 0.15
    in_map = (moved[:, 0] + 0.5) / 2 - 0.5
    assert np.abs(centroid(targets.numpy()) - in_map)[inside].max() < 0.15


def test_flip_renames_landmarks() -> None:
    one, off = np.ones(1), np.zeros(1, bool)
    parameters = AugmentParameters(np.full((1, 2), 31.5), np.zeros(1), one, ~off, one, one, off, np.zeros((1, 4)))
    points = np.random.default_rng(0).uniform(5, 58, (1, 68, 2)).astype(np.float32)
    flipped = crop_landmarks(points, parameters, 64)
    assert flipped[0, 36] == pytest.approx([63 - points[0, 45, 0], points[0, 45, 1]], abs=1e-4)
    assert flipped[0, 8] == pytest.approx([63 - points[0, 8, 0], points[0, 8, 1]], abs=1e-4)


def test_erasing_blanks_the_same_place_in_image_and_map() -> None:
    config = AugmentConfig(64, flip=0, rotation_p=0, scale=(1, 1), erasing=1, erasing_area=(0.2, 0.4), **GEOMETRY_ONLY)
    images = torch.full((6, 64, 64, 3), 255, dtype=torch.uint8)
    maps = torch.full((6, 64, 64), 255, dtype=torch.uint8)
    parameters = sample_parameters(config, 0, 0, np.arange(6), 64)
    pictures, targets = apply(config, parameters, images, maps, MEAN, STD)
    assert torch.equal(targets == 0, (pictures == 0).all(1))
    assert torch.equal(augment.valid_pixels(parameters, 64, torch.device("cpu")) == 0, targets == 0)
    share = (targets == 0).float().mean((1, 2))
    assert share.min() > 0.15 and share.max() < 0.45


def test_grey_and_jitter_stay_in_range() -> None:
    images, maps = plain(16)
    config = AugmentConfig(64, erasing=0, grey=1.0)
    parameters = sample_parameters(config, 0, 0, np.arange(16), 64)
    pictures, _ = apply(config, parameters, images, maps, torch.zeros(3), torch.ones(3))
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert torch.allclose(pictures[:, 0], pictures[:, 2], atol=1e-5)


def test_configurations_that_only_move_crop_whole_pixels() -> None:
    config = AugmentConfig(48, scale=(1, 1), rotation_p=0)
    parameters = sample_parameters(config, 0, 0, np.arange(5000), 64)
    cuts = augment.pixel_cuts(config, parameters, 64)
    assert cuts is not None
    assert set(cuts.x.tolist()) == set(cuts.y.tolist()) == set(range(17))
    assert np.array_equal(cuts.x + 23.5, parameters.centre[:, 0])
    assert np.bincount(cuts.x).std() < 40
    assert augment.pixel_cuts(AugmentConfig(48), parameters, 64) is None
    assert augment.pixel_cuts(AugmentConfig(64, enabled=False), parameters, 64) is not None


def test_cut_images_give_what_the_affine_gives() -> None:
    images, maps = plain(6)
    config = AugmentConfig(48, scale=(1, 1), rotation_p=0)
    parameters = sample_parameters(config, 0, 0, np.arange(6), 64)
    cuts = augment.pixel_cuts(config, parameters, 64)
    assert cuts is not None and 0 < parameters.flip.sum() < 6
    crops = np.empty((6, 48, 48, 3), np.uint8)
    for place, (x, y, flip) in enumerate(cuts.at(np.arange(6))):
        cut(images.numpy()[place, y : y + 48], x, flip, crops[place])
    expected = apply(config, parameters, images, maps, MEAN, STD)
    found = apply(config, parameters, torch.from_numpy(crops), maps, MEAN, STD, 64)
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, atol=2e-3)


def test_brightness_and_contrast_fill_their_ranges() -> None:
    drawn = sample_parameters(AugmentConfig(56, brightness=0.3, contrast=0.2), 1, 2, np.arange(4000), 64)
    for values, most in ((drawn.brightness, 0.3), (drawn.contrast, 0.2)):
        assert values.min() == pytest.approx(1 - most, abs=0.01) and values.max() == pytest.approx(1 + most, abs=0.01)
        assert values.mean() == pytest.approx(1, abs=0.01)


def test_grey_is_the_luma_of_bt_601() -> None:
    images, maps = plain(2)
    config = AugmentConfig(64, grey=1.0, flip=0, rotation=0, scale=(1.0, 1.0), erasing=0, brightness=0, contrast=0)
    parameters = sample_parameters(config, 0, 0, np.arange(2), 64)
    pictures, _ = apply(config, parameters, images, maps, torch.zeros(3), torch.ones(3))
    luma = (images / 255 * torch.tensor([0.299, 0.587, 0.114])).sum(-1)
    assert torch.allclose(pictures, luma[:, None].expand_as(pictures), atol=1e-5)
