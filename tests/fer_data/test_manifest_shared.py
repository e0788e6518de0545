"""The development data: real files with real flaws."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from aupipe.fer_data.manifest import build_manifest, check_manifest, read_manifest

pytestmark = pytest.mark.shared


def test_legend_mini(tmp_path: Path, shared: Path) -> None:
    report = build_manifest("auto", shared / "faces" / "legend_mini", tmp_path / "M.csv")
    assert report.layout == "legend"
    assert report.rows_read == 299 == report.samples + report.problem_rows
    assert report.problems == {
        "conflicting_label": 2,
        "duplicate_image": 1,
        "duplicate_row": 7,
        "missing_file": 1,
        "unknown_label": 1,
        "unlisted_file": 4,
    }
    manifest = read_manifest(tmp_path / "M.csv")
    splits = Counter((s.subject, s.split) for s in manifest.samples)
    assert len({subject for subject, _ in splits}) == len(splits)
    assert set(report.counts) == {"train", "val", "test"}
    assert abs(sum(report.counts["test"].values()) / report.samples - 0.2) < 0.06
    assert check_manifest(tmp_path / "M.csv").findings == ()


@pytest.mark.parametrize("layout", ["auto", "fer2013"])
def test_fer2013_mini(tmp_path: Path, shared: Path, layout: str) -> None:
    report = build_manifest(layout, shared / "faces" / "fer2013_mini", tmp_path / "M.csv")
    assert report.rows_read == 7 * 190 == report.samples + report.problem_rows
    assert report.problems == {"duplicate_image": 13}
    assert set(report.counts["test"].values()) == {40}
    assert report.counts["val"]["anger"] == 15 and report.counts["train"]["anger"] == 135
    assert [count.ok for count in report.published] == ([] if layout == "auto" else [False, False])
    assert check_manifest(tmp_path / "M.csv").findings == ()
