"""The twelve networks of the comparison study, what stands for each here, and what of it is exact.

All are names for ``aupipe train --backbone``. The four that are trained from scratch can also be had as whole modules,
images to logits, for weights from elsewhere: ``--model aupipe.fer_models.backbones.zoo:songnet --weights FILE``.
"""

from __future__ import annotations

from dataclasses import dataclass

from aupipe.fer_models.backbones.expression_nets import ExpressionClassifier


@dataclass(frozen=True, slots=True)
class Schedule:
    """A training of the study: batches of 128, no augmentation, a constant learning rate, the last epoch is kept."""

    optimizer: str = "adam"
    lr: float = 1e-4
    epochs: int = 2

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.optimizer} {self.lr:g}, {self.epochs} epochs"


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """A network of the study and its backbone here.

    Attributes:
        name: The study's name.
        backbone: The name for ``--backbone``.
        pretrained: The study starts from ImageNet.
        input_size: Side of its images.
        weights: How many: of one from ImageNet those before the pooling, with the means and variances of its norms; of
            one from scratch all, for six classes.
        exact: What is the same as in the study's program.
        differs: What is not.
        schedule: How the study trains it.
    """

    name: str
    backbone: str
    pretrained: bool
    input_size: int
    weights: int
    exact: str
    differs: str = ""
    schedule: Schedule = Schedule()


_LAYERS = "every layer and the number of weights"
_WHOLE = "every layer with its padding, the head, the number of weights, how they are drawn"

ZOO = (
    ZooEntry("VGG16", "vgg16.tv_in1k", True, 224, 14_714_688, _LAYERS),
    ZooEntry("VGG19", "vgg19.tv_in1k", True, 224, 20_024_384, _LAYERS),
    ZooEntry(
        "ResNet50", "resnet50.tv_in1k", True, 224, 23_561_152, "layers and channels",
        "no biases in convolutions (26,560), whose work the norms do; the 3 x 3 convolution of a block has the stride, "
        "not the one before it",
    ),
    ZooEntry(
        "ResNet101V2", "resnetv2_101.a1h_in1k", True, 224, 42_581_952, "blocks and channels",
        "no biases in convolutions (36,416); the first block of a stage has the stride, not the last; the maps are "
        "those before the last norm and ReLU (8,192)",
    ),
    ZooEntry(
        "InceptionV3", "inception_v3.tf_in1k", True, 224, 21_820_000, "layers and channels",
        "norms also scale (17,216 more); average pools count the padding",
    ),
    ZooEntry(
        "Xception", "legacy_xception.tf_in1k", True, 224, 20_861_480, _LAYERS,
        "the last two pools are padded on both sides, not after alone",
    ),
    ZooEntry(
        "MobileNetV3Large", "tf_mobilenetv3_large_100.in1k", True, 224, 2_996_352, _LAYERS,
        schedule=Schedule(lr=1e-6, epochs=15),
    ),
    ZooEntry(
        "EfficientNetV2B0", "tf_efficientnetv2_b0.in1k", True, 224, 5_919_312,
        f"{_LAYERS}, the last convolution (to 1,280) included", schedule=Schedule(lr=1e-6, epochs=10),
    ),
    ZooEntry("AlexNet", "alexnet", False, 224, 88_718_726, _WHOLE, schedule=Schedule("rmsprop", epochs=10)),
    ZooEntry("SilNet", "silnet", False, 150, 184_852_038, _WHOLE, schedule=Schedule(epochs=10)),
    ZooEntry("WeiNet", "weinet", False, 64, 1_728_230, _WHOLE, schedule=Schedule("rmsprop", epochs=10)),
    ZooEntry("SongNet", "songnet", False, 224, 172_678, _WHOLE, schedule=Schedule("rmsprop", epochs=25)),
)  # fmt: skip
"""The study's networks, in its order of presentation."""


def alexnet(num_classes: int) -> ExpressionClassifier:
    """Create AlexNet (Krizhevsky et al. 2012, without its two groups and its response normalisation), 224 px."""
    return ExpressionClassifier("alexnet", num_classes)


def silnet(num_classes: int) -> ExpressionClassifier:
    """Create SilNet, 150 px. The first linear layer holds 184 million weights: the maps are still 75 x 75 there."""
    return ExpressionClassifier("silnet", num_classes)


def weinet(num_classes: int) -> ExpressionClassifier:
    """Create WeiNet, 64 px: three convolutions of 7 x 7, each with a pool that moves by one pixel."""
    return ExpressionClassifier("weinet", num_classes)


def songnet(num_classes: int) -> ExpressionClassifier:
    """Create SongNet, 224 px: four convolutions, each with a 3 x 3 pool of stride 2, dropout after the last two."""
    return ExpressionClassifier("songnet", num_classes)


def zoo_entry(name: str) -> ZooEntry | None:
    """Find a network of the study by its name there or its backbone's; None for others."""
    names = (name.casefold(), name.casefold().replace("-", ""))
    return next((entry for entry in ZOO if {entry.name.casefold(), entry.backbone} & set(names)), None)


def zoo_lines() -> list[str]:
    """Format the table that ``aupipe compare --zoo`` prints."""
    lines = [f"{'network':<18}{'--backbone':<31}{'ImageNet':<10}{'size':<6}{'weights':>12}"]
    for entry in ZOO:
        known = "yes" if entry.pretrained else "no"
        lines.append(f"{entry.name:<18}{entry.backbone:<31}{known:<10}{entry.input_size:<6}{entry.weights:>12,}")
    lines.append("")
    lines += [
        f"{entry.name}: exact are {entry.exact}" + (f"; differs: {entry.differs}." if entry.differs else ".")
        for entry in ZOO
    ]
    return [
        *lines,
        "",
        "Weights: of a network from ImageNet those before the pooling, with the means and variances of its norms; of "
        "one from scratch all, for six classes.",
        "Of all twelve differ: images are normalised by the store's mean and deviation, not divided by 255 alone; "
        "ImageNet's weights are those of timm's tag (tv_, a1h_: other trainings than the study's). A pretrained "
        "network gets one linear layer on pooled maps, as there; the other four keep their own head with the methods "
        "cam, gradcam, gradcampp, layercam, adl and cutmix, and get the method's with others or with "
        "--method-options head=pooled.",
    ]
