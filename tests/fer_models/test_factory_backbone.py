"""Anyone's network, ``module:factory``, trained like any other; and never imported unless the user named it."""

from __future__ import annotations

import copy
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_analysis.export_model import export_model
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.shards import Store
from aupipe.fer_models.backbones import create_backbone, factory
from aupipe.fer_models.training import checkpoint
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from forked import start_command

NETS = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        return self.head(self.pool(self.deep(self.stem(x))).flatten(1))

def small(num_classes):
    return Small(num_classes)

class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)
        self.three, self.relu = nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(self.three(self.two(self.relu(self.one(x))))).mean((2, 3))

def needy(width):
    return nn.Conv2d(3, width, 3)

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 5))

def fixed():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, 5))
"""
SPEC = "some_nets:small"
CONFIG = TrainConfig(backbone=SPEC, epochs=2, batch_size=14, crop_size=48, device="cpu", align_layers="2,1")


@pytest.fixture(autouse=True)
def nets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    (folder / "some_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(factory, "_named", set())
    monkeypatch.delenv(factory.ALLOWED, raising=False)
    return folder


def test_its_layers_are_the_last_maps_of_each_resolution() -> None:
    backbone = create_backbone(SPEC, image_size=48)
    assert backbone.channels == (8, 16) and backbone.reductions == (2, 4) and backbone.grids == ((24, 24), (12, 12))
    images = torch.rand(2, 3, 48, 48)
    module = backbone.body.module
    assert isinstance(module, nn.Module)
    backbone.eval()
    first, second = backbone(images)
    twin = copy.deepcopy(backbone)
    stem = module.stem(images)  # type: ignore[operator]
    assert torch.equal(first, stem) and torch.equal(second, module.deep(stem))  # type: ignore[operator]
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert not torch.equal(twin(images)[0], first) and torch.equal(backbone(images)[0], first)
    frozen = {name for name, one in backbone.named_parameters() if not one.requires_grad}
    assert frozen == {"body.module.head.weight", "body.module.head.bias"}


def test_a_module_that_is_used_twice_is_read_at_its_last_call() -> None:
    backbone = create_backbone("some_nets:Shared", image_size=48)
    assert [grid[0] for grid in backbone.grids] == [12, 6] and backbone.channels == (8, 8)
    assert all(one.requires_grad for one in backbone.parameters()), "all of it leads to the deepest maps"


@pytest.mark.parametrize("name", ["x:y; curl z", "a b:c", ":small", "some_nets:", "resnet18"])
def test_only_a_module_and_a_name_are_one(name: str) -> None:
    assert not factory.is_factory(name)


def test_it_is_trained_continued_evaluated_and_exported_like_any_other(store: Store, tmp_path: Path) -> None:
    for steps in (3, None):
        train(store.folder, tmp_path / "parts", replace(CONFIG, max_steps=steps))
    train(store.folder, tmp_path / "run", CONFIG)
    whole, parts = (torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("run", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    found = evaluate(tmp_path / "run").content
    assert found["n"] == 14 and set(found["att_cos"]) == {"1", "2"} and found["backbone"] == SPEC
    report = export_model(tmp_path / "run", "torchscript", tmp_path / "model.pt")
    assert report.difference is not None and report.difference < 1e-4


def test_a_run_that_names_code_is_opened_only_where_the_user_named_it(
    store: Store, nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(store.folder, tmp_path / "run", replace(CONFIG, max_steps=1, epochs=1))
    (nets / "some_nets.py").write_text(NETS + "\nprint('IMPORTED')\n")
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(nets)])
    monkeypatch.chdir(nets)

    def evaluated() -> tuple[int | None, str]:
        """The exit code of a process that has never seen the user's code, and what it said."""
        process = start_command(["evaluate", str(tmp_path / "run")], tmp_path / "said")
        process.join(120)
        return process.exitcode, (tmp_path / "said").read_text()

    code, said = evaluated()
    assert code == 1 and "IMPORTED" not in said
    assert f"{factory.ALLOWED}={SPEC}" in said and "Traceback" not in said
    monkeypatch.setenv(factory.ALLOWED, f"other:net, {SPEC}")
    code, said = evaluated()
    assert code == 1 and f"The code of {SPEC} has changed since the run was trained" in said and "IMPORTED" in said
    let_in = re.search(rf"{factory.ALLOWED}=({SPEC}#[0-9a-f]{{16}})", said)
    assert let_in is not None
    monkeypatch.setenv(factory.ALLOWED, let_in[1])
    code, said = evaluated()
    assert code == 0, said
    (nets / "some_nets.py").write_text(NETS)
    monkeypatch.setenv(factory.ALLOWED, SPEC)
    factory._named.clear()
    assert checkpoint.load_best(tmp_path / "run", torch.device("cpu"))[0].config.backbone == SPEC


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("some_nets:flat", "has no feature maps"),
        ("some_nets:fixed", r"does not take images of 48 pixels.*--input-size"),
        ("some_nets:nothing", "cannot be imported"),
        ("nowhere:small", "cannot be imported"),
        ("some_nets:needy", "cannot be called.*no argument but num_classes"),
        ("some_nets:torch", "names no function or class"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused(spec: str, said: str) -> None:
    with pytest.raises(UserInputError, match=said):
        create_backbone(spec, image_size=48)


def test_its_weights_are_its_own_business() -> None:
    with pytest.raises(RunError, match="no pretrained weights"):
        create_backbone(SPEC, pretrained=True, image_size=48)
    with pytest.raises(UserInputError, match="--output-stride 8 is not possible"):
        create_backbone(SPEC, output_stride=8, image_size=48)
