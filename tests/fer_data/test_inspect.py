from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands.cli import cli
from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.images import decode_image, read_image
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.contact_sheet import save_sheet
from aupipe.fer_data.shards.inspect import inspect_path
from aupipe.fer_data.shards.notebook import split_html, store_html
from aupipe.fer_data.shards.thumbnails import example, overlay, random_rows
from jpeg_store import jpeg_copy
from synthetic import CLASSES, synthetic_store


@pytest.fixture
def own(tmp_path: Path) -> Store:
    """Two training shards and some rows that were left out."""
    store = synthetic_store(tmp_path / "own", train=16, val=3, test=2, size=32, rows_per_shard=10)
    config = {"crop": {"eye_distance": 0.3}, "image_size": 32}
    changes = {"total": 24, "failed": {"no_face": 2, "unreadable": 1}, "config": config}
    from aupipe.fer_data.shards.index import save_index

    index = dataclasses.replace(store.index, **changes)
    save_index(store.folder, index)
    return Store(store.folder, index)


# --- text ---


def everything(store: Store) -> str:
    inspection = inspect_path(store.folder)
    return "\n".join([*inspection.lines, *inspection.more])


def test_counts_come_first_and_provenance_when_asked_for(own: Store) -> None:
    text = "\n".join(inspect_path(own.folder).lines)
    assert text.index("samples ") < text.index("anger") < text.index("left out") < text.index("WARN")
    assert own.index.digest not in text and "provenance" not in text
    for options, shown in (((), False), (("--all",), True)):
        output = CliRunner().invoke(cli, ["inspect", str(own.folder), *options]).output
        assert [name in output for name in (own.index.digest, "configuration", "datasets")] == [shown] * 3


def test_splits_that_are_too_small_are_warned_of(tmp_path: Path) -> None:
    small = synthetic_store(tmp_path / "small", train=1, val=1, test=1, size=16, map_size=8)
    text = "\n".join(inspect_path(small.folder).lines)
    assert "WARN: train has 1 face: too few to learn from" in text
    assert "WARN: test has 1 face: an accuracy measured on them has a standard error of up to 50 points" in text
    none = synthetic_store(tmp_path / "none", train=120, val=110, test=0, size=16, map_size=8)
    warned = [line for line in inspect_path(none.folder).lines if "WARN" in line]
    assert warned == ["  WARN: there is no test split"]


def test_the_text_says_what_is_there(own: Store) -> None:
    text = everything(own)
    for expected in (own.index.digest, own.index.codebook_digest, "21 of 24, 19 with a map", "32 x 32 RGB, raw"):
        assert expected in text
    assert re.search(r"no_face +2\n +unreadable +1\n", text)
    assert re.search(r"crop\.eye_distance +0\.3\n", text)
    assert re.search(r"├─ train-00000\.h5 +10 rows .* sha256 \w{16}\n", text)
    assert re.search(r"├─ image +21 x 32 x 32 x 3 +uint8 +64\.5 kB  aligned face crop, RGB\n", text)
    assert re.search(r"└─ to_source +21 x 2 x 3 +float64", text)


def test_the_histogram_s_bars_are_relative_to_the_largest_class(own: Store) -> None:
    text = "\n".join(inspect_path(own.folder).lines)
    assert re.search(r"class +train +val +test\n", text)
    assert re.search(r"anger +3 █{12} +1 █{12} +1 █{12}\n", text)  # 16 rows over 7 classes: 3, 3, 2, 2, ...
    assert re.search(r"fear +2 █{8} +1 █{12} +0\n", text)
    assert re.search(r"all +16 +3 +2\n", text)


def test_a_store_without_failures_says_none(store: Store) -> None:
    assert re.search(r"left out\n +none\n", "\n".join(inspect_path(store.folder).lines))


