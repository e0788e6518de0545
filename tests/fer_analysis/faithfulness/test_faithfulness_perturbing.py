from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aupipe.fer_analysis.faithfulness.measuring import Perturbation, measure, probabilities
from aupipe.fer_analysis.faithfulness.perturbing import (
    area_under,
    make_baseline,
    pixel_ranks,
    random_maps,
    removal_counts,
)
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.types import Silent
from planted_patch import AWAY, PATCH, PatchReader, planted_loader


def test_a_map_on_the_patch_is_faithful_and_one_elsewhere_is_not(tmp_path: Path) -> None:
    """Attention lies on the only pixels that count, the CAM on all others."""
    faces = measure(PatchReader(), planted_loader(tmp_path, PATCH), Perturbation("mean", 20), Silent())
    (on_deletion, on_insertion), (off_deletion, off_insertion) = (
        faces.areas(kind).mean(0) for kind in ("attention", "cam")
    )
    random_deletion, random_insertion = faces.areas(faces.controls["attention"]).mean(0)
    assert faces.whole.min() > 0.8 and faces.empty.max() < 0.02
    assert on_deletion < 0.15 < 0.2 < random_deletion < 0.6 < 0.8 < off_deletion
    assert on_insertion > 0.8 > 0.6 > random_insertion > 0.15 > off_insertion
    assert faces.areas("au_map")[:, 0].mean() == pytest.approx(on_deletion, abs=0.05)


@pytest.mark.parametrize("baseline", ["blur", "mean"])
def test_curves_run_from_the_whole_face_to_the_baseline_alone(tmp_path: Path, baseline: str) -> None:
    loader, model = planted_loader(tmp_path, AWAY), PatchReader()
    faces = measure(model, loader, Perturbation(baseline, 3), Silent())
    (batch,) = loader.epoch(0)
    whole = probabilities(model, batch.image)[:, 0].numpy()
    empty = probabilities(model, make_baseline(baseline, batch.image))[:, 0].numpy()
    assert (faces.predicted == 0).all() and np.abs(whole - empty).min() > 0.1
    for curves in faces.curves.values():
        assert curves.shape == (14, 2, 4)
        for ends, expected in (((0, 0), whole), ((0, -1), empty), ((1, 0), empty), ((1, -1), whole)):
            assert np.allclose(curves[:, ends[0], ends[1]], expected, atol=1e-7)


def test_insertion_shows_what_deletion_takes_away(tmp_path: Path) -> None:
    """One step: nothing and all. Two: the upper half of the order removed, or shown alone."""
    loader, model = planted_loader(tmp_path, AWAY), PatchReader()
    faces = measure(model, loader, Perturbation("mean", 2), Silent())
    assert (faces.curves["attention"][:, 0, 1] < 0.02).all() and (faces.curves["attention"][:, 1, 1] > 0.8).all()
    assert (faces.curves["cam"][:, 0, 1] > 0.8).all() and (faces.curves["cam"][:, 1, 1] < 0.02).all()


def test_blur_keeps_what_is_flat_and_removes_features() -> None:
    flat = torch.full((1, 3, 64, 64), 0.7)
    assert torch.allclose(make_baseline("blur", flat), flat, atol=1e-5)
    stripes = (torch.arange(64) // 4 % 2 * 2.0 - 1).expand(1, 3, 64, 64)
    assert make_baseline("blur", stripes)[..., 24:40].abs().max() < 0.01
    assert not make_baseline("mean", stripes).any()
    with pytest.raises(UserInputError, match="Did you mean 'blur'"):
        make_baseline("blurr", flat)


def test_ranks_follow_the_map_and_ties_the_tie_breaker() -> None:
    values = torch.tensor([[[0.0, 3.0], [0.0, 2.0]]])
    breaker = torch.tensor([[[0.1, 0.0], [0.9, 0.5]]])
    assert pixel_ranks(values, breaker).tolist() == [[[3, 0], [2, 1]]]
    assert pixel_ranks(torch.zeros(1, 2, 2), breaker).equal(pixel_ranks(breaker, breaker))
    assert pixel_ranks(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)).tolist() == [[[0, 1], [2, 3]]]


def test_random_maps_belong_to_the_row() -> None:
    both, second = random_maps(np.array([3, 8]), (4, 5), seed=1), random_maps(np.array([8]), (4, 5), seed=1)
    assert both.shape == (2, 4, 5) and both[1].equal(second[0]) and not both[0].equal(both[1])
    assert not second.equal(random_maps(np.array([8]), (4, 5), seed=2))
    assert not second.equal(random_maps(np.array([8]), (4, 5), seed=1, draw=1))
    assert random_maps(np.array([0]), (1, 1), seed=0).shape == (1, 2, 2)


def test_areas() -> None:
    assert removal_counts(4096, 20)[::10] == [0, 2048, 4096]
    assert area_under(np.linspace(1, 0, 21), 4096) == pytest.approx(0.5)
    assert area_under(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), 3).tolist() == pytest.approx([1 / 3, 1.0])
