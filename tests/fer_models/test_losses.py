from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_models.losses import Objective, alignment
from aupipe.fer_models.targets import attention, cosine, parse_layers, resize_maps


def batch(seed: int = 0, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 8, 4, 4, generator=generator), torch.rand(n, 16, 16, generator=generator)


def test_alignment_is_the_definition() -> None:
    features, maps = batch()
    has_map = torch.tensor([1, 1, 0, 1, 0, 1]).bool()
    expected = 0.0
    for row in range(6):
        level, target = features[row].mean(0), maps[row].reshape(4, 4, 4, 4).mean((1, 3))
        if has_map[row]:
            expected += float(1 - (level * target).sum() / (level.norm() * target.norm())) / 6
    assert float(alignment([features], maps, has_map)) == pytest.approx(expected, abs=1e-6)


def test_a_samples_weight_does_not_depend_on_its_neighbours() -> None:
    features, maps = batch()
    features.requires_grad_()
    gradients = []
    for others in (False, True):
        has_map = torch.tensor([True, *[others] * 5])
        (gradient,) = torch.autograd.grad(alignment([features], maps, has_map), features)
        gradients.append(gradient[0])
    assert gradients[0].abs().max() > 0
    assert torch.allclose(gradients[0], gradients[1], atol=1e-9)


def test_samples_without_map_have_no_gradient() -> None:
    features, maps = batch()
    features.requires_grad_()
    (gradient,) = torch.autograd.grad(alignment([features], maps, torch.arange(6) < 3), features)
    assert gradient[3:].abs().max() == 0 and gradient[:3].abs().max() > 0


def test_attention_in_an_erased_area_is_neither_punished_nor_wanted() -> None:
    """A face whose map fits but for a blank rectangle, where whatever the network does must not matter."""
    features, maps = batch()
    features, valid = maps.reshape(6, 1, 4, 4, 4, 4).mean((3, 5)), torch.ones_like(maps)
    valid[:, :4, 8:] = 0
    features[:, :, 0, 2:] = 5.0
    features.requires_grad_()
    mask, logits, label = torch.ones(6).bool(), torch.randn(6, 7), torch.arange(6)
    punished, spared = (Objective(1.0, (1,))(logits, (features,), label, maps, mask, v).align for v in (None, valid))
    assert float(punished.detach()) > 0.1 and float(spared.detach()) == pytest.approx(0, abs=1e-6)
    (gradient,) = torch.autograd.grad(alignment([features + 1], maps, mask, valid), features)
    assert gradient[:, :, 0, 2:].abs().max() == 0 and gradient.abs().max() > 0


def test_zero_maps_and_zero_attention_never_give_nan() -> None:
    features, maps = batch()
    features, maps = (features * 0).requires_grad_(), maps * 0
    for target in (maps, batch()[1]):
        loss = alignment([features], target, torch.ones(6).bool())
        (gradient,) = torch.autograd.grad(loss, features)
        assert float(loss.detach()) == 1.0
        assert torch.isfinite(gradient).all()


def test_layers_are_averaged() -> None:
    features, maps = batch()
    shallow = torch.rand(6, 3, 8, 8)
    mask = torch.ones(6).bool()
    each = [float(alignment([layer], maps, mask)) for layer in (features, shallow)]
    assert float(alignment([features, shallow], maps, mask)) == pytest.approx(sum(each) / 2, abs=1e-6)


def test_objective_adds_up_and_weight_zero_is_the_plain_classifier() -> None:
    features, maps = batch()
    features.requires_grad_()
    logits, label, mask = torch.randn(6, 7), torch.arange(6), torch.ones(6).bool()
    terms = Objective(4.0, (2,))(logits, (torch.zeros(6, 1, 8, 8), features), label, maps, mask)
    assert terms.total.requires_grad
    ce, align, total = terms.stacked().tolist()
    assert total == pytest.approx(ce + 4 * align, abs=1e-6)
    vanilla = Objective(0.0, (1,))(logits, (features,), label, maps, mask)
    assert torch.equal(vanilla.total, vanilla.ce) and not vanilla.total.requires_grad
    assert float(vanilla.align) > 0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_cosine_ignores_scale_and_stays_in_range(seed: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 3, 5, 5, generator=generator)
    assert torch.allclose(cosine(a * factor, b), cosine(a, b), atol=1e-5)
    assert cosine(a, b).abs().max() <= 1 + 1e-5
    assert torch.allclose(cosine(a, a), torch.ones(3), atol=1e-5)


def test_attention_is_the_plain_channel_mean() -> None:
    features = torch.randn(2, 5, 3, 3)
    assert torch.allclose(attention(features), features.sum(1) / 5)


def test_resizing_averages_down_and_interpolates_up() -> None:
    maps = torch.rand(2, 8, 8)
    assert torch.allclose(resize_maps(maps, (4, 4)), maps.reshape(2, 4, 2, 4, 2).mean((2, 4)))
    up = resize_maps(torch.tensor([[[0.0, 1.0]]]).expand(1, 2, 2), (4, 4))
    assert torch.allclose(up[0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))


@pytest.mark.parametrize(("text", "layers"), [("last", (5,)), ("5", (5,)), ("4, 5", (5, 4)), ("1,3,3", (3, 1))])
def test_layers_are_parsed(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text, 5) == layers


@pytest.mark.parametrize("text", ["9", "0", "5,9", "-1", "", "five", "5;4"])
def test_layers_out_of_range_name_the_valid_ones(text: str) -> None:
    with pytest.raises(UserInputError, match=r"1, 2, 3, 4, 5"):
        parse_layers(text, 5)


def test_label_smoothing_reaches_the_cross_entropy() -> None:
    features, maps = batch()
    logits, label, mask = torch.randn(6, 7), torch.arange(6), torch.ones(6).bool()
    smooth = Objective(0.0, (1,), 0.2)(logits, (features,), label, maps, mask)
    expected = 0.8 * torch.nn.functional.cross_entropy(logits, label) - 0.2 * logits.log_softmax(1).mean()
    assert torch.allclose(smooth.ce, expected, atol=1e-6)


def test_the_mean_over_valid_samples_ignores_the_others() -> None:
    features, maps = [torch.rand(4, 3, 5, 5)], torch.rand(4, 5, 5)
    logits, label = torch.randn(4, 7), torch.arange(4)
    for count in (0, 1, 3):
        mask = torch.arange(4) < count
        over_batch = Objective(2.0, (1,))(logits, features, label, maps, mask).align
        terms = Objective(2.0, (1,), average="valid")(logits, features, label, maps, mask)
        assert terms.align == pytest.approx(over_batch * 4 / max(count, 1))
        assert terms.total == pytest.approx(terms.ce + 2 * terms.align)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_attention_is_the_mean_over_channels_in_full_precision(dtype: torch.dtype) -> None:
    features = torch.rand(2, 300, 4, 3).to(dtype).requires_grad_()
    precise = torch.promote_types(dtype, torch.float32)
    level = attention(features)
    assert level.dtype == precise and torch.equal(level, features.to(precise).mean(1))
    (level * torch.arange(3)).sum().backward()
    assert features.grad is not None and torch.allclose(
        features.grad.to(precise), (torch.arange(3) / 300).to(dtype).to(precise).expand(2, 300, 4, 3)
    )
