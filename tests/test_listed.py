"""What a registry holds is what the help of a command lists, though the help does not load it."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from aupipe.commands import cli, listed
from aupipe.fer_analysis.comparison.explainers import EXPLAINERS, Lime, register_explainer
from aupipe.fer_data.manifest import layout_names
from aupipe.fer_models.methods import METHODS, method_names, method_title
from aupipe.pipeline.detectors import base, detector_names
from aupipe.pipeline.landmarks.faces import POLICIES

SHIPPED = [name for name in detector_names() if base._FACTORIES[name].__module__.startswith("aupipe.")]
"""Without those that tests register."""

CASES = {
    "train": ("--method", method_names(), listed.methods()),
    "benchmark": ("--methods", method_names(), listed.methods()),
    "manifest build": ("LAYOUT is", layout_names(), ("auto", *listed.layouts())),
    "compare": ("--explainer", EXPLAINERS, listed.explainers()),
    "landmarks": ("--detector", SHIPPED, listed.detectors()),
    "explain": ("--detector", SHIPPED, listed.detectors()),
}


@pytest.mark.parametrize("command", CASES)
def test_the_help_lists_what_is_registered(command: str) -> None:
    place, registry, names = CASES[command]
    assert sorted(names) == sorted(registry) and len(names) > 2
    text = CliRunner().invoke(cli.cli, [*command.split(), "--help"]).output
    listing = " ".join(text[re.search(rf"^  {place}\b", text, re.MULTILINE).start() :].split())[:400]  # type: ignore[union-attr]
    assert [name for name in registry if not re.search(rf"\b{name}\b", listing)] == []


def test_the_policies_are_those_of_both_commands() -> None:
    choices = {name: _choices(name) for name in ("landmarks", "explain")}
    assert choices["landmarks"] == set(POLICIES) and choices["explain"] == {*POLICIES, "all"}


def _choices(command: str) -> set[str]:
    (option,) = [one for one in cli.cli.commands[command].params if one.name == "faces"]
    assert isinstance(option.type, click.Choice)
    return set(option.type.choices)


def test_a_module_that_does_not_exist_is_no_empty_list() -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        listed.registered("aupipe.fer_models.nothing")


def test_methods_come_in_the_paper_s_order_with_its_titles() -> None:
    papers = ("cam", "wildcat", "gradcam", "gradcampp", "acol", "prm", "adl", "cutmix", "layercam", "tscam", "apvit")
    assert method_names()[: len(papers)] == papers
    titles = "CAM WILDCAT GradCAM GradCAM++ ACoL PRM ADL CutMix LayerCAM TS-CAM APViT"
    assert " ".join(map(method_title, papers)) == titles


def test_a_method_without_title_or_order_does_not_inherit_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "another", type("Another", (METHODS["cam"],), {}))
    assert method_title("another") == "another" and method_title("none") == "none"
    assert method_names()[-1] == "another"


def test_an_explainer_s_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="'lime' is registered twice: Lime, Lime"):
        register_explainer("lime")(Lime)
