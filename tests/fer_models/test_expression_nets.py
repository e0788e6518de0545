"""The study's four networks from scratch, against a slow reference that knows the padding rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aupipe.fer_analysis.comparison.classifiers import load_runs
from aupipe.fer_analysis.evaluation.run import evaluate
from aupipe.fer_analysis.export_model import export_model
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Silent
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.backbones.expression_nets import (
    PLANS,
    ExpressionClassifier,
    NetPlan,
    find_plan,
    same_padding,
    split_size,
)
from aupipe.fer_models.methods import METHODS, Method, create_method, option_defaults
from aupipe.fer_models.training import checkpoint, preflight
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train

STUDY: dict[str, tuple[tuple[object, ...], ...]] = {
    "silnet": (
        ("conv", 32, 11), ("pool", 2, 2), ("conv", 32, 7), ("conv", 32, 7), ("pool", 2, 1), ("conv", 64, 5),
        ("conv", 64, 5), ("pool", 2, 1), ("dense", 512), ("relu",), ("dense", 512), ("relu",), ("dense", 6),
    ),
    "weinet": (
        ("conv", 32, 7), ("pool", 2, 1), ("conv", 32, 7), ("pool", 2, 1), ("conv", 64, 7), ("pool", 2, 1), ("dense", 6),
    ),
    "songnet": (
        ("conv", 64, 5), ("pool", 3, 2), ("conv", 64, 5), ("pool", 3, 2), ("conv", 32, 3), ("pool", 3, 2),
        ("conv", 32, 3), ("pool", 3, 2), ("dense", 6),
    ),
    "alexnet": (
        ("conv", 96, 11, 4), ("pool", 3, 2), ("conv", 256, 5), ("pool", 3, 2), ("conv", 384, 3), ("conv", 384, 3),
        ("conv", 256, 3), ("pool", 3, 2), ("dense", 4096), ("relu",), ("dense", 4096), ("relu",), ("dense", 4096),
        ("relu",), ("dense", 6),
    ),
}  # fmt: skip
"""The layers as the study's program lists them, written down here once more."""

COUNTS = {"silnet": 184_852_038, "weinet": 1_728_230, "songnet": 172_678, "alexnet": 88_718_726}


