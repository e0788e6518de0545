"""Figures read back from a run: what was written, or one paragraph. Files without digests are of old versions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aupipe.fer_analysis.evaluation.averages import AverageMaps, read_averages, save_averages
from aupipe.fer_analysis.evaluation.predictions import load_metrics
from aupipe.fer_analysis.evaluation.summary import CONTROLS
from aupipe.fer_analysis.faithfulness import load_faithfulness
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_models.training.measured_run import outdated, results_folder

CLASSES = ("anger", "fear")
OVER = dict.fromkeys(CONTROLS)
FIGURES = {"n": 3, "cosine": 0.5}
GROUP = {
    "all": FIGURES, "correct": FIGURES, "wrong": {"n": 0, "cosine": None},
    "by_class": dict.fromkeys(CLASSES, FIGURES), "by_predicted": {},
}  # fmt: skip
METRICS: dict[str, Any] = {
    "accuracy": 0.5, "accuracy_ci95": [0.4, 0.6], "balanced_accuracy": 0.5,
    "calibration": {"ece": 0.1, "nll": 1.0, "brier": 0.5},
    "intervals": {
        "classes_of_one_face": [], "accuracy": [0.4, 0.6], "balanced_accuracy": None, "att_cos": None,
        "att_cos_over": OVER, "att_specificity": None, "att_specificity_nearest": None,
        "cam_cos": None, "cam_cos_over": OVER, "cam_specificity": None, "cam_specificity_nearest": None,
    },
    "cam_cos": None, "att_cos": {"1": 0.5},
    "per_class": {name: {"cam_cos": None, "att_cos": {"1": 0.5}} for name in CLASSES},
    "cosine_matrix": {"classes": ["anger"], "counts": [3], "maps": ["1"], "values": [[0.5]]},
    "confusion": {"classes": list(CLASSES), "matrix": [[1, 2], [0, 0]]},
    "controls": {"uniform": 0.5, "centre": 0.5, "mean_map": None, "predicted_map": None, "wrong_class": None,
                 "ceiling": None},
    "localisation": {
        "chance": {}, "attention": {"1": GROUP}, "cam": None, "cam_predicted": None,
        "controls": {"uniform": GROUP, "centre": GROUP, "mean_map": None, "predicted_map": GROUP, "au_map": GROUP},
    },
    "n": 3, "n_with_map": 3, "n_groups": 3, "predictions_sha256": "0", "split": "test", "limit": None,
    "store_digest": "s", "codebook_digest": "c", "checkpoint": "best.pt", "epoch": 1, "crop_size": 48,
}  # fmt: skip
FALL = {"mean": 0.1, "ci95": [0.0, 0.2]}
AREA = {"control": "random", **{curve: {"auc": 0.5, "over_random": FALL} for curve in ("deletion", "insertion")}}
FAITHFUL: dict[str, Any] = {
    "depends_on_picture": True,
    "curves": {"attention": AREA, "random": {**AREA, "control": None}},
    "regions": {
        "n": 3, "n_with_region": 5, "n_right": 4, "room": 0.1,
        "removed": {name: {"fall": FALL} for name in ("inside", "outside_face", "outside_anywhere")},
        "fall_inside_over": {"outside_face": FALL},
    },
    "randomisation": {"maps": {"attention": {"final": None, "other_face": None}}},
    "split": "test", "limit": 200, "store_digest": "s",
}  # fmt: skip


def changed(content: dict[str, Any], path: tuple[str, ...], value: object) -> bytes:
    """The content as JSON with one part replaced; None removes it."""
    result = copy.deepcopy(content)
    part = result
    for name in path[:-1]:
        part = part[name]
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return json.dumps(result).encode()


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("value", [None, [[[]]]], ids=["gone", "other"])
def test_every_part_of_the_metrics_is_needed(tmp_path: Path, name: str, value: object) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    assert load_metrics(tmp_path) == METRICS
    (tmp_path / "metrics.json").write_bytes(changed(METRICS, (name,), value))
    with pytest.raises(RunError, match="figures are damaged"):
        load_metrics(tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("att_cos",), {}), (("att_cos",), {"last": 0.5}), (("localisation", "attention"), {}), (("n",), 0),
        (("confusion", "matrix"), [[1]]), (("per_class",), {}), (("cosine_matrix", "values"), [[0.5, 0.5]]),
        (("localisation", "controls", "uniform"), None), (("localisation", "attention", "1", "all"), {"n": 3}),
    ],
    ids=str,
)  # fmt: skip
def test_parts_of_the_metrics_must_add_up(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    (tmp_path / "metrics.json").write_bytes(changed(METRICS, path, value))
    with pytest.raises(RunError, match="do not add up"):
        load_metrics(tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("curves",), {}), (("curves", "attention", "control"), "other"), (("curves", "random"), None),
        (("regions", "removed", "inside"), None), (("regions", "fall_inside_over"), {}), (("regions", "n"), "3"),
        (("randomisation", "maps"), {}), (("curves", "attention", "deletion"), {"auc": "x"}), (("store_digest",), 3),
        (("curves", "attention", "insertion", "over_random"), None),
    ],
    ids=str,
)  # fmt: skip
def test_every_part_of_the_faithfulness_that_is_read_is_needed(
    tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    assert load_faithfulness(tmp_path) is None
    (tmp_path / "faithfulness.json").write_text(json.dumps(FAITHFUL))
    assert load_faithfulness(tmp_path) == FAITHFUL
    (tmp_path / "faithfulness.json").write_bytes(changed(FAITHFUL, path, value))
    with pytest.raises(RunError, match="faithfulness figures are damaged"):
        load_faithfulness(tmp_path)


def arrays() -> dict[str, np.ndarray]:
    maps = np.linspace(0, 1, 2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4)
    return {
        "classes": np.array(CLASSES), "count": np.array([3, 0]), "count_with_map": np.array([2, 0]),
        "face": np.ones((2, 6, 6, 3), np.float32), "au_map": maps, "attention": np.stack([maps, maps / 2]), "cam": maps,
    }  # fmt: skip


def test_average_maps_are_read_back(tmp_path: Path) -> None:
    content = arrays()
    maps = {"1": content["attention"][0], "2": content["attention"][1], "cam": content["cam"]}
    written = AverageMaps(content["count"], content["count_with_map"], content["face"], content["au_map"], maps)
    path = tmp_path / "average_maps.npz"
    save_averages(path, written, CLASSES)
    found = read_averages(path, CLASSES)
    assert found.maps.keys() == maps.keys() and all(np.array_equal(found.maps[name], maps[name]) for name in maps)
    assert np.array_equal(found.attention, maps["2"]) and np.array_equal(found.count, written.count)
    with pytest.raises(RunError, match="damaged"):
        read_averages(path, ("fear", "anger"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"average_maps\.npz is damaged, or was changed"):
        read_averages(path, CLASSES)


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in ("classes", "count", "count_with_map", "face", "au_map", "attention")),
        {"count": np.array([3.0, 0.0])}, {"count": np.array([-1, 0])}, {"au_map": np.ones((2, 4), np.float32)},
        {"face": np.ones((2, 6, 6), np.float32)}, {"cam": np.full((2, 4, 4), np.nan)}, {"cam": np.zeros((3, 4, 4))},
        {"attention": np.zeros((0, 2, 4, 4))}, {"attention": np.full((1, 2, 4, 4), 2.0)}, {"count": np.array("x")},
        {"au_map": np.array([{}, {}], object)},
    ],
    ids=str,
)  # fmt: skip
def test_average_maps_of_another_shape_are_one_paragraph(tmp_path: Path, change: dict[str, Any]) -> None:
    content = {**arrays(), **change}
    np.savez(tmp_path / "a.npz", **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(RunError, match="average maps are damaged"):
        read_averages(tmp_path / "a.npz", CLASSES)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY", b"text"])
def test_average_maps_that_are_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(RunError, match="average maps are damaged"):
        read_averages(tmp_path / "a.npz", CLASSES)


def test_figures_are_out_of_date_with_other_weights_or_another_store(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"weights")
    store: Any = SimpleNamespace(index=SimpleNamespace(digest="s" * 64), folder=tmp_path)
    content = {"checkpoint_sha256": sha256_bytes(b"weights"), "store_digest": "s" * 64, "epoch": 3}
    assert outdated(tmp_path, content) is None and outdated(tmp_path, content, store) is None
    assert "another store" in str(outdated(tmp_path, {**content, "store_digest": "t" * 64}, store))
    (tmp_path / "best.pt").write_bytes(b"others")
    assert "other weights, those of epoch 3" in str(outdated(tmp_path, content, store))
    assert outdated(tmp_path, {"store_digest": "s" * 64}, store) is None, "an earlier version did not name its weights"


def test_results_of_other_rows_have_a_folder_of_their_own() -> None:
    run = Path("run")
    names = [results_folder(run, "evaluation", split, limit) for split, limit in
             (("test", None), ("val", None), ("test", 100), ("train", 5))]  # fmt: skip
    assert names == [run, run / "evaluation-val", run / "evaluation-test-limit-100", run / "evaluation-train-limit-5"]
    others = [results_folder(run, "faithfulness", "test", limit, 200) for limit in (200, None, 50)]
    assert others == [run, run / "faithfulness-test-all", run / "faithfulness-test-limit-50"]
