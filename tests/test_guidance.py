"""The program that compares kinds of guidance: its figures by hand, and small trainings from end to end."""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from aupipe.fer_data.shards import TripletRow
from aupipe.fer_models.training.config import TrainConfig
from synthetic import CLASSES, synthetic_store, with_own_aus

CONFIG = TrainConfig(backbone="test_resnet", crop_size=48, batch_size=14, max_steps=1, epochs=1, align_weight=4)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = importlib.import_module("guidance")
    monkeypatch.setattr(module, "CONFIG", CONFIG)
    monkeypatch.setattr(module, "use_threads", lambda _: None)
    return module


def measured(program: ModuleType, right: np.ndarray, areas: np.ndarray, first: str = "0") -> Any:
    """A training's figures: two faces a person."""
    names = (first, *map(str, range(1, len(right))))
    faces = {"accuracy": program.FaceValues(names, np.arange(len(right)) // 2, right)}
    return program.Measured({"accuracy": right.mean(), "within": areas.mean()}, faces, {"within": areas})


def test_a_lead_is_resampled_over_trainings_and_persons(program: ModuleType) -> None:
    rng = np.random.default_rng(0)
    zeros, area = np.zeros(400), rng.normal(0.5, 0.02, program.RESAMPLES)
    theirs = [measured(program, zeros, area)] * 4

    def width(gains: list[np.ndarray]) -> float:
        value, (low, high) = program.lead([measured(program, gain, area) for gain in gains], theirs, "accuracy")
        assert value == pytest.approx(np.mean(gains)) and low <= value <= high
        return float(high - low)

    faces = (rng.random(400) < 0.5).astype(float)
    persons = np.repeat((rng.random(200) < 0.5).astype(float), 2)
    assert width([faces] * 4) == pytest.approx(3.92 * np.sqrt(0.25 / 400), rel=0.15)
    assert width([persons] * 4) == pytest.approx(3.92 * np.sqrt(0.25 / 200), rel=0.15)  # whole persons
    assert width([zeros + gain for gain in (0.1, 0.2, 0.3, 0.4)]) == pytest.approx(0.2, abs=0.03)  # trainings


def test_a_lead_in_area_is_resampled_over_trainings_and_persons(program: ModuleType) -> None:
    rng, zeros = np.random.default_rng(1), np.zeros(40)
    area, gain = rng.normal(0.5, 0.02, (2, program.RESAMPLES))
    theirs = [measured(program, zeros, area)] * 4
    alike = [measured(program, zeros, area + gain - 0.4)] * 4
    value, (low, high) = program.lead(alike, theirs, "within")
    assert value == pytest.approx(0.1, abs=0.002) and high - low == pytest.approx(0.0784, rel=0.1)  # persons
    unlike = [measured(program, zeros, area + 0.1 + 0.02 * seed) for seed in range(4)]
    assert program.lead(unlike, theirs, "within")[1] == pytest.approx((0.11, 0.15), abs=0.006)  # trainings
    assert program.lead(alike, theirs, "within_units") is None
    assert program.lead(alike[:1], theirs[:1], "within")[1] is None
    assert program.lead(alike[:1], theirs[:1], "accuracy") == (0, None)


def test_other_faces_are_never_set_against_one_another(program: ModuleType) -> None:
    zeros = np.zeros(4)
    ours, theirs = [measured(program, zeros, zeros)] * 2, [measured(program, zeros, zeros, "another")] * 2
    with pytest.raises(SystemExit, match="accuracy % was not measured on the same faces everywhere"):
        program.lead(ours, theirs, "accuracy")


def test_an_interval_that_leaves_out_0_is_bold_and_never_ends_in_0(program: ModuleType) -> None:
    assert program._lead((0.0123, (0.001, 0.02)), "accuracy") == "**+1.2 (+0.1 to +2.0)**"
    assert program._lead((0.0123, (0.0003, 0.02)), "accuracy") == "**+1.23 (+0.03 to +2.00)**"
    assert program._lead((0.0123, (-0.001, 0.02)), "within") == "+0.012 (-0.001 to +0.020)"
    assert program._lead((0.0123, None), "within") == "+0.012"


@pytest.mark.parametrize(("gain", "equal"), [(0.0, True), (0.05, False)])
def test_accuracies_are_tested_for_being_equal(program: ModuleType, gain: float, equal: bool) -> None:
    rng = np.random.default_rng(2)
    right = (rng.random((3, 20_000)) < 0.5).astype(float)
    more = np.where(rng.random(right.shape) < gain, 1.0, right)  # of which half were right before
    ours, theirs = ([measured(program, row, row) for row in rows] for rows in (more, right))
    margin = program._margin(program.accuracy_difference(*program.differences(ours, theirs, "accuracy")))
    assert margin.startswith("**") == equal
    assert float(margin.strip("*")) == (0 if equal else pytest.approx(2.5, abs=0.3))


def coded(row: TripletRow) -> TripletRow:
    split, number = row.sample_id.split("/")
    person, label = divmod(int(number), len(CLASSES))
    return replace(row, sample_id=f"S{person}_{label}_{split}", group=f"S{person}")


@pytest.mark.slow
def test_arms_are_trained_measured_and_set_against_one_another(program: ModuleType, tmp_path: Path) -> None:
    plain = synthetic_store(tmp_path / "class", size=56)
    own = synthetic_store(tmp_path / "fused", size=56, change=with_own_aus, config={"aus": "fused"})
    faces = synthetic_store(tmp_path / "coded", train=14, val=14, test=84, size=56, change=coded)
    codes = tmp_path / "facs.csv"
    lines = [f"S{n // 7}_{n % 7},S{n // 7},{CLASSES[n % 7]},{'1+4' if n // 7 % 2 else '12'}" for n in range(84)]
    del lines[:3]  # three faces that nobody coded
    codes.write_text("\n".join(["sequence,subject,emotion,aus", *lines]), encoding="utf-8")
    stores = {"class": plain.folder, "fused": own.folder, "estimated": own.folder, "coded": faces.folder}
    arms = ("none", "per-au", "per-au-other")
    jobs = [program.Job(arm, seed, tmp_path / "out", stores, codes, None) for seed in range(2) for arm in arms]
    assert [program.carry_out(job) for job in jobs][:2] == ["none-s0", "per-au-s0"]
    weights = (jobs[0].folder / "best.pt").stat().st_mtime_ns
    assert program.carry_out(jobs[0]) == "none-s0" and (jobs[0].folder / "best.pt").stat().st_mtime_ns == weights
    program.write(tmp_path / "out", arms, (0, 1, 2))  # of the third seed nothing is there
    rows = list(csv.DictReader((tmp_path / "out" / "guidance.csv").read_text().splitlines()))
    assert [(row["arm"], row["seed"]) for row in rows] == [(arm, str(seed)) for arm in arms for seed in range(2)]
    assert all(bool(row["within_units"]) == row["arm"].startswith("per-au") for row in rows)
    for row in rows:
        folder = tmp_path / "out" / f"{row['arm']}-s{row['seed']}"
        whole, other = (json.loads((place / "metrics.json").read_text()) for place in (folder, folder / "coded"))
        expected = {
            "accuracy": whole["accuracy"],
            "eyes": whole["occluded"]["parts"]["eyes"]["accuracy"],
            "ece": whole["calibration"]["ece"],
            "coded_accuracy": other["coded"]["accuracy"],
            "cosine": other["coded"]["maps"]["attention"]["cosine"],
            "within": other["coded"]["maps"]["attention"]["within"],
        }
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected)
    text = (tmp_path / "out" / "guidance.md").read_text()
    assert text.count("equal within, points |") == 2 and "within the 1 point that was fixed before" in text
    assert (
        "| nothing | 2 |" in text
        and "| `fused`, `--guidance per-au` | the same with another face's weights | 2 |" in text
    )