def windows(side: int, kernel: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of each window along a side, and which of them lie inside: the rule of 'same' padding."""
    count = int(np.ceil(side / stride))
    total = max((count - 1) * stride + kernel - side, 0)
    places = np.arange(count)[:, None] * stride - total // 2 + np.arange(kernel)[None]
    return places, (places >= 0) & (places < side)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int = 1) -> np.ndarray:
    """Add up each window's pixels that lie inside, one place of the kernel after the other."""
    kernel = weight.shape[2]
    places, inside = windows(x.shape[1], kernel, stride)
    out = np.zeros((len(weight), len(places), len(places))) + bias[:, None, None]
    for dy in range(kernel):
        for dx in range(kernel):
            seen = x[:, places[:, dy].clip(0, x.shape[1] - 1)][:, :, places[:, dx].clip(0, x.shape[2] - 1)]
            seen = seen * (inside[:, dy, None] & inside[None, :, dx])
            out += np.einsum("oc,chw->ohw", weight[:, :, dy, dx], seen, optimize=True)
    return np.maximum(out, 0)


def pool(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Take each window's largest pixel of those that lie inside."""
    places, inside = windows(x.shape[1], kernel, stride)
    out = np.full((len(x), len(places), len(places)), -np.inf)
    for row, (rows, here) in enumerate(zip(places, inside, strict=True)):
        for column, (columns, there) in enumerate(zip(places, inside, strict=True)):
            out[:, row, column] = x[:, rows[here]][:, :, columns[there]].max((1, 2))
    return out


def reference(name: str, parameters: list[np.ndarray], image: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The maps after every pool, and the scores."""
    x, left, maps = image, list(parameters), []
    for kind, *numbers in STUDY[name]:
        if kind == "conv":
            x = convolve(x, left.pop(0), left.pop(0), *numbers[2:])  # type: ignore[arg-type]
        elif kind == "pool":
            x = pool(x, *numbers)  # type: ignore[arg-type]
            maps.append(x)
        elif kind == "dense":
            weight, bias = left.pop(0), left.pop(0)
            x = weight @ x.reshape(-1) + bias
        else:
            x = np.maximum(x, 0)
    assert not left
    return maps, x


@torch.no_grad()
@pytest.mark.parametrize("name", ["weinet", "songnet", "alexnet", pytest.param("silnet", marks=pytest.mark.slow)])
def test_maps_and_scores_are_those_of_the_reference(name: str) -> None:
    torch.manual_seed(0)
    net = ExpressionClassifier(name, 6).eval()
    for parameter in net.parameters():
        if parameter.ndim == 1:
            parameter.normal_(0.1, 0.1)
    image = torch.randn(1, 3, net.input_size, net.input_size)
    maps, scores = reference(name, [value.numpy() for value in net.parameters()], image[0].double().numpy())
    for got, wanted in zip(net.body(image), maps, strict=True):
        assert got.shape == (1, *wanted.shape)
        assert np.allclose(got[0], wanted, atol=1e-5 * wanted.max())
    assert np.allclose(net(image)[0], scores, atol=1e-4 * np.abs(scores).max())


@pytest.mark.parametrize("name", COUNTS)
def test_each_has_the_studys_number_of_weights(name: str) -> None:
    with torch.device("meta"):
        whole = ExpressionClassifier(name, 6)
        method = create_method("cam", create_backbone(name, image_size=224), 6)
    for net in (whole, method):
        assert sum(parameter.numel() for parameter in net.parameters()) == COUNTS[name]


def test_the_padding_rule() -> None:
    """Examples of the study's library: the odd pixel comes after."""
    assert same_padding(224, 11, 4) == (3, 4)
    assert same_padding(75, 2, 1) == same_padding(224, 3, 2) == (0, 1)
    assert same_padding(150, 2, 2) == (0, 0) and same_padding(75, 3, 2) == (1, 1)


def test_dropouts_are_where_the_study_has_them() -> None:
    found = {
        name: [one.p for one in ExpressionClassifier(name, 2).modules() if isinstance(one, nn.Dropout)]
        for name in ("weinet", "songnet")
    }
    assert found == {"weinet": [], "songnet": [0.5, 0.5]}
    with torch.device("meta"):
        rates = [one.p for one in ExpressionClassifier("alexnet", 2).head if isinstance(one, nn.Dropout)]
        kinds = [type(one).__name__ for one in ExpressionClassifier("silnet", 2).head]
    assert rates == [0.4, 0.4]
    assert kinds == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]


def test_weights_are_drawn_as_there() -> None:
    """Glorot's normal for SilNet, his uniform for the others, biases of zero."""
    torch.manual_seed(0)
    for name, uniform in (("silnet", False), ("songnet", True)):
        net = create_backbone(name).body
        weight = max(net.parameters(), key=lambda one: one.numel())
        fan = (weight.shape[0] + weight.shape[1]) * weight.shape[2] ** 2
        assert float(weight.detach().std()) == pytest.approx((2 / fan) ** 0.5, rel=0.02)
        assert (weight.abs().max() <= (6 / fan) ** 0.5) == uniform
        assert all(one.abs().max() == 0 for one in net.parameters() if one.ndim == 1)


@torch.no_grad()
def test_other_images_are_brought_to_its_size() -> None:
    net = create_backbone("weinet", image_size=112).eval()
    images = torch.rand(2, 3, 112, 112)
    small = F.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    assert all(torch.equal(a, b) for a, b in zip(net(images), net(small), strict=True))


def test_a_stride_or_weights_that_it_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="--output-stride 8 is not possible with songnet"):
        create_backbone("songnet", output_stride=8)
    with pytest.raises(RunError, match="no pretrained weights of 'songnet'"):
        create_backbone("songnet", pretrained=True)
    torch.save(ExpressionClassifier("songnet", 6).state_dict(), tmp_path / "whole.pt")
    loaded = create_backbone("songnet", weights=tmp_path / "whole.pt")
    saved = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert all(torch.equal(value, saved[f"body.{name}"]) for name, value in loaded.body.state_dict().items())


TINY = NetPlan(16, PLANS["songnet"].stages, (12, 0.5))
"""SongNet's convolutions on small images, with a hidden layer in the head."""


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Method]:
    monkeypatch.setitem(PLANS, "songnet", TINY)

    def make(method: str, **options: object) -> Method:
        torch.manual_seed(0)
        return create_method(method, create_backbone("songnet", image_size=64), 7, **options).eval()

    return make


