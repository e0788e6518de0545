from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aupipe.fer_analysis.faithfulness import regions
from aupipe.fer_analysis.faithfulness.measuring import Perturbation, measure
from aupipe.fer_analysis.faithfulness.summary import CONSTANT, summarise, summary_line, why_no_face
from aupipe.fer_analysis.faithfulness.text import page_lines
from aupipe.fer_data.types import Silent
from planted_patch import AWAY, PATCH, PatchReader, planted_loader


def removal(folder: Path, region: tuple[slice, slice] | None, baseline: str = "mean") -> dict[str, Any]:
    faces = measure(PatchReader(), planted_loader(folder, region), Perturbation(baseline, 2), Silent())
    return summarise(faces)


@pytest.mark.parametrize("baseline", ["mean", "blur"])
def test_a_decision_that_rests_on_the_au_region_falls_without_it(tmp_path: Path, baseline: str) -> None:
    found = removal(tmp_path, PATCH, baseline)["regions"]
    inside, face, anywhere = (found["removed"][kind]["fall"]["mean"] for kind in regions.REMOVALS)
    assert (found["n_with_region"], found["n_right"], found["n"]) == (14, 2, 2)
    assert found["region_share"] == pytest.approx(256 / 4096, abs=0.01)
    assert inside == pytest.approx(1, abs=0.05), "all that the face adds rests on the patch"
    assert inside > 10 * abs(face) and inside > 10 * abs(anywhere)
    for over in found["fall_inside_over"].values():
        assert over["ci95"][0] > 0.2 and over["ci95"][0] - 1e-9 <= over["mean"] <= over["ci95"][1] + 1e-9


def test_one_that_rests_elsewhere_does_not(tmp_path: Path) -> None:
    faces = measure(PatchReader(), planted_loader(tmp_path, AWAY), Perturbation("mean", 2), Silent())
    found = summarise(replace(faces, label=faces.predicted))["regions"]
    falls = {kind: figures["fall"]["mean"] for kind, figures in found["removed"].items()}
    assert falls["inside"] == pytest.approx(0, abs=1e-6)
    assert falls["outside_face"] > falls["outside_anywhere"] > 0, "on the face the patch is hit more often"
    assert found["fall_inside_over"]["outside_face"]["ci95"][1] < 0


def test_accuracy_is_told(tmp_path: Path) -> None:
    """All faces are taken for class 0, as two of the fourteen are; without the patch not even these."""
    content = removal(tmp_path, PATCH)
    assert content["accuracy"] == pytest.approx(2 / 14)
    assert content["regions"]["removed"]["inside"]["accuracy_change"]["mean"] == -1
    assert content["probability"]["baseline_keeps_prediction"] == 0


def test_a_store_without_au_maps_says_so(tmp_path: Path) -> None:
    content = removal(tmp_path, None)
    assert content["n_with_map"] == 0 and "au_map" not in content["curves"]
    assert content["regions"]["n"] == 0 and content["regions"]["fall_inside_over"]["outside_face"] is None
    whole = {**content, "randomisation": {"maps": {"attention": {"final": 0.0, "other_face": None}}}}
    assert summary_line(whole).startswith("No face has an AU region")


def test_falls_are_shares_of_what_the_pixels_add_on_faces_that_are_right(tmp_path: Path) -> None:
    """A fall of .1 counts in full where the baseline alone gives all but .1, and not at all where no room is left."""
    faces = measure(PatchReader(), planted_loader(tmp_path, PATCH), Perturbation("mean", 2), Silent())
    right = faces.label == faces.predicted
    planted = {kind: np.where(right, 0.1, 0.4) for kind in regions.REMOVALS}
    for room, expected in ((0.2, 0.5), (0.4, 0.25), (0.05, None)):
        entry = summarise(replace(faces, whole=np.full(14, 0.9), empty=np.full(14, 0.9 - room), fall=planted))[
            "regions"
        ]
        fall = entry["removed"]["inside"]["fall"]
        assert fall is None if expected is None else fall["mean"] == pytest.approx(expected)
    assert "adds 0.1 or more" in why_no_face(entry)
    wrong = summarise(replace(faces, predicted=(faces.label + 1) % 7))["regions"]
    assert wrong["n"] == 0 and "is predicted rightly" in why_no_face(wrong)


def test_a_prediction_that_does_not_depend_on_the_picture_is_called_that_once(tmp_path: Path) -> None:
    faces = measure(PatchReader(), planted_loader(tmp_path, PATCH), Perturbation("mean", 2), Silent())
    alike = replace(faces, whole=np.full(14, 0.2501), empty=np.full(14, 0.25), kept=np.ones(14, bool))
    content = summarise(alike)
    assert summarise(faces)["depends_on_picture"] and not content["depends_on_picture"]
    assert summarise(replace(alike, kept=np.zeros(14, bool)))["depends_on_picture"], (
        "without the picture it says another class"
    )
    lines = page_lines(tmp_path, {**content, "split": "test", "epoch": 1, "baseline": "mean"})
    assert lines[-1] == f"{CONSTANT}." and "0.000 (" not in "".join(lines)
    assert summary_line(content) == CONSTANT


def test_elsewhere_is_as_large_outside_and_on_the_face_first() -> None:
    region, hull = torch.zeros(2, 32, 32, dtype=torch.bool), torch.zeros(2, 32, 32, dtype=torch.bool)
    region[0, :8, :8], region[1, :16, :16] = True, True
    hull[:, :20, :20] = True
    mask = regions.elsewhere(region, hull, torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert mask.sum((1, 2)).tolist() == [64, 256] and not (mask & region).any()
    room = (hull & ~region).sum((1, 2))
    assert (mask & hull).sum((1, 2)).tolist() == [64, int(room[1])], "the second face's hull has no room for all"


def test_regions_too_large_or_empty_are_left_out() -> None:
    region = torch.zeros(3, 10, 10, dtype=torch.bool)
    region[1, :5], region[2, :6] = True, True
    assert regions.usable(region).tolist() == [False, True, False]


def test_the_hull_covers_the_landmarks() -> None:
    square = torch.tensor([[2.0, 3.0], [7.0, 3.0], [7.0, 6.0], [2.0, 6.0]]).repeat(1, 17, 1).reshape(1, 68, 2)
    hull = regions.face_hull(square, 10)
    assert hull.sum() == 6 * 4 and hull[0, 3:7, 2:8].all()
