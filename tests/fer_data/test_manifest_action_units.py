"""Action units in manifests: CK+'s own, a table's column, other programs' tables, and tables that do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from aupipe.commands.cli import cli
from aupipe.fer_data.action_units.facs import format_facs
from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest import build_manifest, check_manifest, read_manifest
from manifest_trees import ckplus, image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two sequences of person S005, one of S010, in class folders."""
    root = tmp_path / "faces"
    for number, name in enumerate(("S005_001_01", "S005_001_02", "S005_002_01", "S010_001_01")):
        image(root / ("anger" if number < 2 else "fear") / f"{name}.png", number)
    return root


def built(root: Path, text: str) -> dict[str, str]:
    """Build with a table of action units, and return the codes by file name."""
    table = root.parent / "codes.csv"
    table.write_text(text)
    build_manifest("folder", root, root.parent / "M.csv", aus_from=table, subject_pattern=r"^(S\d+)")
    samples = read_manifest(root.parent / "M.csv").samples
    return {Path(sample.path).stem: format_facs(sample.aus) for sample in samples}


def listed(root: Path) -> list[str]:
    return [line for line in (root.parent / "M.problems.csv").read_text().splitlines() if "not_coded" in line]


def test_by_sequence_person_and_file(photos: Path) -> None:
    both = {"S005_001_01": "4+7", "S005_001_02": "4+7"}
    rest = {"S005_002_01": "", "S010_001_01": ""}
    assert built(photos, "sequence,aus\nS005_001,7+4\n") == both | rest
    assert built(photos, "subject,aus\nS005,7+4\nS010,0\n") == both | {"S005_002_01": "4+7", "S010_001_01": "0"}
    names = "C:\\\\lab\\\\S005_001_01.PNG", "anger/S005_001_02.png"
    assert built(photos, f"path,aus\n{names[0]},4+7\n{names[1]},L12A\n") == both | {"S005_001_02": "L12A"} | rest


def test_openface_libreface_and_pyfeat(photos: Path) -> None:
    rest = dict.fromkeys(("S005_001_02", "S005_002_01", "S010_001_01"), "")
    openface = "filename, success, AU01_r, AU12_r, AU01_c, AU12_c, AU28_c\n"
    rows = "S005_001_01.png, 1, 0.3, 2.6, 0.0, 1.0, 1.0\nS010_001_01.png, 0, 0, 0, 0, 0, 0\n"
    assert built(photos, openface + rows) == {"S005_001_01": "12C+28"} | rest
    meta = json.loads((photos.parent / "M.meta.json").read_text())["codes"]
    assert (meta["scale"], meta["observed"], meta["samples"]) == ("OpenFace", [1, 12, 28], 1)
    libreface = "image_path,au_1_intensity,au_12_intensity\nS005_001_01.png,0.2,4.8\n"
    assert built(photos, libreface) == {"S005_001_01": "12E"} | rest
    assert built(photos, "input,AU01,AU12\nS005_001_01.png,.49,.5\n") == {"S005_001_01": "12"} | rest


