"""A network that reads the mouth alone, on faces whose mouths are as bright as their class's number."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import aupipe
from aupipe.commands.cli import cli
from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_analysis.evaluation.measuring import Samples
from aupipe.fer_analysis.evaluation.occluded import (
    ELSEWHERE,
    MARGIN,
    PARTS,
    Hidden,
    elsewhere,
    measure_occluded,
    part_boxes,
    summarise_occluded,
    write_occluded,
)
from aupipe.fer_analysis.evaluation.occluded_text import occluded_sentences
from aupipe.fer_analysis.report import write_report
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.geometry import inter_ocular
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.shards import Store, TripletRow
from aupipe.fer_data.types import Silent
from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods import Method
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from synthetic import CLASSES, synthetic_store

SIZE, ROWS = 64, 56
CONFIG = TrainConfig(backbone="test_resnet", epochs=1, max_steps=1, batch_size=14, crop_size=56, device="cpu")
LEVELS = 128 + 20 * np.arange(len(CLASSES))  # brighter than the mean colour


def speaking(row: TripletRow) -> TripletRow:
    """Paint the mouth in the grey of the class, the rest in a darker one."""
    image = np.full((SIZE, SIZE, 3), 20, np.uint8)
    x0, y0, x1, y1 = np.rint(part_boxes(row.landmarks[None], "mouth", SIZE)[0] * SIZE).astype(int)
    image[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = LEVELS[row.label]
    return replace(row, image=image)


@pytest.fixture(scope="module")
def speaking_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("occluded")
    return synthetic_store(folder / "store", train=14, val=14, test=ROWS, size=SIZE, map_size=16, change=speaking)


@pytest.fixture
def loader(speaking_store: Store) -> TripletLoader:
    return TripletLoader(speaking_store.split("test"), 25, CONFIG.centre_crop, mode="none")


class Look(nn.Module):
    """The images themselves as the only layer."""

    feature_info = SimpleNamespace(channels=lambda: [3], reduction=lambda: [1])

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images]


class MouthReader(Method):
    """Names the class whose grey is the brightest in the picture."""

    has_cam = False

    def __init__(self, loader: TripletLoader) -> None:
        super().__init__(Backbone("planted", Look()), len(CLASSES))
        self.mean, self.std = loader.mean[:, None, None], loader.std[:, None, None]

    def logits(self, features: tuple[Tensor, ...]) -> Tensor:
        brightest = (255 * (features[0] * self.std + self.mean)).mean(1).amax((1, 2))
        return -(brightest[:, None] - torch.from_numpy(LEVELS)[None]).abs()

    def cam(self, prediction: Any, class_index: Any) -> Tensor:
        raise NotImplementedError


def samples(loader: TripletLoader) -> Samples:
    """A network's answers to the whole faces, all of them right."""
    label, known = loader.reader.labels.astype(np.int64), np.ones(ROWS, bool)
    names, persons = tuple(loader.reader.sample_ids), tuple(loader.reader.groups)
    return Samples(names, persons, label, np.eye(len(CLASSES))[label], known, known, np.full(ROWS, 0.3), {})


# --- boxes ---


def test_a_box_holds_its_landmarks_and_the_margin(loader: TripletLoader) -> None:
    points = loader.reader.landmarks[:5]
    for part, numbers in PARTS.items():
        boxes, chosen = part_boxes(points, part, SIZE) * SIZE - 0.5, points[:, list(numbers)]
        margin = MARGIN * inter_ocular(points)[:, None]
        assert np.allclose(chosen.min(1) - boxes[:, :2], margin, atol=1e-4)
        assert np.allclose(boxes[:, 2:] - chosen.max(1), margin, atol=1e-4)


def test_a_box_ends_at_the_picture_and_is_empty_beside_it(loader: TripletLoader) -> None:
    points = loader.reader.landmarks[:2].copy()
    points[0, :, 1] += SIZE / 3
    points[1] += 10 * SIZE
    boxes = part_boxes(points, "mouth", SIZE)
    assert 0 < boxes[0, 1] < boxes[0, 3] == 1
    assert boxes[1].tolist() == [1, 1, 1, 1]


def test_the_control_is_as_large_lies_inside_and_depends_on_the_row_alone(loader: TripletLoader) -> None:
    boxes, row = part_boxes(loader.reader.landmarks, "mouth", SIZE), np.arange(ROWS)
    moved = elsewhere(boxes, row)
    assert np.allclose(moved[:, 2:] - moved[:, :2], boxes[:, 2:] - boxes[:, :2])
    assert moved.min() >= 0 and moved.max() <= 1 and len(np.unique(moved[:, 0])) == ROWS
    assert np.array_equal(moved[7:9], elsewhere(boxes[7:9], row[7:9]))


# --- a network whose reading is known ---


