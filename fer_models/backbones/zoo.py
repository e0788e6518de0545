"""The twelve networks of the comparison study, the stand-in for each here, and the four that timm does not have.

The four are trained from scratch in the study. Their papers' layers are kept ('same' padding, ReLU); they take RGB
images of ``input_size`` pixels and give logits, and :mod:`aupipe.fer_analysis.comparison` explains them through
``--model aupipe.fer_models.backbones.zoo:songnet --weights FILE``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """A network of the study: ``stand_in`` is a timm backbone (``--backbone``) or a factory (``--model``) of ours.

    ``differs``: what the stand-in lacks of the network's convolutions.
    """

    name: str
    stand_in: str
    pretrained: bool
    input_size: int
    differs: str = ""


ZOO = (
    ZooEntry("VGG16", "vgg16.tv_in1k", True, 224),
    ZooEntry("VGG19", "vgg19.tv_in1k", True, 224),
    ZooEntry("ResNet50", "resnet50.tv_in1k", True, 224),
    ZooEntry("ResNet101V2", "resnetv2_101.a1h_in1k", True, 224),
    ZooEntry("InceptionV3", "inception_v3.tf_in1k", True, 224),
    ZooEntry("Xception", "legacy_xception.tf_in1k", True, 224),
    ZooEntry("MobileNetV3Large", "tf_mobilenetv3_large_100.in1k", True, 224),
    ZooEntry(
        "EfficientNetV2B0", "tf_efficientnetv2_b0.in1k", True, 224,
        "ends with 192 channels, before the last convolution (to 1,280), which is no part of timm's feature maps",
    ),
    ZooEntry("AlexNet", "aupipe.fer_models.backbones.zoo:alexnet", False, 224),
    ZooEntry("SilNet", "aupipe.fer_models.backbones.zoo:silnet", False, 150),
    ZooEntry("WeiNet", "aupipe.fer_models.backbones.zoo:weinet", False, 64),
    ZooEntry("SongNet", "aupipe.fer_models.backbones.zoo:songnet", False, 224),
)  # fmt: skip
"""The study's networks, in its order of presentation."""


class ExpressionNet(nn.Module):
    """Convolutions, then a head on the flattened features; ``input_size``: side of the images it takes."""

    def __init__(self, features: nn.Sequential, head: nn.Sequential, input_size: int) -> None:
        super().__init__()
        self.features, self.head, self.input_size = features, head, input_size

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b k"]:
        """Compute the logits of normalised images."""
        logits: Tensor = self.head(self.features(images).flatten(1))
        return logits


def _convolutions(channels: Sequence[int], kernels: Sequence[int], start: int = 3) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after, kernel in zip((start, *channels), channels, kernels, strict=False):
        layers += [nn.Conv2d(before, after, kernel, padding="same"), nn.ReLU()]
    return layers


def silnet(num_classes: int) -> ExpressionNet:
    """Create SilNet, 150 px. Its first linear layer holds 175 million weights: the maps are still 73 x 73 there."""
    features = nn.Sequential(
        *_convolutions((32,), (11,)),
        nn.MaxPool2d(2),
        *_convolutions((32, 32), (7, 7), 32),
        nn.MaxPool2d(2, 1),
        *_convolutions((64, 64), (5, 5), 32),
        nn.MaxPool2d(2, 1),
    )
    head = nn.Sequential(
        nn.Linear(64 * 73 * 73, 512),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, num_classes),
    )
    return ExpressionNet(features, head, 150)


def weinet(num_classes: int) -> ExpressionNet:
    """Create WeiNet, 64 px: three convolutions of 7 x 7, each with a pool that moves by one pixel."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 32), (32, 64)):
        layers += [*_convolutions((after,), (7,), before), nn.MaxPool2d(2, 1)]
    return ExpressionNet(nn.Sequential(*layers), nn.Sequential(nn.Linear(64 * 61 * 61, num_classes)), 64)


def songnet(num_classes: int) -> ExpressionNet:
    """Create SongNet, 224 px: four convolutions, each with a 3 x 3 pool of stride 2, dropout after the last two."""
    layers: list[nn.Module] = []
    plan = ((3, 64, 5, False), (64, 64, 5, False), (64, 32, 3, True), (32, 32, 3, True))
    for before, after, kernel, dropped in plan:
        layers += [*_convolutions((after,), (kernel,), before), nn.MaxPool2d(3, 2, padding=1)]
        layers += [nn.Dropout(0.5)] if dropped else []
    return ExpressionNet(nn.Sequential(*layers), nn.Sequential(nn.Linear(32 * 14 * 14, num_classes)), 224)


def alexnet(num_classes: int) -> ExpressionNet:
    """Create AlexNet (Krizhevsky et al. 2012, without its two groups and its response normalisation), 224 px."""
    features = nn.Sequential(
        nn.Conv2d(3, 96, 11, 4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        *_convolutions((256,), (5,), 96),
        nn.MaxPool2d(3, 2),
        *_convolutions((384, 384, 256), (3, 3, 3), 256),
        nn.MaxPool2d(3, 2),
    )
    head = nn.Sequential(
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, num_classes),
    )
    return ExpressionNet(features, head, 224)


def zoo_lines() -> list[str]:
    """Format the table that ``aupipe compare --zoo`` prints."""
    lines = [f"{'network':<18}{'here':<32}{'ImageNet':<10}size"]
    lines += [f"{e.name:<18}{e.stand_in:<32}{'yes' if e.pretrained else 'no':<10}{e.input_size}" for e in ZOO]
    return [
        *lines,
        "A name with a colon is for --model, the others for `aupipe train --backbone`. Of those the feature maps are "
        "taken, up to the last; the layers behind them are replaced by the method's head.",
        *(f"{entry.name} differs: it {entry.differs}." for entry in ZOO if entry.differs),
    ]
