"""Screening, counts, the files on disk, reading them back, checking them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data.errors import ManifestError, UserInputError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.manifest import (
    EXPRESSIONS,
    BuildReport,
    CheckReport,
    ProblemReason,
    build_manifest,
    canonical_label,
    check_manifest,
    read_manifest,
    write_manifest,
)
from aupipe.fer_data.manifest.labels import ALIASES
from aupipe.fer_data.manifest.places import check_inside, paths_outside
from aupipe.fer_data.manifest.report import compare_counts
from aupipe.fer_data.types import Box, Sample


def image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (6, 6), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def build(root: Path, rows: str, **options: float) -> tuple[BuildReport, list[tuple[str, str, str]]]:
    """Build from ``faces.csv`` with these rows; the report, and ``(line, reason, detail)`` of each problem."""
    (root / "faces.csv").write_text(rows)
    out = root.parent / "out" / "M.csv"
    report = build_manifest("csv", root, out, **options)
    with out.with_name("M.problems.csv").open(newline="") as file:
        listed = [(r["where"].removeprefix("faces.csv, line "), r["reason"], r["detail"]) for r in csv.DictReader(file)]
    assert report.rows_read == report.samples + report.problem_rows == rows.count("\n") - 1
    assert sum(report.problems.values()) == len(listed) == report.problem_rows + report.problem_files
    assert report.samples == sum(sum(row.values()) for row in report.counts.values())
    return report, listed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images 0..5, of which ``same0.png`` repeats 0 and ``same1.png`` repeats 1."""
    folder = tmp_path / "set"
    for number in range(6):
        image(folder / f"{number}.png", number)
    for number in range(2):
        shutil.copy(folder / f"{number}.png", folder / f"same{number}.png")
    return folder


ALL = "path,label\n" + "".join(f"{n}.png,happy\n" for n in range(6)) + "same0.png,happy\nsame1.png,happy\n"


def test_missing_empty_and_odd_files(root: Path) -> None:
    (root / "empty.png").write_bytes(b"")
    (root / "dir.png").mkdir()
    _, listed = build(root, ALL + "gone.png,sad\nempty.png,sad\ndir.png,sad\n0.png/x.png,sad\n")
    assert [(reason, detail) for line, reason, detail in listed if int(line) > 9] == [
        ("missing_file", "no such file"),
        ("missing_file", "the file is empty"),
        ("missing_file", "is not a file"),
        ("missing_file", "no such file"),
    ]


def test_unlisted_files_are_no_rows(root: Path) -> None:
    image(root / "other" / "x.png", 9)
    report, listed = build(root, "path,label\n0.png,happy\n7.png,happy\n1.png,\n")
    assert {line for line, reason, _ in listed if reason == "unlisted_file"} == {
        *(f"{n}.png" for n in (2, 3, 4, 5)),
        "same0.png",
        "same1.png",
    }
    assert (report.samples, report.problem_rows, report.problem_files) == (1, 2, 6)


def test_unknown_label_is_named_with_a_suggestion(root: Path) -> None:
    _, listed = build(
        root, ALL.replace("5.png,happy", "5.png,hapiness").replace("4.png,happy", "4.png,qqq") + "gone.png,sda\n"
    )
    assert [item for item in listed if item[1] == "unknown_label"] == [
        ("6", "unknown_label", "Give it a meaning with --alias qqq=LABEL."),
        ("7", "unknown_label", "Did you mean 'happiness'?"),
        ("10", "unknown_label", "Did you mean 'sad'? Moreover: no such file."),
    ]


def test_duplicate_row_keeps_the_first(root: Path) -> None:
    report, listed = build(root, ALL + "2.png,happiness\n./2.png,joy\n")
    assert [item for item in listed if item[1] == "duplicate_row"] == [
        ("10", "duplicate_row", "kept: faces.csv, line 4"),
        ("11", "duplicate_row", "kept: faces.csv, line 4"),
    ]
    assert report.samples == 6


