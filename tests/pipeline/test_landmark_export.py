from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.action_units.estimator import load_estimator
from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.landmark_parts import LandmarkPart
from aupipe.fer_data.manifest import build_manifest, read_manifest
from aupipe.fer_data.types import Reason
from aupipe.pipeline.landmark_views import export, export_landmarks
from aupipe.pipeline.landmarks.work import REPORT_NAME, open_work
from aupipe.pipeline.planning import hash_order
from landmark_works import make_work, samples_of
from offline import Built


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return make_work(tmp_path)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows_of(work: Path) -> dict[str, tuple[LandmarkPart, int]]:
    return {key: (part, at) for part in open_work(work).parts(mesh=True) for at, key in enumerate(part.sample_ids)}


def numbers(row: dict[str, str], names: tuple[str, ...]) -> np.ndarray:
    return np.array([float(row[name]) for name in names])


def test_a_row_a_sample_in_hash_order(work: Path) -> None:
    path = export_landmarks(work, work, "csv")
    rows = table(path)
    assert path == work / "landmarks.csv"
    assert tuple(rows[0]) == export.COLUMNS and len(export.COLUMNS) == 5 + 136 + 4 + 1 + 4 + 1 + 52 + 17
    assert [row["sample_id"] for row in rows] == [sample.sample_id for sample in hash_order(samples_of(10))]
    by_id = {sample.sample_id: sample for sample in samples_of(10)}
    for row in rows:
        sample = by_id[row["sample_id"]]
        assert (row["path"], row["split"], row["label"]) == (sample.path, sample.split, sample.label)


def test_csv_holds_what_the_parts_hold(work: Path) -> None:
    stored = rows_of(work)
    for row in table(export_landmarks(work, work, "csv")):
        part, at = stored[row["sample_id"]]
        assert row["reason"] == part.reasons[at].key
        assert row["source_sha256"] == part.source_sha256[at]
        if part.reasons[at] is not Reason.OK:
            continue
        np.testing.assert_allclose(numbers(row, export.POINTS), part.landmarks[at].reshape(-1), atol=6e-5)
        np.testing.assert_allclose(numbers(row, ("yaw", "pitch", "roll")), part.pose[at], atol=6e-5)
        assert row["profile"] == str(int(abs(part.pose[at, 0]) > 45))
        assert float(row["score"]) == pytest.approx(part.score[at], abs=1e-6)
        assert numbers(row, export.COUNTS).tolist() == [part.rung[at], part.faces_seen[at], 96, 96]
        if part.has_mesh[at]:
            np.testing.assert_allclose(numbers(row, export.BLENDSHAPES), part.blendshapes[at], atol=1e-6)
            estimator = load_estimator()
            chance = dict(
                zip(estimator.numbers, estimator.probabilities(part.blendshapes[at : at + 1])[0], strict=True)
            )
            expected = [chance[int(name[2:])] for name in export.ACTION_UNITS]
            np.testing.assert_allclose(numbers(row, export.ACTION_UNITS), expected, atol=1e-6)


def test_profiles_are_flagged(tmp_path: Path) -> None:
    """From above 45 degrees on, to either side; the same in every form of the table."""
    yaws = {2: 45.5, 4: -60.0, 6: 45.0}
    work = make_work(
        tmp_path, edit=lambda number, row: replace(row, pose=np.array([yaws.get(number, 0), 0, 0], np.float32))
    )
    flagged = {row["sample_id"] for row in table(export_landmarks(work, work, "csv")) if row["profile"] == "1"}
    frame = open_work(work).to_pandas()
    assert flagged == {"s/002", "s/004"} == set(frame["sample_id"][frame["profile"] == 1])


def test_absence_is_an_empty_cell(work: Path) -> None:
    rows = {row["sample_id"]: row for row in table(export_landmarks(work, work, "csv"))}
    empty = {key: {name for name, cell in row.items() if not cell} for key, row in rows.items()}
    measured = {*export.POINTS, *export.MEASURES, export.FLAG, *export.BLENDSHAPES, *export.ACTION_UNITS}
    assert empty.pop("s/003") == measured
    assert empty.pop("s/005") == {*measured, *export.COUNTS, "source_sha256"}
    assert empty.pop("s/001") == {*export.BLENDSHAPES, *export.ACTION_UNITS}
    assert not any(empty.values())


def test_the_parts_sizes_leave_no_trace(work: Path, tmp_path: Path) -> None:
    other = make_work(tmp_path, "other", part_size=3)
    first, second = (
        export_landmarks(work, tmp_path / "a.csv", "csv"),
        export_landmarks(other, tmp_path / "b.csv", "csv"),
    )
    assert first.read_bytes() == second.read_bytes()
    assert first == tmp_path / "a.csv"


def test_blendshapes_are_named_as_mediapipe_names_them() -> None:
    landmarker = pytest.importorskip("mediapipe.tasks.python.vision.face_landmarker")
    words = [shape.name.lower().split("_") for shape in landmarker.Blendshapes]
    assert [shape.value for shape in landmarker.Blendshapes] == list(range(52))
    names = [first + "".join(word.capitalize() for word in rest) for first, *rest in words]
    assert (names[0], export.BLENDSHAPES[0]) == ("neutral", "_neutral")
    assert tuple(names[1:]) == export.BLENDSHAPES[1:]


