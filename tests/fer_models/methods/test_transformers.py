from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.losses import Objective
from aupipe.fer_models.methods import Method, create_method
from aupipe.fer_models.methods.apvit import APViT, PoolingBlock, nearest_layer
from aupipe.fer_models.methods.tscam import TSCAM


def tscam(name: str = "test_vit", size: int = 64) -> TSCAM:
    torch.manual_seed(0)
    method = create_method("tscam", create_backbone(name, image_size=size), 3).eval()
    assert isinstance(method, TSCAM)
    return method


def apvit(name: str = "test_resnet", size: int = 64, **options: float | str) -> APViT:
    torch.manual_seed(0)
    method = create_method("apvit", create_backbone(name, image_size=size), 3, dim=32, heads=4, **options).eval()
    assert isinstance(method, APViT)
    return method


def step(method: Method, size: int = 64) -> None:
    prediction = method.train()(torch.randn(2, 3, size, size))
    objective = Objective(1.0, (method.backbone.n_layers,))
    label, has_map = torch.tensor([0, 2]), torch.tensor([True, True])
    objective(prediction.logits, prediction.features, label, torch.rand(2, 16, 16), has_map).total.backward()


def test_the_tscam_map_is_the_sum_of_all_blocks_attention_times_the_class_map() -> None:
    method, label = tscam(), torch.tensor([2, 0])
    out = method.read(torch.randn(2, 3, 64, 64))
    attention, semantic = out.extra["attention"], out.extra["semantic"]
    assert attention.shape == (2, len(method.backbone.blocks), 4, 4)
    assert semantic.shape == (2, 3, 4, 4)
    whole = method.cam(out, label)
    chosen = semantic[[0, 1], label]
    for block in range(attention.shape[1]):
        part = attention.clone()
        part[:, block] = 0
        less = method.cam(type(out)(out.logits, out.features, {"semantic": semantic, "attention": part}), label)
        assert torch.allclose(whole - less, attention[:, block] * chosen, atol=1e-6)
        assert (attention[:, block] > 0).all()
    assert torch.allclose(semantic.mean((2, 3)), out.logits, atol=1e-6)


def test_the_published_features_of_tscam_are_the_normalised_tokens() -> None:
    method = tscam()
    out = method.read(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    found = method.published_features(out.features)
    assert all(ours is theirs for ours, theirs in zip(found[:-1], out.features[:-1], strict=True))
    assert torch.equal(found[-1], method.backbone.normalised(out.features[-1]))
    assert not torch.allclose(found[-1], out.features[-1], atol=1e-3)


@contextmanager
def planted_class_row(method: TSCAM, place: int) -> Iterator[None]:
    """All blocks attend, from the class token only, to one patch."""
    hooks = []
    for block in method.backbone.blocks:
        attention = block.attn

        def plant(module: torch.nn.Module, _: object, qkv: Tensor) -> Tensor:
            width = qkv.shape[-1] // 3
            changed = torch.zeros_like(qkv)
            changed[:, 0, :width] = 9
            changed[:, place, width : 2 * width] = 9
            return changed

        hooks.append(attention.qkv.register_forward_hook(plant))  # type: ignore[union-attr,operator]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def test_the_class_tokens_row_is_read_and_laid_out_row_by_row() -> None:
    method = tscam()
    prefix = method.backbone.body.model.num_prefix_tokens  # type: ignore[union-attr]
    with planted_class_row(method, prefix + 1 * 4 + 3):
        attention = method.read(torch.randn(1, 3, 64, 64)).extra["attention"]
    expected = torch.zeros(4, 4)
    expected[1, 3] = 1
    assert torch.allclose(attention, expected.expand_as(attention), atol=1e-4)


def test_reading_changes_no_prediction_and_training_reads_nothing() -> None:
    method, images = tscam(), torch.randn(2, 3, 64, 64)
    assert torch.equal(method.read(images).logits, method(images).logits)
    assert "attention" not in method(images).extra


def test_tscam_learns_at_any_multiple_of_the_patch() -> None:
    method = tscam(size=96)
    step(method, 96)
    unused = [name for name, parameter in method.named_parameters() if parameter.grad is None]
    assert not unused
    assert method.read(torch.randn(1, 3, 64, 128)).extra["attention"].shape[2:] == (4, 8)


@pytest.mark.parametrize("name", ["test_resnet", "swin_tiny_patch4_window7_224", "test_vit4", "mixer_s32_224"])
def test_tscam_refuses_what_has_no_readable_class_token(name: str) -> None:
    with pytest.raises(UserInputError, match=rf"tscam cannot use {name}.*class token.*deit_tiny_patch16_224"):
        create_method("tscam", create_backbone(name), 3)


def test_apvit_takes_the_layer_nearest_to_14_pixels_and_forgets_the_deeper() -> None:
    assert nearest_layer(create_backbone("test_resnet", image_size=224)) == 4
    assert nearest_layer(create_backbone("test_resnet")) == 4
    assert nearest_layer(create_backbone("test_resnet", image_size=112)) == 3
    assert nearest_layer(create_backbone("ir50", image_size=112)) == 4
    method = apvit(size=112)
    features = method(torch.randn(1, 3, 112, 112)).features
    assert len(features) == method.backbone.n_layers == 3
    assert features[-1].shape[2:] == (14, 14)


def test_ir50_is_cut_where_the_tokens_are_taken() -> None:
    method = apvit("ir50", size=64)
    features = method(torch.randn(1, 3, 64, 64)).features
    assert [one.shape[2] for one in features] == [64, 32, 16]
    assert len(method.backbone.body.body) == 7  # type: ignore[arg-type,union-attr]


def kept_pixels(method: APViT, features: Tensor) -> Tensor:
    """Which of the pixels gradients come from: those that patch pooling keeps."""
    features.requires_grad_()
    method.logits((features,)).sum().backward()
    assert features.grad is not None
    return features.grad.abs().sum(1) > 0


def test_patch_pooling_by_the_mean_keeps_exactly_the_strongest_pixels() -> None:
    method = apvit(size=112, score="mean")
    features = torch.randn(2, method.backbone.channels[-1], 14, 14)
    features -= features.mean(1, keepdim=True)
    strength = torch.randperm(196).float().reshape(1, 1, 14, 14)
    reached = kept_pixels(method, features + strength)
    assert reached[0].sum() == 160
    assert torch.equal(reached, (strength[0] >= 36).expand(2, -1, -1))


def test_patch_pooling_scores_a_pixel_by_its_absolute_values_after_the_projection() -> None:
    """The authors' default: a pixel that is strongly negative after the projection counts like a positive one."""
    method = apvit(size=112)
    features = torch.randn(2, method.backbone.channels[-1], 14, 14)
    scores = method.project(features).detach().abs().sum(1).flatten(1)
    reached = kept_pixels(method, features).flatten(1)
    for row, score in zip(reached, scores, strict=True):
        assert row.sum() == 160 and score[row].min() > score[~row].max()
    assert not torch.equal(reached, kept_pixels(apvit(size=112, score="mean"), features.detach()).flatten(1))


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, [161] * 4 + [145, 130, 117, 105]),  # 144, 129.6, 116.1 and 104.4 patches, cut
        ({"keep": 1.0, "token_keep": 1.0, "depth": 2}, [197] * 2),
        ({"keep": 0.5, "token_keep": 0.5, "depth": 3}, [99, 99, 50]),
    ],
)
def test_blocks_pass_on_the_announced_number_of_tokens(options: dict[str, float], counts: list[int]) -> None:
    method, seen = apvit(size=112, **options), []
    for block in method.blocks:
        block.register_forward_hook(lambda _, __, tokens: seen.append(tokens.shape[1]))
    method(torch.randn(1, 3, 112, 112))
    assert seen == counts