def test_conflicting_labels_take_all_rows_out(root: Path) -> None:
    rows = ALL.replace("same0.png,happy", "same0.png,sad") + "2.png,anger\n2.png,happy\n"
    report, listed = build(root, rows)
    assert [line for line, reason, _ in listed if reason == "conflicting_label"] == ["2", "4", "8", "10", "11"]
    assert listed[0][2] == "happiness here; the same image is sadness at faces.csv, line 8"
    assert report.problems == {"conflicting_label": 5, "duplicate_image": 1}


def test_a_long_conflict_is_shortened(root: Path) -> None:
    _, listed = build(root, ALL + "2.png,anger\n" * 5)
    assert listed[0][2].endswith("and 2 more")


def test_duplicate_image_under_another_name(root: Path) -> None:
    _, listed = build(root, ALL)
    assert listed == [
        ("8", "duplicate_image", "same bytes; kept: faces.csv, line 2, 0.png"),
        ("9", "duplicate_image", "same bytes; kept: faces.csv, line 3, 1.png"),
    ]


def test_of_duplicates_across_splits_the_test_row_stays(root: Path) -> None:
    rows = "path,label,split\n0.png,sad,train\nsame0.png,sad,test\n1.png,sad,train\nsame1.png,sad,val\n"
    rows += "2.png,sad,train\n2.png,sad,test\n"
    report, listed = build(root, rows + "".join(f"{n}.png,sad,train\n" for n in (3, 4, 5)))
    assert listed == [
        ("2", "duplicate_image", "same bytes; kept: faces.csv, line 3, same0.png in test"),
        ("4", "duplicate_image", "same bytes; kept: faces.csv, line 5, same1.png in val"),
        ("6", "duplicate_row", "kept: faces.csv, line 7"),
    ]
    assert {split: sum(row.values()) for split, row in report.counts.items()} == {"train": 3, "val": 1, "test": 2}


def test_sample_ids_keep_the_suffix_only_where_they_would_collide(root: Path) -> None:
    image(root / "0.jpg", 20)
    image(root / "1.png.jpg", 21)
    build(root, ALL + "0.jpg,sad\n1.png.jpg,sad\n")
    samples = read_manifest(root.parent / "out" / "M.csv").samples
    assert [s.sample_id for s in samples] == ["0.jpg", "0.png", "1", "1.png.jpg", "2", "3", "4", "5"]