def test_csv_comes_back_as_landmarks_that_ship_with_a_dataset(work: Path, tmp_path: Path) -> None:
    build_manifest("csv", export_landmarks(work, tmp_path / "faces" / "t.csv", "csv"), tmp_path / "again.csv")
    again, before = read_manifest(tmp_path / "again.csv"), rows_of(work)
    assert again.landmarks is not None
    points = np.load(again.landmarks)
    assert {sample.sample_id for sample in again.samples} == before.keys()
    originals = {sample.sample_id: sample for sample in samples_of(10)}
    for sample in again.samples:
        part, at = before[sample.sample_id]
        assert (sample.landmarks_row is None) == (part.reasons[at] is not Reason.OK)
        assert (sample.label, sample.split) == (originals[sample.sample_id].label, originals[sample.sample_id].split)
        if sample.landmarks_row is not None:
            np.testing.assert_allclose(points[sample.landmarks_row], part.landmarks[at], atol=1e-4)
            assert sample.box is None


def test_parquet_holds_what_the_parts_hold(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(export, "_ROWS_PER_GROUP", 4)
    path = export_landmarks(work, tmp_path, "parquet", mesh=True)
    assert path == tmp_path / "landmarks.parquet"
    assert parquet.ParquetFile(path).num_row_groups == 3
    read = parquet.read_table(path)
    assert read.schema.names == [*export.COLUMNS, "mesh"]
    assert b'"detector":"toy"' in read.schema.metadata[b"config"]
    rows, stored = read.to_pylist(), rows_of(work)
    assert [row["sample_id"] for row in rows] == [sample.sample_id for sample in hash_order(samples_of(10))]
    for row in rows:
        part, at = stored[row["sample_id"]]
        found, shaped = part.reasons[at] is Reason.OK, bool(part.has_mesh[at])
        assert [row["x0"] is None, row["rung"] is None, row["mesh"] is None] == [
            not found, part.reasons[at] is Reason.MISSING_FILE, not shaped,
        ]  # fmt: skip
        if found:
            np.testing.assert_array_equal([row[name] for name in export.POINTS], part.landmarks[at].reshape(-1))
            assert (row["score"], row["faces_seen"]) == (part.score[at], part.faces_seen[at])
            assert row["profile"] == (abs(part.pose[at, 0]) > 45)
        if shaped:
            np.testing.assert_array_equal(np.array(row["mesh"]).reshape(478, 3), part.mesh[at])
            np.testing.assert_array_equal([row[name] for name in export.BLENDSHAPES], part.blendshapes[at])


def test_parquet_without_a_mesh_is_the_csvs_columns_and_the_same_bytes_twice(work: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    first = export_landmarks(work, tmp_path / "a.parquet", "parquet")
    second = export_landmarks(work, tmp_path / "b.parquet", "parquet")
    assert parquet.read_schema(first).names == list(export.COLUMNS)
    assert first.read_bytes() == second.read_bytes()


def test_without_pyarrow_the_way_out_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserInputError, match=r"pyarrow, which is not installed.*aupipe\[parquet\].*CSV needs nothing"):
        export_landmarks(work, work, "parquet")
    assert not (work / "landmarks.parquet").exists()


def test_wrong_wishes_are_refused(work: Path) -> None:
    with pytest.raises(UserInputError, match=r"Unknown table form 'cvs'.*Did you mean 'csv'"):
        export_landmarks(work, work, "cvs")
    with pytest.raises(UserInputError, match="Parquet only"):
        export_landmarks(work, work, "csv", mesh=True)


def test_unfinished_or_mixed_landmarks_are_refused(work: Path, tmp_path: Path) -> None:
    other = make_work(tmp_path, "other", detector="another")
    parts = work / "landmarks"
    (parts / "part-00002.h5").write_bytes((other / "landmarks" / "part-00002.h5").read_bytes())
    with pytest.raises(StoreError, match="not those that its manifest"):
        export_landmarks(work, work, "csv")
    assert not list(work.glob("*landmarks.csv*")), "half a table stayed behind"
    (parts / "part-00002.h5").write_bytes((parts / "part-00001.h5").read_bytes())
    with pytest.raises(StoreError, match="not those that its manifest"):
        export_landmarks(work, work, "csv")
    (parts / "part-00002.h5").unlink()
    with pytest.raises(StoreError, match=r"damaged.*part-00002\.h5"):
        export_landmarks(work, work, "csv")
    (work / REPORT_NAME).unlink()
    with pytest.raises(StoreError, match=r"not a finished landmarks folder: it has no landmarks\.json"):
        export_landmarks(work, work, "csv")


def test_a_changed_manifest_is_refused(work: Path) -> None:
    path = work / "manifest.csv"
    path.write_text(path.read_text().replace(",anger,anger,", ",fear,fear,", 1))
    with pytest.raises(StoreError, match="not those that its manifest"):
        export_landmarks(work, work, "csv")


def test_a_real_run_is_exported(built: Built, tmp_path: Path) -> None:
    rows = table(export_landmarks(built.work, tmp_path, "csv"))
    assert len(rows) == len(built.dataset.manifest.samples)
    smiles = [float(row["mouthSmileLeft"]) for row in rows if row["label"] == "happiness" and row["yaw"]]
    others = [float(row["mouthSmileLeft"]) for row in rows if row["label"] == "anger" and row["yaw"]]
    assert np.median(smiles) > np.median(others) + 0.1
