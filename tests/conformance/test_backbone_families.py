"""What every backbone promises, on one small network of each family."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aupipe.fer_models.backbones import Backbone, create_backbone
from aupipe.fer_models.losses import Objective
from aupipe.fer_models.methods import create_method

SIZES = {
    "resnet18": 64,
    "resnetv2_18": 64,
    "convnext_atto": 64,
    "efficientnet_b0": 64,
    "mobilenetv3_small_050": 64,
    "regnetx_002": 64,
    "densenet121": 64,
    "vgg11": 64,
    "inception_v3": 96,
    "inception_v4": 96,
    "legacy_xception": 64,
    "xception41": 64,
    "deit_tiny_patch16_224": 96,
    "vit_tiny_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 64,
    "mixer_s32_224": 96,
    "edgenext_xx_small": 64,
    "ir50": 32,
    "tf_efficientnetv2_b0": 64,
    "weinet": 64,
    "songnet": 224,
}
UNPADDED = ("inception_v3", "inception_v4", "legacy_xception")
"""Their convolutions without padding lose borders, so that their grids are a few pixels smaller than nominal."""


@pytest.fixture(scope="module", params=sorted(SIZES))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return create_backbone(request.param, image_size=SIZES[request.param])


def images(backbone: Backbone, count: int = 1) -> Tensor:
    return torch.randn(count, 3, SIZES[backbone.name], SIZES[backbone.name], generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_layers_are_as_announced_and_the_deepest_comes_last(backbone: Backbone) -> None:
    features = backbone.eval()(images(backbone, 2))
    again = backbone(images(backbone, 2))
    assert 3 <= backbone.n_layers == len(features) == len(backbone.reductions) == len(backbone.grids)
    assert list(backbone.reductions) == sorted(backbone.reductions)
    for layer, same, channels, reduction, grid in zip(
        features, again, backbone.channels, backbone.reductions, backbone.grids, strict=True
    ):
        assert layer.shape == (2, channels, *grid)
        nominal = math.ceil(SIZES[backbone.name] / reduction)
        assert nominal - (4 if backbone.name in UNPADDED else 1) <= grid[0] <= nominal
        assert torch.equal(layer, same), "evaluation is deterministic"
        assert torch.isfinite(layer).all()


@torch.no_grad()
def test_what_changes_at_the_top_right_changes_the_maps_at_the_top_right(backbone: Backbone) -> None:
    size = SIZES[backbone.name]
    plain = images(backbone)
    bright = plain.clone()
    bright[..., : size // 3, size - size // 3 :] += 3
    level = len(set(backbone.reductions)) == 1
    for before, after, reduction in zip(backbone.eval()(plain), backbone(bright), backbone.reductions, strict=True):
        if level or reduction <= 8:  # deeper convolutions see all of so small an image from every place
            change = (after - before).abs().mean((0, 1))
            half = len(change) // 2
            assert change[:half].mean() > change[-half:].mean(), "the top changes most"
            assert change[:, -half:].mean() > change[:, :half].mean(), "the right changes most"


def test_a_classifier_on_it_takes_one_step(backbone: Backbone) -> None:
    method = create_method("cam", backbone, 3).train()
    before = [parameter.detach().clone() for parameter in method.parameters()]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    prediction = method(images(backbone, 2))
    objective = Objective(1.0, (backbone.n_layers,))
    label = torch.tensor([0, 2])
    loss = objective(prediction.logits, prediction.features, label, torch.rand(2, 16, 16), torch.tensor([True, True]))
    loss.total.backward()
    optimizer.step()
    first = next(parameter for parameter in backbone.parameters())
    assert first.grad is not None and first.grad.abs().sum() > 0, "the gradient reaches the first layer"
    assert all(torch.isfinite(parameter).all() for parameter in method.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))
