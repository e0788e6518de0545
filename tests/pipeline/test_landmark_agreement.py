from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.files import canonical_json
from aupipe.fer_data.geometry import inter_ocular
from aupipe.fer_data.images import read_image
from aupipe.fer_data.landmark_parts import LandmarkRow
from aupipe.fer_data.types import Reason
from aupipe.pipeline.landmark_views import Agreement, compare_landmarks, write_agreement
from aupipe.pipeline.landmark_views.agreement import OUTCOMES, REGIONS
from aupipe.pipeline.landmark_views.agreement_files import COLOUR_A, COLOUR_B
from aupipe.pipeline.planning import hash_order
from landmark_works import Edit, failed, make_work, samples_of
from offline import Built


def as_found(_: int, row: LandmarkRow) -> LandmarkRow:
    return row


def moved(row: LandmarkRow, percent: float, region: slice = slice(0, 68)) -> LandmarkRow:
    """The row with points moved along y by a share of its outer-eye distance, which stays as it is."""
    points = row.landmarks.copy()
    points[region, 1] += np.float32(percent / 100 * float(inter_ocular(row.landmarks)))
    return replace(row, landmarks=points)


def compare(folder: Path, edit: Edit, *, of: Edit = as_found, part_size: int = 4, count: int = 10) -> Agreement:
    a = make_work(folder, "a", edit=of, count=count)
    return compare_landmarks(a, make_work(folder, "b", edit=edit, count=count, detector="other", part_size=part_size))


