"""Methods and explainers, as people write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from aupipe.commands import cli
from aupipe.fer_analysis.benchmark import plan
from aupipe.fer_analysis.comparison.explainers import explainer_name
from aupipe.fer_analysis.comparison.map_maker import MapOptions
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.shards import Store
from aupipe.fer_data.spelling import registered_name
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import METHODS, create_method, method_name, training_name
from aupipe.fer_models.training import checkpoint, run_record
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train

WRITTEN = {
    "gradcam++": "gradcampp", "Grad-CAM++": "gradcampp", "grad_cam_plus_plus": "gradcampp", "grad-cam": "gradcam",
    "GradCAM": "gradcam", "ts-cam": "tscam", "TS-CAM": "tscam", "layer-cam": "layercam", "Layer CAM": "layercam",
    "WILDCAT": "wildcat", "CutMix": "cutmix", "AP-ViT": "apvit", "ACoL": "acol", "cam": "cam",
}  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
def test_a_method_is_known_as_people_write_it(written: str) -> None:
    assert method_name(written) == WRITTEN[written]


def test_titles_are_names() -> None:
    assert {method_name(method.title) for method in METHODS.values()} == set(METHODS)


def test_what_is_registered_with_signs_is_found_and_what_is_not_stays() -> None:
    assert registered_name("My CAM", ["my-cam", "cam"]) == registered_name("my-cam", ["my-cam"]) == "my-cam"
    assert registered_name("score-cam", ["cam"]) == "score-cam"
    with pytest.raises(UserInputError, match=r"Unknown method 'score-cam'.*gradcampp"):
        create_method("score-cam", create_backbone("test_resnet"), 7)


def test_a_network_is_built_by_any_spelling() -> None:
    net = create_method("Grad-CAM", create_backbone("test_resnet"), 7, layer=3)
    assert type(net) is METHODS["gradcam"] and training_name("layer-cam") == training_name("CAM") == "cam"


def test_a_run_records_the_registered_name_and_continues_by_any(store: Store, tmp_path: Path) -> None:
    config = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=64, device="cpu", max_steps=1)
    train(store.folder, tmp_path / "run", replace(config, method="Grad-CAM"))
    assert run_record.load_record(tmp_path / "run").config.method == "gradcam"
    assert train(store.folder, tmp_path / "run", replace(config, method="grad_cam")).resumed
    read = checkpoint.load_best(tmp_path / "run", torch.device("cpu"), "gradcam++", "layer=2")
    assert read[0].config.method == "gradcampp"


def test_a_grid_takes_any_spelling() -> None:
    assert plan.parse_methods("TS-CAM, grad-cam,cam") == ("cam", "gradcam", "tscam")
    assert plan.parse_pairs(["ts-cam=deit_tiny"], "backbone-for") == {"tscam": "deit_tiny"}
    request = plan.GridRequest(
        ("Grad-CAM",), 1, backbones={"TS-CAM": "a"}, options={"grad-cam": "layer=2"}, ablation="CAM"
    )
    assert (request.methods, request.ablation) == (("gradcam",), "cam")
    assert (dict(request.backbones), dict(request.options)) == ({"tscam": "a"}, {"gradcam": "layer=2"})


def test_an_explainer_takes_any_spelling(tmp_path: Path) -> None:
    assert explainer_name("RISE") == MapOptions(explainer="Rise").explainer == "rise"
    with pytest.raises(UserInputError, match="Unknown explainer 'shap'"):
        MapOptions(explainer="shap")
    for written, said in (("RISE", "not a run"), ("shap", "is not one of")):
        done = CliRunner().invoke(cli.cli, ["compare", str(tmp_path), "--out", str(tmp_path), "--explainer", written])
        assert said in done.output + str(done.exception), written
