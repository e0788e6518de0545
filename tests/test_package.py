"""What ``pip install`` puts on a machine: one import name, every file, and only what is declared is imported."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
"""Import name -> folder of the repository's top level."""

PROVIDES = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "distributed": "dask",
    "dlib": "dlib-bin",
    "huggingface_hub": "huggingface-hub",
    "pillow_heif": "pillow-heif",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
"""Distributions whose import name is another."""


OPTIONAL = {"moto"}
"""What a test skips without."""


def sources() -> list[Path]:
    """Every module that is installed."""
    return [path for folder in FOLDERS.values() for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(modules: list[Path]) -> dict[str, Path]:
    """Other people's packages that the modules import, each with one module that does."""
    found: dict[str, Path] = {}
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            found.update({name.split(".")[0]: path for name in names})
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names and name != "aupipe"}


def declared(extras: bool) -> set[str]:
    """Distributions that pyproject.toml names."""
    lines = list(PROJECT["project"]["dependencies"])
    if extras:
        lines += [line for more in PROJECT["project"]["optional-dependencies"].values() for line in more]
    return {re.split(r"[\[<>=;~! ]", line)[0].lower() for line in lines}


def test_the_list_of_packages_is_that_of_the_folders() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    there = set()
    for name, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("__init__.py"):
            there.add(".".join([name, *path.parent.relative_to(ROOT / folder).parts]))
    assert listed == there


def test_the_links_for_the_type_checker_lay_the_folders_out_as_installed() -> None:
    house = ROOT / ".house" / "aupipe"
    folders = [path for path in house.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert {path.name: path.resolve() for path in folders} == {
        name.removeprefix("aupipe."): ROOT / folder for name, folder in FOLDERS.items() if name != "aupipe"
    }
    assert {path.name for path in house.iterdir() if path.is_file()} == {
        path.name for path in (ROOT / "aupipe").iterdir() if path.is_file()
    }


def test_what_is_imported_is_declared() -> None:
    known = declared(extras=True)
    missing = {name: path.name for name, path in imported(sources()).items() if PROVIDES.get(name, name) not in known}
    assert missing == {}


def test_what_the_tests_import_is_declared() -> None:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    ours = {path.stem for folder in ("tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")}
    ours |= {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    known = declared(extras=True) | ours | OPTIONAL
    assert {name: path.name for name, path in imported(tests).items() if PROVIDES.get(name, name) not in known} == {}


def test_what_is_declared_is_imported() -> None:
    names = {PROVIDES.get(name, name) for name in imported(sources())}
    assert declared(extras=False) - names == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without the network."""
    pytest.importorskip("setuptools", reason="builds a wheel without the network: setuptools must be installed")
    out, tree = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("tree")
    for folder in FOLDERS.values():  # what is left of an earlier build must not get into this one
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(out)]
    subprocess.run([*command, str(tree)], check=True, capture_output=True)
    (path,) = out.iterdir()
    return path


def test_the_wheel_holds_one_import_name_and_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"aupipe"}
    expected = set()
    for name, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                expected.add("/".join([*name.split("."), *path.relative_to(ROOT / folder).parts]))
    assert set(names) == expected


@pytest.mark.slow
def test_the_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """Beside the dependencies of this one: the editable install of the checkout is not seen."""
    fresh = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(fresh), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    assert {path.name for path in fresh.iterdir() if "dist-info" not in path.name and path.name != "bin"} == {"aupipe"}
    probe = (
        f"import sys; sys.path.insert(0, {str(fresh)!r})\n"
        "import aupipe; from aupipe.commands.cli import cli\n"
        "from aupipe.fer_data.au_maps.codebook import load_codebook\n"
        "from aupipe.fer_data.manifest.descriptors import layout_names\n"
        "print(aupipe.__file__, load_codebook('default').digest, *layout_names())\n"
        "cli(['demo', '--out', 'demo', '--faces', '4', '--epochs', '1', '--workers', '0'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(fresh) in done.stdout and "rafdb" in done.stdout
    assert (tmp_path / "demo" / "index.html").is_file()


def test_the_command_line_starts_from_a_checkout_too() -> None:
    done = subprocess.run([sys.executable, "cli.py", "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert importlib.metadata.version("aupipe") in done.stdout
