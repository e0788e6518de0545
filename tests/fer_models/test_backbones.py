from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_models.backbones import TokenBackbone, create_backbone, weights
from aupipe.fer_models.backbones.create import timm
from aupipe.fer_models.backbones.tokens import class_row, shown_blocks


def tensors_of(name: str) -> dict[str, Tensor]:
    donor: dict[str, Tensor] = timm.create_model(name, pretrained=False).state_dict()
    return donor


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
    with pytest.raises(UserInputError, match=r"Did you mean .*ir50"):
        create_backbone("ir_50")


def test_a_model_without_feature_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr(timm, "create_model", cannot)
    with pytest.raises(UserInputError, match="cannot give feature maps"):
        create_backbone("resnet18")


@pytest.mark.parametrize(
    ("stride", "reductions"), [(16, (2, 4, 8, 16, 16)), (8, (2, 4, 8, 8, 8)), (32, (2, 4, 8, 16, 32))]
)
def test_an_output_stride_keeps_the_maps_large(stride: int, reductions: tuple[int, ...]) -> None:
    backbone = create_backbone("test_resnet", output_stride=stride, image_size=64)
    assert backbone.reductions == reductions
    assert backbone.grids == tuple((64 // value, 64 // value) for value in reductions)


def test_an_impossible_output_stride_is_refused() -> None:
    for name in ("vgg11", "swin_tiny_patch4_window7_224"):
        with pytest.raises(UserInputError, match=rf"--output-stride 8 is not possible with {name}"):
            create_backbone(name, output_stride=8)
    with pytest.raises(UserInputError, match="possible with ir50"):
        create_backbone("ir50", output_stride=4)
    assert create_backbone("ir50", output_stride=8, image_size=32).grids[-1] == (4, 4)


def test_the_output_stride_of_a_transformer_is_its_patch(tmp_path: Path) -> None:
    torch.save(tensors_of("test_vit"), tmp_path / "weights.pt")
    fine = create_backbone("test_vit", output_stride=8, image_size=64, weights=tmp_path / "weights.pt")
    assert fine.reductions[-1] == 8 and fine.grids[-1] == (8, 8)
    assert create_backbone("test_vit", output_stride=16, image_size=64).grids[-1] == (4, 4)


def test_a_crop_that_does_not_fit_is_refused() -> None:
    for name in ("test_vit", "swin_tiny_patch4_window7_224"):
        with pytest.raises(UserInputError, match=rf"{name} cannot take images of 50 x 50 pixels.*--crop-size"):
            create_backbone(name, image_size=50)


def test_measuring_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    plain = create_backbone("test_resnet")
    torch.manual_seed(0)
    measured = create_backbone("test_resnet", image_size=64)
    assert measured.training
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), measured.state_dict().values(), strict=True)
    )


@torch.no_grad()
def test_forgotten_layers_are_not_computed() -> None:
    whole = create_backbone("test_resnet", image_size=64).eval()
    images = torch.randn(1, 3, 64, 64)
    before = whole(images)
    whole.keep_layers(3)
    after = whole(images)
    assert whole.n_layers == len(after) == len(whole.grids) == 3
    assert all(torch.equal(a, b) for a, b in zip(before[:3], after, strict=True))
    assert not any("layer4" in name for name in whole.state_dict())


def test_layers_of_a_transformer_are_evenly_spaced_blocks() -> None:
    assert shown_blocks(12) == (2, 4, 7, 9, 11)
    assert shown_blocks(3) == (0, 1, 2)


@torch.no_grad()
def test_a_transformer_takes_any_multiple_of_its_patch() -> None:
    backbone = create_backbone("test_vit", image_size=64).eval()
    assert isinstance(backbone, TokenBackbone)
    assert backbone.grids[-1] == (4, 4)
    assert [tuple(one.shape[2:]) for one in backbone(torch.randn(1, 3, 96, 160))] == [(6, 10)] * backbone.n_layers


@torch.no_grad()
def test_class_attention_is_the_explicit_softmax() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("test_vit", image_size=64).eval()
    assert isinstance(backbone, TokenBackbone)
    seen: list[Tensor] = []
    for block in backbone.blocks:
        block.attn.fused_attn = False  # type: ignore[union-attr,assignment]
        block.attn.attn_drop.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))  # type: ignore[union-attr,operator]
    with backbone.class_attention() as rows:
        backbone(torch.randn(2, 3, 64, 64))
    prefix = seen[0].shape[-1] - 16
    assert len(rows) == len(seen) == len(backbone.blocks)
    for row, probabilities in zip(rows, seen, strict=True):
        assert torch.allclose(row, probabilities.mean(1)[:, 0, prefix:], atol=1e-5)
    backbone(torch.randn(2, 3, 64, 64))
    assert len(rows) == len(backbone.blocks), "nothing is recorded once the block is left"


