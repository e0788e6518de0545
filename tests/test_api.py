"""The public names: cheap to import, documented with examples that run, and the same options as the commands."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest

import aupipe
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.runs import Run, load_run
from test_contracts import loaded_after

ROOT = Path(__file__).parents[1]
FUNCTIONS = [name for name in aupipe.__all__ if inspect.isfunction(getattr(aupipe, name))]


def probe(code: str, folder: Path) -> str:
    """What a fresh interpreter in ``folder`` prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def page_program() -> ModuleType:
    """``docs/make_api.py``."""
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- importing ---


def test_importing_loads_nothing_heavy_and_none_of_our_rooms() -> None:
    assert loaded_after("import aupipe; dir(aupipe)") == set()
    ours = "import sys, aupipe; print([name for name in sys.modules if name.startswith('aupipe.')])"
    assert probe(ours, ROOT) == "[]\n"


def test_names_are_loaded_one_by_one() -> None:
    assert loaded_after("import aupipe; aupipe.load_codebook, aupipe.read_manifest") <= {"numpy", "cv2"}
    assert loaded_after("import aupipe; aupipe.detect_landmarks, aupipe.train") & {"torch", "mediapipe"} == set()


def test_importing_changes_nothing_in_the_user_s_process(tmp_path: Path) -> None:
    code = """
import os, cv2
state = lambda: (cv2.getNumThreads(), cv2.utils.logging.getLogLevel(), dict(os.environ))
cv2.setNumThreads(7)
before = state()
import aupipe
for name in aupipe.__all__:
    getattr(aupipe, name)
import aupipe.fer_data.images, aupipe.pipeline.landmarks.run, aupipe.pipeline.maps.run, aupipe.fer_demo.portrait
print(state() == before, before[0])
"""
    assert probe(code, tmp_path) == "True 7\n"


