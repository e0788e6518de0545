"""Tables of a store: every byte comes back, Hugging Face's description fits, and what is finished is kept."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.images import decode_image
from aupipe.fer_data.manifest import build_manifest, read_manifest
from aupipe.fer_data.shards import Store, TripletRow, open_store
from aupipe.fer_data.shards.croissant import CROISSANT_NAME
from aupipe.fer_data.shards.export import RECORD_NAME, export_store
from aupipe.fer_data.shards.export_parquet import ARRAYS, ROWS_PER_GROUP
from golden_stores import FOLDER
from jpeg_store import jpeg_copy
from offline import snapshot
from synthetic import CLASSES, synthetic_store


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four training shards, the last one short."""
    return synthetic_store(tmp_path_factory.mktemp("raw"), train=23, val=7, test=9, size=48, rows_per_shard=7)


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def source(request: pytest.FixtureRequest, raw: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return raw if request.param == "raw" else jpeg_copy(raw, tmp_path_factory.mktemp("jpeg"))


def rows_of(out: Path, files: tuple[str, ...], split: str) -> list[dict[str, Any]]:
    return [row for name in files if name.startswith(split) for row in pq.read_table(out / name).to_pylist()]


def test_what_is_read_back_is_what_the_store_holds(source: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = export_store(source, "parquet", out)
    assert report.rows == {"train": 23, "val": 7, "test": 9}
    assert report.files == (
        *(f"train-{number:05d}-of-00004.parquet" for number in range(4)),
        "val-00000-of-00001.parquet",
        "test-00000-of-00002.parquet",
        "test-00001-of-00002.parquet",
    )
    without = 0
    for split in source.index.splits:
        reader = source.split(split)
        for row, read in enumerate(rows_of(out, report.files, split)):
            np.testing.assert_array_equal(decode_image(read["image"]["bytes"]), reader.image(row))
            if source.index.encoding == "jpeg":
                assert read["image"]["bytes"] == bytes(reader.jpeg_bytes(row))
            assert read["image"]["path"].endswith({"raw": ".png", "jpeg": ".jpg"}[source.index.encoding])
            assert (read["au_map"] is not None) == bool(reader.has_map[row])
            if read["au_map"] is None:
                without += 1
            else:
                au_map = cv2.imdecode(np.frombuffer(read["au_map"]["bytes"], np.uint8), cv2.IMREAD_UNCHANGED)
                np.testing.assert_array_equal(au_map, np.rint(reader.au_map(row) * 255))
            assert (read["label"], read["split"]) == (reader.labels[row], split)
            assert (read["sample_id"], read["group"]) == (reader.sample_ids[row], reader.groups[row])
            for name, (dtype, shape) in ARRAYS.items():
                values = np.array(read[name], dtype)
                assert values.shape == shape
                assert values.tobytes() == np.asarray(getattr(reader, name)[row], dtype).tobytes()
        assert row == len(reader) - 1
    assert without


def test_columns_are_described_as_hugging_face_does(raw: Store, tmp_path: Path) -> None:
    report = export_store(raw, "parquet", tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / report.files[0])
    said = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(said) == sorted(schema.names)
    assert said["image"] == said["au_map"] == {"_type": "Image"}
    assert said["label"] == {"_type": "ClassLabel", "names": list(CLASSES)}
    assert said["landmarks"]["length"] == 68 and said["landmarks"]["feature"]["length"] == 2
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"


def test_rows_are_written_a_group_at_a_time(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", train=300, val=2, test=2, size=8, map_size=8, rows_per_shard=300)
    export_store(store, "parquet", tmp_path / "out")
    about = pq.read_metadata(tmp_path / "out" / "train-00000-of-00001.parquet")
    sizes = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    assert sizes == [ROWS_PER_GROUP, ROWS_PER_GROUP, 300 - 2 * ROWS_PER_GROUP]


@pytest.mark.parametrize("name", ["1.0", "1.2", "2.0"])
def test_a_store_of_an_earlier_format_lacks_columns(name: str, tmp_path: Path) -> None:
    store = open_store(FOLDER / f"store-{name}")
    report = export_store(store, "parquet", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / report.files[0])
    assert "landmarks" in table.column_names and not {"pose", "au_weight", "au_source"} & set(table.column_names)
    said = json.loads((tmp_path / "out" / CROISSANT_NAME).read_text())["recordSet"][0]["field"]
    assert [field["name"] for field in said] == table.column_names


def test_finished_files_are_kept_and_the_others_made(raw: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_store(raw, "parquet", out)
    before = snapshot(out)
    (out / "train-00001-of-00004.parquet").unlink()
    (out / ".train-00001-of-00004.parquet.999999999.tmp").write_bytes(b"half")
    kept = (out / "train-00000-of-00004.parquet").stat().st_mtime_ns
    export_store(raw, "parquet", out)
    assert snapshot(out) == before
    assert (out / "train-00000-of-00004.parquet").stat().st_mtime_ns == kept


def test_a_damaged_file_is_noticed(raw: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_store(raw, "parquet", out)
    (out / "train-00003-of-00004.parquet").write_bytes((out / "val-00000-of-00001.parquet").read_bytes())
    with pytest.raises(StoreError, match=r"train-00003-of-00004\.parquet\. Expected: 2 rows\. Got: 7"):
        export_store(raw, "parquet", out)
    (out / "train-00003-of-00004.parquet").write_bytes(b"no table")
    with pytest.raises(StoreError, match="not a Parquet file that can be read"):
        export_store(raw, "parquet", out)
    assert json.loads((out / RECORD_NAME).read_text())["complete"] is False


def test_our_own_manifest_reads_them(source: Store, tmp_path: Path) -> None:
    export_store(source, "parquet", tmp_path / "out")
    build_manifest("auto", tmp_path / "out", tmp_path / "again.csv")
    samples = read_manifest(tmp_path / "again.csv").samples
    assert {split: sum(one.split == split for one in samples) for split in ("train", "val", "test")} == {
        "train": 23, "val": 7, "test": 9,
    }  # fmt: skip
    labels = [CLASSES[label] for label in source.split("val").labels]
    assert [one.label for one in samples if one.split == "val"] == labels


def test_without_pyarrow_it_is_said_how_to_get_it(raw: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserInputError, match=r"needs the library pyarrow.*aupipe\[parquet\]"):
        export_store(raw, "parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_persons_are_read_back_from_tables(tmp_path: Path) -> None:
    def person(row: TripletRow) -> TripletRow:
        return dataclasses.replace(row, group="" if row.sample_id.endswith("3") else f"P{row.sample_id[-1]}")

    store = synthetic_store(tmp_path / "store", train=12, val=0, test=0, size=16, map_size=8, change=person)
    export_store(store, "parquet", tmp_path / "out")
    build_manifest("auto", tmp_path / "out", tmp_path / "M.csv", test_fraction=0)
    reader = store.split("train")
    expected = Counter("" if g == i else g for g, i in zip(reader.groups, reader.sample_ids, strict=True))
    assert Counter(sample.subject for sample in read_manifest(tmp_path / "M.csv").samples) == expected
    assert expected[""] and len(expected) > 3
