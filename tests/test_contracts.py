"""The house's import directions, and that the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from aupipe.fer_data.manifest import build_manifest
from aupipe.fer_data.shards import Store
from manifest_trees import image

ROOT = Path(__file__).parents[1]
HEAVY = (
    *(
        "torch",
        "timm",
        "torchvision",
        "dask",
        "distributed",
        "mediapipe",
        "cv2",
        "h5py",
        "matplotlib",
        "numpy",
        "scipy",
    ),
    *("skimage", "jinja2", "rich", "requests"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos of each of two classes, and their manifest."""
    folder = tmp_path_factory.mktemp("faces")
    for number in range(20):
        image(folder / "faces" / ("fear", "anger")[number % 2] / f"{number}.png", number)
    build_manifest("folder", folder / "faces", folder / "m.csv")
    return folder


def loaded_after(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after running ``code``."""
    probe = f"{code}\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def imports_of(path: Path) -> set[str]:
    """Top-level packages named in any import statement of a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", [ROOT / "cli.py", *(ROOT / "commands").glob("*.py")], ids=lambda path: path.name)
def test_command_line_leaves_the_work_to_the_rooms(path: Path) -> None:
    allowed = {"aupipe", "click", "tqdm"} | set(sys.stdlib_module_names)
    assert imports_of(path) <= allowed


def test_help_loads_nothing_heavy() -> None:
    assert loaded_after("from aupipe.commands.cli import cli; cli(['--help'], standalone_mode=False)") == set()


def test_that_check_can_fail() -> None:
    assert loaded_after("import h5py; from aupipe.commands.cli import cli; cli(['--help'], standalone_mode=False)") == {
        "h5py",
        "numpy",
    }


@pytest.mark.parametrize(
    "command",
    ["landmarks", "build-maps", "train", "evaluate", "benchmark", "demo", "manifest", "manifest build", "compare",
     "explain"],
)  # fmt: skip
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    words = [*command.split(), "--help"]
    assert loaded_after(f"from aupipe.commands.cli import cli; cli({words!r}, standalone_mode=False)") == set()


@pytest.mark.parametrize(
    ("command", "loads"),
    [
        ("manifest build folder {made}/faces -o {made}/m.csv", {"numpy"}),
        ("manifest check {made}/m.csv", {"numpy"}),
        ("inspect {store}", {"h5py", "numpy"}),
        ("verify {store}", {"h5py", "numpy"}),
    ],
)
def test_a_command_that_draws_nothing_starts_without_what_draws(
    command: str, loads: set[str], made: Path, store: Store
) -> None:
    words = [word.format(made=made, store=store.folder) for word in command.split()]
    assert loaded_after(f"from aupipe.commands.cli import cli; cli({words!r}, standalone_mode=False)") == loads


@pytest.mark.parametrize(
    ("work", "not_yet"),
    [
        ("from aupipe.fer_models.training.run import train", {"matplotlib", "scipy", "jinja2", "mediapipe", "dask"}),
        ("from aupipe.fer_analysis.evaluation import evaluate", {"matplotlib", "scipy", "jinja2", "mediapipe", "dask"}),
        ("from aupipe.fer_analysis.report import write_report", {"scipy", "mediapipe", "dask"}),
    ],
)
def test_what_is_needed_late_is_loaded_late(work: str, not_yet: set[str]) -> None:
    loaded = loaded_after(f"{work}; print()")
    assert "torch" in loaded and not loaded & not_yet


@pytest.mark.parametrize(
    "module",
    ["aupipe.fer_data.shards", "aupipe.fer_data.manifest", "aupipe.pipeline.maps.run", "aupipe.pipeline.landmarks.run"],
)
def test_offline_rooms_do_not_load_torch(module: str) -> None:
    assert not loaded_after(f"import {module}; print()") & {"torch", "timm", "dask", "distributed", "mediapipe"}
