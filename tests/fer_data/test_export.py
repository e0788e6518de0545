from __future__ import annotations

import csv
import dataclasses
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import aupipe.fer_data.shards.export
from aupipe.fer_data.errors import FolderInUseError, StoreError, UserInputError
from aupipe.fer_data.images import decode_image
from aupipe.fer_data.manifest import build_manifest, read_manifest
from aupipe.fer_data.shards import Store, TripletRow, open_store, write_shard
from aupipe.fer_data.shards.export import RECORD_NAME, export_store
from aupipe.fer_data.shards.index import save_index
from aupipe.fer_data.shards.spec import ShardHeader
from jpeg_store import jpeg_copy
from offline import snapshot
from synthetic import CLASSES, synthetic_rows, synthetic_store


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four training shards, the last one short."""
    return synthetic_store(tmp_path_factory.mktemp("raw"), train=23, val=7, test=9, size=48, rows_per_shard=7)


@pytest.fixture(scope="module")
def jpeg(raw: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return jpeg_copy(raw, tmp_path_factory.mktemp("jpeg"))


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def source(request: pytest.FixtureRequest, raw: Store, jpeg: Store) -> Store:
    store = {"raw": raw, "jpeg": jpeg}[request.param]
    assert store.index.encoding == request.param
    return store


def renamed(store: Store, folder: Path, ids: list[str]) -> Store:
    """A store of as many training rows as there are ``ids``, all of one class."""
    rows = synthetic_rows("train", 1, 16, 8, 0) * len(ids)
    rows = [dataclasses.replace(row, sample_id=name) for row, name in zip(rows, ids, strict=True)]
    header = ShardHeader("train", CLASSES, 16, 8, "plan", "default", store.index.codebook_digest, "{}", "{}", 400)
    entry = write_shard(folder / "train-00000.h5", rows, len(ids), header)
    changes = {"image_size": 16, "map_size": 8, "id_bytes": 400, "shards": (entry,), "total": len(ids)}
    save_index(folder, dataclasses.replace(store.index, **changes))
    return open_store(folder)


# --- webdataset ---


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert len(found) == len(tar.getnames())
    return found


def test_every_row_is_in_a_tar(source: Store, tmp_path: Path) -> None:
    report = export_store(source, "webdataset", tmp_path / "out")
    assert report.rows == {"train": 23, "val": 7, "test": 9}
    assert report.files == tuple(
        f"{split}-{number:06d}.tar"
        for split, count in (("train", 4), ("val", 1), ("test", 2))
        for number in range(count)
    )
    suffix = {"raw": "png", "jpeg": "jpg"}[source.index.encoding]
    for split in source.index.splits:
        reader = source.split(split)
        found: dict[str, bytes] = {}
        for name in report.files:
            found |= members(tmp_path / "out" / name) if name.startswith(split) else {}
        assert len(found) == 5 * len(reader)
        for row in range(len(reader)):
            key = f"{split}-{row:08d}"
            np.testing.assert_array_equal(decode_image(found[f"{key}.{suffix}"]), reader.image(row))
            if suffix == "jpg":
                assert found[f"{key}.jpg"] == bytes(reader.jpeg_bytes(row))
            au_map = cv2.imdecode(np.frombuffer(found[f"{key}.au_map.png"], np.uint8), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(au_map, np.rint(reader.au_map(row) * 255))
            points = np.load(io.BytesIO(found[f"{key}.landmarks.npy"]))
            np.testing.assert_array_equal(points, reader.landmarks[row])
            assert int(found[f"{key}.cls"]) == reader.labels[row]
            assert json.loads(found[f"{key}.json"]) == {
                "sample_id": reader.sample_ids[row], "subject": "", "split": split, "label": int(reader.labels[row]),
                "class": CLASSES[reader.labels[row]], "has_map": bool(reader.has_map[row]),
                "to_source": reader.to_source[row].tolist(),
            }  # fmt: skip


def test_tars_name_no_time_and_no_owner(raw: Store, tmp_path: Path) -> None:
    export_store(raw, "webdataset", tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "val-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the package leaves its files open
def test_the_webdataset_package_reads_them(source: Store, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="the package webdataset is not installed")
    export_store(source, "webdataset", tmp_path / "out")
    reader = source.split("train")
    pattern = str(tmp_path / "out" / "train-{000000..000003}.tar")
    samples = webdataset.WebDataset(pattern, shardshuffle=False).decode("rgb8")
    seen = 0
    for row, (image, label, au_map, points, about) in enumerate(
        samples.to_tuple("png;jpg", "cls", "au_map.png", "landmarks.npy", "json")
    ):
        assert image.shape == (48, 48, 3) and label == reader.labels[row]
        if source.index.encoding == "raw":
            np.testing.assert_array_equal(image, reader.image(row))
        np.testing.assert_array_equal(np.asarray(au_map)[..., 0], np.rint(reader.au_map(row) * 255))
        np.testing.assert_array_equal(points, reader.landmarks[row])
        assert about["sample_id"] == reader.sample_ids[row]
        seen += 1
    assert seen == 23


def test_finished_tars_are_kept_and_the_others_made(raw: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_store(raw, "webdataset", out)
    before = snapshot(out)
    (out / "train-000001.tar").unlink()
    (out / ".train-000001.tar.999999999.tmp").write_bytes(b"half")
    kept = (out / "train-000000.tar").stat().st_mtime_ns
    export_store(raw, "webdataset", out)
    assert snapshot(out) == before
    assert (out / "train-000000.tar").stat().st_mtime_ns == kept


def test_a_tar_with_too_few_rows_is_noticed(raw: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_store(raw, "webdataset", out)
    (out / "train-000003.tar").write_bytes((out / "val-000000.tar").read_bytes())
    with pytest.raises(StoreError, match=r"train-000003\.tar\. Expected: 2 rows\. Got: 7"):
        export_store(raw, "webdataset", out)
    assert json.loads((out / RECORD_NAME).read_text())["complete"] is False
    (out / "train-000003.tar").write_bytes(b"no tar")
    with pytest.raises(StoreError, match="not a tar file that can be read"):
        export_store(raw, "webdataset", out)


# --- folder ---


def table(out: Path) -> list[dict[str, str]]:
    with (out / "landmarks.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_is_in_the_folder(source: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = export_store(source, "folder", out)
    assert report.rows == {"train": 23, "val": 7, "test": 9}
    lines = iter(table(out))
    for split in source.index.splits:
        reader = source.split(split)
        for row in range(len(reader)):
            line = next(lines)
            label = CLASSES[reader.labels[row]]
            suffix = {"raw": "png", "jpeg": "jpg"}[reader.encoding]
            assert (line["sample_id"], line["split"], line["class"]) == (reader.sample_ids[row], split, label)
            assert line["image"].startswith(f"images/{split}/{label}/") and line["image"].endswith(suffix)
            np.testing.assert_array_equal(decode_image((out / line["image"]).read_bytes()), reader.image(row))
            assert bool(line["map"]) == bool(reader.has_map[row])
            if line["map"]:
                au_map = cv2.imread(str(out / line["map"]), cv2.IMREAD_UNCHANGED)
                np.testing.assert_array_equal(au_map, np.rint(reader.au_map(row) * 255))
            points = [[float(line[f"{axis}{point}"]) for axis in "xy"] for point in range(68)]
            np.testing.assert_allclose(points, reader.landmarks[row], atol=6e-4)
    assert next(lines, None) is None
    assert sum(path.is_file() for path in (out / "images").rglob("*")) == 39
    assert sum(path.is_file() for path in (out / "maps").rglob("*")) == sum(e.with_map for e in source.index.shards)


def test_the_folder_is_read_back_with_labels_and_splits(source: Store, tmp_path: Path) -> None:
    export_store(source, "folder", tmp_path / "out")
    build_manifest("folder", tmp_path / "out" / "images", tmp_path / "again.csv")
    samples = read_manifest(tmp_path / "again.csv").samples
    expected = Counter(
        {(split, name): int(count)
         for split in source.index.splits
         for name, count in zip(CLASSES, np.bincount(source.split(split).labels, minlength=7), strict=True)}
    )  # fmt: skip
    assert Counter((sample.split, sample.label) for sample in samples) == expected


def test_persons_are_read_back(tmp_path: Path) -> None:
    def person(row: TripletRow) -> TripletRow:
        return dataclasses.replace(row, group="" if row.sample_id.endswith("3") else f"P{row.sample_id[-1]}")

    store = synthetic_store(tmp_path / "store", train=12, val=0, test=0, size=16, map_size=8, change=person)
    export_store(store, "folder", tmp_path / "out")
    (tmp_path / "out" / ".DS_Store").touch()
    (tmp_path / "out" / "images" / "train" / CLASSES[0] / ".DS_Store").touch()
    export_store(store, "folder", tmp_path / "out")  # a system's files are no images
    build_manifest("csv", tmp_path / "out" / "landmarks.csv", tmp_path / "M.csv")
    reader = store.split("train")
    expected = Counter("" if g == i else g for g, i in zip(reader.groups, reader.sample_ids, strict=True))
    assert Counter(sample.subject for sample in read_manifest(tmp_path / "M.csv").samples) == expected
    assert expected[""] and len(expected) > 3


def test_ids_become_file_names_that_stay_apart(raw: Store, tmp_path: Path) -> None:
    ids = [
        "train/anger/a",
        "a",
        "A",
        "../../up",
        "größe/1 2",
        "größe_1_2",
        "x" * 200,
        "x" * 199 + "y",
        ".hidden",
        "/",
        "...",
    ]
    store = renamed(raw, tmp_path / "store", ids)
    export_store(store, "folder", tmp_path / "out")
    lines = table(tmp_path / "out")
    assert [line["sample_id"] for line in lines] == ids
    names = [Path(line["image"]).name for line in lines]
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(Path(line["image"]).parent == Path("images/train/anger") for line in lines)
    assert names[0] == "a.png" and names[4] == "größe_1_2.png" and not any(name.startswith(".") for name in names)
    assert max(len(name.encode()) for name in names) < 200
    assert {path.name for path in tmp_path.iterdir()} == {"store", "out"}
    build_manifest("folder", tmp_path / "out" / "images", tmp_path / "again.csv")


def test_classes_that_leave_the_folder_are_refused(raw: Store, tmp_path: Path) -> None:
    store = Store(raw.folder, dataclasses.replace(raw.index, classes=("../../out", *CLASSES[1:])))
    with pytest.raises(StoreError, match="cannot be the name of a folder"):
        export_store(store, "folder", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*.png"))


def test_an_interrupted_folder_is_continued(source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_store(source, "folder", tmp_path / "whole")
    out, put, left = tmp_path / "out", aupipe.fer_data.shards.export._put, iter(range(20))

    def stopping(path: Path, make: Callable[[], bytes]) -> None:
        if next(left, None) is None:
            path.write_bytes(make()[:-3])
            raise KeyboardInterrupt
        put(path, make)

    monkeypatch.setattr(aupipe.fer_data.shards.export, "_put", stopping)
    with pytest.raises(KeyboardInterrupt):
        export_store(source, "folder", out)
    assert json.loads((out / RECORD_NAME).read_text())["complete"] is False
    assert not (out / "landmarks.csv").exists()
    monkeypatch.undo()
    (out / f".{RECORD_NAME}.999999999.tmp").write_text("{")  # as if the power had failed early in between
    first = min((out / "images").rglob("*.png"), default=None, key=lambda path: path.stat().st_mtime_ns)
    written = first.stat().st_mtime_ns if first is not None else 0
    export_store(source, "folder", out)
    assert snapshot(out) == snapshot(tmp_path / "whole")
    assert first is None or first.stat().st_mtime_ns == written
    assert (first is None) == (source.index.encoding == "jpeg")


def test_an_export_stopped_before_its_first_file_is_continued(raw: Store, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".{RECORD_NAME}.999999999.tmp").write_text("{")
    export_store(raw, "webdataset", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_an_image_that_is_not_of_the_store_is_noticed(raw: Store, tmp_path: Path) -> None:
    export_store(raw, "folder", tmp_path / "out")
    (tmp_path / "out" / "images" / "val" / "anger" / "stray.png").write_bytes(b"")
    with pytest.raises(StoreError, match=r"images/val\. Expected: 7 rows\. Got: 8"):
        export_store(raw, "folder", tmp_path / "out")


# --- both ---


@pytest.mark.parametrize("form", ["webdataset", "folder", "parquet"])
def test_the_same_store_gives_the_same_bytes(source: Store, tmp_path: Path, form: str) -> None:
    for name in ("a", "b"):
        export_store(source, form, tmp_path / name)
    first = snapshot(tmp_path / "a")
    assert first == snapshot(tmp_path / "b")
    assert json.loads(first[RECORD_NAME])["store"] == source.index.digest
    assert not [name for name in first if name.endswith(".tmp")]
    assert not any(str(tmp_path).encode() in content for content in first.values())


@pytest.mark.parametrize("form", ["webdataset", "folder", "parquet"])
def test_other_content_is_refused_and_untouched(raw: Store, jpeg: Store, tmp_path: Path, form: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FolderInUseError, match=r"not empty.*Got: mine\.txt"):
        export_store(raw, form, tmp_path / "full")
    assert set(snapshot(tmp_path / "full")) == {"mine.txt"}
    export_store(jpeg, form, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    for store, other in ((raw, form), (jpeg, "folder" if form == "webdataset" else "webdataset")):
        with pytest.raises(FolderInUseError, match="not this export"):
            export_store(store, other, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_an_unknown_form_lists_those_that_exist(raw: Store, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"folder, parquet, webdataset.*Did you mean 'webdataset'"):
        export_store(raw, "webdatset", tmp_path / "out")
    assert not (tmp_path / "out").exists()
