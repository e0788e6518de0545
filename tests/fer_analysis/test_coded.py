"""Networks whose attention is known, on faces whose coded action units are known."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from aupipe.commands.models import evaluate as evaluate_command
from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_analysis.evaluation.coded import CodedSplit, choose_coded, measure_coded_split, write_coded_split
from aupipe.fer_analysis.evaluation.coded_faces import NOBODY, coded_faces
from aupipe.fer_analysis.evaluation.coded_maps import Networks, region_scores, unit_scores
from aupipe.fer_analysis.evaluation.coded_text import coded_lines, sentences
from aupipe.fer_analysis.evaluation.figures import draw_coded
from aupipe.fer_analysis.evaluation.predictions import load_metrics
from aupipe.fer_analysis.report import write_report
from aupipe.fer_analysis.report.reading import reading
from aupipe.fer_data.action_units.face_weights import coded_weights
from aupipe.fer_data.action_units.facs import FacsCode, parse_facs
from aupipe.fer_data.action_units.modes import AU_SOURCES, DRAWN_AUS
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_aus
from aupipe.fer_data.errors import ManifestError, RunError, UserInputError
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.manifest.action_units import CodeSource
from aupipe.fer_data.manifest.face_codes import FaceCodes
from aupipe.fer_data.manifest.model import write_manifest
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_data.shards import Store, TripletRow
from aupipe.fer_data.types import Sample, Silent
from aupipe.fer_display.figures import png_bytes
from aupipe.fer_models.au_maps import AuMaps
from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods import Method
from aupipe.fer_models.training import checkpoint
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from drawings import read_drawing
from synthetic import CLASSES, synthetic_store

BOOK = load_codebook("default")
UNITS = (1, 4, 12, 17)  # far apart
SIZE, ROWS = 48, 112
CONFIG = TrainConfig(backbone="test_resnet", epochs=1, max_steps=1, batch_size=14, crop_size=40, device="cpu")


def evaluate_coded(coded: CodedSplit, networks: Networks, loader: TripletLoader, out: Path) -> dict[str, Any]:
    measured = measure_coded_split(coded, networks, loader, Silent())
    return write_coded_split(coded, measured, loader.reader.store, out)


def codes_of(row: int) -> tuple[FacsCode, ...]:
    """Sixteen persons, a face of each class of each; each action unit is a toss."""
    tossed = np.random.default_rng(row).random(len(UNITS)) < 0.5
    return tuple(FacsCode(number) for number in np.array(UNITS)[tossed].tolist())


def glowing(row: TripletRow) -> TripletRow:
    """Let the coded action units shine through instead of the class's."""
    number = int(row.sample_id.split("/")[1])
    codes = codes_of(number) if row.sample_id.startswith("test") else ()
    glow = render_aus(row.landmarks, {code.number: 1.0 for code in codes}, BOOK, SIZE, SIZE)
    image = np.random.default_rng(number).integers(100, 110, (SIZE, SIZE, 3)) + 140 * glow[..., None]
    return replace(row, image=image.astype(np.uint8), group=f"P{number // len(CLASSES)}")


@pytest.fixture(scope="module")
def glow_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("coded")
    return synthetic_store(folder / "store", train=14, val=14, test=ROWS, size=SIZE, map_size=24, change=glowing)


@pytest.fixture(scope="module")
def codes(glow_store: Store) -> FaceCodes:
    found = {f"test/{row:04d}": codes_of(row) for row in range(ROWS)}
    found["test/0000"] = (FacsCode(12), FacsCode(61))
    del found["test/0005"]
    return FaceCodes(found, CodeSource("codes.csv", samples=len(found)), ("a note",))


class Looking(nn.Module):
    """One layer of one channel, 10 x 10: the look at an image."""

    feature_info = SimpleNamespace(channels=lambda: [1], reduction=lambda: [4])

    def __init__(self, look: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.look = look

    def forward(self, images: Tensor) -> list[Tensor]:
        return [F.adaptive_avg_pool2d(self.look(images), 10)]


class Planted(Method):
    """Attention as it is made from the image; the most probable class is always the first."""

    has_cam = False

    def __init__(self, look: Callable[[Tensor], Tensor]) -> None:
        super().__init__(Backbone("planted", Looking(look)), len(CLASSES))

    def logits(self, features: tuple[Tensor, ...]) -> Tensor:
        return torch.eye(self.n_classes)[:1].expand(len(features[0]), -1) * 3

    def cam(self, prediction: Any, class_index: Any) -> Tensor:
        raise NotImplementedError


def bright(images: Tensor) -> Tensor:
    mean = images.mean(1, keepdim=True)
    return (mean - mean.amin((2, 3), keepdim=True) - 0.2).clamp_min(0)


LOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "bright": bright,
    "dark": lambda images: 4 - bright(images),
    "even": lambda images: torch.ones_like(images[:, :1]),
}


