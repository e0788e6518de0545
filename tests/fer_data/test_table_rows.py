"""Rows of people's tables get the photo, split, face and person that are meant, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest import BuildReport, build_manifest, check_manifest, read_manifest
from aupipe.fer_data.manifest.layouts.text import column_roles
from aupipe.fer_data.manifest.same_faces import group_faces
from aupipe.fer_data.types import Box
from manifest_trees import image, points, problems

LABELS = ("fear", "anger", "sadness")
HEADER = "path,label"


def table(file: Path, header: str, rows: list[str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def photos(root: Path, *folders: str, each: int = 6) -> None:
    for number, folder in enumerate(folders):
        for index in range(each):
            image(root / folder / f"{index}.png", 100 * number + index)


def bare(label: int = 0, each: int = 6) -> list[str]:
    return [f"{index}.png,{LABELS[(index + label) % 3]}" for index in range(each)]


def placed(out: Path) -> dict[str, tuple[str, str]]:
    """``{path: (label, split)}`` of a manifest."""
    return {sample.path: (sample.label, sample.split) for sample in read_manifest(out).samples}


def said(report: BuildReport) -> str:
    return "\n".join(report.lines())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "M.csv"


# Photos


@pytest.mark.parametrize("folder", ["valid", "validation", "testing"])
def test_bare_names_of_two_tables_are_found_each_in_its_own_split(root: Path, out: Path, folder: str) -> None:
    photos(root, "train", folder)
    table(root / "train.csv", HEADER, bare())
    table(root / f"{folder}.csv", HEADER, bare(1))
    build_manifest("auto", root, out, val_fraction=0)
    split = "test" if folder == "testing" else "val"
    expected = {f"train/{n}.png": (LABELS[n % 3], "train") for n in range(6)}
    assert placed(out) == expected | {f"{folder}/{n}.png": (LABELS[(n + 1) % 3], split) for n in range(6)}


def test_bare_names_of_a_split_column_are_found_each_in_its_own_split(root: Path, out: Path) -> None:
    photos(root, "train", "valid")
    table(root / "all.csv", f"{HEADER},split", [f"{row},{s}" for s in ("train", "val") for row in bare()])
    build_manifest("auto", root, out)
    assert {path.split("/")[0]: split for path, (_, split) in placed(out).items()} == {"train": "train", "valid": "val"}


def test_a_table_whose_photos_are_not_there_gets_no_others(root: Path, out: Path) -> None:
    photos(root, "train")
    table(root / "train.csv", HEADER, bare())
    table(root / "test.csv", HEADER, bare(1))
    build_manifest("auto", root, out, val_fraction=0)
    assert {split for _, split in placed(out).values()} == {"train"}
    assert [row[3] for row in problems(out)] == ["missing_file"] * 6


def test_between_two_folders_that_fit_as_well_nothing_is_guessed(root: Path, out: Path) -> None:
    photos(root, "S01", "S02")
    table(root / "S02.csv", HEADER, bare())
    with pytest.raises(ManifestError, match="fit below S01/, and below S02/ as well: write the folder into the table"):
        build_manifest("auto", root, out)


# Cells


def test_a_row_with_more_cells_than_columns_is_not_read_shifted(root: Path, out: Path) -> None:
    photos(root, "")
    table(
        root / "labels.csv",
        "path,comment,label",
        [*(f"{n}.png,,{LABELS[n % 3]}" for n in range(5)), "5.png,a, fear,sad"],
    )
    build_manifest("auto", root, out, val_fraction=0, test_fraction=0)
    assert "5.png" not in placed(out) and problems(out) == [("labels.csv, line 7", "5.png", "fear", "bad_row")]
    assert "a text or number holds the delimiter" in out.with_suffix(".problems.csv").read_text()


def test_decimal_commas_of_a_table_of_action_units_are_not_read_shifted(root: Path, out: Path) -> None:
    photos(root, "")
    table(root / "labels.csv", HEADER, bare())
    units = table(
        root.parent / "units.csv", "path,AU01,AU04,AU12", [*(f"{n}.png,1,0,0" for n in range(5)), "5.png,0,1,1,0,0,0"]
    )
    report = build_manifest("auto", root, out, aus_from=units)
    coded = {sample.path: sample.aus is not None for sample in read_manifest(out).samples}
    assert coded == {f"{n}.png": n < 5 for n in range(6)}
    assert "action units of 1 rows cannot be read, such as more cells than the header has columns" in said(report)


def test_action_units_found_by_the_bare_name_in_another_folder_are_said_to_be(root: Path, out: Path) -> None:
    photos(root, "S01")
    table(root / "labels.csv", HEADER, [f"S01/{row}" for row in bare()])
    units = table(root.parent / "units.csv", "path,aus", [f"S02/{n}.png,1+2" for n in range(6)])
    report = build_manifest("auto", root, out, aus_from=units)
    assert "6 faces are told by units.csv of files in other folders, found by their names alone" in said(report)
    table(units, "path,aus", [f"/disk/S01/{n}.png,1+2" for n in range(6)])
    assert "names alone" not in said(build_manifest("auto", root, out, aus_from=units, overwrite=True))


# Splits


def test_folders_in_the_paths_of_a_table_tell_its_splits(root: Path, out: Path) -> None:
    photos(root, "train", "test")
    table(root / "labels.csv", HEADER, [f"{folder}/{row}" for folder in ("train", "test") for row in bare()])
    report = build_manifest("auto", root, out, val_fraction=0)
    assert all(split == path.split("/")[0] for path, (_, split) in placed(out).items())
    assert "the folders in the paths are read as the split: test, train" in said(report)
    table(root / "labels.csv", HEADER, [f"test/{row}" for row in bare()])
    assert "names no splits" in said(build_manifest("auto", root, out, overwrite=True))  # one folder tells none apart


@pytest.mark.parametrize(("idle", "column"), [("dataset", "fold"), ("set", "split_name")])
def test_a_column_without_split_words_hides_none_that_has_them(root: Path, out: Path, idle: str, column: str) -> None:
    photos(root, "")
    rows = [f"{row},kdef,{('train', 'val', 'test')[n // 2]}" for n, row in enumerate(bare())]
    table(root / "labels.csv", f"{HEADER},{idle},{column}", rows)
    report = build_manifest("auto", root, out)
    assert [split for _, (_, split) in sorted(placed(out).items())] == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert ("the column split_name of labels.csv is read as the split" in said(report)) == (column == "split_name")


def test_a_column_of_test_sessions_is_no_split(root: Path, out: Path) -> None:
    photos(root, "")
    table(root / "labels.csv", f"{HEADER},session", [f"{row},Test {n % 2}" for n, row in enumerate(bare())])
    assert "columns of labels.csv that are not used: session" in said(build_manifest("auto", root, out))


def test_a_person_whose_name_holds_a_split_word_is_no_split(root: Path, out: Path) -> None:
    photos(root, "happy/Val_Kilmer", "happy/Ann", "sad/Val_Kilmer", "sad/Ann")
    build_manifest("auto", root, out)
    assert len(placed(out)) == 24 and not problems(out)


def test_a_dataset_without_a_training_split_is_said_to_have_none(root: Path, out: Path) -> None:
    photos(root, "faces_test/happy", "faces_test/sad")
    text = said(build_manifest("auto", root, out))
    assert "there is no training split: what can be used is test alone" in text and "add some" not in text


# Faces and persons


def test_points_under_other_names_are_no_box(root: Path) -> None:
    names = [f"{axis}_{number}" for axis in "xy" for number in range(68)]
    roles = column_roles(["path", "label", *names, "FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight"])
    assert {role: roles[role] for role in ("point x0", "point y0", "xywh 0")} == {
        "point x0": 2,
        "point y0": 70,
        "xywh 0": 138,
    }
    assert "xyxy 0" not in roles


@pytest.mark.parametrize("size", ["width,height", "image_width,image_height"])
def test_the_size_of_the_image_is_not_that_of_the_box(size: str) -> None:
    for names, first in (("face_x,face_y,face_w,face_h", 0), (f"{size},bbox_x,bbox_y,bbox_width,bbox_height", 2)):
        roles = column_roles([*names.split(","), *size.split(",")])
        assert [roles[f"xywh {n}"] for n in range(4)] == [first + n for n in range(4)]


def test_nearly_equal_boxes_are_one_face() -> None:
    boxes = [Box(30, 30, 150, 160), Box(31, 30, 150, 161), Box(100, 30, 220, 160), None, None]
    rows = [(at, "a", box) for at, box in enumerate(boxes)] + [(5, "b", Box(30, 30, 150, 160))]
    assert group_faces(rows) == [[0, 1], [2], [3, 4], [5]]


def test_a_face_in_two_splits_is_found_whatever_its_rounding(root: Path, out: Path) -> None:
    photos(root, "")
    rows = [f"{n}.png,{LABELS[n % 3]},train,0,0,4,5" for n in range(6)]
    table(
        root / "labels.csv",
        f"{HEADER},split,x0,y0,x1,y1",
        [*rows, "0.png,fear,test,0,0,4.1,5", "1.png,sad,test,0,0,4,5.1"],
    )
    build_manifest("auto", root, out, val_fraction=0)
    assert placed(out)["0.png"] == ("fear", "test") and "1.png" not in placed(out)
    text = out.read_text().replace("2.png,", "3.png,", 1)
    out.write_text(text.replace("0,0,4,5", "0,0,4,5.01", 1))
    assert any(finding.kind == "conflicting_label" for finding in check_manifest(out).findings)


def test_faces_of_one_photo_are_told_apart_by_their_landmarks(root: Path, out: Path) -> None:
    photos(root, "")
    names = ",".join(f"{axis}{number}" for number in range(68) for axis in "xy")
    shapes = [np.ravel(points(0) / 100 + 10 * face) for face in range(2)]
    rows = [
        f"{n}.png,{LABELS[(n + face) % 3]},{','.join(map(str, shapes[face]))}" for n in range(6) for face in range(2)
    ]
    table(root / "labels.csv", f"{HEADER},{names}", rows)
    build_manifest("auto", root, out)
    samples = read_manifest(out).samples
    assert len(samples) == len({sample.sample_id for sample in samples}) == 12 and not problems(out)
    assert all(sample.box is not None and sample.landmarks_row is not None for sample in samples)


@pytest.mark.parametrize("word", ["nan", "None", "-1", "unknown"])
def test_a_word_for_no_person_is_none(root: Path, out: Path, word: str) -> None:
    photos(root, "")
    table(
        root / "labels.csv",
        f"{HEADER},subject",
        [f"{row},{word if n % 2 else f'P{n}'}" for n, row in enumerate(bare())],
    )
    report = build_manifest("auto", root, out)
    assert {sample.subject for sample in read_manifest(out).samples} == {"", "P0", "P2", "P4"}
    assert "the person of 3 of 6 samples is unknown" in said(report)


def test_persons_of_renamed_files_are_one_whatever_their_case(root: Path, out: Path) -> None:
    for number, name in enumerate(
        f"{session}F0{n}{word}S.png" for session in "AB" for n in range(1, 9) for word in ("AN", "HA")
    ):
        image(root / (name if name[0] == "A" else name.lower()), number)
    build_manifest("kdef", root, out)
    assert {sample.subject for sample in read_manifest(out).samples} == {f"F0{n}" for n in range(1, 9)}


# What was read rightly and is to be


@pytest.mark.parametrize("folder", ["train_images", "valid_faces"])
def test_one_folder_of_all_splits_may_have_the_name_of_one(root: Path, out: Path, folder: str) -> None:
    photos(root, folder)
    rows = [f"{row},{('train', 'val', 'test')[n // 2]}" for n, row in enumerate(bare())]
    table(root / "all.csv", f"{HEADER},split", rows)
    build_manifest("auto", root, out)
    assert [split for _, (_, split) in sorted(placed(out).items())] == ["train"] * 2 + ["val"] * 2 + ["test"] * 2


def test_splits_below_classes_may_have_longer_names(root: Path, out: Path) -> None:
    photos(root, *(f"{label}/{split}_images" for label in ("happy", "sad") for split in ("train", "test")))
    build_manifest("auto", root, out, val_fraction=0)
    assert all(split == path.split("/")[1].split("_")[0] for path, (_, split) in placed(out).items())


def test_files_beside_the_images_are_no_rivals(root: Path, out: Path) -> None:
    photos(root, "images")
    for n in range(6):
        table(root / "landmarks" / f"{n}.txt", "1 2", [])
    table(root / "labels.csv", HEADER, [row.replace(".png", "") for row in bare()])
    build_manifest("csv", root / "labels.csv", out)
    assert len(placed(out)) == 6


def test_a_folder_that_the_table_need_not_name_is_preferred_to_a_copy(root: Path, out: Path) -> None:
    photos(root, "happy", "backup/happy")
    for n in range(6):
        image(root / "backup" / "happy" / f"{n}.png", 900 + n)
    table(root / "labels.csv", HEADER, [f"/home/me/happy/{row}" for row in bare()])
    build_manifest("csv", root / "labels.csv", out)
    assert set(placed(out)) == {f"happy/{n}.png" for n in range(6)}


def test_commas_in_a_text_behind_all_that_is_read_shift_nothing(root: Path, out: Path) -> None:
    photos(root, "")
    table(root / "labels.csv", f"{HEADER},caption", [f"{row},a face, smiling" for row in bare()])
    build_manifest("auto", root, out)
    assert len(placed(out)) == 6 and not problems(out)


@pytest.mark.parametrize("names", [[f"x_{n}" for n in range(128)], [f"{a}_{n}" for n in range(468) for a in "xyz"]])
def test_numbers_that_are_not_68_points_are_not_read(names: list[str]) -> None:
    assert column_roles(["path", "label", *names]) == {"path": 0, "label": 1}


def test_a_column_of_plain_split_words_counts_without_train(root: Path, out: Path) -> None:
    photos(root, "")
    table(root / "labels.csv", f"{HEADER},type", [f"{row},{('val', 'test')[n % 2]}" for n, row in enumerate(bare())])
    build_manifest("auto", root, out)
    assert {split for _, split in placed(out).values()} == {"val", "test"}


def test_a_row_that_stands_twice_is_one_face(root: Path, out: Path) -> None:
    photos(root, "a", "b")
    (root / "b" / "0.png").write_bytes((root / "a" / "0.png").read_bytes())
    names = ",".join(f"{axis}{number}" for number in range(68) for axis in "xy")
    shape = ",".join(map(str, np.ravel(points(0) / 100)))
    rows = [f"{folder}/{row},{shape}" for folder in "ab" for row in bare()]
    table(root / "labels.csv", f"{HEADER},{names}", [*rows, rows[0]])
    build_manifest("auto", root, out)
    assert len(placed(out)) == 11 and not any(sample.box for sample in read_manifest(out).samples)


def test_jaffe_s_person_na_is_a_person(root: Path, out: Path) -> None:
    photos(root, "")
    rows = [f"{row},{('NA', 'KA')[n % 2]}" for n, row in enumerate(bare())]
    table(root / "labels.csv", f"{HEADER},subject", rows)
    build_manifest("auto", root, out)
    assert {sample.subject for sample in read_manifest(out).samples} == {"NA", "KA"}


def test_a_group_that_is_no_person_is_not_taken_for_one(root: Path, out: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    photos(root, "")
    held = [{"bytes": (root / f"{n}.png").read_bytes(), "path": None} for n in range(6)]
    columns = {
        "image": held,
        "label": [LABELS[n % 3] for n in range(6)],
        "sample_id": [str(n) for n in range(6)],
        "group": ["patient", "control"] * 3,
        "subject": [f"P{n}" for n in range(6)],
    }
    pq.write_table(pa.table(columns), root.parent / "faces.parquet")
    build_manifest("auto", root.parent / "faces.parquet", out)
    assert {sample.subject for sample in read_manifest(out).samples} == {f"P{n}" for n in range(6)}
