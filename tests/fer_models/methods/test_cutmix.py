from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.losses import LossTerms, Objective, alignment
from aupipe.fer_models.methods import create_method
from aupipe.fer_models.methods import cutmix as room
from aupipe.fer_models.methods.cutmix import CutMix, box_mask, mix_maps
from batches import random_batch


def model(**options: float) -> CutMix:
    torch.manual_seed(0)
    net = create_method("cutmix", create_backbone("test_resnet"), 7, **options).train()
    assert isinstance(net, CutMix)
    return net


def known(*has_map: bool, size: int = 16) -> Tensor:
    return torch.tensor(has_map).float()[:, None, None].expand(-1, size, size)


def left_half(size: int = 64) -> Tensor:
    box = torch.zeros(size, size, dtype=torch.bool)
    box[:, : size // 2] = True
    return box


def test_boxes_are_rectangles_of_the_drawn_area_cut_at_the_borders() -> None:
    torch.manual_seed(0)
    areas = []
    for _ in range(300):
        box = box_mask((40, 60), 0.75)
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows[:, None] & columns[None])
        assert int(rows.sum()) <= 20 and int(columns.sum()) <= 30
        areas.append(float(box.float().mean()))
    assert max(areas) == 0.25 and min(areas) < 0.15
    assert not box_mask((40, 60), 1.0).any()


def test_images_are_mixed_by_the_box_and_labels_by_its_true_area(monkeypatch: pytest.MonkeyPatch) -> None:
    box = left_half()
    box[:, :16] = False
    monkeypatch.setattr(room, "box_mask", lambda *_: box)
    net, batch = model(), random_batch()
    shown: list[Tensor] = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    logits: list[Tensor] = []
    net.register_forward_hook(lambda _net, _inputs, out: logits.append(out.logits.detach()))
    terms = net.training_step(batch, Objective(0.0, (5,)))
    assert torch.equal(shown[0][:, :, ~box], batch.image[:, :, ~box])
    pasted = [image[:, box] for image in shown[0]]
    inside = [next(n for n in range(6) if torch.equal(one, batch.image[n][:, box])) for one in pasted]
    assert sorted(inside) == list(range(6)) and inside != list(range(6))
    chances = logits[0].log_softmax(1)
    own = -chances[torch.arange(6), batch.label].mean()
    other = -chances[torch.arange(6), batch.label[torch.tensor(inside)]].mean()
    assert torch.allclose(terms.ce, 0.75 * own + 0.25 * other, atol=1e-5)


def test_au_maps_get_the_same_patch() -> None:
    batch = random_batch()
    partner = torch.arange(6).roll(1)
    mixed, valid = mix_maps(batch.au_map, known(*[True] * 6), partner, left_half())
    assert torch.equal(mixed[:, :, :8], batch.au_map[partner][:, :, :8])
    assert torch.equal(mixed[:, :, 8:], batch.au_map[:, :, 8:])
    assert torch.equal(valid, torch.ones(6, 16, 16))


def test_an_edge_inside_a_pixel_of_the_map_mixes_by_area() -> None:
    box = torch.zeros(8, 8, dtype=torch.bool)
    box[:, :3] = True  # of a map of 2 x 2: three quarters of the left pixels
    maps = torch.stack([torch.full((2, 2), 0.2), torch.full((2, 2), 1.0)])
    partner = torch.tensor([1, 0])
    mixed, valid = mix_maps(maps, known(True, True, size=2), partner, box)
    assert torch.allclose(mixed[0], torch.tensor([[0.8, 0.2], [0.8, 0.2]])) and torch.allclose(
        valid, torch.ones(2, 2, 2)
    )
    mixed, valid = mix_maps(maps, known(True, False, size=2), partner, box)
    assert torch.allclose(mixed[0], torch.tensor([[0.2, 0.2], [0.2, 0.2]]))
    assert torch.allclose(valid[0], torch.tensor([[0.25, 1.0], [0.25, 1.0]]))
    assert torch.allclose(valid[1], torch.tensor([[0.75, 0.0], [0.75, 0.0]]))