@pytest.fixture
def loader(glow_store: Store) -> TripletLoader:
    return TripletLoader(glow_store.split("test"), 25, CONFIG.centre_crop, mode="none")


def measured(look: str, codes: FaceCodes, loader: TripletLoader, out: Path) -> dict[str, Any]:
    coded = choose_coded(codes, None, loader)
    return evaluate_coded(coded, Networks(Planted(LOOKS[look]), Planted(LOOKS["even"])), loader, out)


# --- the faces ---


def test_the_coded_faces_are_chosen_and_the_others_counted(codes: FaceCodes, loader: TripletLoader) -> None:
    faces = coded_faces(codes, loader.reader, 100, BOOK)
    assert len(faces) == 99 and faces.uncoded == 1 and faces.undrawn == {61: 1} and faces.numbers == UNITS
    assert faces.row.tolist() == [row for row in range(100) if row != 5]
    assert faces.shown[0].tolist() == [False, False, True, False]
    there = faces.another != NOBODY
    assert there.all() and len(np.unique(faces.another)) > 50
    assert np.array_equal(faces.label, faces.label[faces.another])
    assert all(faces.group[at] != faces.group[other] for at, other in enumerate(faces.another))
    few = coded_faces(codes, loader.reader, 10, BOOK)  # one face of most classes
    assert few.sample_id == tuple(f"test/{row:04d}" for row in (0, 1, 2, 3, 4, 6, 7, 8, 9))
    assert (few.another == NOBODY).sum() == 3  # of classes with one coded face
    assert not few.shown_by_another[few.another == NOBODY].any()
    with pytest.raises(UserInputError, match="None of the first 3 faces of the split 'test' is coded"):
        coded_faces(FaceCodes({"test/0009": (FacsCode(12),)}, CodeSource()), loader.reader, 3, BOOK)


def test_an_onset_is_told_by_faces_beyond_the_limit(loader: TripletLoader, tmp_path: Path) -> None:
    table, classes = tmp_path / "facs.csv", loader.reader.store.index.classes
    persons = {loader.reader.groups[row] for row in range(loader.rows)}
    table.write_text("\n".join(["subject,aus", *(f"{person},12" for person in sorted(persons))]))
    whole = choose_coded(table, None, loader).codes.codes
    neutral = classes.index("neutral")
    few = TripletLoader(loader.reader, 10, loader.config, mode="none", limit=10)
    found = choose_coded(table, None, few).faces
    assert set(found.sample_id) == whole.keys() & {loader.reader.sample_ids[row] for row in range(10)}
    assert (found.label != neutral).all() and found.uncoded


def test_codes_that_the_codebook_does_not_draw_are_refused(loader: TripletLoader) -> None:
    codes = FaceCodes({"test/0000": (FacsCode(61),)}, CodeSource())
    with pytest.raises(UserInputError, match=r"draws none of the action units.*Got: 61"):
        choose_coded(codes, None, loader)


def test_a_store_of_coded_maps_carries_its_codes(tmp_path: Path) -> None:
    annotated = AU_SOURCES.index("annotated")

    def carrying(row: TripletRow) -> TripletRow:
        its = parse_facs({"3": "1+L14", "4": "0"}.get(row.sample_id[-1], ""))
        weights = np.rint(coded_weights([its])[0] * 255).astype(np.uint8)
        return replace(row, au_weight=weights, au_source=0 if its is None else annotated)

    store = synthetic_store(tmp_path / "store", train=14, val=0, test=28, size=SIZE, change=carrying)
    loader = TripletLoader(store.split("test"), 7, limit=20, mode="none")
    coded = choose_coded(Path("annotated"), None, loader)
    stored = {f"test/{row:04d}": parse_facs("1+L14" if row % 10 == 3 else "0") for row in (3, 4, 13, 14)}
    assert coded.codes.codes == stored and coded.faces.uncoded == 16
    assert coded.faces.numbers == (1, 14)
    with pytest.raises(UserInputError, match="carries no coded action units"):
        choose_coded(Path("annotated"), None, TripletLoader(store.split("test"), 3, limit=3, mode="none"))


def test_a_store_of_class_maps_carries_none(loader: TripletLoader) -> None:
    with pytest.raises(UserInputError, match=r"carries no coded action units.*build-maps --aus annotated.*--aus FILE"):
        choose_coded(Path("annotated"), None, loader)


