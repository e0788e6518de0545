"""The four networks of the comparison study that are trained from scratch and that timm does not have.

AlexNet and three networks made for expressions: SilNet, WeiNet, SongNet, layer by layer as the study's program builds
them: 'same' padding in convolutions and in pools, ReLU, and a head of their own on the flattened maps. They take images
of ``input_size`` pixels; others are resized to it first, so that the head fits whatever the crop. ``silnet_64`` is
SilNet for images of 64 pixels: the same layers and a smaller head, where the study's is too large or too slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from timm.models._features import FeatureInfo
from torch import Tensor, nn

from aupipe.fer_models.backbones.base import scale_images


@dataclass(frozen=True, slots=True)
class ConvolutionStep:
    """A convolution and its ReLU."""

    channels: int
    kernel: int
    stride: int = 1


@dataclass(frozen=True, slots=True)
class PoolStep:
    """A maximum pool."""

    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class NetPlan:
    """A network's layers.

    Attributes:
        input_size: Side of its images.
        stages: What leads to each layer of the backbone; a number is the rate of a dropout.
        head: What follows on the flattened maps: widths of hidden layers with their ReLU, and rates of dropouts.
        start: How weights are drawn; biases are 0.
    """

    input_size: int
    stages: tuple[tuple[ConvolutionStep | PoolStep | float, ...], ...]
    head: tuple[int | float, ...] = ()
    start: Callable[[Tensor], Tensor] = nn.init.xavier_uniform_


_CONV, _POOL = ConvolutionStep, PoolStep

PLANS = {
    "alexnet": NetPlan(
        224,
        (
            (_CONV(96, 11, 4), _POOL(3, 2)),
            (_CONV(256, 5), _POOL(3, 2)),
            (_CONV(384, 3), _CONV(384, 3), _CONV(256, 3), _POOL(3, 2)),
        ),
        (4096, 0.4, 4096, 4096, 0.4),
    ),
    "silnet": NetPlan(
        150,
        (
            (_CONV(32, 11), _POOL(2, 2)),
            (_CONV(32, 7), _CONV(32, 7), _POOL(2, 1)),
            (_CONV(64, 5), _CONV(64, 5), _POOL(2, 1)),
        ),
        (512, 0.5, 512),
        nn.init.xavier_normal_,
    ),
    "weinet": NetPlan(64, tuple((_CONV(channels, 7), _POOL(2, 1)) for channels in (32, 32, 64))),
    "songnet": NetPlan(
        224,
        (
            (_CONV(64, 5), _POOL(3, 2)),
            (_CONV(64, 5), _POOL(3, 2)),
            (_CONV(32, 3), _POOL(3, 2)),
            (0.5, _CONV(32, 3), _POOL(3, 2)),
        ),
        (0.5,),
    ),
}
"""The networks by the names that ``--backbone`` takes."""


SIZES = range(32, 513)
"""Sides of images that a network may be made for."""


def split_size(name: str) -> tuple[str, int]:
    """Split a network's name into that of its plan and the side of the images that it is made for.

    >>> split_size("silnet"), split_size("silnet_64"), split_size("resnet_18")
    (('silnet', 150), ('silnet', 64), ('resnet_18', 0))
    """
    plan, _, size = name.rpartition("_")
    if plan in PLANS and re.fullmatch(r"[1-9]\d{1,2}", size) and int(size) in SIZES:
        return plan, int(size)
    return name, PLANS[name].input_size if name in PLANS else 0


def find_plan(name: str) -> NetPlan | None:
    """Find the plan of a network; None where it is none of these."""
    plan, size = split_size(name)
    return replace(PLANS[plan], input_size=size) if size else None


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Compute the pixels to add before and after a side, so that ``ceil(side / stride)`` windows fit.

    >>> same_padding(224, 11, 4), same_padding(112, 3, 2), same_padding(75, 2, 1)
    ((3, 4), (0, 1), (0, 1))
    """
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class ExpressionNet(nn.Module):
    """The convolutions of a plan: maps of every stage, and the head that its paper puts on the last."""

    def __init__(self, plan: NetPlan) -> None:
        super().__init__()
        self.plan, self.input_size = plan, plan.input_size
        self.stages = nn.Sequential()
        side, channels, entries = plan.input_size, 3, []
        for number, steps in enumerate(plan.stages):
            layers: list[nn.Module] = []
            for step in steps:
                if isinstance(step, float):
                    layers.append(nn.Dropout(step))
                    continue
                added = same_padding(side, step.kernel, step.stride)
                if isinstance(step, PoolStep):
                    layers += [*_pad(added, float("-inf")), nn.MaxPool2d(step.kernel, step.stride)]
                else:
                    layers += _pad(added, 0.0)
                    layers += [nn.Conv2d(channels, step.channels, step.kernel, step.stride), nn.ReLU(inplace=True)]
                    channels = step.channels
                side = -(-side // step.stride)
            self.stages.append(nn.Sequential(*layers))
            entries.append({"num_chs": channels, "reduction": plan.input_size // side, "module": f"stages.{number}"})
        self.last_shape = (channels, side, side)
        self.feature_info = FeatureInfo(entries, tuple(range(len(entries))))
        _start(self, plan)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Compute the maps of every stage, of images brought to the network's size."""
        x, features = scale_images(images, self.input_size), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def make_head(self, n_classes: int) -> nn.Sequential:
        """Make the plan's head: from the last maps to one score a class."""
        channels, height, width = self.last_shape
        inputs = channels * height * width
        layers: list[nn.Module] = [nn.Flatten()]
        for step in self.plan.head:
            if isinstance(step, float):
                layers.append(nn.Dropout(step))
            else:
                layers += [nn.Linear(inputs, step), nn.ReLU(inplace=True)]
                inputs = step
        head = nn.Sequential(*layers, nn.Linear(inputs, n_classes))
        _start(head, self.plan)
        return head

    def keep_layers(self, count: int) -> None:
        """Remove the stages after the first ``count``."""
        del self.stages[count:]


class ExpressionClassifier(nn.Module):
    """A whole network, images to logits: for programs that know nothing of backbones."""

    def __init__(self, name: str, n_classes: int) -> None:
        super().__init__()
        self.body = ExpressionNet(PLANS[name])
        self.head = self.body.make_head(n_classes)
        self.input_size = self.body.input_size

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Compute the logits of normalised images."""
        logits: Tensor = self.head(self.body(images)[-1])
        return logits


def _pad(added: tuple[int, int], value: float) -> list[nn.Module]:
    return [nn.ConstantPad2d((*added, *added), value)] if any(added) else []


def _start(module: nn.Module, plan: NetPlan) -> None:
    """Draw the first weights as the study's library does: Glorot's, and no biases."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            plan.start(part.weight)
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
