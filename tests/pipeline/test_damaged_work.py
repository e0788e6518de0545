"""A WORK folder from elsewhere, or damaged: one error that says what, and no file of this machine is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aupipe.fer_data.errors import FerError, StoreError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.landmark_parts import read_part
from aupipe.pipeline.landmarks.work import open_work
from landmark_works import make_work


def read_all(work: Path) -> list[str]:
    return [row.sample.sample_id for row in open_work(work).rows()]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return make_work(tmp_path, count=6, part_size=3)


def report(work: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = work / "landmarks.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("parts"), lambda c: c.update(parts=None), lambda c: c.update(parts=[3]),
        lambda c: c.update(parts=["../x.h5"], part_digests={"../x.h5": next(iter(c["part_digests"].values()))}),
        lambda c: c.update(parts=c["parts"] * 2), lambda c: c.update(parts=["part-00009.h5"]),
        lambda c: c.update(part_digests=[]), lambda c: c["part_digests"].update({c["parts"][0]: {"sha256": 1}}),
        lambda c: c["part_digests"].update({c["parts"][0]: "x"}), lambda c: c.update(config=None),
        lambda c: c.update(config=[1]), lambda c: c.update(manifest_digest=5), lambda c: c.update(failed=["x"]),
        lambda c: c.update(total="6"), lambda c: c.update(total=7), lambda c: c.update(ok=1),
    ],
)  # fmt: skip
def test_a_damaged_report_is_one_error(work: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    assert len(read_all(work)) == 6
    report(work, change)
    with pytest.raises(StoreError, match=r"landmarks\.json does not say the digest of every part"):
        read_all(work)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"\xff", b"[" * 10**5, b'{"total": ' + b"9" * 5000 + b"}"])
def test_a_report_that_is_no_json_is_the_same_error(work: Path, text: bytes) -> None:
    (work / "landmarks.json").write_bytes(text)
    with pytest.raises(StoreError, match=r"landmarks\.json does not say"):
        read_all(work)


def test_a_report_of_fewer_samples_than_the_manifest_is_refused(work: Path) -> None:
    report(work, lambda content: content.update(total=5, ok=5))
    with pytest.raises(StoreError, match="not those that its manifest"):
        read_all(work)


def renamed(file: h5py.File) -> None:
    file["sample_id"][0] = b"s/999"


def doubled(file: h5py.File) -> None:
    file["sample_id"][0] = file["sample_id"][1]


def external(file: h5py.File) -> None:
    old = file["landmarks"][:]
    del file["landmarks"]
    file.create_dataset("landmarks", old.shape, old.dtype, external=[("/etc/passwd", 0, old.nbytes)])


def not_finite(file: h5py.File) -> None:
    file["landmarks"][0] = np.nan


def unknown_reason(file: h5py.File) -> None:
    file["reason"][0] = 99


def shorter(file: h5py.File) -> None:
    old = file["pose"][:]
    del file["pose"]
    file["pose"] = old[:1]


def a_link(file: h5py.File) -> None:
    file["more"] = h5py.SoftLink("/pose")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (renamed, "not those that its manifest"), (doubled, "not those that its manifest"),
        (external, "landmarks is not one piece of the file"), (not_finite, "not finite"),
        (unknown_reason, "99 is not a valid Reason"), (shorter, "the dataset pose is"), (a_link, "more is a link"),
    ],
)  # fmt: skip
def test_a_part_of_the_stated_digest_that_no_run_wrote_is_refused(
    work: Path, change: Callable[[h5py.File], None], what: str
) -> None:
    path = work / "landmarks" / "part-00000.h5"
    with h5py.File(path, "r+") as file:
        change(file)
    report(work, lambda content: content["part_digests"]["part-00000.h5"].update(sha256=sha256_file(path)))
    with pytest.raises(FerError, match=what):
        read_all(work)
    if change not in (renamed, doubled, not_finite, unknown_reason):
        with pytest.raises(StoreError, match=what):
            read_part(path)