def test_a_score_is_the_mean_in_the_region_over_the_mean() -> None:
    maps = torch.zeros(3, 4, 4)
    maps[0, :2], maps[1] = 1, 0.3
    regions = torch.zeros(3, 3, 4, 4, dtype=torch.bool)
    regions[:, 0, 0, 0] = regions[:, 1, 1:3] = True
    scores = region_scores(maps, regions)
    assert scores[:, :2].tolist() == [[2, 1], [1, 1], [1, 1]]
    assert scores[:, 2].isnan().all()


# --- planted networks ---


def test_attention_that_shows_this_face_s_action_units_is_found_out(
    codes: FaceCodes, loader: TripletLoader, tmp_path: Path
) -> None:
    found = measured("bright", codes, loader, tmp_path)
    maps, over = found["maps"], found["lead_over"]
    assert maps["attention"]["within"] > 0.95 < maps["true_map"]["within"]
    assert maps["attention"]["within_ci95"][0] > 0.9
    assert maps["untrained"]["within"] == 0.5 and maps["untrained"]["within_ci95"] == (0.5, 0.5)
    for control in ("another", "label_map", "predicted_map"):
        low, high = maps[control]["within_ci95"]
        assert low < 0.5 < high or maps[control]["within"] == pytest.approx(0.5, abs=0.1), control
        assert over[control]["within"][0] > 0.2 and over[control]["cosine"][0] > 0, control
    assert maps["attention"]["cosine"] > 0.85 > maps["another"]["cosine"]
    assert maps["cam"]["within"] is maps["estimate"]["within"] is None
    assert (found["n"], found["n_groups"], found["n_uncoded"]) == (111, 16, 1)
    assert found["by_unit"].keys() == {"1", "4", "12", "17"} and found["by_unit"]["1"]["within"] > 0.9
    said = "\n".join(coded_lines(found))
    assert "Its attention tells faces of one class that show an action unit" in said
    assert "An untrained network of its architecture has 0.500, less by" in said
    assert "and less with that of another face of the class" in said and "which the attention exceeds by" in said
    assert "1 were not coded" in said and "AU 61 (1 faces)" in said and "a note" in said and "(--estimate)" in said
    assert "another program's" not in said
    of_openface = {**found, "source": {"name": "openface.csv", "scale": "OpenFace"}}
    assert "these codes are another program's (OpenFace), not people's" in coded_lines(of_openface)
    assert coded_lines(json.loads(json.dumps(found, sort_keys=True))) == coded_lines(found)
    again = png_bytes(draw_coded(json.loads(json.dumps(found, sort_keys=True))))
    assert again == (tmp_path / "coded.png").read_bytes()
    read_drawing(tmp_path / "coded.png")


def test_attention_elsewhere_or_everywhere_is_no_telling(
    codes: FaceCodes, loader: TripletLoader, tmp_path: Path
) -> None:
    dark = measured("dark", codes, loader, tmp_path)
    assert dark["maps"]["attention"]["within"] < 0.05
    assert "weaker in an action unit's region" in sentences(dark)[0]
    even = measured("even", codes, loader, tmp_path)
    assert even["maps"]["attention"]["within"] == 0.5
    said = " ".join(sentences(even))
    assert "which the attention falls short of by" in said or "not shown to differ from" in said
    assert "Its attention is not shown to tell" in said and "it tells" not in said
    assert even["lead_over"]["untrained"]["within"] == (0, 0)


def test_an_estimate_is_read_beside_it_where_it_says_something(
    codes: FaceCodes, loader: TripletLoader, tmp_path: Path
) -> None:
    rows = [f"test/{row:04d},{int(FacsCode(12) in codes_of(row))},.5" for row in range(1, ROWS)]
    (tmp_path / "t.csv").write_text("\n".join(["sample_id,AU12,AU04", *rows]))
    coded = choose_coded(codes, tmp_path / "t.csv", loader)
    networks = Networks(Planted(bright), Planted(bright))
    found = evaluate_coded(coded, networks, loader, tmp_path)
    assert found["by_unit"]["12"]["estimate"] == 1 and found["by_unit"]["4"]["estimate"] == 0.5
    assert found["by_unit"]["1"]["estimate"] is None
    assert 0.5 < found["maps"]["estimate"]["within"] < 1 and found["maps"]["estimate"]["cosine"] is None
    assert found["maps"]["estimate"]["pairs"] < found["maps"]["attention"]["pairs"]
    assert "(--estimate)" not in "\n".join(coded_lines(found))
    assert "that it was trained is not shown to matter" in sentences(found)[1]