def test_one_without_a_map_neither_aligns_its_own_area_nor_poisons_its_partner() -> None:
    maps, has_map = random_batch(2).au_map, torch.tensor([True, False])
    mixed, valid = mix_maps(maps, known(True, False), torch.tensor([1, 0]), left_half())
    level = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = alignment([level], mixed, valid.flatten(1).any(1), valid)
    (gradient,) = torch.autograd.grad(loss, level)
    # Sample 0 shows the one without map on the left; sample 1 shows on the left the only face that has one.
    assert gradient[0][:, :, :8].abs().max() == 0 and gradient[0][:, :, 8:].abs().max() > 0
    assert gradient[1][:, :, 8:].abs().max() == 0 and gradient[1][:, :, :8].abs().max() > 0
    right = (torch.arange(16) >= 8).float()
    alone = alignment([level[:1] * right], maps[:1] * right, has_map[:1])
    partly = alignment([level[:1]], mixed[:1], has_map[:1], valid[:1])
    assert float(partly.detach()) == pytest.approx(float(alone.detach()), abs=1e-6)


def test_what_is_erased_stays_erased_in_its_owner_and_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "box_mask", lambda *_: left_half())
    monkeypatch.setattr(torch, "randperm", lambda count: torch.arange(count).roll(1))
    valid = torch.ones(6, 16, 16)
    valid[1, 4:8] = 0  # of sample 1, whose left half sample 2 shows
    batch = replace(random_batch(), has_map=torch.ones(6, dtype=torch.bool), valid=valid)
    net, found = model(), list[Tensor]()
    objective = Objective(4.0, (5,))
    monkeypatch.setattr(Objective, "compose", lambda *given: found.append(given[-1]) or LossTerms(*[given[1]] * 3))
    net.training_step(batch, objective)
    expected = torch.ones(6, 16, 16)
    expected[1, 4:8, 8:] = expected[2, 4:8, :8] = 0
    assert torch.equal(found[0], expected)


def test_a_step_aligns_what_is_valid_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "box_mask", lambda *_: left_half())
    monkeypatch.setattr(torch, "randperm", lambda count: torch.arange(count).roll(1))
    batch = replace(random_batch(), has_map=torch.tensor([True, False, False, True, True, False]))
    net, features = model(), list[tuple[Tensor, ...]]()
    net.register_forward_hook(lambda _net, _inputs, out: features.append(out.features))
    terms = net.training_step(batch, Objective(4.0, (5,)))
    mixed, valid = mix_maps(batch.au_map, known(*batch.has_map.tolist()), torch.arange(6).roll(1), left_half())
    expected = alignment([features[0][4]], mixed, valid.flatten(1).any(1), valid)
    assert float(terms.align.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)


def test_a_layer_coarser_than_the_edge_counts_the_valid_part_of_its_pixels() -> None:
    """The target of a pixel is its valid part's share of the map: what lies in the invalid part must not matter."""
    level = torch.rand(1, 3, 4, 4)
    valid = torch.ones(1, 16, 16)
    valid[:, :, :6] = 0
    maps = torch.rand(1, 16, 16)
    changed = torch.where(valid > 0, maps, 1 - maps)
    has_map = torch.tensor([True])
    assert torch.equal(alignment([level], maps, has_map, valid), alignment([level], changed, has_map, valid))


def test_without_chance_or_with_an_empty_box_it_trains_like_cam(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, objective = random_batch(), Objective(4.0, (5,))
    torch.manual_seed(0)
    plain = create_method("cam", create_backbone("test_resnet"), 7).train().training_step(batch, objective).stacked()
    assert torch.allclose(model(prob=0.0).training_step(batch, objective).stacked(), plain)
    monkeypatch.setattr(room, "box_mask", lambda *_: torch.zeros(64, 64, dtype=torch.bool))
    assert torch.allclose(model().training_step(batch, objective).stacked(), plain)


def test_mixing_happens_with_its_probability() -> None:
    net, batch, mixed = model(prob=0.3), random_batch(2, 32), 0
    shown: list[Tensor] = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    torch.manual_seed(9)
    for _ in range(100):
        net.training_step(batch, Objective(0.0, (5,)))
        mixed += shown[-1] is not batch.image
    assert 15 < mixed < 45


def test_the_seed_alone_decides_the_mix() -> None:
    net, batch = model(), random_batch()
    shown: list[Tensor] = []
    net.backbone.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        net.training_step(replace(batch), Objective(0.0, (5,)))
    assert torch.equal(shown[0], shown[1]) and not torch.equal(shown[0], shown[2])
