from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aupipe.fer_data import landmark_parts
from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.landmark_parts import LandmarkPart, LandmarkRow, read_part, write_part
from aupipe.fer_data.types import Reason


def some_rows() -> list[LandmarkRow]:
    rng = np.random.default_rng(4)
    found = [
        LandmarkRow(
            sample_id=f"täglich/{number}",
            path=f"täglich/{number}.png",
            reason=Reason.OK,
            source_sha256=f"{number:064x}",
            source_size=(300 + number, 200),
            landmarks=rng.normal(100, 30, (68, 2)).astype(np.float32),
            mesh=rng.normal(100, 30, (478, 3)).astype(np.float32),
            blendshapes=rng.random(52).astype(np.float32),
            pose=rng.normal(0, 20, 3).astype(np.float32),
            score=0.5 + number / 8,
            rung=number,
            faces_seen=number + 1,
        )
        for number in range(3)
    ]
    found[1] = replace(found[1], mesh=None, blendshapes=None)  # a detector without a mesh
    failed = LandmarkRow("b/9", "b/9.png", Reason.NO_FACE, "f" * 64, (10, 20), rung=3)
    return [*found[:2], failed, found[2], LandmarkRow("gone", "gone.png", Reason.MISSING_FILE, detail="no such «file»")]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    write_part(tmp_path / "part-00000.h5", some_rows(), "plan", '{"ladder":1}')
    return tmp_path / "part-00000.h5"


def same(a: LandmarkPart, b: LandmarkPart) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in LandmarkPart.__dataclass_fields__)


def test_round_trip(part: Path) -> None:
    rows, read = some_rows(), read_part(part, mesh=True)
    assert (read.plan_digest, read.config_json) == ("plan", '{"ladder":1}')
    assert read.sample_ids == tuple(row.sample_id for row in rows)
    assert read.paths == tuple(row.path for row in rows)
    assert read.reasons == tuple(row.reason for row in rows)
    assert read.details == ("", "", "", "", "no such «file»")
    assert read.source_sha256 == tuple(row.source_sha256 for row in rows)
    np.testing.assert_array_equal(read.landmarks, [row.landmarks for row in rows])
    np.testing.assert_array_equal(read.pose, [row.pose for row in rows])
    for name in ("rung", "score", "source_size", "faces_seen"):
        np.testing.assert_array_equal(getattr(read, name), [getattr(row, name) for row in rows])
    assert read.has_mesh.tolist() == [1, 0, 0, 1, 0]
    for index, row in enumerate(rows):
        for name in ("mesh", "blendshapes"):
            expected, got = getattr(row, name), getattr(read, name)[index]
            assert not got.any() if expected is None else np.array_equal(got, expected)


def test_a_part_of_version_2_0_has_no_details(part: Path) -> None:
    with h5py.File(part, "r+") as file:
        columns = {name: values[:] for name, values in file.items() if name != "detail"}
        file.attrs["schema_version"] = "2.0"
        file.attrs["crc32"] = landmark_parts._crc32(columns, file.attrs["plan_digest"] + file.attrs["config"])
        del file["detail"]
    assert read_part(part).details == ("",) * 5
    assert read_part(part).paths == tuple(row.path for row in some_rows())


def test_meshes_are_kept_only_when_asked_for(part: Path) -> None:
    read = read_part(part)
    assert (read.mesh.shape, read.blendshapes.shape) == ((0, 478, 3), (5, 52))
    assert len(read.landmarks) == 5


def test_a_part_describes_itself(part: Path) -> None:
    with h5py.File(part) as file:
        assert all(dataset.attrs["long_name"] and dataset.attrs["units"] for dataset in file.values())
        flags = dict(
            zip(file["reason"].attrs["flag_values"], file["reason"].attrs["flag_meanings"].split(), strict=True)
        )
    assert flags == {reason.value: reason.key for reason in Reason}


def test_arrays_are_zero_where_there_is_no_face(part: Path) -> None:
    read = read_part(part)
    failed = np.array([reason is not Reason.OK for reason in read.reasons])
    assert failed.sum() == 2
    with h5py.File(part) as file:
        meshed = file["has_mesh"][:] == 1
        for name, there in (("landmarks", ~failed), ("pose", ~failed), ("mesh", meshed), ("blendshapes", meshed)):
            values = file[name][:]
            assert not values[~there].any() and np.isfinite(values).all()
            assert values[there].any(axis=tuple(range(1, values.ndim))).all()


def test_the_same_rows_give_the_same_bytes(part: Path, tmp_path: Path) -> None:
    write_part(tmp_path / "elsewhere" / "p.h5", some_rows(), "plan", '{"ladder":1}')
    assert (tmp_path / "elsewhere" / "p.h5").read_bytes() == part.read_bytes()


COLUMN_NAMES = ("landmarks", "has_mesh", "mesh", "blendshapes", "pose", "score", "reason", "rung", "sample_id", "path")


@given(st.sampled_from(COLUMN_NAMES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_in_the_data_is_found(part: Path, name: str, where: float, flip: int) -> None:
    whole = part.read_bytes()
    with h5py.File(part) as file:
        position = file[name].id.get_offset() + int(where * file[name].nbytes)
    damaged = bytearray(whole)
    damaged[position] ^= flip
    copy = part.with_name("damaged.h5")
    copy.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"damaged.*damaged\.h5.*checksum.*Run `aupipe landmarks` again"):
        read_part(copy)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 0.999])
def test_a_truncated_part_is_found(part: Path, share: float) -> None:
    part.write_bytes(part.read_bytes()[: int(share * part.stat().st_size)])
    with pytest.raises(StoreError, match="A landmark part is damaged"):
        read_part(part)


def test_other_files_are_refused(part: Path, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(StoreError, match="damaged"):
        read_part(tmp_path / "text.h5")
    with pytest.raises(StoreError, match="damaged"):
        read_part(tmp_path / "none.h5")
    with h5py.File(part, "r+") as file:
        file.attrs["schema_version"] = "3.0"
    with pytest.raises(StoreError, match=r"schema 3\.0 where 2\.1 is read"):
        read_part(part)


def test_rewriting_is_equal_to_the_first_time(part: Path) -> None:
    before = read_part(part)
    write_part(part, some_rows(), "plan", '{"ladder":1}')
    assert same(read_part(part), before)
    write_part(part, some_rows()[::-1], "plan", '{"ladder":1}')
    assert not same(read_part(part), before)
