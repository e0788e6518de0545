"""A model taken elsewhere: the same figures, any batch, all that a program needs to know inside the file."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from aupipe.fer_analysis import export_model as export
from aupipe.fer_analysis.evaluation import explanation_maps
from aupipe.fer_analysis.explain import OpenRun, open_run
from aupipe.fer_analysis.export_model import ModelExportReport, export_model
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.images import write_png
from aupipe.fer_data.preparation import AlignedFace
from aupipe.fer_data.shards import Store
from aupipe.fer_models.methods import METHODS
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train

CONFIG = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=48, max_steps=1, device="cpu")
FORMS = ("onnx", "torchscript", "pt2")


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    train(store.folder, folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def opened(run: Path) -> OpenRun:
    return open_run(run, device="cpu")


@pytest.fixture(scope="module")
def onnx(run: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelExportReport:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    return export_model(run, "onnx", tmp_path_factory.mktemp("onnx") / "m" / "model.onnx")


@pytest.fixture(scope="module", params=FORMS)
def made(run: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> ModelExportReport:
    if request.param == "onnx":
        report: ModelExportReport = request.getfixturevalue("onnx")
        return report
    return export_model(run, request.param, tmp_path_factory.mktemp(request.param) / "model")


def test_only_a_model_is_written_over(made: ModelExportReport, run: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    for path in (run / "config.json", run / "best.pt", run / "last.pt", photo, tmp_path):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(UserInputError, match="is not a model that this command made"):
            export_model(run, made.form, path)
        assert path.is_dir() or path.read_bytes() == before
    model = Path(shutil.copy(made.path, tmp_path / "model"))
    before = model.stat().st_ino, model.stat().st_mtime_ns
    assert export_model(run, made.form, model).bytes > 1000
    assert (model.stat().st_ino, model.stat().st_mtime_ns) != before


def load(form: str, path: Path) -> tuple[Any, dict[str, Any]]:
    """A function of a batch, and the metadata, without anything of aupipe."""
    if form == "onnx":
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        about = json.loads(session.get_modelmeta().custom_metadata_map["aupipe"])
        names = [output.name for output in session.get_outputs()]
        return lambda image: dict(zip(names, session.run(None, {"image": image.numpy()}), strict=True)), about
    files = {"aupipe.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "pt2":
            module = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=files).module()
        else:
            module = torch.jit.load(str(path), _extra_files=files)
    about = json.loads(files["aupipe.json"])
    return lambda image: dict(zip(about["outputs"], [v.detach().numpy() for v in module(image)], strict=True)), about


def test_the_file_gives_the_models_figures_for_any_batch(made: ModelExportReport, opened: OpenRun) -> None:
    assert made.difference is not None and made.difference < 1e-4 and made.notes == ()
    module, about = load(made.form, made.path)
    for count in (1, 4):
        image = torch.randn(count, 3, 48, 48)
        with torch.no_grad():
            out = opened.model.read(image)
            maps = {k: explanation_maps(opened.model, out, torch.full((count,), k)) for k in range(7)}
        given = module(image)
        assert list(given) == ["logits", *(f"attention_{n}" for n in range(1, 6)), "cam"]
        assert given["logits"] == pytest.approx(out.logits.numpy(), abs=1e-4)
        for number in range(1, 6):
            assert given[f"attention_{number}"] == pytest.approx(maps[0][str(number)].numpy(), abs=1e-4)
        assert given["cam"].shape[:2] == (count, 7)
        for k in range(7):
            assert given["cam"][:, k] == pytest.approx(maps[k]["cam"].numpy(), abs=1e-4)
    assert about["classes"] == list(opened.record.classes) and about["crop_size"] == 48
    assert about["channel_mean"] == list(opened.record.channel_mean) and about["layers"][-1] == "attention_5"
    assert opened.calibration is not None and about["temperature"] == opened.temperature


def test_the_example_of_the_docs_runs_without_aupipe(
    onnx: ModelExportReport, opened: OpenRun, store: Store, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example is not None
    ours = "aupipe|torch"
    check = f"\nimport re\nassert not [name for name in sys.modules if re.match('({ours})$', name)]\n"
    (tmp_path / "this.py").write_text(example[1] + check)
    crop = store.split("test").image(3)
    write_png(tmp_path / "face.png", crop)
    command = [sys.executable, "-I", "this.py", str(onnx.path), "face.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    points = store.split("test").landmarks[3]
    (reading,) = opened.predict([AlignedFace(crop, points, points, np.eye(2, 3), np.zeros(3, np.float32), 1.0, 0, 1)])
    said = json.loads(done.stdout)
    assert list(said) == list(opened.record.classes)
    assert list(said.values()) == pytest.approx(reading.probability.tolist(), abs=1e-4)
    assert cv2.imread(str(tmp_path / "face.png")).shape == crop.shape


def test_maps_made_of_gradients_stay_behind_with_a_note(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: OpenRun
) -> None:
    monkeypatch.setattr(type(opened.model), "needs_graph", True)
    report = export_model(run, "torchscript", tmp_path / "m.pt")
    assert "cam" not in report.outputs and report.outputs[-1] == "attention_5" and "gradients" in report.notes[0]
    monkeypatch.setattr(type(opened.model), "needs_graph", False)
    monkeypatch.setattr(type(opened.model), "has_cam", False)
    assert "it has none" in export_model(run, "torchscript", tmp_path / "m.pt").notes[0]


def test_a_file_that_does_something_else_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(data: bytes) -> export.Runner:
        honest = export._run_torchscript(data)
        return lambda image: [value + 1 for value in honest(image)]

    monkeypatch.setitem(export.RUNNERS, "torchscript", wrong)
    with pytest.raises(RunError, match="was not written"):
        export_model(run, "torchscript", tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_told(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ValueError("an operator\nthat it does not know")

    monkeypatch.setitem(export.EXPORTERS, "pt2", fail)
    with pytest.raises(RunError, match=r"an operator\. Try another format: onnx, torchscript"):
        export_model(run, "pt2", tmp_path / "m.pt2")
    with pytest.raises(UserInputError, match="Did you mean 'onnx'"):
        export_model(run, "onx", tmp_path / "m.onnx")
    monkeypatch.setattr(export, "_has", lambda name: name != "onnxscript")
    with pytest.raises(UserInputError, match=r"needs onnxscript.*aupipe\[onnx\]"):
        export_model(run, "onnx", tmp_path / "m.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("gradcam", "gradcampp", "layercam")])
def test_every_method_can_be_taken_elsewhere(store: Store, tmp_path: Path, method: str, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    options = {"acol": "width=16", "apvit": "dim=16,depth=2,heads=2", "prm": "map=response"}.get(method, "")
    backbone = "test_vit" if method == "tscam" else "test_resnet"
    config = replace(CONFIG, method=method, method_options=options, backbone=backbone)
    train(store.folder, tmp_path / "run", config)
    report = export_model(tmp_path / "run", form, tmp_path / "model")
    assert report.difference is not None and report.difference <= export.TOLERANCE
    assert ("cam" in report.outputs) == (method != "apvit")