def test_a_bad_code_is_listed_and_its_face_stays(photos: Path) -> None:
    coded = built(photos, "sequence,aus\nS005_001,1.7+4\nS005_002,12\n")
    assert coded == {"S005_001_01": "", "S005_001_02": "", "S005_002_01": "12", "S010_001_01": ""}
    (line,) = listed(photos)
    assert "codes.csv, line 2" in line and "'1.7' is no code" in line
    for value in ("5.5", "-1", "nan", "", "much"):
        built(photos, f"sequence,AU12_r\nS005_001,{value}\nS010_001,1\n")
        assert len(listed(photos)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sequence,aus\nS099_001,12\n", "names no face of this dataset"),
        ("sequence,aus\nS005_001,12\nS005_001,14\n", "lines 2 and 3"),
        ("sequence,codes\nS005_001,12\n", "lacks a column"),
        ("number,aus\n1,12\n", "lacks a column"),
        ("", "lacks a column"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(photos: Path, text: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        built(photos, text)


def test_a_name_of_two_images_is_refused(photos: Path) -> None:
    image(photos / "fear" / "S005_001_01.png", 9)
    with pytest.raises(ManifestError, match="names two images"):
        built(photos, "file,aus\nS005_001_01.png,12\n")
    assert built(photos, "file,aus\nfear/S005_001_01.png,12\n")["S005_002_01"] == ""


def test_ckplus_brings_its_own(tmp_path: Path) -> None:
    root = ckplus(tmp_path / "ck")
    label = next((root / "Emotion").rglob("*_emotion.txt"))
    person, sequence = label.parts[-3:-1]
    codes = root / "FACS" / person / sequence / label.name.replace("_emotion", "_facs")
    codes.parent.mkdir(parents=True)
    codes.write_text("   1.2000000e+01   3.0000000e+00\n\n   2.5000000e+01   0.0000000e+00\n")
    build_manifest("ckplus", root, tmp_path / "M.csv", variant="apex3+neutral")
    samples = [one for one in read_manifest(tmp_path / "M.csv").samples if f"{person}/{sequence}/" in one.path]
    assert {(one.label == "neutral", format_facs(one.aus)) for one in samples} == {(True, ""), (False, "12C+25")}
    codes.write_text("happy\n")
    report = build_manifest("ckplus", root, tmp_path / "M.csv")
    assert any("cannot be read" in note and codes.name in note for note in report.notes)


def test_a_tables_own_column_survives_other_programs(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        image(tmp_path / "faces" / f"{name}.png", number)
    table = tmp_path / "faces" / "labels.csv"
    table.write_text("file,label,aus\na.png,fear,12\nb.png,anger,\nc.png,fear,99999\n")
    report = build_manifest("csv", tmp_path / "faces", tmp_path / "M.csv")
    assert "1 of 3 samples have the action units that the dataset names" in report.notes
    manifest = tmp_path / "M.csv"
    manifest.write_text(manifest.read_text().replace(",12\n", ",12.0\n"))  # as pandas writes a column of numbers
    assert [format_facs(sample.aus) for sample in read_manifest(manifest).samples] == ["12", "", ""]
    manifest.write_text(manifest.read_text().replace(",12.0\n", ",\n"))
    assert "fewer_codes" in [finding.kind for finding in check_manifest(manifest).findings]
    manifest.write_text(manifest.read_text().replace("train,\n", "train,1E+2\n", 1))
    manifest.write_text(manifest.read_text().replace("1E+2", "100"))  # what a spreadsheet makes of it
    with pytest.raises(ManifestError, match="FACS has no action unit 100"):
        read_manifest(manifest)


def test_on_the_command_line(photos: Path) -> None:
    codes = photos.parent / "codes.csv"
    codes.write_text("sequence,aus\nS005_001,1.7\nS010_001,12\n")
    words = ["manifest", "build", "folder", str(photos), "-o", str(photos.parent / "M.csv"), "--aus-from", str(codes)]
    result = CliRunner().invoke(cli, words)
    assert (
        result.exit_code == 0
        and "1 of 4 samples have the action units that codes.csv (FACS, by sequence)" in result.output
    )
    codes.write_text("sequence,aus\nS099,1\n")
    with pytest.raises(ManifestError, match="names no face"):
        CliRunner().invoke(cli, words, catch_exceptions=False)


@pytest.mark.skipif("AUPIPE_SHARED" not in os.environ, reason="CK+'s codes are not on this machine")
def test_the_codes_of_ckplus48(tmp_path: Path) -> None:
    root = Path(os.environ["AUPIPE_SHARED"]) / "faces" / "ckplus48"
    build_manifest("ckplus", root, tmp_path / "M.csv", aus_from=root / "facs.csv")
    manifest = read_manifest(tmp_path / "M.csv")
    assert manifest.codes is not None and manifest.codes.samples == 654
    assert {sample.sample_id.split("/")[1][:8] for sample in manifest.samples if sample.aus is None} == {"S128_004"}


def test_a_sequences_codes_are_of_its_peak_not_of_its_onset(photos: Path) -> None:
    for number, name in enumerate(("S005_001_00", "S011_001_00")):
        image(photos / "neutral" / f"{name}.png", 10 + number)
    coded = built(photos, "sequence,aus\nS005_001,4+7\nS011_001,0\n")
    assert coded["S005_001_01"] == "4+7" and coded["S005_001_00"] == ""
    assert coded["S011_001_00"] == "0"  # of a person who shows nothing else
