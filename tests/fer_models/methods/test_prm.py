from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import create_method
from aupipe.fer_models.methods.base import select_class, unit_range
from aupipe.fer_models.methods.prm import PRM, peak_mean, peaks

LABEL = torch.tensor([1, 4])


def model(backbone: str = "test_resnet", **options: int | str) -> PRM:
    torch.manual_seed(0)
    net = create_method("prm", create_backbone(backbone), 7, **options).eval()
    assert isinstance(net, PRM)
    return net


def images(size: int = 160) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))


def test_peaks_are_the_maxima_of_their_windows() -> None:
    maps = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    found = peaks(maps)
    for row in range(6):
        for column in range(7):
            window = maps[:, :, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].amax((2, 3))
            assert torch.equal(found[:, :, row, column], maps[:, :, row, column] == window)


def test_a_plateau_has_one_peak_and_every_map_has_one_at_least() -> None:
    assert peaks(torch.zeros(1, 1, 5, 5)).sum() == 1
    assert peaks(torch.full((1, 1, 3, 3), -2.0)).sum() == 1


def test_the_score_hears_peaks_only() -> None:
    maps = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found, score = peaks(maps), peak_mean(maps)
    (gradient,) = torch.autograd.grad(score.sum(), maps)
    assert torch.equal(gradient != 0, found)
    assert torch.allclose(score[0, 1], maps[0, 1][found[0, 1]].mean())
    lowered = torch.where(found, maps, maps - 5)
    assert torch.equal(peaks(lowered), found)
    assert torch.allclose(peak_mean(lowered), score)
    assert not torch.allclose(peak_mean(torch.where(found, maps + 1, maps)), score)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_byobnet", "test_convnext", "test_mambaout"])
def test_a_map_is_the_probability_of_its_peaks_at_every_layer(backbone: str) -> None:
    """Nothing is lost on the way down, so every layer holds as much as there are peaks, and nothing is negative."""
    for layer in (0, 3, 1):
        net = model(backbone, layer=layer)
        out = net.read(images())
        count = select_class(peaks(out.extra["responses"]).float(), LABEL).sum((1, 2))
        cam = net.cam(out, LABEL)
        assert cam.shape[1:] == out.features[layer - 1].shape[2:]
        assert cam.min() >= 0 and (count > 1).any()
        assert torch.allclose(cam.sum((1, 2)), count, rtol=1e-2)


def test_at_the_last_layer_a_peak_stays_where_it_is() -> None:
    net = model(layer=5)
    out = net.read(images())
    found = select_class(peaks(out.extra["responses"]).float(), LABEL)
    assert torch.allclose(net.cam(out, LABEL), found, atol=1e-5)


def test_a_map_lies_in_the_field_of_view_of_its_peaks() -> None:
    """Of a network of four 3 x 3 convolutions, features more than 4 pixels away from the peak cannot have won."""
    net = model()
    net.backbone.body = Plain()  # type: ignore[assignment]
    net.head = torch.nn.Conv2d(8, 7, 1)
    pictures = torch.zeros(1, 3, 32, 32)
    pictures[:, :, 4:9, 20:25] = 3.0
    cam = net.cam(net.read(pictures), torch.tensor([0]))[0]
    start = select_class(peaks(net(pictures).extra["responses"]).float(), torch.tensor([0]))[0]
    near = torch.nn.functional.max_pool2d(start[None], 9, stride=1, padding=4)[0] > 0
    assert cam[~near].abs().max() == 0 < cam[near].max()
    planted = torch.zeros(32, 32, dtype=torch.bool)
    planted[3:10, 19:26] = True  # what the first convolution sees of the square
    assert cam[~planted].abs().max() == 0 and cam.sum() >= 1


class Plain(torch.nn.Module):
    """Five layers without strides: convolutions and ReLUs, active only where the image is."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [3, 8, 8, 8, 8, 8]
        pairs = itertools.pairwise(sizes)
        self.steps = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs)

    def forward(self, value: Tensor) -> list[Tensor]:
        layers = []
        for step in self.steps:
            value = step(value).relu()
            layers.append(value)
        return layers


def test_reading_changes_no_prediction_and_can_be_repeated() -> None:
    net = model("test_efficientnet")
    out, plain = net.read(images()), net(images())
    assert torch.allclose(out.logits, plain.logits, atol=1e-6)
    for ours, theirs in zip(out.features, plain.features, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    first = net.cam(out, LABEL)
    assert not torch.allclose(net.cam(out, LABEL.flip(0)), first)
    assert torch.equal(net.cam(out, LABEL), first)


def test_the_response_map_of_the_class_can_be_read_instead_of_the_peaks() -> None:
    """``map=response``: the map whose peaks score the class, signed; the same network, and no graph is kept."""
    net, peaked = model(map="response"), model()
    assert peaked.map == "peaks" and peaked.needs_graph and not net.needs_graph
    net.load_state_dict(peaked.state_dict())
    out, plain = net.read(images()), peaked.read(images())
    assert not out.logits.requires_grad and torch.allclose(out.logits, plain.logits, atol=1e-6)
    cam = net.cam(out, LABEL)
    assert torch.equal(cam, out.extra["responses"][torch.arange(2), LABEL])
    for reader, prediction in ((net, out), (peaked, plain)):
        assert torch.allclose(reader.published_cam(prediction, LABEL), unit_range(cam), atol=1e-4)


def test_an_unknown_map_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserInputError, match=r"(?s)option map.*peaks or response.*blobs"):
        model(map="blobs")


def test_networks_with_attention_are_refused() -> None:
    with pytest.raises(UserInputError, match=r"prm cannot trace peaks.*test_vit.*attention between positions"):
        create_method("prm", create_backbone("test_vit"), 7)
