from __future__ import annotations

import pytest
import torch

from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import create_method
from aupipe.fer_models.methods.wildcat import Wildcat, spatial_pool


def model(**options: float) -> Wildcat:
    torch.manual_seed(0)
    net = create_method("wildcat", create_backbone("test_resnet"), 7, **options).eval()
    assert isinstance(net, Wildcat)
    return net


@pytest.mark.parametrize(("kmax", "kmin"), [(0.5, 0.1), (0.01, 1.0), (1.0, 0.0), (0.3, 0.3)])
def test_pooling_is_the_definition(kmax: float, kmin: float) -> None:
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    got = spatial_pool(maps, kmax, kmin, 0.6)
    for row in range(2):
        for number in range(3):
            values = sorted(maps[row, number].flatten().tolist())
            high, low = max(1, round(20 * kmax)), round(20 * kmin)
            expected = sum(values[-high:]) / high + (0.6 * sum(values[:low]) / low if low else 0)
            assert float(got[row, number]) == pytest.approx(expected, abs=1e-5)


def test_a_share_other_than_zero_is_one_pixel_at_least() -> None:
    maps = torch.tensor([[[[3.0, 1.0], [2.0, -4.0]]]])
    assert float(spatial_pool(maps, 0.1, 0.1, 0.5)) == 3.0 - 0.5 * 4.0
    assert float(spatial_pool(maps, 0.1, 0.0, 0.5)) == 3.0


def test_the_lowest_pixels_are_negative_evidence_weighted_by_alpha() -> None:
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    nets = {alpha: model(alpha=alpha) for alpha in (0.0, 0.3, 0.6)}
    logits = {alpha: net(images).logits for alpha, net in nets.items()}
    assert torch.allclose(logits[0.6] - logits[0.0], 2 * (logits[0.3] - logits[0.0]), atol=1e-5)
    assert (logits[0.6] - logits[0.0]).abs().max() > 1e-3
    maps = torch.zeros(1, 1, 3, 3)
    maps[0, 0, 2, 2] = -9.0
    assert float(spatial_pool(maps, 0.5, 0.1, 0.6)) == pytest.approx(-5.4)


def test_the_map_is_the_mean_of_the_classs_own_maps() -> None:
    net = model(maps=3)
    out = net.read(torch.randn(2, 3, 64, 64))
    stacked = net.head(out.features[-1])
    assert stacked.shape[1] == 21
    label = torch.tensor([2, 6])
    for row, number in enumerate(label.tolist()):
        expected = stacked[row, 3 * number : 3 * number + 3].mean(0)
        assert torch.allclose(net.cam(out, label)[row], expected, atol=1e-6)
    assert torch.allclose(net.logits(out.features), out.logits)
