from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aupipe.fer_models.methods.excitation import Excitation


def back(output: Tensor, operand: Tensor, probability: Tensor) -> Tensor:
    return torch.autograd.grad(output, operand, probability)[0]


def test_a_convolution_shares_by_positive_weights_times_positive_activations() -> None:
    """Zhou et al., equations 3 and 4, pixel by pixel."""
    torch.manual_seed(0)
    u = (torch.randn(1, 2, 5, 5) + 1).requires_grad_()
    weight, bias, won = torch.randn(3, 2, 3, 3), torch.randn(3), torch.rand(1, 3, 3, 3)
    with Excitation():
        out = F.conv2d(u, weight, bias, stride=2, padding=1)
    assert torch.allclose(out, F.conv2d(u, weight, bias, stride=2, padding=1))
    expected = torch.zeros(2, 7, 7)
    active = F.pad(u.detach()[0], (1, 1, 1, 1)).clamp_min(0)
    for channel in range(3):
        for p in range(3):
            for q in range(3):
                window = (slice(None), slice(2 * p, 2 * p + 3), slice(2 * q, 2 * q + 3))
                drive = active[window] * weight[channel].clamp_min(0)
                expected[window] += won[0, channel, p, q] * drive / drive.sum().clamp_min(1e-9)
    got = back(out, u, won)
    assert torch.allclose(got[0], expected[:, 1:-1, 1:-1], atol=1e-6)
    assert got.sum() == pytest.approx(float(won.sum()), rel=1e-5)


def test_a_unit_that_nothing_excites_ends_its_probability() -> None:
    u = torch.rand(1, 1, 4, 4, requires_grad=True)
    with Excitation():
        out = F.conv2d(u, -torch.ones(1, 1, 3, 3))
    assert back(out, u, torch.ones_like(out)).abs().max() == 0


def test_normalisations_and_activations_hand_on_unchanged() -> None:
    u, won = torch.randn(2, 4, 3, 3, requires_grad=True), torch.rand(2, 4, 3, 3)
    modules = [
        torch.nn.BatchNorm2d(4).eval(), torch.nn.ReLU(inplace=True), torch.nn.SiLU(), torch.nn.GELU(),
        torch.nn.ReLU6(inplace=True), torch.nn.Hardswish(), torch.nn.GroupNorm(2, 4), torch.nn.LayerNorm(3),
    ]  # fmt: skip
    for module in modules:
        with Excitation():
            out = module(u * 1.0)
        assert torch.allclose(out, module(u * 1.0))
        assert torch.equal(back(out, u, won), won), module


@pytest.mark.parametrize("in_place", [False, True])
def test_a_residual_sum_shares_by_what_each_side_adds(in_place: bool) -> None:
    left = torch.tensor([3.0, -1.0, 2.0, -1.0], requires_grad=True)
    right = torch.tensor([1.0, 4.0, 0.0, -1.0], requires_grad=True)
    with Excitation():
        total = left * 1.0
        if in_place:
            total += right
        else:
            total = total + right
    assert torch.equal(total, left + right)
    first, second = torch.autograd.grad(total, (left, right), torch.ones(4))
    assert torch.allclose(first, torch.tensor([0.75, 0.0, 1.0, 0.5]))
    assert torch.allclose(first + second, torch.ones(4))


def test_an_in_place_sum_whose_result_is_dropped_still_happens() -> None:
    value, other = torch.ones(3, requires_grad=True), torch.full((3,), 2.0)
    with Excitation():
        copy = value * 1.0
        copy.add_(other)
    assert torch.equal(copy, torch.full((3,), 3.0))
    assert torch.allclose(back(copy, value, torch.ones(3)), torch.full((3,), 1 / 3))


def test_a_gate_gets_nothing() -> None:
    maps, gate = torch.rand(1, 3, 4, 4, requires_grad=True), torch.rand(1, 3, 1, 1, requires_grad=True)
    with Excitation():
        out = gate * maps
    won = torch.rand(1, 3, 4, 4)
    first, second = torch.autograd.grad(out, (maps, gate), won, allow_unused=True)
    assert torch.equal(first, won) and second is None


def test_average_pooling_shares_by_activation() -> None:
    u = torch.tensor([[[[1.0, 3.0], [-5.0, 0.0]]]], requires_grad=True)
    with Excitation():
        out = F.avg_pool2d(u, 2)
    assert torch.allclose(back(out, u, torch.ones(1, 1, 1, 1)), torch.tensor([[[[0.25, 0.75], [0.0, 0.0]]]]))


def test_outside_of_the_context_derivatives_are_derivatives() -> None:
    u, weight = torch.randn(1, 1, 4, 4, requires_grad=True), torch.randn(1, 1, 3, 3)
    expected = back(F.conv2d(u, weight), u, torch.ones(1, 1, 2, 2))
    with Excitation():
        F.conv2d(u, weight)
    assert torch.equal(back(F.conv2d(u, weight), u, torch.ones(1, 1, 2, 2)), expected)
