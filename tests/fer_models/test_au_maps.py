"""A map for each action unit: ``aupipe train --guidance per-au``."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from aupipe.fer_analysis.evaluation import compare, evaluate
from aupipe.fer_analysis.evaluation.coded_text import sentences
from aupipe.fer_analysis.evaluation.predictions import load_metrics
from aupipe.fer_analysis.explain import explain_faces, open_run
from aupipe.fer_analysis.explain.action_units import highest_own
from aupipe.fer_analysis.explain.inputs import InputPicture
from aupipe.fer_analysis.explain.page import face_section
from aupipe.fer_analysis.explain.pictures import own_panels
from aupipe.fer_analysis.explain.result import limits, result_json
from aupipe.fer_analysis.export_model import export_model
from aupipe.fer_data.action_units.facs import FacsCode
from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.au_maps.codebook import builtin_codebooks, load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_aus
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.loading.targets import FaceAus
from aupipe.fer_data.manifest.action_units import CodeSource
from aupipe.fer_data.manifest.face_codes import FaceCodes
from aupipe.fer_data.preparation import AlignedFace
from aupipe.fer_data.shards import Store
from aupipe.fer_display.pages import render
from aupipe.fer_models.au_maps import au_contrast_loss, au_map_loss, guidance_loss
from aupipe.fer_models.training import checkpoint
from aupipe.fer_models.training.config import MERGED_TARGETS, TrainConfig
from aupipe.fer_models.training.run import train
from synthetic import OWN_AUS, synthetic_store, with_own_aus

CONFIG = TrainConfig(
    backbone="test_resnet", epochs=6, batch_size=28, crop_size=64, device="cpu", output_stride=8, guidance="per-au",
    augment=False, lr=0.003, select="last",
)  # fmt: skip


def some_aus(count: int = 3) -> FaceAus:
    generator = torch.Generator().manual_seed(1)
    regions = torch.rand((count, len(DRAWN_AUS), 16, 16), generator=generator)
    regions[:, 4] = 0
    weights = torch.rand((count, len(DRAWN_AUS)), generator=generator)
    return FaceAus(regions, weights, torch.ones(count, dtype=torch.bool))


def at_8(aus: FaceAus) -> FaceAus:
    return replace(aus, regions=pooled(aus))


def pooled(aus: FaceAus) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(aus.regions, 8)


def test_maps_of_the_face_s_own_action_units_cost_nothing() -> None:
    aus = at_8(some_aus())
    logits = torch.logit(aus.weights[:, :, None, None] * aus.regions, eps=1e-7)
    assert au_map_loss(logits, aus) == pytest.approx(0, abs=1e-5)
    assert au_map_loss(logits + 0.5, aus) > 0.01 and au_map_loss(logits - 0.5, aus) > 0.01
    undescribed = logits.clone()
    undescribed[:, 4] = 9
    assert au_map_loss(undescribed, aus) == pytest.approx(0, abs=1e-5), (
        "what the codebook does not describe has no place"
    )


def test_a_map_that_is_all_but_zero_still_learns() -> None:
    aus = at_8(some_aus())
    logits = torch.full((3, len(DRAWN_AUS), 8, 8), -12.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(au_map_loss(logits, aus), logits)
    inside = aus.regions * aus.weights[:, :, None, None]
    assert (gradient[inside > 0.3] < -1e-6).all()


def test_unknown_faces_and_erased_areas_do_not_count() -> None:
    aus = at_8(some_aus(4))
    known = FaceAus(aus.regions, aus.weights, torch.tensor([True, False, False, True]))
    logits = torch.randn((4, len(DRAWN_AUS), 8, 8))
    alone = FaceAus(aus.regions[[0, 3]], aus.weights[[0, 3]], aus.known[:2])
    assert au_map_loss(logits, known) == pytest.approx(float(au_map_loss(logits[[0, 3]], alone)) / 2, abs=1e-6)
    assert au_map_loss(logits, aus, torch.zeros(4, 8, 8)) == 0


def test_regions_come_to_the_size_of_the_maps_once_for_both_losses() -> None:
    aus, label, valid = some_aus(4), torch.tensor([0, 0, 1, 0]), torch.ones(4, 16, 16)
    valid[0, :9] = 0
    logits, smaller = torch.randn((4, len(DRAWN_AUS), 8, 8)), torch.nn.functional.avg_pool2d(valid, 2)
    own = au_map_loss(logits, at_8(aus), smaller)
    assert guidance_loss(logits, aus, label, valid) == pytest.approx(own.item(), abs=1e-6)
    both = own + au_contrast_loss(logits, at_8(aus), label, smaller)
    assert guidance_loss(logits, aus, label, valid, contrast=True) == pytest.approx(both.item(), abs=1e-6) != own.item()


def test_every_built_in_codebook_s_action_units_have_a_map() -> None:
    described = {number for name in builtin_codebooks() for number in load_codebook(name).action_units}
    assert described == set(DRAWN_AUS)


def test_batches_bring_regions_on_the_augmented_face(own_aus: Store) -> None:
    reader = own_aus.split("train")
    config = AugmentConfig(56, rotation=30, rotation_p=1.0, flip=0.5)
    batch = next(TripletLoader(reader, 14, config, seed=3, per_au=True).epoch(1))
    assert batch.aus is not None and batch.aus.regions.shape == (14, len(DRAWN_AUS), 14, 14)
    for row in range(14):
        for at in (0, 8, 21):
            expected = render_aus(batch.landmarks[row].numpy(), {DRAWN_AUS[at]: 1.0}, own_aus.codebook, 56, 14)
            np.testing.assert_allclose(batch.aus.regions[row, at], expected, atol=1 / 255)
    assert reader.au_weight is not None
    stored = reader.au_weight[batch.index][:, list(DRAWN_AUS)].max(-1) / 255
    np.testing.assert_allclose(batch.aus.weights, stored, atol=1e-6)
    assert next(TripletLoader(reader, 14, config).epoch(0)).aus is None


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("many")
    return synthetic_store(folder, train=252, test=126, change=with_own_aus, config={"aus": "fused"})


@pytest.fixture(scope="module")
def trained(many: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "per-au"
    assert train(many.folder, run, CONFIG).finished
    return run


def test_the_maps_tell_which_action_units_a_face_of_the_test_split_has(trained: Path, many: Store) -> None:
    """They are dealt to the faces whatever their class, so that the label tells nothing."""
    _, model, _ = checkpoint.load_best(trained, torch.device("cpu"))
    assert model.au_maps is not None
    model.eval()
    batch = next(TripletLoader(many.split("test"), 126, CONFIG.centre_crop, mode="none", per_au=True).epoch(0))
    with torch.no_grad():
        maps = model.au_maps(model(batch.image).features[-1])
    assert maps.shape == (126, len(DRAWN_AUS), 8, 8) and batch.aus is not None
    places = pooled(batch.aus)
    heights = (maps * places).sum((2, 3)) / places.sum((2, 3)).clamp_min(1e-6)
    shown = [DRAWN_AUS.index(number) for number in OWN_AUS]
    assert roc_auc_score(batch.aus.weights[:, shown].flatten() > 0, heights[:, shown].flatten()) > 0.9
    others = [at for at in range(len(DRAWN_AUS)) if at not in shown]
    assert heights[:, others].mean() < 0.1


def drawn_codes(store: Store) -> FaceCodes:
    """The action units that were dealt to the faces of the test split."""
    reader = store.split("test")
    assert reader.au_weight is not None
    codes = {
        sample: tuple(FacsCode(number) for number in np.flatnonzero(weights.any(1)).tolist())
        for sample, weights in zip(reader.sample_ids, reader.au_weight, strict=True)
    }
    return FaceCodes(codes, CodeSource("drawn"))


def test_evaluation_reads_them_by_name(trained: Path, many: Store, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    coded = evaluate(run, many.folder, aus=drawn_codes(many)).content["coded"]
    untrained = coded["maps"]["untrained_unit_maps"]["within"]
    assert coded["lead_over"]["untrained_unit_maps"]["within"][0] > 0, (
        "the brightness that is planted helps random maps"
    )
    assert f"An untrained network of its architecture has {untrained:.3f}, less by" in " ".join(sentences(coded))
    assert coded["maps"]["unit_maps"]["within"] > 0.9 > coded["maps"]["label_map"]["within"]
    assert coded["maps"]["unit_maps"]["cosine"] > coded["maps"]["attention"]["cosine"]
    assert any("Its maps of single action units tell faces" in line for line in sentences(coded))


def test_an_interrupted_run_ends_with_the_same_maps(own_aus: Store, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=3, batch_size=14)
    for name, steps in (("whole", None), ("parts", 5), ("parts", None)):
        assert train(own_aus.folder, tmp_path / name, replace(config, max_steps=steps)).finished is (steps is None)
    whole, continued = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("whole", "parts")
    )
    assert whole.keys() == continued.keys() and any(name.startswith("au_maps.") for name in whole)
    assert all(torch.equal(value, continued[name]) for name, value in whole.items())


def test_what_cannot_be_guided_so_is_refused(own_aus: Store, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"ACoL has a training step of its own.*--guidance merged"):
        train(own_aus.folder, tmp_path / "acol", replace(CONFIG, method="acol"))
    older = own_aus.split("train")
    vars(older)["au_weight"] = None
    with pytest.raises(UserInputError, match=r"does not say which action units.*format 1\.4.*build-maps"):
        next(TripletLoader(older, 2, per_au=True).epoch(0))


def test_the_exported_file_has_them_and_their_numbers(trained: Path, tmp_path: Path) -> None:
    report = export_model(trained, "torchscript", tmp_path / "model.pt")
    assert report.outputs[-1] == "au_maps" and report.difference is not None and report.difference < 1e-4
    files = {"aupipe.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(report.path), _extra_files=files)
    assert json.loads(files["aupipe.json"])["au_maps"] == list(DRAWN_AUS)
    _, model, _ = checkpoint.load_best(trained, torch.device("cpu"))
    image = torch.rand(4, 3, 64, 64)
    own = model.read_au_maps(model.read(image))
    assert own is not None and torch.allclose(module(image)[-1], own, atol=1e-5)


def test_a_face_s_page_shows_the_highest_by_name(trained: Path, many: Store, tmp_path: Path) -> None:
    opened, reader = open_run(trained, store_folder=many.folder, device="cpu"), many.split("test")
    crop, points = reader.image(3), reader.landmarks[3]
    face = AlignedFace(crop, points, points, np.eye(2, 3), np.zeros(3, np.float32), 1.0, 0, 1)
    result = explain_faces(opened, InputPicture("one", crop), {1: face})[0]
    own = own_panels(opened, result)
    page = render("explain", title="t", blocks=[face_section(opened, result, [], [panel.encoded() for panel in own])],
                  facts=(), limits=limits(opened, result.prediction), left_out=())  # fmt: skip
    assert len(own) == 4 and all(panel.caption in page for panel in own)
    best, height = highest_own(result.card)[0]
    assert f"AU {best} ({height:.2f})" in page and "not a measurement" in page
    written = result_json(result, opened)
    unit = next(one for one in written["action_units"] if one["number"] == best)
    assert unit["own"] == pytest.approx(height) and list(written["au_maps"]) == list(map(str, DRAWN_AUS))


@pytest.mark.slow
def test_two_runs_are_compared_on_coded_faces(trained: Path, many: Store, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(trained, tmp_path / name)) for name in ("one", "other")]
    train(many.folder, tmp_path / "merged", replace(CONFIG, guidance="merged", max_steps=1))
    codes = drawn_codes(many)
    for run in (*runs, tmp_path / "merged"):
        evaluate(run, many.folder, aus=codes)
    same = compare(*runs).content["differences"]
    for name in ("coded_cosine", "within_class", "coded_cosine_unit_maps", "within_class_unit_maps"):
        assert same[name]["difference"] == 0 and same[name]["ci95"] == [0, 0], name
    found = compare(runs[0], tmp_path / "merged").content["differences"]
    coded = [load_metrics(run)["coded"]["maps"]["attention"] for run in (runs[0], tmp_path / "merged")]
    for name, figure in (("coded_cosine", "cosine"), ("within_class", "within")):
        # The table's six decimals make some ties.
        assert found[name]["run"] == pytest.approx(coded[0][figure], abs=1e-3)
        assert found[name]["other"] == pytest.approx(coded[1][figure], abs=1e-3)
    assert "within_class_unit_maps" not in found, "the other has no such maps"
    others = {sample: its[:1] for sample, its in codes.codes.items()}
    evaluate(runs[1], many.folder, aus=FaceCodes(others, CodeSource("fewer")))
    with pytest.raises(RunError, match="their codes differ"):
        compare(*runs)
    evaluate(runs[1], many.folder)
    assert "coded_cosine" not in compare(*runs).content["differences"], "one of them was not held against codes"


def test_faces_of_one_class_are_told_apart_by_their_weights() -> None:
    """The loss of a pair, by hand; other classes, equal weights and unknown faces make no pair."""
    regions = torch.zeros((4, len(DRAWN_AUS), 8, 8))
    regions[:, 3, 2:4, 2:4] = 1
    weights = torch.zeros((4, len(DRAWN_AUS)))
    weights[:, 3] = torch.tensor([0.9, 0.1, 0.1, 0.9])
    label = torch.tensor([0, 0, 1, 0])
    logits = torch.zeros((4, len(DRAWN_AUS), 8, 8))
    logits[:, 3] = torch.tensor([2.0, -1.0, 5.0, 0.5])[:, None, None]
    known = torch.tensor([True, True, True, False])
    found = au_contrast_loss(logits, FaceAus(regions, weights, known), label)
    assert found == pytest.approx(np.log1p(np.exp(-3.0)), abs=1e-6), "one pair: the first face above the second"
    both = au_contrast_loss(logits, FaceAus(regions, weights, torch.ones(4, dtype=torch.bool)), label)
    assert both == pytest.approx((np.log1p(np.exp(-3.0)) + np.log1p(np.exp(-1.5))) / 2, abs=1e-6)
    alike = FaceAus(regions, weights.clamp(max=0.3), known)
    assert au_contrast_loss(logits, alike, label) == 0
    erased = torch.ones(4, 8, 8)
    erased[1] = 0
    assert au_contrast_loss(logits, FaceAus(regions, weights, known), label, erased) == 0


def test_contrast_is_trained_and_reported(many: Store, tmp_path: Path) -> None:
    train(many.folder, tmp_path / "run", replace(CONFIG, guidance="per-au-contrast", epochs=3))
    coded = evaluate(tmp_path / "run", many.folder, aus=drawn_codes(many)).content["coded"]
    assert coded["maps"]["unit_maps"]["within"] > 0.85


@pytest.mark.parametrize("target", MERGED_TARGETS)
def test_controls_without_maps_of_single_action_units_are_refused(target: Any) -> None:
    with pytest.raises(UserInputError, match="this control has no maps of single action units"):
        TrainConfig(guidance="per-au", align_target=target)