def test_a_lead_is_over_faces_that_have_both_scores(codes: FaceCodes, loader: TripletLoader, tmp_path: Path) -> None:
    """Faces without the action unit lose their score, which must not count as the highest."""
    rows = [f"test/{row:04d},{int(FacsCode(12) in codes_of(row))}" for row in range(1, ROWS)]
    (tmp_path / "t.csv").write_text("\n".join(["sample_id,AU12", *rows]))
    coded = choose_coded(codes, tmp_path / "t.csv", loader)
    measured = measure_coded_split(coded, Networks(Planted(bright), Planted(bright)), loader, Silent())
    smile = coded.faces.numbers.index(12)
    measured.scores["attention"][~coded.faces.shown[:, smile], smile] = np.where(np.arange(99) % 2, np.nan, 0)[
        : (~coded.faces.shown[:, smile]).sum()
    ]
    found = write_coded_split(coded, measured, loader.reader.store, tmp_path)
    assert found["lead_over"]["estimate"]["within"][0] >= 0


def test_too_few_faces_are_said_to_be_too_few(codes: FaceCodes, loader: TripletLoader, tmp_path: Path) -> None:
    few = FaceCodes(dict(list(codes.codes.items())[:40]), codes.source)
    found = measured("bright", few, loader, tmp_path)
    assert found["maps"]["attention"]["within"] is None and found["by_unit"] == {}
    assert found["maps"]["attention"]["cosine"] > 0.8
    said = sentences(found)[0]
    assert "cannot be measured here" in said and "an action unit that 6 coded faces of one class show" in said
    read_drawing(tmp_path / "coded.png")


def test_one_person_has_no_interval(codes: FaceCodes, glow_store: Store, tmp_path: Path) -> None:
    loader = TripletLoader(glow_store.split("test"), 25, CONFIG.centre_crop, mode="none")
    coded = choose_coded(codes, None, loader)
    alone = replace(coded.faces, group=("P",) * len(coded.faces), another=np.full(len(coded.faces), NOBODY))
    networks = Networks(Planted(bright), Planted(bright))
    found = evaluate_coded(CodedSplit(codes, alone, None), networks, loader, tmp_path)
    assert found["maps"]["attention"]["within"] > 0.9 and found["maps"]["attention"]["within_ci95"] is None
    said = " ".join(sentences(found))
    assert "is not shown to tell" in said and "there is no other face of the class" in said


