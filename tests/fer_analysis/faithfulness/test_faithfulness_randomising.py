from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import BatchNorm2d, Module

from aupipe.fer_analysis.faithfulness import randomising
from aupipe.fer_analysis.faithfulness.randomising import between_faces, cascade, rank_correlation, stage_parameters
from aupipe.fer_analysis.faithfulness.summary import summarise_randomisation
from aupipe.fer_data.types import Silent
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import Prediction, create_method
from aupipe.fer_models.methods.cam import CAM


class Edges(CAM):
    """A "class activation map" that shows the edges of the picture and nothing of the network."""

    def forward(self, images: Tensor) -> Prediction:
        plain = super().forward(images)
        return Prediction(plain.logits, plain.features, {"edges": images.mean(1).diff(dim=1).abs()})

    def cam(self, prediction: Prediction, class_index: Tensor) -> Tensor:
        return prediction.extra["edges"]


def network(name: str = "test_resnet", method: str = "cam", stride: int | None = 8) -> Any:
    torch.manual_seed(0)
    return create_method(method, create_backbone(name, image_size=64, output_stride=stride), 7).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_a_map_of_the_picture_alone_fails_and_one_of_the_network_passes(images: Tensor) -> None:
    model = network()
    edges = Edges(model.backbone, 7).eval()
    stages, honest = cascade(model, images, 4, 0, "cam", Silent())
    _, blind = cascade(edges, images, 4, 0, "edges", Silent())
    assert blind["cam"].shape == (randomising.DRAWS, len(stages), 6)
    assert np.allclose(blind["cam"], 1)
    assert np.abs(honest["cam"].mean((0, 2))).max() < 0.5
    assert np.allclose(honest["attention"][:, 0], 1), "no head, no change of the features"
    verdict = summarise_randomisation(stages, {"cam": honest["cam"], "edges": blind["cam"]}, 6)["maps"]
    assert verdict["cam"]["passes"] and not verdict["edges"]["passes"]
    assert verdict["edges"]["final"] == pytest.approx(1) and verdict["edges"]["low"][-1] == pytest.approx(1)


def test_the_null_is_what_the_maps_of_two_faces_share(images: Tensor) -> None:
    model = network()
    same = between_faces(model, images[:1].expand(3, -1, -1, -1), 2)
    assert np.allclose(same["cam"], 1) and np.allclose(same["attention"], 1)
    other = between_faces(model, images, 4)
    assert other["cam"].shape == (6,) and np.abs(other["cam"]).max() < 0.999
    assert between_faces(model, images[:1], 1)["cam"].size == 0, "one face has no other"
    correlations = {"cam": np.zeros((5, 1, 6))}
    entry = summarise_randomisation(["head"], correlations, 6, {"cam": other["cam"]})["maps"]["cam"]
    assert entry["other_face"] == pytest.approx(other["cam"].mean())


def test_the_network_is_itself_again_and_the_seed_decides(images: Tensor) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = cascade(model, images, 6, 3, "cam", Silent())[1]["cam"]
    again = cascade(model, images, 2, 3, "cam", Silent())[1]["cam"]
    other = cascade(model, images, 6, 4, "cam", Silent())[1]["cam"]
    assert np.allclose(first, again, atol=0.02) and not np.allclose(first, other, atol=0.02)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_stages_hold_every_parameter_once(images: Tensor, name: str) -> None:
    model = network(name, stride=None)
    stages = stage_parameters(model, images[:1])
    expected = ["head", *(f"layer {number}" for number in range(model.backbone.n_layers, 0, -1))]
    assert list(stages) == expected
    members = [parameter for names in stages.values() for parameter in names]
    assert sorted(members) == sorted(name for name, _ in model.named_parameters())
    assert {"head.weight", "head.bias"} <= set(stages["head"])
    first = {"test_resnet": "conv1", "test_convnext": "stem", "test_vit": "pos_embed"}[name]
    assert any(first in parameter for parameter in stages["layer 1"])


def test_each_stage_is_randomised_and_statistics_are_those_of_the_new_network(images: Tensor) -> None:
    model = network()
    names = stage_parameters(model, images[:1])["layer 1"]
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    randomising.randomise(model, names, torch.Generator().manual_seed(0), images)
    changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    flat = {name for name, value in before.items() if value.std(correction=0) == 0}
    assert changed == set(names) - flat
    stem = next(name for name in names if before[name].dim() == 4)
    assert model.get_parameter(stem).std().item() == pytest.approx(before[stem].std().item(), rel=0.3)
    entered: list[Tensor] = []
    norm = model.backbone.body.bn1
    norm.register_forward_pre_hook(lambda _module, inputs: entered.append(inputs[0]))
    with torch.no_grad():
        model(images)
    assert torch.allclose(norm.running_mean, entered[0].mean((0, 2, 3)), atol=2e-3)
    assert torch.allclose(norm.running_var, entered[0].var((0, 2, 3)), rtol=2e-3)


def test_what_was_randomised_before_has_statistics_of_the_new_network_too(images: Tensor) -> None:
    """Else the last layers' would stay those of what the trained layers below them gave."""
    model, replaced, entered = network(), list[str](), dict[Module, Tensor]()
    for names in stage_parameters(model, images[:1]).values():
        randomising.randomise(model, names, torch.Generator().manual_seed(0), images, replaced)
        replaced += names
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    for norm in norms:
        norm.register_forward_pre_hook(lambda module, inputs: entered.update({module: inputs[0]}))
    with torch.no_grad():
        model(images)
    for norm in norms:
        mean, spread = entered[norm].mean((0, 2, 3)), entered[norm].std((0, 2, 3))
        assert ((norm.running_mean - mean).abs() / spread).max() < 0.02


def test_one_face_is_enough(images: Tensor) -> None:
    assert cascade(network(), images[:1], 4, 0, "cam", Silent())[1]["attention"].shape[2] == 1


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 49)).round(1), rng.random((3, 49)).round(1)
    second[2] = 0.3
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(first[:2], second[:2], strict=True)]
    assert np.allclose(rank_correlation(first, second), [*expected, 0])
    assert rank_correlation(first, np.full_like(first, np.nan)).tolist() == [0, 0, 0]


def test_an_attention_that_is_always_empty_has_no_verdict() -> None:
    entry = summarise_randomisation(["head"], {"attention": np.zeros((5, 1, 0))}, 4)["maps"]["attention"]
    assert entry["passes"] is None and entry["n"] == 0
