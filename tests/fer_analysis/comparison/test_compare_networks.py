"""``aupipe compare RUN...``: global maps of real runs and of planted models, from a store to the report."""

from __future__ import annotations

import csv
import importlib
import io
import json
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import planted_models
import synthetic
from aupipe.commands import cli
from aupipe.fer_analysis.comparison import explainers
from aupipe.fer_analysis.comparison.canonical import HEIGHT, WIDTH, canonical_face
from aupipe.fer_analysis.comparison.classifiers import RunClassifier, load_external, load_runs
from aupipe.fer_analysis.comparison.explainers import Settings, create_explainer
from aupipe.fer_analysis.comparison.figures import draw_maps
from aupipe.fer_analysis.comparison.global_maps import (
    GlobalMap,
    choose_rows,
    cut_face,
    iou_interval,
    load_map,
    save_map,
)
from aupipe.fer_analysis.comparison.map_maker import MapOptions, few_faces, map_set
from aupipe.fer_analysis.comparison.masks import study_masks
from aupipe.fer_analysis.comparison.run import ExternalModel, compare_folder, compare_networks
from aupipe.fer_analysis.comparison.scores import count_levels, otsu_iou
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.shards import Store, TripletRow
from aupipe.fer_display.map_rows import EMPTY
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from planted_models import mouth_reader
from run_files import rewrite

CONFIG = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=48, max_steps=1, device="cpu")
MOUTH = ExternalModel("planted_models:mouth_reader", normalisation="none")
PLANTED = MapOptions(images=2, select="labelled", samples=120, device="cpu", resamples=0)
FACE = canonical_face("own")