def test_two_builds_write_the_same_bytes_and_a_move_of_both_keeps_them_valid(root: Path, tmp_path: Path) -> None:
    report, _ = build(root, ALL)
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(files) == ["M.csv", "M.meta.json", "M.problems.csv"]
    again, _ = build(root, ALL)
    assert again == report and files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert not any(str(tmp_path).encode() in content for content in files.values())
    (tmp_path / "elsewhere").mkdir()
    for name in ("set", "out"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    moved = read_manifest(tmp_path / "elsewhere" / "out" / "M.csv")
    assert all((moved.root / sample.path).is_file() for sample in moved.samples)
    assert moved.digest == report.digest == sha256_file(tmp_path / "elsewhere" / "out" / "M.csv")


def test_meta_records_what_was_asked_and_found(root: Path) -> None:
    build(root, ALL, seed=3, val_fraction=0, test_fraction=0.5)
    meta = json.loads((root.parent / "out" / "M.meta.json").read_text())
    assert (meta["root"], meta["layout"], meta["classes"]) == ("../set", "csv", ["happiness"])
    assert meta["counts"] == {"train": {"happiness": 3}, "test": {"happiness": 3}}
    assert meta["problems"] == {"duplicate_image": 2}
    assert (meta["options"]["seed"], meta["options"]["test_fraction"]) == (3, 0.5)


def test_report_as_json_and_lines(root: Path) -> None:
    report, _ = build(root, ALL)
    data = json.loads(json.dumps(report.as_json()))
    assert data["ok"] + sum(data["failed"].values()) == data["total"] == 8
    assert data["failed"] == {"duplicate_image": 2} and data["files_left_out"] == {}
    assert report.lines()[0] == "A CSV file of paths and labels: 8 rows = 6 samples + 2 left out"
    assert any("names no splits" in line for line in report.lines())


def test_published_counts() -> None:
    published = {"train": {"fear": 2, "anger": 1}}
    (good,) = compare_counts(published, {("train", "fear"): 2, ("train", "anger"): 1})
    assert good.ok and good.line() == "OK train: 3 images, as published"
    off, extra = compare_counts(published, {("train", "fear"): 1, ("train", "anger"): 1, ("val", "sadness"): 4})
    assert off.line() == "WARN train: 2 of 3 published images (fear 1 of 2)"
    assert extra.line() == "WARN val: 4 of 0 published images (sadness 4 of 0)"
    assert compare_counts({}, {("train", "fear"): 1}) == ()
    (whole,) = compare_counts({"all": {"fear": 3}}, {("", "fear"): 1, ("test", "fear"): 2})
    assert whole.line() == "OK all: 3 images, as published"


def test_every_reason_is_counted_as_row_or_file() -> None:
    files = {reason.value for reason in ProblemReason if reason.concerns_a_file}
    assert files == {"unlisted_file", "not_an_image_name", "unreadable_folder"} and len(ProblemReason) == 14


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.0}, "validation fraction"),
        ({"test_fraction": -0.1}, "test fraction"),
        ({"test_fraction": float("nan")}, "test fraction"),
        ({"aliases": {"x": "hapy"}}, "Unknown expression 'hapy'"),
        ({"aliases": {" ": "happy"}}, "alias has no name"),
    ],
)
def test_options_that_cannot_be_used(root: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        build_manifest("csv", root, tmp_path / "M.csv", **options)  # type: ignore[arg-type]


def test_output_must_be_a_csv_name(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"ending in \.csv"):
        build_manifest("csv", root, tmp_path / "M")


@pytest.mark.parametrize("target", ["faces.csv", "other.csv"])
@pytest.mark.parametrize("as_file", [True, False])
def test_a_table_is_never_overwritten(root: Path, target: str, as_file: bool) -> None:
    for name in ("faces.csv", "other.csv"):
        (root / name).write_text("sample_id,path,label\na,0.png,happy\n")
    with pytest.raises(UserInputError, match="exists and is not a manifest"):
        build_manifest("csv", root / "faces.csv" if as_file else root, root / target)


def test_a_manifest_edited_by_hand_is_kept(root: Path) -> None:
    build(root, ALL)
    out = root.parent / "out" / "M.csv"
    build(root, ALL)
    as_built = out.read_bytes()
    edited = as_built.replace(b"train", b"test")
    for text, meta in ((edited, True), (as_built, False)):
        out.write_bytes(text)
        if not meta:
            out.with_suffix(".meta.json").unlink()
        with pytest.raises(UserInputError, match=r"M\.csv was edited since .*--overwrite"):
            build(root, ALL)
        assert out.read_bytes() == text
        build_manifest("csv", root, out, overwrite=True)
        assert out.read_bytes() == as_built


def test_an_id_that_a_spreadsheet_would_run_is_written_safely_and_read_back(root: Path) -> None:
    (root / "0.png").rename(root / "=1+1.png")
    build(root, "path,label\n=1+1.png,happy\n1.png,happy\n")
    out = root.parent / "out" / "M.csv"
    assert ",'=1+1.png," in out.read_text() and "\n'=1+1," in out.read_text()
    assert {(one.sample_id, one.path) for one in read_manifest(out).samples} >= {("=1+1", "=1+1.png")}
    assert check_manifest(out).ok


def test_links_out_of_the_root_are_named(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    (root / "0.png").rename(root.parent / "elsewhere" / "0.png")
    (root / "0.png").symlink_to(root.parent / "elsewhere" / "0.png")
    (root / "2.png").rename(root / "two")
    (root / "2.png").symlink_to("two")
    (root / "sub").symlink_to(root.parent / "elsewhere")
    build(root, ALL.replace("same0.png", "sub/0.png"))
    manifest = read_manifest(root.parent / "out" / "M.csv")
    kept = [sample.path for sample in manifest.samples]
    assert "2.png" in kept
    assert [path for path, _ in paths_outside(root, ["2.png", "0.png", "1.png", "sub/0.png"])] == ["0.png", "sub/0.png"]
    with pytest.raises(ManifestError, match=r"Links lead 1 of .*0\.png, which is .*elsewhere/0\.png.*--follow-links"):
        check_inside(manifest, follow_links=False)
    check_inside(manifest, follow_links=True)
    assert [kind for kind, *_ in kinds(check_manifest(root.parent / "out" / "M.csv"))] == ["outside_root"]


def test_vocabulary() -> None:
    assert all(canonical_label(name.upper()) == name for name in EXPRESSIONS)
    assert set(ALIASES.values()) <= set(EXPRESSIONS) and not set(ALIASES) & set(EXPRESSIONS)
    assert canonical_label("hapiness") is None and canonical_label("") is None


# Reading and writing


def sample(name: str, label: str = "fear", split: str = "train", **more: object) -> Sample:
    return Sample(name, f"{name}.png", label, label.upper(), split, **more)  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    samples = [
        sample("b", subject='O"Neil, é', box=Box(0, 0.1, 1e6 + 0.123456789, 7)),
        sample("a", "anger", "test"),
    ]
    written = write_manifest(tmp_path / "M.csv", samples, root=tmp_path / "images", layout="csv", options={"seed": 1})
    assert read_manifest(tmp_path / "M.csv") == written
    assert written.samples == (samples[1], samples[0]) and written.classes == ("anger", "fear")
    assert written.root == tmp_path / "images"
    assert written.counts() == {"train": {"fear": 1}, "test": {"anger": 1}}


def test_columns_appear_only_when_used(tmp_path: Path) -> None:
    write_manifest(tmp_path / "M.csv", [sample("a")], root=tmp_path, layout="csv")
    assert (tmp_path / "M.csv").read_bytes() == b"sample_id,path,label,source_label,split\na,a.png,fear,FEAR,train\n"


def test_without_meta_the_root_is_the_csvs_folder(tmp_path: Path) -> None:
    (tmp_path / "M.csv").write_text("sample_id,path,label,source_label,split\na,x/a.png,fear,f,val\n")
    manifest = read_manifest(tmp_path / "M.csv")
    assert (manifest.root, manifest.layout, manifest.recorded_digest) == (tmp_path, "csv", "")


HEADER = "sample_id,path,label,source_label,split,subject,x0,y0,x1,y1\n"
GOOD = "a,a.png,fear,FEAR,train,,,,,\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD, "'a' is on line 2 already"),
        ("b,b.png,fear\n", "A row has 3 cells"),
        (" ,b.png,fear,f,train,,,,,\n", "no sample_id"),
        ("b,/b.png,fear,f,train,,,,,\n", "not a relative path"),
        ("b,x/../../b.png,fear,f,train,,,,,\n", "not a relative path"),
        ("b,,fear,f,train,,,,,\n", "not a relative path"),
        ("b,b.png,Happy,f,train,,,,,\n", "'Happy' is not in the vocabulary. Write 'happiness'"),
        ("b,b.png,joyless,f,train,,,,,\n", "'joyless' is not in the vocabulary"),
        ("b,b.png,fear,f,training,,,,,\n", "'training' is none of train, val, test"),
        ("b,b.png,fear,f,train,,5,0,1,1\n", "Not a box: 5 0 1 1"),
        ("b,b.png,fear,f,train,,5,,,\n", "Not a box"),
        ("b,b.png,fear,f,train,,0,0,inf,1\n", "Not a box"),
        ("b\0,b.png,fear,f,train,,,,,\n", "sample_id holds control characters"),
        ("b\x1b[31m,b.png,fear,f,train,,,,,\n", r"sample_id holds control characters.*b\\x1b\[31m"),
        ("b,b\x9b1m.png,fear,f,train,,,,,\n", "path holds control characters"),
        ("b,b.png,fear,f,train,p\a,,,,\n", "subject holds control characters"),
    ],
)
def test_faulty_lines_are_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "M.csv"
    path.write_text(HEADER + GOOD + row)
    with pytest.raises(ManifestError, match=rf"{message}.*Where: .*M\.csv, line 3"):
        read_manifest(path)
    path.write_text(HEADER + GOOD + row + "c\n")
    with pytest.raises(ManifestError, match="1 more such lines: aupipe manifest check"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lacks the column 'sample_id'.*an empty file"),
        ("sample_id,path,label,split\n", "lacks the column 'source_label'"),
        (HEADER, "no samples"),
    ],
)
def test_files_that_are_no_manifest(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "M.csv").write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path / "M.csv")
    assert not check_manifest(tmp_path / "M.csv").ok


