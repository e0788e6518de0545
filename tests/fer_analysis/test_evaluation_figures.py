"""Each figure of an evaluation against a slow computation of its own, or against ``predictions.csv``."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aupipe.fer_analysis.evaluation import evaluate, measuring
from aupipe.fer_analysis.evaluation.as_published import grow_published
from aupipe.fer_analysis.evaluation.controls import ControlMaps
from aupipe.fer_analysis.evaluation.figures import draw_cosines
from aupipe.fer_analysis.evaluation.measuring import Samples
from aupipe.fer_analysis.evaluation.summary import summarise
from aupipe.fer_analysis.evaluation.text import summary_lines
from aupipe.fer_data.au_maps.heatmaps import render_maps
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.shards import Store
from aupipe.fer_models import metrics
from aupipe.fer_models.methods.cam import CAM
from aupipe.fer_models.targets import positive_part, resize_maps
from aupipe.fer_models.training import checkpoint
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from drawings import read_drawing
from synthetic import CLASSES

CONFIG = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=48, device="cpu")
FIGURES = ("cos", "cos_wrong", "pointing", "energy", "pixel_ap", "empty")
NAMES = ("cosine", "cosine_wrong", "pointing", "energy", "pixel_ap", "empty")


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    train(store.folder, folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def content(run: Path) -> dict[str, Any]:
    """Ten rows: the classes have two faces, or one."""
    return evaluate(run, limit=10).as_json()


@pytest.fixture(scope="module")
def table(run: Path, content: dict[str, Any]) -> list[dict[str, str]]:
    with (run / "evaluation-test-limit-10" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def readings(run: Path, store: Store) -> Iterator[dict[str, Any]]:
    """The model's own maps of the ten faces, and the AU maps, cropped by hand."""
    _, model, _ = checkpoint.load_best(run, torch.device("cpu"))
    reader, index = store.split("test"), store.index
    images = np.stack([reader.image(row) for row in range(10)])[:, 8:56, 8:56] / 255
    pixels = (images - index.channel_mean) / index.channel_std
    with torch.no_grad():
        out = model.read(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float())
        label = torch.from_numpy(reader.labels[:10].astype(np.int64))
        signed = model.cam(out, label)
        cams = [positive_part(signed), positive_part(model.cam(out, out.logits.argmax(1)))]
    maps = np.stack([reader.au_map(row) for row in range(10)])[:, 2:14, 2:14]
    own = {"out": out, "signed": signed, "cam": cams[0], "cam_predicted": cams[1]}
    yield {**own, "au_map": maps, "images": images, "label": label}


def test_the_table_has_every_face_and_its_probabilities(
    table: list[dict[str, str]], readings: dict[str, Any], store: Store
) -> None:
    assert [row["sample_id"] for row in table] == store.split("test").sample_ids[:10]
    probability = readings["out"].logits.softmax(1).numpy()
    for row, values in zip(table, probability, strict=True):
        assert [float(row[f"p_{name}"]) for name in CLASSES] == pytest.approx(values, abs=1e-5)
        assert row["predicted"] == CLASSES[values.argmax()]
        assert float(row["confidence"]) == pytest.approx(values.max(), abs=1e-5)
        assert (row["correct"] == "1") == (row["label"] == row["predicted"])
        assert (row["att5_cos"] == "") == (row["has_map"] == "0") == (row["label"] == "neutral")


def test_every_mean_can_be_computed_from_the_table(table: list[dict[str, str]], content: dict[str, Any]) -> None:
    where = content["localisation"]
    entries = {f"att{layer}": entry for layer, entry in where["attention"].items()}
    entries |= {"cam": where["cam"], "cam_predicted": where["cam_predicted"], **where["controls"]}
    for owner, entry in entries.items():
        for figure, name in zip(FIGURES, NAMES, strict=True):
            column = f"{owner}_{figure}"
            for outcome, wanted in (("all", "01"), ("correct", "1"), ("wrong", "0")):
                rows = [row for row in table if row["correct"] in wanted]
                found = [
                    np.mean([float(row[column]) for row in rows if row["label"] == one and row[column]])
                    for one in CLASSES
                    if any(row["label"] == one and row[column] for row in rows)
                ]
                expected = pytest.approx(np.mean(found), abs=2e-6) if found else None
                assert entry[outcome][name] == expected, (column, outcome)
            for group, key in (("by_class", "label"), ("by_predicted", "predicted")):
                for one in CLASSES:
                    values = [float(row[column]) for row in table if row[key] == one and row[column]]
                    expected = pytest.approx(np.mean(values), abs=2e-6) if values else None
                    assert entry[group][one][name] == expected, (column, group, one)