@pytest.fixture(scope="module")
def runs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("networks")
    for name, seed in (("first", 0), ("second", 1)):
        train(store.folder, folder / name, replace(CONFIG, seed=seed))
    return [folder / "first", folder / "second"]


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of pictures without noise, which superpixels can follow."""
    rows = synthetic.synthetic_rows

    def blurred(*arguments: Any) -> list[TripletRow]:
        return [replace(row, image=cv2.GaussianBlur(row.image, (0, 0), 3)) for row in rows(*arguments)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "synthetic_rows", blurred)
        return synthetic.synthetic_store(tmp_path_factory.mktemp("smooth"), train=7, val=7, test=14)


def external(spec: str, n_classes: int = 7, weights: Path | None = None, **settings: Any) -> Any:
    fixed = {"crop": 64, "input_size": None, "normalisation": "none", "device": torch.device("cpu")}
    return load_external(spec, weights, n_classes, **{**fixed, **settings})


def mouth(margin: int = 0) -> np.ndarray:
    """The lips on the canonical face, and what lies about them closer than ``margin`` pixels."""
    hull = cv2.convexHull(FACE.points[48:60].astype(np.float32))
    drawn = cv2.fillConvexPoly(np.zeros((HEIGHT, WIDTH), np.uint8), np.rint(hull).astype(np.int32), 1)
    return np.asarray(cv2.dilate(drawn, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)), bool)


@pytest.mark.parametrize("explainer", ["lime", "occlusion"])
def test_a_model_that_reads_only_the_mouth_is_found_out(explainer: str, smooth: Store, tmp_path: Path) -> None:
    options = replace(PLANTED, explainer=explainer)
    found = compare_networks([], smooth.folder, tmp_path, options, [MOUTH], pictures=False)
    assert found.maps.networks == ("mouth_reader",) and found.maps.present.all()
    about = mouth(margin=20)
    assert about.mean() < 0.13
    for picture in found.maps.maps[0].astype(np.float64):
        assert picture[about].sum() / picture.sum() > 0.6
    assert found.masks is not None
    held = found.masks.masks[:, mouth()].mean(1)
    iou = otsu_iou(count_levels(found.maps.maps[0], found.masks.masks)).mean(0)
    assert set(np.argsort(held)[-2:]) == set(np.argsort(iou)[-2:]), "the masks with most of the mouth score best"


def test_a_cam_is_read_out_as_the_method_draws_it(runs: list[Path], smooth: Store) -> None:
    (network,) = load_runs(runs[:1], smooth.index.classes, torch.device("cpu"))
    assert isinstance(network, RunClassifier)
    image, points = cut_face(smooth.split("test"), 3, 48)
    assert np.array_equal(image, smooth.split("test").image(3)[8:56, 8:56])
    assert np.array_equal(points, smooth.split("test").landmarks[3] - 8)
    batch = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - 0.45) / 0.2
    out = network.model.read(batch)
    assert torch.allclose(
        network.probabilities(torch.from_numpy(image).permute(2, 0, 1)[None] / 255), out.logits.softmax(1)
    )
    for target in range(7):
        drawn = network.model.cam(out, torch.tensor([target])).detach()[0].clamp_min(0).numpy()
        found = create_explainer("cam", Settings()).explain(network, image, target, "x").values
        assert found == pytest.approx(cv2.resize(drawn, (48, 48), interpolation=cv2.INTER_LINEAR), abs=1e-4)


def test_runs_are_compared_from_the_command_line(runs: list[Path], tmp_path: Path) -> None:
    drawn = study_masks(FACE)
    (tmp_path / "masks").mkdir()
    for name in ("anger", "surprise"):
        mask = drawn.masks[drawn.expressions.index(name)]
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), mask.astype(np.uint8) * 255)
    out = tmp_path / "out"
    arguments = ["compare", *runs, "--out", out, "--masks", tmp_path / "masks", "--explainer", "attention", "--images",
                 2, "--select", "labelled", "--device", "cpu", "--resamples", 20, "--json"]  # fmt: skip
    done = CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["networks"] == ["first", "second"] and content["expressions"] == ["anger", "surprise"]
    assert {one["expression"]: one["reason"] for one in content["left_out"]} == dict.fromkeys(
        ("disgust", "fear", "happiness", "sadness", "neutral"), "no mask"
    )
    with (out / "faces.csv").open() as file:
        faces = list(csv.DictReader(file))
    assert len(faces) == 4 and {row["used"] for row in faces} == {"2"} and {row["mean_r2"] for row in faces} == {""}
    assert all(float(row["iou_low"]) <= float(row["iou_high"]) for row in faces)
    page = (out / "results.md").read_text()
    assert "explainer: attention" in page and "mean in face" in page and "test_resnet" in page
    assert (out / "dendrogram_overall.png").is_file()
    picture = cv2.imread(str(out / "maps" / "first_anger.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (HEIGHT, WIDTH) and (picture.min(), picture.max()) == (0, 255)
    again = compare_folder(out / "maps", str(tmp_path / "masks"), tmp_path / "again", shape="own", pictures=False)
    assert again.as_json()["scores"] == content["scores"]
    assert again.as_json()["merge_heights"] == content["merge_heights"]


def test_a_comparison_continues_where_it_stopped(
    runs: list[Path], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(PLANTED, explainer="attention", images=1)
    first = compare_networks(runs[:1], store.folder, tmp_path, options, pictures=False)
    monkeypatch.setattr(explainers.Attention, "explain", lambda *arguments: 1 / 0)
    again = compare_networks(runs[:1], store.folder, tmp_path, options, pictures=False)
    assert np.array_equal(first.maps.maps, again.maps.maps) and first.as_json() == again.as_json()
    with pytest.raises(ZeroDivisionError):
        compare_networks(runs[:1], store.folder, tmp_path, replace(options, seed=1), pictures=False)
    (tmp_path / "maps" / "first_fear.npz").write_bytes(b"cut short")
    with pytest.raises(ZeroDivisionError):
        compare_networks(runs[:1], store.folder, tmp_path, options, pictures=False)


def test_rows_are_chosen_by_seed_and_selection(store: Store) -> None:
    reader = store.split("train")
    predicted = reader.labels.astype(np.int64)
    predicted[::2] = 3
    for select, wanted in (
        ("labelled", reader.labels == 3),
        ("predicted", predicted == 3),
        ("correct", (predicted == 3) & (reader.labels == 3)),
    ):
        rows, available = choose_rows(reader, predicted, 3, select, 1000, 0)
        assert rows == np.flatnonzero(wanted).tolist() and available == len(rows)
    some = [choose_rows(reader, predicted, 3, "predicted", 5, seed)[0] for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2] and len(some[0]) == 5


def test_classes_nobody_predicts_are_left_out(store: Store, tmp_path: Path) -> None:
    options = replace(PLANTED, select="correct", images=1, explainer="occlusion")
    found = compare_networks([], store.folder, tmp_path, options, [MOUTH], pictures=False)
    assert found.maps.present.tolist() == [[True, False, False, False, False, False]]
    assert sum(one.reason == "no face to explain: none was selected" for one in found.maps.left_out) == 5
    assert found.scoring is not None and found.scoring.controls is None
    assert "no mean to compare" in (tmp_path / "results.md").read_text()


def test_a_global_map_counts_only_valid_pixels(tmp_path: Path) -> None:
    mean = np.zeros((HEIGHT, WIDTH), np.float32)
    mean[10, 10], mean[20, 20], mean[30, 30] = 3.0, 1.0, 9.0
    n = np.zeros((HEIGHT, WIDTH), np.int32)
    n[10, 10], n[20, 20] = 2, 1
    made = GlobalMap(mean, mean * 0, n, 5, 2, fit=0.5, interval=(0.1, 0.2))
    assert made.picture[10, 10] == 255 and made.picture[20, 20] == 0 and made.picture[30, 30] == 0
    save_map(tmp_path, "a_anger", made, "key")
    back = load_map(tmp_path, "a_anger", "key")
    assert back is not None and np.array_equal(back.mean, mean) and back.interval == (0.1, 0.2) and back.used == 2
    assert load_map(tmp_path, "a_anger", "other") is None and load_map(tmp_path, "b", "key") is None


def test_the_interval_of_equal_faces_is_a_point() -> None:
    values = np.zeros((HEIGHT, WIDTH), np.float32)
    values[50:150, 60:160] = 1
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[50:100, 60:160] = True
    same = np.stack([values] * 3)
    assert iou_interval(same, np.ones(same.shape, bool), mask, np.arange(3), 10) == pytest.approx((0.5, 0.5))
    assert iou_interval(same, np.ones(same.shape, bool), mask, np.zeros(3, np.int64), 10) is None  # of one person
    other = np.stack([values, values[::-1], np.roll(values, 70, 0)])
    found = iou_interval(other, np.ones(same.shape, bool), mask, np.arange(3), 60)
    assert found is not None and found[0] < 0.3 < found[1]


def test_persons_are_drawn_with_all_their_faces() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[50:150, 60:160] = True
    kinds = np.stack([np.roll(mask, 15 * shift, 0) for shift in range(6)]).astype(np.float32)
    values = np.repeat(kinds, 5, 0) + rng.normal(0, 0.01, (30, HEIGHT, WIDTH)).astype(np.float32)
    valid = np.ones(values.shape, bool)
    faces, persons = (iou_interval(values, valid, mask, of, 60) for of in (np.arange(30), np.repeat(np.arange(6), 5)))
    assert faces is not None and persons is not None
    assert persons[1] - persons[0] > 1.5 * (faces[1] - faces[0])


def test_external_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"\(2, 7\).*Got: \(2, 5\)"):
        external("planted_models:wrong_size")
    assert external("planted_models:wrong_size", 5).input_size == 64
    for spec, message in (
        ("nowhere_to_be:found", "cannot be imported"),
        ("planted_models:missing", "cannot be imported"),
        ("planted_models:no_module", "does not build a torch module"),
        ("planted_models", "no function or class"),
    ):
        with pytest.raises(UserInputError, match=message):
            external(spec)
    torch.save({"other": torch.zeros(1)}, tmp_path / "w.pt")
    for name in ("w.pt", "absent.pt"):
        with pytest.raises(RunError, match="weights"):
            external("planted_models:mouth_reader", weights=tmp_path / name)
    with pytest.raises(UserInputError, match="--input-size"):
        external("planted_models:fixed_size", input_size=48)


def test_weights_and_normalisation_reach_the_model(tmp_path: Path) -> None:
    trained = mouth_reader(7)
    trained.load_state_dict({"gain": torch.tensor(8.0)})
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    images = torch.full((1, 3, 64, 64), 0.75)
    found = external("planted_models:mouth_reader", weights=tmp_path / "w.pt", normalisation="half")
    level = torch.tensor([8.0 * (0.75 - 0.5) / 0.5] * 6 + [0.0])
    assert torch.allclose(found.probabilities(images)[0], level.softmax(0))


def test_what_cannot_be_compared_is_told(runs: list[Path], store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="Give --store"):
        compare_networks([], None, tmp_path, PLANTED, [MOUTH])
    rebuilt = Path(shutil.copytree(runs[0], tmp_path / "rebuilt"))
    rewrite(rebuilt / "config.json", store=str(store.folder), store_digest="0" * 64)
    with pytest.raises(RunError, match="not the one that the run was trained on"):
        compare_networks([rebuilt], None, tmp_path / "new", PLANTED)
    with pytest.raises(UserInputError, match=r"same name: \S+first"):
        compare_networks([runs[0]] * 2, store.folder, tmp_path, PLANTED)
    with pytest.raises(UserInputError, match="correct, predicted, labelled"):
        MapOptions(select="all")
    with pytest.raises(UserInputError, match="--shape"):
        compare_folder(_maps(tmp_path / "maps"), "study", tmp_path / "out")
    with pytest.raises(UserInputError, match="224 x 275"):
        compare_folder(tmp_path / "maps", "study", tmp_path / "out", shape="own")
    for arguments in ([], ["--out", "o"], ["--out", "o", "run", "--maps", "m"], ["--out", "o", "--model", "a:b",
                      "--weights", "x", "--weights", "y"]):  # fmt: skip
        assert CliRunner().invoke(cli.cli, ["compare", *arguments]).exit_code == 2


def _maps(folder: Path) -> Path:
    folder.mkdir()
    cv2.imwrite(str(folder / "a_fear.png"), np.eye(9, dtype=np.uint8))
    return folder


def test_a_network_without_numbers_is_named(smooth: Store, tmp_path: Path) -> None:
    torch.save({"gain": torch.tensor(float("nan"))}, tmp_path / "w.pt")
    broken = replace(MOUTH, weights=tmp_path / "w.pt")
    with pytest.raises(RunError, match=r"mouth_reader does not answer in numbers.*--normalisation"):
        compare_networks([], smooth.folder, tmp_path / "out", PLANTED, [broken])


def test_one_network_with_several_weights_is_named_by_them(smooth: Store, tmp_path: Path) -> None:
    models = []
    for name, gain in (("first", 3.0), ("second", 6.0)):
        torch.save({"gain": torch.tensor(gain)}, tmp_path / f"{name}.pt")
        models.append(replace(MOUTH, weights=tmp_path / f"{name}.pt"))
    compared = compare_networks([], smooth.folder, tmp_path / "out", PLANTED, models)
    assert compared.maps.networks == ("mouth_reader-first", "mouth_reader-second")


def test_a_changed_factory_is_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    source = Path(planted_models.__file__).read_text()

    def identity(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        sys.modules.pop("mine", None)
        importlib.invalidate_caches()
        return str(external("mine:mouth_reader").identity)

    first = identity(source)
    assert identity(source) == first
    assert len({first, identity(source + "# changed\n"), identity(source.replace("3.0", "4.0"))}) == 3


@pytest.mark.parametrize("damage", ["cut", "huge header", "nan", "other shape", "text"])
def test_a_damaged_map_is_made_anew(tmp_path: Path, damage: str) -> None:
    ones = np.ones((HEIGHT, WIDTH), np.float32)
    save_map(tmp_path, "a_fear", GlobalMap(ones, ones, ones.astype(np.int32), 2, 2, 0.5, (0.1, 0.2)), "key")
    path = tmp_path / "a_fear.npz"
    assert load_map(tmp_path, "a_fear", "key") is not None and load_map(tmp_path, "a_fear", "other") is None
    with np.load(path) as stored:
        content = dict(stored)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "text":
        path.write_text("no map")
    elif damage == "huge header":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
        np.savez(path, **{name: values for name, values in content.items() if name != "mean"})
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("mean.npy", header.getvalue())
    else:
        mean = ones * np.nan if damage == "nan" else ones[:4]
        np.savez_compressed(path, **{**content, "mean": mean})
    assert load_map(tmp_path, "a_fear", "key") is None


def global_map(used: int, reached: int) -> GlobalMap:
    """A map of ``used`` faces, of which ``reached`` have the left half."""
    mean, n = np.zeros((HEIGHT, WIDTH), np.float32), np.full((HEIGHT, WIDTH), used, np.int32)
    mean[:, :100], n[:, :100] = 1, reached
    return GlobalMap(mean, mean, n, used, used)


def test_pixels_fade_as_fewer_faces_reach_them() -> None:
    maps = map_set(["net"], ["fear"], {("net", "fear"): global_map(8, 2)}, ["fear"])
    assert maps.support is not None
    assert maps.support[0, 0, 0, 0] == 0.25 and maps.support[0, 0, 0, -1] == 1
    shown = [draw_maps(one, None).axes[0].images[0].get_array() for one in (replace(maps, support=None), maps)]
    whole, faded = (np.asarray(one) for one in shown)
    np.testing.assert_allclose(faded[:, :100], EMPTY + (whole[:, :100] - EMPTY) * 0.25, atol=1e-6)
    np.testing.assert_allclose(faded[:, 100:], whole[:, 100:], atol=1e-9)


def test_few_rightly_predicted_faces_are_noted_with_the_way_out() -> None:
    found: dict[tuple[str, str], GlobalMap | str] = {
        ("net", "fear"): global_map(9, 9),
        ("net", "anger"): global_map(10, 10),
        ("net", "sadness"): "no face",
    }
    (note,) = few_faces(found, "correct")
    assert note.startswith("fewer than 10 rightly predicted faces: net fear, net sadness;")
    assert "--select labelled" in note and few_faces(found, "labelled") == ()
    assert few_faces({("net", "fear"): global_map(100, 5)}, "correct") == (), "--images asked for no more"