def batch(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


KEEPING = sorted(name for name in METHODS if "head" in option_defaults(name))


def test_methods_that_keep_the_head() -> None:
    assert KEEPING == ["adl", "cam", "cutmix", "gradcam", "gradcampp", "layercam"]


@pytest.mark.parametrize("name", KEEPING)
def test_a_method_keeps_the_networks_own_head_or_pools(name: str, tiny: Callable[..., Method]) -> None:
    label = torch.tensor([0, 3, 6])
    for net, own in ((tiny(name), True), (tiny(name, head="pooled"), False)):
        assert net.keeps_head == own
        out = net.read(batch())
        assert net.cam(out, label).shape == (3, 1, 1)
        if own:
            scores = net.head(net.backbone(batch())[-1])  # type: ignore[operator]
            assert torch.allclose(out.logits, scores - scores.mean(1, keepdim=True), atol=1e-6)


def test_the_map_of_a_linear_head_adds_up_to_the_score() -> None:
    """WeiNet: each place has weights of its own, and their map's mean is the score without the bias."""
    net = create_method("cam", create_backbone("weinet", image_size=64), 7).eval()
    with torch.no_grad():
        net.head[-1].bias.normal_()  # type: ignore[index,union-attr,operator]
    bias = net.head[-1].bias - net.head[-1].bias.mean()  # type: ignore[index,union-attr,operator]
    label = torch.tensor([0, 3, 6])
    out = net.read(batch())
    wanted = out.logits.gather(1, label[:, None])[:, 0] - bias[label]
    assert torch.allclose(net.cam(out, label).mean((1, 2)), wanted, atol=1e-5)


def test_gradcam_is_cam_where_a_pooling_head_is_written_as_an_own_one() -> None:
    """A head that averages each map and then weighs it is CAM's, and its map CAM's to the bit's rounding."""
    own, pooled = (
        create_method("cam", create_backbone("weinet", image_size=64), 3, head=h) for h in ("auto", "pooled")
    )
    own.backbone.load_state_dict(pooled.backbone.state_dict())
    with torch.no_grad():
        spread = pooled.head.weight[:, :, None].expand(-1, -1, 64 * 64) / (64 * 64)  # type: ignore[union-attr,index]
        own.head[-1].weight.copy_(spread.flatten(1))  # type: ignore[index,union-attr,operator]
        own.head[-1].bias.copy_(pooled.head.bias)  # type: ignore[index,union-attr,operator,arg-type]
    label, maps = torch.tensor([0, 1, 2]), []
    for net in (own.eval(), pooled.eval()):
        maps.append(net.cam(net.read(batch()), label).detach())
    assert torch.allclose(*maps, atol=1e-5 * float(maps[1].abs().max()))


CONFIG = TrainConfig(backbone="songnet", epochs=2, batch_size=14, crop_size=64, device="cpu")


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class Halt(Silent):
    def __init__(self, batches: int) -> None:
        self.left = batches

    def advance(self, count: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("tiny")
def test_it_is_trained_continued_evaluated_explained_and_exported_like_any_other(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(store.folder, tmp_path / "run", CONFIG, Halt(6))
    assert train(store.folder, tmp_path / "run", CONFIG).resumed
    train(store.folder, tmp_path / "whole", CONFIG)
    first, second = (torch.load(tmp_path / one / "last.pt", weights_only=True)["model"] for one in ("run", "whole"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    evaluate(tmp_path / "run")
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(figures["att_cos"]) == {"1", "2", "3", "4"} and figures["cam_cos"] is not None
    (explained,) = load_runs([tmp_path / "run"], store.index.classes, torch.device("cpu"))
    for kind in ("cam", "attention"):
        assert explained.own_maps(batch(), torch.tensor([0, 3, 6]), kind).shape == (3, 1, 1)
    report = export_model(tmp_path / "run", "pt2", tmp_path / "model.pt2")
    assert "gradients" in report.notes[0] and report.difference is not None


@pytest.mark.usefixtures("tiny")
def test_a_run_that_pools_is_read_out_with_the_head_it_was_trained_with(store: Store, tmp_path: Path) -> None:
    for options, keeps in (("head=pooled", False), ("", True)):
        folder = tmp_path / (options or "own")
        train(store.folder, folder, replace(CONFIG, max_steps=1, method_options=options))
        for method in ("cam", "layercam"):
            model = checkpoint.load_best(folder, torch.device("cpu"), method, "")[1]
            assert model.keeps_head == keeps


@pytest.mark.usefixtures("tiny")
def test_a_method_with_a_head_of_its_own_says_so(store: Store, tmp_path: Path) -> None:
    said = {}
    for method in ("wildcat", "cam"):
        progress = Notes()
        train(store.folder, tmp_path / method, replace(CONFIG, max_steps=1, method=method), progress)
        said[method] = " ".join(progress.lines)
    assert "the head that the paper of songnet has is replaced" in said["wildcat"]
    assert "replaced" not in said["cam"] and "starts from random numbers" in said["cam"]


@pytest.mark.usefixtures("tiny")
def test_memory_that_is_too_short_is_said_before_the_first_step(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [one.numel() for one in checkpoint.build_model(CONFIG, 7, with_weights=False).parameters()]
    for config, kept in ((CONFIG, 3), (replace(CONFIG, optimizer="sgd"), 2), (replace(CONFIG, ema=0.9), 4)):
        needed = 4 * (kept * sum(counts) + max(counts))
        monkeypatch.setattr(preflight, "available_memory", lambda needed=needed: needed - 1)
        with pytest.raises(RunError, match=r"memory is too short to train songnet.*head=pooled"):
            train(store.folder, tmp_path / "run", config)
        monkeypatch.setattr(preflight, "available_memory", lambda needed=needed: needed)
        train(store.folder, tmp_path / f"run{kept}", replace(config, max_steps=1))


@torch.no_grad()
@pytest.mark.parametrize("name", PLANS)
def test_each_can_be_made_for_other_sizes(name: str) -> None:
    small = create_backbone(f"{name}_32").eval()
    head = small.make_head(6)
    assert head is not None
    maps = small(torch.zeros(2, 3, 48, 48))
    assert head(maps[-1]).shape == (2, 6)
    own = create_backbone(name)
    assert [tuple(one.shape) for one in small.parameters()] == [tuple(one.shape) for one in own.parameters()]
    assert split_size(f"{name}_32") == (name, 32) and split_size(name) == (name, PLANS[name].input_size)
    for wrong in ("_16", "_999", "_064", "_", "_x"):
        assert find_plan(name + wrong) is None
        with pytest.raises(UserInputError, match="Unknown backbone"):
            create_backbone(name + wrong)
