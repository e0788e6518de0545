from __future__ import annotations

from pathlib import Path

import pytest

from aupipe.fer_data.action_units.facs import format_facs, parse_facs
from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest.face_codes import read_face_codes
from aupipe.fer_data.manifest.model import write_manifest
from aupipe.fer_data.types import Sample

IDS = ("fear/S1_2_0001", "fear/S1_2_0002", "joy/S3_1_0001")
PERSONS = ("S1", "S1", "joy/S3_1_0001")


def manifest(folder: Path, codes: dict[str, str]) -> Path:
    samples = [Sample(name, f"{name}.png", "fear", "fear", "test", aus=parse_facs(aus)) for name, aus in codes.items()]
    write_manifest(folder / "M.csv", samples, root=folder, layout="csv")
    return folder / "M.csv"


def test_a_manifest_tells_the_codes_of_its_faces(tmp_path: Path) -> None:
    found = read_face_codes(manifest(tmp_path, {IDS[0]: "1+L14A", IDS[1]: "", IDS[2]: "0", "x": "9"}), IDS, PERSONS)
    assert {name: format_facs(codes) for name, codes in found.codes.items()} == {IDS[0]: "1+L14A", IDS[2]: "0"}
    assert (found.source.name, found.source.samples, found.source.scale) == ("M.csv", 2, "FACS")


def test_a_table_is_joined_as_the_manifest_would_join_it(tmp_path: Path) -> None:
    table = tmp_path / "facs.csv"
    table.write_text("sequence,aus\nS1_2,4+7\nS3_1,1.7\nS9_9,2\n")
    found = read_face_codes(table, IDS, PERSONS)
    assert {name: format_facs(codes) for name, codes in found.codes.items()} == {IDS[0]: "4+7", IDS[1]: "4+7"}
    assert any("'1.7' is no code" in note for note in found.notes) and found.source.samples == 2
    onset = read_face_codes(table, IDS, PERSONS, ("neutral", "fear", "happiness"))
    assert set(onset.codes) == {IDS[1]}  # the codes are of the sequence's peak
    table.write_text("subject,aus\nS1,12\n")
    assert set(read_face_codes(table, IDS, PERSONS).codes) == set(IDS[:2])


def test_a_table_of_files_finds_the_faces_without_their_suffix(tmp_path: Path) -> None:
    table = tmp_path / "openface.csv"
    table.write_text("input,AU01_c\nC:\\faces\\S1_2_0002.png,1\nfear/S1_2_0001.png,0\njoy/S3_1_0001,1\n")
    found = read_face_codes(table, IDS, PERSONS)
    assert {name: format_facs(codes) for name, codes in found.codes.items()} == {IDS[0]: "0", IDS[1]: "1", IDS[2]: "1"}
    assert found.source.scale == "OpenFace"


def test_a_row_of_another_split_s_face_is_not_taken_for_one_of_these(tmp_path: Path) -> None:
    table = tmp_path / "facs.csv"
    table.write_text("path,aus\ntrain/a/1.png,4\ntest/a/2.png,12\n")
    ids = ["test/a/1", "test/a/2"]
    assert set(read_face_codes(table, ids, ids).codes) == {*ids}  # nothing says that train/a/1 is another face
    assert set(read_face_codes(table, ids, ids, others=["train/a/1"]).codes) == {"test/a/2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sequence,aus\nS7_7,4\n", "names no face of this dataset"),
        ("sequence,aus\nS1_2,4\nS1_2,5\n", "two things of the same face"),
        ("sequence,aus\nS1_2,3\n", "1 rows that cannot be read: '3': FACS has no action unit 3"),
        ("sequence,aus\nS1_2,\n", "None of these faces has coded action units"),
        ("sequence,emotion\nS1_2,3\n", "lacks a column"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "facs.csv").write_text(text)
    with pytest.raises(ManifestError, match=said):
        read_face_codes(tmp_path / "facs.csv", IDS, PERSONS)
    with pytest.raises(ManifestError):
        read_face_codes(tmp_path / "none.csv", IDS, PERSONS)


def test_manifests_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"of another dataset.*fear/S1_2_0001.*Got: x"):
        read_face_codes(manifest(tmp_path, {"x": "9"}), IDS, PERSONS)
    with pytest.raises(ManifestError, match="None of these faces"):
        read_face_codes(manifest(tmp_path, {IDS[0]: "", "x": "9"}), IDS, PERSONS)
    path = manifest(tmp_path, {IDS[0]: "4"})
    path.write_text(path.read_text().replace("4\n", "3\n"))
    with pytest.raises(ManifestError, match=r"line 2.*no action unit 3|no action unit 3.*line 2"):
        read_face_codes(path, IDS, PERSONS)
    text = manifest(tmp_path, {IDS[0]: "4"}).read_text()
    path.write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(ManifestError, match="is on line 2 already"):
        read_face_codes(path, IDS, PERSONS)
