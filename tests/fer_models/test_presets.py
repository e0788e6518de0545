from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from aupipe.commands import cli
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.shards import Store
from aupipe.fer_models.methods.base import option_defaults, parse_options
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.presets import PRESETS, preset_config


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_configuration_and_named_in_the_help(name: str) -> None:
    config = preset_config(name, {})
    assert config.preset == name and TrainConfig.from_json(config.as_json()) == config
    (option,) = [one for one in cli.cli.commands["train"].params if one.name == "preset"]
    assert name in str(option.to_info_dict()["help"])


def test_published_settings() -> None:
    """The figures of the paper and of its code (see the module's sources)."""
    rafdb, affectnet = preset_config("fg2024-rafdb", {}), preset_config("fg2024-affectnet", {})
    assert (rafdb.epochs, rafdb.batch_size, affectnet.epochs, affectnet.batch_size) == (100, 32, 20, 224)
    for config in (rafdb, affectnet):
        assert (config.optimizer, config.momentum, config.weight_decay) == ("sgd", 0.9, 5e-4)
        assert (config.lr, config.step_epochs, config.step_gamma) == (0.002, 4, 0.9)


def test_the_authors_settings_of_apvit() -> None:
    config = preset_config("apvit-rafdb", {})
    assert (config.backbone, config.method, config.input_size, config.batch_size) == ("ir50", "apvit", 112, 128)
    assert (config.optimizer, config.lr, config.momentum, config.weight_decay) == ("sgd", 0.001, 0.9, 5e-4)
    options = {**option_defaults("apvit"), **parse_options("apvit", config.method_options)}
    assert options == {
        "score": "abs_sum", "keep": 160 / 196, "depth": 8, "heads": 8, "dim": 768, "token_keep": 0.9,
    }  # fmt: skip


def test_what_is_given_wins_and_unknown_names_get_a_suggestion() -> None:
    assert preset_config("fg2024-rafdb", {"epochs": 3}).epochs == 3
    with pytest.raises(UserInputError, match=r"Unknown preset 'fg2024-rafbd'.*Did you mean 'fg2024-rafdb'"):
        preset_config("fg2024-rafbd", {})


def test_a_preset_on_the_command_line(store: Store, tmp_path: Path) -> None:
    """Options given beside it win, even with their default's value; the rest is the preset's, and recorded."""
    given = "--backbone test_resnet --no-pretrained --crop-size 48 --batch-size 14 --max-steps 1 --optimizer adamw"
    arguments = ["train", str(store.folder), "--out", str(tmp_path), "--preset", "fg2024-rafdb", *given.split()]
    result = CliRunner().invoke(cli.cli, [*arguments, "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    assert (config["preset"], config["optimizer"], config["pretrained"]) == ("fg2024-rafdb", "adamw", False)
    assert (config["epochs"], config["schedule"], config["grey"]) == (100, "step", 0.2)
