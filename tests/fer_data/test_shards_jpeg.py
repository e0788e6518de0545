"""Images as JPEG in the shard: what the pixels become, and that everything else stays as it is."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.files import digest, sha256_file
from aupipe.fer_data.shards import Store, StoreIndex, open_store, verify_store, write_shard
from aupipe.fer_data.shards.encoding import channel_sums, decode_jpeg, encode_jpeg, resolve_encoding
from aupipe.fer_data.shards.index import save_index
from aupipe.fer_data.shards.shard_file import open_shard, read_notes
from aupipe.fer_data.shards.writer import DrawnMaps, redraw_shard
from golden_stores import CLASSES, SIZE, golden_row, write_golden

NAME = "train-00000.h5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_golden(tmp_path / "store", encoding="jpeg")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jpeg") / "store"
    write_golden(folder, encoding="jpeg")
    return folder


def test_rows_are_jpeg_files_of_the_crops(folder: Path) -> None:
    reader = open_store(folder).split("train")
    assert reader.encoding == "jpeg" and len(reader) == 4
    images, maps = np.zeros((4, SIZE, SIZE, 3), np.uint8), np.zeros((4, 8, 8), np.uint8)
    rows = np.array([3, 0, 2, 0])
    reader.gather(rows, images, maps)
    for at, row in enumerate(rows):
        data = reader.jpeg_bytes(int(row))
        assert data.dtype == np.uint8 and bytes(data[:2]) == b"\xff\xd8"
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(images[at], decoded)
        np.testing.assert_array_equal(reader.image(int(row)), decoded)
        assert np.abs(decoded.astype(int) - golden_row(int(row)).image).max() <= 6
        np.testing.assert_array_equal(maps[at], golden_row(int(row)).au_map)
    with h5py.File(folder / NAME) as file:
        assert "image" not in file and file["image_jpeg"].attrs["quality"] == 95
        assert file["image_offset"][0] == 0 and file["image_offset"][-1] == len(file["image_jpeg"])


def test_quality_changes_the_files(folder: Path, tmp_path: Path) -> None:
    write_golden(tmp_path / "poor", encoding="jpeg", jpeg_quality=30)  # type: ignore[arg-type]
    good, poor = (open_store(path).split("train").jpeg_bytes(0) for path in (folder, tmp_path / "poor"))
    assert len(poor) < len(good)
    with h5py.File(tmp_path / "poor" / NAME) as file:
        assert file["image_jpeg"].attrs["quality"] == 30


def test_the_same_crops_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_golden(tmp_path / "again", encoding="jpeg")
    assert all((tmp_path / "again" / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


def test_rows_outside_are_refused(folder: Path) -> None:
    reader = open_store(folder).split("train")
    for row in (-1, 4):
        with pytest.raises(IndexError, match=f"row {row} of 4"):
            reader.jpeg_bytes(row)
        with pytest.raises(IndexError, match=f"row {row} of 4"):
            reader.gather(np.array([row]), np.zeros((1, SIZE, SIZE, 3), np.uint8), np.zeros((1, 8, 8), np.uint8))


def test_pixels_have_no_jpeg(tmp_path: Path) -> None:
    write_golden(tmp_path)
    with pytest.raises(StoreError, match="are pixels, not JPEG"):
        open_store(tmp_path).split("train").jpeg_bytes(0)


def test_a_used_reader_pickles_small(folder: Path) -> None:
    reader = open_store(folder).split("train")
    expected = reader.image(1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).image(1), expected)


@given(
    st.sampled_from(("index.json", NAME, "train-00001.h5", "val-00000.h5")), st.floats(0, 0.99999), st.integers(1, 255)
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_found(lasting: Path, name: str, where: float, flip: int) -> None:
    path = lasting / name
    data = path.read_bytes()
    damaged = bytearray(data)
    damaged[int(where * len(data))] ^= flip
    path.write_bytes(damaged)
    try:
        found = [finding.file for finding in verify_store(lasting, rows=True)]
    except StoreError as error:
        found = re.findall(r"index\.json", str(error))[:1]
    finally:
        path.write_bytes(data)
    assert found == [name]


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_changed_byte_of_an_image_names_its_sample(folder: Path, row: int) -> None:
    entry = open_store(folder).index.shards[0]
    with h5py.File(folder / NAME) as file:
        at = entry.offsets["image_jpeg"] + int(file["image_offset"][row]) + 20
    flip(folder / NAME, at)
    (finding,) = verify_store(folder, rows=True)
    assert finding.samples == (f"größe/{row}",) and finding.what == "1 rows do not match their checksum"


def flip(path: Path, at: int, by: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= by
    path.write_bytes(data)


def test_damaged_offsets_are_one_paragraph(folder: Path) -> None:
    entry = open_store(folder).index.shards[0]
    for at in (0, 8 + 7, 3 * 8 + 6):  # the start; the highest byte of the second; far beyond the end
        flip(folder / NAME, entry.offsets["image_offset"] + at, 0x80)
        with pytest.raises(StoreError, match=r"offsets of its images do not fit\. .*aupipe repair"):
            open_store(folder).split("train").image(0)
        assert [finding.file for finding in verify_store(folder, rows=True)] == [NAME]
        flip(folder / NAME, entry.offsets["image_offset"] + at, 0x80)


@pytest.mark.parametrize("data", [b"", b"no image", bytes(encode_jpeg(np.zeros((8, 8, 3), np.uint8), 90))])
def test_bytes_that_are_no_such_image_are_one_paragraph(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"cannot be decoded\. Where: s\.h5, row 3\. Expected: a JPEG of 16 x 16 pix"):
        decode_jpeg(np.frombuffer(data, np.uint8), np.zeros((16, 16, 3), np.uint8), "s.h5, row 3")


def test_channel_sums_are_exact() -> None:
    image = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    sums, squares = channel_sums(image)
    flat = image.reshape(-1, 3).astype(np.int64)
    assert sums.tolist() == flat.sum(0).tolist() and squares.tolist() == (flat**2).sum(0).tolist()
    white = np.full((4096, 4096, 3), 255, np.uint8)
    assert channel_sums(white)[1].tolist() == [255**2 * 4096**2] * 3


def test_auto_is_a_rule_about_memory() -> None:
    row = 256 * 256 * 3
    assert resolve_encoding("auto", 100, 256, memory=200 * row) == "raw"
    assert resolve_encoding("auto", 100, 256, memory=200 * row - 1) == "jpeg"
    assert resolve_encoding("raw", 10**9, 256, memory=1) == "raw"
    assert resolve_encoding("jpeg", 1, 256) == "jpeg"
    assert resolve_encoding("auto", 1, 16) == "raw" and resolve_encoding("auto", 10**12, 256) == "jpeg"
    with pytest.raises(UserInputError, match="raw, jpeg or auto"):
        resolve_encoding("png", 1, 16)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_redrawn_maps_leave_the_rest_as_it_is(tmp_path: Path, encoding: str) -> None:
    """The same bytes as a shard written with these maps, from the old file under another or the same name."""
    write_golden(tmp_path / "store", encoding=encoding)
    old = tmp_path / "store" / NAME
    from aupipe.fer_data.shards import ShardHeader

    header = ShardHeader("train", CLASSES, SIZE, 4, "other", "new", "1def", "{}", "{}", 16, encoding)
    rows = [dataclasses.replace(golden_row(n), au_map=np.full((4, 4), n + 1, np.uint8), has_map=True) for n in range(3)]
    fresh = write_shard(tmp_path / "fresh" / NAME, rows, 3, header)

    def draw(chosen: slice, points: np.ndarray, labels: np.ndarray) -> DrawnMaps:
        assert chosen == slice(0, 3)
        np.testing.assert_array_equal(points, [row.landmarks for row in rows])
        np.testing.assert_array_equal(labels, [row.label for row in rows])
        weights, source = np.array([row.au_weight for row in rows]), np.array([row.au_source for row in rows], np.uint8)
        return DrawnMaps(np.array([row.au_map for row in rows]), np.ones(3, np.uint8), weights, source)

    with open_shard(old) as shard:
        assert redraw_shard(shard, tmp_path / "new" / NAME, draw, header) == fresh
    assert (tmp_path / "new" / NAME).read_bytes() == (tmp_path / "fresh" / NAME).read_bytes()
    with open_shard(old) as shard:
        assert redraw_shard(shard, old, draw, header) == fresh
    assert old.read_bytes() == (tmp_path / "fresh" / NAME).read_bytes()


def test_notes_of_something_else_are_none(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"no")
    assert read_notes(tmp_path / "x.h5") is None and read_notes(tmp_path / "absent.h5") is None
    found = read_notes(folder / NAME)
    assert found is not None and (found.encoding, found.plan_digest) == ("jpeg", f"plan {NAME}")


def test_the_document_names_every_dataset_and_attribute(folder: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "shard-format.md").read_text()
    with h5py.File(folder / NAME) as file:
        names = {*file, *file.attrs, *file["image_jpeg"].attrs, *file["image_offset"].attrs} - {"DIMENSION_LIST"}
    assert {name for name in names if f"`{name}`" not in text} == set()


# --- stores that are no stores ---


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    save_index(tmp_path, StoreIndex(CLASSES, 16, 8, 16, 3, (), 0, {}, {}, {}, {}, "", {}, [0.0] * 3, [0.0] * 3))
    store = open_store(tmp_path)
    assert store.index.splits == () and verify_store(tmp_path) == []
    with pytest.raises(StoreError, match="one of none: the store is empty"):
        store.split("train")


def test_a_split_without_rows_says_what_there_is(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"no rows in the split 'test'\. Expected: one of train, val"):
        open_store(folder).split("test")


def test_an_index_without_its_shard_names_it(folder: Path) -> None:
    (folder / NAME).unlink()
    with pytest.raises(StoreError, match=r"train-00000\.h5 is missing .*aupipe repair"):
        open_store(folder).split("train").image(0)
    assert [(f.file, f.what) for f in verify_store(folder)] == [(NAME, "missing")]


def test_a_store_being_written_says_wait_or_continue(folder: Path) -> None:
    (folder / "index.json").unlink()
    (folder / ".train-00001.h5.77.tmp").write_bytes(b"half")
    for attempt in (open_store, verify_store):
        with pytest.raises(StoreError, match=r"it has no index\.json\. If .* is writing it, wait; if"):
            attempt(folder)


def test_shards_that_changed_names_are_noticed_by_the_reader(folder: Path) -> None:
    a, b = folder / "train-00001.h5", folder / "val-00000.h5"
    a.rename(folder / "x")
    b.rename(a)
    (folder / "x").rename(b)
    content = json.loads((folder / "index.json").read_text())
    for entry in content["shards"]:  # of the same size, as full shards are
        entry["bytes"] = (folder / entry["name"]).stat().st_size
    content.pop("digest")
    (folder / "index.json").write_text(json.dumps({**content, "digest": digest(content)}))
    with pytest.raises(StoreError, match="another lies under its name"):
        _ = open_store(folder).split("val").labels


def test_a_stranger_is_not_read_and_is_named(folder: Path) -> None:
    before = sha256_file(folder / NAME)
    (folder / "train-00002.h5").write_bytes((folder / NAME).read_bytes())
    store: Store = open_store(folder)
    assert len(store.split("train")) == 4 and sha256_file(folder / NAME) == before
    assert [(f.file, f.what) for f in verify_store(folder)] == [("train-00002.h5", "not part of the store")]
