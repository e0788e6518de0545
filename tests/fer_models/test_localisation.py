from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from aupipe.fer_models.metrics import localisation
from aupipe.fer_models.metrics.localisation import au_region, energy, pixel_ap, pointing, region_share

RNG = np.random.default_rng(1)
AU = torch.from_numpy(RNG.random((6, 9, 9)) ** 4)
REGION = au_region(AU)
COARSE = torch.from_numpy(RNG.integers(0, 5, (6, 9, 9)).astype(np.float32))
CONTINUOUS = torch.from_numpy(RNG.random((6, 9, 9)).astype(np.float32))


def test_the_region_includes_its_threshold() -> None:
    values = torch.tensor([[[0.5, 0.49], [1.0, 0.0]]])
    assert au_region(values).tolist() == [[[True, False], [True, False]]]
    assert localisation.region_share(au_region(values)).tolist() == [0.5]


@pytest.mark.parametrize("maps", [COARSE, CONTINUOUS, torch.ones(6, 9, 9)], ids=["ties", "distinct", "constant"])
def test_pixel_ap_is_scikit_learns(maps: torch.Tensor) -> None:
    pairs = zip(REGION.flatten(1).numpy(), maps.flatten(1).numpy(), strict=True)
    assert pixel_ap(maps, REGION).numpy() == pytest.approx([average_precision_score(y, s) for y, s in pairs])


def test_no_pixel_is_stronger_for_the_sign_of_its_zero() -> None:
    signs = torch.where(REGION, 0.0, -0.0).float()
    chance = pytest.approx(region_share(REGION).numpy())
    assert pixel_ap(signs, REGION).numpy() == chance and pixel_ap(-signs, REGION).numpy() == chance


@pytest.mark.parametrize("maps", [COARSE, CONTINUOUS], ids=["ties", "distinct"])
def test_pointing_and_energy_against_their_definitions(maps: torch.Tensor) -> None:
    for number in range(6):
        values, inside = maps[number].numpy(), REGION[number].numpy()
        peaks = np.argwhere(values == values.max())
        assert pointing(maps, REGION)[number] == pytest.approx(np.mean([inside[y, x] for y, x in peaks]))
        assert energy(maps, REGION)[number] == pytest.approx(values[inside].sum() / values.sum())


def test_the_au_map_is_found_and_a_uniform_map_scores_chance() -> None:
    assert pointing(AU, REGION).tolist() == [1] * 6
    assert pixel_ap(AU, REGION).numpy() == pytest.approx(1)
    chance = REGION.double().mean((1, 2)).numpy()
    for figure in (pointing, energy, pixel_ap):
        assert figure(torch.full((6, 9, 9), 0.3), REGION).numpy() == pytest.approx(chance)
    assert region_share(REGION).numpy() == pytest.approx(chance)


def test_an_empty_map_points_nowhere() -> None:
    empty = torch.zeros(6, 9, 9)
    assert pointing(empty, REGION).tolist() == energy(empty, REGION).tolist() == [0] * 6


def test_faces_without_a_region_are_finite() -> None:
    nothing = torch.zeros(6, 9, 9, dtype=torch.bool)
    for figure in (pointing, energy, pixel_ap):
        assert figure(CONTINUOUS, nothing).tolist() == [0] * 6
