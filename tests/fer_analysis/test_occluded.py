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
from aupipe.fer_analysis.evaluation.face_parts import MARGIN, PARTS, covered_share, elsewhere, part_boxes
from aupipe.fer_analysis.evaluation.measuring import Samples
from aupipe.fer_analysis.evaluation.occluded import (
    ELSEWHERE,
    Hidden,
    measure_occluded,
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
    assert covered_share(boxes, moved).max() == 0  # there is room
    wide = np.array([[0.1, 0.2, 0.9, 0.7]])
    assert 0 < covered_share(wide, elsewhere(wide, np.array([3])))[0] < 0.7  # there is none, so the least


def test_the_covered_share_of_a_box() -> None:
    box = np.array([[0.2, 0.2, 0.6, 0.4]])
    for by, share in (((0.4, 0.3, 1, 1), 0.25), ((0, 0, 1, 1), 1), ((0.6, 0.2, 1, 0.4), 0), ((0.3, 0.3, 0.3, 0.4), 0)):
        assert covered_share(box, np.array([by], np.float64)) == pytest.approx(share)
    assert covered_share(np.array([[1.0, 1, 1, 1]]), box) == [0]


# --- a network whose reading is known ---


def test_a_reader_of_mouths_is_found_out(loader: TripletLoader, tmp_path: Path) -> None:
    hidden = measure_occluded(MouthReader(loader), loader, CONFIG.centre_crop, Silent())
    whole = samples(loader)
    found = summarise_occluded(whole, hidden)["parts"]
    assert found["eyes"]["accuracy"] == 1 and found["eyes"]["lost"] == 0
    mouth = found["mouth"]
    assert mouth["accuracy"] == pytest.approx(1 / len(CLASSES))  # what is left is the darkest class's
    assert mouth["lost"] == pytest.approx(1 - 1 / len(CLASSES)) and mouth["elsewhere"] == 1
    assert mouth["lost_more"] == pytest.approx(mouth["elsewhere"] - mouth["accuracy"])
    for name in ("accuracy", "lost", "lost_more"):
        assert mouth[f"{name}_ci95"][0] - 1e-9 <= mouth[name] <= mouth[f"{name}_ci95"][1] + 1e-9
    assert mouth["lost_more_ci95"][0] > 0 and found["eyes"]["accuracy_ci95"][0] < 0.95  # Wilson's
    assert 0.03 < mouth["hidden"] < found["eyes"]["hidden"] < 0.5
    assert mouth["elsewhere_covers"]["mouth"] == 0 < mouth["elsewhere_covers"]["eyes"] < 0.5
    digest = write_occluded(tmp_path / "occluded.csv", whole, hidden, CLASSES)
    with (tmp_path / "occluded.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(digest) == 64 and len(rows) == ROWS and all(row["correct"] == "1" for row in rows)
    assert [row["correct_mouth"] for row in rows] == [str(int(row["label"] == CLASSES[0])) for row in rows]
    shares = [float(row["hidden_mouth" + ELSEWHERE]) / float(row["hidden_mouth"]) for row in rows]
    assert np.allclose(shares, 1, atol=0.25)  # whole pixels


def said(whole: Samples, part: np.ndarray, control: np.ndarray, majority: float) -> str:
    """What is said of the mouth, where the eyes are not missed."""
    answers = {"mouth": part, "mouth" + ELSEWHERE: control, "eyes": whole.label, "eyes" + ELSEWHERE: whole.label}
    share = np.full(ROWS, 0.1)
    hidden = {name: Hidden(answer, share, dict.fromkeys(PARTS, share)) for name, answer in answers.items()}
    counts = [[round(100 * majority), 0], [0, 100 - round(100 * majority)]]
    content = {"accuracy_ci95": [0.6, 0.9], "n": 100, "confusion": {"classes": ["a", "b"], "matrix": counts}}
    return occluded_sentences({**content, "occluded": summarise_occluded(whole, hidden)})[-1]


def test_sentences_are_decided_by_the_interval(loader: TripletLoader) -> None:
    whole = samples(loader)
    right, wrong = whole.label, (whole.label + 1) % len(CLASSES)
    half = np.where(np.arange(ROWS) % 2, right, wrong)
    few = np.where(np.arange(ROWS) < 2, wrong, right)
    assert "Hiding the mouth costs more than hiding as much elsewhere (by 37" in said(whole, half, right, 0.5)
    assert "Hiding the mouth costs less than hiding as much elsewhere (by 37" in said(whole, right, half, 0.5)
    assert "cannot be told (0.0 to 0.0 points): 50.0% of the faces" in said(whole, half, half, 0.5)
    assert "cannot be told (0.0 to 8.9 points)" in said(whole, few, right, 0.5)
    assert said(whole, half, right, 0.7).startswith("It names faces no better than without looking")


def test_where_persons_repeat_persons_are_resampled(loader: TripletLoader) -> None:
    one = samples(loader)
    person = np.arange(ROWS) // 7  # eight persons, each right in all photos or in none
    part = Hidden(np.where(person % 2, one.label, (one.label + 1) % 7), np.full(ROWS, 0.1), {})
    control = Hidden(one.label, np.full(ROWS, 0.1), {})
    hidden = {"mouth": part, "eyes": control, "mouth" + ELSEWHERE: control, "eyes" + ELSEWHERE: control}
    known = replace(one, group=tuple(f"p{number}" for number in person))
    widths = []
    for its in (one, known):
        mouth = summarise_occluded(its, hidden)["parts"]["mouth"]
        ends = [mouth[name] for name in ("accuracy_ci95", "lost_ci95", "lost_more_ci95")]
        widths.append([high - low for low, high in ends])
    assert all(wide > 2 * narrow for narrow, wide in zip(*widths, strict=True))


# --- from the command line ---


@pytest.fixture(scope="module")
def pair(speaking_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate(("plain", "au")):
        train(speaking_store.folder, folder / name, replace(CONFIG, seed=seed, max_steps=8, epochs=4))
    return folder / "plain", folder / "au"


def ours(pair: tuple[Path, Path], tmp_path: Path) -> tuple[str, str]:
    plain, au = (shutil.copytree(run, tmp_path / run.name) for run in pair)
    return str(plain), str(au)


def test_the_command_writes_compares_and_measures_again_only_what_is_missing(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    plain, au = ours(pair, tmp_path)
    evaluate(Path(plain))
    assert not Path(plain, "occluded.csv").exists()
    first = CliRunner().invoke(cli, ["evaluate", au, "--occlude"])
    assert (
        first.exit_code == 0
        and "as much elsewhere  lost more" in first.output
        and "elsewhere: a box of" in first.output
    )
    words = ["evaluate", au, "--against", plain, "--occlude"]
    both = CliRunner().invoke(cli, words)
    assert "plain is measured: its faces with a part hidden were not measured" in both.output
    assert "au is measured" not in both.output and "accuracy mouth hidden, %" in both.output
    again = CliRunner().invoke(cli, words)
    assert "is measured" not in again.output and "accuracy eyes hidden, %" in again.output
    found = json.loads(Path(au, "against-plain.json").read_text())["differences"]
    hidden = [json.loads(Path(one, "metrics.json").read_text())["occluded"]["parts"] for one in (au, plain)]
    for part in PARTS:
        expected = [one[part]["accuracy"] for one in hidden]
        one = found[f"accuracy_{part}_hidden"]
        assert [one["run"], one["other"]] == pytest.approx(expected)
        assert one["difference"] == pytest.approx(expected[0] - expected[1])
    write_report(Path(au), tmp_path / "report.html")
    assert "Parts of the face hidden" in (tmp_path / "report.html").read_text()
    evaluate(Path(au))
    assert not Path(au, "occluded.csv").exists()


def test_a_changed_table_is_measured_again(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plain, au = ours(pair, tmp_path)
    for one in (plain, au):
        aupipe.evaluate(one, occlude=True)
    table = Path(plain, "occluded.csv")
    table.write_text(table.read_text().replace("anger", "fear"))
    done = CliRunner().invoke(cli, ["evaluate", au, "--against", plain])
    assert "plain is measured: its occluded.csv is not the one of its figures" in done.output
    assert "au is measured" not in done.output


@pytest.mark.slow
def test_neither_codes_nor_hidden_parts_are_lost_on_the_way(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plain, au = ours(pair, tmp_path)
    codes = tmp_path / "codes.csv"
    lines = [f"test/{number:04d},{'1+4' if number % 2 else '12'}" for number in range(ROWS)]
    codes.write_text("\n".join(["sample_id,aus", *lines]))
    for one in (plain, au):
        aupipe.evaluate(one, aus=codes)
    refused = CliRunner().invoke(cli, ["evaluate", au, "--against", plain, "--occlude"])
    assert "would lose its figures against coded action units" in str(refused.exception)
    assert all(Path(one, "coded.csv").is_file() for one in (plain, au))
    asked = ["evaluate", au, "--against", plain, "--aus", str(codes)]
    assert CliRunner().invoke(cli, [*asked, "--occlude"]).exit_code == 0
    kept = CliRunner().invoke(cli, asked)
    assert "accuracy mouth hidden, %" in kept.output and "coded cosine" in kept.output


def test_maps_made_elsewhere_are_not_asked(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="--occlude"):
        evaluate(tmp_path, maps=tmp_path, occlude=True)