def test_the_cam_is_that_of_the_label_and_of_the_prediction(
    table: list[dict[str, str]], readings: dict[str, Any], store: Store
) -> None:
    landmarks = store.split("test").landmarks
    wrong_seen = 0
    for number, row in enumerate(table):
        if row["has_map"] == "0":
            continue
        target = readings["au_map"][number : number + 1]
        for name in ("cam", "cam_predicted"):
            grown = resize_maps(readings[name][number : number + 1], (12, 12)).numpy()
            assert float(row[f"{name}_cos"]) == pytest.approx(metrics.cosines(grown, target)[0], abs=1e-4)
        if row["predicted"] == "neutral":
            assert row["cam_predicted_cos_predicted"] == ""
            continue
        drawn = render_maps(landmarks[number][None], [row["predicted"]], store.codebook, 64, 16)[:, 2:14, 2:14]
        expected = metrics.cosines(grown, drawn.astype(np.float64))[0]
        assert float(row["cam_predicted_cos_predicted"]) == pytest.approx(expected, abs=5e-3)
        wrong_seen += row["predicted"] != row["label"]
    assert wrong_seen


def test_the_other_expressions_are_drawn_on_each_face(store: Store) -> None:
    loader = TripletLoader(store.split("test"), 10, CONFIG.centre_crop, mode="none")
    controls, batch = ControlMaps(store, loader.reader, CONFIG.centre_crop), next(loader.epoch(0))
    found = controls.other_maps(batch).numpy()
    for at, (row, label, mapped) in enumerate(zip(batch.index, batch.label, batch.has_map, strict=True)):
        for place, name in enumerate(controls.expressions):
            points = loader.reader.landmarks[int(row)][None]
            drawn = render_maps(points, [name], store.codebook, 64, 16)[0, 2:14, 2:14]
            shown = bool(mapped) and name != CLASSES[int(label)]
            np.testing.assert_allclose(found[at, place], drawn if shown else 0, atol=1e-6)
    assert found.any()


def test_the_cosines_by_the_papers_conventions(
    table: list[dict[str, str]], readings: dict[str, Any], content: dict[str, Any]
) -> None:
    """CAM from minimum to maximum; attention grown as there, unlike the maps measured elsewhere."""
    signed = readings["signed"]
    low, high = signed.amin((1, 2), keepdim=True), signed.amax((1, 2), keepdim=True)
    maps = {"cam": resize_maps((signed - low) / (high - low), (12, 12))}
    assert (signed < 0).any()
    for layer in (2, 5):
        level = readings["out"].features[layer - 1].mean(1, keepdim=True)
        maps[f"att{layer}"] = torch.nn.functional.interpolate(
            level, (12, 12), mode="bilinear", align_corners=True, antialias=True
        )[:, 0]
    for owner, values in maps.items():
        expected = metrics.cosines(values.numpy(), readings["au_map"])
        for row, value in zip(table, expected, strict=True):
            found = row[f"{owner}_cos_paper"]
            assert (found == "") == (row["has_map"] == "0")
            assert not found or float(found) == pytest.approx(value, abs=1e-4)
    where = content["localisation"]
    fear = [float(row["cam_cos_paper"]) for row in table if row["label"] == "fear"]
    assert where["cam"]["by_class"]["fear"]["cos_paper"] == pytest.approx(np.mean(fear), abs=2e-6)
    assert where["attention"]["5"]["all"]["cos_paper"] is not None
    assert where["controls"]["uniform"]["all"]["cos_paper"] is where["cam_predicted"]["all"]["cos_paper"] is None


