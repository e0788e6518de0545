"""The picture of the rooms and its page say what the code does."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("make_architecture")


def test_the_floors_are_those_of_the_import_contract(program: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    floors = [tuple(sorted(name.strip().removeprefix("aupipe.") for name in layer.split("|"))) for layer in layers]
    expected = [tuple(sorted(floor)) for floor in program.FLOORS if floor != ("aupipe",)]
    facade = {(path.stem,) for path in (ROOT / "aupipe").glob("*.py")}  # drawn as one room
    assert [floor for floor in floors if floor not in facade] == expected


def test_every_folder_that_is_installed_is_drawn_and_described(program: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = set(project["tool"]["setuptools"]["package-dir"].values()) - {"manifests"}
    assert {name for floor in program.FLOORS for name in floor} == folders
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in folders if f"| `{name}` |" not in page] == []


def test_arrows_go_down_and_the_sizes_are_counted(program: ModuleType) -> None:
    floor = {name: number for number, names in enumerate(program.FLOORS) for name in names}
    for name in floor:
        room = program.read_room(name)
        assert all(floor[other] > floor[name] for other in room.imports), (name, room.imports)
        modules = [path for path in (ROOT / name).rglob("*.py") if path.name != "__main__.py"]
        text = [path.read_text(encoding="utf-8").count("\n") for path in modules]
        assert (room.files, room.lines) == (len(text), sum(text))
    assert program.read_room("fer_models").imports.keys() == {"fer_data", "fer_display"}


def test_the_picture_shows_every_room(program: ModuleType) -> None:
    figure = program.draw({name: program.read_room(name) for floor in program.FLOORS for name in floor})
    words = {text.get_text() for text in figure.axes[0].texts}
    assert {name for floor in program.FLOORS for name in floor} <= words
    assert (ROOT / "docs" / "figures" / "architecture.svg").stat().st_size > 5_000
