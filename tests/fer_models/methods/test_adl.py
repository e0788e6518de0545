from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.losses import Objective
from aupipe.fer_models.methods import create_method
from aupipe.fer_models.methods.adl import ADL
from batches import random_batch


def model(backbone: str = "test_resnet", **options: float) -> ADL:
    torch.manual_seed(0)
    net = create_method("adl", create_backbone(backbone), 7, **options)
    assert isinstance(net, ADL)
    return net.train()


def features() -> Tensor:
    return torch.rand(3, 5, 6, 6, generator=torch.Generator().manual_seed(1))


def test_dropping_hides_what_is_near_the_maximum_of_the_attention() -> None:
    values = features()
    masked = model(drop_rate=1.0, gamma=0.7).mask(values)
    for row in range(3):
        attention = values[row].mean(0)
        high = attention >= 0.7 * attention.max()
        assert high.any() and not high.all()
        assert masked[row][:, high].abs().max() == 0
        assert torch.equal(masked[row][:, ~high], values[row][:, ~high])


def test_otherwise_features_are_weighted_by_the_sigmoid_of_the_attention() -> None:
    values = features()
    masked = model(drop_rate=0.0).mask(values)
    assert torch.allclose(masked, values / (1 + torch.exp(-values.mean(1, keepdim=True))))


def test_dropping_happens_at_its_rate() -> None:
    net, values = model(drop_rate=0.75), features()
    torch.manual_seed(4)
    dropped = sum(bool((net.mask(values) == 0).any()) for _ in range(400))
    assert 260 < dropped < 340


def test_evaluation_leaves_the_features_as_they_are() -> None:
    net, images = model().eval(), torch.randn(2, 3, 64, 64)
    values = features()
    assert net.mask(values) is values
    plain = create_method("cam", copy.deepcopy(net.backbone), 7).eval()
    plain.load_state_dict(net.state_dict())
    ours, theirs = net.read(images), plain.read(images)
    assert torch.equal(ours.logits, theirs.logits)
    assert all(torch.equal(a, b) for a, b in zip(ours.features, theirs.features, strict=True))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_efficientnet", "test_mambaout"])
def test_every_pretrained_tensor_still_fits(backbone: str) -> None:
    plain, net = create_backbone(backbone), model(backbone, stages=3)
    assert list(net.backbone.state_dict()) == list(plain.state_dict())
    net.backbone.load_state_dict(plain.state_dict())
    assert set(net.state_dict()) == set(create_method("cam", plain, 7).state_dict())


def test_the_last_stages_are_masked_and_the_alignment_sees_them_before() -> None:
    images = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    net, plain = model(drop_rate=1.0), model(drop_rate=1.0).eval()
    plain.backbone.train()
    masked, free = net(images), plain(images)
    for number in range(4):
        assert torch.allclose(masked.features[number], free.features[number], atol=1e-6)
    assert (masked.features[3].mean(1).amax((1, 2)) > 0).all()
    assert not torch.allclose(masked.features[4], free.features[4], atol=1e-3)
    assert not (masked.features[4].mean(1) == 0).any()
    assert torch.allclose(masked.logits, super(ADL, net).logits((net.mask(masked.features[4]),)), atol=1e-6)


def test_stages_says_how_many_layers_are_masked() -> None:
    images = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    one, three = (model(drop_rate=1.0, stages=count)(images).features for count in (1, 3))
    assert torch.allclose(one[2], three[2], atol=1e-6)
    assert not torch.allclose(one[3], three[3], atol=1e-3)


def test_a_dropped_area_is_not_held_against_the_alignment() -> None:
    """The alignment of a step is that of the unmasked attention, whatever the mask hides of the last layer."""
    batch = random_batch()
    objective = Objective(1.0, (5,))
    aligns = [float(model(drop_rate=r, stages=1).training_step(batch, objective).align.detach()) for r in (0.0, 1.0)]
    assert aligns[0] == pytest.approx(aligns[1], abs=1e-6)


def test_layers_that_cannot_be_reached_are_refused() -> None:
    with pytest.raises(UserInputError, match="cannot be reached inside the network"):
        create_method("adl", create_backbone("test_vit"), 7)(torch.randn(1, 3, 160, 160))
