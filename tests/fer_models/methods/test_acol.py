from __future__ import annotations

import torch
from torch import Tensor

from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.losses import Objective
from aupipe.fer_models.methods import Prediction, create_method
from aupipe.fer_models.methods.acol import ACoL
from aupipe.fer_models.methods.base import unit_range
from batches import random_batch


def model(threshold: float = 0.6) -> ACoL:
    torch.manual_seed(0)
    net = create_method("acol", create_backbone("test_resnet"), 7, threshold=threshold, width=16).eval()
    assert isinstance(net, ACoL)
    return net


def images() -> Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


class Spy(torch.nn.Module):
    """A branch that remembers what it was shown."""

    def __init__(self, branch: torch.nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.seen: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        self.seen.append(features)
        return self.branch(features)  # type: ignore[no-any-return]


def test_b_sees_nothing_where_as_map_of_the_label_is_high_and_everything_else_unchanged() -> None:
    net, label = model(), torch.tensor([1, 4])
    net.branch_b = Spy(net.branch_b)  # type: ignore[assignment]
    out = net.read(images())
    net.complement(out, label)
    (seen,) = net.branch_b.seen  # type: ignore[misc,union-attr]
    for row, number in enumerate(label.tolist()):
        values = out.extra["maps"][row, number]
        high = (values - values.min()) / (values.max() - values.min()) > 0.6
        assert high.any() and not high.all()
        assert seen[row][:, high].abs().max() == 0
        assert torch.equal(seen[row][:, ~high], out.features[-1][row][:, ~high])


def test_both_branches_learn_and_the_cross_entropies_add_up() -> None:
    net, batch = model().train(), random_batch()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    objective = Objective(0.0, (5,))
    terms = net.training_step(batch, objective)
    terms.total.backward()
    for branch in (net.branch_a, net.branch_b):
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in branch.parameters())
    net.load_state_dict(state)
    out = net(batch.image)
    second = net.complement(out, batch.label).mean((2, 3))
    expected = sum(objective.classification(scores, batch.label) for scores in (out.logits, second))
    assert torch.allclose(terms.ce, torch.as_tensor(expected), atol=1e-5)


def test_the_erasing_sends_no_gradient_to_a() -> None:
    net = model()
    out = net(images())
    net.complement(out, torch.tensor([0, 1])).sum().backward()
    assert all(parameter.grad is None for parameter in net.branch_a.parameters())


def test_the_map_is_the_maximum_of_both_maps_each_in_units_of_its_peak() -> None:
    net, label = model(), torch.tensor([2, 5])
    for branch in (net.branch_a, net.branch_b):
        torch.nn.init.zeros_(branch[-1].bias)  # type: ignore[arg-type]
    out = net.read(images())
    first, second = net.branch_maps(out, label)
    assert torch.equal(first, out.extra["maps"][torch.arange(2), label])
    assert torch.equal(second, net.complement(out, label)[torch.arange(2), label])
    scaled = [one.clamp_min(0) / one.amax((1, 2), keepdim=True).clamp_min(1e-9) for one in (first, second)]
    cam = net.cam(out, label).clamp_min(0)
    assert torch.allclose(cam, torch.where(scaled[0] > scaled[1], *scaled)) and cam.max() == 1
    assert (scaled[1] > scaled[0]).any() and (scaled[0] > scaled[1]).any()
    assert torch.equal(cam == 0, (first <= 0) & (second <= 0)) and (cam == 0).any()


def test_the_published_map_is_the_maximum_of_both_normalised_maps() -> None:
    net, label = model(), torch.tensor([2, 5])
    out = net.read(images())
    first, second = (unit_range(one) for one in net.branch_maps(out, label))
    assert torch.equal(net.published_cam(out, label), unit_range(torch.where(first > second, first, second)))
    assert (second > first).any() and (first > second).any()


def test_the_threshold_decides_how_much_is_erased() -> None:
    erased = []
    for threshold in (0.3, 0.9):
        net = model(threshold)
        net.branch_b = Spy(net.branch_b)  # type: ignore[assignment]
        out = net.read(images())
        net.complement(out, torch.tensor([1, 4]))
        erased.append(int((net.branch_b.seen[0] == 0).all(1).sum()))  # type: ignore[union-attr]
    assert erased[0] > erased[1] > 0


def test_a_classifies_alone() -> None:
    net = model()
    before = net.read(images()).logits
    torch.nn.init.normal_(net.branch_b[-1].weight)
    assert torch.equal(net.read(images()).logits, before)


def test_a_flat_map_erases_nothing() -> None:
    assert torch.equal(unit_range(torch.full((1, 2, 2), 3.0)), torch.zeros(1, 2, 2))
    net = model()
    net.branch_b = Spy(net.branch_b)  # type: ignore[assignment]
    last = torch.rand(1, 96, 2, 2) + 1
    net.complement(Prediction(torch.zeros(1, 7), (last,), {"maps": torch.ones(1, 7, 2, 2)}), torch.tensor([0]))
    assert torch.equal(net.branch_b.seen[0], last)  # type: ignore[union-attr]
