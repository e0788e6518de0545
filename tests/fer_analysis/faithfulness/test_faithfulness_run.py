from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands.faithfulness import faithfulness
from aupipe.fer_analysis.faithfulness import FAITHFULNESS, measure_faithfulness, randomising, summary, summary_line
from aupipe.fer_analysis.faithfulness.summary import two
from aupipe.fer_data.errors import RunError, StoreError, UserInputError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.shards import Store
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from drawings import read_drawing
from planted_patch import planted_store

FILES = ("faithfulness.csv", "faithfulness.json", "faithfulness.png")


@pytest.fixture(autouse=True)
def few_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomising, "DRAWS", 2)


@pytest.fixture(scope="module")
def measured(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(randomising, "DRAWS", 2)
        measure_faithfulness(run, steps=4, device="cpu", out=folder)
    return folder


def content_of(folder: Path) -> dict[str, Any]:
    def refuse(value: str) -> None:
        raise AssertionError(f"{value} is not JSON")

    content: dict[str, Any] = json.loads((folder / FAITHFULNESS).read_text(), parse_constant=refuse)
    return content


def test_every_map_every_control_and_every_read_out_is_there(measured: Path) -> None:
    content = content_of(measured)
    assert set(content["curves"]) == {"attention", "cam", "random_7x7", "centre", "au_map"}
    assert content["curves"]["au_map"]["n"] == content["n_with_map"] == 12 and content["n"] == 14
    assert content["curves"]["random_7x7"]["deletion"]["over_random"] is None
    assert set(content["randomisation"]["maps"]) == {"attention", "cam", "gradcam", "gradcampp", "layercam"}
    assert content["randomisation"]["stages"] == ["head", *(f"layer {number}" for number in (5, 4, 3, 2, 1))]
    assert content["shares_removed"] == [0, 0.25, 0.5, 0.75, 1]
    assert content["faces_sha256"] == sha256_file(measured / "faithfulness.csv")
    read_drawing(measured / "faithfulness.png")
    assert sorted(path.name for path in measured.iterdir()) == ["digests.json", *FILES]


def test_grad_cam_at_the_last_layer_is_cam_under_random_weights_too(measured: Path) -> None:
    """Every read-out meets the very same random networks."""
    maps = content_of(measured)["randomisation"]["maps"]
    assert maps["cam"]["spearman"] == pytest.approx(maps["gradcam"]["spearman"], abs=0.01)
    assert maps["cam"]["spearman"] != pytest.approx(maps["layercam"]["spearman"], abs=0.01)


def test_the_table_has_what_the_figures_are_made_of(measured: Path) -> None:
    content = content_of(measured)
    with (measured / "faithfulness.csv").open() as file:
        rows = list(csv.DictReader(file))

    def mean(name: str) -> float:
        return float(np.mean([float(row[name]) for row in rows if row[name]]))

    assert len(rows) == 14 and sum(row["deletion_au_map"] == "" for row in rows) == 2
    for kind, entry in content["curves"].items():
        for curve in ("deletion", "insertion"):
            assert mean(f"{curve}_{kind}") == pytest.approx(entry[curve]["auc"], abs=1e-6)
            whole = [entry[curve]["curve"][0], entry[curve]["curve"][-1]][curve == "insertion"]
            if entry["n"] == 14:
                assert whole == pytest.approx(content["probability"]["whole"])
    difference = mean("deletion_cam") - mean("deletion_random_7x7")
    assert content["curves"]["cam"]["deletion"]["over_random"]["mean"] == pytest.approx(difference, abs=1e-6)
    used = [
        (row, room)
        for row in rows
        if row["region_share"] and row["label"] == row["predicted"]
        and (room := float(row["probability"]) - float(row["probability_baseline"])) >= content["regions"]["room"]
    ]  # fmt: skip
    assert len(used) == content["regions"]["n"]
    for kind, figures in content["regions"]["removed"].items() if used else ():
        share = np.mean([float(row[f"fall_{kind}"]) / room for row, room in used])
        assert share == pytest.approx(figures["fall"]["mean"], abs=1e-4)
    assert content["accuracy"] == np.mean([row["label"] == row["predicted"] for row in rows])


def test_same_seed_same_bytes_and_nothing_else_is_touched(run: Path, measured: Path, tmp_path: Path) -> None:
    before = {path: sha256_file(path) for path in run.rglob("*") if path.is_file()}
    measure_faithfulness(run, steps=4, device="cpu", out=tmp_path)
    assert {path: sha256_file(path) for path in run.rglob("*") if path.is_file()} == before
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (measured / name).read_bytes(), name


def test_figures_do_not_depend_on_the_batch_size(run: Path, measured: Path, tmp_path: Path) -> None:
    measure_faithfulness(run, steps=4, device="cpu", batch_size=5, out=tmp_path)
    one, other = content_of(measured), content_of(tmp_path)
    falls = [
        [row["fall_inside"] for row in csv.DictReader((at / "faithfulness.csv").read_text().splitlines())]
        for at in (measured, tmp_path)
    ]
    assert [float(fall or 9) for fall in falls[0]] == pytest.approx([float(fall or 9) for fall in falls[1]], abs=1e-4)
    for kind, entry in one["curves"].items():
        assert entry["deletion"]["curve"] == pytest.approx(other["curves"][kind]["deletion"]["curve"], abs=1e-3)
    for name, entry in one["randomisation"]["maps"].items():
        assert entry["spearman"] == pytest.approx(other["randomisation"]["maps"][name]["spearman"], abs=0.03)


def test_a_run_whose_map_needs_a_graph(store: Store, quick: TrainConfig, tmp_path: Path) -> None:
    config = replace(quick, method="gradcam", method_options="layer=2", max_steps=1)
    train(store.folder, tmp_path / "run", config)
    content = measure_faithfulness(tmp_path / "run", limit=5, steps=2, device="cpu").as_json()
    cam, attention = (content["curves"][kind] for kind in ("cam", "attention"))
    assert attention["control"] == "random_7x7" and cam["control"] == "random_14x14"
    assert set(content["randomisation"]["maps"]) == {"attention", "gradcam", "cam", "gradcampp", "layercam"}
    own, plain = (content["randomisation"]["maps"][name]["spearman"] for name in ("gradcam", "cam"))
    assert own != pytest.approx(plain, abs=0.01), "the run's own options hold for its own method"
    assert content_of(tmp_path / "run" / "faithfulness-test-limit-5") == content and content["n"] == 5


def test_a_store_without_au_maps_is_told_from_end_to_end(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "NO_DEPENDENCE", 0)
    planted_store(tmp_path / "store", None)
    options = ["--split", "val", "--limit", "3", "--steps", "2", "--device", "cpu"]
    result = CliRunner().invoke(faithfulness, [str(run), "--store", str(tmp_path / "store"), *options])
    assert result.exit_code == 0
    assert "No face has an AU region" in result.stdout and "3 images of val, 0 with a map" in result.stdout
    for name in FILES:
        (run / "faithfulness-val-limit-3" / name).unlink()
        assert not (run / name).exists()


def test_the_text_names_figures_and_controls(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "ROOM", 1e-9)
    monkeypatch.setattr(summary, "NO_DEPENDENCE", 0)
    lines = measure_faithfulness(run, limit=7, steps=2, device="cpu", baseline="mean", out=tmp_path).lines()
    text = "\n".join(lines)
    for words in ("mean baseline", "control: random order (7 x 7)", "AU regions over", "layercam", "two faces"):
        assert words in text, words


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 0}, "--limit must be 1 or more"),
        ({"steps": 1}, "--steps must be 2 or more"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"batch_size": 0}, "--batch-size must be 1 or more"),
        ({"baseline": "grey"}, "Unknown baseline 'grey'"),
        ({"device": "tpu"}, "The device 'tpu'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(run: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        measure_faithfulness(run, **settings)


def test_what_is_not_there_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="an empty folder, not a run"):
        measure_faithfulness(tmp_path)
    with pytest.raises(StoreError, match="no rows in the split 'dev'"):
        measure_faithfulness(run, split="dev", device="cpu")