def test_a_class_row_sums_to_one() -> None:
    attention = create_backbone("test_vit").blocks[0].attn  # type: ignore[union-attr,operator,attr-defined]
    assert torch.allclose(class_row(attention, torch.randn(2, 5, attention.qkv.in_features)).sum(1), torch.ones(2))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet"])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_whole_classifier_loads(name: str, kind: str, tmp_path: Path) -> None:
    donor = timm.create_model(name, pretrained=False, img_size=64) if "vit" in name else timm.create_model(name)
    path = tmp_path / f"weights.{kind}"
    if kind == "pt":
        torch.save({"state_dict": {f"module.{key}": value for key, value in donor.state_dict().items()}}, path)
    else:
        safetensors.torch.save_file(donor.state_dict(), path)
    size = 64 if "vit" in name else 32
    backbone = create_backbone(name, weights=path, image_size=size).eval()
    wanted = {weights._canonical(key): value for key, value in donor.state_dict().items()}
    for key, value in backbone.body.state_dict().items():
        assert torch.equal(value, wanted[weights._canonical(key)]), key


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


MINE, OTHER = tensors_of("test_resnet"), {"stem.weight": torch.zeros(9, 9)}
OLDER = {key: torch.zeros_like(value) for key, value in MINE.items()}
LEFT_BY_PROGRAMS = {
    "timm": {"state_dict": MINE, "args": argparse.Namespace(lr=0.1, out=Path("out")), "metric": np.float64(71.2)},
    "numbers": {"model": MINE, "best": np.float32(0.5), "step": np.int64(3)},
    "tutorial": {"epoch": 3, "optimizer_state_dict": {"state": {}}, "model_state_dict": prefixed("module.", MINE)},
    "lightning": {"state_dict": {**prefixed("model.", MINE), "criterion.weight": torch.ones(7)}},
    "net": {"state_dict": prefixed("net.", MINE), "hyper_parameters": {"lr": 1e-3}},
    "mmlab": {"state_dict": {**prefixed("backbone.", MINE), "cls_head.fc.weight": torch.zeros(7, 9)}},
    "compiled": prefixed("_orig_mod.module.", MINE),
    "nested": {"checkpoint": {"anything": {"state_dict": MINE}}},
    "ema": {"state_dict": MINE, "state_dict_ema": OLDER},
    "only ema": {"ema": {"shadow": prefixed("module.", MINE)}},
    "distilled": {"teacher": OTHER, "student": prefixed("module.backbone.", MINE)},
    "distilled in one": {**prefixed("teacher.", OTHER), **prefixed("student.encoder.", MINE)},
    "own teacher": {"student": OLDER, "teacher": MINE},
}


@pytest.mark.parametrize("program", LEFT_BY_PROGRAMS)
def test_checkpoints_of_training_programs_load(program: str, tmp_path: Path) -> None:
    torch.save(LEFT_BY_PROGRAMS[program], tmp_path / "last.pth.tar")
    got = create_backbone("test_resnet", weights=tmp_path / "last.pth.tar").body.state_dict()
    assert all(torch.equal(value, MINE[key]) for key, value in got.items())


