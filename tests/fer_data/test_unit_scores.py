"""What another program says of the action units of faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest.unit_scores import EstimateTable, read_estimates, read_unit_scores
from aupipe.fer_data.types import Sample

IDS = ("fear/S1_2_0001", "fear/S1_2_0002", "joy/S3_1_0001")
PERSONS = ("S1", "S1", "joy/S3_1_0001")


def scores(folder: Path, text: str, *numbers: int) -> list[list[float]]:
    (folder / "t.csv").write_text(text)
    return np.nan_to_num(read_unit_scores(folder / "t.csv", IDS, PERSONS, numbers), nan=-1).tolist()


def estimates(folder: Path, text: str) -> EstimateTable:
    (folder / "t.csv").write_text(text)
    samples = [Sample(one, f"{one}.png", "fear", "fear", "train", subject=one.split("/")[1][:2]) for one in IDS]
    return read_estimates(folder / "t.csv", samples)


def test_scores_are_read_by_sample_file_and_person(tmp_path: Path) -> None:
    ours = f"sample_id,x0,AU01,AU12\n{IDS[2]},3,.25,\nother,3,1,1\n{IDS[0]},3,.5,.75\n"
    assert scores(tmp_path, ours, 1, 4, 12) == [[0.5, -1, 0.75], [-1, -1, -1], [0.25, -1, -1]]
    openface = "input,success,AU01_c,AU01_r\nD:\\x\\S1_2_0001.png,1,1,4.5\nS3_1_0001.png,0,0,1\n"
    assert scores(tmp_path, openface, 1) == [[4.5], [-1], [-1]], "degrees before presence; no face, nothing told"
    assert scores(tmp_path, "subject,AU01\nS1,.5\n", 1) == [[0.5], [0.5], [-1]]


def test_probabilities_are_presences_or_shares_of_the_largest_intensity(tmp_path: Path) -> None:
    table = estimates(
        tmp_path,
        "file,au_1,au_12_intensity,au_4\nS1_2_0001.png,1,4,0\nS1_2_0002.png,0,,0\nS3_1_0001.png,,,\n",
    )
    assert table.source.numbers == (1, 4, 12) and table.source.scale == "LibreFace"
    assert table.probabilities == {IDS[0]: (1, 0, 0.8), IDS[1]: (0, 0, None)}
    assert table.source.common == (0.5, 0, 0.8), "of the faces that are told"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sample_id,jawOpen\n", "lacks a column"),
        ("AU01\n1\n", "lacks a column"),
        ("sample_id,AU01\nother,1\n", "names no face"),
        (f"sample_id,AU01\n{IDS[0]},1\n{IDS[0]},.5\n", "two things of the same face"),
        (
            f"sample_id,AU01\n{IDS[0]},much\n",
            r"line 2 \(fear/S1_2_0001\).*AU 1 is 'much', expected",
        ),
        (f"sample_id,AU01\n{IDS[0]},1.5\n", "expected a number from 0 to 1"),
        (f"sample_id,AU01_r\n{IDS[0]},-1\n", "expected a number from 0 to 5"),
        (f"sample_id,aus\n{IDS[0]},1+2\n", "codes in FACS notation"),
        (f"sample_id,AU100\n{IDS[0]},1\n", "lacks a column"),
        (f"sample_id,AU01,AU1\n{IDS[0]},1,0\n", "two columns of one.*AU01 and AU1"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=f"(?s){said}"):
        scores(tmp_path, text, 1)
    with pytest.raises(ManifestError, match=f"(?s){said}"):
        estimates(tmp_path, text)


def test_a_table_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="tells nothing of these faces"):
        estimates(tmp_path, f"sample_id,AU01\n{IDS[0]},\n")


def test_faces_of_one_photo_are_told_by_their_ids_alone(tmp_path: Path) -> None:
    samples = [Sample(f"img/a@{at},0,9,9", "img/a.png", "fear", "fear", "train") for at in range(2)]
    table = tmp_path / "t.csv"
    table.write_text("sample_id,path,AU12\nimg/a@0,0,9,9,img/a.png,.9\n".replace("img/a@0,0,9,9,", '"img/a@0,0,9,9",'))
    found = read_estimates(table, samples)
    assert found.probabilities == {samples[0].sample_id: (0.9,)} and "1 of 2 samples" in found.notes[0]
    samples.append(Sample("img/b", "img/b.png", "fear", "fear", "train"))
    table.write_text("path,AU12\nimg/a.png,.9\nimg/b.png,.5\n")
    found = read_estimates(table, samples)
    assert found.probabilities == {"img/b": (0.5,)} and "2 faces share their photo" in found.notes[1]


def test_an_empty_success_sees_no_face(tmp_path: Path) -> None:
    table = estimates(tmp_path, "file,success,AU01_c\nS1_2_0001.png,1,1\nS1_2_0002.png,,1\n")
    assert table.probabilities == {IDS[0]: (1,)}
