from __future__ import annotations

import timm
import torch
from click.testing import CliRunner

from aupipe.commands import cli
from aupipe.fer_models.backbones import zoo

WEIGHTS = {"alexnet": 58, "silnet": 175, "weinet": 1, "songnet": 0}
"""Weights in millions, whole ones."""


def test_nets_take_their_size_and_give_one_score_per_class() -> None:
    for name, millions in WEIGHTS.items():
        with torch.device("meta"):
            net = getattr(zoo, name)(7)
            assert net(torch.zeros(2, 3, net.input_size, net.input_size)).shape == (2, 7)
        assert sum(p.numel() for p in net.parameters()) // 1_000_000 == millions, name
        assert net.input_size == next(e.input_size for e in zoo.ZOO if e.stand_in.endswith(f":{name}"))


def test_every_stand_in_exists() -> None:
    assert len(zoo.ZOO) == 12 and sum(entry.pretrained for entry in zoo.ZOO) == 8
    for entry in zoo.ZOO:
        module, _, factory = entry.stand_in.partition(":")
        assert callable(getattr(zoo, factory)) if factory else timm.is_model(module), entry.name


def test_what_a_stand_in_lacks_is_said() -> None:
    """The channels of the last features against those that the whole network pools."""
    for entry in zoo.ZOO:
        if ":" not in entry.stand_in:
            with torch.device("meta"):
                pooled = timm.create_model(entry.stand_in, num_classes=0).num_features
                ours = timm.create_model(entry.stand_in, features_only=True).feature_info.channels()[-1]
            assert bool(entry.differs) == (ours != pooled), entry.name
            assert not entry.differs or (f"{ours} channels" in entry.differs and f"{pooled:,}" in entry.differs)


def test_the_command_lists_them() -> None:
    done = CliRunner().invoke(cli.cli, ["compare", "--zoo"])
    assert done.exit_code == 0 and all(entry.name in done.output for entry in zoo.ZOO)
    assert "EfficientNetV2B0 differs: it ends with 192 channels, before the last convolution" in done.output