def test_it_is_said_which_weights_of_several_were_taken(tmp_path: Path) -> None:
    def said(content: dict[str, object]) -> str:
        torch.save(content, tmp_path / "last.pth")
        return str(create_backbone("test_resnet", weights=tmp_path / "last.pth").origin)

    assert said({"state_dict": MINE, "state_dict_ema": OLDER}) == "the file last.pth (state_dict, not state_dict_ema)"
    assert said({"nets": {"model_ema": OLDER}, "model": MINE}) == "the file last.pth (model, not nets.model_ema)"
    assert said({"state_dict": MINE, "discriminator": OTHER}) == said(MINE) == "the file last.pth"


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_what_keeps_a_checkpoint_from_loading_is_said_in_full(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet"), tmp_path / "whole.pt")
    torch.save({"epoch": 3, "weights_of_net": None}, tmp_path / "empty.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "script.pt")  # type: ignore[no-untyped-call]
    for name, said in (
        ("whole", r"holds timm\.\S+, .*timm.models.resnet.ResNet, .*torch.nn.\S+, which .*save\(model.state_dict\(\)"),
        ("empty", "no tensors by name.*epoch, weights_of_net"),
        ("script", "a TorchScript archive, which is a program"),
    ):
        with pytest.raises(RunError, match=said):
            create_backbone("test_resnet", weights=tmp_path / f"{name}.pt")


def test_a_position_embedding_is_resized_to_the_crop(tmp_path: Path) -> None:
    torch.save(tensors_of("test_vit"), tmp_path / "weights.pt")
    backbone = create_backbone("test_vit", weights=tmp_path / "weights.pt", image_size=64)
    assert backbone.body.state_dict()["model.pos_embed"].shape[1] == 17


def test_weights_of_a_run_start_another(tmp_path: Path) -> None:
    donor = create_backbone("test_convnext")
    torch.save({"model": {f"backbone.{k}": v for k, v in donor.state_dict().items()}}, tmp_path / "best.pt")
    got = create_backbone("test_convnext", weights=tmp_path / "best.pt").state_dict()
    assert all(torch.equal(value, got[name]) for name, value in donor.state_dict().items())


def test_ir50_takes_a_whole_face_recognition_checkpoint(tmp_path: Path) -> None:
    donor = create_backbone("ir50").body.state_dict()
    spare = {"output_layer.3.weight": torch.zeros(2, 2), "body.21.res_layer.0.weight": torch.zeros(256)}
    torch.save({**donor, **spare}, tmp_path / "ir50.pth")
    backbone = create_backbone("ir50", weights=tmp_path / "ir50.pth", image_size=32)
    assert backbone.channels == (64, 64, 128, 256)
    assert backbone.grids == ((32, 32), (16, 16), (8, 8), (4, 4))
    assert torch.equal(backbone.body.state_dict()["body.20.res_layer.3.weight"], donor["body.20.res_layer.3.weight"])


def test_weights_that_do_not_fit_are_listed_by_name(tmp_path: Path) -> None:
    state = tensors_of("test_resnet")
    state["conv1.0.weight"] = torch.zeros(5, 3, 3, 3)
    state["stray.weight"] = torch.zeros(2)
    del state["layer2.0.conv1.weight"]
    torch.save(state, tmp_path / "mixed.pt")
    expected = (
        r"mixed.pt.*missing: layer2.0.conv1.weight; unexpected: stray.weight; of another shape: conv1.0.weight \(5, "
    )
    with pytest.raises(RunError, match=expected):
        create_backbone("test_resnet", weights=tmp_path / "mixed.pt")


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploded",)


def test_weights_of_another_model_or_garbage_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(tensors_of("test_convnext"), tmp_path / "other.pt")
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("garbage.pt", "garbage.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
    for name in ("other.pt", "garbage.pt", "garbage.safetensors", "absent.pt", "bomb.pt", "list.pt"):
        for model in ("test_resnet", "test_vit"):
            with pytest.raises(RunError, match=name):
                create_backbone(model, weights=tmp_path / name)
    assert not Path("exploded").exists()


def test_without_a_network_pretrained_weights_fail_fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    with pytest.raises(RunError, match=r"could not be had.*leave out --pretrained.*--weights FILE"):
        create_backbone("resnet18", pretrained=True)
    assert time.perf_counter() - started < 5


def test_pretrained_weights_in_the_cache_need_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = timm.get_pretrained_cfg("test_resnet")
    folder = tmp_path / f"models--{config.hf_hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    (folder / "snapshots" / "c0ffee").mkdir(parents=True)
    donor = tensors_of("test_resnet")
    safetensors.torch.save_file(donor, folder / "snapshots" / "c0ffee" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    got = create_backbone("test_resnet", pretrained=True).body.state_dict()
    assert all(torch.equal(value, donor[name]) for name, value in got.items())


def test_a_model_without_published_weights_says_so() -> None:
    for name in ("ir50", "resnet18_no_such"):
        with pytest.raises((RunError, UserInputError), match=rf"{name}"):
            create_backbone(name, pretrained=True)


def test_torchvision_imports_whole_in_a_fresh_process() -> None:
    code = "import aupipe.fer_models.backbones, torchvision, torchvision.transforms; print(torchvision.ops.nms)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
