from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import Prediction, create_method
from aupipe.fer_models.methods.base import unit_range
from aupipe.fer_models.methods.gradcam import GradCAM

FAMILY = ["gradcam", "gradcampp", "layercam"]
LABEL = torch.tensor([0, 3, 6])


def model(name: str, backbone: str = "test_resnet", **options: int) -> GradCAM:
    torch.manual_seed(0)
    net = create_method(name, create_backbone(backbone), 7, **options).eval()
    assert isinstance(net, GradCAM)
    return net


def images() -> Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def slow_map(name: str, features: Tensor, gradient: Tensor) -> Tensor:
    """One sample's map, channel by channel, as the papers write it."""
    total = torch.zeros(features.shape[1:])
    for activation, g in zip(features, gradient, strict=True):
        if name == "gradcam":
            total += g.mean() * activation
        elif name == "layercam":
            total += g.clamp_min(0) * activation
        else:
            square, cube = g**2, activation.sum() * g**3
            divisor = 2 * square + cube
            alpha = torch.where(square > 0, square / torch.where(square > 0, divisor, 1.0), 0.0)
            total += (alpha * g.clamp_min(0)).sum() * activation
    return total


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("backbone", ["test_resnet", "test_byobnet"])
def test_the_closed_form_is_what_autograd_gives(name: str, backbone: str) -> None:
    net = model(name, backbone)
    with torch.enable_grad():
        out = net(images())
        (gradient,) = torch.autograd.grad(out.logits.gather(1, LABEL[:, None]).sum(), out.features[-1])
    features = out.features[-1].detach()
    closed = net.cam(net.read(images()), LABEL)
    assert not net.needs_graph
    assert torch.allclose(net.gradient(out, LABEL), gradient, atol=1e-7)
    assert torch.allclose(closed, net.combine(features, gradient), atol=1e-5 * float(closed.abs().max()))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("layer", [0, 3])
def test_the_map_is_the_papers_sum(name: str, layer: int) -> None:
    net = model(name, layer=layer)
    out = net.read(images())
    gradient = net.gradient(out, LABEL).double()
    features = out.features[layer - 1].detach().double()
    cam = net.cam(out, LABEL)
    for row in range(3):
        expected = slow_map(name, features[row], gradient[row]).float()
        assert torch.allclose(cam[row], expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_mambaout"])
def test_the_gradient_at_an_earlier_layer_predicts_a_small_change_of_the_score(backbone: str) -> None:
    net = model("gradcam", backbone, layer=2).double()
    out = net.read(images().double())
    gradient = net.gradient(out, LABEL)
    assert gradient.shape == out.features[1].shape
    change = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1)).double() * 1e-5
    net.backbone.transform(2, lambda maps: maps + change)
    scores = [values.logits.detach().gather(1, LABEL[:, None])[:, 0] for values in (out, net.read(images().double()))]
    assert torch.allclose(scores[1] - scores[0], (gradient * change).sum((1, 2, 3)), rtol=1e-2)


def test_at_the_last_layer_gradcam_is_cam_over_the_pixels() -> None:
    net, cam = model("gradcam"), create_method("cam", create_backbone("test_resnet"), 7).eval()
    cam.load_state_dict(net.state_dict())
    out = net.read(images())
    assert torch.allclose(net.cam(out, LABEL) * 4, cam.cam(out, LABEL), atol=1e-6)


def test_gradcampp_and_layercam_are_not_negative_on_rectified_features() -> None:
    for name in FAMILY[1:]:
        assert model(name).cam(model(name).read(images()), LABEL).min() >= 0
    assert model("gradcam").cam(model("gradcam").read(images()), LABEL).min() < 0


def test_gradcampp_divides_by_what_the_channel_explains_already() -> None:
    """The same positive gradient counts less on a channel whose activation is larger in sum, and never explodes."""
    net = model("gradcampp")
    gradient = torch.ones(1, 1, 2, 2)
    small, large = (net.combine(torch.full((1, 1, 2, 2), value), gradient) / value for value in (1.0, 10.0))
    assert float(small[0, 0, 0]) == pytest.approx(4 / 6)
    assert float(large[0, 0, 0]) == pytest.approx(4 / 42)
    signed = net.combine(torch.full((1, 1, 2, 2), -0.5), gradient)
    assert float(signed[0, 0, 0]) == pytest.approx(-0.5 * 4 / 2)


def test_a_frozen_network_can_be_read_at_an_earlier_layer() -> None:
    net = model("layercam", layer=2).requires_grad_(False)
    assert net.cam(net.read(images()), LABEL).abs().max() > 0


def test_all_share_cams_training() -> None:
    assert {model(name).trains_as for name in FAMILY} == {"cam"}
    assert (
        model("gradcam").state_dict().keys()
        == create_method("cam", create_backbone("test_resnet"), 7).state_dict().keys()
    )


def test_a_layer_that_no_gradient_reaches_is_refused() -> None:
    net = model("gradcam", layer=4)
    out = net.read(images())
    copied = Prediction(out.logits, tuple(one.clone() for one in out.features))
    with pytest.raises(UserInputError, match=r"No gradient reaches this layer.*Choose the last layer"):
        net.cam(copied, LABEL)


@pytest.mark.parametrize("name", FAMILY)
def test_the_published_map_is_rectified_first_and_weights_by_cubes_for_gradcampp(name: str) -> None:
    net = model(name, layer=3)
    out = net.read(images())
    features, gradient = out.features[2].detach(), net.gradient(out, LABEL)
    signed = net.cam(out, LABEL)
    if name == "gradcampp":
        weights = (gradient.clamp_min(0) ** 3).sum((2, 3))
        signed = torch.einsum("bc,bchw->bhw", weights, features)
    found = net.published_cam(out, LABEL)
    assert torch.allclose(found, unit_range(signed.clamp_min(0)), atol=1e-5)
    if name == "gradcam":
        assert (signed < 0).any() and (found[signed < 0] == 0).all()