def test_the_user_s_own_modules_do_not_stand_in_our_way(tmp_path: Path) -> None:
    for name in ("pipeline", "cli", "commands", "fer_data", "fer_models", "manifests", "stages", "runs", "progress"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is the user s own file')")
    code = """
import aupipe
print(all(callable(getattr(aupipe, name)) for name in aupipe.__all__), len(aupipe.load_codebook("default").expressions))
from aupipe.commands.cli import cli
from aupipe.pipeline.executors import create_executor
print(list(create_executor(1).run(len, ["abc"])))
"""
    guarded = "if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in code.splitlines())
    (tmp_path / "notebook.py").write_text(guarded)
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("True ") and done.stdout.splitlines()[1] == "[3]"


def test_every_name_is_there_and_typed() -> None:
    tree = ast.parse((ROOT / "aupipe" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(aupipe.__all__) <= set(dir(aupipe))
    assert all(callable(getattr(aupipe, name)) for name in aupipe.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aupipe.nothing


COMMANDS = {
    "detect_landmarks": (("landmarks",), {"path": "manifest"}, {"export", "sheet"}),
    "build_maps": (("build-maps",), {}, set()),
    "build_manifest": (("manifest", "build"), {"alias": "aliases"}, set()),
    "train": (("train",), {}, set()),
    "evaluate": (("evaluate",), {}, {"against"}),
    "explain": (("explain",), {}, set()),
    "compare": (("compare",), {"model": "models"}, {"weights", "input_size", "normalisation", "zoo"}),
    "study": (("study",), {}, {"dry_run", "smoke"}),
}
"""Function -> its command, options of another name, and options that only the command has."""


@pytest.mark.parametrize("name", COMMANDS)
def test_options_have_the_command_s_names_and_defaults(name: str) -> None:
    from aupipe.commands.cli import cli
    from aupipe.fer_models.training.config import TrainConfig

    words, renamed, extra = COMMANDS[name]
    command: Any = cli
    for word in words:
        command = command.commands[word]
    parameters = dict(inspect.signature(getattr(aupipe, name)).parameters)
    if name == "train":
        parameters |= inspect.signature(TrainConfig).parameters
    for option in command.params:
        key = renamed.get(option.name, option.name)
        if key in extra | {"as_json", "max_failures", "out", "quiet"}:
            continue
        assert key in parameters, f"{name} lacks {key}"
        if isinstance(option, click.Option) and not option.multiple and key != "workers":
            default = option.get_default(click.Context(command))
            assert parameters[key].default == (default if isinstance(default, str | int | float) else None), key


# --- documentation ---


@pytest.mark.parametrize("name", aupipe.__all__)
def test_every_name_is_documented(name: str) -> None:
    text = inspect.getdoc(getattr(aupipe, name)) or ""
    wanted = ("Args:", "Returns:", "Raises:", "Example:") if name in FUNCTIONS else ("Args:", "Example:")
    assert [section for section in wanted if f"\n{section}\n" not in text] == []
    for parameter in inspect.signature(getattr(aupipe, name)).parameters:
        assert f"\n    {parameter}: " in text, parameter


def test_the_page_is_made_from_the_docstrings() -> None:
    program = page_program()
    assert set(program.STORY) == set(aupipe.__all__)
    assert program.PAGE.read_text(encoding="utf-8") == program.api_page()


@pytest.fixture(scope="module")
def story(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder in which the examples ran one after the other, and what went wrong."""
    folder, before, said = tmp_path_factory.mktemp("story"), Path.cwd(), list[str]()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    os.chdir(folder)
    try:
        for name in page_program().STORY:
            text = inspect.getdoc(getattr(aupipe, name)) or ""
            example = doctest.DocTestParser().get_doctest(text, {"aupipe": aupipe}, name, None, 0)
            assert example.examples
            runner.run(example, out=said.append)
        yield folder, "".join(said)
    finally:
        os.chdir(before)


@pytest.mark.slow
def test_the_examples_run(story: tuple[Path, str]) -> None:
    assert story[1] == ""


# --- a run asked about arrays ---


@pytest.fixture(scope="module")
def run(story: tuple[Path, str]) -> Run:
    return load_run(story[0] / "run", device="cpu")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A face that is neither in the middle nor upright, in a wide photo."""
    face = next(portrait_faces("happiness", 1, seed=4, size=160)).image
    wide = np.full((220, 330, 3), 120, np.uint8)
    wide[30:190, 140:300] = face
    return wide


def test_one_image_a_batch_and_a_list_are_the_same_to_a_run(run: Run, photo: np.ndarray) -> None:
    crop = run.align(photo).crop[0]
    one, batch, several = run.predict(crop), run.predict(np.stack([crop] * 9)), run.predict([crop, crop[::2, ::2]])
    assert [len(found) for found in (one, batch, several)] == [1, 9, 2]
    assert one.probability.dtype == np.float64 and one.probability.shape == (1, len(run.classes))
    np.testing.assert_allclose(batch.probability, np.repeat(one.probability, 9, 0), atol=1e-5)
    np.testing.assert_allclose(several.probability[0], one.probability[0], atol=1e-5)
    np.testing.assert_allclose(several.probability.sum(1), 1)
    assert one.expression == [run.classes[one.label[0]]]


def test_photos_are_aligned_first_and_may_be_absent(run: Run, photo: np.ndarray) -> None:
    blank = np.zeros((90, 70, 3), np.uint8)
    found = run.predict([photo, blank, photo[:, ::-1]], align=True)
    assert found.reasons == ("ok", "no_face", "ok") and found.found.tolist() == [True, False, True]
    assert found.expression[1] is None and not found.probability[1].any() and np.isfinite(found.probability).all()
    faces = run.align(photo)
    np.testing.assert_array_equal(run.predict(faces).probability[0], run.predict(faces.crop).probability[0])
    np.testing.assert_allclose(run.predict(faces).probability[0], found.probability[0], atol=1e-5)
    assert "1 no_face" in repr(found) and repr(faces) == "1 faces in 1 images"


def test_maps_lie_on_the_grid_on_the_crop_and_on_the_photo(run: Run, photo: np.ndarray) -> None:
    for maps in (run.attention([photo, photo[:20, :20]], align=True), run.cam([photo, photo[:20, :20]], align=True)):
        assert maps.grid.dtype == maps.on_crop.dtype == maps.on_image[0].dtype == np.float32
        assert maps.on_crop.shape[1:] == (96, 96)
        assert [one.shape for one in maps.on_image] == [(220, 330), (20, 20)]
        assert maps.found.tolist() == [True, False] and not maps.on_image[1].any() and not maps.grid[1].any()
        assert maps.grid.min() >= 0 and 0.9 < maps.on_crop[0].max() <= 1 and 0.9 < maps.on_image[0].max() <= 1
        rows, columns = np.nonzero(maps.on_image[0] > 0)
        assert rows.min() >= 20 and rows.max() <= 200 and columns.min() >= 130 and columns.max() <= 310
    assert run.attention(photo, 1, align=True).grid.shape[1] > run.attention(photo, align=True).grid.shape[1]


def test_a_map_follows_its_image(run: Run, photo: np.ndarray) -> None:
    """On the photo it is where the crop was cut: the way back and forth leaves it as it is, up to interpolation."""
    import cv2

    faces = run.align(photo)
    maps = run.cam(faces)
    there = cv2.warpAffine(maps.on_image[0], faces.to_image[0], (96, 96), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    inside = maps.on_crop[0] > 0.3
    assert inside.any() and np.abs(there - maps.on_crop[0])[inside].mean() < 0.08
    np.testing.assert_allclose(maps.grid[0] / maps.grid[0].max(), run.cam(faces.crop).grid[0] / maps.grid[0].max())
    larger = run.cam(np.repeat(np.repeat(faces.crop[0], 2, 0), 2, 1))
    assert larger.on_image[0].shape == (192, 192) and larger.on_crop.shape == (1, 96, 96)


def test_the_label_of_a_cam_is_chosen(run: Run, photo: np.ndarray) -> None:
    faces = run.align([photo, photo])
    first, other = run.classes[:2]
    both = run.cam(faces, [first, other])
    assert both.labels == (first, other) and not np.array_equal(both.grid[0], both.grid[1])
    np.testing.assert_array_equal(both.grid[0], run.cam(faces, first).grid[1])
    assert run.cam(faces).labels == tuple(run.predict(faces).expression)


def test_what_is_no_image_is_said(run: Run, photo: np.ndarray) -> None:
    for wrong in (photo.astype(np.float32), photo[..., 0], [photo[..., :2]], ["photo.png"], [photo[:0]]):
        with pytest.raises(UserInputError, match="Image 0"):
            run.predict(wrong, align=True)
    with pytest.raises(UserInputError, match=r"not square.*align=True"):
        run.predict(photo)
    with pytest.raises(UserInputError, match="layer"):
        run.attention(photo, 9, align=True)
    with pytest.raises(UserInputError, match=r"Unknown class 'hapiness'.*happiness"):
        run.cam(photo, "hapiness", align=True)
    with pytest.raises(UserInputError, match="one label"):
        run.cam(photo, list(run.classes), align=True)
    assert len(run.predict([])) == len(run.cam([])) == len(run.attention([], align=True)) == 0


def test_unknown_settings_and_choices_are_said(story: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"Unknown setting 'epoch'.*'epochs'"):
        aupipe.train(story[0] / "store", tmp_path / "run", epoch=3)
    with pytest.raises(UserInputError, match=r"Unknown choice of faces 'bigest'"):
        aupipe.detect_landmarks(story[0] / "faces.csv", tmp_path / "work", faces="bigest")
    with pytest.raises(UserInputError, match="either runs"):
        aupipe.compare([], tmp_path / "compared")


# --- tables and what is shown ---


def test_tables_are_data_frames(story: tuple[Path, str], run: Run, photo: np.ndarray) -> None:
    folder = story[0]
    manifest = aupipe.read_manifest(folder / "faces.csv")
    table = manifest.to_pandas()
    assert list(table["sample_id"]) == [sample.sample_id for sample in manifest.samples]
    assert table.groupby("split").size().to_dict() == {"test": 7, "train": 28, "val": 7}
    work = aupipe.detect_landmarks(manifest, folder / "work")
    points = work.to_pandas()
    row = next(work.rows())
    assert points.loc[0, "sample_id"] == row.sample.sample_id and points.loc[0, "x8"] == row.points[8, 0]
    result = aupipe.evaluate(folder / "run", device="cpu")
    assert result.to_pandas()["correct"].mean() == pytest.approx(result.content["accuracy"])
    said = run.predict([photo, photo[:20, :20]], align=True).to_pandas()
    assert said["expression"].isna().tolist() == said["confidence"].isna().tolist() == [False, True]
    assert said["reason"].tolist() == ["ok", "no_face"] and said[[f"p_{name}" for name in run.classes]].shape == (2, 7)


def test_landmarks_without_a_face_are_absent_numbers(built: Any) -> None:
    from aupipe.pipeline.landmarks.work import open_work

    table = open_work(built.work).to_pandas()
    failed = table["reason"] != "ok"
    assert failed.sum() == 3 and table["x0"].isna().tolist() == failed.tolist() == table["yaw"].isna().tolist()


def test_without_pandas_one_paragraph_says_what_to_install(
    story: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserInputError, match=r"needs the library pandas.*pip install 'aupipe\[pandas\]'"):
        aupipe.read_manifest(story[0] / "faces.csv").to_pandas()


def test_texts_of_a_table_stay_as_they_are_written(tmp_path: Path) -> None:
    from aupipe.fer_data.manifest import write_manifest
    from aupipe.fer_data.types import Sample

    samples = [Sample("001", "001.png", "fear", "NA", "train", "07"), Sample("nan", "nan.png", "fear", "2", "test")]
    table = write_manifest(tmp_path / "m.csv", samples, root=tmp_path, layout="csv").to_pandas()
    assert table["sample_id"].tolist() == ["001", "nan"] and table["source_label"].tolist() == ["NA", "2"]
    assert table["subject"].isna().tolist() == [False, True] and table["subject"][0] == "07"


def test_results_show_themselves_briefly(story: tuple[Path, str], run: Run) -> None:
    folder = story[0]
    shown = [
        repr(aupipe.read_manifest(folder / "faces.csv")),
        repr(aupipe.open_store(folder / "store")),
        repr(run),
        repr(aupipe.build_manifest("folder", folder / "faces", folder / "again.csv")),
    ]
    assert all(0 < len(text) < 600 for text in shown)
    assert shown[0].startswith("Manifest (folder): 42 images (train 28, val 7, test 7), 7 classes")
    assert shown[2] == "Run run: cam on test_resnet, 7 classes, sees 80 of 96 pixels, on cpu"


def test_progress_is_shown_where_it_is_asked_for(story: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    aupipe.evaluate(story[0] / "run", device="cpu")
    quiet = capsys.readouterr()
    assert (quiet.out, quiet.err) == ("", "")
    aupipe.evaluate(story[0] / "run", device="cpu", progress=True)
    assert "evaluate on test" in capsys.readouterr().err