def test_a_run_agrees_with_itself(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    agreement = compare_landmarks(work, work)
    assert dict(agreement.outcomes) == {"both": 8, "only_a": 0, "only_b": 0, "neither": 2, "photo_changed": 0}
    assert dict(agreement.reasons) == {"neither: missing_file": 1, "neither: no_face": 1}
    assert not agreement.nme.any() and not agreement.turned.any() and agreement.different_faces == 0
    assert agreement.sample_ids == tuple(sample.sample_id for sample in hash_order(samples_of(10)))


@pytest.mark.parametrize("region", REGIONS)
def test_a_known_shift_is_the_regions_error(tmp_path: Path, region: str) -> None:
    # The eyes' shift is the same for both outer corners, so the outer-eye distance does not change.
    agreement = compare(tmp_path, lambda _, row: moved(row, 8.0, REGIONS[region]))
    inside = set(range(68)[REGIONS[region]])
    for name, where in REGIONS.items():
        points = range(68)[where]
        expected = 8.0 * len(inside & set(points)) / len(points)
        spread = agreement.regions[name]
        assert spread.count == 10
        assert [spread.mean, spread.median, spread.p95] == pytest.approx([expected] * 3, abs=2e-3)


def test_a_larger_face_is_measured_by_both_eye_distances(tmp_path: Path) -> None:
    def grown(_: int, row: LandmarkRow) -> LandmarkRow:
        return replace(row, landmarks=(row.landmarks[36] + (row.landmarks - row.landmarks[36]) * 3).astype(np.float32))

    agreement = compare(tmp_path, grown, count=1)
    face = next(iter(compare_landmarks(tmp_path / "a", tmp_path / "a").worst)).a.points
    expected = 100 * (2 * np.linalg.norm(face - face[36], axis=1)).mean() / (2 * float(inter_ocular(face)))
    assert agreement.regions["all"].mean == pytest.approx(expected, rel=1e-4)


def test_who_found_what_and_why_not(tmp_path: Path) -> None:
    def first(number: int, row: LandmarkRow) -> LandmarkRow:
        return failed(row, Reason.NO_FACE) if number in (1, 2, 3) else row

    def second(number: int, row: LandmarkRow) -> LandmarkRow:
        if number == 9:
            return replace(row, source_sha256="f" * 64)
        reasons = {2: Reason.NO_FACE, 3: Reason.FACE_TOO_SMALL, 4: Reason.SEVERAL_FACES, 5: Reason.SEVERAL_FACES}
        return failed(row, reasons[number]) if number in reasons else row

    agreement = compare(tmp_path, second, of=first)
    assert dict(agreement.outcomes) == {"both": 4, "only_a": 2, "only_b": 1, "neither": 2, "photo_changed": 1}
    assert list(agreement.reasons.items()) == [
        ("only a, b: several_faces", 2),
        ("neither: no_face", 1),
        ("neither: no_face / face_too_small", 1),
        ("only b, a: no_face", 1),
    ]
    kinds = dict(zip(agreement.sample_ids, (OUTCOMES[kind] for kind in agreement.outcome), strict=True))
    assert [kinds[f"s/00{i}"] for i in (0, 1, 2, 3, 4, 9)] == [
        "both", "only_b", "neither", "neither", "only_a", "photo_changed",
    ]  # fmt: skip
    assert agreement.regions["all"].count == 4


def test_different_faces_are_told_apart_and_the_worst_come_first(tmp_path: Path) -> None:
    agreement = compare(tmp_path, lambda number, row: moved(row, {4: 60.0, 7: 49.0}.get(number, number / 10)), count=40)
    assert agreement.different_faces == 1
    assert (agreement.regions["all"].count, agreement.same_face.count) == (40, 39)
    assert agreement.same_face.mean < agreement.regions["all"].mean
    assert [pair.a.sample.sample_id for pair in agreement.worst[:4]] == ["s/004", "s/007", "s/039", "s/038"]
    assert len(agreement.worst) == 24
    assert agreement.worst[0].nme == pytest.approx(60, abs=0.01)
    few = compare_landmarks(tmp_path / "a", tmp_path / "b", worst=3)
    assert [pair.a.sample.sample_id for pair in few.worst] == ["s/004", "s/007", "s/039"]


def test_errors_by_yaw_and_pose_differences(tmp_path: Path) -> None:
    yaws = {0: 14.9, 1: -15.1, 2: 44.0, 3: -46.0, 4: 75.0}

    def posed(number: int, row: LandmarkRow) -> LandmarkRow:
        return replace(row, pose=np.array([yaws.get(number, 0), 5, 179], np.float32))

    def turned(number: int, row: LandmarkRow) -> LandmarkRow:
        pose = posed(number, row).pose + np.array([0, -3, 2], np.float32)
        pose[2] -= 360
        return replace(moved(row, number), pose=pose)

    agreement = compare(tmp_path, turned, of=posed)
    counts = {name: spread.count for name, spread in agreement.by_yaw.items()}
    assert counts == {"0-15°": 6, "15-30°": 1, "30-45°": 1, "45-60°": 1, "60° and more": 1}
    assert agreement.by_yaw["30-45°"].mean == pytest.approx(2, abs=1e-3)
    means = [agreement.pose[name].mean for name in ("yaw", "pitch", "roll")]
    assert means == pytest.approx([0, 3, 2], abs=1e-3)
    np.testing.assert_allclose(agreement.turned, np.tile([[0, -3, 2]], (10, 1)), atol=1e-3)


def test_the_parts_sizes_leave_no_trace(tmp_path: Path) -> None:
    edit: Edit = lambda number, row: moved(row, number)  # noqa: E731
    a = make_work(tmp_path, "a", edit=as_found, count=30)
    texts = {
        canonical_json(compare_landmarks(a, make_work(tmp_path, "b", edit=edit, count=30, part_size=size)).as_json())
        for size in (4, 7, 30)
    }
    assert len(texts) == 1


def test_different_manifests_are_refused(tmp_path: Path) -> None:
    a, b = make_work(tmp_path, "a"), make_work(tmp_path, "b", count=11)
    with pytest.raises(UserInputError, match="different manifests"):
        compare_landmarks(a, b)
    with pytest.raises(StoreError, match="not a landmarks folder"):
        compare_landmarks(a, tmp_path)


def test_samples_in_another_order_are_refused(tmp_path: Path) -> None:
    a, b = make_work(tmp_path, "a"), make_work(tmp_path, "b")
    first, second = b / "landmarks" / "part-00000.h5", b / "landmarks" / "part-00001.h5"
    swapped = first.read_bytes(), second.read_bytes()
    first.write_bytes(swapped[1])
    second.write_bytes(swapped[0])
    with pytest.raises(StoreError, match=r"not those that its manifest and landmarks\.json speak of"):
        compare_landmarks(a, b)


def test_runs_are_told_apart_by_name(tmp_path: Path) -> None:
    a, b = make_work(tmp_path, "a"), make_work(tmp_path, "b", detector="other")
    assert compare_landmarks(a, b).names == ("toy", "other")
    assert compare_landmarks(a, make_work(tmp_path, "c")).names == ("toy (a)", "toy (c)")
    again = make_work(tmp_path, "x/a")
    (again / "manifest.meta.json").write_text((a / "manifest.meta.json").read_text().replace("../faces", "../../faces"))
    assert compare_landmarks(a, again).names == (f"toy ({tmp_path.name}/a)", "toy (x/a)")


def test_the_text_is_aligned_and_the_json_plain(tmp_path: Path) -> None:
    agreement = compare(tmp_path, lambda number, row: moved(row, number))
    lines = agreement.lines()
    assert lines[0] == "a: toy  b: other" and "10 samples: both 10" in lines[1]
    figures = [
        line for line in lines if line.startswith("  ") and line.split()[0] in (*REGIONS, "yaw", "pitch", "roll")
    ]
    assert len({len(line) for line in figures}) == 1 and len(figures) >= 10
    content = json.loads(canonical_json(agreement.as_json()))
    assert content["nme_percent"]["all"]["mean"] == pytest.approx(4.5, abs=1e-3)
    assert content["worst"][0] == {"nme_percent": pytest.approx(9, abs=0.01), "sample_id": "s/009"}


def test_nothing_in_common_is_no_error(tmp_path: Path) -> None:
    agreement = compare(tmp_path, lambda _, row: failed(row, Reason.NO_FACE))
    assert agreement.outcomes["only_a"] == 10
    assert canonical_json(agreement.as_json()) and len(agreement.lines()) == 3
    paths = write_agreement(agreement, tmp_path / "out")
    assert [path.name for path in paths] == ["agreement.json", "agreement.csv", "agreement.png"]
    assert all(path.stat().st_size for path in paths) and write_agreement(agreement, tmp_path / "out") == paths
    own = tmp_path / "own" / "agreement.csv"
    own.parent.mkdir()
    own.write_text("annotator,kappa\n")
    with pytest.raises(UserInputError, match="holds something else"):
        write_agreement(agreement, own.parent)
    assert own.read_text() == "annotator,kappa\n"


def test_the_files_of_a_comparison(tmp_path: Path) -> None:
    def second(number: int, row: LandmarkRow) -> LandmarkRow:
        return failed(row, Reason.NO_FACE) if number == 3 else moved(row, number)

    agreement = compare(tmp_path, second)
    report, table, sheet = write_agreement(agreement, tmp_path / "out")
    assert json.loads(report.read_text()) == json.loads(canonical_json(agreement.as_json()))
    with table.open(newline="") as file:
        rows = {row["sample_id"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {sample.sample_id for sample in samples_of(10)}
    lost = rows.pop("s/003")
    assert lost["outcome"] == "only_a"
    assert {cell for name, cell in lost.items() if name not in ("sample_id", "outcome")} == {""}
    for key, row in rows.items():
        assert row["outcome"] == "both"
        assert float(row["nme_mouth"]) == pytest.approx(int(key[-1]), abs=2e-3)
    picture = read_image(sheet)
    for colour in (COLOUR_A, COLOUR_B):
        assert (picture == colour).all(-1).sum() > 20, "in the legend at least"
        close = np.abs(picture[200:].astype(int) - colour).max(-1) < 60
        assert close.sum() > 500, "and on the faces"


def test_two_real_runs(built: Built) -> None:
    agreement = compare_landmarks(built.work, built.work)
    assert agreement.outcomes["both"] > 20 and agreement.regions["all"].p95 == 0
    assert set(agreement.reasons) == {"neither: no_face", "neither: unreadable"}