def test_published_attention_is_shifted_where_it_is_negative_and_only_there() -> None:
    maps = torch.tensor([[[-2.0, 0.0], [1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]])
    there = torch.nn.functional.interpolate(maps[:, None], (3, 3), mode="bilinear", align_corners=True, antialias=True)[
        :, 0
    ]
    shifted, plain = grow_published("5", maps, 3)
    assert shifted.min() == 0 and torch.equal(shifted, there[0] + 2) and torch.equal(plain, there[1])
    assert torch.equal(grow_published("cam", maps.abs(), 3), resize_maps(maps.abs(), (3, 3)))


def test_controls_score_what_they_know(content: dict[str, Any]) -> None:
    where = content["localisation"]
    uniform, chance = where["controls"]["uniform"]["all"], where["chance"]
    for name in ("pointing", "energy", "pixel_ap"):
        assert uniform[name] == pytest.approx(chance[name])
        assert where["controls"]["mean_map"]["all"][name] > chance[name]
    assert uniform["normalised"] == 0
    mean_map = where["controls"]["mean_map"]["all"]
    assert mean_map["normalised_over_mean_map"] in (0, None)
    last = where["attention"]["5"]["all"]
    floor, ceiling = content["controls"]["uniform"], content["controls"]["ceiling"]
    assert last["normalised"] == pytest.approx((content["att_cos"]["5"] - floor) / (ceiling - floor))
    assert last["specificity"] == pytest.approx(content["att_cos"]["5"] - content["att_cos_wrong"]["5"])


def test_average_maps_are_divided_by_each_class_own_count(run: Path, readings: dict[str, Any], tmp_path: Path) -> None:
    evaluate(run, limit=10, batch_size=4, out=tmp_path)
    with np.load(tmp_path / "average_maps.npz") as file:
        found = dict(file)
    assert found["count"].tolist() == [2, 2, 2, 1, 1, 1, 1] and found["count_with_map"].tolist() == [
        2,
        2,
        2,
        1,
        1,
        1,
        0,
    ]
    assert found["classes"].tolist() == list(CLASSES)
    layer = resize_maps(readings["out"].features[2].mean(1).clamp_min(0), (12, 12)).numpy()
    cam = resize_maps(readings["cam"], (12, 12)).numpy()
    for number in range(7):
        rows = [row for row in range(10) if readings["label"][row] == number]
        assert found["face"][number] == pytest.approx(np.mean(readings["images"][rows], 0), abs=1e-4)
        assert found["au_map"][number] == pytest.approx(np.mean(readings["au_map"][rows], 0), abs=1e-4)
        scaled = [layer[row] / layer[row].max() for row in rows]
        assert found["attention"][2, number] == pytest.approx(np.mean(scaled, 0), abs=1e-3)
        scaled = [cam[row] / max(cam[row].max(), 1e-8) for row in rows]
        assert found["cam"][number] == pytest.approx(np.mean(scaled, 0), abs=1e-3)
    for name in ("average_maps.png", "cosines.png"):
        read_drawing(tmp_path / name)


def test_the_cosine_matrix_names_its_rows_and_columns(content: dict[str, Any]) -> None:
    matrix = content["cosine_matrix"]
    assert matrix["classes"] == list(CLASSES[:6]) and matrix["counts"] == [2, 2, 2, 1, 1, 1]
    assert matrix["maps"] == [*"12345", "cam", "uniform", "centre", "mean_map", "predicted_map"]
    fear = matrix["values"][2]
    assert fear[3] == content["per_class"]["fear"]["att_cos"]["4"]
    assert fear[5] == content["per_class"]["fear"]["cam_cos"]


def test_the_same_call_writes_the_same_files(run: Path, content: dict[str, Any], tmp_path: Path) -> None:
    assert evaluate(run, limit=10, out=tmp_path).as_json() == content
    for name in ("predictions.csv", "average_maps.npz", "metrics.json"):
        assert (tmp_path / name).read_bytes() == (run / "evaluation-test-limit-10" / name).read_bytes(), name


def test_a_method_without_a_cam(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CAM, "has_cam", False)
    done = evaluate(run, limit=10, out=tmp_path)
    found = done.as_json()
    assert found["cam_cos"] is found["cam_cos_wrong"] is found["localisation"]["cam"] is None
    assert found["intervals"]["cam_cos"] is None and found["per_class"]["fear"]["cam_cos"] is None
    assert "cam" not in found["cosine_matrix"]["maps"]
    line = next(line for line in done.lines() if line.startswith("CAM-COS of the label"))
    assert line.split()[4:] == ["-"] * 7
    with np.load(tmp_path / "average_maps.npz") as file:
        assert "cam" not in file and "attention" in file


def test_a_method_that_differentiates_leaves_no_graph(
    run: Path, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closed form by autograd: the gradient of the logits at the last features is W / (h w)."""

    def cam(self: CAM, prediction: Any, class_index: Tensor) -> Tensor:
        score = prediction.logits.gather(1, class_index[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, prediction.features[-1], retain_graph=True)
        return (gradient * prediction.features[-1]).sum(1)

    kept: list[measuring.BatchReading] = []
    original = measuring.read

    def read(model: Any, batch: Any) -> Any:
        kept.append(original(model, batch))
        return kept[-1]

    monkeypatch.setattr(CAM, "needs_graph", True)
    monkeypatch.setattr(CAM, "cam", cam)
    monkeypatch.setattr(measuring, "read", read)
    found = evaluate(run, limit=10, out=tmp_path).as_json()
    assert found["cam_cos"] == pytest.approx(content["cam_cos"], abs=1e-5)
    tensors = [value for reading in kept for value in (reading.probability, *reading.maps.values())]
    assert tensors and not any(value.requires_grad for value in tensors)


@pytest.mark.parametrize(("size", "advice"), [(14, "Try --batch-size 7"), (1, "does not hold one image")])
def test_a_full_device_says_what_to_try(run: Path, monkeypatch: pytest.MonkeyPatch, size: int, advice: str) -> None:
    def full(model: Any, batch: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measuring, "read", full)
    with pytest.raises(RunError, match=advice):
        evaluate(run, batch_size=size)


def test_damaged_weights_and_useless_batches_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserInputError, match="--batch-size"):
        evaluate(run, batch_size=0)
    monkeypatch.setattr(CAM, "logits", lambda self, features: features[-1].mean((2, 3))[:, :7] * float("nan"))
    with pytest.raises(RunError, match="not finite"):
        evaluate(run)


def hand_made(has_map: bool, n: int = 6) -> Samples:
    rng = np.random.default_rng(0)
    figures = {name: {figure: rng.random(n) for figure in (*FIGURES, "ceiling")} for name in ("1", "uniform", "centre")}
    return Samples(
        sample_id=tuple(map(str, range(n))),
        group=tuple(map(str, range(n))),
        label=np.array([0, 0, 0, 1, 1, 1]),
        probability=rng.dirichlet(np.ones(3), n),
        has_map=np.full(n, has_map),
        predicted_has_map=np.full(n, has_map),
        region_share=np.full(n, 0.2),
        figures=figures,
    )


def test_a_split_without_maps_has_dashes_not_errors() -> None:
    found = summarise(hand_made(has_map=False), ("a", "b", "c"), 1)
    assert found["n_with_map"] == 0 and found["att_cos"] == {"1": None} and found["controls"]["mean_map"] is None
    assert found["intervals"]["att_cos"] is None and found["per_class"]["c"]["accuracy"] is None
    assert found["cosine_matrix"]["values"] == []
    draw_cosines(found["cosine_matrix"]).canvas.draw()
    text = "\n".join(summary_lines(Path("run"), {**found, "split": "test", "epoch": 1}))
    assert "ATT-COS layer 1" in text and "0 with a map" in text


def test_faces_without_a_region_do_not_count_for_pointing() -> None:
    samples = hand_made(has_map=True)
    blind = replace(samples, region_share=np.array([0, 0.2, 0.2, 0.2, 0.2, 0.2]))
    entry = summarise(blind, ("a", "b", "c"), 1)["localisation"]["attention"]["1"]
    values = samples.figures["1"]
    assert entry["by_class"]["a"]["pointing"] == pytest.approx(values["pointing"][1:3].mean())
    assert entry["by_class"]["a"]["cosine"] == pytest.approx(values["cos"][:3].mean())
