from __future__ import annotations

import torch
from click.testing import CliRunner
from torch import nn

from aupipe.commands import cli
from aupipe.fer_models.backbones import create_backbone, zoo
from aupipe.fer_models.backbones.create import timm

SCRATCH = [entry for entry in zoo.ZOO if not entry.pretrained]


def numbers(net: nn.Module) -> int:
    """Parameters, and the means and variances of norms."""
    kept = [value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")]
    return sum(value.numel() for value in kept)


def test_each_has_the_weights_that_the_table_tells() -> None:
    assert len(zoo.ZOO) == 12 and len(SCRATCH) == 4
    for entry in zoo.ZOO:
        with torch.device("meta"):
            net = create_backbone(entry.backbone) if entry.pretrained else getattr(zoo, entry.backbone)(6)
        assert numbers(net) == entry.weights, entry.name


STUDY = {
    "VGG16": 14_714_688, "VGG19": 20_024_384, "ResNet50": 23_587_712, "ResNet101V2": 42_626_560,
    "InceptionV3": 21_802_784, "Xception": 20_861_480, "MobileNetV3Large": 2_996_352, "EfficientNetV2B0": 5_919_312,
    "AlexNet": 88_718_726, "SilNet": 184_852_038, "WeiNet": 1_728_230, "SongNet": 172_678,
}  # fmt: skip
"""What the study's library counts in its networks, of pretrained ones without their top."""

NAMED = {"ResNet50": -26_560, "ResNet101V2": -36_416 - 8_192, "InceptionV3": 17_216}


def test_where_the_numbers_are_not_the_studys_the_difference_is_named() -> None:
    for entry in zoo.ZOO:
        difference = entry.weights - STUDY[entry.name]
        assert difference == NAMED.get(entry.name, 0), entry.name
        assert entry.differs or difference == 0, entry.name


def test_the_named_numbers_are_those_of_the_layers() -> None:
    """Every convolution of ResNet-50 has a norm; the norms of Inception v3 have a scale and a shift each."""

    def shifts(name: str) -> int:
        with torch.device("meta"):
            net = create_backbone(name)
        return sum(one.num_features for one in net.modules() if isinstance(one, nn.BatchNorm2d))

    assert shifts("resnet50.tv_in1k") == 26_560 and shifts("inception_v3.tf_in1k") == 17_216


def test_the_last_maps_are_those_that_the_whole_network_pools() -> None:
    for entry in zoo.ZOO:
        if entry.pretrained:
            with torch.device("meta"):
                pooled = timm.create_model(entry.backbone, num_classes=0)
                ours = create_backbone(entry.backbone)
            head = 512 if entry.name.startswith("VGG") else pooled.num_features  # VGG's are behind two linear layers
            assert ours.channels[-1] == (960 if entry.name == "MobileNetV3Large" else head), entry.name


def test_whole_modules_take_their_size_and_give_one_score_per_class() -> None:
    for entry in SCRATCH:
        with torch.device("meta"):
            net = getattr(zoo, entry.backbone)(7)
            assert net(torch.zeros(2, 3, net.input_size, net.input_size)).shape == (2, 7)
        assert net.input_size == entry.input_size


def test_the_command_lists_them() -> None:
    done = CliRunner().invoke(cli.cli, ["compare", "--zoo"])
    assert done.exit_code == 0
    for entry in zoo.ZOO:
        assert f"{entry.name}: exact are" in done.output and f"{entry.weights:,}" in done.output
    assert "ResNet50: exact are layers and channels; differs: no biases in convolutions (26,560)" in done.output