class PlantedAuMaps(AuMaps):
    """Maps as high as a face is bright; of AU 4 as high as it is dark."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, features: Tensor) -> Tensor:
        maps = features.repeat(1, len(DRAWN_AUS), 1, 1) / 4
        maps[:, DRAWN_AUS.index(4)] = 1 - maps[:, DRAWN_AUS.index(4)]
        return maps


def test_maps_of_single_action_units_are_measured_by_their_own_height(
    codes: FaceCodes, loader: TripletLoader, tmp_path: Path
) -> None:
    network = Planted(bright)
    network.au_maps = PlantedAuMaps()
    found = evaluate_coded(choose_coded(codes, None, loader), Networks(network, Planted(bright)), loader, tmp_path)
    areas = {number: one["unit_maps"] for number, one in found["by_unit"].items()}
    assert areas["4"] < 0.1 and min(areas[number] for number in ("1", "12", "17")) > 0.9
    assert 0.6 < found["maps"]["unit_maps"]["within"] < 0.9
    assert "Its maps of single action units tell faces" in " ".join(sentences(found))
    without = evaluate_coded(
        choose_coded(codes, None, loader), Networks(Planted(bright), Planted(bright)), loader, tmp_path
    )
    assert without["maps"]["unit_maps"]["within"] is None and "single action units tell" not in str(sentences(without))


def test_a_single_map_s_score_is_its_mean_in_the_region() -> None:
    maps, regions = torch.zeros(2, len(DRAWN_AUS), 2, 2), torch.ones(2, 3, 4, 4, dtype=torch.bool)
    maps[:, DRAWN_AUS.index(12), 0], regions[:, 0, 2:], regions[1, 0] = 0.5, False, False
    scores = unit_scores(maps, (12, 99, 1), regions)
    assert scores[0, 0] > 0.4 and scores[1, 0].isnan() and scores[:, 1].isnan().all() and (scores[:, 2] == 0).all()


# --- a run ---


@pytest.fixture(scope="module")
def manifest(glow_store: Store, codes: FaceCodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifest")
    samples = [
        Sample(name, f"{name}.png", "fear", "fear", "test", aus=codes.codes.get(name))
        for name in glow_store.split("test").sample_ids
    ]
    write_manifest(folder / "M.csv", samples, root=folder, layout="csv")
    return folder / "M.csv"


@pytest.fixture(scope="module")
def run(glow_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(glow_store.folder, folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def content(run: Path, manifest: Path) -> dict[str, Any]:
    return evaluate(run, aus=manifest).as_json()


def test_a_run_s_figures_are_those_of_its_table(run: Path, content: dict[str, Any]) -> None:
    stored = load_metrics(run)
    assert stored == json.loads(json.dumps(content)) and stored["coded"]["source"]["name"] == "M.csv"
    with (run / "coded.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 111 and {row["aus"] for row in rows} >= {"0", "1+4", "12+61"}
    for name in ("attention", "cam", "untrained", "true_map"):
        won, pairs = 0.0, 0
        for unit in UNITS:
            for label in CLASSES:
                here = [row for row in rows if row["label"] == label]
                shown = np.array([str(unit) in row["aus"].split("+") for row in here])
                if min(shown.sum(), (~shown).sum()) >= 6:
                    scores = [float(row[f"{name}_AU{unit}"]) for row in here]
                    weight = int(shown.sum() * (~shown).sum())
                    won, pairs = won + weight * float(roc_auc_score(shown, scores)), pairs + weight
        assert stored["coded"]["maps"][name]["within"] == pytest.approx(won / pairs, abs=1e-3), name
        assert stored["coded"]["maps"][name]["pairs"] == pairs
        means = [
            np.mean(found)
            for label in CLASSES
            if (found := [float(row[f"cos_{name}"]) for row in rows if row["label"] == label and row["aus"] != "0"])
        ]
        assert stored["coded"]["maps"][name]["cosine"] == pytest.approx(np.mean(means), abs=1e-5)
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert stored["coded"]["accuracy"] == pytest.approx(right)


def test_the_untrained_network_is_the_same_each_time(run: Path, content: dict[str, Any]) -> None:
    record, trained, _ = checkpoint.load_best(run, torch.device("cpu"))
    state = torch.get_rng_state()
    first, second = (checkpoint.untrained_model(record, torch.device("cpu")).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert first.keys() == trained.state_dict().keys()
    assert any(not torch.equal(value, trained.state_dict()[name]) for name, value in first.items())
    assert content["coded"]["maps"]["untrained"] != content["coded"]["maps"]["attention"]


def test_the_report_shows_them(run: Path, content: dict[str, Any], tmp_path: Path) -> None:
    write_report(run, tmp_path / "report.html", device="cpu", examples=1)
    page = (tmp_path / "report.html").read_text()
    assert "Coded action units" in page and "By action unit" in page and "data:image/png" in page
    assert set(sentences(content["coded"])) <= set(reading(content))


def test_without_codes_nothing_of_them_is_left(run: Path, content: dict[str, Any]) -> None:
    plain = evaluate(run)
    assert "coded" not in plain.content and not (run / "coded.csv").exists() and not (run / "coded.png").exists()
    assert plain.content == {name: value for name, value in content.items() if name != "coded"}


def test_figures_that_do_not_add_up_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    for part in ("maps", "lead_over", "n"):
        changed = copy.deepcopy(content)
        del changed["coded"][part]
        write_recorded(tmp_path / "metrics.json", json.dumps(changed).encode())
        with pytest.raises(RunError, match="older version"):
            load_metrics(tmp_path)
    changed = copy.deepcopy(content)
    del changed["coded"]["maps"]["untrained"]
    write_recorded(tmp_path / "metrics.json", json.dumps(changed).encode())
    with pytest.raises(RunError, match="others than those that are measured"):
        load_metrics(tmp_path)


def command(*words: object) -> Result:
    return CliRunner().invoke(evaluate_command, [*map(str, words)], standalone_mode=False)


def test_the_command_refuses_what_it_cannot_use(run: Path, manifest: Path, tmp_path: Path) -> None:
    assert "give these with --aus" in str(command(run, "--estimate", manifest).exception)
    other = tmp_path / "other.csv"
    text = manifest.read_text()
    for changed, said in (
        (text.replace("test/", "elsewhere/"), "of another dataset"),
        (text + text.splitlines()[-1] + "\n", "already"),
        (text.replace("12+61", "12+3"), "FACS has no action unit 3"),
    ):
        other.write_text(changed)
        refused = command(run, "--aus", other)
        assert isinstance(refused.exception, ManifestError) and said in str(refused.exception)
    printed = command(run, "--aus", manifest, "--limit", 60)
    assert "action units coded on the faces (M.csv, FACS): 59 faces of" in printed.output
