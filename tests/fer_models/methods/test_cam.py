from __future__ import annotations

import torch

from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import Method, create_method


def model() -> Method:
    torch.manual_seed(0)
    return create_method("cam", create_backbone("test_resnet"), 7).eval()


@torch.no_grad()
def test_the_mean_of_a_cam_is_its_logit_without_the_bias() -> None:
    net = model()
    net.head.bias.normal_()  # type: ignore[union-attr,operator]
    out = net(torch.randn(4, 3, 64, 64))
    for number in range(7):
        cam = net.cam(out, torch.full((4,), number))
        assert torch.allclose(cam.mean((1, 2)) + net.head.bias[number], out.logits[:, number], atol=1e-5)  # type: ignore[index]


@torch.no_grad()
def test_a_part_common_to_all_classes_changes_neither_prediction_nor_map() -> None:
    net = model()
    images, label = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3])
    before = net(images)
    cam = net.cam(before, label)
    net.head.weight += torch.randn(net.head.weight.shape[1])  # type: ignore[union-attr,operator,misc,index,assignment]
    after = net(images)
    assert torch.allclose(after.logits, before.logits, atol=1e-5)
    assert torch.allclose(net.cam(after, label), cam, atol=1e-4 * cam.abs().max())
