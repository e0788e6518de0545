"""What every registered method keeps to, whatever its head, its training and its map."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.losses import Objective
from aupipe.fer_models.methods import METHODS, Method, create_method, option_defaults
from aupipe.fer_models.targets import positive_part
from batches import random_batch

CONVOLUTIONS = ("test_resnet", "test_convnext")
BACKBONES: dict[str, tuple[str, ...]] = {"tscam": ("test_vit",), "apvit": CONVOLUTIONS}
"""Backbones of the methods that do not take any: small ones of their kind."""

SMALL = {"acol": {"width": 24}, "apvit": {"dim": 32, "heads": 4, "depth": 4}}
CASES = [(name, one) for name in sorted(METHODS) for one in BACKBONES.get(name, (*CONVOLUTIONS, "weinet"))]
SIZE = 64

everywhere = pytest.mark.parametrize(("name", "backbone"), CASES)
every_method = pytest.mark.parametrize(("name", "backbone"), dict(reversed(CASES)).items())


def model(name: str, backbone: str, seed: int = 0, **options: int | str) -> Method:
    torch.manual_seed(seed)
    return create_method(name, create_backbone(backbone), 7, **SMALL.get(name, {}), **options).eval()


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def objective(net: Method) -> Objective:
    return Objective(4.0, (net.backbone.n_layers,))


@everywhere
def test_logits_features_and_maps_are_as_announced(name: str, backbone: str) -> None:
    net = model(name, backbone)
    out, label = net.read(images()), torch.tensor([0, 3, 6])
    assert out.logits.shape == (3, 7) and out.logits.isfinite().all()
    assert [len(layer[0]) for layer in out.features] == list(net.backbone.channels)
    assert torch.allclose(net(images()).logits, out.logits, atol=1e-5)
    if net.has_cam:
        cam = net.cam(out, label)
        assert cam.ndim == 3 and len(cam) == 3 and cam.dtype == torch.float32
        assert cam.isfinite().all()
        assert torch.equal(net.cam(out, label), cam)
        assert not torch.allclose(cam, net.cam(out, label.flip(0)))


@every_method
def test_a_class_with_all_evidence_against_it_has_an_empty_map(name: str, backbone: str) -> None:
    """One convention for all maps: what counts is the positive part, never a shift by the map's minimum.

    PRM's map of peaks holds shares of won probability, no evidence; its response maps do.
    """
    net = model(name, backbone, **({"map": "response"} if name == "prm" else {}))
    if not net.has_cam:
        return
    plant_evidence(net)
    out = net.read(images())
    against, others = (net.cam(out, torch.full((3,), number)) for number in (0, 1))
    assert positive_part(against).max() == 0 < positive_part(others).amax((1, 2)).min()


def plant_evidence(net: Method) -> None:
    """Make a head whose evidence is negative at every pixel for class 0, and positive for the others."""
    heads = [net.head] if hasattr(net, "head") else [net.branch_a[-1], net.branch_b[-1]]  # type: ignore[index]
    for head in heads:
        rows = len(head.weight) // 7
        with torch.no_grad():
            for parameter, least in ((head.weight, 0.0), (head.bias, 50.0)):
                parameter.abs_().add_(least)
                parameter[:rows].neg_()


@every_method
def test_published_maps_are_those_of_the_paper_that_is_compared_with(name: str, backbone: str) -> None:
    """In [0, 1], from the lowest to the highest value of each map; features of every layer, one map each."""
    net, label = model(name, backbone), torch.tensor([0, 3, 6])
    out = net.read(images())
    features = net.published_features(out.features)
    assert [layer.shape for layer in features] == [layer.shape for layer in out.features]
    if net.has_cam:
        cam = net.published_cam(out, label)
        assert cam.dtype == torch.float32 and torch.equal(cam.amin((1, 2)), torch.zeros(3))
        assert {round(peak, 5) for peak in cam.amax((1, 2)).tolist()} in ({1}, {0, 1})  # rectified to nothing: 0


@every_method
def test_maps_can_be_had_where_gradients_are_off_from_any_layer_offered(name: str, backbone: str) -> None:
    label = torch.tensor([0, 3, 6])
    for options in [{}, {"layer": 2}] if "layer" in option_defaults(name) else [{}]:
        net = model(name, backbone, **options)
        if net.has_cam:
            cam = net.cam(net.read(images()), label)
            with torch.no_grad():
                assert torch.equal(net.cam(net.read(images()), label), cam)


@everywhere
def test_a_samples_map_and_logits_do_not_depend_on_its_batch(name: str, backbone: str) -> None:
    net, pictures, label = model(name, backbone), images(), torch.tensor([0, 3, 6])
    together = net.read(pictures)
    for row in range(3):
        alone = net.read(pictures[row : row + 1])
        assert torch.allclose(alone.logits[0], together.logits[row], atol=1e-5)
        if net.has_cam:
            ours, theirs = net.cam(alone, label[row : row + 1])[0], net.cam(together, label)[row]
            assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.detach().abs().max()))


@everywhere
def test_attention_in_an_erased_area_is_not_aligned(name: str, backbone: str) -> None:
    """With everything erased nothing is left to align; the loss of a step is then the same for any map."""
    net, batch, terms = model(name, backbone).train(), random_batch(), []
    for au_map in (batch.au_map, 1 - batch.au_map):
        torch.manual_seed(0)
        erased = replace(batch, au_map=au_map, valid=torch.zeros_like(batch.au_map))
        terms.append(net.training_step(erased, objective(net)).stacked())
    assert torch.allclose(*terms) and not torch.isnan(terms[0]).any()


@everywhere
def test_small_steps_lower_the_loss_and_reach_every_parameter(name: str, backbone: str) -> None:
    net, batch = model(name, backbone).train(), random_batch()
    optimizer = torch.optim.SGD(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        torch.manual_seed(3)
        terms = net.training_step(batch, objective(net))
        terms.total.backward()
        losses.append(float(terms.total.detach()))
        optimizer.step()
    assert losses[-1] < losses[0]
    # Not in the first step: a residual branch whose last norm starts at zero gets its gradient from the second on.
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@every_method
def test_a_batch_without_any_map_trains_on_its_labels_alone(name: str, backbone: str) -> None:
    net, batch = model(name, backbone).train(), random_batch(mapped=False)
    ce, align, total = net.training_step(batch, objective(net)).stacked().tolist()
    assert align == 0 and total == ce > 0


@every_method
def test_half_precision_trains_and_its_maps_are_whole_precision(name: str, backbone: str) -> None:
    net = model(name, backbone).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = net.training_step(random_batch(), objective(net))
    terms.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = net.read(images())
        if net.has_cam:
            cam = net.cam(out, torch.tensor([0, 3, 6]))
            assert cam.dtype == torch.float32 and cam.isfinite().all()


@every_method
def test_a_restored_state_gives_the_same_output(name: str, backbone: str) -> None:
    net, other = model(name, backbone), model(name, backbone, seed=1)
    other.load_state_dict(net.state_dict())
    label = torch.tensor([0, 3, 6])
    before, after = net.read(images()), other.read(images())
    assert torch.equal(before.logits, after.logits)
    if net.has_cam:
        assert torch.equal(net.cam(before, label), other.cam(after, label))


@every_method
def test_training_is_the_same_from_the_same_seed(name: str, backbone: str) -> None:
    results = []
    for _ in range(2):
        net = model(name, backbone).train()
        torch.manual_seed(11)
        results.append(net.training_step(random_batch(), objective(net)).stacked())
    assert torch.equal(*results)