def test_absent_manifest_and_broken_meta(tmp_path: Path) -> None:
    for path in (tmp_path / "M.csv", tmp_path):
        with pytest.raises(ManifestError, match="Make it with `aupipe manifest build"):
            read_manifest(path)
    (tmp_path / "M.csv").write_text(HEADER + GOOD)
    for text in (
        "{",
        "[]",
        "{}",
        '{"root": 3}',
        '{"root": "a\\u0000"}',
        "[" * 10**5,
        '{"root": "", "options": 1}',
        "\xff",
    ):
        (tmp_path / "M.meta.json").write_text(text)
        with pytest.raises(ManifestError, match="meta data cannot be read"):
            read_manifest(tmp_path / "M.csv")


# Checking


def kinds(report: CheckReport) -> list[tuple[str, int, str]]:
    return [(finding.kind, finding.line, finding.level.value) for finding in report.findings]


def test_a_fresh_manifest_has_no_findings(root: Path) -> None:
    build(root, ALL)
    report = check_manifest(root.parent / "out" / "M.csv")
    assert report.ok and report.findings == () and report.lines() == ["6 samples, 0 errors, 0 warnings"]


def test_check_finds_what_an_edit_broke(root: Path) -> None:
    build(root, ALL)
    path = root.parent / "out" / "M.csv"
    rows = [
        "0,0.png,fear,f,train,p",
        "1,1.png,fear,f,test,p",
        "s0,same0.png,anger,a,train,",
        "s1,same1.png,fear,f,val,",
    ]
    rows += ["2,2.png,fear,f,train,", "2b,2.png,fear,f,train,", "g,gone.png,fear,f,train,", "2,2.png,fear,f,train,"]
    path.write_text("sample_id,path,label,source_label,split,subject\n" + "\n".join(rows) + "\n")
    report = check_manifest(path)
    assert kinds(report) == [
        ("edited", 0, "note"),
        ("subject_in_two_splits", 2, "warning"),
        ("conflicting_label", 4, "warning"),
        ("image_in_two_splits", 5, "warning"),
        ("duplicate_image", 7, "warning"),
        ("missing_file", 8, "error"),
        ("bad_row", 9, "error"),
    ]
    assert not report.ok and report.samples == 7
    assert "error: M.csv, line 8: gone.png: no such file." in report.lines()
    assert report.lines()[0].startswith("note: M.csv: The CSV was edited")
    assert json.loads(json.dumps(report.as_json()))["findings"][0]["kind"] == "edited"


def test_check_notes_an_absent_meta(root: Path) -> None:
    (root / "M.csv").write_text("sample_id,path,label,source_label,split\na,0.png,fear,f,val\n")
    report = check_manifest(root / "M.csv")
    assert report.ok and kinds(report) == [("no_meta", 0, "note")]
