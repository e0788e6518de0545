"""Stores as each released format version wrote them, read by today's program."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.files import digest
from aupipe.fer_data.shards import open_store, verify_store
from aupipe.fer_data.shards.spec import JPEG_SCHEMA_VERSION, SCHEMA_VERSION
from golden_stores import CLASSES, FOLDER, LAYOUT, SIZE, golden_row, write_golden

VERSIONS = sorted(path.name.removeprefix("store-") for path in FOLDER.iterdir())


def test_every_version_that_is_written_has_a_golden_store() -> None:
    assert {"1.0", SCHEMA_VERSION, JPEG_SCHEMA_VERSION} <= set(VERSIONS)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 750_000


@pytest.mark.parametrize("version", VERSIONS)
def test_today_s_reader_reads_it(version: str) -> None:
    store = open_store(FOLDER / f"store-{version}")
    assert store.index.schema_version == version and store.index.classes == CLASSES
    for split in ("train", "val"):
        reader = store.split(split)
        rows = [golden_row(number) for _, where, numbers in LAYOUT if where == split for number in numbers]
        assert reader.sample_ids == [row.sample_id for row in rows]
        groups = [row.group or row.sample_id for row in rows]
        assert reader.groups == (reader.sample_ids if version in ("1.0", "1.1", "2.0") else groups)
        posed = version in ("1.3", "1.4", "2.2", "2.3")
        assert (reader.pose is not None) == posed
        np.testing.assert_array_equal(reader.profile, [posed and abs(row.pose[0]) > 45 for row in rows])
        if version in ("1.4", "2.3"):
            np.testing.assert_array_equal(reader.au_weight, [row.au_weight for row in rows])
            np.testing.assert_array_equal(reader.au_source, [row.au_source for row in rows])
        else:
            assert reader.au_weight is None and reader.au_source is None
        np.testing.assert_array_equal(reader.labels, [row.label for row in rows])
        np.testing.assert_array_equal(reader.has_map, [row.has_map for row in rows])
        np.testing.assert_array_equal(reader.landmarks, [row.landmarks for row in rows])
        np.testing.assert_array_equal(reader.to_source, [row.to_source for row in rows])
        images, maps = np.zeros((len(rows), SIZE, SIZE, 3), np.uint8), np.zeros((len(rows), 8, 8), np.uint8)
        reader.gather(np.arange(len(rows)), images, maps)
        np.testing.assert_array_equal(maps, [row.au_map for row in rows])
        lossy = 0 if reader.encoding == "raw" else 6
        np.testing.assert_allclose(images.astype(int), [row.image for row in rows], atol=lossy)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_intact(version: str) -> None:
    assert verify_store(FOLDER / f"store-{version}", rows=True) == []


@pytest.mark.parametrize(("version", "options"), [(SCHEMA_VERSION, {}), (JPEG_SCHEMA_VERSION, {"encoding": "jpeg"})])
def test_today_s_writer_writes_the_same_bytes(version: str, options: dict[str, str], tmp_path: Path) -> None:
    if h5py.version.hdf5_version_tuple != (2, 0, 0):
        pytest.skip(f"HDF5 {h5py.version.hdf5_version} may lay a file out otherwise than 2.0.0, which wrote these")
    write_golden(tmp_path, crop_digest="crops", **options)
    for path in (FOLDER / f"store-{version}").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_unknown_major_version_is_refused_with_a_remedy(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER / f"store-{SCHEMA_VERSION}", tmp_path / "store"))
    index = folder / "index.json"
    content = json.loads(index.read_text())
    shard = folder / "train-00000.h5"
    with h5py.File(shard, "r+") as file:
        file.attrs["schema_version"] = "3.0"
    content["shards"][0]["bytes"] = shard.stat().st_size
    content.pop("digest")
    index.write_text(json.dumps({**content, "digest": digest(content)}))
    with pytest.raises(StoreError, match=r"train-00000\.h5\. Expected: schema 1\.x or 2\.x\. Got: schema 3\.0\. Build"):
        _ = open_store(folder).split("train").labels
    content["schema_version"] = "3.0"
    index.write_text(json.dumps({**content, "digest": digest(content)}))
    with pytest.raises(StoreError, match=r"index\.json\. Expected: schema 1\.x or 2\.x\. Got: schema 3\.0\. Build"):
        open_store(folder)