def test_json_holds_the_index_and_the_datasets(own: Store) -> None:
    content = json.loads(json.dumps(inspect_path(own.folder).content))
    assert content["digest"] == own.index.digest and content["total"] == 24 and content["encoding"] == "raw"
    assert content["datasets"]["landmarks"]["shape"] == [21, 68, 2]
    stored = 0
    for entry in own.index.shards:
        with h5py.File(own.folder / entry.name) as file:
            stored += file["image"].nbytes
    assert content["datasets"]["image"]["bytes"] == stored
    assert set(content["states"].values()) == {"present"}


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_store_is_described_without_opening_a_shard(
    own: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """The index says what HDF5 would: a store of thousands of shards is described at once."""
    folder = own.folder if encoding == "raw" else jpeg_copy(own, tmp_path / "packed").folder
    opened = dict[str, tuple[list[Any], Any, str]]()
    for path in sorted(folder.glob("*.h5")):
        for name, about in inspect_path(path).content["datasets"].items():
            shape, size, _ = opened.get(name, ([0], 0, ""))
            shape = [shape[0] + about["shape"][0], *about["shape"][1:]]
            opened[name] = shape, size + about["bytes"], about["dtype"]
    monkeypatch.setattr("h5py.File", None)
    found = inspect_path(folder).content["datasets"]
    if encoding == "jpeg":
        opened["image_jpeg"] = [None], None, "uint8"  # the one length that the index does not say
    assert {name: (about["shape"], about["bytes"], about["dtype"]) for name, about in found.items()} == opened
    assert list(found) == sorted(found)


def test_a_damaged_store_is_described_and_says_so(own: Store) -> None:
    (own.folder / "val-00000.h5").unlink()
    (own.folder / "test-00000.h5").write_bytes(b"short")
    inspection, text = inspect_path(own.folder), everything(own)
    assert "WARN: val-00000.h5 is missing" in "\n".join(inspection.lines)
    assert re.search(r"val-00000\.h5.*MISSING\n", text) and re.search(r"test-00000\.h5.*DAMAGED: 5 BYTES", text)
    assert inspection.content["datasets"]["image"]["shape"][0] == 16
    for entry in own.index.shards:
        (own.folder / entry.name).unlink(missing_ok=True)
    assert inspect_path(own.folder).content["datasets"] == {}


def test_a_shard_shows_attributes_and_datasets(own: Store) -> None:
    inspection = inspect_path(own.folder / "train-00001.h5")
    text = "\n".join(inspection.lines)
    assert text.startswith("shard train-00001.h5") and re.search(r"plan_digest +plan\n", text)
    assert re.search(r"image +6 x 32 x 32 x 3", text) and inspection.content["attributes"]["split"] == "train"


def test_what_is_no_shard_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"nothing")
    with pytest.raises(StoreError, match=r"x\.h5 is not a shard that can be read"):
        inspect_path(tmp_path / "x.h5")


def test_jpeg_stores_are_described(own: Store, tmp_path: Path) -> None:
    packed = jpeg_copy(own, tmp_path / "packed")
    inspection = inspect_path(packed.folder)
    assert "32 x 32 RGB, jpeg" in "\n".join(inspection.lines)
    assert inspection.content["datasets"]["image_jpeg"]["bytes"] is None


# --- pictures ---


def test_the_overlay_colours_where_the_map_is() -> None:
    image = np.full((40, 40, 3), (10, 100, 190), np.uint8)
    au_map = np.zeros((10, 10), np.float32)
    np.testing.assert_array_equal(overlay(image, au_map), np.full((40, 40, 3), 100))
    au_map[2, 7] = 1  # its centre is at 30 - 0.5, 10 - 0.5 of the image
    drawn = overlay(image, au_map).astype(int)
    coloured = np.argwhere(np.ptp(drawn, axis=2) > 0)
    np.testing.assert_allclose(coloured.mean(0), [9.5, 29.5], atol=0.01)
    assert drawn[9, 29, 0] > drawn[9, 29, 2]


def test_points_keep_their_place_in_the_picture(own: Store) -> None:
    reader = own.split("train")
    shown = example(reader, 3, 64)
    assert (shown.sample_id, shown.label, shown.has_map) == ("train/0003", 3, True)
    np.testing.assert_allclose((shown.points + 0.5) / 2 - 0.5, reader.landmarks[3], atol=1e-5)
    np.testing.assert_array_equal(example(reader, 3, 32).crop, reader.image(3))


def test_a_row_without_a_map_is_only_grey(own: Store) -> None:
    shown = example(own.split("train"), 6, 32)
    assert not shown.has_map and np.ptp(shown.overlay, axis=2).max() == 0


def test_random_rows_are_of_each_class_and_repeatable(store: Store) -> None:
    reader = store.split("train")
    rows = random_rows(reader, 3, 5)
    assert list(rows) == list(range(7)) and all(len(set(picked)) == 3 for picked in rows.values())
    assert all((reader.labels[picked] == label).all() for label, picked in rows.items())
    assert random_rows(reader, 3, 5) == rows != random_rows(reader, 3, 6)
    assert sum(map(len, random_rows(reader, 100, 0).values())) == len(reader)


def holds(sheet: np.ndarray, tile: np.ndarray) -> bool:
    """Whether a picture stands somewhere in the sheet, pixel for pixel."""
    height, width = tile.shape[:2]
    corners = np.argwhere((sheet[: 1 - height, : 1 - width] == tile[0, 0]).all(2))
    return any(np.array_equal(sheet[y : y + height, x : x + width], tile) for y, x in corners)


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "jpeg"])
def test_the_sheet_shows_the_rows(own: Store, tmp_path: Path, packed: bool) -> None:
    source = jpeg_copy(own, tmp_path / "packed") if packed else own
    save_sheet(source.folder, tmp_path / "a.png", per_class=1, seed=2)
    sheet, reader = read_image(tmp_path / "a.png"), source.split("train")
    chosen = {row for rows in random_rows(reader, 1, 2).values() for row in rows}
    assert {row for row in range(16) if holds(sheet, example(reader, row, 160).crop)} == chosen
    assert holds(sheet, example(reader, max(chosen), 160).crop)
    assert not list(tmp_path.glob(".*.tmp"))