@torch.no_grad()
def test_token_pooling_keeps_the_patches_the_class_token_attends_to() -> None:
    torch.manual_seed(0)
    block = PoolingBlock(8, 1, 0.5).eval()
    block.attn.qkv.weight.zero_()
    block.attn.qkv.weight[0, 0] = 1.0  # query and key are the first channel
    block.attn.qkv.weight[8, 0] = 1.0
    block.norm1 = torch.nn.Identity()
    tokens = torch.zeros(1, 5, 8)
    tokens[0, :, 0] = torch.tensor([1.0, 0.1, 0.9, 0.2, 0.8])
    tokens[0, :, 1] = torch.arange(5.0)
    whole = PoolingBlock(8, 1, 1.0).eval()
    whole.load_state_dict(block.state_dict(), strict=False)
    whole.norm1 = torch.nn.Identity()
    assert torch.allclose(block(tokens), whole(tokens)[:, [0, 2, 4]])


@torch.no_grad()
def test_token_pooling_sums_the_heads_logits_before_the_softmax() -> None:
    """Patch 1 is loved by one head and hated by the other, which no softmax shows; patch 2 has the largest sum."""
    block = PoolingBlock(8, 2, 0.3).eval()
    block.attn.qkv.weight.zero_()
    rows = torch.tensor([[0.0, 0.0], [10.0, -12.0], [8.0, -1.0], [0.0, 0.0], [0.0, 0.0]])  # logits, by head
    for head in (0, 1):
        block.attn.qkv.weight[4 * head, 7] = 2.0  # query: sqrt of the head's width
        block.attn.qkv.weight[8 + 4 * head, head] = 1.0  # key: the head's own channel
    block.norm1 = torch.nn.Identity()
    tokens = torch.zeros(1, 5, 8)
    tokens[0, :, :2], tokens[0, :, 7], tokens[0, :, 6] = rows, 1.0, torch.arange(5.0)
    whole = PoolingBlock(8, 2, 1.0).eval()
    whole.load_state_dict(block.state_dict(), strict=False)
    whole.norm1 = torch.nn.Identity()
    assert torch.allclose(block(tokens), whole(tokens)[:, [0, 2]])


def test_the_whole_apvit_learns() -> None:
    method = apvit("ir50", size=32)
    step(method, 32)
    assert not [name for name, parameter in method.named_parameters() if parameter.grad is None]


def test_apvit_has_no_cam_and_refuses_transformers_and_wrong_options() -> None:
    method = apvit()
    assert not method.has_cam
    with pytest.raises(UserInputError, match="no class activation map"):
        method.cam(method(torch.randn(1, 3, 64, 64)), torch.tensor([0]))
    with pytest.raises(UserInputError, match="apvit cannot use test_vit"):
        create_method("apvit", create_backbone("test_vit"), 3)
    wrong = {"score": "max", "keep": 0.0, "token_keep": 1.5, "depth": 0, "heads": 0, "dim": 30}
    for option, value in wrong.items():
        with pytest.raises(UserInputError, match=rf"option {option} cannot .* Got: {value}"):
            create_method("apvit", create_backbone("test_resnet", image_size=64), 3, **{option: value})
