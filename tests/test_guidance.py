"""The program that compares kinds of guidance: its figures by hand, and small trainings from end to end."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Mapping
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


def measured(program: ModuleType, right: np.ndarray, areas: np.ndarray) -> Any:
    figures: Mapping[str, float] = {"accuracy": float(right.mean()), "within": float(areas.mean())}
    return program.Measured(figures, {"accuracy": right}, {"accuracy": np.arange(len(right)) // 2}, {"within": areas})


def test_a_lead_is_resampled_over_trainings_and_persons(program: ModuleType) -> None:
    rng = np.random.default_rng(0)
    worse = [(rng.random(400) < 0.5).astype(float) for _ in range(4)]
    better = [np.maximum(one, rng.random(400) < 0.2) for one in worse]
    area = rng.normal(0.5, 0.02, program.RESAMPLES)
    ours = [measured(program, one, area + 0.1 + 0.02 * seed) for seed, one in enumerate(better)]
    theirs = [measured(program, one, area) for one in worse]
    value, (low, high) = program.lead(ours, theirs, "accuracy")
    assert value == pytest.approx(np.mean(better) - np.mean(worse)) and 0.05 < low < value < high < 0.2
    value, (low, high) = program.lead(ours, theirs, "within")
    assert value == pytest.approx(0.13) and 0.105 < low < value < high < 0.155  # the trainings alone differ
    assert program.lead(theirs, theirs, "accuracy") == (0, (0, 0))
    assert program.lead(ours, theirs, "within_units") is None


def test_an_interval_that_leaves_out_0_is_bold(program: ModuleType) -> None:
    assert program._lead((0.0123, (0.001, 0.02)), "accuracy") == "**+1.2 (+0.1 to +2.0)**"
    assert program._lead((0.0123, (-0.001, 0.02)), "within") == "+0.012 (-0.001 to +0.020)"


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
    assert all(row[name] for row in rows for name in program.FIGURES if name != "within_units")
    text = (tmp_path / "out" / "guidance.md").read_text()
    assert (
        "| nothing | 2 |" in text
        and "| `fused`, `--guidance per-au` | the same with another face's weights | 2 |" in text
    )
