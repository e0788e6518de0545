"""What is particular to each public dataset: labels, splits, people, boxes, and what is left out and why."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest import build_manifest, read_manifest
from aupipe.fer_data.manifest import descriptors as registry
from aupipe.fer_data.manifest.descriptors import parse_descriptor
from aupipe.fer_data.manifest.layouts.arrays import label_text, load_array
from aupipe.fer_data.manifest.layouts.cells import as_points, parse_points, read_numbers, to_box
from aupipe.fer_data.manifest.layouts.votes import majority
from aupipe.fer_data.types import Box
from manifest_trees import (
    AFFECTNET_HEADER,
    VOTES_HEADER,
    affectnet_csv,
    affectnet_npy,
    ckplus,
    expw,
    fer2013_csv,
    ferplus,
    image,
    jaffe,
    kdef,
    labels_of,
    problems,
    rafdb,
    rafdb_compound,
)

# RAF-DB


def test_rafdb_as_numbered_class_folders(root: Path, out: Path) -> None:
    image(root / "DATASET" / "train" / "1" / "train_00001_aligned.jpg", 1)
    image(root / "DATASET" / "test" / "7" / "test_0001_aligned.jpg", 2)
    report = build_manifest("rafdb", root, out)
    assert sorted(labels_of(out).values()) == [("neutral", "test"), ("surprise", "train")]
    assert report.published[0].line().startswith("WARN train: 1 of 12271")


def test_both_sets_of_rafdb_in_one_folder_need_a_name(root: Path, out: Path) -> None:
    rafdb(root / "basic")
    rafdb_compound(root / "compound")
    with pytest.raises(ManifestError, match=r"Several dataset layouts fit .*rafdb .*rafdb-compound"):
        build_manifest("auto", root, out)
    assert build_manifest("rafdb-compound", root, out).samples == 4
    assert build_manifest("rafdb", root, out).samples == 4


# AffectNet


@pytest.mark.parametrize("make", [affectnet_npy, affectnet_csv])
def test_affectnets_validation_set_is_the_test_split(root: Path, out: Path, make: object) -> None:
    report = build_manifest("auto", make(root), out)  # type: ignore[operator]
    counts = {split: sum(row.values()) for split, row in report.counts.items()}
    assert counts == ({"train": 2, "val": 1, "test": 3} if make is affectnet_npy else {"train": 3, "test": 2})
    assert report.notes[0].startswith("AffectNet has no public test set")
    assert [count.split for count in report.published] == ["train", "test"]


def test_affectnet_arrays(root: Path, out: Path) -> None:
    affectnet_npy(root)
    (root / "train_set" / "annotations" / "0_exp.npy").unlink()
    (root / "train_set" / "images" / "1.jpg").unlink()
    (root / "val_set" / "annotations" / "5_exp.npy").write_bytes(b"\x93NUMPY")
    build_manifest("affectnet", root, out)
    assert labels_of(out) == {
        "train_set/images/2": ("happiness", "train"),
        "val_set/images/6": ("neutral", "test"),
        "val_set/images/7": ("anger", "test"),
    }
    assert problems(out) == [
        ("train_set/annotations/1_exp.npy", "train_set/images/1.jpg", "1", "missing_file"),
        ("train_set/annotations/3_exp.npy", "train_set/images/3.jpg", "9", "dropped_label"),
        ("train_set/annotations/4_exp.npy", "train_set/images/4.jpg", "", "bad_row"),
        ("train_set/images/0.jpg", "train_set/images/0.jpg", "", "unlisted_file"),
        ("val_set/annotations/5_exp.npy", "val_set/images/5.jpg", "", "bad_row"),
    ]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array("3"), "3"),
        (np.array([" 3 "]), "3"),
        (np.array(b"3"), "3"),
        (np.array(3, np.uint8), "3"),
        (np.array([[3.0]], np.float32), "3"),
        (np.array("happy"), "happy"),
        (np.asfortranarray([[3]]), "3"),
    ],
)
def test_label_arrays(tmp_path: Path, array: np.ndarray, text: str) -> None:
    np.save(tmp_path / "a.npy", array)
    assert label_text(load_array(tmp_path / "a.npy")) == text


@pytest.mark.parametrize(
    "array", [np.array([1, 2]), np.array(1.5), np.array(np.nan), np.array(""), np.array(True), np.array("a\tb")]
)
def test_arrays_that_are_no_label(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected one text or whole number"):
        label_text(array)


def test_small_arrays_are_read_like_numpy_does(tmp_path: Path) -> None:
    grid = np.arange(12.0).reshape(3, 4)
    for array in (grid, np.asfortranarray(grid), grid.astype(">f4"), np.array("é"), np.empty((0, 2))):
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(load_array(tmp_path / "a.npy"), array)
    with (tmp_path / "v2.npy").open("wb") as file:
        np.lib.format.write_array(file, grid, version=(2, 0))
    assert np.array_equal(load_array(tmp_path / "v2.npy"), grid)


def test_arrays_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="never unpickled"):
        load_array(tmp_path / "a.npy")
    with (tmp_path / "v2.npy").open("wb") as file:
        np.lib.format.write_array(file, np.array([{}], object), version=(2, 0), allow_pickle=True)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps("3"))
    for name in ("v2.npy", "plain.npy"):
        with pytest.raises(ValueError, match="allow_pickle"):
            load_array(tmp_path / name)
    whole = (tmp_path / "a.npy").read_bytes()
    np.save(tmp_path / "b.npy", np.arange(9.0))
    for content in (whole[:40], b"", (tmp_path / "b.npy").read_bytes()[:-1]):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises((ValueError, EOFError)):
            load_array(tmp_path / "a.npy")


def test_affectnet_csv_boxes_and_a_header_in_either_file(root: Path, out: Path) -> None:
    affectnet_csv(root)
    build_manifest("affectnet", root, out)
    before = read_manifest(out)
    box = next(item.box for item in before.samples if item.path.endswith("/3a.jpg"))
    assert box == Box(3, 2, 33, 42)
    (root / "validation.csv").write_text(AFFECTNET_HEADER + "\n" + (root / "validation.csv").read_text())
    text = (root / "training.csv").read_text()
    (root / "training.csv").write_text(text.partition("\n")[2])
    build_manifest("affectnet", root, out)
    assert read_manifest(out).samples == before.samples


def test_affectnet_csv_lists_elsewhere(root: Path, out: Path) -> None:
    affectnet_csv(root)
    (root / "Manually_Annotated_file_lists").mkdir()
    for name in ("training.csv", "validation.csv"):
        (root / name).rename(root / "Manually_Annotated_file_lists" / name)
    assert build_manifest("auto", root, out).samples == 5


# FERPlus


def test_ferplus(root: Path, out: Path) -> None:
    report = build_manifest("auto", ferplus(root), out)
    assert labels_of(out) == {
        "train/row_00000": ("neutral", "train"),
        "train/row_00001": ("contempt", "train"),
        "test/row_00003": ("fear", "test"),
    }
    assert [(where[-6:], reason) for where, _, _, reason in problems(out)] == [
        ("line 4", "no_majority"),
        ("line 6", "dropped_label"),
        ("line 7", "bad_row"),
    ]
    assert report.published == ()
    build_manifest("fer2013", root, out.with_name("N.csv"))
    assert labels_of(out.with_name("N.csv"))["train/row_00000"] == ("anger", "train")


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ({"fear": 10}, "fear"),
        ({"fear": 5, "anger": 5}, None),
        ({"fear": 4, "anger": 4, "nf": 2}, None),
        ({"fear": 3, "anger": 2, "sadness": 1, "happiness": 1}, "fear"),
        ({"fear": 1, "anger": 1}, None),
        ({"unknown": 6, "fear": 4}, "unknown"),
        ({}, None),
    ],
)
def test_the_majority_of_the_votes(votes: dict[str, int], winner: str | None) -> None:
    assert majority(votes) == winner


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ("Training,f.png,0,0,0,0,0,0,0,0,6,4", "dropped_label", "unknown expression"),
        ("Training,f.png,0,0,0,0,0,0,0,0,4,6", "dropped_label", "no face"),
        ("Training,,9,0,0,0,0,0,0,0,0,0", "dropped_label", "no image name"),
        ("Training,f.png,x,0,0,0,0,0,0,0,0,0", "bad_row", "not ten whole numbers"),
        ("Training,f.png,9", "bad_row", "not ten whole numbers"),
        ("PublicTest,f.png,9,0,0,0,0,0,0,0,0,0", "bad_row", "'PublicTest' here and 'Training' at its image"),
        ("Elsewhere,f.png,9,0,0,0,0,0,0,0,0,0", "bad_row", "unknown Usage 'Elsewhere'"),
    ],
)
def test_ferplus_rows_that_stay_out(root: Path, out: Path, line: str, reason: str, detail: str) -> None:
    ferplus(root)
    table = (root / "fer2013new.csv").read_text().splitlines()
    (root / "fer2013new.csv").write_text("\n".join([table[0], line, *table[2:]]) + "\n")
    build_manifest("ferplus", root, out)
    listed = out.with_name("M.problems.csv").read_text().splitlines()[1]
    assert listed.startswith('"fer2013new.csv, line 2"') and reason in listed and detail in listed


def test_ferplus_tables_that_do_not_belong_together(root: Path, out: Path) -> None:
    ferplus(root)
    text = (root / "fer2013new.csv").read_text()
    for other in (text.rstrip().rpartition("\n")[0] + "\n", text + text.splitlines()[1] + "\n"):
        (root / "fer2013new.csv").write_text(other)
        with pytest.raises(ManifestError, match="do not have the same number of rows"):
            build_manifest("ferplus", root, out)
    (root / "fer2013new.csv").write_text(text.replace("contempt", "scorn"))
    with pytest.raises(ManifestError, match=r"lacks the column 'contempt'.*line 1"):
        build_manifest("ferplus", root, out)
    assert VOTES_HEADER.count(",") == 11 and not out.exists()


# CK+


def test_ckplus_takes_the_peak(root: Path, out: Path) -> None:
    report = build_manifest("ckplus", ckplus(root), out)
    manifest = read_manifest(out)
    assert {item.sample_id[-17:]: item.label for item in manifest.samples} == {
        "S005_001_00000005": "disgust",
        "S005_002_00000005": "surprise",
        "S010_001_00000005": "anger",
        "S011_001_00000005": "contempt",
        "S014_001_00000005": "happiness",
        "S014_003_00000005": "fear",
    }
    assert problems(out) == [
        (
            "Emotion/S011/002/S011_002_00000005_emotion.txt",
            "cohn-kanade-images/S011/002/S011_002_00000005",
            "",
            "bad_row",
        ),
        ("cohn-kanade-images/S010/002", "cohn-kanade-images/S010/002/S010_002_00000005.png", "", "no_label"),
    ]
    assert report.published[0].line().startswith("WARN all: 6 of 327 published images (anger 1 of 45, ")


def test_ckplus_with_more_frames(root: Path, out: Path) -> None:
    ckplus(root)
    early = root / "Emotion/S005/001/S005_001_00000005_emotion.txt"
    early.rename(early.with_name("S005_001_00000002_emotion.txt"))
    gone = root / "Emotion/S010/001/S010_001_00000005_emotion.txt"
    gone.rename(gone.with_name("S010_001_00000009_emotion.txt"))
    report = build_manifest("ckplus", root, out, variant="apex3+neutral")
    samples = read_manifest(out).samples
    found = {
        sequence: "".join(sorted(f"{item.sample_id[-1]}{item.label[0]}" for item in samples if sequence in item.path))
        for sequence in ("S005/001", "S005/002", "S010/001")
    }
    # The first frame is neutral only where it is not among the last three up to the peak.
    assert found == {"S005/001": "1d2d", "S005/002": "1n3s4s5s", "S010/001": ""}
    assert report.problems["missing_file"] == 1


# ExpW


def test_expw_boxes(root: Path, out: Path) -> None:
    build_manifest("expw", expw(root), out)
    boxes = {item.sample_id: (item.label, item.box) for item in read_manifest(out).samples}
    assert boxes == {
        "image/origin/a_1@20,10,60,70": ("happiness", Box(20, 10, 60, 70)),
        "image/origin/a_1@120,10,160,70": ("neutral", Box(120, 10, 160, 70)),
        "image/origin/b_2": ("anger", Box(0, 0, 40, 40)),
    }
    assert [(where[-6:], reason) for where, _, _, reason in problems(out)] == [
        ("line 3", "bad_row"),
        ("line 5", "unknown_label"),
        ("line 6", "missing_file"),
    ]


# JAFFE and KDEF


def test_jaffe(root: Path, out: Path) -> None:
    report = build_manifest("jaffe", jaffe(root), out)
    samples = read_manifest(out).samples
    assert {item.subject for item in samples} == {"KA", "KL", "KM", "KR", "MK"}
    assert Counter(item.label for item in samples) == dict.fromkeys(report.published[0].published, 5)
    assert next(item for item in samples if item.sample_id == "KA.FE3.3").label == "fear"


def test_kdef_knows_a_person_from_both_sessions(root: Path, out: Path) -> None:
    build_manifest("kdef", kdef(root), out)
    samples = read_manifest(out).samples
    assert {item.subject for item in samples} == {"F01", "F02", "M01", "M02"}
    assert all(item.path.endswith("S.JPG") for item in samples)
    assert {item.label for item in samples if item.path.endswith("AFS.JPG")} == {"fear"}
    listed = [(path, label, reason) for _, path, label, reason in problems(out) if "AF01/AF01A" in path]
    assert listed == [
        ("AF01/AF01AFHL.JPG", "AF", "not_chosen"),
        ("AF01/AF01ANHL.JPG", "AN", "not_chosen"),
    ]


TENTH = r"""
name = "tenth"
title = "A dataset nobody thought of"
source = "s"
licence = "l"
[splits]
t = "test"
l = "train"
[labels]
weary = "sadness"
[[forms]]
reader = "names"
looks_for = "images named like t/090_01_weary.jpg"
pattern = '^(?P<split>\w)/(?P<subject>\d+)_\d+_(?P<label>[a-z]+)\.'
[forms.counts.train]
happiness = 1
"""


def test_a_tenth_dataset_takes_no_python(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load_descriptors", lambda: {"tenth": parse_descriptor(TENTH, "tenth.toml")})
    for number, name in enumerate(["l/001_01_happy", "t/002_01_weary", "x/003_01_happy", "t/002_02_bored"]):
        image(root / f"{name}.jpg", number)
    report = build_manifest("tenth", root, out, val_fraction=0)
    assert [(item.label, item.split, item.subject) for item in read_manifest(out).samples] == [
        ("happiness", "train", "001"),
        ("sadness", "test", "002"),
    ]
    assert report.problems == {"bad_row": 1, "unknown_label": 1} and report.published[0].ok


# Tables


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("x0,y0,x1,y1", "1,2,4,6"),
        ("x1,y1,x2,y2", "1,2,4,6"),
        ("xmin,ymin,xmax,ymax", "1,2,4,6"),
        ("x_min,y_min,x_max,y_max", "1,2,4,6"),
        ("top,left,right,bottom", "2,1,4,6"),
        ("face_x,face_y,face_width,face_height", "1,2,3,4"),
        ("Left,Top,Width,Height", "1,2,3,4"),
        ("x,y,w,h", "1,2,3,4"),
        ("bbox,x,y,w,h", "1 2 4 6,9,9,9,9"),
    ],
)
def test_box_columns_by_any_name(root: Path, out: Path, header: str, cells: str) -> None:
    image(root / "a.png", 1)
    (root / "faces.csv").write_text(f"path,label,{header}\na.png,happy,{cells}\n")
    build_manifest("csv", root, out)
    assert read_manifest(out).samples[0].box == Box(1, 2, 4, 6)


def test_boxes_that_are_none_are_bad_rows(root: Path, out: Path) -> None:
    image(root / "a.png", 1)
    rows = ["a.png,happy,1,2,3,4", "a.png,sad,1,2,0,4", "a.png,sad,1,2,,4", "a.png,sad,nan,2,3,4", "a.png,sad,,,,"]
    (root / "faces.csv").write_text("\n".join(["path,label,x,y,w,h", *rows]) + "\n")
    report = build_manifest("csv", root, out)
    assert report.problems == {"bad_row": 3} and report.samples == 2


def test_numbers_that_are_no_box_or_points() -> None:
    assert to_box(read_numbers(["1", "2", "3"]), "xywh") is None
    assert np.isnan(parse_points(["1"] * 135)).all() and np.isnan(parse_points(["x"] * 136)).all()
    assert np.isnan(as_points(np.array(["1"] * 136))).all()
    assert parse_points([str(n) for n in range(136)])[1].tolist() == [2, 3]


def test_known_layouts_come_before_general_ones(root: Path, out: Path) -> None:
    affectnet_csv(root)
    (root / "validation.csv").unlink()
    assert build_manifest("auto", root, out).layout == "affectnet"
    # As a plain table its paths lead nowhere: only the known layout knows the folder of the images.
    with pytest.raises(ManifestError, match="4 rows"):
        build_manifest("csv", root, out)


def test_fer2013_beside_votes_is_ferplus(root: Path, out: Path) -> None:
    fer2013_csv(root / "fer2013.csv")
    assert build_manifest("auto", root, out).layout == "fer2013"
    ferplus(root)
    assert build_manifest("auto", root, out).layout == "ferplus"
