"""Rows whose bytes changed after they were written: named when they are first used, in any way of reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.manifest.layouts.arrays import load_array
from aupipe.fer_data.shards import SplitReader, Store, open_store, rows, shard_rows
from aupipe.fer_display.tables import csv_records
from jpeg_store import jpeg_copy
from synthetic import synthetic_store

READS: dict[str, Callable[[SplitReader, int], object]] = {
    "image": lambda reader, row: reader.image(row),
    "au_map": lambda reader, row: reader.au_map(row),
    "gather": lambda reader, row: reader.gather(np.array([row]), np.empty((1, 16, 16, 3), np.uint8), None),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    folder = tmp_path_factory.mktemp("damaged")
    raw = synthetic_store(folder / "raw", train=5, val=2, test=2, size=16, map_size=8, rows_per_shard=3)
    return {"raw": raw, "jpeg": jpeg_copy(raw, folder / "jpeg")}


@pytest.fixture(params=["raw", "jpeg"])
def damaged(request: pytest.FixtureRequest, stores: dict[str, Store], tmp_path: Path) -> SplitReader:
    """Training rows of which row 1 has another pixel (or byte of its JPEG), in a file of the same length."""
    store = stores[request.param]
    for path in store.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    entry = store.index.shards[0]
    start = entry.offsets["image"] + 768 if request.param == "raw" else entry.offsets["image_jpeg"]
    if request.param == "jpeg":
        start += int(np.frombuffer((tmp_path / entry.name).read_bytes(), "<u8", 2, entry.offsets["image_offset"])[1])
    data = bytearray((tmp_path / entry.name).read_bytes())
    data[start + 40] ^= 1
    (tmp_path / entry.name).write_bytes(data)
    return open_store(tmp_path).split("train")


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("read", READS)
def test_a_changed_row_is_named(damaged: SplitReader, read: str, mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAPPED_SHARE", 0.5 if mapped else 0.0)
    for row in (0, 2, 3, 4):
        READS[read](damaged, row)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"train-00000\.h5 is damaged: rows do not match.*Got: row 1\."):
            READS[read](damaged, 1)


def test_a_row_is_compared_once(stores: dict[str, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    compared = list[int]()
    found = shard_rows.rows_crc32

    def counted(images: object, tail: list[np.ndarray]) -> object:
        compared.append(len(tail[0]))
        return found(images, tail)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_rows, "rows_crc32", counted)
    reader = open_store(stores["raw"].folder).split("train")
    for _ in range(3):
        reader.gather(np.arange(5), np.empty((5, 16, 16, 3), np.uint8), None)
    assert sum(compared) == 5


@pytest.mark.parametrize("header", [b"{'descr': '<f4', " + b"(" * 60, b"(" * 3000, b"{}", b"\x00\xff", b"1e999"])
def test_an_array_with_an_odd_header_is_one_kind_of_error(header: bytes, tmp_path: Path) -> None:
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80)
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(ValueError):
        load_array(tmp_path / "x.npy")


@pytest.mark.parametrize("text", ["a,b\n1,\r2\n", "a\n" + "x" * 200_000])
def test_a_table_that_is_none_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError):
        csv_records([text] if "\r" in text else text.splitlines())
