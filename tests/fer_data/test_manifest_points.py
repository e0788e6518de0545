"""Landmarks that ship with a dataset: beside the manifest, in its rows, and refused when they do not belong to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.manifest import Manifest, build_manifest, check_manifest, read_manifest, write_manifest
from aupipe.fer_data.manifest.points import attach_points, read_points, usable_points
from aupipe.fer_data.types import Sample
from manifest_trees import affectnet_npy, ckplus, image, points, table


def sample(name: str, row: int | None = None) -> Sample:
    return Sample(name, f"{name}.png", "fear", "f", "train", landmarks_row=row)


THREE = np.stack([points(n) for n in range(3)])


@pytest.fixture
def written(tmp_path: Path) -> Manifest:
    for number, name in enumerate("abc"):
        image(tmp_path / f"{name}.png", number)
    samples = [sample("b", 0), sample("a", 2), sample("c")]
    return write_manifest(tmp_path / "M.csv", samples, root=tmp_path, layout="csv", landmarks=THREE)


def test_round_trip(written: Manifest, tmp_path: Path) -> None:
    manifest = read_manifest(tmp_path / "M.csv")
    assert manifest == written and manifest.landmarks == tmp_path / "M.landmarks.npy"
    assert [item.landmarks_row for item in manifest.samples] == [2, 0, None]
    assert (tmp_path / "M.csv").read_text().splitlines() == [
        "sample_id,path,label,source_label,split,landmarks_row",
        "a,a.png,fear,f,train,2",
        "b,b.png,fear,f,train,0",
        "c,c.png,fear,f,train,",
    ]
    assert np.array_equal(np.load(tmp_path / "M.landmarks.npy"), THREE)
    meta = json.loads((tmp_path / "M.meta.json").read_text())
    assert meta["landmarks_sha256"] == sha256_file(tmp_path / "M.landmarks.npy")
    assert check_manifest(tmp_path / "M.csv").findings == ()


def test_a_copy_carries_the_file(written: Manifest, tmp_path: Path) -> None:
    copy = tmp_path / "work" / "manifest.csv"
    made = write_manifest(copy, written.samples, root=tmp_path, layout="csv", landmarks=written.landmarks)
    assert made.landmarks == tmp_path / "work" / "manifest.landmarks.npy" and read_manifest(copy) == made
    assert made.landmarks.read_bytes() == (tmp_path / "M.landmarks.npy").read_bytes()
    again = write_manifest(copy, written.samples, root=tmp_path, layout="csv", landmarks=made.landmarks)
    assert again == made and np.array_equal(np.load(made.landmarks), THREE)


def test_a_file_that_no_manifest_wrote_is_kept(tmp_path: Path) -> None:
    own = tmp_path / "M.landmarks.npy"
    np.save(own, THREE[:1])
    before = own.read_bytes()
    write_manifest(tmp_path / "M.csv", [sample("a")], root=tmp_path, layout="csv")
    assert own.read_bytes() == before
    with pytest.raises(ManifestError, match="would replace a file that no manifest wrote"):
        write_manifest(tmp_path / "M.csv", [sample("a", 2)], root=tmp_path, layout="csv", landmarks=THREE)
    assert own.read_bytes() == before and not list(tmp_path.glob(".*.tmp"))
    np.save(own, THREE)  # what a build that was killed has left
    write_manifest(tmp_path / "M.csv", [sample("a", 2)], root=tmp_path, layout="csv", landmarks=THREE)
    write_manifest(tmp_path / "M.csv", [sample("a", 1)], root=tmp_path, layout="csv", landmarks=THREE[:2])
    assert len(np.load(own)) == 2
    own.write_bytes(b"damaged")
    (tmp_path / "M.csv").unlink()
    write_manifest(tmp_path / "M.csv", [sample("a", 2)], root=tmp_path, layout="csv", landmarks=THREE)
    assert np.array_equal(np.load(own), THREE)


def test_points_of_a_former_manifest_go(written: Manifest, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "M.csv", [sample("a")], root=tmp_path, layout="csv", landmarks=THREE)
    assert manifest.landmarks is None and not (tmp_path / "M.landmarks.npy").exists()
    assert read_manifest(tmp_path / "M.csv") == manifest


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (None, "no landmarks were given"),
        (THREE[:2], "too short for its manifest.*Expected: at least 3 rows. Got: 2"),
        (THREE[:, :67], r"another shape.*Expected: \(k, 68, 2\). Got: \(3, 67, 2\)"),
        (THREE[0], "another shape"),
    ],
)
def test_landmarks_that_do_not_fit_are_not_written(tmp_path: Path, landmarks: np.ndarray | None, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        write_manifest(tmp_path / "M.csv", [sample("a", 2)], root=tmp_path, layout="csv", landmarks=landmarks)
    assert list(tmp_path.iterdir()) == []


def _save(array: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("with_meta", [True, False])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "are missing: no .*M.landmarks.npy"),
        (b"", "cannot be read"),
        (b"no array at all", "cannot be read"),
        (_save(THREE)[:-8], "cannot be read"),
        (_save(THREE[:2]), "too short for its manifest"),
        (_save(THREE.reshape(3, 136)), "another shape"),
        (_save(THREE.astype(np.float64)), "another type. .*Expected: float32. Got: float64"),
        (_save(np.array([{}], object)), "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused(
    written: Manifest, tmp_path: Path, content: bytes | None, message: str, with_meta: bool
) -> None:
    file = tmp_path / "M.landmarks.npy"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    if not with_meta:
        (tmp_path / "M.meta.json").unlink()
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "M.csv")
    report = check_manifest(tmp_path / "M.csv")
    assert not report.ok and "landmarks_file" in {finding.kind for finding in report.findings}


def test_an_archive_is_refused(written: Manifest, tmp_path: Path) -> None:
    with (tmp_path / "M.landmarks.npy").open("wb") as file:
        np.savez(file, THREE)
    with pytest.raises(ManifestError, match="magic string"):
        read_manifest(tmp_path / "M.csv")


def test_points_of_other_faces_are_refused(written: Manifest, tmp_path: Path) -> None:
    np.save(tmp_path / "M.landmarks.npy", THREE[::-1])
    with pytest.raises(ManifestError, match="not the one its manifest was built with"):
        read_manifest(tmp_path / "M.csv")


@pytest.mark.parametrize("cell", ["-1", "1.5", "x", "²", " 1"])
def test_rows_that_are_no_number(written: Manifest, tmp_path: Path, cell: str) -> None:
    text = (tmp_path / "M.csv").read_text(encoding="utf-8")
    (tmp_path / "M.csv").write_text(text.replace("train,2", f"train,{cell}"), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"Not a row of the landmarks file: .*line 2"):
        read_manifest(tmp_path / "M.csv")


def test_a_row_beyond_the_file(written: Manifest, tmp_path: Path) -> None:
    text = (tmp_path / "M.csv").read_text()
    (tmp_path / "M.csv").write_text(text.replace("train,2", "train,3"))
    with pytest.raises(ManifestError, match=r"too short for its manifest.*at least 4 rows. Got: 3"):
        read_manifest(tmp_path / "M.csv")


def test_which_points_can_be_those_of_a_face() -> None:
    good = points(1)
    odd = {
        "nan": np.full((68, 2), np.nan),
        "one infinite": np.where(np.arange(136).reshape(68, 2) == 7, np.inf, good),
        "all at one place": np.full((68, 2), 5.0),
        "on a line": np.column_stack([good[:, 0], np.full(68, 3.0)]),
        "left of the image": good - [1000, 0],
        "above the image": good - [0, 1000],
    }
    array = np.stack([good, good - good.max(axis=0) / 2, *odd.values()]).astype(np.float32)
    assert usable_points(array).tolist() == [True, True] + [False] * len(odd)


def test_rows_follow_the_ids_and_leave_out_what_cannot_be_used() -> None:
    given = [sample("c"), sample("a"), sample("d"), sample("b")]
    out, array, unusable = attach_points(given, [points(3), points(1), None, np.full((68, 2), np.nan, np.float32)])
    assert [(item.sample_id, item.landmarks_row) for item in out] == [("c", 1), ("a", 0), ("d", None), ("b", None)]
    assert np.array_equal(array, [points(1), points(3)]) and unusable == 1


# From datasets


def stored(out: Path) -> dict[str, np.ndarray | None]:
    manifest = read_manifest(out)
    assert manifest.landmarks is not None
    array = np.load(manifest.landmarks)
    return {s.sample_id: None if s.landmarks_row is None else array[s.landmarks_row] for s in manifest.samples}


def test_affectnet_points_flat_or_not(tmp_path: Path) -> None:
    root = affectnet_npy(tmp_path / "set")
    np.save(root / "train_set/annotations/1_lnd.npy", np.arange(10.0))
    np.save(root / "train_set/annotations/2_lnd.npy", np.array([{}], object), allow_pickle=True)
    report = build_manifest("affectnet", root, tmp_path / "M.csv")
    found = stored(tmp_path / "M.csv")
    assert np.array_equal(found["train_set/images/0"], points(0))
    assert np.array_equal(found["val_set/images/5"], points(5))
    assert [name for name, value in found.items() if value is None] == [
        "train_set/images/1",
        "train_set/images/2",
        "val_set/images/7",
    ]
    assert report.notes[-2] == "3 of 6 samples come with 68 landmarks"
    assert report.notes[-1].startswith("the landmarks of 2 samples cannot be used")


def test_ckplus_points_belong_to_the_frame(tmp_path: Path) -> None:
    report = build_manifest("ckplus", ckplus(tmp_path / "set"), tmp_path / "M.csv", variant="apex3+neutral")
    found = stored(tmp_path / "M.csv")
    assert {name[-8:] for name, value in found.items() if value is not None} == {"00000005"}
    assert np.array_equal(found["cohn-kanade-images/S005/001/S005_001_00000005"], points(5))
    assert report.notes[-1].startswith("the landmarks of 1 samples cannot be used")


def test_csv_columns_are_landmarks_and_no_box(tmp_path: Path) -> None:
    root = table(tmp_path / "set")
    build_manifest("csv", root, tmp_path / "M.csv")
    found = stored(tmp_path / "M.csv")
    assert np.array_equal(found["img/1"], points(1)) and found["img/2"] is None
    boxes = {item.sample_id: item.box for item in read_manifest(tmp_path / "M.csv").samples}
    assert boxes["img/1"] is not None and boxes["img/1"].x1 == 3
    text = (root / "faces.csv").read_text()
    (root / "faces.csv").write_text(text.replace("bbox", "other"))
    build_manifest("csv", root, tmp_path / "M.csv")
    assert all(item.box is None for item in read_manifest(tmp_path / "M.csv").samples)


def test_some_landmark_columns_are_a_mistake(tmp_path: Path) -> None:
    root = table(tmp_path / "set")
    text = (root / "faces.csv").read_text()
    (root / "faces.csv").write_text(text.replace(",y67", ",y68"))
    with pytest.raises(ManifestError, match=r"some of the columns of the 68 landmarks.*Got: 135 of them"):
        build_manifest("csv", root, tmp_path / "M.csv")


def test_a_manifest_with_landmarks_is_replaced_by_a_new_build(tmp_path: Path) -> None:
    root = table(tmp_path / "set")
    first = build_manifest("csv", root, tmp_path / "M.csv")
    assert build_manifest("csv", root, tmp_path / "M.csv") == first


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    data = text.encode("latin-1")
    return b"\x93NUMPY" + version + len(data).to_bytes(2 if version[0] == 1 else 4, "little") + data + bytes(544)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x93NUMPY", b"PK\x03\x04" + bytes(50), header("{"), header("(" * 3000), header("'a"), header("{}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 68, 2)"), header("\xff\0"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000, 68, 2)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 68, 2)}"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1, 68, 2)}"),
        header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 68, 2)}"),
        header("{'descr': '<f4', 'fortran_order': 7, 'shape': 'x'}"), header("  if:\n x", b"\x02\x00"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 68, 2)}")[:-300], header("1" * 5000),
    ],
)  # fmt: skip
def test_a_damaged_landmarks_file_is_one_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.npy").write_bytes(data)
    with pytest.raises(ManifestError, match=r"andmarks"):
        read_points(tmp_path / "p.npy", 1)


def test_points_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.full((1, 68, 2), np.inf, np.float32))
    with pytest.raises(ManifestError, match="not finite"):
        read_points(tmp_path / "p.npy", 1)
