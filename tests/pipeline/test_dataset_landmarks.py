"""Points that ship with a dataset, from its table to the parts: used as they are, and part of the plan."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import FerError, UserInputError
from aupipe.fer_data.images import write_png
from aupipe.fer_data.manifest import Manifest, build_manifest, read_manifest
from aupipe.fer_data.types import Reason, Silent
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.pipeline.executors import SerialExecutor, create_executor
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig
from aupipe.pipeline.landmarks.work import open_work

CONFIG = LandmarkConfig(detector="dataset", part_size=4)
COLUMNS = [f"{axis}{i}" for i in range(68) for axis in "xy"]


def write_table(root: Path, points: dict[str, np.ndarray | None]) -> Manifest:
    """A CSV of paths, labels and points, imported; a face without points has empty cells."""
    with (root / "faces.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", *COLUMNS])
        for path, values in points.items():
            writer.writerow([path, "happiness", "train", *([""] * 136 if values is None else values.ravel())])
    build_manifest("csv", root / "faces.csv", root / "m.csv")
    return read_manifest(root / "m.csv")


@pytest.fixture
def points(tmp_path: Path) -> dict[str, np.ndarray | None]:
    """Ten portraits with their true points, one of them without."""
    truth: dict[str, np.ndarray | None] = {}
    for number, face in enumerate(portrait_faces("happiness", 10, seed=5, size=96)):
        write_png(tmp_path / f"{number}.png", face.image)
        truth[f"{number}.png"] = face.landmarks.round(2)
    truth["7.png"] = None
    return truth


def test_the_points_of_the_table_are_the_points_of_the_parts(tmp_path: Path, points: dict[str, np.ndarray]) -> None:
    report = run_landmarks(write_table(tmp_path, points), tmp_path / "work", CONFIG, SerialExecutor(), Silent())
    assert (report.ok, report.failed) == (9, {"no_face": 1})
    for part in open_work(tmp_path / "work").parts():
        for row, path in enumerate(part.paths):
            if points[path] is None:
                assert part.reasons[row] is Reason.NO_FACE
            else:
                np.testing.assert_allclose(part.landmarks[row], points[path], atol=1e-3)
                assert part.has_mesh[row] == 0 and part.score[row] == 1
                assert np.isfinite(part.pose[row]).all() and part.pose[row].any()


def test_workers_give_the_same_bytes(tmp_path: Path, points: dict[str, np.ndarray]) -> None:
    manifest = write_table(tmp_path, points)
    for name, workers in (("serial", 0), ("two", 2)):
        run_landmarks(manifest, tmp_path / name, CONFIG, create_executor(workers), Silent())
    serial, two = (sorted((tmp_path / name / "landmarks").glob("*.h5")) for name in ("serial", "two"))
    assert [path.read_bytes() for path in serial] == [path.read_bytes() for path in two]
    assert len(serial) == 3


def test_changed_points_are_another_manifest(tmp_path: Path, points: dict[str, np.ndarray]) -> None:
    run_landmarks(write_table(tmp_path, points), tmp_path / "work", CONFIG, SerialExecutor(), Silent())
    points["3.png"] = points["3.png"] + 1
    with pytest.raises(FerError, match="another manifest"):
        run_landmarks(write_table(tmp_path, points), tmp_path / "work", CONFIG, SerialExecutor(), Silent())


def test_a_manifest_without_points_is_told(tmp_path: Path, points: dict[str, np.ndarray]) -> None:
    manifest = write_table(tmp_path, dict.fromkeys(points))
    with pytest.raises(UserInputError, match="this manifest has none"):
        run_landmarks(manifest, tmp_path / "work", CONFIG, SerialExecutor(), Silent())