def test_a_reader_of_mouths_is_found_out(loader: TripletLoader, tmp_path: Path) -> None:
    hidden = measure_occluded(MouthReader(loader), loader, CONFIG.centre_crop, Silent())
    whole = samples(loader)
    found = summarise_occluded(whole, hidden)
    assert found["eyes"]["accuracy"] == 1 and found["eyes"]["lost"] == 0
    mouth = found["mouth"]
    assert mouth["accuracy"] == pytest.approx(1 / len(CLASSES))  # what is left is the darkest class's
    assert mouth["lost"] == pytest.approx(1 - 1 / len(CLASSES)) and mouth["elsewhere"] > 0.8
    assert mouth["lost_more"] == pytest.approx(mouth["elsewhere"] - mouth["accuracy"])
    assert mouth["lost_more_ci95"][0] > 0
    assert 0.03 < mouth["hidden"] < found["eyes"]["hidden"] < 0.5
    said = occluded_sentences({"parts": found})
    assert said[0].startswith("Hiding the eyes costs") and "Hiding the mouth costs more than" in said[1]
    digest = write_occluded(tmp_path / "occluded.csv", whole, hidden, CLASSES)
    with (tmp_path / "occluded.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(digest) == 64 and len(rows) == ROWS and all(row["correct"] == "1" for row in rows)
    assert [row["correct_mouth"] for row in rows] == [str(int(row["label"] == CLASSES[0])) for row in rows]
    shares = [float(row["hidden_mouth" + ELSEWHERE]) / float(row["hidden_mouth"]) for row in rows]
    assert np.allclose(shares, 1, atol=0.25)  # whole pixels


def test_sentences_are_decided_by_the_interval(loader: TripletLoader) -> None:
    whole = samples(loader)
    right, wrong = whole.label, (whole.label + 1) % len(CLASSES)
    half = np.where(np.arange(ROWS) % 2, right, wrong)
    share = np.full(ROWS, 0.1)

    def said(part: np.ndarray, control: np.ndarray) -> str:
        answers = {"mouth": part, "mouth" + ELSEWHERE: control, "eyes": right, "eyes" + ELSEWHERE: right}
        hidden = {name: Hidden(answer, share) for name, answer in answers.items()}
        return occluded_sentences({"parts": summarise_occluded(whole, hidden)})[1]

    assert "costs more than hiding as much elsewhere (by 37" in said(half, right)
    assert "costs less than hiding as much elsewhere" in said(right, half)
    assert "costs no more than hiding as much elsewhere (0.0 to 0.0 points): 50.0% of the faces" in said(half, half)


# --- from the command line ---


def test_the_command_writes_compares_and_measures_again_only_what_is_missing(
    speaking_store: Store, tmp_path: Path
) -> None:
    for seed, name in enumerate(("plain", "au")):
        train(speaking_store.folder, tmp_path / name, replace(CONFIG, seed=seed))
    plain, au = str(tmp_path / "plain"), str(tmp_path / "au")
    evaluate(tmp_path / "plain")
    assert not (tmp_path / "plain" / "occluded.csv").exists()
    first = CliRunner().invoke(cli, ["evaluate", au, "--occlude"])
    assert first.exit_code == 0 and "as much elsewhere" in first.output and "Hiding the mouth costs" in first.output
    content = json.loads((tmp_path / "au" / "metrics.json").read_text())["occluded"]
    assert content["parts"].keys() == PARTS.keys()
    both = CliRunner().invoke(cli, ["evaluate", au, "--against", plain, "--occlude"])
    assert "accuracy mouth hidden, %" in both.output, both.output
    assert "plain is measured: its faces with a part hidden were not measured" in both.output
    assert "au is measured" not in both.output
    again = CliRunner().invoke(cli, ["evaluate", au, "--against", plain, "--occlude"])
    assert "is measured" not in again.output and "accuracy eyes hidden, %" in again.output
    write_report(tmp_path / "au", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "Parts of the face hidden" in text and "Hiding the mouth costs" in text
    evaluate(tmp_path / "au")
    assert not (tmp_path / "au" / "occluded.csv").exists()


def test_a_changed_table_is_measured_again(speaking_store: Store, tmp_path: Path) -> None:
    train(speaking_store.folder, tmp_path / "one", CONFIG)
    aupipe.evaluate(tmp_path / "one", occlude=True)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    table = tmp_path / "two" / "occluded.csv"
    table.write_text(table.read_text().replace("anger", "fear"))
    done = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "one"), "--against", str(tmp_path / "two"), "--occlude"])
    assert "two is measured" in done.output and "one is measured" not in done.output


def test_maps_made_elsewhere_are_not_asked(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="--occlude"):
        evaluate(tmp_path, maps=tmp_path, occlude=True)
