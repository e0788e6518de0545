from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fer_data.errors import RunError, UserInputError
from fer_models import backbones
from fer_models.backbones import create_backbone


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "mobilenetv3_small_050"])
def test_feature_maps_are_as_announced(name: str) -> None:
    backbone = create_backbone(name).eval()
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 64, 64))
    assert backbone.n_layers == len(features) == len(backbone.channels) == len(backbone.reductions)
    for layer, channels, reduction in zip(features, backbone.channels, backbone.reductions, strict=True):
        assert layer.shape == (2, channels, 64 // reduction, 64 // reduction)


def test_resnets_have_five_layers() -> None:
    assert create_backbone("test_resnet").reductions == (2, 4, 8, 16, 32)


INNER = ["test_resnet", "test_convnext", "test_efficientnet", "mobilenetv3_small_050", "test_byobnet", "test_mambaout"]


@pytest.mark.parametrize("name", INNER)
def test_later_layers_see_a_transformed_layer_and_its_features_stay_as_they_were(name: str) -> None:
    backbone, images = create_backbone(name).eval(), torch.randn(2, 3, 64, 64)
    plain, keys = backbone(images), list(backbone.state_dict())
    layer = backbone.n_layers - 1
    backbone.transform(layer, lambda maps: maps.flip(3))
    for net in (backbone, copy.deepcopy(backbone)):
        features = net(images)
        assert torch.allclose(features[layer - 1], plain[layer - 1])
        assert not torch.allclose(features[layer], plain[layer], atol=1e-4 * float(plain[layer].detach().abs().max()))
        (gradient,) = torch.autograd.grad(features[layer].square().sum(), features[layer - 1])
        assert gradient.shape == features[layer - 1].shape and gradient.abs().max() > 0
        assert list(net.state_dict()) == keys


def test_the_copy_of_a_backbone_has_transforms_of_its_own() -> None:
    class Counter:
        calls = 0

        def count(self, maps: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return maps

    backbone, counter = create_backbone("test_resnet"), Counter()
    backbone.transform(2, counter.count)
    copy.deepcopy(backbone)(torch.randn(2, 3, 64, 64))
    assert counter.calls == 0 and not backbone._seen


def test_a_layer_that_is_no_modules_output_cannot_be_transformed() -> None:
    backbone = create_backbone("test_vit")
    with pytest.raises(UserInputError, match=r"Layer 1 of the backbone 'test_vit' cannot be reached"):
        backbone.transform(1, torch.relu)
        backbone(torch.randn(1, 3, 160, 160))


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UserInputError, match=r"'resnt18'.*Did you mean resnet18"):
        create_backbone("resnt18")


def test_weights_from_a_file_arrive(tmp_path: Path) -> None:
    donor = backbones.timm.create_model("test_resnet", pretrained=False)
    torch.save(donor.state_dict(), tmp_path / "weights.pt")
    backbone = create_backbone("test_resnet", weights=tmp_path / "weights.pt")
    wanted = {k: v for k, v in donor.state_dict().items() if not k.startswith(("fc.", "head"))}
    got = backbone.body.state_dict()
    assert set(got) <= set(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in got.items())


def test_weights_of_another_model_or_garbage_are_refused(tmp_path: Path) -> None:
    torch.save(backbones.timm.create_model("test_convnext", pretrained=False).state_dict(), tmp_path / "other.pt")
    (tmp_path / "garbage.pt").write_bytes(b"not weights")
    for name in ("other.pt", "garbage.pt", "absent.pt"):
        with pytest.raises(RunError, match=name):
            create_backbone("test_resnet", weights=tmp_path / name)


def test_no_network_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("cannot reach the hub")

    monkeypatch.setattr(backbones.timm, "create_model", offline)
    with pytest.raises(RunError, match=r"cannot reach the hub.*leave out --pretrained.*--weights FILE"):
        create_backbone("resnet18", pretrained=True)


def test_a_model_without_feature_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr(backbones.timm, "create_model", cannot)
    with pytest.raises(UserInputError, match="cannot give feature maps"):
        create_backbone("resnet18")


def test_torchvision_imports_whole_in_a_fresh_process() -> None:
    code = "import fer_models.backbones, torchvision, torchvision.transforms; print(torchvision.ops.nms)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