def test_the_sheet_is_repeatable_and_follows_seed_and_split(own: Store, tmp_path: Path) -> None:
    options = {"a": {}, "same": {}, "seed": {"seed": 1}, "val": {"split": "val"}}
    for name, values in options.items():
        save_sheet(own.folder, tmp_path / f"{name}.png", per_class=1, **values)  # type: ignore[arg-type]
    files = {name: (tmp_path / f"{name}.png").read_bytes() for name in options}
    assert files["a"] == files["same"] and len(set(files.values())) == 3
    assert holds(read_image(tmp_path / "val.png"), example(own.split("val"), 0, 160).crop)


def test_the_sheet_of_a_shard_names_the_store(own: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = []
    monkeypatch.setattr(
        "aupipe.fer_data.shards.contact_sheet._draw", lambda out, title, note, *rest: notes.append(note)
    )
    save_sheet(own.folder / "train-00001.h5", tmp_path / "a.png", per_class=1)
    assert notes[0].endswith(f"store {own.index.digest[:16]}")


def test_points_are_drawn_on_the_overlay_only_and_never_outside(
    own: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_sheet(own.folder, tmp_path / "with.png", split="val", per_class=1)
    monkeypatch.setattr("aupipe.fer_data.shards.contact_sheet._points", lambda axes, points: None)
    save_sheet(own.folder, tmp_path / "without.png", split="val", per_class=1)
    bare = read_image(tmp_path / "without.png")
    changed = np.argwhere((read_image(tmp_path / "with.png") != bare).any(2))
    tile = example(own.split("val"), 0, 160).overlay
    _, _, place, _ = cv2.minMaxLoc(cv2.matchTemplate(bare, tile, cv2.TM_SQDIFF))
    left, top = place
    own_tile = changed[changed[:, 0] < top + 180]
    assert len(own_tile) > 200
    assert own_tile[:, 1].min() >= left - 2 and own_tile[:, 1].max() < left + 162
    assert own_tile[:, 0].min() >= top - 2 and own_tile[:, 0].max() < top + 162


def test_one_shard_can_be_drawn(own: Store, tmp_path: Path) -> None:
    save_sheet(own.folder / "train-00001.h5", tmp_path / "a.png", per_class=9)
    sheet, reader = read_image(tmp_path / "a.png"), own.split("train")
    assert [row for row in range(16) if holds(sheet, example(reader, row, 160).crop)] == [10, 11, 12, 13, 14, 15]
    with pytest.raises(UserInputError, match=r"no rows of another split\. Expected: train"):
        save_sheet(own.folder / "train-00001.h5", tmp_path / "b.png", split="val")
    (own.folder / "other.h5").write_bytes((own.folder / "train-00001.h5").read_bytes())
    with pytest.raises(StoreError, match=r"other\.h5 is not a shard of the store around it"):
        save_sheet(own.folder / "other.h5", tmp_path / "b.png")


# --- notebooks ---


def pictures(html: str) -> list[np.ndarray]:
    return [decode_image(base64.b64decode(data)) for data in re.findall(r"data:image/png;base64,([^']+)'", html)]


def test_a_store_shows_itself_as_a_table(own: Store) -> None:
    html = store_html(own)
    assert "21 of 24 samples, 3 left out" in html and own.index.digest[:16] in html
    assert ">train 16<" in html and ">val 3<" in html and ">test 2<" in html
    assert all(f">{name}</td>" in html for name in CLASSES)
    assert len(pictures(html)) == 7 and all(picture.shape == (72, 146, 3) for picture in pictures(html))
    row = random_rows(own.split("train"), 1, 0)[3][0]
    np.testing.assert_array_equal(pictures(html)[3][:, :72], example(own.split("train"), row, 72).crop)


def test_a_split_shows_its_own_counts(own: Store) -> None:
    html = split_html(own.split("val"))
    assert "3 samples" in html and ">val 3<" in html and "train" not in html
    assert len(pictures(html)) == 3


def test_the_bars_follow_the_counts(own: Store) -> None:
    widths = re.findall(r"width:(\d+)px[^>]*></span>(\d+)<", split_html(own.split("train")))
    assert {(int(width), int(count)) for width, count in widths} == {(110, 3), (73, 2)}


def test_a_damaged_store_still_shows_its_counts(own: Store) -> None:
    (own.folder / "train-00000.h5").unlink()
    html = store_html(own)
    assert "No examples: The shard train-00000.h5 is missing" in html and ">train 16<" in html
    assert not pictures(html)


def test_names_are_text_not_markup(own: Store) -> None:
    classes = ("<script>x</script>", *CLASSES[1:])
    html = store_html(Store(own.folder, dataclasses.replace(own.index, classes=classes)))
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_the_objects_use_it(own: Store) -> None:
    assert own._repr_html_() == store_html(own)
    assert own.split("val")._repr_html_() == split_html(own.split("val"))
