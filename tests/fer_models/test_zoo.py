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


def test_the_command_lists_them() -> None:
    done = CliRunner().invoke(cli.cli, ["compare", "--zoo"])
    assert done.exit_code == 0 and all(entry.name in done.output for entry in zoo.ZOO)