def figure(mean: float, low: float, high: float) -> dict[str, Any]:
    return {"mean": mean, "ci95": [low, high]}


def test_the_line_for_a_report() -> None:
    content = {
        "curves": {
            "attention": {
                "control": "random_7x7",
                "deletion": {"auc": 0.31, "over_random": figure(-0.13, -0.2, -0.1)},
                "insertion": {"auc": 0.7, "over_random": figure(0.2, 0.1, 0.3)},
            },
            "random_7x7": {"control": None, "deletion": {"auc": 0.44}, "insertion": {"auc": 0.5}},
        },
        "depends_on_picture": True,
        "regions": {
            "n": 180,
            "removed": {
                "inside": {"fall": figure(0.21, 0, 1)},
                "outside_face": {"fall": figure(0.08, 0, 1)},
                "outside_anywhere": {"fall": figure(0.01, 0, 1)},
            },
            "fall_inside_over": {"outside_face": figure(0.13, 0.09, 0.17), "outside_anywhere": figure(0.2, 0.1, 0.3)},
        },
        "randomisation": {"maps": {"attention": {"final": 0.05, "other_face": 0.4}}},
    }
    assert summary_line(content) == (
        "Removing the AU regions takes .21 of what the face adds to the probability, more than the same area elsewhere "
        "on it, .08 (difference .13, 95 % .09 to .17; 180 faces that are predicted rightly); in the order of attention "
        "deletion .31, below random order's .44 and insertion .70, above random order's .50; randomised weights: "
        "Spearman .05 with the attention before, which between two faces is .40"
    )
    regions, attention = content["regions"], content["curves"]["attention"]
    for low, high, words in (
        (-0.1, 0.3, "probability, no more than can be told from the"), (-0.3, -0.1, "probability, less than the"),
    ):  # fmt: skip
        regions["fall_inside_over"]["outside_face"] = figure(0.13, low, high)
        assert words in summary_line(content)
    for low, high, words in ((-0.1, 0.3, "not told apart from"), (0.1, 0.2, "above")):
        attention["deletion"]["over_random"] = figure(-0.13, low, high)
        assert f"deletion .31, {words} random order's .44" in summary_line(content)
    content["randomisation"]["maps"]["attention"]["final"] = None
    assert summary_line(content).endswith("attention is empty on every face")


def test_a_bound_just_below_nothing_is_not_told_as_nothing() -> None:
    assert [two(value) for value in (0.314, -0.05, 1.0, -1.0, 0.0, -0.003)] == [
        ".31",
        "-.05",
        "1.00",
        "-1.00",
        ".00",
        "-.00",
    ]
