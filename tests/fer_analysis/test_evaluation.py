from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aupipe.fer_analysis.evaluation import evaluate, measuring
from aupipe.fer_analysis.evaluation.controls import ControlMaps
from aupipe.fer_analysis.evaluation.summary import CONTROLS
from aupipe.fer_analysis.evaluation.text import whose_maps
from aupipe.fer_data.action_units.modes import MODES
from aupipe.fer_data.au_maps.heatmaps import render_maps
from aupipe.fer_data.errors import RunError, StoreError, UserInputError
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.loading.targets import mean_map
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.index import save_index
from aupipe.fer_models import metrics
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from drawings import read_drawing
from synthetic import CLASSES, synthetic_store

CONFIG = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=48, device="cpu")


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    train(store.folder, folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def content(run: Path) -> dict[str, Any]:
    return evaluate(run).as_json()


def strict(text: str) -> Any:
    def refuse(value: str) -> None:
        raise AssertionError(f"{value} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_metrics_json_is_strict_and_complete(run: Path, content: dict[str, Any]) -> None:
    stored = strict((run / "metrics.json").read_text())
    assert stored == content
    wanted = (
        "accuracy accuracy_ci95 balanced_accuracy cam_cos att_cos cam_cos_wrong att_cos_wrong per_class confusion "
        "controls n n_with_map split store_digest codebook checkpoint epoch"
    )
    assert set(wanted.split()) <= set(stored)
    assert set(stored["controls"]) == {*CONTROLS, "wrong_class", "ceiling", "ceiling_per_layer"}
    assert set(stored["att_cos"]) == set("12345")
    read_drawing(run / "confusion.png")


def test_counts_add_up(content: dict[str, Any]) -> None:
    matrix = np.array(content["confusion"]["matrix"])
    assert matrix.sum() == content["n"] == 14
    assert content["n_with_map"] == 12
    assert content["accuracy"] == pytest.approx(np.trace(matrix) / 14)
    assert content["accuracy_ci95"][0] <= content["accuracy"] <= content["accuracy_ci95"][1]
    neutral = content["per_class"]["neutral"]
    assert neutral["n"] == 2 and neutral["cam_cos"] is None and neutral["att_cos"]["5"] is None


def test_macro_is_the_mean_of_the_class_means(content: dict[str, Any]) -> None:
    classes = [entry for entry in content["per_class"].values() if entry["cam_cos"] is not None]
    assert len(classes) == 6
    assert content["cam_cos"] == pytest.approx(np.mean([entry["cam_cos"] for entry in classes]))
    assert content["att_cos"]["4"] == pytest.approx(np.mean([entry["att_cos"]["4"] for entry in classes]))


def test_no_attention_beats_its_ceiling(content: dict[str, Any]) -> None:
    ceilings = content["controls"]["ceiling_per_layer"]
    for layer, value in content["att_cos"].items():
        assert value <= ceilings[layer] + 1e-6
    assert content["cam_cos"] <= ceilings["5"] + 1e-6
    assert content["controls"]["ceiling"] == ceilings["5"]
    assert ceilings["2"] == pytest.approx(1.0)


def cropped(maps: np.ndarray) -> np.ndarray:
    return maps[:, 2:14, 2:14]


def test_controls_against_a_slow_computation(store: Store, content: dict[str, Any]) -> None:
    reader = store.split("test")
    rows = [row for row in range(14) if reader.has_map[row]]
    own = cropped(np.stack([reader.au_map(row) for row in rows]).astype(np.float64))
    names = [CLASSES[reader.labels[row]] for row in rows]
    wrong = []
    for row, target, name in zip(rows, own, names, strict=True):
        others = [other for other in CLASSES if other not in (name, "neutral")]
        drawn = render_maps(np.stack([reader.landmarks[row]] * 5), others, store.codebook, 64, 16)
        wrong.append(metrics.cosines(cropped(drawn), target).mean())
    controls = content["controls"]
    assert controls["wrong_class"] == pytest.approx(np.mean(wrong), abs=1e-5)
    assert controls["uniform"] == pytest.approx((own.mean((1, 2)) / np.sqrt((own**2).mean((1, 2)))).mean(), abs=1e-5)
    train_split = store.split("train")
    template = np.mean(
        [
            np.mean([train_split.au_map(row) for row in range(56) if train_split.labels[row] == label], 0)
            for label in range(6)
        ],
        0,
    )
    assert np.allclose(mean_map(store), template, atol=1e-6)
    assert controls["mean_map"] == pytest.approx(metrics.cosines(own, cropped(template[None])[0]).mean(), abs=1e-5)


def test_the_map_of_the_prediction_against_a_slow_computation(store: Store, run: Path, content: dict[str, Any]) -> None:
    """Each face's own AU map is compared with the one drawn for the predicted class; none is drawn for neutral."""
    reader = store.split("test")
    with (run / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row, said in enumerate(table):
        if not reader.has_map[row]:
            assert said["predicted_map_cos"] == ""
            continue
        own = cropped(reader.au_map(row)[None].astype(np.float64))
        expected = {"neutral": 0.0}
        for name in CLASSES:
            if name != "neutral":
                drawn = render_maps(reader.landmarks[row][None], [name], store.codebook, 64, 16)
                expected[name] = float(metrics.cosines(cropped(drawn), own[0])[0])
        assert float(said["predicted_map_cos"]) == pytest.approx(expected[said["predicted"]], abs=2e-3)
        others = [value for name, value in expected.items() if name not in ("neutral", said["label"])]
        assert float(said["au_map_cos_nearest"]) == pytest.approx(max(others), abs=2e-3)
    own_map = content["localisation"]["controls"]["au_map"]["all"]
    assert own_map["cosine"] == pytest.approx(1, abs=1e-6)
    assert 0 < own_map["specificity_nearest"] < own_map["specificity"] < 1


def test_leads_over_controls_are_paired(content: dict[str, Any]) -> None:
    """The mean difference lies within its interval, which is no difference of two intervals' ends."""
    for name, value in (("att", content["att_cos"]["5"]), ("cam", content["cam_cos"])):
        for control, ends in content["intervals"][f"{name}_cos_over"].items():
            assert ends[0] <= value - content["controls"][control] <= ends[1], (name, control)


def test_a_perfect_attention_would_score_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metric is fed the AU map itself in place of the attention: 1, and the control for other classes."""
    original = measuring.read

    def perfect(model: Any, batch: Any) -> Any:
        reading = original(model, batch)
        return measuring.BatchReading(reading.probability, dict.fromkeys(reading.maps, batch.au_map), {})

    monkeypatch.setattr(measuring, "read", perfect)
    content = evaluate(run).as_json()
    assert content["cam_cos"] == pytest.approx(1.0, abs=1e-6)
    for entry in (content["localisation"]["cam"], content["localisation"]["attention"]["3"]):
        for group in ("all", "correct", "wrong"):
            if entry[group]["n"]:
                for name in ("cosine", "normalised", "pointing", "energy", "pixel_ap", "ceiling"):
                    # The region is the map's upper part: the map ranks it perfectly, but has mass outside it.
                    if name == "energy":
                        assert 1 > entry[group][name] > 2 * content["localisation"]["chance"]["energy"]
                    else:
                        assert entry[group][name] == pytest.approx(1.0, abs=1e-5), name
        assert entry["all"]["specificity"] == pytest.approx(1 - content["controls"]["wrong_class"], abs=1e-6)
    assert content["att_cos_wrong"]["5"] == pytest.approx(content["controls"]["wrong_class"], abs=1e-6)


def test_figures_do_not_depend_on_the_batch_size(run: Path, content: dict[str, Any]) -> None:
    other = evaluate(run, batch_size=5).as_json()
    assert other["confusion"] == content["confusion"]
    assert other["cam_cos"] == pytest.approx(content["cam_cos"], abs=1e-5)


def test_limit_and_split(run: Path) -> None:
    assert evaluate(run, limit=5).as_json()["n"] == 5
    assert evaluate(run, split="val").as_json()["split"] == "val"
    with pytest.raises(StoreError, match="no rows in the split 'dev'"):
        evaluate(run, split="dev")
    with pytest.raises(UserInputError, match="--limit"):
        evaluate(run, limit=0)


def test_a_moved_pair_of_folders_still_works(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "a" / "store", train=14, val=7, test=7)
    train(store.folder, tmp_path / "a" / "run", replace(CONFIG, max_steps=1))
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert evaluate(tmp_path / "b" / "run").as_json()["n"] == 7


def test_a_store_with_other_classes_is_refused(run: Path, tmp_path: Path) -> None:
    other = synthetic_store(tmp_path, train=14, val=7, test=7)
    save_index(tmp_path, replace(other.index, classes=tuple(reversed(CLASSES))))
    with pytest.raises(RunError, match="classes are not those"):
        evaluate(run, tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="an empty folder, not a run"):
        evaluate(tmp_path)


def test_the_map_of_the_prediction_is_a_class_s_also_where_the_store_shows_the_faces_own(own_aus: Store) -> None:
    reader, whole = own_aus.split("test"), AugmentConfig(64, enabled=False)
    batch = next(TripletLoader(reader, 14, whole, mode="none").epoch(0))
    drawn = ControlMaps(own_aus, reader, whole).label_maps(batch)
    names = [own_aus.index.classes[label] for label in batch.label.tolist()]
    expected = render_maps(reader.landmarks[batch.index], names, own_aus.codebook, 64, 16)
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
    assert (drawn - batch.au_map).abs().amax((1, 2))[batch.has_map].min() > 0.3


def test_it_is_said_whose_action_units_the_maps_show() -> None:
    assert whose_maps({}) == whose_maps({"aus": "class"}) == []
    (said,) = whose_maps({"aus": "fused"})
    assert said == "The AU maps of this store show action units by the label and each face together (--aus fused)."
    assert all(whose_maps({"aus": mode}) for mode in MODES if mode != "class")


def test_another_stores_faces_are_normalised_as_in_training(run: Path, store: Store, tmp_path: Path) -> None:
    """The same faces in a store that states another mean and deviation: the same answers."""
    folder = Path(shutil.copytree(store.folder, tmp_path / "other"))
    save_index(folder, replace(store.index, channel_mean=[0.1, 0.2, 0.3], channel_std=[0.5, 0.4, 0.3]))
    own, other = (evaluate(run, place, limit=20, out=tmp_path / place.name) for place in (store.folder, folder))
    assert (own.out / "predictions.csv").read_bytes() == (other.out / "predictions.csv").read_bytes()


def test_a_store_of_images_of_another_size_is_refused(run: Path, tmp_path: Path) -> None:
    small = synthetic_store(tmp_path / "small", size=56)
    with pytest.raises(RunError, match=r"(?s)another part of the face.*64 pixels.*56 pixels.*--image-size 64"):
        evaluate(run, small.folder)


def test_an_interrupted_evaluation_leaves_the_earlier_one(
    run: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aupipe.fer_analysis.evaluation.run.measure_occluded", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, occlude=True)
    assert strict((run / "metrics.json").read_text()) == content
