"""Methods that only read another map out of the same network are trained once and evaluated many times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.shards import Store
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import METHODS, create_method, training_name
from aupipe.fer_models.methods.base import Method, Prediction
from aupipe.fer_models.methods.cam import CAM
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train

READ_OUTS = [name for name in sorted(METHODS) if METHODS[name].trains_as]


class Negative(CAM):
    trains_as = "cam"

    def cam(self, prediction: Prediction, class_index: torch.Tensor) -> torch.Tensor:
        return -super().cam(prediction, class_index)


class Otherwise(CAM):
    pass


@pytest.fixture(autouse=True)
def more_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "negative", Negative)
    monkeypatch.setitem(METHODS, "otherwise", Otherwise)


def test_a_run_is_read_out_as_another_method_of_the_same_training(store: Store, tmp_path: Path) -> None:
    config = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=48, device="cpu", max_steps=1)
    train(store.folder, tmp_path / "run", config)
    own = evaluate(tmp_path / "run").as_json()
    kept = (tmp_path / "run" / "metrics.json").read_bytes()
    other = evaluate(tmp_path / "run", method="negative", out=tmp_path / "run" / "negative").as_json()
    assert (tmp_path / "run" / "metrics.json").read_bytes() == kept
    assert json.loads((tmp_path / "run" / "negative" / "metrics.json").read_text()) == other
    assert other["method"] == "negative" and own["method"] == "cam"
    assert other["confusion"] == own["confusion"] and other["att_cos"] == own["att_cos"]
    assert abs(other["cam_cos"] - own["cam_cos"]) > 0.01
    with pytest.raises(RunError, match=r"trained as cam.*read out as otherwise.*cam, (.*, )?negative"):
        evaluate(tmp_path / "run", method="otherwise")


@pytest.mark.parametrize("name", [*READ_OUTS, "negative"])
def test_a_read_out_has_the_network_and_the_training_of_its_method(name: str) -> None:
    """Same code for the training and the same start from the same seed: the same run to the bit."""
    base = training_name(name)
    assert base != name and METHODS[base].trains_as is None
    for part in ("forward", "logits", "training_step"):
        assert getattr(METHODS[name], part) is getattr(METHODS[base], part)
    states = [start(one).state_dict() for one in (name, base)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def start(name: str) -> Method:
    torch.manual_seed(0)
    return create_method(name, create_backbone("test_resnet"), 7)
